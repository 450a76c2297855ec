//! A pool in files, worked on with the engine that the secure domain runs.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anchor::flash::DevelopmentAnchor;
use anyhow::{Context, Result, bail, ensure};
use block::{BLOCK_BYTES, Partition};
use keystore::RootKey;
use volume::{
    Command, Event, Fault, FormatOptions, Operation, Options, Policy, Pool, Random, RandomFailed, Recovery, Status,
    Transfer, VolumeInfo,
};

use super::file_disk::FileDisk;
use super::file_flash::FileFlash;

/// Blocks of one request.
const RUN_BLOCKS: u32 = 32;
/// Requests under way at a time.
const DEPTH: usize = 32;
/// How often the engine may be asked to go on for one answer. Files answer at once, so it needs a few thousand at most.
const PATIENCE: usize = 1 << 24;

/// A member of a pool: a partition of an image, or all of it.
pub(super) type Member = Partition<FileDisk>;

/// A mounted pool.
pub struct HostPool {
    pool: Pool<Member, DevelopmentAnchor<FileFlash>>,
    slots: Slots,
}

/// What a mount may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, to disks or anchor.
    ReadOnly,
    /// As the secure domain does.
    ReadWrite,
}

/// The payloads of the requests under way: [`RUN_BLOCKS`] blocks each.
struct Slots {
    bytes: Vec<u8>,
    free: Vec<u32>,
}

const SLOT_BYTES: usize = RUN_BLOCKS as usize * BLOCK_BYTES;

impl Slots {
    fn new() -> Self {
        Self { bytes: vec![0; DEPTH * SLOT_BYTES], free: (0..DEPTH as u32).collect() }
    }

    fn bytes(&mut self, slot: u32) -> &mut [u8] {
        &mut self.bytes[slot as usize * SLOT_BYTES..][..SLOT_BYTES]
    }
}

impl Transfer for Slots {
    fn gather(&mut self, _: u32, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        out.copy_from_slice(&self.bytes(cookie)[offset as usize..][..out.len()]);
        Ok(())
    }

