//! One load or store that EL2 does for a domain: which register, how wide, how extended (Arm DDI 0487, `ISS` of a data abort, `ISV = 1`).

use crate::Frame;

/// What an instruction wanted of a device register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The general register, 0 to 30, or 31 for `xzr` (`SRT`).
    pub register: u8,
    /// Bytes: 1, 2, 4 or 8 (`SAS`).
    pub size_bytes: u8,
    /// A load extends the sign of what it read (`SSE`).
    pub sign_extend: bool,
    /// The register is `xN`, not `wN` (`SF`).
    pub sixty_four: bool,
    /// The instruction was an acquire or a release (`AR`).
    pub acquire_release: bool,
}

impl Access {
    /// What the register holds after a load that found `value`: truncated to the access, extended to the register.
    pub const fn complete(&self, value: u64) -> u64 {
        let unused = 64 - 8 * self.size_bytes as u32;
        if !self.sign_extend {
            // No wider than the access, and an access is no wider than its register.
            return value << unused >> unused;
        }
        let extended = ((value << unused) as i64 >> unused) as u64;
        if self.sixty_four { extended } else { extended & 0xffff_ffff }
    }

    /// Ends a load: puts `value` into the register as [`Access::complete`] says.
    pub fn load(&self, frame: &mut Frame, value: u64) {
        frame.write(self.register, self.complete(value));
    }

    /// The value that a store writes, truncated to the access.
    pub fn store_value(&self, frame: &Frame) -> u64 {
        frame.read(self.register) & (u64::MAX >> (64 - 8 * u32::from(self.size_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Access =
        Access { register: 3, size_bytes: 4, sign_extend: false, sixty_four: false, acquire_release: false };

    #[test]
    fn a_load_takes_no_more_than_its_bytes() {
        let byte = Access { size_bytes: 1, ..WORD };
        assert_eq!(byte.complete(0xffff_ffff_ffff_ff80), 0x80);
        assert_eq!(WORD.complete(u64::MAX), 0xffff_ffff);
    }

    #[test]
    fn signs_are_extended_to_the_register_and_no_further() {
        let ldrsb_w = Access { size_bytes: 1, sign_extend: true, ..WORD };
        let ldrsb_x = Access { sixty_four: true, ..ldrsb_w };
        let ldrsw = Access { size_bytes: 4, ..ldrsb_x };
        assert_eq!(ldrsb_w.complete(0x80), 0xffff_ff80);
        assert_eq!(ldrsb_x.complete(0x80), 0xffff_ffff_ffff_ff80);
        assert_eq!(ldrsw.complete(0x8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(ldrsw.complete(0x7fff_ffff), 0x7fff_ffff);
    }

    #[test]
    fn a_store_writes_no_more_than_its_bytes() {
        let frame = Frame { x: [0x1122_3344_5566_7788; 31], ..Frame::default() };
        let widths = [(1, 0x88), (2, 0x7788), (4, 0x5566_7788), (8, 0x1122_3344_5566_7788)];
        for (size_bytes, value) in widths {
            assert_eq!(Access { size_bytes, ..WORD }.store_value(&frame), value);
        }
        assert_eq!(Access { register: 31, ..WORD }.store_value(&frame), 0);
    }

    #[test]
    fn a_load_to_the_zero_register_is_dropped() {
        let mut frame = Frame::default();
        Access { register: 31, ..WORD }.load(&mut frame, 5);
        assert_eq!(frame, Frame::default());
    }
}
