//! A disk in memory, for tests: it completes out of order, when told to, and fails where told to.
//!
//! It keeps two images, what reads see and what a power cut leaves: a write lands in the first at completion, a flush carries
//! the first over to the second, and [`RamDisk::cut`] keeps any subset of the unflushed blocks.

use alloc::{boxed::Box, collections::BTreeSet, vec, vec::Vec};

use crate::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Error, Refused, pool::Pool};

/// Requests in flight.
const DEPTH: usize = 64;

#[derive(Debug)]
enum Kind {
    Read(u64),
    Write(u64),
    Flush,
}

#[derive(Debug)]
struct Pending {
    tag: u32,
    kind: Kind,
    buffer: Option<Buffer>,
}

/// A disk in memory.
#[derive(Debug)]
pub struct RamDisk {
    image: Vec<u8>,
    durable: Vec<u8>,
    unflushed: BTreeSet<u64>,
    buffers: Box<[u8]>,
    pool: Pool,
    pending: Vec<Pending>,
    seed: u64,
    /// How many requests may complete before the disk falls silent; tests add to it.
    pub credit: usize,
    /// Blocks whose reads and writes fail.
    pub bad_blocks: BTreeSet<u64>,
    /// Blocks to which writes happen, and are answered with an error.
    pub bad_answers: BTreeSet<u64>,
    /// Blocks whose reads and writes stay under way.
    pub held_blocks: BTreeSet<u64>,
    /// Whether flushes fail.
    pub bad_flush: bool,
    /// Blocks in the order in which writes to them completed.
    pub writes: Vec<u64>,
    /// Flushes that completed.
    pub flushes: usize,
    /// Requests that were started.
    pub requests: usize,
}

impl RamDisk {
    /// A disk with the contents of `image` (a multiple of 4 KiB), `buffers` DMA blocks, and an order of completion that
    /// `seed` decides. It completes everything at once until [`credit`](Self::credit) is lowered.
    pub fn new(image: Vec<u8>, buffers: usize, seed: u64) -> RamDisk {
        assert!(image.len().is_multiple_of(BLOCK_BYTES), "a disk is whole blocks");
        RamDisk {
            durable: image.clone(),
            image,
            unflushed: BTreeSet::new(),
            buffers: vec![0; buffers * BLOCK_BYTES].into_boxed_slice(),
            pool: Pool::new(buffers),
            pending: Vec::new(),
            seed,
            credit: usize::MAX,
            bad_blocks: BTreeSet::new(),
            bad_answers: BTreeSet::new(),
            held_blocks: BTreeSet::new(),
            bad_flush: false,
            writes: Vec::new(),
            flushes: 0,
            requests: 0,
        }
    }

    /// What reads see.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// Changes what reads see, behind everyone's back.
    pub fn image_mut(&mut self) -> &mut [u8] {
        &mut self.image
    }

    /// Free DMA blocks.
    pub fn free_buffers(&self) -> usize {
        self.pool.free_blocks()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// What a power cut leaves: flushed blocks, and those unflushed ones that `keep` chooses. Requests under way are lost.
    pub fn cut(&self, mut keep: impl FnMut(u64) -> bool) -> Vec<u8> {
        let mut image = self.durable.clone();
        for &block in self.unflushed.iter().filter(|&&block| keep(block)) {
            let range = bytes_of(block, 1);
            image[range.clone()].copy_from_slice(&self.image[range]);
        }
        image
    }

    fn start(&mut self, tag: u32, kind: Kind, buffer: Option<Buffer>) -> Result<(), Refused> {
        if self.room() == 0 {
            return Err(Refused(buffer));
        }
        self.requests += 1;
        self.pending.push(Pending { tag, kind, buffer });
        Ok(())
    }

    fn is_held(&self, pending: &Pending) -> bool {
        let (Kind::Read(block) | Kind::Write(block)) = pending.kind else { return false };
        let blocks = pending.buffer.as_ref().map_or(0, Buffer::blocks) as u64;
        self.held_blocks.range(block..block + blocks).next().is_some()
    }

    fn perform(&mut self, pending: &Pending) -> Result<(), Error> {
        let blocks = pending.buffer.as_ref().map_or(0, Buffer::blocks);
        let (Kind::Read(block) | Kind::Write(block)) = pending.kind else {
            return self.perform_flush();
        };
        let range = bytes_of(block, blocks);
        if range.end > self.image.len() || (block..block + blocks as u64).any(|b| self.bad_blocks.contains(&b)) {
            return Err(Error::Io);
        }
        let first = pending.buffer.as_ref().map_or(0, Buffer::first);
        let held = first * BLOCK_BYTES..(first + blocks) * BLOCK_BYTES;
        if matches!(pending.kind, Kind::Read(_)) {
            self.buffers[held].copy_from_slice(&self.image[range]);
        } else {
            self.image[range].copy_from_slice(&self.buffers[held]);
            self.unflushed.extend(block..block + blocks as u64);
            self.writes.extend(block..block + blocks as u64);
            if (block..block + blocks as u64).any(|block| self.bad_answers.contains(&block)) {
                return Err(Error::Io);
            }
        }
        Ok(())
    }

    fn perform_flush(&mut self) -> Result<(), Error> {
        if self.bad_flush {
            return Err(Error::Io);
        }
        for block in core::mem::take(&mut self.unflushed) {
            let range = bytes_of(block, 1);
            self.durable[range.clone()].copy_from_slice(&self.image[range]);
        }
        self.flushes += 1;
        Ok(())
    }

    /// The next number of a fixed sequence (xorshift64*).
    fn random(&mut self) -> u64 {
        self.seed |= 1;
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

fn bytes_of(block: u64, blocks: usize) -> core::ops::Range<usize> {
    let start = block as usize * BLOCK_BYTES;
    start..start + blocks * BLOCK_BYTES
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        (self.image.len() / BLOCK_BYTES) as u64
    }

    fn room(&self) -> usize {
        DEPTH - self.pending.len()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        &mut self.buffers[buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES]
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.start(tag, Kind::Read(block), Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.start(tag, Kind::Write(block), Some(buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.start(tag, Kind::Flush, None)
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        let may: Vec<usize> = (0..self.pending.len()).filter(|&index| !self.is_held(&self.pending[index])).collect();
        if may.is_empty() || self.credit == 0 {
            return None;
        }
        self.credit -= usize::from(self.credit != usize::MAX);
        let index = may[(self.random() % may.len() as u64) as usize];
        let pending = self.pending.swap_remove(index);
        let result = self.perform(&pending);
        Some(Completion { tag: pending.tag, result, buffer: pending.buffer })
    }
}
