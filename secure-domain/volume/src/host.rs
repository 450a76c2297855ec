//! The engine for tools that can wait: pools over files, one request at a time.
//!
//! The records, the sealing and the recovery are the secure domain's own; only the waiting is added. [`Host`] is a mounted pool;
//! [`Host::seal`] makes a volume of a plain image, [`Host::check`] opens every block of one, [`inspect`] tells what a disk claims to be
//! without an anchor and without writing.

use alloc::{collections::VecDeque, vec, vec::Vec};

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, Completion, Refused};
use keystore::RootKey;

use crate::{
    BLOCK_BYTES, Command, Done, Error, Event, Fault, FormatOptions, Operation, Options, Pool, Random, Recovery, Status,
    Transfer, VolumeInfo,
    record::{geometry::RING_BLOCKS, superblock::Superblock},
};

/// Blocks of the largest transfer: 1 MiB.
const CHUNK: usize = 256;
/// DMA buffers that a file pretends to have.
const BUFFERS: usize = 1024;
/// Requests that a file takes at a time.
const DEPTH: usize = 64;

/// A disk that can be waited for, in blocks of 4 KiB.
pub trait Store {
    /// What can go wrong.
    type Error;

    /// Its length in blocks.
    fn blocks(&self) -> u64;

    /// Reads `out.len() / 4096` blocks from `block` on.
    ///
    /// # Errors
    /// When the disk fails.
    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `data.len() / 4096` blocks from `block` on.
    ///
    /// # Errors
    /// When the disk fails.
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Makes all writes durable.
    ///
    /// # Errors
    /// When the disk fails.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// A [`Store`] as a disk that has done everything as soon as it is asked.
#[derive(Debug)]
pub struct StoreDisk<S> {
    store: S,
    bytes: Vec<u8>,
    buffers: block::pool::Pool,
    done: VecDeque<Completion>,
}

impl<S: Store> StoreDisk<S> {
    /// A disk over `store`.
    pub fn new(store: S) -> StoreDisk<S> {
        let buffers = block::pool::Pool::new(BUFFERS);
        StoreDisk { store, bytes: vec![0; BUFFERS * BLOCK_BYTES], buffers, done: VecDeque::with_capacity(DEPTH) }
    }

    /// Gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    fn range(buffer: &Buffer) -> core::ops::Range<usize> {
        buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES
    }

    fn finish(&mut self, tag: u32, result: Result<(), S::Error>, buffer: Option<Buffer>) {
        self.done.push_back(Completion { tag, result: result.map_err(|_| block::Error::Io), buffer });
    }
}

impl<S: Store> BlockDevice for StoreDisk<S> {
    fn blocks(&self) -> u64 {
        self.store.blocks()
    }

    fn room(&self) -> usize {
        DEPTH - self.done.len()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.buffers.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.buffers.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        &mut self.bytes[Self::range(buffer)]
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let result = self.store.read(block, &mut self.bytes[Self::range(&buffer)]);
        self.finish(tag, result, Some(buffer));
        Ok(())
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let result = self.store.write(block, &self.bytes[Self::range(&buffer)]);
        self.finish(tag, result, Some(buffer));
        Ok(())
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        let result = self.store.flush();
        self.finish(tag, result, None);
        Ok(())
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}

/// Why a tool's request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The plain image failed.
    Image(E),
    /// The pool is none that can be served.
    Volume(Error),
    /// The pool refused or failed the request.
    Status(Status),
}

impl<E: core::fmt::Display> core::fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Failure::Image(error) => error.fmt(f),
            Failure::Volume(error) => error.fmt(f),
            Failure::Status(status) => status.fmt(f),
        }
    }
}

/// How many blocks a [`Host::seal`] or [`Host::check`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blocks with something in them.
    pub sealed: u64,
    /// Blocks of zeros.
    pub zero: u64,
    /// Blocks that could not be read or did not verify.
    pub bad: u64,
    /// The first bad blocks, at most 16.
    pub first_bad: Vec<u64>,
}

/// A mounted pool over stores, used by one caller who waits.
pub struct Host<S: Store, A> {
    pool: Pool<StoreDisk<S>, A>,
}

/// The payload of the one request under way.
struct Payload<'a> {
    data: &'a mut [u8],
}

