//! What the exception vectors save: the general registers and where the domain was.
//!
//! The assembly in `el2` uses the offsets below; `size_of` is a multiple of 16 so that a frame can live on a stack.

use crate::pstate;

/// Byte offset of `x0`; `xN` is at `8 * N`.
pub const X: usize = 0;
/// Byte offset of `ELR_EL2`.
pub const ELR: usize = 248;
/// Byte offset of `SPSR_EL2`.
pub const SPSR: usize = 256;
/// Bytes of a frame.
pub const SIZE: usize = 272;

/// Number by which an instruction names the zero register.
pub const XZR: u8 = 31;

/// The registers at an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Frame {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// `ELR_EL2`: where the domain goes on.
    pub elr: u64,
    /// `SPSR_EL2`: its PSTATE.
    pub spsr: u64,
}

impl Frame {
    /// A domain that enters at `entry` at EL1 with everything masked, `x0 = argument` and the rest 0.
    pub const fn reset(entry: u64, argument: u64) -> Frame {
        let mut x = [0; 31];
        x[0] = argument;
        Frame { x, elr: entry, spsr: pstate::RESET }
    }

    /// The value of `xN`; 0 for [`XZR`] and any number beyond.
    pub fn read(&self, register: u8) -> u64 {
        self.x.get(usize::from(register)).copied().unwrap_or(0)
    }

    /// Sets `xN`; nothing for [`XZR`] and any number beyond.
    pub fn write(&mut self, register: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(register)) {
            *x = value;
        }
    }

    /// Steps over an instruction of `bytes` (2 or 4) that EL2 has done in the domain's stead, as the hardware would have left PSTATE:
    /// `BTYPE` and `SS` cleared, for AArch32 the IT block moved on (Arm DDI 0487, `AArch32.ITAdvance`).
    pub fn advance(&mut self, bytes: u64) {
        self.elr = self.elr.wrapping_add(bytes);
        self.spsr &= !pstate::SS;
        if pstate::is_aarch32(self.spsr) {
            self.advance_it();
        } else {
            self.spsr &= !pstate::BTYPE;
        }
    }

    fn advance_it(&mut self) {
        let it = (self.spsr & pstate::IT_HIGH) >> 10 << 2 | (self.spsr & pstate::IT_LOW) >> 25;
        let next = if it & 0b111 == 0 { 0 } else { it & 0b1110_0000 | it << 1 & 0b1_1111 };
        self.spsr &= !(pstate::IT_HIGH | pstate::IT_LOW);
        self.spsr |= next >> 2 << 10 | (next & 0b11) << 25;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn offsets_are_those_of_the_vectors() {
        assert_eq!(offset_of!(Frame, x), X);
        assert_eq!(offset_of!(Frame, elr), ELR);
        assert_eq!(offset_of!(Frame, spsr), SPSR);
        assert_eq!(size_of::<Frame>(), SIZE);
    }

    #[test]
    fn the_zero_register_reads_zero_and_forgets() {
        let mut frame = Frame { x: [7; 31], ..Frame::default() };
        let before = frame;
        frame.write(XZR, 1);
        frame.write(255, 1);
        assert_eq!(frame, before);
        assert_eq!((frame.read(XZR), frame.read(30)), (0, 7));
    }

    #[test]
    fn a_domain_starts_masked_at_el1() {
        let frame = Frame::reset(0x4008_0000, 0x4400_0000);
        assert_eq!((frame.elr, frame.x[0], frame.spsr), (0x4008_0000, 0x4400_0000, 0x3c5));
    }

    #[test]
    fn stepping_over_clears_branch_type_and_step() {
        let mut frame = Frame { elr: 0x1000, spsr: pstate::EL1H | pstate::BTYPE | pstate::SS, ..Frame::default() };
        frame.advance(4);
        assert_eq!((frame.elr, frame.spsr), (0x1004, pstate::EL1H));
    }

    #[test]
    fn stepping_over_in_an_it_block_moves_it_on() {
        // A block of four: the lowest bit set moves up by one with each instruction, and after the fourth IT is empty.
        let encode = |it: u64| pstate::NRW | pstate::T32 | it >> 2 << 10 | (it & 0b11) << 25;
        let mut frame = Frame { spsr: encode(0b0000_0001), ..Frame::default() };
        for it in [0b0000_0010, 0b0000_0100, 0b0000_1000, 0] {
            frame.advance(2);
            assert_eq!(frame.spsr, encode(it));
        }
        assert_eq!(frame.elr, 8);
    }
}
