//! Loads, stores and fetches at any address; each may be answered with an exception and is then stepped over.

use core::arch::asm;

use crate::exception::{Outcome, attempt, call_foreign};

/// What a load gives that was stepped over.
const POISON: u64 = 0x5eed_dead_5eed_dead;

/// Loads `size` bytes (1, 2, 4 or 8).
pub(crate) fn load(address: usize, size: usize) -> Outcome {
    attempt(|| {
        let mut value = POISON;
        // SAFETY: a load changes nothing that Rust knows of; an exception steps over it.
        unsafe {
            match size {
                1 => asm!("ldrb {v:w}, [{a}]", v = inout(reg) value, a = in(reg) address, options(nostack)),
                2 => asm!("ldrh {v:w}, [{a}]", v = inout(reg) value, a = in(reg) address, options(nostack)),
                4 => asm!("ldr {v:w}, [{a}]", v = inout(reg) value, a = in(reg) address, options(nostack)),
                _ => asm!("ldr {v}, [{a}]", v = inout(reg) value, a = in(reg) address, options(nostack)),
            }
        }
        value
    })
}

/// Stores `size` bytes (1, 2, 4 or 8). The address must belong to no object of Rust's, except the areas of [`crate::disk`] and
/// [`crate::sysregs`], which are only touched through here.
pub(crate) fn store(address: usize, size: usize, value: u64) -> Outcome {
    attempt(|| {
        // SAFETY: by the rule above no object of Rust's changes; an exception steps over it.
        unsafe {
            match size {
                1 => asm!("strb {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)),
                2 => asm!("strh {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)),
                4 => asm!("str {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)),
                _ => asm!("str {v}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)),
            }
        }
        0
    })
}

/// Reads a 32-bit register; all ones if that is answered with an exception.
pub(crate) fn read32(address: usize) -> u32 {
    load(address, 4).value() as u32
}

/// Writes a 32-bit register.
pub(crate) fn write32(address: usize, value: u32) {
    let _ = store(address, 4, value.into());
}

/// Calls what is at `address` as a function of no arguments.
pub(crate) fn execute(address: usize) -> Outcome {
    call_foreign(|| {
        let value: u64;
        // SAFETY: the vectors come back here at the first exception; code that the probe wrote itself returns and changes only
        // `x0`. Anything else that can be fetched is the failure that this looks for, and all is lost then anyway.
        unsafe { asm!("blr {a}", a = in(reg) address, lateout("x0") value, clobber_abi("C")) };
        value
    })
}

/// An instruction that hardware does not describe to a hypervisor (`ISV` = 0), or not as a plain load or store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Odd {
    /// Load pair.
    LoadPair,
    /// Store pair.
    StorePair,
    /// Store with write-back of the base register.
    StoreWriteBack,
    /// Load of a vector register.
    LoadVector,
    /// Store of a vector register.
    StoreVector,
    /// Load exclusive and store exclusive.
    Exclusive,
    /// Zeroing of a cache line's worth of memory.
    ZeroLine,
    /// Invalidation of a cache line.
    InvalidateLine,
    /// Prefetch.
    Prefetch,
    /// Word at an odd address.
    Unaligned,
}

impl Odd {
    /// Every one, with its name in the report.
    pub(crate) const ALL: [(Odd, &str); 10] = [
        (Odd::LoadPair, "ldp"),
        (Odd::StorePair, "stp"),
        (Odd::StoreWriteBack, "str_writeback"),
        (Odd::LoadVector, "ld1"),
        (Odd::StoreVector, "st1"),
        (Odd::Exclusive, "ldxr_stxr"),
        (Odd::ZeroLine, "dc_zva"),
        (Odd::InvalidateLine, "dc_ivac"),
        (Odd::Prefetch, "prfm"),
        (Odd::Unaligned, "ldr_unaligned"),
    ];

    /// Whether it changes memory.
    pub(crate) fn stores(self) -> bool {
        matches!(self, Odd::StorePair | Odd::StoreWriteBack | Odd::StoreVector | Odd::Exclusive | Odd::ZeroLine)
    }

    /// Does it at `address`, with zeros where it stores.
    pub(crate) fn run(self, address: usize) -> Outcome {
        attempt(|| {
            // SAFETY: as `load` and `store`; scratch registers are declared, an exception steps over the one instruction.
            unsafe {
                match self {
                    Odd::LoadPair => {
                        asm!("ldp {t:w}, {u:w}, [{a}]", a = in(reg) address, t = out(reg) _, u = out(reg) _)
                    }
                    Odd::StorePair => asm!("stp wzr, wzr, [{a}]", a = in(reg) address),
                    Odd::StoreWriteBack => asm!("str wzr, [{a}], #4", a = inout(reg) address => _),
                    Odd::LoadVector => asm!(
                        ".arch_extension simd", "ld1 {{v31.4s}}, [{a}]", ".arch_extension nosimd", a = in(reg) address),
                    Odd::StoreVector => asm!(
                        ".arch_extension simd", "st1 {{v31.4s}}, [{a}]", ".arch_extension nosimd", a = in(reg) address),
                    Odd::Exclusive => asm!(
                        "ldxr {t:w}, [{a}]", "stxr {u:w}, wzr, [{a}]", "clrex",
                        a = in(reg) address, t = out(reg) _, u = out(reg) _),
                    Odd::ZeroLine => asm!("dc zva, {a}", a = in(reg) address),
                    Odd::InvalidateLine => asm!("dc ivac, {a}", a = in(reg) address),
                    Odd::Prefetch => asm!("prfm pldl1keep, [{a}]", a = in(reg) address),
                    Odd::Unaligned => asm!("ldr {t:w}, [{a}, #1]", a = in(reg) address, t = out(reg) _),
                }
            }
            0
        })
    }
}
