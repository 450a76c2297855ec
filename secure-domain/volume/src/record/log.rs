//! A record of the log: up to 126 statements about blocks and extents, chained to the record before it.
//!
//! ```text
//! offset  size
//!      0     4  magic "SVLG"
//!      4     1  entries, 0 to 126
//!      5     1  data blocks that follow the record in the log, 0 to 126
//!      6     2  low 16 bits of the number of the last durable checkpoint
//!      8     8  sequence number
//!     16     8  incarnation
//!     24     8  covered: the data of every record up to this one is durable
//!     32    32  chain MAC
//!     64  32*n  entries
//!              the rest of the block means nothing
//! ```
//! An entry:
//!
//! ```text
//!      0     8  version
//!      8    16  sealed: tag; assigned: volume u32 | extent of the volume u32 | copy u8 | 7 zeros; others: zero
//!     24     5  address: member 3 bits (high) | data block 37 bits
//!     29     1  kind: 1 sealed, 2 zeros, 3 assigned, 4 freed
//!     30     2  epoch; zero if the kind is not 1
//! ```
//! The chain MAC is HMAC-SHA-256 over the previous record's chain MAC, bytes 0 to 31 and the entries. It is not stored twice:
//! who reads a record knows the one before it, so a record of another history, place or pool never verifies. Invariants: the
//! sequence number is one above the previous record's; covered is below the sequence number and never falls; the address of
//! assigned and freed is the first block of an extent. Data blocks follow only records of kinds 1 and 2, one for each sealed
//! entry, in order; the entry's tag authenticates them.

use crypto::{Error, Tag, module::MacKey};

use super::{
    ChainMac, EXTENT_BLOCKS, LogPoint, MAX_VOLUME,
    bytes::{Reader, put},
    entry::Entry,
    extent::Assignment,
};
use crate::BLOCK_BYTES;

/// Most entries of a record.
pub const MAX_ENTRIES: usize = 126;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;
/// The bytes of an entry.
pub type LogEntryBytes = [u8; ENTRY_BYTES];

const MAGIC: [u8; 4] = *b"SVLG";
const HEAD_BYTES: usize = 64;
const MAC_OFFSET: usize = 32;
const BLOCK_BITS: u32 = 37;

/// A data block of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Index of the member.
    pub member: u8,
    /// Data block: 0 is the first of extent 0.
    pub block: u64,
}

/// What a log entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The block has this entry (sealed or zeros).
    Block(Entry),
    /// The extent that begins here is given to a volume.
    Assigned(Assignment),
    /// The extent that begins here is free.
    Freed {
        /// Orders this statement among the others.
        version: u64,
    },
}

/// An entry of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What it is about.
    pub address: Address,
    /// What it says.
    pub statement: Statement,
}

impl LogEntry {
    /// Reads an entry; `None` if it breaks an invariant.
    pub fn parse(bytes: &LogEntryBytes) -> Option<LogEntry> {
        let reader = Reader(bytes);
        let version = reader.u64(0);
        let (low, high) = (u64::from(reader.u32(24)), u64::from(bytes[28]));
        let place = low | high << 32;
        let address = Address { member: (place >> BLOCK_BITS) as u8, block: place & ((1 << BLOCK_BITS) - 1) };
        if version == 0 || (bytes[29] != 1 && !reader.is_zero(30, 32)) {
            return None;
        }
        let whole = address.block.is_multiple_of(EXTENT_BLOCKS);
        let statement = match bytes[29] {
            1 => Statement::Block(Entry::Sealed { version, epoch: reader.u16(30), tag: reader.array(8) }),
            2 if reader.is_zero(8, 24) => Statement::Block(Entry::Zero { version }),
            3 if whole && bytes[16] <= 1 && reader.is_zero(17, 24) && reader.u32(8) < MAX_VOLUME => {
                Statement::Assigned(Assignment {
                    volume: reader.u32(8),
                    index: reader.u32(12),
                    copy: bytes[16],
                    version,
                })
            }
            4 if whole && reader.is_zero(8, 24) => Statement::Freed { version },
            _ => return None,
        };
        Some(LogEntry { address, statement })
    }

