//! Once a pool serves, requests allocate no more. Commands may: the secure domain leaves its heap open for them.
#![allow(unsafe_code)] // An allocator that counts is one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Refused};
use crypto::Suite;
use keystore::RootKey;
use volume::{Command, Fault, FormatOptions, Name, Operation, Options, Policy, Pool, Status, Transfer};

/// The system's allocator; while a thread is armed, its allocations are counted, and the first is shown.
struct Counting;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count(layout: Layout) {
    if ARMED.try_with(|armed| armed.replace(false)).unwrap_or(false) {
        COUNT.with(|count| count.set(count.get() + 1));
        if COUNT.with(Cell::get) == 1 {
            eprintln!("{layout:?}\n{}", Backtrace::force_capture());
        }
        ARMED.with(|armed| armed.set(true));
    }
}

// SAFETY: everything is the system allocator's own doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A guest that writes one pattern and looks at nothing.
struct Guest;

impl Transfer for Guest {
    fn gather(&mut self, _: u32, _: u32, _: u32, out: &mut [u8]) -> Result<(), Fault> {
        out.fill(0x5a);
        Ok(())
    }

    fn scatter(&mut self, _: u32, _: u32, _: u32, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
}

/// A disk in memory, whose own allocations do not count.
struct Uncounted(RamDisk);

fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let armed = ARMED.replace(false);
    let result = work();
    ARMED.set(armed);
    result
}

impl BlockDevice for Uncounted {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }

    fn room(&self) -> usize {
        self.0.room()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.0.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.0.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        self.0.bytes(buffer)
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        uncounted(|| self.0.read(tag, block, buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        uncounted(|| self.0.write(tag, block, buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        uncounted(|| self.0.flush(tag))
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        uncounted(|| self.0.poll())
    }
}

type TestPool = Pool<Uncounted, RamAnchor>;

/// Serves until nothing is left to do; counts the answers.
fn settle(pool: &mut TestPool) -> usize {
    let mut answers = 0;
    for now_ms in 0..1 << 20 {
        let again = pool.advance(now_ms, &mut Guest);
        while let Some(done) = pool.next_done() {
            assert_eq!(done.status, Status::Ok);
            answers += 1;
        }
        if pool.is_idle() && !again {
            return answers;
        }
    }
    panic!("the pool does not come to rest");
}

#[test]
fn a_pool_that_serves_allocates_nothing() {
    let disk = Uncounted(RamDisk::new(vec![0; 16 * 1024 * BLOCK_BYTES], 1024, 7));
    let root = RootKey::from_huk(crypto::host::module(), &[1; 32]).unwrap();
    let random = Box::new(|out: &mut [u8]| {
        out.fill(7);
        Ok(())
    });
    let options = Options { policy: Policy::Strict, cache_blocks: 512, reservation: 1 << 16, ..Options::default() };
    let new = FormatOptions::default();
    let mut pool: TestPool =
        volume::format(vec![disk], RamAnchor::new(), &root, random, &new, &options, || true).unwrap();
    let name = Name::new("system").unwrap();
    let create = Command::Create { name, layout: volume::Layout::Linear, blocks: 8192, suite: Suite::Aes128Gcm };
    pool.command(0, create).unwrap();
    assert_eq!(settle(&mut pool), 1);
    let volume = pool.volumes().next().unwrap().number;

    ARMED.with(|armed| armed.set(true));
    let mut answers = 0;
    for step in 0..4000u64 {
        let (block, blocks) = (step * 97 % 8000, 1 + (step % 40) as u32);
        let operation = match step % 7 {
            0..=2 => Operation::Write { block, blocks },
            3 | 4 => Operation::Read { block, blocks },
            5 => Operation::Zero { block, blocks },
            _ => Operation::Flush,
        };
        pool.submit(volume, step as u32, operation).unwrap();
        if step % 50 == 49 {
            answers += settle(&mut pool);
        }
    }
    ARMED.with(|armed| armed.set(false));
    assert_eq!(answers, 4000);
    assert_eq!(COUNT.with(Cell::get), 0);
}
