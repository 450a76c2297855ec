//! Measures the engine on a disk in memory; `./x bench volume` calls it, for each suite and round once.
//!
//! ```text
//! throughput ARIA-256-GCM
//! ```
//! prints a line for each load and way: `LOAD WAY MB/S BYTES`, where the bytes are those written to the device for one of the guest's. Ways:
//! `raw` copies the payload, `sealed` seals it on the way, 16 blocks at a time, and `engine` is a pool with 32 requests under way. The loads
//! are the same for all three, and time is the processor's. Then `recovery RECORDS STATEMENTS SECONDS`: the mount
//! after a power cut when the log of 64 MiB is as full as it becomes.
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anchor::ram::RamAnchor;
use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Refused, pool};
use crypto::{Sector, Suite, Tag, host};
use keystore::{DataKey, RootKey};
use volume::seal::{Aad, BATCH, Sealer};
use volume::{
    Command, Fault, FormatOptions, Layout, Name, Operation, Options, Pool, Recovery, Transfer, format, mount,
};

const DISK_BLOCKS: usize = 400 << 8;
const VOLUME_BLOCKS: u64 = 256 << 8;
const LOG_BLOCKS: u64 = 16_384;
const DEPTH: u32 = 32;
/// Blocks of a sequential request: 128 KiB.
const LONG: u32 = 32;
/// Parts of a load that the ways take in turns.
const SLICES: u32 = 16;

/// A disk in memory that completes at once and counts.
struct Memory {
    bytes: Vec<u8>,
    buffers: Vec<u8>,
    pool: pool::Pool,
    done: VecDeque<Completion>,
    written: u64,
}

impl Memory {
    /// A disk whose pages are all there: the first touch of a page is the host's work, not the disk's.
    fn new() -> Memory {
        let (bytes, buffers) = (vec![1; DISK_BLOCKS * BLOCK_BYTES], vec![1; 4096 * BLOCK_BYTES]);
        Memory { bytes, buffers, pool: pool::Pool::new(4096), done: VecDeque::new(), written: 0 }
    }

    /// As it comes back after a power cut.
    fn again(self) -> Memory {
        Memory { done: VecDeque::new(), pool: pool::Pool::new(4096), ..self }
    }

    fn range(&self, buffer: &Buffer) -> std::ops::Range<usize> {
        buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES
    }

    fn finish(&mut self, tag: u32, buffer: Option<Buffer>) -> Result<(), Refused> {
        self.done.push_back(Completion { tag, result: Ok(()), buffer });
        Ok(())
    }
}

