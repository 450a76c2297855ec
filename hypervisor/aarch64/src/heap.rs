//! The heap that a system is put together from.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};

use buddy_system_allocator::Heap;
use spin::Mutex;

/// Sizes of blocks: powers of two up to 32 MiB.
const ORDERS: usize = 26;

/// A buddy allocator over one static region.
///
/// EL2 closes it when boot is over ([`BootHeap::close`]), so that "no allocation after boot" is a fact there and no habit. The secure
/// domain leaves it open, because commands such as a new volume allocate; that serving requests does not is tested
/// (`secure-domain/volume/tests/allocation.rs`).
pub struct BootHeap {
    heap: Mutex<Heap<ORDERS>>,
    closed: AtomicBool,
}

impl BootHeap {
    /// A heap with no memory yet.
    #[allow(clippy::new_without_default)] // A static wants the const constructor alone.
    pub const fn new() -> BootHeap {
        BootHeap { heap: Mutex::new(Heap::empty()), closed: AtomicBool::new(false) }
    }

    /// Gives the heap its memory.
    ///
    /// # Safety
    /// `start..start + len` must be mapped read-write, used by nothing else, and stay so for ever.
    pub unsafe fn init(&self, start: usize, len: usize) {
        // SAFETY: passed on to the caller.
        unsafe { self.heap.lock().init(start, len) }
    }

    /// Ends allocation: from here on there is no memory.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Bytes handed out at this moment.
    pub fn used(&self) -> usize {
        self.heap.lock().stats_alloc_actual()
    }
}

// SAFETY: the buddy allocator hands out disjoint blocks of at least the layout's size and alignment; the lock makes that hold
// across cores; null is the documented answer for "no memory".
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.closed.load(Ordering::Acquire) {
            return null_mut();
        }
        self.heap.lock().alloc(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: `block` came from `alloc` with the same layout, by the contract of `GlobalAlloc`.
            unsafe { self.heap.lock().dealloc(block, layout) }
        }
    }
}
