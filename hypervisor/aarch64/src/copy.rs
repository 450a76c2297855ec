//! `memcpy`, which the compiler calls for every large move and `copy_from_slice`.
//!
//! The compiler's own takes four instructions for eight bytes on machines without an operating system; this one takes eleven for 64. It
//! uses no vector registers, because EL2 leaves them to the guests, and makes no access that is not aligned, because before the MMU is on
//! all memory is Device memory.
use core::arch::naked_asm;

/// Copies `len` bytes; returns `to` (C17, 7.24.2.1).
///
/// # Safety
/// `len` bytes must be readable at `from` and writable at `to`, and the two must not overlap.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // x3: where to write next; x0 stays as the result. x4 to x11 may be changed by a callee (AAPCS64, 6.1.1).
    naked_asm!(
        "mov x3, x0",
        // What is apart by no multiple of eight never becomes aligned.
        "eor x4, x0, x1",
        "tst x4, #7",
        "b.ne 5f",
        // Bytes up to the first boundary.
        "1:",
        "tst x3, #7",
        "b.eq 2f",
        "cbz x2, 8f",
        "ldrb w4, [x1], #1",
        "strb w4, [x3], #1",
        "sub x2, x2, #1",
        "b 1b",
        // 64 bytes at a time.
        "2:",
        "subs x2, x2, #64",
        "b.lo 3f",
        "22:",
        "ldp x4, x5, [x1]",
        "ldp x6, x7, [x1, #16]",
        "ldp x8, x9, [x1, #32]",
        "ldp x10, x11, [x1, #48]",
        "add x1, x1, #64",
        "stp x4, x5, [x3]",
        "stp x6, x7, [x3, #16]",
        "stp x8, x9, [x3, #32]",
        "stp x10, x11, [x3, #48]",
        "add x3, x3, #64",
        "subs x2, x2, #64",
        "b.hs 22b",
        "3:",
        "add x2, x2, #64",
        // Eight at a time.
        "subs x2, x2, #8",
        "b.lo 4f",
        "33:",
        "ldr x4, [x1], #8",
        "str x4, [x3], #8",
        "subs x2, x2, #8",
        "b.hs 33b",
        "4:",
        "add x2, x2, #8",
        // Four bytes at a time.
        "5:",
        "subs x2, x2, #4",
        "b.lo 6f",
        "55:",
        "ldrb w4, [x1]",
        "ldrb w5, [x1, #1]",
        "ldrb w6, [x1, #2]",
        "ldrb w7, [x1, #3]",
        "add x1, x1, #4",
        "strb w4, [x3]",
        "strb w5, [x3, #1]",
        "strb w6, [x3, #2]",
        "strb w7, [x3, #3]",
        "add x3, x3, #4",
        "subs x2, x2, #4",
        "b.hs 55b",
        "6:",
        "add x2, x2, #4",
        // The last ones.
        "7:",
        "cbz x2, 8f",
        "ldrb w4, [x1], #1",
        "strb w4, [x3], #1",
        "sub x2, x2, #1",
        "b 7b",
        "8:",
        "ret",
    )
}
