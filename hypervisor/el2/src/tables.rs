//! Memory for the stage-2 tables, and what TLBs hold of them.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use stage2::{PhysAddr, TableMemory};

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

    fn publish(&mut self) {
        // SAFETY: barriers wait.
        unsafe { asm!("dsb ishst", "isb", options(nostack)) };
    }
}

/// Drops every TLB entry of EL1 and stage 2 on all cores: at boot, when nothing is known of what firmware left, and before memory of a domain's last
/// life is the next one's.
///
/// **Twice**, always: CVE-2025-10263 (Arm security bulletin 112137; one erratum number per core, 4118414 and 4193780 to 4193801 among them). On a
/// long list of Arm cores (Cortex-A76 to A78 and their AE and C variants, A710, X1 to X4, X925, Neoverse N1, N2, V1 to V3, C1-Ultra and C1-Premium,
/// and cores derived from these) a broadcast `TLBI` and its `DSB` may complete *before* writes that were translated by the invalidated entry are
/// globally observed. Arm's remedy is a second broadcast `TLBI; DSB` of any kind after the first. Older errata (Cortex-A76 1286807, Cortex-A55
/// 2441007, Cortex-A510 2441009, Falkor 1009) have the same remedy.
pub fn invalidate_all() {
    // SAFETY: barriers wait, and invalidating a TLB entry never changes what a correct table says.
    unsafe { asm!("dsb ishst", "tlbi alle1is", "dsb ish", "tlbi alle1is", "dsb ish", "isb", options(nostack)) };
}
