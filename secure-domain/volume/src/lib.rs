//! The sealed volume: on-disk format and engine.
//!
//! The walk of a write: `service.rs` takes it from the ring; `engine.rs` issues it in runs of up to 32 blocks; `engine/write.rs`
//! copies a run's payload once into a DMA buffer, takes fresh numbers from `versions.rs`, seals in place with `seal.rs` and hands
//! the buffer to the disk; the completion puts the new `entry.rs` records into the `cache.rs` of the entry table; `service.rs`
//! answers through the used ring. The format is `docs/volume-format.md`; [`superblock`], [`entry`] and [`geometry`] are its
//! records.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
pub mod cache;
pub mod engine;
pub mod entry;
pub mod geometry;
pub mod mount;
pub mod provision;
pub mod seal;
pub mod service;
pub mod superblock;
#[cfg(test)]
mod tests;
pub mod versions;

pub use block::BLOCK_BYTES;
pub use engine::{Operation, Transfer, Volume};
pub use geometry::Geometry;
pub use mount::mount;
pub use service::{Outcome, Service};
pub use superblock::Superblock;

/// Why a disk is not served. A refused disk has not been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither superblock begins with the magic.
    NotHaechi,
    /// The superblock at this block has a version that this code does not know.
    Version {
        /// Block of the superblock.
        block: u64,
        /// Major version found.
        major: u16,
        /// Minor version found.
        minor: u16,
    },
    /// The superblock at this block has incompatible features that this code does not know: these bits.
    Features {
        /// Block of the superblock.
        block: u64,
        /// Unknown bits.
        flags: u32,
    },
    /// The superblock at this block names no suite of ours.
    Suite {
        /// Block of the superblock.
        block: u64,
        /// Number found.
        suite: u16,
    },
    /// The superblock at this block is not authentic: damaged, changed, or of another device.
    Mac {
        /// Block of the superblock.
        block: u64,
    },
    /// The superblock at this block contradicts itself.
    Layout {
        /// Block of the superblock.
        block: u64,
    },
    /// The disk is smaller than its volume.
    TooSmall {
        /// Blocks that the disk has.
        have: u64,
        /// Blocks that the volume takes.
        need: u64,
    },
    /// All versions of this volume are used up.
    VersionsExhausted,
    /// The disk failed at this block.
    Disk {
        /// Block of the disk.
        block: u64,
        /// What the driver says.
        error: block::Error,
    },
    /// The disk did not answer in the time that the caller gave.
    DiskSilent {
        /// Block of the disk that was waited for.
        block: u64,
    },
    /// The disk's buffers are all in use, or it has none.
    NoBuffer,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NotHaechi => write!(f, "not a Haechi disk: no magic in block 0 or 1"),
            Error::Version { block, major, minor } => {
                let (ours, minor_ours) = superblock::VERSION;
                write!(f, "superblock in block {block}: format version {major}.{minor}, this is {ours}.{minor_ours}")
            }
            Error::Features { block, flags } => {
                write!(f, "superblock in block {block}: unknown incompatible features {flags:#x}")
            }
            Error::Suite { block, suite } => write!(f, "superblock in block {block}: unknown suite {suite:#06x}"),
            Error::Mac { block } => {
                write!(f, "superblock in block {block}: wrong MAC (damaged, changed, or another device's disk)")
            }
            Error::Layout { block } => write!(f, "superblock in block {block}: impossible layout"),
            Error::TooSmall { have, need } => write!(f, "disk of {have} blocks is too small: its volume takes {need}"),
            Error::VersionsExhausted => write!(f, "all versions of this volume are used up"),
            Error::Disk { block, error } => write!(f, "disk block {block}: {error}"),
            Error::DiskSilent { block } => write!(f, "disk block {block}: no answer"),
            Error::NoBuffer => write!(f, "the disk has no free buffer"),
        }
    }
}

/// What went wrong while serving, for the log. Each costs one request, not the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bytes of this block are not what was sealed there.
    TagMismatch {
        /// Block of the volume.
        block: u64,
    },
    /// The entry of this block is none that this code writes.
    EntryDamaged {
        /// Block of the volume.
        block: u64,
    },
    /// Reading this block failed.
    ReadFailed {
        /// Block of the volume.
        block: u64,
    },
    /// Writing this block failed.
    WriteFailed {
        /// Block of the volume.
        block: u64,
    },
    /// Reading or writing this block of the entry table failed.
    TableFailed {
        /// Block of the disk.
        block: u64,
    },
    /// A superblock could not be written, so no new versions could be reserved.
    ReservationFailed,
    /// The disk could not make writes durable.
    FlushFailed,
    /// A superblock is damaged; the other one serves.
    SuperblockDamaged {
        /// Block of the disk.
        block: u64,
    },
    /// The disk takes no requests any more.
    DiskGone,
    /// The driver's ring is malformed.
    Ring(virtio::Error),
}

impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Event::TagMismatch { block } => write!(f, "block {block}: wrong tag, I/O error"),
            Event::EntryDamaged { block } => write!(f, "block {block}: damaged entry, I/O error"),
            Event::ReadFailed { block } => write!(f, "block {block}: the disk failed to read"),
            Event::WriteFailed { block } => write!(f, "block {block}: the disk failed to write"),
            Event::TableFailed { block } => write!(f, "entry table, disk block {block}: the disk failed"),
            Event::ReservationFailed => write!(f, "superblock: the disk failed to write, no versions reserved"),
            Event::FlushFailed => write!(f, "the disk failed to flush"),
            Event::SuperblockDamaged { block } => write!(f, "superblock in block {block} is damaged, the other serves"),
            Event::DiskGone => write!(f, "the disk takes no requests any more"),
            Event::Ring(error) => write!(f, "malformed ring: {error}"),
        }
    }
}
