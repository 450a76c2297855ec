//! Reads a GUID partition table (UEFI 2.10, section 5.3).
//!
//! The table is not authentic: whoever holds the disk writes what he likes into it. It says where to look, and what is found there
//! must prove itself. So this reader asks only that the table contradicts neither itself nor the disk, and that no two partitions
//! share a block; it never writes.
//!
//! Sectors are of 512 or 4096 bytes, and the disk does not tell us which: the table is looked for in all four places where it can
//! begin, the two primary ones first. A primary and a stale one of the other kind cannot both be whole, for the header of one
//! lies in the entries of the other.

mod choose;
mod crc;
mod entry;
mod guid;
mod header;
#[cfg(test)]
mod tests;

use alloc::{vec, vec::Vec};
use core::ops::Range;

use crate::{BLOCK_BYTES, BlockDevice};
use crc::crc32;
use header::Header;

pub use choose::{Selector, open};
pub use entry::{Entry, Name};
pub use guid::Guid;

/// The type of a partition that is a member of a Haechi pool: `fe20907b-c4a0-42e6-aa46-77976e8f4fcc`.
pub const HAECHI_MEMBER: Guid =
    Guid::new(0xfe20_907b, 0xc4a0, 0x42e6, [0xaa, 0x46, 0x77, 0x97, 0x6e, 0x8f, 0x4f, 0xcc]);

/// The longest array of entries that is read, in bytes: 1,024 entries of the usual size.
pub const MAX_ARRAY_BYTES: usize = 128 << 10;

/// Why there is no partition table to go by, or no partition to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No header was found in any place.
    NoTable,
    /// A header has a revision other than 1.0.
    Revision(u32),
    /// A header's size, or its entries' size or number, is out of range.
    Size,
    /// The checksum of a header is wrong.
    HeaderChecksum,
    /// The checksum of the array of entries is wrong.
    ArrayChecksum,
    /// A header was found in another place than it says.
    Misplaced,
    /// The header's places contradict each other or the disk.
    Bounds,
    /// This entry lies outside the usable part of the disk, or ends before it begins.
    EntryBounds {
        /// Index of the entry.
        entry: usize,
    },
    /// Two entries share a block.
    Overlap {
        /// Index of one of them.
        entry: usize,
    },
    /// Two entries have the same unique GUID.
    Duplicate {
        /// Index of one of them.
        entry: usize,
    },
    /// The disk failed to read.
    Disk {
        /// The block.
        block: u64,
        /// How it failed.
        error: crate::Error,
    },
    /// The disk did not answer in time.
    Silent,
    /// No partition is the one that is looked for.
    NoPartition,
    /// Two partitions are: these entries, and maybe more.
    Ambiguous {
        /// Indices of the entries.
        entries: [usize; 2],
    },
    /// The partition does not begin and end with a block of 4 KiB.
    Unaligned {
        /// Index of its entry.
        entry: usize,
    },
    /// The disk has no blocks.
    Empty,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NoTable => write!(f, "the disk has no GUID partition table"),
            Error::Revision(revision) => write!(f, "partition table of revision {revision:#x}: only 1.0 is read"),
            Error::Size => write!(f, "the partition table's sizes are out of range"),
            Error::HeaderChecksum => write!(f, "the partition table's header is damaged"),
            Error::ArrayChecksum => write!(f, "the partition table's entries are damaged"),
            Error::Misplaced => write!(f, "the partition table's header belongs to another place"),
            Error::Bounds => write!(f, "the partition table does not fit this disk"),
            Error::EntryBounds { entry } => write!(f, "partition entry {entry} does not fit the disk"),
            Error::Overlap { entry } => write!(f, "partition entry {entry} overlaps another"),
            Error::Duplicate { entry } => write!(f, "partition entry {entry} has the GUID of another"),
            Error::Disk { block, error } => write!(f, "partition table, block {block}: {error}"),
            Error::Silent => write!(f, "the disk does not answer while its partition table is read"),
            Error::NoPartition => write!(f, "the partition table has no such partition"),
            Error::Ambiguous { entries: [one, other] } => {
                write!(f, "partition entries {one} and {other} are both such as are looked for")
            }
            Error::Unaligned { entry } => write!(f, "partition entry {entry} is not made of blocks of 4 KiB"),
            Error::Empty => write!(f, "the disk has no blocks"),
        }
    }
}

impl core::error::Error for Error {}

/// Which of the two copies of the table was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one at the beginning of the disk.
    Primary,
    /// The one at its end: the other is missing or damaged.
    Backup,
}

