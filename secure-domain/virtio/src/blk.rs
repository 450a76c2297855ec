//! The block device (virtio 1.2, section 5.2): requests, status, configuration space.

use crate::{Chain, Error, GuestMemory, OutOfRange, QueueFeatures};

/// Bytes of a logical block: what the driver is told and what requests must be aligned to.
pub const BLOCK_BYTES: u32 = 4096;
/// Sectors of 512 bytes in a block; the protocol counts in sectors whatever the block size.
const SECTORS_PER_BLOCK: u64 = 8;
/// Data segments of one request.
pub const SEG_MAX: u32 = 126;
/// Blocks that one discard or write-zeroes request may cover.
pub const MAX_ZERO_BLOCKS: u32 = 32_768;
/// Bytes that GET_ID returns (virtio 1.2, section 5.2.6).
pub const ID_BYTES: usize = 20;
/// The virtio device id of a block device (virtio 1.2, section 5).
pub const DEVICE_ID: u32 = 2;

/// Feature bits of a block device (virtio 1.2, section 5.2.3).
pub mod feature {
    /// `seg_max` is valid.
    pub const SEG_MAX: u64 = 1 << 2;
    /// `blk_size` is valid.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// The FLUSH request.
    pub const FLUSH: u64 = 1 << 9;
    /// The topology fields are valid.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// The DISCARD request.
    pub const DISCARD: u64 = 1 << 13;
    /// The WRITE_ZEROES request.
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// Compliance with virtio 1.0 and later (section 6).
    pub const VERSION_1: u64 = 1 << 32;
}

/// The features that this device offers.
pub const FEATURES: u64 = feature::SEG_MAX
    | feature::BLK_SIZE
    | feature::FLUSH
    | feature::TOPOLOGY
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::VERSION_1
    | QueueFeatures::INDIRECT
    | QueueFeatures::EVENT_IDX;

/// 32-bit words of the configuration space, up to `write_zeroes_may_unmap`.
pub const CONFIG_WORDS: usize = 15;

/// The configuration space of a device of `blocks` blocks (virtio 1.2, section 5.2.4), as words at byte offset `4 * index`.
pub const fn config(blocks: u64) -> [u32; CONFIG_WORDS] {
    let sectors = blocks * SECTORS_PER_BLOCK;
    let mut words = [0; CONFIG_WORDS];
    words[0] = sectors as u32;
    words[1] = (sectors >> 32) as u32;
    words[3] = SEG_MAX;
    words[5] = BLOCK_BYTES;
    // physical_block_exp 0, alignment_offset 0, min_io_size 1 block; opt_io_size 32 blocks.
    words[6] = 1 << 16;
    words[7] = 32;
    // writeback 1 at byte 32, num_queues 1 at byte 34.
    words[8] = 1 | 1 << 16;
    words[9] = MAX_ZERO_BLOCKS * SECTORS_PER_BLOCK as u32;
    words[10] = 1;
    words[11] = SECTORS_PER_BLOCK as u32;
    words[12] = MAX_ZERO_BLOCKS * SECTORS_PER_BLOCK as u32;
    words[13] = 1;
    words[14] = 1;
    words
}

/// The answer in a request's last byte (virtio 1.2, section 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Failed, or asked for something impossible.
    IoError = 1,
    /// This device does not do that.
    Unsupported = 2,
}

/// What a request asks for, in blocks; checked against the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the chain's writable bytes.
    Read {
        /// First block.
        block: u64,
        /// Number of blocks, not zero.
        blocks: u32,
    },
    /// Store the chain's readable bytes.
    Write {
        /// First block.
        block: u64,
        /// Number of blocks, not zero.
        blocks: u32,
    },
    /// Make durable what was completed before.
    Flush,
    /// Write the device's name into the chain.
    GetId,
    /// The contents may be dropped; they read as zeros from here on.
    Discard {
        /// First block.
        block: u64,
        /// Number of blocks, not zero.
        blocks: u32,
    },
    /// The contents become zeros.
    WriteZeroes {
        /// First block.
        block: u64,
        /// Number of blocks, not zero.
        blocks: u32,
    },
}

