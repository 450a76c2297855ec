//! virtio device side: split queue, descriptor chains, block requests.
//!
//! Everything the driver writes is an allegation: it is copied once, the copy is checked, the copy is used. No reference into
//! the driver's memory exists here; [`GuestMemory`] only copies.
//!
//! Two kinds of wrong are kept apart. A *malformed ring* (an index or a chain that no driver would build) is an [`Error`]: the
//! device cannot go on and asks for a reset (virtio 1.2, section 2.1.2, `DEVICE_NEEDS_RESET`). A *malformed request* in a good
//! chain gets its [`blk::Status`] byte, and the next request is served as if nothing had happened.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "model"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod blk;
pub mod chain;
pub mod ledger;
pub mod memory;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod queue;

pub use chain::{Chain, Segment};
pub use ledger::Ledger;
pub use memory::{GuestMemory, OutOfRange};
pub use queue::{Queue, QueueConfig, QueueFeatures, Token};

/// Why a ring cannot be served any further: the device needs a reset by its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A queue size that is zero, no power of two or above [`queue::MAX_SIZE`].
    QueueSize(u32),
    /// A ring address that breaks the alignment of virtio 1.2, section 2.7.
    RingAlignment(u64),
    /// The ring itself lies outside the driver's memory.
    Ring(OutOfRange),
    /// The available index moved by more than the queue holds.
    IndexJump {
        /// The index that was found.
        index: u16,
        /// The next one that was expected.
        expected: u16,
    },
    /// A used index that this device has not written, found where it went on after a restart.
    UsedIndex(u16),
    /// A head that was made available while the device has it.
    HeadInUse(u16),
    /// A head or a `next` that is not below the number of descriptors.
    DescriptorIndex(u16),
    /// A chain with more descriptors than its table: a loop.
    Loop,
    /// More segments than [`chain::MAX_SEGMENTS`], or more than 4 GiB in them.
    TooLong,
    /// A descriptor of no bytes.
    ZeroLength,
    /// A device-readable descriptor behind a device-writable one (virtio 1.2, section 2.7.4.2).
    ReadableAfterWritable,
    /// An indirect descriptor that was not negotiated, is nested, has a successor, or whose table has an odd size.
    Indirect,
    /// A chain without a complete request header, or without a status byte to answer in.
    NoHeaderOrStatus,
}

impl From<OutOfRange> for Error {
    fn from(range: OutOfRange) -> Error {
        Error::Ring(range)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::QueueSize(size) => write!(f, "queue size {size} is no power of two up to {}", queue::MAX_SIZE),
            Error::RingAlignment(address) => write!(f, "ring address {address:#x} is not aligned"),
            Error::Ring(range) => write!(f, "ring outside the driver's memory: {range}"),
            Error::IndexJump { index, expected } => {
                write!(f, "available index {index} is more than a queue ahead of {expected}")
            }
            Error::UsedIndex(index) => write!(f, "used index {index} was not written by this device"),
            Error::HeadInUse(head) => write!(f, "descriptor chain {head} is made available twice"),
            Error::DescriptorIndex(index) => write!(f, "descriptor index {index} is outside its table"),
            Error::Loop => write!(f, "descriptor chain loops"),
            Error::TooLong => write!(f, "descriptor chain is too long"),
            Error::ZeroLength => write!(f, "descriptor of no bytes"),
            Error::ReadableAfterWritable => write!(f, "readable descriptor behind a writable one"),
            Error::Indirect => write!(f, "indirect descriptor that is not allowed here"),
            Error::NoHeaderOrStatus => write!(f, "block request without header or status byte"),
        }
    }
}
