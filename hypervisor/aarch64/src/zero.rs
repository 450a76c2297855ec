//! Filling memory with zeros by `DC ZVA` (DDI 0487 D7.5.9, D24.2.35), which writes a block of the cache with one instruction: for large
//! ranges of Normal memory, where a loop of stores takes some ten times as many.

use core::arch::asm;

/// `DCZID_EL0.DZP`: the instruction must not be used.
const PROHIBITED: u64 = 1 << 4;

/// Fills `target` with zeros.
pub fn fill(target: &mut [u8]) {
    let identification = crate::read_sysreg!("dczid_el0");
    let block = 4_usize << (identification & 0xf);
    let head = target.as_ptr().align_offset(block).min(target.len());
    let blocks = (target.len() - head) / block;
    if identification & PROHIBITED != 0 || blocks == 0 {
        return target.fill(0);
    }
    let (head, rest) = target.split_at_mut(head);
    let (middle, tail) = rest.split_at_mut(blocks * block);
    head.fill(0);
    tail.fill(0);
    let mut address = middle.as_mut_ptr();
    for _ in 0..blocks {
        // SAFETY: writes one block of `middle`, which is ours to write, has `blocks` of them and begins at a multiple of a block; a slice is
        // Normal memory.
        unsafe { asm!("dc zva, {}", in(reg) address, options(nostack, preserves_flags)) };
        address = address.wrapping_add(block);
    }
}
