//! Interrupts by message: a store of an INTID to one register makes that SPI pending.
//!
//! On a GICv3 the registers are the distributor's own (GIC IHI 0069, `GICD_SETSPI_NSR` and `GICD_CLRSPI_NSR`; the Secure aliases are WI, as there
//! is one Security state). On a GICv2 a frame of its own has the one that sets (Arm SBSA, appendix GICv2m). Only SPIs of the range that
//! the guest was told take messages: the others have a line, whose level is somebody else's to state.

use crate::bank::{Fact, Interrupts};
use crate::physical::Gic;
use crate::registers::{Bits, Register};
use crate::{Frame, Kicks, Version, Vgic};

/// `MSI_TYPER`, `MSI_SETSPI_NS` and `MSI_IIDR` of a GICv2m frame.
const MSI_TYPER: u64 = 0x008;
const MSI_SETSPI_NS: u64 = 0x040;
const MSI_IIDR: u64 = 0xFCC;
/// `GICD_SETSPI_NSR`.
const GICD_SETSPI_NSR: u64 = 0x040;

/// Which SPIs take messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Messages {
    /// The first INTID.
    pub first: u32,
    /// How many, from 1.
    pub count: u32,
}

impl Messages {
    /// Whether `intid` is one of them.
    pub fn contains(&self, intid: u32) -> bool {
        intid.checked_sub(self.first).is_some_and(|index| index < self.count)
    }
}

/// Whether a store of `size` bytes at `offset` of a GICv2m frame is a message.
pub(crate) fn is_set(offset: u64, size: usize) -> bool {
    offset == MSI_SETSPI_NS && matches!(size, 2 | 4)
}

impl Vgic {
    /// A device's message: it stores `data` at `offset` of `frame`. None, and nothing was done, if no register there takes messages, or
    /// not this one.
    pub fn message(&self, cpu: usize, frame: Frame, offset: u64, data: u32, hw: &mut impl Gic) -> Option<Kicks> {
        let is_doorbell = match (frame, self.config.version) {
            (Frame::Distributor, Version::V3) => offset == GICD_SETSPI_NSR,
            (Frame::Messages, Version::V2) => offset == MSI_SETSPI_NS,
            _ => false,
        };
        let is_taken = self.config.messages.is_some_and(|messages| messages.contains(data));
        (is_doorbell && is_taken).then(|| self.write_message(cpu, data, true, hw))
    }

    /// INTID `intid` becomes pending, or is so no more. Pending by a message is a level on a level-sensitive interrupt.
    pub(crate) fn write_message(&self, cpu: usize, intid: u32, set: bool, hw: &mut impl Gic) -> Kicks {
        let intid = intid & 0x1FFF;
        if !self.config.messages.is_some_and(|messages| messages.contains(intid)) {
            return Kicks::NONE;
        }
        let edge = self.shared.lock().bank.is(Fact::Edge, intid);
        match (edge, set) {
            (false, level) => self.set_level(cpu, intid, level, hw),
            (true, true) => self.raise_edge(cpu, intid, hw),
            (true, false) => {
                let word = Register::Bits(Bits::ClearPending, (intid / 32) as usize);
                self.write_interrupts(cpu, cpu, word, 4, 1 << (intid % 32), hw)
            }
        }
    }

    /// The GICv2m frame. Its product is unknown to drivers, so they take it for what the specification says.
    pub(crate) fn read_message_frame(&self, offset: u64, size: usize) -> u32 {
        match (offset, size, self.config.messages) {
            (MSI_TYPER, 4, Some(Messages { first, count })) => (first & 0x3FF) << 16 | count & 0x3FF,
            (MSI_IIDR, 4, _) => crate::distributor::IIDR,
            _ => 0,
        }
    }
}
