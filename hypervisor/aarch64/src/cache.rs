//! Data-cache maintenance by address, to the point of coherency.
//!
//! Needed wherever one side runs with its MMU off or maps the bytes as uncached: a guest's first instructions, its device tree,
//! the register page of a virtual device. An emulator without caches hides a missing call, so each one states its reader.

use core::arch::asm;
use core::ops::Range;

/// Bytes of the smallest data-cache line (CTR_EL0.DminLine, DDI 0487 D24.2.35: log2 of words).
fn line_bytes() -> usize {
    4 << ((crate::read_sysreg!("ctr_el0") >> 16) & 0xf)
}

/// Writes every dirty line of the range back to memory, so that a reader without caches sees it.
pub fn clean_to_poc(range: Range<usize>) {
    let line = line_bytes();
    let mut address = range.start & !(line - 1);
    while address < range.end {
        // SAFETY: cleaning a line changes no architectural contents; an unmapped address would fault to our own vectors.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    complete();
}

/// Writes back and drops every line of the range, so that later uncached writes by others are not hidden by stale lines.
pub fn clean_and_invalidate_to_poc(range: Range<usize>) {
    let line = line_bytes();
    let mut address = range.start & !(line - 1);
    while address < range.end {
        // SAFETY: as in `clean_to_poc`; what is dropped has been written back first.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    complete();
}

/// Makes instructions that were just written and cleaned visible to every core's instruction fetch.
pub fn invalidate_instructions() {
    // SAFETY: dropping instruction-cache lines changes no architectural state.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Waits until maintenance is complete for all observers (DDI 0487 B2.3.12: DSB after cache maintenance).
fn complete() {
    // SAFETY: a barrier only waits.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
