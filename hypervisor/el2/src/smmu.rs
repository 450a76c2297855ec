//! Registers and memory of the system MMU.

use core::ops::Range;
use core::ptr::from_ref;
use core::sync::atomic::AtomicU64;

use aarch64::mmio::Mmio;
use aarch64_cpu::asm::barrier;
use smmu::driver::QUEUE_WORDS;
use smmu::stream::{DIRECTORY_WORDS, TABLE_WORDS};
use smmu::{Part, TABLES};

/// The register frames.
#[derive(Debug)]
pub struct Frames(Mmio);

impl Frames {
    /// The frames in `registers`, which has both pages.
    pub const fn new(registers: Mmio) -> Frames {
        Frames(registers)
    }
}

impl smmu::Registers for Frames {
    fn read32(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.0.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.0.write64(offset, value);
    }
}

/// All that EL2 and the system MMU share. Each part begins at a multiple of its size: the second-level tables are 16 KiB and come first.
#[repr(C, align(16384))]
struct Shared {
    tables: [[AtomicU64; TABLE_WORDS]; TABLES],
    commands: [AtomicU64; QUEUE_WORDS],
    events: [AtomicU64; QUEUE_WORDS],
    directory: [AtomicU64; DIRECTORY_WORDS],
    /// To the end of the page.
    rest: [AtomicU64; QUEUE_WORDS - DIRECTORY_WORDS],
}

const SHARED_BYTES: usize = size_of::<Shared>();

static SHARED: Shared = Shared {
    tables: [const { [const { AtomicU64::new(0) }; TABLE_WORDS] }; TABLES],
    commands: [const { AtomicU64::new(0) }; QUEUE_WORDS],
    events: [const { AtomicU64::new(0) }; QUEUE_WORDS],
    directory: [const { AtomicU64::new(0) }; DIRECTORY_WORDS],
    rest: [const { AtomicU64::new(0) }; QUEUE_WORDS - DIRECTORY_WORDS],
};

/// Where the shared memory lies. EL2 maps it as Device memory, and the system MMU is told that it is in no cache, so that neither side needs
/// maintenance to see the other's writes (DDI 0487 B2.16.1; IHI 0070, `SMMU_CR1`).
pub(crate) fn shared_pages() -> Range<usize> {
    let start = (&raw const SHARED).addr();
    start..start + SHARED_BYTES
}

/// The memory, for the one system MMU that is driven.
#[derive(Debug)]
pub struct Memory(Mmio);

impl Memory {
    /// The memory.
    pub fn shared() -> Memory {
        // SAFETY: the static lives for ever, is written here and by the system MMU alone, and is mapped as Device memory by
        // `BootMemory::map`.
        Memory(unsafe { Mmio::new(shared_pages().start, SHARED_BYTES) })
    }

    fn offset(part: Part, word: usize) -> usize {
        let words: &[AtomicU64] = match part {
            Part::Directory => &SHARED.directory,
            Part::Table(table) => &SHARED.tables[table],
            Part::Commands => &SHARED.commands,
            Part::Events => &SHARED.events,
        };
        from_ref(&words[word]).addr() - shared_pages().start
    }
}

impl smmu::Memory for Memory {
    /// EL2 runs identity-mapped.
    fn address(&self, part: Part) -> u64 {
        (shared_pages().start + Memory::offset(part, 0)) as u64
    }

    fn read(&self, part: Part, word: usize) -> u64 {
        self.0.read64(Memory::offset(part, word))
    }

    fn write(&mut self, part: Part, word: usize, value: u64) {
        self.0.write64(Memory::offset(part, word), value);
    }

    /// The system MMU is no core: the barrier is for the full system.
    fn barrier(&self) {
        barrier::dsb(barrier::SY);
    }
}
