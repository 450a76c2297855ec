//! Memory that holds translation tables.

use crate::PhysAddr;

/// The memory of tables. Implementations hand out pages that the hypervisor owns and no domain can reach, from a pool that is filled at boot.
pub trait TableMemory {
    /// Reads entry `index` of the table at `table`: the 64-bit word at `table + 8 * index`, in one access. For the root the
    /// index runs through the concatenated tables (up to 8191).
    fn read(&self, table: PhysAddr, index: usize) -> u64;

    /// Writes such an entry in one 64-bit access, with no cache maintenance: walks are cacheable and inner shareable.
    fn write(&mut self, table: PhysAddr, index: usize, entry: u64);

    /// A table of 4096 zero bytes at a 4 KiB boundary, or `None` if the pool is used up.
    fn allocate(&mut self) -> Option<PhysAddr>;

    /// `DSB ISHST`, then `ISB`: what has been written is visible to every walker before anything that follows. An entry that was invalid is
    /// in no TLB, so nothing is invalidated (Arm DDI 0487, D8.16).
    fn publish(&mut self);
}
