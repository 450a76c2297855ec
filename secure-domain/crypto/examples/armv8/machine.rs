//! The machine under the checks: boot at EL1 with an identity map, semihosting, the counter.
#![allow(unsafe_code)]
use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

// Vector and unaligned accesses need Normal memory, so the MMU is on: gigabyte 0 Device, gigabyte 1 Normal write-back
// (DDI 0487 section D8.3 "Translation table descriptor formats").
global_asm!(
    ".section .text.boot, \"ax\"",
    ".global _start",
    "_start:",
    "    mov x0, #(3 << 20)", // CPACR_EL1.FPEN
    "    msr cpacr_el1, x0",
    "    adrp x1, __stack_top",
    "    mov sp, x1",
    "    adrp x1, __bss_start",
    "    adrp x2, __bss_end",
    "    add x2, x2, :lo12:__bss_end",
    "1:  cmp x1, x2",
    "    b.hs 2f",
    "    str xzr, [x1], #8",
    "    b 1b",
    "2:  adrp x1, __tables",
    "    ldr x2, =0x0060000000000405", // Device, AttrIndx 1, AF, UXN, PXN
    "    str x2, [x1]",
    "    ldr x2, =0x0000000040000701", // Normal, AttrIndx 0, AF, inner shareable
    "    str x2, [x1, #8]",
    "    dsb sy",
    "    msr ttbr0_el1, x1",
    "    mov x2, #0x00ff", // MAIR: Normal write-back, Device-nGnRnE
    "    msr mair_el1, x2",
    "    ldr x2, =0x803519", // TCR: T0SZ 25, write-back walks, inner shareable, no TTBR1
    "    msr tcr_el1, x2",
    "    isb",
    "    mrs x2, sctlr_el1",
    "    mov x3, #0x1005", // M, C, I
    "    orr x2, x2, x3",
    "    bic x2, x2, #2", // A: no alignment faults
    "    msr sctlr_el1, x2",
    "    isb",
    "    bl {main}",
    main = sym main,
);

extern "C" fn main() -> ! {
    let mut buffer = [0; 64];
    match command_line(&mut buffer).split(' ').nth(1) {
        Some("bench") => super::bench::run(),
        _ => super::check::run(),
    }
    super::leaky::keep();
    exit(0)
}

/// The words that QEMU was given for the program, its own name first; empty if there are none (SYS_GET_CMDLINE).
fn command_line(buffer: &mut [u8; 64]) -> &str {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    semihosting(0x15, block.as_mut_ptr() as usize);
    buffer.get(..block[1]).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default()
}

/// A semihosting call (Arm "Semihosting for AArch32 and AArch64", section 4).
fn semihosting(operation: u64, parameter: usize) {
    // SAFETY: the debugger answers `HLT 0xF000`; the operations used here touch only the parameter block and the buffer it names.
    unsafe { asm!("hlt #0xf000", inout("x0") operation => _, in("x1") parameter, options(nostack)) };
}

/// Leaves QEMU with this exit code (SYS_EXIT, ADP_Stopped_ApplicationExit).
fn exit(code: u64) -> ! {
    let block = [0x20026u64, code];
    semihosting(0x18, block.as_ptr() as usize);
    loop {
        core::hint::spin_loop();
    }
}

/// The debugger's console.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.as_bytes().chunks(127) {
            let mut line = [0u8; 128];
            line[..piece.len()].copy_from_slice(piece);
            semihosting(0x04, line.as_ptr() as usize);
        }
        Ok(())
    }
}

/// Nanoseconds of the virtual counter, which are instructions under `-icount shift=0`.
pub(crate) fn now_ns() -> u64 {
    let (ticks, frequency): (u64, u64);
    // SAFETY: both registers only tell the time.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", "mrs {}, cntfrq_el0", out(reg) ticks, out(reg) frequency) };
    (u128::from(ticks) * 1_000_000_000 / u128::from(frequency)) as u64
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Nothing is left to do if even the console fails.
    let _ = writeln!(Console, "FAILED: {info}");
    exit(1)
}