/// Copies block by block, as all ways do: a processor may copy long stretches in another manner.
fn copy(from: &[u8], to: &mut [u8]) {
    from.as_chunks::<BLOCK_BYTES>().0.iter().zip(to.as_chunks_mut().0).for_each(|(from, to)| *to = *from);
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
        let (range, at) = (self.range(&buffer), block as usize * BLOCK_BYTES);
        let len = range.len();
        copy(&self.bytes[at..at + len], &mut self.buffers[range]);
        self.finish(tag, Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let (range, at) = (self.range(&buffer), block as usize * BLOCK_BYTES);
        let len = range.len();
        self.written += len as u64;
        copy(&self.buffers[range], &mut self.bytes[at..at + len]);
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

/// The guest's memory: one payload for all.
struct Guest(Vec<u8>);

impl Guest {
    fn new() -> Guest {
        Guest(vec![0x5a; LONG as usize * BLOCK_BYTES])
    }
}

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

/// What the guest asks for.
struct Load {
    name: &'static str,
    requests: u32,
    depth: u32,
    next: fn(&mut u64) -> Operation,
}

const LOADS: [Load; 5] = [
    Load {
        name: "sequential-write",
        requests: 4096,
        depth: DEPTH,
        next: |state| sequential(state, |block, blocks| Operation::Write { block, blocks }),
    },
    Load {
        name: "sequential-read",
        requests: 2048,
        depth: DEPTH,
        next: |state| sequential(state, |block, blocks| Operation::Read { block, blocks }),
    },
    Load { name: "random-write", requests: 100_000, depth: DEPTH, next: |state| one(random(state) % VOLUME_BLOCKS) },
    Load { name: "zipf-write", requests: 100_000, depth: DEPTH, next: |state| one(zipf(state)) },
    Load { name: "sync-write", requests: 20_000, depth: 1, next: |state| synchronous(state) },
];

fn sequential(state: &mut u64, operation: fn(u64, u32) -> Operation) -> Operation {
    *state = (*state + u64::from(LONG)) % VOLUME_BLOCKS;
    operation(*state / u64::from(LONG) * u64::from(LONG), LONG)
}

fn one(block: u64) -> Operation {
    Operation::Write { block, blocks: 1 }
}

/// A write, a flush, a write, ... The lowest bit tells which comes next.
fn synchronous(state: &mut u64) -> Operation {
    *state = state.wrapping_add(1);
    if *state & 1 == 0 { Operation::Flush } else { one(state.wrapping_mul(0x9e37_79b9) % VOLUME_BLOCKS) }
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Zipf with an exponent of about 1: the rank is an exponential of a uniform number, scattered over the volume.
fn zipf(state: &mut u64) -> u64 {
    let unit = (random(state) >> 11) as f64 / (1u64 << 53) as f64;
    ((VOLUME_BLOCKS as f64).powf(unit) as u64).wrapping_mul(0x9e37_79b9) % VOLUME_BLOCKS
}

/// The processor's time that this process has had. (Linux brings the account up to date when a thread yields.)
fn processor_time(begin: Instant) -> Duration {
    std::thread::yield_now();
    let account = std::fs::read_to_string("/proc/self/schedstat").ok();
    let spent = account.and_then(|text| text.split_whitespace().next()?.parse().ok());
    spent.map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

/// Bytes of the guest's that an operation moves.
fn payload(operation: &Operation) -> u64 {
    match operation {
        Operation::Write { blocks, .. } | Operation::Read { blocks, .. } => u64::from(*blocks) * BLOCK_BYTES as u64,
        _ => 0,
    }
}

/// One way from the guest to the disk.
trait Way {
    /// As the output has it.
    fn name(&self) -> &'static str;
    /// Serves this many requests of a load.
    fn serve(&mut self, load: &Load, requests: u32, state: &mut u64);
    /// Bytes written to the disk so far.
    fn written(&self) -> u64;
}

/// Measures all ways on a load: slice by slice in turns, so that what else the machine does meets them alike.
fn measure(ways: &mut [&mut dyn Way], load: &Load) {
    // Every load begins alike for every way.
    let mut states = vec![0x4841_4543_4849; ways.len()];
    for (way, state) in ways.iter_mut().zip(&mut states) {
        way.serve(load, load.requests / 4, state);
    }
    let mut replay = states[0];
    let bytes: u64 = (0..load.requests / SLICES * SLICES).map(|_| payload(&(load.next)(&mut replay))).sum();
    let before: Vec<u64> = ways.iter().map(|way| way.written()).collect();
    let mut spent = vec![Duration::ZERO; ways.len()];
    for _ in 0..SLICES {
        for ((way, state), spent) in ways.iter_mut().zip(&mut states).zip(&mut spent) {
            let clock = Instant::now();
            let begin = processor_time(clock);
            way.serve(load, load.requests / SLICES, state);
            *spent += processor_time(clock) - begin;
        }
    }
    for ((way, before), spent) in ways.iter().zip(before).zip(spent) {
        let written = (way.written() - before) as f64 / bytes as f64;
        println!("{} {} {:.1} {written:.4}", load.name, way.name(), bytes as f64 / spent.as_secs_f64() / 1e6);
    }
}

/// Copies alone: each payload once.
struct Raw {
    disk: Vec<u8>,
    guest: Guest,
    written: u64,
}

impl Raw {
    fn new() -> Raw {
        Raw { disk: vec![1; DISK_BLOCKS * BLOCK_BYTES], guest: Guest::new(), written: 0 }
    }
}

impl Way for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn serve(&mut self, load: &Load, requests: u32, state: &mut u64) {
        for _ in 0..requests {
            let operation = (load.next)(state);
            let (Operation::Write { block, blocks } | Operation::Read { block, blocks }) = operation else { continue };
            let len = blocks as usize * BLOCK_BYTES;
            let (disk, guest) = (&mut self.disk[block as usize * BLOCK_BYTES..][..len], &mut self.guest.0[..len]);
            match operation {
                Operation::Read { .. } => guest.copy_from_slice(disk),
                _ => disk.copy_from_slice(black_box(guest)),
            }
            self.written += len as u64;
        }
    }

    fn written(&self) -> u64 {
        self.written
    }
}

/// Sealing and nothing else: 16 blocks at a time go straight from and to the guest's payload. What opening needs is kept in memory.
struct Sealed {
    disk: Vec<u8>,
    sealer: Sealer,
    kept: Vec<(u64, Tag)>,
    payload: Vec<Sector>,
    sealed: Vec<Sector>,
    /// Blocks of requests that were not served yet, fewer than 16.
    gathered: Vec<u64>,
    version: u64,
}

impl Sealed {
    fn new(suite: Suite) -> Sealed {
        Sealed {
            disk: vec![1; DISK_BLOCKS * BLOCK_BYTES],
            sealer: Sealer::new(host::module(), 1, 1, suite, &DataKey::new(&[3; 32]))
                .expect("the host's module serves"),
            kept: vec![(0, [0; 16]); VOLUME_BLOCKS as usize],
            payload: vec![[0x5a; BLOCK_BYTES]; BATCH],
            sealed: vec![[0; BLOCK_BYTES]; BATCH],
            gathered: Vec::with_capacity(2 * BATCH),
            version: 1,
        }
    }

    fn add(&mut self, block: u64, reads: bool) {
        self.gathered.push(block);
        if self.gathered.len() == BATCH {
            self.turn(reads);
        }
    }

    fn turn(&mut self, reads: bool) {
        let blocks = std::mem::take(&mut self.gathered);
        let aads: [_; BATCH] = std::array::from_fn(|at| self.sealer.aad(blocks.get(at).copied().unwrap_or(0)));
        if reads {
            self.open(&blocks, &aads[..blocks.len()])
        } else {
            self.seal(&blocks, &aads[..blocks.len()])
        }
        self.gathered = blocks;
        self.gathered.clear();
    }

    fn seal(&mut self, blocks: &[u64], aads: &[Aad]) {
        let (len, mut tags) = (blocks.len(), [[0; 16]; BATCH]);
        let nonces: [_; BATCH] = std::array::from_fn(|at| self.sealer.nonce(self.version + at as u64));
        let (payload, sealed) = (black_box(&self.payload[..len]), &mut self.sealed[..len]);
        let done = self.sealer.seal(&nonces[..len], aads, payload, sealed, &mut tags[..len]);
        done.expect("the host's module serves");
        for ((at, block), sealed) in blocks.iter().enumerate().zip(sealed) {
            self.disk[*block as usize * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(sealed);
            self.kept[*block as usize] = (self.version + at as u64, tags[at]);
        }
        self.version += len as u64;
    }

    fn open(&mut self, blocks: &[u64], aads: &[Aad]) {
        let (len, mut good) = (blocks.len(), [false; BATCH]);
        for (block, sealed) in blocks.iter().zip(&mut self.sealed) {
            sealed.copy_from_slice(&self.disk[*block as usize * BLOCK_BYTES..][..BLOCK_BYTES]);
        }
        let kept = |at: usize| blocks.get(at).map_or((0, [0; 16]), |block| self.kept[*block as usize]);
        let nonces: [_; BATCH] = std::array::from_fn(|at| self.sealer.nonce(kept(at).0));
        let tags: [_; BATCH] = std::array::from_fn(|at| kept(at).1);
        let (sealed, payload) = (&self.sealed[..len], black_box(&mut self.payload[..len]));
        let done = self.sealer.open(&nonces[..len], aads, sealed, payload, &tags[..len], &mut good[..len]);
        done.expect("the host's module serves");
        assert!(good[..len].iter().all(|good| *good), "what was written is read");
    }
}

impl Way for Sealed {
    fn name(&self) -> &'static str {
        "sealed"
    }

    fn serve(&mut self, load: &Load, requests: u32, state: &mut u64) {
        for _ in 0..requests {
            match (load.next)(state) {
                Operation::Write { block, blocks } => {
                    (block..block + u64::from(blocks)).for_each(|block| self.add(block, false))
                }
                Operation::Read { block, blocks } => {
                    (block..block + u64::from(blocks)).for_each(|block| self.add(block, true))
                }
                // Who flushes cannot wait for more.
                _ => self.turn(false),
            }
        }
    }

    fn written(&self) -> u64 {
        self.version * BLOCK_BYTES as u64
    }
}

/// A pool.
struct Engine {
    pool: Pool<Memory, RamAnchor>,
    guest: Guest,
}

impl Engine {
    fn new(suite: Suite) -> Engine {
        let mut seed = 7;
        let draw = Box::new(move |out: &mut [u8]| {
            out.iter_mut().for_each(|byte| *byte = random(&mut seed) as u8);
            Ok(())
        });
        let new = FormatOptions { log_blocks: Some(LOG_BLOCKS), torn_sectors: false };
        let pool = format(vec![Memory::new()], RamAnchor::new(), &root(), draw, &new, &Options::default(), || true);
        let mut engine = Engine { pool: pool.expect("a pool is made"), guest: Guest::new() };
        let name = Name::new("bench").expect("the name is short");
        let create = Command::Create { name, layout: Layout::Linear, blocks: VOLUME_BLOCKS, suite };
        engine.pool.command(0, create).expect("no command is under way");
        while !engine.pool.is_idle() {
            engine.pool.advance(0, &mut engine.guest);
            while engine.pool.next_done().is_some() {}
        }
        engine
    }

    /// Mounts what a power cut leaves when the log is as full as it gets before a checkpoint; what was found, and the seconds it took.
    fn recover(mut self) -> (Recovery, f64) {
        let random_write = &LOADS[2];
        let (checkpoint, mut state) = (self.pool.superblock().checkpoint, 5);
        // To the next checkpoint, then to just before the one after it.
        while self.pool.superblock().checkpoint == checkpoint {
            self.serve(random_write, 1000, &mut state);
        }
        self.serve(random_write, 7500 * DEPTH, &mut state);
        let (members, anchor) = self.pool.into_parts();
        let draw = Box::new(|out: &mut [u8]| {
            out.fill(9);
            Ok(())
        });
        let members = members.into_iter().map(Memory::again).collect();
        let start = Instant::now();
        let mounted = mount(members, anchor, &root(), draw, &Options::default(), || true);
        (mounted.expect("what was written mounts").1, start.elapsed().as_secs_f64())
    }
}

fn root() -> RootKey {
    RootKey::from_huk(host::module(), &[1; 32]).expect("the host's module serves")
}

impl Way for Engine {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn serve(&mut self, load: &Load, requests: u32, state: &mut u64) {
        let (mut posted, mut done) = (0, 0);
        while done < requests {
            while posted < requests && posted - done < load.depth {
                self.pool.submit(1, posted, (load.next)(state)).expect("there is room for 32");
                posted += 1;
            }
            self.pool.advance(0, &mut self.guest);
            while let Some(answer) = self.pool.next_done() {
                assert_eq!(answer.status, volume::Status::Ok);
                done += 1;
            }
        }
    }

    fn written(&self) -> u64 {
        self.pool.member(0).written
    }
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| Suite::Aria256Gcm.name().to_owned());
    let suite = Suite::ALL.into_iter().find(|suite| suite.name() == name).expect("the suite is one of ours");
    let mut engine = Engine::new(suite);
    let (mut sealed, mut raw) = (Sealed::new(suite), Raw::new());
    for load in &LOADS {
        measure(&mut [&mut raw, &mut sealed, &mut engine], load);
    }
    let (found, seconds) = engine.recover();
    println!("recovery {} {} {seconds:.3}", found.records, found.statements);
}