/// A parsed request. The chain that it came from now holds the data alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do, or the answer that it gets at once.
    pub operation: Result<Operation, Status>,
    /// The driver's address of the status byte.
    pub status_address: u64,
}

impl Request {
    /// Writes the status byte and returns how many bytes the used ring reports, when `data_bytes` were written before it. The
    /// used length promises a prefix (virtio 1.2, section 2.7.8.2): of a failed read that is nothing.
    pub fn answer(self, memory: &impl GuestMemory, status: Status, data_bytes: u32) -> u32 {
        match memory.write(self.status_address, &[status as u8]) {
            Ok(()) if status == Status::Ok || data_bytes == 0 => data_bytes.saturating_add(1),
            // A status byte nobody can read, or data nobody may trust: the chain goes back empty.
            _ => 0,
        }
    }
}

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;
const FLAG_UNMAP: u32 = 1;

/// Parses the request in `chain` for a device of `capacity` blocks, taking header and status byte off the chain. The framing is
/// the driver's choice (virtio 1.2, section 2.7.4.1): the header may share a descriptor with data or be spread over several.
pub fn parse(memory: &impl GuestMemory, chain: &mut Chain, capacity: u64) -> Result<Request, Error> {
    let mut header = [0; HEADER_BYTES];
    let status_address = chain.take_last_writable().ok_or(Error::NoHeaderOrStatus)?;
    let operation = match chain.take_front(memory, &mut header) {
        Ok(true) => operation(memory, &header, chain, capacity),
        Ok(false) => return Err(Error::NoHeaderOrStatus),
        Err(OutOfRange { .. }) => Err(Status::IoError),
    };
    Ok(Request { operation, status_address })
}

fn operation(
    memory: &impl GuestMemory,
    header: &[u8; HEADER_BYTES],
    chain: &mut Chain,
    capacity: u64,
) -> Result<Operation, Status> {
    let word = u128::from_le_bytes(*header);
    let (kind, sector) = (word as u32, (word >> 64) as u64);
    let readable = chain.readable_bytes() as u32;
    let writable = chain.len_bytes() - readable;
    match kind {
        TYPE_IN if readable == 0 => {
            let (block, blocks) = data_range(sector, writable, capacity)?;
            Ok(Operation::Read { block, blocks })
        }
        TYPE_OUT if writable == 0 => {
            let (block, blocks) = data_range(sector, readable, capacity)?;
            Ok(Operation::Write { block, blocks })
        }
        TYPE_FLUSH => Ok(Operation::Flush),
        TYPE_GET_ID if readable == 0 && writable >= ID_BYTES as u32 => Ok(Operation::GetId),
        TYPE_DISCARD => {
            let (block, blocks) = zero_range(memory, chain, capacity, 0)?;
            Ok(Operation::Discard { block, blocks })
        }
        TYPE_WRITE_ZEROES => {
            let (block, blocks) = zero_range(memory, chain, capacity, FLAG_UNMAP)?;
            Ok(Operation::WriteZeroes { block, blocks })
        }
        TYPE_IN | TYPE_OUT | TYPE_GET_ID => Err(Status::IoError),
        _ => Err(Status::Unsupported),
    }
}

/// The blocks of `bytes` bytes at `sector`.
fn data_range(sector: u64, bytes: u32, capacity: u64) -> Result<(u64, u32), Status> {
    if !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(Status::IoError);
    }
    range(sector, bytes / BLOCK_BYTES, capacity)
}

/// The one range of a discard or write-zeroes request; flags beyond `allowed` are unsupported (virtio 1.2, section 5.2.6.2).
fn zero_range(memory: &impl GuestMemory, chain: &mut Chain, capacity: u64, allowed: u32) -> Result<(u64, u32), Status> {
    let mut bytes = [0; RANGE_BYTES];
    if chain.readable_bytes() != RANGE_BYTES as u64 {
        return Err(Status::IoError);
    }
    chain.gather(memory, 0, &mut bytes).map_err(|_| Status::IoError)?;
    let word = u128::from_le_bytes(bytes);
    let (sector, sectors, flags) = (word as u64, (word >> 64) as u32, (word >> 96) as u32);
    if flags & !allowed != 0 {
        return Err(Status::Unsupported);
    }
    if !u64::from(sectors).is_multiple_of(SECTORS_PER_BLOCK) {
        return Err(Status::IoError);
    }
    let blocks = sectors / SECTORS_PER_BLOCK as u32;
    if blocks > MAX_ZERO_BLOCKS {
        return Err(Status::IoError);
    }
    range(sector, blocks, capacity)
}