    fn scatter(&mut self, _: u32, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        self.bytes(cookie)[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl HostPool {
    /// Makes a new, empty pool of disks, and binds the anchor to it.
    ///
    /// # Errors
    /// Why a disk is none that a pool can be made of.
    pub(super) fn format(members: Vec<Member>, anchor: &Path, root: &RootKey, new: &FormatOptions) -> Result<Self> {
        let anchor = DevelopmentAnchor::new(FileFlash::open(anchor, true)?, root.anchor_key()?)?;
        let pool = volume::format(members, anchor, root, random(), new, &options(Access::ReadWrite, false), || true);
        Ok(Self { pool: pool.map_err(|error| anyhow::anyhow!("{error}"))?, slots: Slots::new() })
    }

    /// Mounts the pool on `members`; if it is `degraded`, though some are missing.
    ///
    /// # Errors
    /// Why it is none that the holder of the root key and the anchor can believe.
    pub(super) fn mount(
        members: Vec<Member>,
        anchor: &Path,
        root: &RootKey,
        access: Access,
        degraded: bool,
    ) -> Result<(Self, Recovery)> {
        let anchor = FileFlash::open(anchor, access == Access::ReadWrite)?;
        let anchor = DevelopmentAnchor::new(anchor, root.anchor_key()?)?;
        let mounted = volume::mount(members, anchor, root, random(), &options(access, degraded), || true);
        let (pool, recovery) = mounted.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok((Self { pool, slots: Slots::new() }, recovery))
    }

    /// The engine.
    pub fn pool(&self) -> &Pool<Partition<FileDisk>, DevelopmentAnchor<FileFlash>> {
        &self.pool
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn volume(&self, name: &str) -> Result<VolumeInfo> {
        let found = self.pool.volumes().find(|volume| volume.name == name);
        found.with_context(|| format!("the pool has no volume `{name}`"))
    }

    /// Has a command done.
    ///
    /// # Errors
    /// Why the pool refuses it, or failed.
    pub fn command(&mut self, command: Command) -> Result<()> {
        let what = format!("{command:?}");
        ensure!(self.pool.command(0, command).is_ok(), "a command is under way");
        match self.next_answer()? {
            (_, Status::Ok) => Ok(()),
            (_, status) => bail!("{what}: {status}"),
        }
    }

    /// Writes `blocks` of `volume` from `block` on, as `fill` makes them; `fill` is given the first block of each run and its bytes, and
    /// says whether there is anything but zeros in it: such runs are left unwritten. `progress` is told the blocks done.
    ///
    /// # Errors
    /// What `fill` says, or that a write failed.
    pub fn write(
        &mut self,
        volume: u32,
        blocks: u64,
        mut fill: impl FnMut(u64, &mut [u8]) -> Result<bool>,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        let (mut next, mut written) = (0, 0);
        while next < blocks || self.slots.free.len() < DEPTH {
            match self.slots.free.last().copied() {
                Some(slot) if next < blocks => {
                    let count = (blocks - next).min(u64::from(RUN_BLOCKS)) as u32;
                    let bytes = &mut self.slots.bytes(slot)[..count as usize * BLOCK_BYTES];
                    if fill(next, bytes)? {
                        self.slots.free.pop();
                        self.submit(volume, slot, Operation::Write { block: next, blocks: count })?;
                        written += u64::from(count);
                    }
                    next += u64::from(count);
                    progress(next);
                }
                _ => {
                    let (slot, status) = self.next_answer()?;
                    ensure!(status == Status::Ok, "a write failed: {status:?}");
                    self.slots.free.push(slot);
                }
            }
        }
        Ok(written)
    }

    /// Reads `blocks` blocks of `volume` one by one from `block` on; `take` is told what each is, `None` for one that cannot be had.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn read(&mut self, volume: u32, blocks: u64, mut take: impl FnMut(u64, Option<&[u8]>)) -> Result<()> {
        for block in 0..blocks {
            self.submit(volume, 0, Operation::Read { block, blocks: 1 })?;
            let (slot, status) = self.next_answer()?;
            let bytes = &self.slots.bytes(slot)[..BLOCK_BYTES];
            take(block, (status == Status::Ok).then_some(bytes));
        }
        Ok(())
    }

    /// What the engine has to say since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.pool.next_event()).collect()
    }

    /// Makes everything durable and anchored, and ends.
    ///
    /// # Errors
    /// When that fails.
    pub fn close(mut self) -> Result<()> {
        let any = self.pool.volumes().next();
        if let Some(volume) = any {
            self.submit(volume.number, 0, Operation::Sync)?;
            let (_, status) = self.next_answer()?;
            ensure!(status == Status::Ok, "the last writes could not be made durable: {status:?}");
        }
        self.pool.anchor_mut().registers().check()
    }

    fn submit(&mut self, volume: u32, cookie: u32, operation: Operation) -> Result<()> {
        ensure!(self.pool.submit(volume, cookie, operation).is_ok(), "the pool takes no request");
        Ok(())
    }

    /// Drives the engine to the next answer.
    fn next_answer(&mut self) -> Result<(u32, Status)> {
        for now_ms in 0..PATIENCE {
            if let Some(done) = self.pool.next_done() {
                return Ok((done.cookie, done.status));
            }
            self.pool.advance(now_ms as u64, &mut self.slots);
        }
        bail!("the pool gives no answer")
    }
}

fn options(access: Access, degraded: bool) -> Options {
    Options {
        policy: Policy::Bulk { window_ms: u64::MAX },
        read_only: access == Access::ReadOnly,
        degraded,
        ..Options::default()
    }
}

fn random() -> Random {
    Box::new(|out| File::open("/dev/urandom").and_then(|mut file| file.read_exact(out)).map_err(|_| RandomFailed))
}
