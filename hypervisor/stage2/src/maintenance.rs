//! Memory of tables, and the one order in which a translation is taken back.
//!
//! Taking a page back is where isolation is lost on real cores, so the order is written once, here, and tested; the machine
//! only supplies the single instructions ([`Operation`]).
//!
//! 1. The entry is written invalid: from now on a walk faults.
//! 2. `DSB ISHST`: every walker sees that write before anything is invalidated (Arm DDI 0487, D8.16 and K13.5.3).
//! 3. `TLBI IPAS2E1IS` for each entry (or `TLBI VMALLS12E1IS` for many): the stage-2 entries and walk caches go.
//! 4. `DSB ISH`, then `TLBI VMALLE1IS`: cores may keep stage 1 and stage 2 *combined*, and those entries are not found by
//!    intermediate address; they are dropped only once no stage-2 entry is left to refill them from. (`VMALLS12E1IS` does both.)
//! 5. `DSB ISH`: the invalidation has completed on every core.
//! 6. **Once more `TLBI`, `DSB ISH`**, always: CVE-2025-10263.
//! 7. `ISB`; only now may the page have another owner, or the entry another value ("make").
//!
//! **CVE-2025-10263** (Arm security bulletin 112137; one erratum number per core, 4118414 and 4193780 to 4193801 among them):
//! on a long list of Arm cores (Cortex-A76 to A78 and their AE and C variants, A710, X1 to X4, X925, Neoverse N1, N2, V1 to V3, C1-Ultra and
//! C1-Premium, and cores derived from these) a broadcast `TLBI` and its `DSB` may complete *before* writes that were translated by the
//! invalidated entry are globally observed. The entry itself is gone, but a late write of the old owner may land in the page
//! after it has a new one. Arm's remedy is a second broadcast `TLBI; DSB` of any kind after the first. Older errata
//! (Cortex-A76 1286807, Cortex-A55 2441007, Cortex-A510 2441009, Falkor 1009) have the same remedy. It is done unconditionally: mappings change
//! at boot and at rare transitions, and a list of core numbers would go stale on the day that it matters.

use crate::{Ipa, PhysAddr};

/// Memory that holds translation tables.
///
/// Implementations hand out pages that the hypervisor owns and no domain can reach, from a pool that is filled at boot.
pub trait TableMemory {
    /// Reads entry `index` of the table at `table`: the 64-bit word at `table + 8 * index`, in one access. For the root the
    /// index runs through the concatenated tables (up to 8191).
    fn read(&self, table: PhysAddr, index: usize) -> u64;

    /// Writes such an entry in one 64-bit access, with no cache maintenance: walks are cacheable and inner shareable.
    fn write(&mut self, table: PhysAddr, index: usize, entry: u64);

    /// A table of 4096 zero bytes at a 4 KiB boundary, or `None` if the pool is used up.
    fn allocate(&mut self) -> Option<PhysAddr>;
}

/// One instruction of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make this VMID the one that `TLBI` acts upon: `VTTBR_EL2.VMID`, then `ISB`, if it is not so already.
    SelectVmid(u8),
    /// Back to the VMID of before [`Operation::SelectVmid`], after the closing barriers.
    RestoreVmid,
    /// `DSB ISHST`.
    DsbIshst,
    /// `DSB ISH`.
    DsbIsh,
    /// `ISB`.
    Isb,
    /// `TLBI IPAS2E1IS, Xt` with `Xt = ipa >> 12`.
    TlbiIpas2e1is(Ipa),
    /// `TLBI VMALLE1IS`.
    TlbiVmalle1is,
    /// `TLBI VMALLS12E1IS`.
    TlbiVmalls12e1is,
}

/// The machine's side: each call is one instruction, in this order, none left out and none reordered by the compiler.
///
/// An implementation that changes `VTTBR_EL2` for [`Operation::SelectVmid`] while the EL1 registers of another domain are live
/// must keep the core from walking speculatively with the mixture (Cortex-A76 1165522, A57 and A72 1319537 and 1319367, A55 1530923:
/// set `TCR_EL1.EPD0` and `EPD1` or clear `SCTLR_EL1.M` first).
pub trait Maintenance {
    /// Performs one operation.
    fn issue(&mut self, operation: Operation);
}

/// Up to this many entries are invalidated one by one, beyond it the whole VMID at once.
pub const SINGLE_ENTRIES: usize = 16;

/// Entries that have been written invalid (or narrower) and that TLBs may still hold.
#[must_use = "an entry is not taken back until the TLBs have dropped it"]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stale {
    entries: [Ipa; SINGLE_ENTRIES],
    count: usize,
}

impl Stale {
    pub(crate) const fn new() -> Stale {
        Stale { entries: [Ipa(0); SINGLE_ENTRIES], count: 0 }
    }

    /// Notes the entry that translated `ipa`.
    pub(crate) fn push(&mut self, ipa: Ipa) {
        if let Some(slot) = self.entries.get_mut(self.count) {
            *slot = ipa;
        }
        self.count += 1;
    }

    /// Steps 2 to 7 of this file's essay. Does nothing if no entry was noted.
    pub(crate) fn invalidate(self, vmid: u8, machine: &mut impl Maintenance) {
        if self.count == 0 {
            return;
        }
        machine.issue(Operation::SelectVmid(vmid));
        machine.issue(Operation::DsbIshst);
        match self.entries.get(..self.count) {
            Some(entries) => Self::invalidate_each(entries, machine),
            None => machine.issue(Operation::TlbiVmalls12e1is),
        }
        machine.issue(Operation::DsbIsh);
        // CVE-2025-10263: any further broadcast TLBI with its DSB.
        machine.issue(Operation::TlbiVmalle1is);
        machine.issue(Operation::DsbIsh);
        machine.issue(Operation::Isb);
        machine.issue(Operation::RestoreVmid);
    }

    fn invalidate_each(entries: &[Ipa], machine: &mut impl Maintenance) {
        for ipa in entries {
            machine.issue(Operation::TlbiIpas2e1is(*ipa));
        }
        machine.issue(Operation::DsbIsh);
        machine.issue(Operation::TlbiVmalle1is);
    }
}

/// New entries become visible to every walker. An entry that was invalid is in no TLB, so nothing is invalidated.
pub(crate) fn publish(machine: &mut impl Maintenance) {
    machine.issue(Operation::DsbIshst);
    machine.issue(Operation::Isb);
}
