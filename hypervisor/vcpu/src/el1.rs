//! The EL1 and EL0 system registers that a switch between domains saves and restores.
//!
//! Pointer-authentication keys are not among them: only the general domain may use the instructions (`HCR_EL2.API`, `APK`), so
//! its keys stay in place and the secure domain can neither use nor read them. Vector registers have their own area, since a
//! trap does not save them. Registers of extensions that are hidden from the domains ([`crate::id_registers`]) are trapped or
//! have no effect.

use crate::pstate;

/// `SCTLR_EL1` in which a domain is entered: `RES1` bits, MMU and caches off, little-endian (Arm DDI 0487, D19.2; bits 29, 28, 23, 22, 20
/// and 11 are `LSMAOE`, `nTLSMD`, `SPAN`, `EIS`, `TSCXT` and `EOS` where those extensions exist).
pub const SCTLR_RESET: u64 = 0x30d0_0800;

/// The registers, named as in the manual. All 0 by default, which is no state that a domain begins in: that is [`El1State::reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct El1State {
    /// `SCTLR_EL1`.
    pub sctlr_el1: u64,
    /// `CPACR_EL1`.
    pub cpacr_el1: u64,
    /// `TTBR0_EL1`.
    pub ttbr0_el1: u64,
    /// `TTBR1_EL1`.
    pub ttbr1_el1: u64,
    /// `TCR_EL1`.
    pub tcr_el1: u64,
    /// `MAIR_EL1`.
    pub mair_el1: u64,
    /// `AMAIR_EL1`.
    pub amair_el1: u64,
    /// `VBAR_EL1`.
    pub vbar_el1: u64,
    /// `CONTEXTIDR_EL1`.
    pub contextidr_el1: u64,
    /// `SP_EL0`.
    pub sp_el0: u64,
    /// `SP_EL1`.
    pub sp_el1: u64,
    /// `ELR_EL1`.
    pub elr_el1: u64,
    /// `SPSR_EL1`.
    pub spsr_el1: u64,
    /// `ESR_EL1`.
    pub esr_el1: u64,
    /// `FAR_EL1`.
    pub far_el1: u64,
    /// `AFSR0_EL1`.
    pub afsr0_el1: u64,
    /// `AFSR1_EL1`.
    pub afsr1_el1: u64,
    /// `PAR_EL1`.
    pub par_el1: u64,
    /// `TPIDR_EL0`.
    pub tpidr_el0: u64,
    /// `TPIDRRO_EL0`.
    pub tpidrro_el0: u64,
    /// `TPIDR_EL1`.
    pub tpidr_el1: u64,
    /// `CSSELR_EL1`.
    pub csselr_el1: u64,
    /// `MDSCR_EL1`: 0 keeps another domain's breakpoints and watchpoints quiet.
    pub mdscr_el1: u64,
    /// `CNTKCTL_EL1`.
    pub cntkctl_el1: u64,
    /// `CNTV_CTL_EL0`.
    pub cntv_ctl_el0: u64,
    /// `CNTV_CVAL_EL0`.
    pub cntv_cval_el0: u64,
    /// `CNTP_CTL_EL0`.
    pub cntp_ctl_el0: u64,
    /// `CNTP_CVAL_EL0`.
    pub cntp_cval_el0: u64,
}

impl El1State {
    /// A domain that has run nothing yet: MMU and caches off, timers off, floating point trapped to itself.
    pub fn reset() -> El1State {
        El1State { sctlr_el1: SCTLR_RESET, spsr_el1: pstate::RESET, ..El1State::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_starts_with_its_mmu_and_caches_off() {
        let state = El1State::reset();
        let (m, c, i) = (1 << 0, 1 << 2, 1 << 12);
        assert_eq!(state.sctlr_el1 & (m | c | i), 0);
        assert_eq!((state.cntv_ctl_el0, state.mdscr_el1), (0, 0));
    }
}
