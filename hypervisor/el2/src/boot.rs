//! From the loader's jump to Rust: the boot core and, later, every other core.
//!
//! The boot core arrives with the MMU off and the device tree's address in `x0` (Linux, Documentation/arch/arm64/booting.rst).
//! It relocates the image, maps the GiB blocks that hold the image, the device tree and the early console, turns the MMU on and calls Rust. Those
//! blocks are read-write-execute; `aarch64::stage1` replaces them before any foreign byte is acted upon.
//!
//! Another core arrives from PSCI `CPU_ON` with its index in `x0` and takes over the boot core's final tables at once.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Cores that this build can run on.
pub const MAX_CORES: usize = 8;

/// Bytes of one core's EL2 stack, with the guard page at its low end.
pub const STACK_BYTES: usize = 128 * 1024;

/// Bytes at the low end of each stack that the final tables do not map, so that an overflow faults instead of spreading.
const GUARD_BYTES: usize = 4096;

/// `TTBR0_EL2` of the final tables, read by other cores before their MMU is on.
#[unsafe(no_mangle)]
static EL2_FINAL_TTBR0: AtomicU64 = AtomicU64::new(0);

/// Stacks by core index; each core's grows down from the end of its element.
#[repr(C, align(4096))]
struct Stacks([[u8; STACK_BYTES]; MAX_CORES]);

#[unsafe(no_mangle)]
static mut EL2_STACKS: Stacks = Stacks([[0; STACK_BYTES]; MAX_CORES]);

/// Where an exception of EL2 itself is reported from, since the stack may be what broke. One for all cores: the first report
/// stops the machine.
#[unsafe(no_mangle)]
static mut EL2_EMERGENCY_STACK: [u128; 1024] = [0; 1024];

/// The guard pages of all stacks.
pub fn guard_pages() -> impl Iterator<Item = Range<usize>> {
    let start = (&raw const EL2_STACKS).addr();
    (0..MAX_CORES).map(move |core| start + core * STACK_BYTES).map(|low| low..low + GUARD_BYTES)
}

/// Five page tables for the boot mapping: one root, and a level 1 table per 512 GiB that image and device tree touch.
#[repr(C, align(4096))]
struct BootTables([[u64; 512]; 5]);

#[unsafe(no_mangle)]
static mut EL2_BOOT_TABLES: BootTables = BootTables([[0; 512]; 5]);

/// Makes the final tables known to the cores that start later, which read the value uncached.
pub fn publish_tables(ttbr0: u64) {
    EL2_FINAL_TTBR0.store(ttbr0, Ordering::Release);
    let address = (&raw const EL2_FINAL_TTBR0).addr();
    aarch64::cache::clean_to_poc(address..address + 8);
}

/// Calls `start` with `index` on the empty stack of this core, which is core `index`: whatever was on it is given up.
pub fn begin_again(index: usize, start: extern "C" fn(usize) -> !) -> ! {
    assert!(index < MAX_CORES);
    let top = (&raw const EL2_STACKS).addr() + (index + 1) * STACK_BYTES;
    // SAFETY: the stack is this core's alone, and nobody returns to what was on it, since `start` does not return. Values there are leaked,
    // which is safe; EL2 has no pinned ones.
    unsafe {
        core::arch::asm!(
            "mov sp, {top}",
            "mov x29, xzr",
            "mov x30, xzr",
            "br  {start}",
            top = in(reg) top, start = in(reg) start, in("x0") index,
            options(noreturn),
        );
    }
}

/// The physical address at which another core enters (with its index as context).
pub fn secondary_entry() -> u64 {
    unsafe extern "C" {
        fn _secondary_start();
    }
    (_secondary_start as *const ()).addr() as u64
}

