//! Entering a guest and coming back: a function call that returns when the guest traps.
//!
//! [`enter`] loads the guest's registers from its [`Frame`] and executes `ERET`. Any exception from the guest lands in `el2_vectors`, which stores the guest's registers back into the same frame
//! and returns from [`enter`]. So the run loop is an ordinary loop, and a domain switch is entering another frame. EL2 is built
//! soft-float: it never touches the guest's vector registers.

use core::arch::{asm, global_asm};

use vcpu::Frame;

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A synchronous exception: `ESR_EL2` says which.
    Synchronous,
    /// A physical interrupt is pending; nothing has been acknowledged.
    Interrupt,
    /// An SError from the guest's own accesses.
    SError,
}

/// Runs the guest whose registers are in `frame` until it traps.
///
/// The guest's system registers, stage 2 and interrupt state must have been loaded (`context`), which is what makes this safe
/// to call: the guest can reach only what its stage 2 maps.
#[inline(always)]
pub fn enter(frame: &mut Frame) -> Trap {
    let kind: u64;
    // SAFETY: `frame` is exclusively ours for the call; the assembly stores only into it and the current stack. It comes back with
    // the guest's values in all registers but sp, x19, x29 and x30, which it restores; all others are declared. (Naming them here
    // instead of saving them there lets the compiler keep across a guest only what it needs.)
    unsafe {
        asm!(
            "bl el2_enter",
            inout("x0") core::ptr::from_mut(frame) => kind,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _, out("x25") _, out("x26") _, out("x27") _,
            out("x28") _, clobber_abi("C"),
        );
    }
    match kind {
        0 => Trap::Synchronous,
        1 => Trap::Interrupt,
        _ => Trap::SError,
    }
}

global_asm!(
    ".section .text.guest, \"ax\"",
    ".global el2_enter",
    "el2_enter:",
    "stp  x29, x30, [sp, #-32]!",
    "stp  x19, x0, [sp, #16]",
    "ldp  x1, x2, [x0, #{elr}]",
    "msr  elr_el2, x1",
    "msr  spsr_el2, x2",
    "ldp  x2, x3, [x0, #16]",
    "ldp  x4, x5, [x0, #32]",
    "ldp  x6, x7, [x0, #48]",
    "ldp  x8, x9, [x0, #64]",
    "ldp  x10, x11, [x0, #80]",
    "ldp  x12, x13, [x0, #96]",
    "ldp  x14, x15, [x0, #112]",
    "ldp  x16, x17, [x0, #128]",
    "ldp  x18, x19, [x0, #144]",
    "ldp  x20, x21, [x0, #160]",
    "ldp  x22, x23, [x0, #176]",
    "ldp  x24, x25, [x0, #192]",
    "ldp  x26, x27, [x0, #208]",
    "ldp  x28, x29, [x0, #224]",
    "ldr  x30, [x0, #240]",
    "ldp  x0, x1, [x0]",
    "eret",
    "dsb  nsh", // nothing is speculated past the ERET
    "isb",
    "",
    ".macro el2_exit kind",
    ".balign 128",
    "stp  x0, x1, [sp, #-16]!",
    "ldr  x0, [sp, #40]", // the frame, above the pair just pushed
    "stp  x2, x3, [x0, #16]",
    "mov  x2, #\\kind",
    "b    el2_leave",
    ".endm",
    "",
    ".macro el2_own kind",
    ".balign 128",
    "mov  x0, #\\kind",
    "mrs  x1, esr_el2",
    "mrs  x2, elr_el2",
    "mrs  x3, far_el2",
    "adrp x4, EL2_EMERGENCY_STACK",
    "add  x4, x4, :lo12:EL2_EMERGENCY_STACK",
    "add  sp, x4, #4, lsl #12", // its end, 16 KiB up
    "b    el2_unexpected_exception",
    ".endm",
    "",
    ".balign 2048",
    ".global el2_vectors",
    "el2_vectors:",
    "el2_own 0", // current EL, SP_EL0
    "el2_own 1",
    "el2_own 2",
    "el2_own 3",
    "el2_own 4", // current EL, SP_EL2
    "el2_own 5",
    "el2_own 6",
    "el2_own 7",
    "el2_exit 0", // lower EL, AArch64
    "el2_exit 1",
    "el2_exit 1", // FIQ: routed here too (HCR_EL2.FMO); nothing of ours uses it
    "el2_exit 2",
    "el2_exit 0", // lower EL, AArch32 (EL0 under an AArch64 kernel)
    "el2_exit 1",
    "el2_exit 1",
    "el2_exit 2",
    "",
    "el2_leave:", // x0 = frame, x2 = kind, guest's x0/x1 on the stack, x2/x3 already stored
    "stp  x4, x5, [x0, #32]",
    "stp  x6, x7, [x0, #48]",
    "stp  x8, x9, [x0, #64]",
    "stp  x10, x11, [x0, #80]",
    "stp  x12, x13, [x0, #96]",
    "stp  x14, x15, [x0, #112]",
    "stp  x16, x17, [x0, #128]",
    "stp  x18, x19, [x0, #144]",
    "stp  x20, x21, [x0, #160]",
    "stp  x22, x23, [x0, #176]",
    "stp  x24, x25, [x0, #192]",
    "stp  x26, x27, [x0, #208]",
    "stp  x28, x29, [x0, #224]",
    "str  x30, [x0, #240]",
    "ldp  x4, x5, [sp], #16",
    "stp  x4, x5, [x0]",
    "mrs  x4, elr_el2",
    "mrs  x5, spsr_el2",
    "stp  x4, x5, [x0, #{elr}]",
    "mov  x0, x2",
    "ldr  x19, [sp, #16]",
    "ldp  x29, x30, [sp], #32",
    "ret",
    elr = const core::mem::offset_of!(Frame, elr),
);