impl Transfer for Payload<'_> {
    fn gather(&mut self, _: u32, _: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        out.copy_from_slice(self.data.get(offset as usize..offset as usize + out.len()).ok_or(Fault)?);
        Ok(())
    }

    fn scatter(&mut self, _: u32, _: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        self.data.get_mut(offset as usize..offset as usize + data.len()).ok_or(Fault)?.copy_from_slice(data);
        Ok(())
    }
}

impl<S: Store, A: MonotonicStore> Host<S, A> {
    /// Makes a new pool of `stores`, whatever they held, and binds `anchor` to it.
    ///
    /// # Errors
    /// As [`crate::format`].
    pub fn format(
        stores: Vec<S>,
        anchor: A,
        root: &RootKey,
        random: Random,
        new: &FormatOptions,
        options: &Options,
    ) -> Result<Host<S, A>, Error> {
        let disks = stores.into_iter().map(StoreDisk::new).collect();
        crate::format(disks, anchor, root, random, new, options, patience()).map(|pool| Host { pool })
    }

    /// Mounts the pool on `stores`.
    ///
    /// # Errors
    /// As [`crate::mount`].
    pub fn mount(
        stores: Vec<S>,
        anchor: A,
        root: &RootKey,
        random: Random,
        options: &Options,
    ) -> Result<(Host<S, A>, Recovery), Error> {
        let disks = stores.into_iter().map(StoreDisk::new).collect();
        crate::mount(disks, anchor, root, random, options, patience()).map(|(pool, recovery)| (Host { pool }, recovery))
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<StoreDisk<S>, A> {
        &self.pool
    }

    /// The volumes.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        self.pool.volumes().collect()
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        self.pool.next_event()
    }

    /// Carries out a command, and what it sets off in the background, to the end.
    ///
    /// # Errors
    /// Its status, unless that is [`Status::Ok`].
    pub fn command(&mut self, command: Command) -> Result<(), Status> {
        self.pool.command(0, command).map_err(|_| Status::IoError)?;
        self.finish(&mut [])
    }

    /// Reads whole blocks from `block` on.
    ///
    /// # Errors
    /// [`Status::IoError`]; what cannot be verified is not in `out`.
    pub fn read(&mut self, volume: u32, block: u64, out: &mut [u8]) -> Result<(), Status> {
        self.run(volume, Operation::Read { block, blocks: (out.len() / BLOCK_BYTES) as u32 }, out)
    }

    /// Writes whole blocks from `block` on. `data` is not changed.
    ///
    /// # Errors
    /// [`Status::IoError`] or [`Status::NoSpace`].
    pub fn write(&mut self, volume: u32, block: u64, data: &mut [u8]) -> Result<(), Status> {
        self.run(volume, Operation::Write { block, blocks: (data.len() / BLOCK_BYTES) as u32 }, data)
    }

    /// Makes everything durable, in order and anchored.
    ///
    /// # Errors
    /// [`Status::IoError`].
    pub fn sync(&mut self, volume: u32) -> Result<(), Status> {
        self.run(volume, Operation::Sync, &mut [])
    }

    /// Gives stores and anchor back. Call [`sync`](Self::sync) before.
    pub fn into_parts(self) -> (Vec<S>, A) {
        let (disks, anchor) = self.pool.into_parts();
        (disks.into_iter().map(StoreDisk::into_store).collect(), anchor)
    }

