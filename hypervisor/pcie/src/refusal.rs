//! Why a bus is not shared out.

use core::fmt;

use crate::Function;

/// Why a bus is not shared out; each displays as a sentence about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A bridge: what is behind it could not be told apart from the rest of the bus.
    Bridge(Function),
    /// There is no function where the secure domain's should be.
    Missing(Function),
    /// The secure domain's function is one of several of its device, which reach each other past everything.
    NotAlone(Function),
    /// A base address register of a kind that is not known: its offset.
    Register(Function, usize),
    /// Addresses that no base address register states (Enhanced Allocation).
    Fixed(Function),
    /// Its registers do not fit: the bytes of the largest, or of all.
    TooLarge(Function, u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Bridge(it) => {
                write!(f, "PCI function {it} is a bridge, and only a bus without any can be shared out")
            }
            Refusal::Missing(it) => write!(f, "there is no PCI function {it}, which should be the secure domain's"),
            Refusal::NotAlone(it) => {
                write!(
                    f,
                    "PCI function {it} is not the only one of its device, and only a whole device can be the secure domain's"
                )
            }
            Refusal::Register(it, at) => {
                write!(f, "PCI function {it} has a base address register at {at:#x} of no known kind")
            }
            Refusal::Fixed(it) => write!(f, "PCI function {it} has addresses that cannot be moved"),
            Refusal::TooLarge(it, bytes) => {
                write!(f, "PCI function {it} has {bytes:#x} bytes of registers, for which there is no room")
            }
        }
    }
}

impl core::error::Error for Refusal {}