    /// The bytes of the entry.
    pub fn encode(&self) -> LogEntryBytes {
        let mut bytes = [0; ENTRY_BYTES];
        let place = u64::from(self.address.member) << BLOCK_BITS | self.address.block;
        put(&mut bytes, 24, &place.to_le_bytes()[..5]);
        let version = match &self.statement {
            Statement::Block(Entry::Sealed { version, epoch, tag }) => {
                put(&mut bytes, 8, tag);
                bytes[29] = 1;
                put(&mut bytes, 30, &epoch.to_le_bytes());
                *version
            }
            Statement::Block(entry) => {
                bytes[29] = 2;
                entry.version()
            }
            Statement::Assigned(extent) => {
                put(&mut bytes, 8, &extent.volume.to_le_bytes());
                put(&mut bytes, 12, &extent.index.to_le_bytes());
                (bytes[16], bytes[29]) = (extent.copy, 3);
                extent.version
            }
            Statement::Freed { version } => {
                bytes[29] = 4;
                *version
            }
        };
        put(&mut bytes, 0, &version.to_le_bytes());
        bytes
    }

    /// The bytes of an entry that says that a block was sealed.
    pub fn sealed(address: Address, version: u64, epoch: u16, tag: Tag) -> LogEntryBytes {
        LogEntry { address, statement: Statement::Block(Entry::Sealed { version, epoch, tag }) }.encode()
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub entries: usize,
    /// Data blocks that follow.
    pub data_blocks: usize,
    /// Low 16 bits of the number of the last checkpoint that was durable when the record was made: a superblock before that one is not
    /// the newest.
    pub checkpoint: u16,
    /// Sequence number.
    pub seq: u64,
    /// Incarnation that wrote it.
    pub incarnation: u64,
    /// The data of every record up to this one is durable.
    pub covered: u64,
}

/// Completes the record in `block`, whose first `head.entries` entries are in place, after `previous`; returns the chain's MAC.
/// `key` is the log's.
///
/// # Errors
/// [`Error::State`] if the crypto module does not serve.
pub fn seal(head: &Head, key: &MacKey, previous: &ChainMac, block: &mut [u8]) -> Result<ChainMac, Error> {
    put(block, 0, &MAGIC);
    (block[4], block[5]) = (head.entries as u8, head.data_blocks as u8);
    put(block, 6, &head.checkpoint.to_le_bytes());
    put(block, 8, &head.seq.to_le_bytes());
    put(block, 16, &head.incarnation.to_le_bytes());
    put(block, 24, &head.covered.to_le_bytes());
    let mac = chain(key, previous, head.entries, block)?;
    put(block, MAC_OFFSET, &mac);
    Ok(mac)
}

/// Reads the record in `block` if it is the one after `previous`; returns its head and the point it makes. `None`: it is
/// something else, so the log ends before it.
///
/// # Errors
/// [`Error::State`] if the crypto module does not serve: then nothing is known about the record.
pub fn open(key: &MacKey, previous: &LogPoint, block: &[u8]) -> Result<Option<(Head, LogPoint)>, Error> {
    let follows = |head: &Head| Some(head.seq) == previous.seq.checked_add(1);
    let Some(head) = claims(block).filter(follows) else { return Ok(None) };
    let mac = chain(key, &previous.mac, head.entries, block)?;
    let point = LogPoint { seq: head.seq, mac };
    Ok((mac == Reader(block).array(MAC_OFFSET)).then_some((head, point)))
}

/// What the record in `block` claims, its chain MAC not checked: for display, and for [`open`]. `None`: it is no record.
pub fn claims(block: &[u8]) -> Option<Head> {
    let reader = Reader(block);
    let head = Head {
        entries: usize::from(block[4]),
        data_blocks: usize::from(block[5]),
        checkpoint: reader.u16(6),
        seq: reader.u64(8),
        incarnation: reader.u64(16),
        covered: reader.u64(24),
    };
    let fits = head.entries <= MAX_ENTRIES && head.data_blocks <= head.entries;
    (block[..4] == MAGIC && fits && head.covered < head.seq).then_some(head)
}

/// The part of a record's block that means something.
pub fn meaningful(block: &[u8; BLOCK_BYTES]) -> &[u8] {
    let entries = usize::from(block[4]).min(MAX_ENTRIES);
    &block[..entry_range(entries).start]
}

/// Where entry `index` of a record lies in its block.
pub fn entry_range(index: usize) -> core::ops::Range<usize> {
    HEAD_BYTES + index * ENTRY_BYTES..HEAD_BYTES + (index + 1) * ENTRY_BYTES
}

/// The entries of a record that was opened.
pub fn entries<'a>(head: &Head, block: &'a [u8]) -> &'a [LogEntryBytes] {
    block[HEAD_BYTES..HEAD_BYTES + head.entries * ENTRY_BYTES].as_chunks().0
}