fn range(sector: u64, blocks: u32, capacity: u64) -> Result<(u64, u32), Status> {
    let block = sector / SECTORS_PER_BLOCK;
    let end = block.checked_add(u64::from(blocks)).ok_or(Status::IoError)?;
    if !sector.is_multiple_of(SECTORS_PER_BLOCK) || blocks == 0 || end > capacity {
        return Err(Status::IoError);
    }
    Ok((block, blocks))
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{Segment, model::Ram};

    const CAPACITY: u64 = 1000;
    const HEADER: u64 = Ram::BASE;
    const STATUS: u64 = Ram::BASE + 0x80;
    const DATA: u64 = Ram::BASE + 0x1000;

    fn header(kind: u32, sector: u64) -> [u8; 16] {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        header
    }

    fn chain(buffers: &[(u64, u32, bool)]) -> Chain {
        let mut chain = Chain::new();
        for &(address, len, writable) in buffers {
            chain.push(Segment { address, len, writable }).unwrap();
        }
        chain
    }

    /// Parses a request of `kind` at `sector` with this data segment.
    fn request(kind: u32, sector: u64, data: Option<(u32, bool)>) -> Result<Operation, Status> {
        let ram = Ram::new(0x4000);
        ram.put(HEADER, &header(kind, sector));
        let mut buffers = vec![(HEADER, 16, false)];
        buffers.extend(data.map(|(len, writable)| (DATA, len, writable)));
        buffers.push((STATUS, 1, true));
        parse(&ram, &mut chain(&buffers), CAPACITY).unwrap().operation
    }

    fn zeroing(kind: u32, sector: u64, sectors: u32, flags: u32) -> Result<Operation, Status> {
        let ram = Ram::new(0x4000);
        ram.put(HEADER, &header(kind, 0));
        ram.put(DATA, &sector.to_le_bytes());
        ram.put(DATA + 8, &sectors.to_le_bytes());
        ram.put(DATA + 12, &flags.to_le_bytes());
        let mut chain = chain(&[(HEADER, 16, false), (DATA, 16, false), (STATUS, 1, true)]);
        parse(&ram, &mut chain, CAPACITY).unwrap().operation
    }

    #[test]
    fn a_chain_without_header_or_status_cannot_be_answered() {
        let ram = Ram::new(0x4000);
        for buffers in [
            &[(HEADER, 16, false)][..],
            &[(HEADER, 15, false), (STATUS, 1, true)],
            &[(STATUS, 1, true)],
            &[(HEADER, 16, true), (STATUS, 1, true)],
        ] {
            assert_eq!(parse(&ram, &mut chain(buffers), CAPACITY), Err(Error::NoHeaderOrStatus));
        }
    }

    #[test]
    fn a_header_outside_memory_is_an_io_error() {
        let ram = Ram::new(0x4000);
        let mut chain = chain(&[(0, 16, false), (STATUS, 1, true)]);
        assert_eq!(parse(&ram, &mut chain, CAPACITY).unwrap().operation, Err(Status::IoError));
    }

    #[test]
    fn misaligned_empty_and_distant_requests_are_io_errors() {
        let io = Err(Status::IoError);
        for (kind, writable) in [(TYPE_IN, true), (TYPE_OUT, false)] {
            assert_eq!(request(kind, 1, Some((4096, writable))), io);
            assert_eq!(request(kind, 0, Some((4095, writable))), io);
            assert_eq!(request(kind, 0, Some((512, writable))), io);
            assert_eq!(request(kind, 0, None), io);
            assert_eq!(request(kind, CAPACITY * 8, Some((4096, writable))), io);
            assert_eq!(request(kind, (CAPACITY - 1) * 8, Some((8192, writable))), io);
            assert_eq!(request(kind, !7, Some((8192, writable))), io);
            assert_eq!(request(kind, 0, Some((4096, !writable))), io, "data in the wrong direction");
        }
        assert_eq!(request(TYPE_GET_ID, 0, Some((19, true))), io);
        assert_eq!(zeroing(TYPE_DISCARD, 1, 8, 0), io);
        assert_eq!(zeroing(TYPE_DISCARD, 0, 7, 0), io);
        assert_eq!(zeroing(TYPE_DISCARD, 0, 0, 0), io);
        assert_eq!(zeroing(TYPE_WRITE_ZEROES, (CAPACITY - 1) * 8, 16, 0), io);
        assert_eq!(request(TYPE_DISCARD, 0, Some((32, false))), io, "two ranges are more than was offered");
    }

    #[test]
    fn unknown_types_and_flags_are_unsupported() {
        for kind in [2, 3, 5, 10, 14, u32::MAX] {
            assert_eq!(request(kind, 0, Some((4096, false))), Err(Status::Unsupported));
        }
        assert_eq!(zeroing(TYPE_DISCARD, 0, 8, FLAG_UNMAP), Err(Status::Unsupported));
        assert_eq!(zeroing(TYPE_WRITE_ZEROES, 0, 8, 2), Err(Status::Unsupported));
    }

    #[test]
    fn good_requests_are_understood() {
        assert_eq!(request(TYPE_IN, 16, Some((8192, true))), Ok(Operation::Read { block: 2, blocks: 2 }));
        let last = (CAPACITY - 1) * 8;
        assert_eq!(
            request(TYPE_OUT, last, Some((4096, false))),
            Ok(Operation::Write { block: CAPACITY - 1, blocks: 1 })
        );
        assert_eq!(request(TYPE_FLUSH, 0, None), Ok(Operation::Flush));
        assert_eq!(request(TYPE_GET_ID, 0, Some((20, true))), Ok(Operation::GetId));
        assert_eq!(zeroing(TYPE_DISCARD, 8, 16, 0), Ok(Operation::Discard { block: 1, blocks: 2 }));
        assert_eq!(zeroing(TYPE_WRITE_ZEROES, 8, 8, 1), Ok(Operation::WriteZeroes { block: 1, blocks: 1 }));
    }

    #[test]
    fn the_framing_is_the_drivers_choice() {
        let ram = Ram::new(0x4000);
        // Header in three pieces, the last shared with the data; data and status share one too in the read.
        ram.put(HEADER, &header(TYPE_OUT, 8));
        let data: Vec<u8> = (0..4096).map(|i| i as u8).collect();
        ram.put(HEADER + 16, &data);
        let mut write = chain(&[
            (HEADER, 3, false),
            (HEADER + 3, 9, false),
            (HEADER + 12, 1004, false),
            (HEADER + 1016, 3096, false),
            (STATUS, 1, true),
        ]);
        let parsed = parse(&ram, &mut write, CAPACITY).unwrap();
        assert_eq!(parsed.operation, Ok(Operation::Write { block: 1, blocks: 1 }));
        let mut out = vec![0; 4096];
        write.gather(&ram, 0, &mut out).unwrap();
        assert_eq!(out, data);
        ram.put(HEADER, &header(TYPE_IN, 8));
        let mut read = chain(&[(HEADER, 16, false), (DATA, 4097, true)]);
        let parsed = parse(&ram, &mut read, CAPACITY).unwrap();
        assert_eq!(parsed.operation, Ok(Operation::Read { block: 1, blocks: 1 }));
        assert_eq!(parsed.status_address, DATA + 4096);
        assert_eq!(parsed.answer(&ram, Status::Ok, 4096), 4097);
        assert_eq!(parsed.answer(&ram, Status::IoError, 4096), 0, "a failed read promises no bytes");
    }

    #[test]
    fn the_configuration_says_what_is_served() {
        let words = config(0x1_0000_0000);
        assert_eq!((words[0], words[1]), (0, 8));
        assert_eq!((words[3], words[5]), (SEG_MAX, BLOCK_BYTES));
        assert_eq!(words[9], 262_144);
    }
}
