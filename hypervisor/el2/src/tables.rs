//! Memory and TLB instructions for the stage-2 tables.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64::{read_sysreg, write_sysreg};
use stage2::maintenance::Operation;
use stage2::{Maintenance, PhysAddr, TableMemory};

const PAGE_BYTES: usize = 4096;
const ENTRIES: usize = 512;
/// Concatenated root tables of one domain, at the largest intermediate address size.
const ROOT_PAGES: usize = 16;
/// Pages for tables below the roots, for all domains together.
const POOL_PAGES: usize = 96;
/// Who has tables: both domains, and the secure domain's disks.
const DOMAINS: usize = 3;

/// A root: aligned to its size, as concatenated tables must be (DDI 0487 D8.2.2).
#[repr(C, align(65536))]
struct Root([AtomicU64; ENTRIES * ROOT_PAGES]);

#[repr(C, align(4096))]
struct Pool([[AtomicU64; ENTRIES]; POOL_PAGES]);

static ROOTS: [Root; DOMAINS] = [const { Root([const { AtomicU64::new(0) }; ENTRIES * ROOT_PAGES]) }; DOMAINS];
static POOL: Pool = Pool([const { [const { AtomicU64::new(0) }; ENTRIES] }; POOL_PAGES]);
static POOL_USED: AtomicUsize = AtomicUsize::new(0);

/// The table memory of one domain: its own root, and pages of the common pool. EL2 runs identity-mapped, so the address of a
/// table is its physical address.
#[derive(Debug)]
pub struct Memory {
    domain: usize,
}

impl Memory {
    /// The memory of domain `domain` (0 to 2).
    pub const fn new(domain: usize) -> Memory {
        assert!(domain < DOMAINS);
        Memory { domain }
    }

    /// Where the root lies.
    pub fn root(&self) -> PhysAddr {
        PhysAddr((&raw const ROOTS[self.domain]).addr() as u64)
    }

    /// Pages of the common pool in use, and how many there are.
    pub fn pool_usage() -> (usize, usize) {
        (POOL_USED.load(Ordering::Relaxed).min(POOL_PAGES), POOL_PAGES)
    }

    /// The entry at `index` of `table`. A table that is neither the root nor of the pool is a defect of ours.
    fn entry(&self, table: PhysAddr, index: usize) -> &'static AtomicU64 {
        let address = table.0 as usize;
        let root = (&raw const ROOTS[self.domain]).addr();
        if address == root {
            return &ROOTS[self.domain].0[index];
        }
        let page = address.wrapping_sub((&raw const POOL).addr()) / PAGE_BYTES;
        &POOL.0[page][index]
    }
}

/// Cleans all tables to the point of coherency, for walks that see no cache of the cores: those of a system MMU.
pub fn clean() {
    let roots = (&raw const ROOTS).addr();
    aarch64::cache::clean_to_poc(roots..roots + size_of_val(&ROOTS));
    let pool = (&raw const POOL).addr();
    aarch64::cache::clean_to_poc(pool..pool + size_of_val(&POOL));
}

impl TableMemory for Memory {
    fn read(&self, table: PhysAddr, index: usize) -> u64 {
        self.entry(table, index).load(Ordering::Relaxed)
    }

    fn write(&mut self, table: PhysAddr, index: usize, entry: u64) {
        self.entry(table, index).store(entry, Ordering::Relaxed);
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        let page = POOL_USED.fetch_add(1, Ordering::Relaxed);
        POOL.0.get(page).map(|table| PhysAddr(table.as_ptr().addr() as u64))
    }
}

/// The maintenance instructions of this core. The vCPU's EL1 translation is off while another VMID is selected: see
/// [`Operation::SelectVmid`].
#[derive(Debug, Default)]
pub struct Tlb {
    saved: Option<Saved>,
}

#[derive(Debug)]
struct Saved {
    vttbr: u64,
    tcr: u64,
}

/// `TCR_EL1.EPD0` and `EPD1`: no walk from either table.
const TCR_EPD: u64 = 1 << 7 | 1 << 23;

impl Tlb {
    fn select(&mut self, vmid: u8) {
        let saved = Saved { vttbr: read_sysreg!("vttbr_el2"), tcr: read_sysreg!("tcr_el1") };
        // SAFETY: no stage-1 walk is possible between the two ISBs and the restore, so no entry is cached from the mixture.
        unsafe {
            write_sysreg!("tcr_el1", saved.tcr | TCR_EPD);
            asm!("isb", options(nostack));
            write_sysreg!("vttbr_el2", u64::from(vmid) << 48);
            asm!("isb", options(nostack));
        }
        self.saved = Some(saved);
    }

    fn restore(&mut self) {
        if let Some(saved) = self.saved.take() {
            // SAFETY: puts back what `select` found.
            unsafe {
                write_sysreg!("vttbr_el2", saved.vttbr);
                asm!("isb", options(nostack));
                write_sysreg!("tcr_el1", saved.tcr);
                asm!("isb", options(nostack));
            }
        }
    }
}

impl Maintenance for Tlb {
    fn issue(&mut self, operation: Operation) {
        // SAFETY (each): barriers wait, and invalidating a TLB entry never changes what a correct table says.
        match operation {
            Operation::SelectVmid(vmid) => self.select(vmid),
            Operation::RestoreVmid => self.restore(),
            // SAFETY: see above.
            Operation::DsbIshst => unsafe { asm!("dsb ishst", options(nostack)) },
            // SAFETY: see above.
            Operation::DsbIsh => unsafe { asm!("dsb ish", options(nostack)) },
            // SAFETY: see above.
            Operation::Isb => unsafe { asm!("isb", options(nostack)) },
            // SAFETY: see above.
            Operation::TlbiIpas2e1is(ipa) => unsafe {
                asm!("tlbi ipas2e1is, {}", in(reg) ipa.0 >> 12, options(nostack))
            },
            // SAFETY: see above.
            Operation::TlbiVmalle1is => unsafe { asm!("tlbi vmalle1is", options(nostack)) },
            // SAFETY: see above.
            Operation::TlbiVmalls12e1is => unsafe { asm!("tlbi vmalls12e1is", options(nostack)) },
        }
    }
}

/// Drops every TLB entry of EL1 and stage 2 on all cores: once at boot, when nothing is known of what firmware left.
pub fn invalidate_all() {
    // SAFETY: as in `issue`.
    unsafe { asm!("dsb ishst", "tlbi alle1is", "dsb ish", "tlbi alle1is", "dsb ish", "isb", options(nostack)) };
}
