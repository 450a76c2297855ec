//! Why a controller is not driven.

use core::fmt;

/// Why a controller is not driven; each displays as a sentence about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its registers read as all ones: it is not there any more.
    Gone,
    /// Its smallest memory page is of 2^this bytes, more than 4 KiB.
    PageSize(u32),
    /// It does not have the NVM command set.
    CommandSet,
    /// Its queues have so many entries at most: less than two.
    Entries(u32),
    /// Its doorbells lie behind its registers: the bytes from one to the next.
    Doorbells(usize),
    /// It did not get ready, or not stop being ready, within the milliseconds that it says itself.
    Late(u64),
    /// It reports a fatal error of its own.
    Fatal,
    /// It does not answer this admin command (its opcode).
    Silent(u8),
    /// It refuses this admin command (its opcode) with this status: type and code of the specification's section 4.6.1.
    Command(u8, u16),
    /// It has no namespace that is active, or that has blocks.
    NoNamespace,
    /// Its namespace has metadata beside the blocks, or protection information in them.
    Metadata,
    /// The logical blocks of its namespace are of 2^this bytes, not 512 to 4096.
    LogicalBlocks(u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Gone => write!(f, "the NVMe controller is not there any more"),
            Refusal::PageSize(bits) => write!(f, "the NVMe controller's pages are of 2^{bits} bytes or more, not 4096"),
            Refusal::CommandSet => write!(f, "the NVMe controller does not have the NVM command set"),
            Refusal::Entries(entries) => write!(f, "the NVMe controller's queues have {entries} entries at most"),
            Refusal::Doorbells(stride) => {
                write!(f, "the NVMe controller's doorbells are {stride} bytes apart, which leaves its registers")
            }
            Refusal::Late(ms) => write!(f, "the NVMe controller did not start or stop within its {ms} ms"),
            Refusal::Fatal => write!(f, "the NVMe controller reports a fatal error"),
            Refusal::Silent(opcode) => write!(f, "the NVMe controller does not answer admin command {opcode:#04x}"),
            Refusal::Command(opcode, status) => {
                write!(f, "the NVMe controller refuses admin command {opcode:#04x}: status {status:#05x}")
            }
            Refusal::NoNamespace => write!(f, "the NVMe controller has no namespace with blocks"),
            Refusal::Metadata => write!(f, "the NVMe namespace has metadata, which is not driven"),
            Refusal::LogicalBlocks(bits) => {
                write!(f, "the NVMe namespace's logical blocks are of 2^{bits} bytes: 512 to 4096 are driven")
            }
        }
    }
}
