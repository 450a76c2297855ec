//! From EL2's first entry to Rust: relocation, a first mapping, the MMU, vectors.
//!
//! EL2 enters at the image's first byte with the MMU off and the address of the domain's device tree in `x0`, which lies in the
//! domain's own memory, as the image does.

use core::ops::Range;

/// Bytes of the stack, with the guard page at its low end: start-up, which moves ciphers and the pool by value, goes deepest.
pub const STACK_BYTES: usize = 256 * 1024;

/// The stack; it grows down from the end.
#[repr(C, align(4096))]
struct Stack([u8; STACK_BYTES]);

#[unsafe(no_mangle)]
static mut EL1_STACK: Stack = Stack([0; STACK_BYTES]);

/// Bytes at the low end of the stack that the final tables do not map, so that an overflow faults instead of spreading.
const GUARD_BYTES: usize = 4096;

/// Where an exception is reported from, since the stack may be what broke.
#[unsafe(no_mangle)]
static mut EL1_EMERGENCY_STACK: [u128; 512] = [0; 512];

/// The guard page of the stack.
pub fn guard_page() -> Range<usize> {
    let low = (&raw const EL1_STACK).addr();
    low..low + GUARD_BYTES
}

/// Page tables for the boot mapping: a root and one level 1 table per 512 GiB that image and device tree touch.
#[repr(C, align(4096))]
struct BootTables([[u64; 512]; 5]);

#[unsafe(no_mangle)]
static mut EL1_BOOT_TABLES: BootTables = BootTables([[0; 512]; 5]);

/// The boot code. `$main` is `extern "C" fn(device_tree: usize) -> !`; `$exception` is
/// `extern "C" fn(esr: u64, elr: u64, far: u64) -> !`.
#[macro_export]
macro_rules! entry {
    (main = $main:path, exception = $exception:path) => {
        aarch64::image_header!();
        core::arch::global_asm!(
            ".section .text.boot, \"ax\"",
            ".global _start",
            "_start:",
            "msr  daifset, #0xf",
            "mov  x20, x0",
            "mov  x1, #0x0800", // SCTLR_EL1 RES1 bits (DDI 0487 D24.2.174); MMU and caches off
            "movk x1, #0x30d0, lsl #16",
            "msr  sctlr_el1, x1",
            "mov  x1, #(3 << 20)", // CPACR_EL1.FPEN: vector registers are ours to use
            "msr  cpacr_el1, x1",
            "isb",
            aarch64::relocate_and_clear!(),
            "adrp x9, EL1_BOOT_TABLES",
            "add  x9, x9, :lo12:EL1_BOOT_TABLES",
            "add  x10, x9, #4096",
            "adrp x1, _image_start",
            "bl   el1_map_gib",
            "adrp x1, _image_end",
            "sub  x1, x1, #1",
            "bl   el1_map_gib",
            "mov  x1, x20",
            "bl   el1_map_gib",
            // The walker reads the tables cached; they were written uncached: drop what a cache may hold of them.
            "mov  x1, x9",
            "add  x2, x9, #(5 * 4096)",
            "11:  dc   ivac, x1",
            "add  x1, x1, #16", // the smallest line that the architecture allows
            "cmp  x1, x2",
            "b.lo 11b",
            "mov  x1, #{mair_low}",
            "movk x1, #{mair_high}, lsl #16",
            "msr  mair_el1, x1",
            // TCR_EL1: TTBR0 48 bits, inner shareable write-back walks, 4 KiB; TTBR1 off (EPD1); IPS as the CPU has it.
            "mrs  x1, id_aa64mmfr0_el1",
            "and  x1, x1, #0xf",
            "cmp  x1, #5",
            "mov  x2, #5",
            "csel x1, x1, x2, lo",
            "mov  x2, #0x3510",
            "movk x2, #0x8080, lsl #16",
            "orr  x2, x2, x1, lsl #32",
            "msr  tcr_el1, x2",
            "msr  ttbr0_el1, x9",
            "isb",
            "tlbi vmalle1",
            "ic   iallu",
            "dsb  nsh",
            "isb",
            "mrs  x1, sctlr_el1",
            "mov  x2, #0x100d", // I | SA | C | M
            "orr  x1, x1, x2",
            "msr  sctlr_el1, x1",
            "isb",
            "adrp x1, EL1_STACK",
            "add  x1, x1, :lo12:EL1_STACK",
            "add  x1, x1, #{stack}",
            "msr  spsel, #1",
            "mov  sp, x1",
            "adrp x1, el1_vectors",
            "add  x1, x1, :lo12:el1_vectors",
            "msr  vbar_el1, x1",
            "isb",
            "mov  x0, x20",
            "bl   {main}",
            "brk  #0",
            "",
            // Maps the GiB around x1, read-write-execute, Normal write-back. x9 = root, x10 = next free level 1 table.
            "el1_map_gib:",
            "ubfx x2, x1, #39, #9",
            "ldr  x3, [x9, x2, lsl #3]",
            "cbnz x3, 1f",
            "orr  x3, x10, #3",
            "str  x3, [x9, x2, lsl #3]",
            "add  x10, x10, #4096",
            "1:   and  x3, x3, #~0xfff",
            "ubfx x2, x1, #30, #9",
            "and  x4, x1, #0xffffffffc0000000",
            "mov  x5, #0x705", // AF | inner shareable | attribute 1 | block
            "orr  x4, x4, x5",
            "str  x4, [x3, x2, lsl #3]",
            "ret",
            "",
            ".balign 2048",
            "el1_vectors:",
            ".rept 16",
            ".balign 128",
            "mrs  x0, esr_el1",
            "mrs  x1, elr_el1",
            "mrs  x2, far_el1",
            "adrp x3, EL1_EMERGENCY_STACK",
            "add  x3, x3, :lo12:EL1_EMERGENCY_STACK",
            "add  sp, x3, #2, lsl #12", // its end, 8 KiB up
            "bl   {exception}",
            "brk  #0",
            ".endr",
            main = sym $main,
            exception = sym $exception,
            stack = const $crate::boot::STACK_BYTES,
            mair_low = const aarch64::stage1::MAIR & 0xffff,
            mair_high = const aarch64::stage1::MAIR >> 16 & 0xffff,
        );
    };
}
