//! Excursions: a piece of code runs at EL0 or EL1 until its first exception, and its registers come back.
//!
//! Interrupts are masked on the way. Code that runs at EL1 has no stack of its own and must not use one.

use core::arch::global_asm;

global_asm!(
    ".section .bss.excursion, \"aw\", %nobits",
    ".balign 16",
    "probe_excursion_kept:", // x19 to x30, sp, the excursion, VBAR_EL1
    ".skip 128",
    ".section .text.excursion, \"ax\"",
    ".global probe_excursion",
    "probe_excursion:", // x0 = the excursion
    "adrp x9, probe_excursion_kept",
    "add  x9, x9, :lo12:probe_excursion_kept",
    "stp  x19, x20, [x9]",
    "stp  x21, x22, [x9, #16]",
    "stp  x23, x24, [x9, #32]",
    "stp  x25, x26, [x9, #48]",
    "stp  x27, x28, [x9, #64]",
    "stp  x29, x30, [x9, #80]",
    "mov  x10, sp",
    "stp  x10, x0, [x9, #96]",
    "mrs  x10, vbar_el1",
    "str  x10, [x9, #112]",
    "adrp x10, probe_excursion_vectors",
    "add  x10, x10, :lo12:probe_excursion_vectors",
    "msr  vbar_el1, x10",
    "ldp  x10, x11, [x0, #32]",
    "msr  elr_el1, x10",
    "msr  spsr_el1, x11",
    "ldp  x2, x3, [x0, #16]",
    "ldp  x0, x1, [x0]",
    "isb",
    "eret",
    ".balign 2048",
    "probe_excursion_vectors:",
    ".rept 16",
    ".balign 128",
    "b    1f",
    ".endr",
    ".balign 128",
    "1:",
    "adrp x9, probe_excursion_kept",
    "add  x9, x9, :lo12:probe_excursion_kept",
    "ldp  x10, x11, [x9, #96]",
    "stp  x0, x1, [x11]",
    "stp  x2, x3, [x11, #16]",
    "mrs  x0, elr_el1",
    "mrs  x1, spsr_el1",
    "stp  x0, x1, [x11, #32]",
    "mrs  x0, esr_el1",
    "mrs  x1, far_el1",
    "stp  x0, x1, [x11, #48]",
    "mov  sp, x10",
    "ldr  x10, [x9, #112]",
    "msr  vbar_el1, x10",
    "ldp  x19, x20, [x9]",
    "ldp  x21, x22, [x9, #16]",
    "ldp  x23, x24, [x9, #32]",
    "ldp  x25, x26, [x9, #48]",
    "ldp  x27, x28, [x9, #64]",
    "ldp  x29, x30, [x9, #80]",
    "isb",
    "ret",
);

unsafe extern "C" {
    fn probe_excursion(state: *mut State);
}

/// Registers on the way out and back.
#[repr(C)]
struct State {
    x: [u64; 4],
    pc: u64,
    pstate: u64,
    esr: u64,
    far: u64,
}

/// Where the code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// EL0.
    User,
    /// EL1 with its own stack pointer, debug exceptions unmasked.
    Kernel,
}

/// SError, IRQ and FIQ masked.
const MASKED: u64 = 0b111 << 6;
/// `PSTATE.SS`.
const STEP: u64 = 1 << 21;

/// A piece of code under way.
pub(crate) struct Excursion(State);

impl Excursion {
    /// `code` is to run at `level` with `x0` and `x1` from `arguments`.
    pub(crate) fn new(code: usize, level: Level, arguments: [u64; 2]) -> Excursion {
        let mode = if level == Level::User { 0b0000 } else { 0b0101 };
        let [x0, x1] = arguments;
        Excursion(State { x: [x0, x1, 0, 0], pc: code as u64, pstate: mode | MASKED, esr: 0, far: 0 })
    }

    /// Runs on until the next exception; its class (`ESR_EL1.EC`).
    pub(crate) fn go(&mut self) -> u64 {
        // SAFETY: the assembly keeps what the procedure call standard asks for; the code that runs is assembly of the probe's
        // own, which touches x0 to x3 and x9 to x11 at most and ends in an exception.
        unsafe { probe_excursion(&mut self.0) };
        self.class()
    }

    /// As [`Self::go`] with `PSTATE.SS` set: one instruction, where software step is on.
    pub(crate) fn step(&mut self) -> u64 {
        self.0.pstate |= STEP;
        self.go()
    }

    /// Where it is.
    pub(crate) fn pc(&self) -> u64 {
        self.0.pc
    }

    /// Register `index` of x0 to x3.
    pub(crate) fn x(&self, index: usize) -> u64 {
        self.0.x[index]
    }

    /// `FAR_EL1` of the last exception.
    pub(crate) fn far(&self) -> u64 {
        self.0.far
    }

    fn class(&self) -> u64 {
        self.0.esr >> 26 & 0x3f
    }
}
