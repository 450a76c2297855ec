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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;
    use proptest::prelude::*;

    const VBAR: u64 = 0xffff_8000_1000_0800;
    const ELR: u64 = 0xffff_8000_1001_2344;
    const SPAN: u64 = SCTLR_SPAN;
    const NEW: Features = Features { pan: true, ssbs: true, mte: true };
    const ABORT: Exception =
        Exception::DataAbort { far: Some(0x1234), write: true, cache_maintenance: false, on_walk: false };

    fn enter(exception: Exception, spsr: u64) -> Entry {
        Entry::new(exception, ELR, spsr, VBAR, SPAN, Features::default())
    }

    #[test]
    fn each_state_has_its_vector() {
        let cases = [
            (pstate::EL1T, 0x000),
            (pstate::EL1H, 0x200),
            (pstate::EL0T, 0x400),
            (pstate::NRW, 0x600),
            (pstate::NRW | pstate::T32, 0x600),
        ];
        for (spsr, offset) in cases {
            assert_eq!(enter(Exception::Undefined, spsr).pc, VBAR + offset);
        }
    }

    #[test]
    fn the_syndrome_says_where_it_came_from() {
        let fetch = Exception::InstructionAbort { far: Some(0x1000), on_walk: false };
        let cases = [
            (ABORT, pstate::EL0T, 0x9200_0050),
            (ABORT, pstate::NRW, 0x9200_0050),
            (ABORT, pstate::EL1H, 0x9600_0050),
            (ABORT, pstate::EL1T, 0x9600_0050),
            (fetch, pstate::EL0T, 0x8200_0010),
            (fetch, pstate::EL1H, 0x8600_0010),
            (Exception::Undefined, pstate::EL0T, 0x0200_0000),
            (Exception::Undefined, pstate::EL1H, 0x0200_0000),
        ];
        for (exception, spsr, esr) in cases {
            assert_eq!(enter(exception, spsr).esr_el1, esr, "{exception:?} from {spsr:#x}");
        }
    }

    #[test]
    fn an_unknown_address_is_said_to_be_unknown() {
        let abort = Exception::DataAbort { far: None, write: false, cache_maintenance: true, on_walk: false };
        let entry = enter(abort, pstate::EL1H);
        assert_eq!((entry.esr_el1, entry.far_el1), (0x9600_0510, None));
    }

    #[test]
    fn a_fault_on_the_walk_is_reported_as_one() {
        let Exit::DataAbort(fault) = Exit::decode(0x9381_00cf, 0x678, 0x4_0000) else { panic!("a data abort") };
        let entry = enter(Exception::data_abort(&fault), pstate::EL1H);
        assert_eq!((entry.esr_el1 & 0x3f, entry.far_el1), (0b01_0111, Some(0x678)));
    }

    #[test]
    fn the_return_state_is_what_was_interrupted() {
        let spsr = pstate::NZCV | pstate::EL0T | pstate::BTYPE | pstate::SS;
        let entry = enter(Exception::Undefined, spsr);
        assert_eq!((entry.elr_el1, entry.spsr_el1), (ELR, spsr));
    }

    #[test]
    fn an_old_core_enters_masked_and_nothing_else() {
        assert_eq!(enter(ABORT, pstate::EL1H).pstate, 0x3c5);
    }

    #[test]
    fn pan_is_set_unless_span_says_to_leave_it() {
        let pan = |spsr: u64, sctlr: u64| Entry::new(ABORT, ELR, spsr, VBAR, sctlr, NEW).pstate & pstate::PAN != 0;
        assert!(pan(0, 0) && pan(pstate::PAN, 0) && pan(pstate::PAN, SPAN));
        assert!(!pan(0, SPAN));
    }

    #[test]
    fn speculation_and_tag_checks_follow_the_architecture() {
        let entry = |sctlr: u64| Entry::new(ABORT, ELR, pstate::SSBS, VBAR, sctlr, NEW).pstate;
        assert_eq!(entry(SPAN), 0x3c5 | pstate::TCO);
        assert_eq!(entry(SPAN | SCTLR_DSSBS), 0x3c5 | pstate::TCO | pstate::SSBS);
    }

    #[test]
    fn the_saved_registers_get_the_entry() {
        let (mut frame, mut el1) = (Frame { elr: ELR, ..Frame::default() }, El1State::reset());
        el1.far_el1 = 0x55;
        enter(Exception::Undefined, pstate::EL0T).apply(&mut frame, &mut el1);
        assert_eq!((frame.elr, frame.spsr), (VBAR + 0x400, 0x3c5));
        assert_eq!((el1.elr_el1, el1.spsr_el1, el1.esr_el1, el1.far_el1), (ELR, 0, 0x0200_0000, 0x55));
    }

    proptest! {
        #[test]
        fn every_entry_is_at_el1_masked_inside_the_vectors(elr: u64, spsr: u64, vbar: u64, sctlr: u64, far: u64) {
            let abort = Exception::InstructionAbort { far: Some(far), on_walk: false };
            for exception in [Exception::Undefined, ABORT, abort] {
                let entry = Entry::new(exception, elr, spsr, vbar, sctlr, NEW);
                prop_assert_eq!(entry.pstate & (pstate::MODE_MASK | pstate::DAIF), 0x3c5);
                prop_assert_eq!(entry.pstate & (pstate::IL | pstate::SS | pstate::UAO | pstate::BTYPE | pstate::T32), 0);
                prop_assert_eq!(entry.pc & !0x7ff, vbar & !0x7ff);
                prop_assert_eq!(entry.pc & 0x7f, 0);
            }
        }
    }
}