fn chain(key: &MacKey, previous: &ChainMac, entries: usize, block: &[u8]) -> Result<ChainMac, Error> {
    key.mac(&[previous, &block[..MAC_OFFSET], &block[HEAD_BYTES..HEAD_BYTES + entries * ENTRY_BYTES]])
}

const _: () = assert!(HEAD_BYTES + MAX_ENTRIES * ENTRY_BYTES == BLOCK_BYTES);

#[cfg(test)]
mod tests {
    use crypto::host::mac_key;
    use proptest::prelude::*;

    use super::*;

    fn record() -> ([u8; BLOCK_BYTES], LogPoint, MacKey) {
        let key = mac_key(&[3; 32]);
        let mut block = [0xaa; BLOCK_BYTES];
        let entry = LogEntry::sealed(Address { member: 1, block: 77 }, 5, 1, [9; 16]);
        put(&mut block, HEAD_BYTES, &entry);
        let head = Head { entries: 1, data_blocks: 0, checkpoint: 6, seq: 11, incarnation: 4, covered: 10 };
        let mac = seal(&head, &key, &[8; 32], &mut block).unwrap();
        assert_ne!(mac, [8; 32]);
        (block, LogPoint { seq: 10, mac: [8; 32] }, key)
    }

    #[test]
    fn any_changed_bit_that_counts_is_refused() {
        let (block, previous, key) = record();
        for byte in 0..HEAD_BYTES + ENTRY_BYTES {
            let mut changed = block;
            changed[byte] ^= 4;
            assert_eq!(open(&key, &previous, &changed), Ok(None), "byte {byte}");
        }
        let mut rest = block;
        rest[HEAD_BYTES + ENTRY_BYTES] ^= 1;
        assert!(open(&key, &previous, &rest).unwrap().is_some());
    }

    #[test]
    fn a_record_of_another_history_is_refused() {
        let (block, previous, key) = record();
        assert_eq!(open(&key, &LogPoint { seq: 9, ..previous }, &block), Ok(None));
        assert_eq!(open(&key, &LogPoint { mac: [7; 32], ..previous }, &block), Ok(None));
        assert_eq!(open(&mac_key(&[4; 32]), &previous, &block), Ok(None));
        let (head, point) = open(&key, &previous, &block).unwrap().unwrap();
        assert_eq!((head.seq, head.covered, point.seq), (11, 10, 11));
        assert_eq!(LogEntry::parse(&entries(&head, &block)[0]).unwrap().address.block, 77);
    }

    #[test]
    fn untidy_and_unknown_entries_are_refused() {
        let zero = LogEntry {
            address: Address { member: 0, block: 1 },
            statement: Statement::Block(Entry::Zero { version: 1 }),
        };
        let freed =
            LogEntry { address: Address { member: 0, block: 1024 }, statement: Statement::Freed { version: 1 } };
        for (entry, offset, value) in
            [(zero, 0, 0), (zero, 8, 1), (zero, 29, 0), (zero, 29, 5), (zero, 31, 1), (freed, 24, 1), (freed, 23, 1)]
        {
            let mut bad = entry.encode();
            bad[offset] = value;
            assert_eq!(LogEntry::parse(&bad), None, "offset {offset} = {value}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in any::<[u8; 32]>(), kind in 0u8..6, tidy: bool) {
            let mut bytes = bytes;
            bytes[29] = kind;
            if tidy {
                bytes[17..24].fill(0);
                bytes[30..].fill(0);
                (bytes[11], bytes[16], bytes[24]) = (0, 1, 0);
                bytes[25] &= 0xfc;
            }
            if let Some(entry) = LogEntry::parse(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }
}
