//! Pages of EL2's own memory that a domain sees too: the register pages of virtual devices, the shared page, and the records of stolen time.
//!
//! A register page is plain memory that the general domain reads as a device: its stage 2 makes it Device memory there, and EL2
//! maps it as Device memory here, so both sides use the same attributes (DDI 0487 B2.16.1, mismatched attributes) and a
//! load of the domain sees EL2's last store with no cache between them.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aarch64::mmio::Mmio;
use abi::{DEVICES, SharedPage};
use vcpu::stolen::RECORD_BYTES;

use crate::boot::MAX_CORES;

const PAGE_BYTES: usize = 4096;

#[repr(C, align(4096))]
struct RegisterPages([[AtomicU32; PAGE_BYTES / 4]; DEVICES]);

static REGISTER_PAGES: RegisterPages =
    RegisterPages([const { [const { AtomicU32::new(0) }; PAGE_BYTES / 4] }; DEVICES]);

static SHARED: SharedPage = SharedPage::new();

/// The page that EL2 and the secure domain share.
pub fn shared() -> &'static SharedPage {
    &SHARED
}

/// Where the shared page lies.
pub fn shared_address() -> usize {
    (&raw const SHARED).addr()
}

/// The record of one core: revision 0 and attributes 0 in the first word, stolen nanoseconds in the second.
type StolenRecord = [AtomicU64; RECORD_BYTES as usize / 8];

#[repr(C, align(4096))]
struct StolenTimes([StolenRecord; PAGE_BYTES / RECORD_BYTES as usize]);

static STOLEN_TIMES: StolenTimes = StolenTimes(
    [const { [const { AtomicU64::new(0) }; RECORD_BYTES as usize / 8] }; PAGE_BYTES / RECORD_BYTES as usize],
);

/// Where the records of stolen time lie, in the order of the cores: one page, which the general domain reads.
pub fn stolen_times() -> usize {
    const { assert!(MAX_CORES <= PAGE_BYTES / RECORD_BYTES as usize) };
    (&raw const STOLEN_TIMES).addr()
}

/// Tells the vCPU of core `index` how many nanoseconds were stolen from it. Both sides map the page as the same kind of memory, and the vCPU
/// reads on the core that writes or is not hurt by an older value.
pub fn tell_stolen_time(index: usize, nanoseconds: u64) {
    STOLEN_TIMES.0[index][1].store(nanoseconds, Ordering::Relaxed);
}

/// What [`tell_stolen_time`] has told last.
pub fn stolen_time(index: usize) -> u64 {
    STOLEN_TIMES.0[index][1].load(Ordering::Relaxed)
}

/// Where the register pages lie, one behind the other; to be mapped as Device memory before [`RegisterPage::of`] is used.
pub fn register_pages() -> Range<usize> {
    let start = (&raw const REGISTER_PAGES).addr();
    start..start + DEVICES * PAGE_BYTES
}

/// One device's register page.
#[derive(Debug)]
pub struct RegisterPage(Mmio);

impl RegisterPage {
    /// The page of device `index`.
    pub fn of(index: usize) -> RegisterPage {
        assert!(index < DEVICES);
        // SAFETY: the static lives for ever, is written here alone, and is mapped as Device memory by the boot code.
        RegisterPage(unsafe { Mmio::new(register_pages().start + index * PAGE_BYTES, PAGE_BYTES) })
    }
}

impl channel::RegisterPage for RegisterPage {
    fn set(&mut self, offset: usize, value: u32) {
        self.0.write32(offset, value);
    }

    fn get(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }
}
