//! Exceptions that EL2 gives to a domain: the state in which hardware would have entered EL1 (Arm DDI 0487, `AArch64.TakeException`).
//!
//! A bad access of a domain becomes its own external abort, an instruction that it does not have an undefined one; it never
//! notices EL2. Interrupts and SErrors are not here: hardware takes the virtual ones by itself.

use crate::exit::{Fault, FaultKind};
use crate::{El1State, Frame, pstate};

/// `SCTLR_EL1.SPAN`: an exception to EL1 leaves `PSTATE.PAN` alone.
const SCTLR_SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`: `PSTATE.SSBS` after an exception to EL1.
const SCTLR_DSSBS: u64 = 1 << 44;

/// `ESR_EL1.IL`: 1 for every exception here, whatever the instruction's length.
const IL: u64 = 1 << 25;
/// `FnV`: `FAR_EL1` does not hold an address.
const FNV: u64 = 1 << 10;
/// `CM`: a cache maintenance instruction.
const CM: u64 = 1 << 8;
/// `WnR`: a store.
const WNR: u64 = 1 << 6;
/// `DFSC`: synchronous external abort.
const EXTERNAL: u64 = 0b01_0000;
/// `DFSC`: synchronous external abort on a walk, level 3. Which level it was is not told for a stage-2 fault.
const EXTERNAL_ON_WALK: u64 = 0b01_0111;

/// What the core has that changes how an exception is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// FEAT_PAN: `ID_AA64MMFR1_EL1.PAN` is not 0.
    pub pan: bool,
    /// FEAT_SSBS: `ID_AA64PFR1_EL1.SSBS` is not 0.
    pub ssbs: bool,
    /// FEAT_MTE2: `ID_AA64PFR1_EL1.MTE` (of the hardware) is 2 or more.
    pub mte: bool,
}

/// An exception for a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// An instruction that the domain does not have (`EC` 0).
    Undefined,
    /// A synchronous external abort of a load, store or cache operation.
    DataAbort {
        /// The virtual address, if it is known.
        far: Option<u64>,
        /// It was a store.
        write: bool,
        /// It was a cache maintenance instruction.
        cache_maintenance: bool,
        /// It happened on the walk of the domain's own tables.
        on_walk: bool,
    },
    /// A synchronous external abort of a fetch.
    InstructionAbort {
        /// The virtual address, if it is known.
        far: Option<u64>,
        /// It happened on the walk of the domain's own tables.
        on_walk: bool,
    },
}

impl Exception {
    /// The external abort for a data abort that nothing resolves.
    pub fn data_abort(fault: &Fault) -> Exception {
        Exception::DataAbort {
            far: fault.far,
            write: fault.write,
            cache_maintenance: fault.cache_maintenance,
            on_walk: on_walk(fault),
        }
    }

    /// The external abort for an instruction abort that nothing resolves.
    pub fn instruction_abort(fault: &Fault) -> Exception {
        Exception::InstructionAbort { far: fault.far, on_walk: on_walk(fault) }
    }

    fn far(&self) -> Option<u64> {
        match self {
            Exception::Undefined => None,
            Exception::DataAbort { far, .. } | Exception::InstructionAbort { far, .. } => *far,
        }
    }

    /// `ESR_EL1`; the class of an abort is one higher if it was taken from EL1 itself.
    fn syndrome(&self, from_el0: bool) -> u64 {
        let same_el = if from_el0 { 0 } else { 1 };
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let status = |on_walk: bool| if on_walk { EXTERNAL_ON_WALK } else { EXTERNAL };
        let no_far = flag(self.far().is_none(), FNV);
        match *self {
            Exception::Undefined => IL,
            Exception::InstructionAbort { on_walk, .. } => (0x20 | same_el) << 26 | IL | no_far | status(on_walk),
            Exception::DataAbort { write, cache_maintenance, on_walk, .. } => {
                let flags = flag(write, WNR) | flag(cache_maintenance, CM);
                (0x24 | same_el) << 26 | IL | no_far | flags | status(on_walk)
            }
        }
    }
}

fn on_walk(fault: &Fault) -> bool {
    fault.on_stage1_walk || fault.kind == FaultKind::ExternalOnWalk
}

/// The state after the entry. The caller writes the four EL1 registers (live or saved) and goes on at `pc` with `pstate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Entry {
    /// `ELR_EL1`.
    pub elr_el1: u64,
    /// `SPSR_EL1`.
    pub spsr_el1: u64,
    /// `ESR_EL1`.
    pub esr_el1: u64,
    /// `FAR_EL1`, if the exception sets it.
    pub far_el1: Option<u64>,
    /// Where the domain goes on: `ELR_EL2`.
    pub pc: u64,
    /// Its PSTATE: `SPSR_EL2`.
    pub pstate: u64,
}

impl Entry {
    /// How `exception` is entered by a domain that was stopped at `elr` with `spsr`. `vbar` and `sctlr` are its `VBAR_EL1` and `SCTLR_EL1`.
    pub fn new(exception: Exception, elr: u64, spsr: u64, vbar: u64, sctlr: u64, features: Features) -> Entry {
        Entry {
            elr_el1: elr,
            spsr_el1: spsr,
            esr_el1: exception.syndrome(pstate::is_el0(spsr)),
            far_el1: exception.far(),
            pc: (vbar & !0x7ff) + vector(spsr),
            pstate: pstate_after(spsr, sctlr, features),
        }
    }

    /// Enters it: for a domain whose EL1 registers are saved.
    pub fn apply(&self, frame: &mut Frame, el1: &mut El1State) {
        frame.elr = self.pc;
        frame.spsr = self.pstate;
        el1.elr_el1 = self.elr_el1;
        el1.spsr_el1 = self.spsr_el1;
        el1.esr_el1 = self.esr_el1;
        el1.far_el1 = self.far_el1.unwrap_or(el1.far_el1);
    }
}

/// The offset of the synchronous vector (Arm DDI 0487, table D1-7).
fn vector(spsr: u64) -> u64 {
    match spsr & pstate::MODE_MASK {
        pstate::EL1T => 0x000,
        pstate::EL0T => 0x400,
        _ if pstate::is_aarch32(spsr) => 0x600,
        _ => 0x200,
    }
}

/// PSTATE at the vector: EL1h, all masked; flags and DIT stay; `IL`, `SS`, `UAO`, `BTYPE` and what only AArch32 has are cleared.
fn pstate_after(spsr: u64, sctlr: u64, features: Features) -> u64 {
    let kept = spsr & (pstate::NZCV | pstate::DIT | pstate::PAN);
    let pan = if features.pan && sctlr & SCTLR_SPAN == 0 { pstate::PAN } else { 0 };
    let ssbs = if features.ssbs && sctlr & SCTLR_DSSBS != 0 { pstate::SSBS } else { 0 };
    let tco = if features.mte { pstate::TCO } else { 0 };
    kept | pan | ssbs | tco | pstate::DAIF | pstate::EL1H
}
