//! From the loader's jump to Rust, and the end.

use core::fmt::Write as _;
use core::panic::PanicInfo;

use aarch64::heap::BootHeap;

use crate::calls::{self, Conduit};
use crate::console::Console;
use crate::probe;

/// `aarch64` links `alloc`; the probe allocates nothing, and this heap has no memory to give.
#[global_allocator]
static NO_HEAP: BootHeap = BootHeap::new();

aarch64::image_header!();

core::arch::global_asm!(
    ".section .bss.stack, \"aw\", %nobits",
    ".balign 4096",
    ".skip 65536",
    "probe_stack_end:",
    ".section .text.boot, \"ax\"",
    ".global _start",
    "_start:",
    "msr  daifset, #0xf",
    "mov  x20, x0",
    // CPACR_EL1.FPEN, ZEN and SMEN: what EL1 itself would trap says nothing about the hypervisor.
    "movz x1, #0x0333, lsl #16",
    "msr  cpacr_el1, x1",
    "isb",
    aarch64::relocate_and_clear!(),
    "adrp x1, probe_stack_end",
    "add  x1, x1, :lo12:probe_stack_end",
    "mov  sp, x1",
    "adrp x1, probe_vectors",
    "add  x1, x1, :lo12:probe_vectors",
    "msr  vbar_el1, x1",
    "isb",
    "mov  x0, x20",
    "mov  x29, xzr",
    "mov  x30, xzr",
    "b    {main}",
    main = sym main,
);

extern "C" fn main(device_tree: usize) -> ! {
    probe::run(device_tree);
    off()
}

/// Turns the machine off by either conduit.
fn off() -> ! {
    for conduit in [Conduit::Smc, Conduit::Hvc] {
        let _ = calls::call(conduit, [calls::SYSTEM_OFF, 0, 0, 0]);
    }
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "probe: defect in the probe: {info}");
    off()
}
