//! Whole disks: a sound one with anything written over any of its blocks, mounted and read.

use std::sync::OnceLock;

use anchor::{Snapshot, ram::RamAnchor};
use block::ram::RamDisk;
use crypto::{Suite, host};
use keystore::RootKey;
use volume::{
    BLOCK_BYTES, Command, Fault, FormatOptions, Layout, Name, Operation, Options, Pool, Random, Status, Transfer,
    format, mount,
};

/// A disk of one extent and what comes before it.
const BLOCKS: usize = 1200;
/// Blocks of its volume that are written.
const WRITTEN: u32 = 20;

pub(super) fn root() -> RootKey {
    RootKey::from_huk(host::module(), &[7; 32]).expect("the module serves")
}

pub(super) fn random() -> Random {
    let mut next = 1u8;
    Box::new(move |out: &mut [u8]| {
        out.iter_mut().for_each(|byte| {
            next = next.wrapping_mul(5).wrapping_add(3);
            *byte = next;
        });
        Ok(())
    })
}

pub(super) fn options() -> Options {
    Options { cache_blocks: 128, ..Options::default() }
}

/// A guest whose blocks are all full of threes, and who insists on that.
struct Threes;

impl Transfer for Threes {
    fn gather(&mut self, _: u32, _: u32, _: u32, out: &mut [u8]) -> Result<(), Fault> {
        out.fill(3);
        Ok(())
    }

    fn scatter(&mut self, _: u32, _: u32, _: u32, data: &[u8]) -> Result<(), Fault> {
        assert!(data.iter().all(|byte| *byte == 3) || data.iter().all(|byte| *byte == 0), "forged plaintext");
        Ok(())
    }
}

fn settle(pool: &mut Pool<RamDisk, RamAnchor>, guest: &mut impl Transfer) -> Vec<Status> {
    let mut answers = Vec::new();
    for _ in 0..2000 {
        pool.advance(0, guest);
        answers.extend(core::iter::from_fn(|| pool.next_done()).map(|done| done.status));
        if pool.is_idle() {
            return answers;
        }
    }
    panic!("requests hang");
}

/// A sound disk with its anchor, made once: half of it synced, the rest only in the log.
pub(super) fn sealed() -> &'static (Vec<u8>, Snapshot) {
    static IMAGE: OnceLock<(Vec<u8>, Snapshot)> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let disk = RamDisk::new(vec![0; BLOCKS * BLOCK_BYTES], 64, 1);
        let new = FormatOptions { log_blocks: Some(64), torn_sectors: false };
        let pool = format(vec![disk], RamAnchor::new(), &root(), random(), &new, &options(), || true);
        let mut pool = pool.expect("a small pool is possible");
        let name = Name::new("fuzz").expect("a short name");
        let create = Command::Create { name, layout: Layout::Linear, blocks: 1000, suite: Suite::Aes128Gcm };
        pool.command(0, create).expect("nothing is under way");
        settle(&mut pool, &mut Threes);
        for operation in [
            Operation::Write { block: 0, blocks: WRITTEN / 2 },
            Operation::Sync,
            Operation::Write { block: u64::from(WRITTEN / 2), blocks: WRITTEN / 2 },
            Operation::Flush,
        ] {
            pool.submit(1, 0, operation).expect("there is room");
            assert_eq!(settle(&mut pool, &mut Threes), [Status::Ok]);
        }
        (pool.member(0).cut(|_| false), pool.anchor().snapshot())
    })
}

/// Ten bytes at a time say which block is changed, where and how; then the disk is mounted, read and written.
pub fn run(data: &[u8]) {
    let (image, snapshot) = sealed();
    let mut image = image.clone();
    for change in data.chunks_exact(10).take(64) {
        let block = usize::from(u16::from_le_bytes([change[0], change[1]])) % BLOCKS;
        let at = block * BLOCK_BYTES + usize::from(u16::from_le_bytes([change[2], change[3]])) % (BLOCK_BYTES - 8);
        match change[4] % 4 {
            0 => image[at] ^= change[5],
            1 => image[at..at + 5].copy_from_slice(&change[5..]),
            2 => image[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES].fill(change[5]),
            _ => {
                let from = usize::from(u16::from_le_bytes([change[5], change[6]])) % BLOCKS * BLOCK_BYTES;
                image.copy_within(from..from + BLOCK_BYTES, block * BLOCK_BYTES);
            }
        }
    }
    let before = image.clone();
    let disk = RamDisk::new(image, 64, 1);
    let mut patience = 100_000;
    let idle = || {
        patience -= 1;
        patience != 0
    };
    let Ok((mut pool, recovery)) =
        mount(vec![disk], RamAnchor::with(snapshot.clone()), &root(), random(), &options(), idle)
    else {
        return;
    };
    for (block, blocks) in [(0, WRITTEN), (500, 10)] {
        pool.submit(1, 1, Operation::Read { block, blocks }).expect("there is room");
    }
    pool.submit(1, 2, Operation::Write { block: 3, blocks: 2 }).expect("there is room");
    settle(&mut pool, &mut Threes);
    assert!(recovery.bad <= u64::from(WRITTEN), "more blocks are bad than were written");
    assert_eq!(before.len(), pool.member(0).image().len());
}