/// A partition table that contradicts neither itself nor the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk's own GUID.
    pub disk: Guid,
    /// Bytes of a sector: 512 or 4096.
    pub sector_bytes: usize,
    /// Which copy this is.
    pub copy: Which,
    /// The entries in use, in the table's order. No two share a block.
    pub entries: Vec<Entry>,
}

/// Reads the table of `disk`. While the disk works, `idle` is called: it sleeps until the disk's interrupt (or returns at once)
/// and says whether to go on waiting.
///
/// # Errors
/// [`Error::NoTable`]; else what is wrong with the first copy that was found, if no other is better; or that the disk failed.
pub fn read<D: BlockDevice>(disk: &mut D, mut idle: impl FnMut() -> bool) -> Result<Table, Error> {
    let mut reason = Error::NoTable;
    for (sector_bytes, copy) in
        [(512, Which::Primary), (4096, Which::Primary), (512, Which::Backup), (4096, Which::Backup)]
    {
        match read_copy(disk, sector_bytes, copy, &mut idle) {
            Ok(table) => return Ok(table),
            Err(Error::Silent) => return Err(Error::Silent),
            Err(error) if reason == Error::NoTable => reason = error,
            Err(_) => {}
        }
    }
    Err(reason)
}

fn read_copy<D: BlockDevice>(
    disk: &mut D,
    sector_bytes: usize,
    copy: Which,
    idle: &mut impl FnMut() -> bool,
) -> Result<Table, Error> {
    let sectors = disk.blocks().checked_mul((BLOCK_BYTES / sector_bytes) as u64).ok_or(Error::Bounds)?;
    let place = match copy {
        Which::Primary => 1,
        Which::Backup => sectors.saturating_sub(1),
    };
    if place >= sectors {
        return Err(Error::NoTable);
    }
    let header = read_bytes(disk, place * sector_bytes as u64, sector_bytes, idle)?;
    let header = Header::parse(&header, place, sectors)?;
    let array = read_bytes(disk, header.array * sector_bytes as u64, header.array_bytes(), idle)?;
    if crc32(&array) != header.array_crc {
        return Err(Error::ArrayChecksum);
    }
    let mut entries = Vec::new();
    for (index, bytes) in array.chunks_exact(header.entry_bytes).enumerate() {
        entries.extend(Entry::parse(bytes, index, &header.usable, sector_bytes)?);
    }
    check_disjoint(&entries)?;
    Ok(Table { disk: header.disk, sector_bytes, copy, entries })
}

/// Checks that no two entries share a block or a GUID.
fn check_disjoint(entries: &[Entry]) -> Result<(), Error> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_unstable_by_key(|entry| entry.sectors.start);
    if let Some(pair) = order.windows(2).find(|pair| pair[0].sectors.end > pair[1].sectors.start) {
        return Err(Error::Overlap { entry: pair[1].index });
    }
    order.sort_unstable_by_key(|entry| entry.unique);
    match order.windows(2).find(|pair| pair[0].unique == pair[1].unique) {
        Some(pair) => Err(Error::Duplicate { entry: pair[1].index }),
        None => Ok(()),
    }
}

/// Reads `len` bytes (at most [`MAX_ARRAY_BYTES`]) from byte `start` of the disk on, a block at a time.
fn read_bytes<D: BlockDevice>(
    disk: &mut D,
    start: u64,
    len: usize,
    idle: &mut impl FnMut() -> bool,
) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        let at = start + done as u64;
        let offset = (at % BLOCK_BYTES as u64) as usize;
        let count = (BLOCK_BYTES - offset).min(len - done);
        read_block(disk, at / BLOCK_BYTES as u64, offset..offset + count, &mut bytes[done..done + count], idle)?;
        done += count;
    }
    Ok(bytes)
}

/// Copies `range` of a block to `out`, which is as long.
fn read_block<D: BlockDevice>(
    disk: &mut D,
    block: u64,
    range: Range<usize>,
    out: &mut [u8],
    idle: &mut impl FnMut() -> bool,
) -> Result<(), Error> {
    let broken = Error::Disk { block, error: crate::Error::Broken };
    let buffer = disk.allocate(1).ok_or(broken)?;
    if let Err(refused) = disk.read(0, block, buffer) {
        refused.0.into_iter().for_each(|buffer| disk.release(buffer));
        return Err(broken);
    }
    disk.kick();
    // Bounded by the caller's patience.
    loop {
        if let Some(completion) = disk.poll() {
            let buffer = completion.buffer.ok_or(broken)?;
            out.copy_from_slice(&disk.bytes(&buffer)[range]);
            disk.release(buffer);
            return completion.result.map_err(|error| Error::Disk { block, error });
        }
        if !idle() {
            return Err(Error::Silent);
        }
        disk.acknowledge();
    }
}
