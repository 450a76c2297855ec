//! Physical memory while the system is put together: EL2 is identity-mapped and nothing else runs yet.

use core::ops::Range;
use core::slice;

use aarch64::heap::BootHeap;

/// First bytes of a flattened device tree, in memory order (Devicetree Specification 0.4, section 5.2).
const DEVICE_TREE_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Longest device tree that a loader may pass (Linux, Documentation/arch/arm64/booting.rst).
pub const MAX_DEVICE_TREE_BYTES: usize = 2 << 20;

/// Why there is no device tree at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDeviceTree {
    /// The loader passed no address, or a misaligned one.
    Address,
    /// The first bytes are something else.
    Magic,
    /// The header's total size is less than a header or more than a loader may pass.
    Size(u32),
}

/// The device tree that the loader left at `address`.
///
/// # Safety
/// `address` must come from the loader, with [`MAX_DEVICE_TREE_BYTES`] from there on mapped readable and written by nobody.
pub unsafe fn device_tree(address: usize) -> Result<&'static [u8], NoDeviceTree> {
    if address == 0 || !address.is_multiple_of(8) {
        return Err(NoDeviceTree::Address);
    }
    // SAFETY: mapped by the caller's contract.
    let header: &[u8; 8] = unsafe { &*core::ptr::with_exposed_provenance(address) };
    let [magic @ .., a, b, c, d] = *header;
    if magic != DEVICE_TREE_MAGIC {
        return Err(NoDeviceTree::Magic);
    }
    let total = u32::from_be_bytes([a, b, c, d]);
    if !(40..=MAX_DEVICE_TREE_BYTES as u32).contains(&total) {
        return Err(NoDeviceTree::Size(total));
    }
    // SAFETY: as above, and no longer than the contract says.
    Ok(unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(address), total as usize) })
}

/// Bytes that the loader left in `range`.
///
/// # Safety
/// The range must be mapped readable, and nobody may write it while the slice is in use.
pub unsafe fn bytes(range: &Range<usize>) -> &'static [u8] {
    // SAFETY: the caller's contract.
    unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(range.start), range.len()) }
}

/// Fills `range` with `contents`, then zeros, and cleans it to the point of coherency: who runs there starts with caches off.
///
/// # Safety
/// The range must be mapped read-write and belong to nobody yet.
pub unsafe fn fill(range: &Range<usize>, contents: &[u8]) {
    assert!(contents.len() <= range.len(), "contents longer than their place");
    let start: *mut u8 = core::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the caller's contract; `contents` is a live reference, so it cannot overlap memory that belongs to nobody. The
    // kernel may be moved onto part of the bundle that it comes from, hence a copy that allows overlap.
    unsafe {
        core::ptr::copy(contents.as_ptr(), start, contents.len());
        start.add(contents.len()).write_bytes(0, range.len() - contents.len());
    }
    aarch64::cache::clean_and_invalidate_to_poc(range.clone());
}

/// Gives `heap` the region that the linker script keeps for it.
pub fn init_heap(heap: &BootHeap) {
    unsafe extern "C" {
        static _heap_start: u8;
        static _heap_end: u8;
    }
    let [start, end] = [(&raw const _heap_start).expose_provenance(), (&raw const _heap_end).expose_provenance()];
    // SAFETY: the region between the two symbols is part of this image and used by nothing else.
    unsafe { heap.init(start, end - start) }
}
