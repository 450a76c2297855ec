//! Throughput of the engine on a disk in memory, against sealing alone: `cargo run --release -p volume --example bench`.
//!
//! Four loads, 32 requests under way: sequential 128 KiB both ways, random 4 KiB, Zipf 4 KiB. Printed: MB/s, the share of what sealing
//! alone makes of the same load with the same cipher, and device bytes for each guest byte. The name of a suite as argument narrows it.

use std::{collections::VecDeque, hint::black_box, time::Instant};

use anchor::ram::RamAnchor;
use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Refused, pool};
use crypto::{Nonce, Sector, Suite, Tag, host, module::AeadService};
use keystore::RootKey;
use volume::{Command, Fault, FormatOptions, Layout, Name, Operation, Options, Pool, Transfer, format, mount};

const DISK_BLOCKS: usize = 400 << 8;
const VOLUME_BLOCKS: u64 = 256 << 8;
const DEPTH: u32 = 32;
/// Blocks that go through the cipher together.
const BATCH: usize = 16;
/// Rounds of a load, of which the median is printed.
const ROUNDS: u32 = 15;

/// A disk in memory that completes at once and counts.
struct Memory {
    bytes: Vec<u8>,
    buffers: Vec<u8>,
    pool: pool::Pool,
    done: VecDeque<Completion>,
    written: u64,
}

impl Memory {
    fn range(&self, buffer: &Buffer) -> std::ops::Range<usize> {
        buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES
    }

    fn finish(&mut self, tag: u32, buffer: Option<Buffer>) -> Result<(), Refused> {
        self.done.push_back(Completion { tag, result: Ok(()), buffer });
        Ok(())
    }
}

impl BlockDevice for Memory {
    fn blocks(&self) -> u64 {
        DISK_BLOCKS as u64
    }

