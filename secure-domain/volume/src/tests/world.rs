//! A small world: disks and an anchor in memory, and a guest whose payloads are vectors.

use std::{boxed::Box, collections::BTreeMap, collections::BTreeSet, vec, vec::Vec};

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use crypto::{Suite, host, module::Module};
use keystore::RootKey;

use crate::{
    BLOCK_BYTES, Command, Done, Error, Event, Fault, FormatOptions, Layout, Name, Operation, Options, POOL, Policy,
    Pool, Random, Recovery, Status, Transfer, format, mount,
};

/// Blocks of a small disk: 4 extents fit.
pub(super) const DISK: u64 = 4500;
/// DMA buffers of a disk.
pub(super) const BUFFERS: usize = 256;

pub(super) type TestPool = Pool<RamDisk, RamAnchor>;

pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

pub(super) fn root() -> RootKey {
    root_of(host::module())
}

/// The root key as another module has it.
pub(super) fn root_of(module: &'static Module) -> RootKey {
    RootKey::from_huk(module, &[0x48; 32]).unwrap()
}

/// Numbers that look random enough for keys of tests.
pub(super) fn random() -> Random {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Box::new(|out: &mut [u8]| {
        for byte in out {
            *byte = (NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        Ok(())
    })
}

pub(super) fn options() -> Options {
    Options {
        cache_blocks: 160,
        reservation: 1 << 16,
        uncovered_limit: 800,
        tree_budget: 32,
        policy: Policy::Bulk { window_ms: 1000 },
        read_only: false,
        degraded: false,
    }
}

pub(super) fn blank(blocks: u64, seed: u64) -> RamDisk {
    RamDisk::new(vec![0xee; blocks as usize * BLOCK_BYTES], BUFFERS, seed)
}

/// The guest: payloads by volume and cookie, and the nonces that were used.
#[derive(Default)]
pub(super) struct Guest {
    pub(super) payloads: BTreeMap<(u32, u32), Vec<u8>>,
    pub(super) nonces: BTreeSet<(u32, u16, u64)>,
}

impl Transfer for Guest {
    fn gather(&mut self, volume: u32, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        let payload = self.payloads.get(&(volume, cookie)).ok_or(Fault)?;
        out.copy_from_slice(payload.get(offset as usize..offset as usize + out.len()).ok_or(Fault)?);
        Ok(())
    }

    fn scatter(&mut self, volume: u32, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        let payload = self.payloads.get_mut(&(volume, cookie)).ok_or(Fault)?;
        payload.get_mut(offset as usize..offset as usize + data.len()).ok_or(Fault)?.copy_from_slice(data);
        Ok(())
    }

    fn sealed(&mut self, volume: u32, epoch: u16, version: u64) {
        assert!(self.nonces.insert((volume, epoch, version)), "version {version} of volume {volume} was used twice");
    }
}

pub(super) struct World {
    pub(super) pool: TestPool,
    pub(super) guest: Guest,
    pub(super) now_ms: u64,
    next_cookie: u32,
    done: BTreeMap<(u32, u32), Status>,
}

impl World {
    pub(super) fn with(pool: TestPool) -> World {
        World { pool, guest: Guest::default(), now_ms: 0, next_cookie: 0, done: BTreeMap::new() }
    }

    /// A new pool over `disks`.
    pub(super) fn format(disks: Vec<RamDisk>, new: &FormatOptions) -> World {
        let options = Options { degraded: true, ..options() };
        World::with(format(disks, RamAnchor::new(), &root(), random(), new, &options, || true).unwrap())
    }

    /// A new pool over one small disk with one linear volume (number 1) of `blocks` blocks.
    pub(super) fn small(blocks: u64, suite: Suite) -> World {
        let mut world =
            World::format(vec![blank(DISK, 1)], &FormatOptions { log_blocks: Some(64), torn_sectors: false });
        assert_eq!(world.create("one", Layout::Linear, blocks, suite), Status::Ok);
        world
    }

    pub(super) fn create(&mut self, name: &str, layout: Layout, blocks: u64, suite: Suite) -> Status {
        self.command(Command::Create { name: Name::new(name).unwrap(), layout, blocks, suite })
    }

    pub(super) fn command(&mut self, command: Command) -> Status {
        let cookie = self.cookie();
        self.pool.command(cookie, command).unwrap();
        self.settle();
        self.done.remove(&(POOL, cookie)).expect("a settled command is answered")
    }

    fn cookie(&mut self) -> u32 {
        self.next_cookie += 1;
        self.next_cookie
    }

    /// Submits a write; returns its cookie.
    pub(super) fn post_write(&mut self, volume: u32, block: u64, data: Vec<u8>) -> u32 {
        let (cookie, blocks) = (self.cookie(), (data.len() / BLOCK_BYTES) as u32);
        self.guest.payloads.insert((volume, cookie), data);
        self.pool.submit(volume, cookie, Operation::Write { block, blocks }).unwrap();
        cookie
    }

    pub(super) fn post_read(&mut self, volume: u32, block: u64, blocks: u32) -> u32 {
        let cookie = self.cookie();
        self.guest.payloads.insert((volume, cookie), vec![0xdd; blocks as usize * BLOCK_BYTES]);
        self.pool.submit(volume, cookie, Operation::Read { block, blocks }).unwrap();
        cookie
    }

    pub(super) fn post(&mut self, volume: u32, operation: Operation) -> u32 {
        let cookie = self.cookie();
        self.pool.submit(volume, cookie, operation).unwrap();
        cookie
    }

    /// One call of the engine.
    pub(super) fn step(&mut self) -> bool {
        let again = self.pool.advance(self.now_ms, &mut self.guest);
        while let Some(Done { volume, cookie, status }) = self.pool.next_done() {
            assert!(self.done.insert((volume, cookie), status).is_none(), "answered twice");
        }
        again
    }

    /// The answer to a request, if there is one: status and payload.
    pub(super) fn answer(&mut self, volume: u32, cookie: u32) -> Option<(Status, Vec<u8>)> {
        let status = self.done.remove(&(volume, cookie))?;
        Some((status, self.guest.payloads.remove(&(volume, cookie)).unwrap_or_default()))
    }

    /// Serves until nothing is under way.
    pub(super) fn settle(&mut self) {
        for _ in 0..20_000 {
            self.step();
            if self.pool.is_idle() {
                return;
            }
        }
        panic!("requests hang");
    }

    pub(super) fn write(&mut self, volume: u32, block: u64, data: Vec<u8>) -> Status {
        let cookie = self.post_write(volume, block, data);
        self.settle();
        self.answer(volume, cookie).unwrap().0
    }

    /// Writes a block, and waits for no more than that.
    pub(super) fn write_some(&mut self, volume: u32, block: u64, value: u32) -> Status {
        let cookie = self.post_write(volume, block, filled(value));
        for _ in 0..1000 {
            self.step();
            if let Some((status, _)) = self.answer(volume, cookie) {
                return status;
            }
        }
        panic!("a write hangs");
    }

    pub(super) fn read(&mut self, volume: u32, block: u64, blocks: u32) -> (Status, Vec<u8>) {
        let cookie = self.post_read(volume, block, blocks);
        self.settle();
        self.answer(volume, cookie).unwrap()
    }

    pub(super) fn run(&mut self, volume: u32, operation: Operation) -> Status {
        let cookie = self.post(volume, operation);
        self.settle();
        self.answer(volume, cookie).unwrap().0
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.pool.next_event()).collect()
    }

    /// What a power cut leaves: of each disk the flushed blocks and those that `keep` chooses, and the anchor.
    pub(super) fn cut(self, mut keep: impl FnMut(u64) -> bool) -> (Vec<Vec<u8>>, RamAnchor) {
        let (disks, mut anchor) = self.pool.into_parts();
        anchor.cut(keep(u64::MAX));
        (disks.iter().map(|disk| disk.cut(&mut keep)).collect(), anchor)
    }

    /// Mounts what is left.
    pub(super) fn mount(images: Vec<Vec<u8>>, anchor: RamAnchor) -> Result<(World, Recovery), Error> {
        World::mount_with(images, anchor, &options())
    }

    fn mount_with(images: Vec<Vec<u8>>, anchor: RamAnchor, options: &Options) -> Result<(World, Recovery), Error> {
        let disks = images.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
        let (pool, recovery) = mount(disks, anchor, &root(), random(), options, || true)?;
        Ok((World::with(pool), recovery))
    }

    /// A power cut that loses all that was not flushed, and a mount.
    pub(super) fn restart(mut self) -> (World, Recovery) {
        let (guest, now_ms) = (core::mem::take(&mut self.guest), self.now_ms);
        let (images, anchor) = self.cut(|_| false);
        let options = Options { degraded: true, ..options() };
        let (mut world, recovery) = World::mount_with(images, anchor, &options).unwrap();
        (world.guest.nonces, world.now_ms) = (guest.nonces, now_ms);
        (world, recovery)
    }
}

/// A block full of `value`.
pub(super) fn filled(value: u32) -> Vec<u8> {
    value.to_le_bytes().repeat(BLOCK_BYTES / 4)
}

/// The value that a block is full of; panics on a mixed block.
pub(super) fn value(block: &[u8]) -> u32 {
    let (first, _) = block.split_first_chunk::<4>().unwrap();
    assert!(block.chunks_exact(4).all(|word| word == first), "a block mixes two writes");
    u32::from_le_bytes(*first)
}