    /// Writes the blocks of `image` to the volume, from its first block on, those of zeros left out, and makes that durable. The
    /// volume must be new. `progress` is told blocks done and blocks in all.
    ///
    /// # Errors
    /// What failed; the volume then holds a part.
    pub fn seal<I: Store>(
        &mut self,
        volume: u32,
        image: &mut I,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Summary, Failure<I::Error>> {
        let (mut summary, mut chunk) = (Summary::default(), vec![0; CHUNK * BLOCK_BYTES]);
        let blocks = image.blocks();
        for first in (0..blocks).step_by(CHUNK) {
            let count = (blocks - first).min(CHUNK as u64) as usize;
            let data = &mut chunk[..count * BLOCK_BYTES];
            image.read(first, data).map_err(Failure::Image)?;
            let mut at = 0;
            for run in data.as_chunks_mut::<BLOCK_BYTES>().0.chunk_by_mut(|a, b| is_zero(a) == is_zero(b)) {
                if is_zero(&run[0]) {
                    summary.zero += run.len() as u64;
                } else {
                    summary.sealed += run.len() as u64;
                    self.write(volume, first + at, run.as_flattened_mut()).map_err(Failure::Status)?;
                }
                at += run.len() as u64;
            }
            progress(first + count as u64, blocks);
        }
        self.sync(volume).map_err(Failure::Status)?;
        Ok(summary)
    }

    /// Opens every block of the volume, and calls `plain(block, bytes)` for each good one.
    ///
    /// # Errors
    /// [`Status::IoError`] if there is no such volume.
    pub fn check(&mut self, volume: u32, mut plain: impl FnMut(u64, &[u8])) -> Result<Summary, Status> {
        let blocks = self.pool.blocks(volume).ok_or(Status::IoError)?;
        let (mut summary, mut chunk) = (Summary::default(), vec![0; CHUNK * BLOCK_BYTES]);
        for first in (0..blocks).step_by(CHUNK) {
            let count = (blocks - first).min(CHUNK as u64) as usize;
            let data = &mut chunk[..count * BLOCK_BYTES];
            let whole = self.read(volume, first, data).is_ok();
            for (block, bytes) in (first..).zip(data.as_chunks_mut::<BLOCK_BYTES>().0) {
                // Of a stretch with something bad in it every block is asked for alone.
                if whole || self.read(volume, block, bytes).is_ok() {
                    *(if is_zero(bytes) { &mut summary.zero } else { &mut summary.sealed }) += 1;
                    plain(block, bytes);
                    continue;
                }
                summary.bad += 1;
                if summary.first_bad.len() < 16 {
                    summary.first_bad.push(block);
                }
            }
        }
        Ok(summary)
    }

    fn run(&mut self, volume: u32, operation: Operation, data: &mut [u8]) -> Result<(), Status> {
        self.pool.submit(volume, 0, operation).map_err(|_| Status::IoError)?;
        self.finish(data)
    }

    /// Serves until the one request, and the background, have come to their end. Bounded: files answer at once, so a pool that
    /// does not move has ended.
    fn finish(&mut self, data: &mut [u8]) -> Result<(), Status> {
        let mut status = Status::IoError;
        let mut payload = Payload { data };
        let mut still = 0;
        while still < 64 {
            let more = self.pool.advance(0, &mut payload);
            while let Some(Done { status: found, .. }) = self.pool.next_done() {
                status = found;
            }
            if self.pool.is_idle() {
                break;
            }
            still = if more { 0 } else { still + 1 };
        }
        if status == Status::Ok { Ok(()) } else { Err(status) }
    }
}

/// Files answer at once; an anchor may take a few turns.
fn patience() -> impl FnMut() -> bool {
    let mut left = 1_000_000u32;
    move || {
        left = left.saturating_sub(1);
        left != 0
    }
}

fn is_zero(block: &[u8; BLOCK_BYTES]) -> bool {
    block.iter().fold(0, |all, byte| all | byte) == 0
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What lies in each place of the ring: `Ok(None)` has no magic.
    pub places: Vec<Result<Option<Superblock>, Error>>,
    /// The newest authentic superblock, with the member it was written to.
    pub newest: Option<(Superblock, usize)>,
}

/// Tells what a disk claims to be. It needs no anchor, so it cannot say whether the disk is fresh.
///
/// # Errors
/// When the disk fails.
pub fn inspect<S: Store>(store: &mut S, root: &RootKey) -> Result<Report, S::Error> {
    let mut report = Report { places: Vec::new(), newest: None };
    let mut bytes = [0; BLOCK_BYTES];
    for place in 0..RING_BLOCKS.min(store.blocks()) {
        store.read(place, &mut bytes)?;
        let found = Superblock::parse(0, &bytes, root);
        if let Ok(Some(found)) = &found
            && report.newest.is_none_or(|(newest, _)| found.superblock.is_newer(&newest))
        {
            report.newest = Some((found.superblock, found.member));
        }
        report.places.push(found.map(|found| found.map(|found| found.superblock)));
    }
    Ok(report)
}