/// The boot code. `$main` is `extern "C" fn(dtb: usize) -> !`, `$secondary` is `extern "C" fn(core: usize) -> !`,
/// `$console` the address of a PL011 to name the one error that can be met before Rust runs.
#[macro_export]
macro_rules! entry {
    (main = $main:path, secondary = $secondary:path, early_console = $console:expr) => {
        aarch64::image_header!();
        core::arch::global_asm!(
            ".section .text.boot, \"ax\"",
            ".global _start",
            "_start:",
            "msr  daifset, #0xf",
            "mov  x20, x0",
            "mrs  x1, CurrentEL",
            "cmp  x1, #8",
            "b.ne 90f",
            "bl   el2_mmu_off",
            aarch64::relocate_and_clear!(),
            // Boot tables: x9 = root, x10 = next free level 1 table.
            "adrp x9, EL2_BOOT_TABLES",
            "add  x9, x9, :lo12:EL2_BOOT_TABLES",
            "add  x10, x9, #4096",
            "mov  x5, #0x441", // AF | RES1 | attribute 0 | block, never executed
            "movk x5, #0x40, lsl #48",
            "mov  x1, #{console_low}",
            "movk x1, #{console_high}, lsl #16",
            "bl   el2_map_gib",
            "mov  x5, #0x745", // AF | inner shareable | RES1 | attribute 1 | block
            "adrp x1, _image_start",
            "bl   el2_map_gib",
            "adrp x1, _image_end",
            "sub  x1, x1, #1",
            "bl   el2_map_gib",
            "cbz  x20, 10f",
            "mov  x1, x20",
            "bl   el2_map_gib",
            "add  x1, x20, #0x200000", // a device tree is at most 2 MiB
            "bl   el2_map_gib",
            // The walker reads them cached; they were written uncached: drop what a cache may hold of them.
            "10:  mov  x1, x9",
            "add  x2, x9, #(5 * 4096)",
            "11:  dc   ivac, x1",
            "add  x1, x1, #16", // the smallest line that the architecture allows
            "cmp  x1, x2",
            "b.lo 11b",
            "mov  x0, x9",
            "bl   el2_mmu_on",
            "mov  x0, #0",
            "bl   el2_stack",
            "mov  x0, x20",
            "bl   {main}",
            "brk  #0",
            "",
            ".global _secondary_start",
            "_secondary_start:",
            "msr  daifset, #0xf",
            "mov  x20, x0",
            "bl   el2_mmu_off",
            "adrp x0, EL2_FINAL_TTBR0",
            "ldr  x0, [x0, :lo12:EL2_FINAL_TTBR0]",
            "bl   el2_mmu_on",
            "mrs  x1, sctlr_el2",
            "orr  x1, x1, #(1 << 19)", // WXN, as the boot core has it by now
            "msr  sctlr_el2, x1",
            "isb",
            "mov  x0, x20",
            "bl   el2_stack",
            "mov  x0, x20",
            "bl   {secondary}",
            "brk  #0",
            "",
            // SP = end of stack x0; vectors on. Uses x1, x2.
            "el2_stack:",
            "adrp x1, EL2_STACKS",
            "add  x1, x1, :lo12:EL2_STACKS",
            "add  x0, x0, #1",
            "mov  x2, #{stack}",
            "madd x1, x0, x2, x1",
            "mov  sp, x1",
            "adrp x1, el2_vectors",
            "add  x1, x1, :lo12:el2_vectors",
            "msr  vbar_el2, x1",
            "isb",
            "ret",
            "",
            // A known state: no E2H, no traps, MMU and caches off. SCTLR_EL2 RES1 bits: DDI 0487 D24.2.175.
            "el2_mmu_off:",
            "mov  x1, #0x0830",
            "movk x1, #0x30c5, lsl #16",
            "msr  sctlr_el2, x1",
            "mov  x1, #0x80000000", // HCR_EL2.RW
            "msr  hcr_el2, x1",
            "isb",
            "ret",
            "",
            // MMU and caches on with root x0. TCR_EL2: 48-bit addresses, 4 KiB granule, inner shareable write-back walks,
            // PS from ID_AA64MMFR0_EL1.PARange, at most 48 bits.
            "el2_mmu_on:",
            "mov  x1, #{mair_low}",
            "movk x1, #{mair_high}, lsl #16",
            "msr  mair_el2, x1",
            "mrs  x1, id_aa64mmfr0_el1",
            "and  x1, x1, #0xf",
            "cmp  x1, #5",
            "mov  x2, #5",
            "csel x1, x1, x2, lo",
            "mov  x2, #0x3510",
            "movk x2, #0x8080, lsl #16",
            "orr  x2, x2, x1, lsl #16",
            "msr  tcr_el2, x2",
            "msr  ttbr0_el2, x0",
            "isb",
            "tlbi alle2",
            "ic   iallu",
            "dsb  nsh",
            "isb",
            "mrs  x1, sctlr_el2",
            "mov  x2, #0x100d", // I | SA | C | M
            "orr  x1, x1, x2",
            "msr  sctlr_el2, x1",
            "isb",
            "ret",
            "",
            // Maps the GiB around x1 with attributes x5. Uses x2..x4; x9, x10 as above.
            "el2_map_gib:",
            "ubfx x2, x1, #39, #9",
            "ldr  x3, [x9, x2, lsl #3]",
            "cbnz x3, 1f",
            "orr  x3, x10, #3",
            "str  x3, [x9, x2, lsl #3]",
            "add  x10, x10, #4096",
            "1:   and  x3, x3, #~0xfff",
            "ubfx x2, x1, #30, #9",
            "and  x4, x1, #0xffffffffc0000000",
            "orr  x4, x4, x5",
            "str  x4, [x3, x2, lsl #3]",
            "ret",
            "",
            // Not at EL2: say so and stop.
            "90:  mov  x1, #{console_low}",
            "movk x1, #{console_high}, lsl #16",
            "adr  x2, 93f",
            "91:  ldrb w3, [x2], #1",
            "cbz  w3, 92f",
            "str  w3, [x1]",
            "b    91b",
            // Without EL2 an emulator's firmware answers HVC; where nobody does, the vectors catch the undefined instruction
            // and spin there.
            "92:  adrp x1, el2_vectors",
            "add  x1, x1, :lo12:el2_vectors",
            "msr  vbar_el1, x1",
            "isb",
            "mov  x0, #0x0008", // SYSTEM_OFF
            "movk x0, #0x8400, lsl #16",
            "hvc  #0",
            "b    .",
            "93:  .asciz \"[haechi] stopped: must be entered at EL2; on QEMU give -M virt,virtualization=on\\r\\n\"",
            ".balign 4",
            main = sym $main,
            secondary = sym $secondary,
            stack = const $crate::boot::STACK_BYTES,
            mair_low = const aarch64::stage1::MAIR & 0xffff,
            mair_high = const aarch64::stage1::MAIR >> 16 & 0xffff,
            console_low = const $console & 0xffff,
            console_high = const $console >> 16 & 0xffff,
        );
    };
}
