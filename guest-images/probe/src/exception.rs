//! Exceptions that the probe provokes: caught, recorded, stepped over.
//!
//! A faulting load or store is stepped over; in a foreign function ([`call_foreign`]) every exception returns to the link
//! register. So code that misbehaves simply goes on, and [`attempt`] tells what it met.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Filled by the vectors: syndrome, address and number of exceptions since [`attempt`] began.
#[repr(C)]
struct Record {
    esr: AtomicU64,
    far: AtomicU64,
    count: AtomicU64,
    /// 1 while a foreign function runs.
    foreign: AtomicU64,
}

static RECORD: Record =
    Record { esr: AtomicU64::new(0), far: AtomicU64::new(0), count: AtomicU64::new(0), foreign: AtomicU64::new(0) };

core::arch::global_asm!(
    ".section .text.vectors, \"ax\"",
    ".balign 2048",
    "probe_vectors:",
    // Sixteen entries; which one it was does not matter, the syndrome tells.
    ".rept 16",
    ".balign 128",
    "b    1f",
    ".endr",
    ".balign 128",
    "1:",
    "stp  x0, x1, [sp, #-16]!",
    "adrp x0, {record}",
    "add  x0, x0, :lo12:{record}",
    "mrs  x1, far_el1",
    "str  x1, [x0, #8]",
    "ldr  x1, [x0, #16]",
    "add  x1, x1, #1",
    "str  x1, [x0, #16]",
    "mrs  x1, esr_el1",
    "str  x1, [x0]",
    "ldr  x1, [x0, #24]",
    "cbnz x1, 2f",
    "mrs  x1, elr_el1",
    "add  x1, x1, #4",
    "b    3f",
    "2:",
    "mov  x1, x30",
    "3:",
    "msr  elr_el1, x1",
    "ldp  x0, x1, [sp], #16",
    "eret",
    record = sym RECORD,
);

/// An exception that the probe took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// `ESR_EL1`.
    pub(crate) esr: u64,
    /// `FAR_EL1`.
    pub(crate) far: u64,
}

impl Exception {
    fn class(self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// A synchronous external abort of a load, store or fetch of its own (Arm DDI 0487, `DFSC` and `IFSC` 0b010000).
    pub(crate) fn is_external(self) -> bool {
        matches!(self.class(), 0x21 | 0x25) && self.esr & 0x3f == 0x10
    }

    /// An undefined instruction, or a register of the identification space that does not exist, which cores with FEAT_IDST
    /// report as a trapped access.
    pub(crate) fn is_undefined(self) -> bool {
        matches!(self.class(), 0 | 0x18)
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It went through, with this value.
    Value(u64),
    /// It was answered with an exception.
    Caught(Exception),
}

impl Outcome {
    /// Whether it was answered with the abort that a forbidden address deserves.
    pub(crate) fn is_external_abort(self) -> bool {
        matches!(self, Outcome::Caught(exception) if exception.is_external())
    }

    /// Whether it was answered as an instruction that does not exist.
    pub(crate) fn is_undefined(self) -> bool {
        matches!(self, Outcome::Caught(exception) if exception.is_undefined())
    }

    /// Whether it was answered with any exception.
    pub(crate) fn is_caught(self) -> bool {
        matches!(self, Outcome::Caught(_))
    }

    /// The value; all ones if there is none.
    pub(crate) fn value(self) -> u64 {
        match self {
            Outcome::Value(value) => value,
            Outcome::Caught(_) => u64::MAX,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value(value) => write!(f, "value_{value:#x}"),
            Outcome::Caught(exception) if exception.is_external() => f.write_str("external_abort"),
            Outcome::Caught(exception) if exception.is_undefined() => f.write_str("undefined"),
            Outcome::Caught(exception) => write!(f, "esr_{:#x}", exception.esr),
        }
    }
}

/// Runs `call`, which branches to code that may not be there; it comes back with the first exception.
pub(crate) fn call_foreign(call: impl FnOnce() -> u64) -> Outcome {
    attempt(|| {
        RECORD.foreign.store(1, Ordering::SeqCst);
        let value = call();
        RECORD.foreign.store(0, Ordering::SeqCst);
        value
    })
}

/// Runs `misdeed` and tells what it met.
pub(crate) fn attempt(misdeed: impl FnOnce() -> u64) -> Outcome {
    RECORD.count.store(0, Ordering::SeqCst);
    let value = misdeed();
    match RECORD.count.load(Ordering::SeqCst) {
        0 => Outcome::Value(value),
        _ => Outcome::Caught(Exception {
            esr: RECORD.esr.load(Ordering::SeqCst),
            far: RECORD.far.load(Ordering::SeqCst),
        }),
    }
}