    fn room(&self) -> usize {
        256 - self.done.len()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        let range = self.range(buffer);
        &mut self.buffers[range]
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        let start = buffer.first() * BLOCK_BYTES;
        Some(&mut self.buffers[start..start + blocks * BLOCK_BYTES])
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let range = self.range(&buffer);
        let at = block as usize * BLOCK_BYTES;
        let len = range.len();
        self.buffers[range].copy_from_slice(&self.bytes[at..at + len]);
        self.finish(tag, Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let range = self.range(&buffer);
        let at = block as usize * BLOCK_BYTES;
        self.written += range.len() as u64;
        let len = range.len();
        self.bytes[at..at + len].copy_from_slice(&self.buffers[range]);
        self.finish(tag, Some(buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.finish(tag, None)
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}

struct Guest(Vec<u8>);

impl Transfer for Guest {
    fn gather(&mut self, _: u32, _: u32, _: u32, out: &mut [u8]) -> Result<(), Fault> {
        out.copy_from_slice(&self.0[..out.len()]);
        Ok(())
    }

    fn scatter(&mut self, _: u32, _: u32, _: u32, data: &[u8]) -> Result<(), Fault> {
        self.0[..data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

fn new_pool(suite: Suite) -> Pool<Memory, RamAnchor> {
    let memory = Memory {
        bytes: vec![0; DISK_BLOCKS * BLOCK_BYTES],
        buffers: vec![0; 4096 * BLOCK_BYTES],
        pool: pool::Pool::new(4096),
        done: VecDeque::new(),
        written: 0,
    };
    let mut seed = 7;
    let draw = Box::new(move |out: &mut [u8]| {
        out.iter_mut().for_each(|byte| *byte = random(&mut seed) as u8);
        Ok(())
    });
    let root = RootKey::from_huk(host::module(), &[1; 32]).unwrap();
    let new = FormatOptions { log_blocks: Some(16_384), torn_sectors: false };
    let mut pool = format(vec![memory], RamAnchor::new(), &root, draw, &new, &Options::default(), || true)
        .expect("a pool is made");
    let name = Name::new("bench").expect("the name is short");
    let create = Command::Create { name, layout: Layout::Linear, blocks: VOLUME_BLOCKS, suite };
    pool.command(0, create).expect("no command is under way");
    drain(&mut pool, &mut Guest(vec![0; 1 << 17]));
    pool
}

fn drain(pool: &mut Pool<Memory, RamAnchor>, guest: &mut Guest) {
    while !pool.is_idle() {
        pool.advance(0, guest);
        while pool.next_done().is_some() {}
    }
}

/// Bytes per second, and device bytes for each guest byte.
fn run(pool: &mut Pool<Memory, RamAnchor>, requests: u32, mut next: impl FnMut() -> Operation) -> (f64, f64) {
    let mut guest = Guest(vec![0x5a; 1 << 17]);
    let (mut posted, mut done, mut bytes) = (0, 0, 0);
    let before = pool.member(0).written;
    let start = Instant::now();
    while done < requests {
        while posted < requests && posted - done < DEPTH {
            let operation = next();
            if let Operation::Write { blocks, .. } | Operation::Read { blocks, .. } = operation {
                bytes += u64::from(blocks) * BLOCK_BYTES as u64;
            }
            pool.submit(1, posted, operation).expect("there is room for 32");
            posted += 1;
        }
        pool.advance(0, &mut guest);
        while let Some(answer) = pool.next_done() {
            assert_eq!(answer.status, volume::Status::Ok);
            done += 1;
        }
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64();
    (rate, (pool.member(0).written - before) as f64 / bytes as f64)
}

/// A disk that encrypts and does nothing else: what sealing alone makes of the same requests. Sixteen blocks go through the cipher at
/// a time, straight from and to the guest's payload, with the block's number for a nonce; tags are kept in memory.
struct Plainly {
    aead: AeadService,
    disk: Vec<u8>,
    tags: Vec<Tag>,
    payload: Vec<Sector>,
    sealed: Vec<Sector>,
}

impl Plainly {
    fn new(suite: Suite) -> Plainly {
        let key = [3; 32];
        Plainly {
            aead: host::module().aead(suite, &key[..suite.key_len()]).expect("the key has the suite's length"),
            disk: vec![1; DISK_BLOCKS * BLOCK_BYTES],
            tags: vec![[0; 16]; VOLUME_BLOCKS as usize],
            payload: vec![[0x5a; BLOCK_BYTES]; BATCH],
            sealed: vec![[0; BLOCK_BYTES]; BATCH],
        }
    }

    fn nonces(blocks: &[u64]) -> Vec<Nonce> {
        let nonce = |block: &u64| [[0; 4].as_slice(), &block.to_le_bytes()].concat().try_into().expect("12 bytes");
        blocks.iter().map(nonce).collect()
    }

    fn write(&mut self, blocks: &[u64]) {
        let (nonces, aads, mut tags) = (Plainly::nonces(blocks), [[0; 24]; BATCH], [[0; 16]; BATCH]);
        let len = blocks.len();
        let (payload, sealed) = (black_box(&self.payload[..len]), &mut self.sealed[..len]);
        self.aead.seal_batch(&nonces, &aads[..len], payload, sealed, &mut tags[..len]).expect("one length");
        for ((block, sealed), tag) in blocks.iter().zip(sealed).zip(tags) {
            self.disk[*block as usize * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(sealed);
            self.tags[*block as usize] = tag;
        }
    }

    fn read(&mut self, blocks: &[u64]) {
        let (nonces, aads, mut results) = (Plainly::nonces(blocks), [[0; 24]; BATCH], [Ok(()); BATCH]);
        let len = blocks.len();
        for (block, sealed) in blocks.iter().zip(&mut self.sealed) {
            sealed.copy_from_slice(&self.disk[*block as usize * BLOCK_BYTES..][..BLOCK_BYTES]);
        }
        let tags: Vec<Tag> = blocks.iter().map(|block| self.tags[*block as usize]).collect();
        let (sealed, payload) = (&self.sealed[..len], &mut self.payload[..len]);
        self.aead
            .open_batch(&nonces, &aads[..len], sealed, black_box(payload), &tags, &mut results[..len])
            .expect("one length");
        assert!(results[..len].iter().all(Result::is_ok), "what was written is read");
    }

    /// Bytes per second of `requests` requests, all of one kind.
    fn run(&mut self, requests: u32, mut next: impl FnMut() -> Operation) -> f64 {
        let (mut gathered, mut bytes) = (Vec::with_capacity(2 * BATCH), 0);
        let start = Instant::now();
        for _ in 0..requests {
            let (operation, (block, blocks)) = match next() {
                Operation::Write { block, blocks } => (Plainly::write as fn(&mut Plainly, &[u64]), (block, blocks)),
                Operation::Read { block, blocks } => (Plainly::read as fn(&mut Plainly, &[u64]), (block, blocks)),
                _ => continue,
            };
            gathered.extend(block..block + u64::from(blocks));
            bytes += u64::from(blocks) * BLOCK_BYTES as u64;
            while gathered.len() >= BATCH {
                operation(self, &gathered[..BATCH]);
                gathered.drain(..BATCH);
            }
        }
        bytes as f64 / start.elapsed().as_secs_f64()
    }
}

/// Mounts what a power cut leaves when the log is as full as it gets before a checkpoint; what was found, and the seconds it took.
fn recover(mut pool: Pool<Memory, RamAnchor>) -> (volume::Recovery, f64) {
    let checkpoint = pool.superblock().checkpoint;
    let mut seed = 5;
    let mut write = || Operation::Write { block: random(&mut seed) % VOLUME_BLOCKS, blocks: 1 };
    // To the next checkpoint, then to just before the one after it.
    while pool.superblock().checkpoint == checkpoint {
        run(&mut pool, 1000, &mut write);
    }
    run(&mut pool, 7500 * DEPTH, &mut write);
    let (members, anchor) = pool.into_parts();
    let members =
        members.into_iter().map(|memory| Memory { done: VecDeque::new(), pool: pool::Pool::new(4096), ..memory });
    let draw = Box::new(|out: &mut [u8]| {
        out.fill(9);
        Ok(())
    });
    let root = RootKey::from_huk(host::module(), &[1; 32]).unwrap();
    let start = Instant::now();
    let mounted = mount(members.collect(), anchor, &root, draw, &Options::default(), || true);
    (mounted.expect("what was written mounts").1, start.elapsed().as_secs_f64())
}

fn sequence(reads: bool) -> impl FnMut() -> Operation {
    let mut block = 0;
    move || {
        block = (block + 32) % VOLUME_BLOCKS;
        if reads { Operation::Read { block, blocks: 32 } } else { Operation::Write { block, blocks: 32 } }
    }
}

fn uniform() -> impl FnMut() -> Operation {
    let mut seed = 99;
    move || Operation::Write { block: random(&mut seed) % VOLUME_BLOCKS, blocks: 1 }
}

/// Zipf with exponent about 1: the rank is an exponential of a uniform number, scattered over the volume.
fn zipf() -> impl FnMut() -> Operation {
    let mut seed = 77;
    move || {
        let unit = (random(&mut seed) >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (VOLUME_BLOCKS as f64).powf(unit) as u64;
        Operation::Write { block: rank.wrapping_mul(0x9e37_79b9) % VOLUME_BLOCKS, blocks: 1 }
    }
}

fn main() {
    let only = std::env::args().nth(1);
    for suite in [Suite::Aria256Gcm, Suite::Aes256Gcm, Suite::Aria256Ccm] {
        if only.as_ref().is_some_and(|only| only != suite.name()) {
            continue;
        }
        let mut pool = new_pool(suite);
        let mut plainly = Plainly::new(suite);
        let alone = plainly.run(4096, sequence(false));
        println!("{}: sealing alone {:.0} MB/s", suite.name(), alone / 1e6);
        run(&mut pool, 2048, sequence(false));
        let mut compare = |name: &str, requests: u32, load: fn() -> Box<dyn FnMut() -> Operation>| {
            if std::env::args().nth(2).is_some_and(|only| !name.starts_with(&only)) {
                return;
            }
            let (mut here, mut alone) = (load(), load());
            // Turn by turn, so that whatever else the machine does meets both.
            let mut rounds: Vec<(f64, f64, f64)> = Vec::from_iter((0..ROUNDS).map(|_| {
                let (rate, amplification) = run(&mut pool, requests / ROUNDS, &mut here);
                (rate / plainly.run(requests / ROUNDS, &mut alone), rate, amplification)
            }));
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (share, rate, _) = rounds[rounds.len() / 2];
            let bytes = rounds.iter().map(|round| round.2).sum::<f64>() / rounds.len() as f64;
            let (rate, share) = (rate / 1e6, share * 100.0);
            println!("  {name:<20} {rate:>7.0} MB/s {share:>5.1} %  {bytes:.3} device bytes per byte");
        };
        compare("sequential write", 4096, || Box::new(sequence(false)));
        compare("sequential read", 4096, || Box::new(sequence(true)));
        compare("random 4 KiB write", 200_000, || Box::new(uniform()));
        compare("Zipf 4 KiB write", 200_000, || Box::new(zipf()));
        let (recovered, seconds) = recover(pool);
        println!("  recovery of {} records, {} statements: {seconds:.2} s", recovered.records, recovered.statements);
    }
}
