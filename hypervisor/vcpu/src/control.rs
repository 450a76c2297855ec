//! The EL2 registers that say what a domain may do: `HCR_EL2`, `CPTR_EL2`, `MDCR_EL2`, `CNTHCTL_EL2` (Arm DDI 0487, D19.2), for `E2H = 0`.
//!
//! Pure values; the machine writes them when it enters the domain. `VTCR_EL2` and `VTTBR_EL2` are the tables' (`stage2`).
//!
//! Once per core, at boot, EL2 itself must write 0 to what has no defined reset value and closes nothing that this file relies upon:
//! `HSTR_EL2`; `HCRX_EL2` where `ID_AA64MMFR1_EL1.HCX` is not 0; the fine-grained traps `HFGRTR_EL2`, `HFGWTR_EL2`, `HFGITR_EL2`, `HDFGRTR_EL2`
//! and `HDFGWTR_EL2` (and `HAFGRTR_EL2` with activity monitors) where `ID_AA64MMFR0_EL1.FGT` is not 0. It must also open the core's OS lock and
//! double lock (`OSLAR_EL1 = 0`, `OSDLR_EL1 = 0`), which the domain's own attempts do not reach. `VPIDR_EL2` and `VMPIDR_EL2` are what the domain
//! reads as `MIDR_EL1` and `MPIDR_EL1`.

/// Bits of `HCR_EL2`.
pub mod hcr {
    /// Stage 2 is on.
    pub const VM: u64 = 1 << 0;
    /// Set/way invalidation also cleans; a domain cannot drop another's dirty lines.
    pub const SWIO: u64 = 1 << 1;
    /// A stage-1 walk through Device memory is a permission fault: the walk would be speculative on registers.
    pub const PTW: u64 = 1 << 2;
    /// Physical FIQ comes to EL2, virtual FIQ is on.
    pub const FMO: u64 = 1 << 3;
    /// Physical IRQ comes to EL2, virtual IRQ is on.
    pub const IMO: u64 = 1 << 4;
    /// Physical SError comes to EL2, virtual SError is on.
    pub const AMO: u64 = 1 << 5;
    /// A virtual SError is pending.
    pub const VSE: u64 = 1 << 8;
    /// TLB and instruction cache maintenance of the domain is broadcast.
    pub const FB: u64 = 1 << 9;
    /// Barriers of the domain reach at least the inner shareable domain.
    pub const BSU_INNER: u64 = 0b01 << 10;
    /// `WFI` traps.
    pub const TWI: u64 = 1 << 13;
    /// `WFE` traps.
    pub const TWE: u64 = 1 << 14;
    /// Identification group 3 traps.
    pub const TID3: u64 = 1 << 18;
    /// `SMC` traps.
    pub const TSC: u64 = 1 << 19;
    /// IMPLEMENTATION DEFINED registers trap.
    pub const TIDCP: u64 = 1 << 20;
    /// `ACTLR_EL1` traps.
    pub const TACR: u64 = 1 << 21;
    /// Set/way operations trap.
    pub const TSW: u64 = 1 << 22;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// LORegion registers trap.
    pub const TLOR: u64 = 1 << 35;
    /// Error record registers trap.
    pub const TERR: u64 = 1 << 36;
    /// Pointer-authentication key registers do not trap.
    pub const APK: u64 = 1 << 40;
    /// Pointer-authentication instructions do not trap.
    pub const API: u64 = 1 << 41;
    /// `GMID_EL1` traps.
    pub const TID5: u64 = 1 << 58;
}

/// Bits of `CPTR_EL2`.
pub mod cptr {
    /// Bits that are 1 whatever is implemented: 0 to 7, 9 and 13.
    pub const RES1: u64 = 0x22ff;
    /// SVE traps; `RES1` without SVE.
    pub const TZ: u64 = 1 << 8;
    /// Advanced SIMD and floating point trap.
    pub const TFP: u64 = 1 << 10;
    /// SME traps; `RES1` without SME.
    pub const TSM: u64 = 1 << 12;
    /// Trace registers trap.
    pub const TTA: u64 = 1 << 20;
    /// Activity monitors trap.
    pub const TAM: u64 = 1 << 30;
}

/// Bits of `MDCR_EL2`.
pub mod mdcr {
    /// `HPMN`: the number of event counters that the domain may use.
    pub const HPMN_MASK: u64 = 0b1_1111;
    /// `PMCR_EL0` traps.
    pub const TPMCR: u64 = 1 << 5;
    /// Performance monitors trap.
    pub const TPM: u64 = 1 << 6;
    /// Debug registers trap.
    pub const TDA: u64 = 1 << 9;
    /// OS lock and power-down registers trap.
    pub const TDOSA: u64 = 1 << 10;
    /// Debug ROM address registers trap.
    pub const TDRA: u64 = 1 << 11;
    /// Statistical profiling traps. `E2PB = 0`: its buffer belongs to EL2.
    pub const TPMS: u64 = 1 << 14;
    /// FEAT_PMUv3p1: event counters stand still at EL2.
    pub const HPMD: u64 = 1 << 17;
    /// `TRFCR_EL1` traps. `E2TB = 0`: the trace buffer belongs to EL2.
    pub const TTRF: u64 = 1 << 19;
    /// FEAT_PMUv3p5: the cycle counter stands still at EL2.
    pub const HCCD: u64 = 1 << 23;
}

/// Bits of `CNTHCTL_EL2` with `E2H = 0`.
pub mod cnthctl {
    /// The physical counter does not trap.
    pub const EL1PCTEN: u64 = 1 << 0;
    /// The physical timer does not trap.
    pub const EL1PCEN: u64 = 1 << 1;
}

/// Which domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Linux or Android.
    General,
    /// The storage domain.
    Secure,
}

/// What the registers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which domain.
    pub domain: Domain,
    /// The core has pointer authentication (any of `ID_AA64ISAR1_EL1` APA, API, `ID_AA64ISAR2_EL1` APA3).
    pub pointer_authentication: bool,
    /// `ID_AA64DFR0_EL1.PMUVer` of the core.
    pub pmu_version: u8,
    /// `PMCR_EL0.N` as read at EL2: the number of event counters.
    pub pmu_counters: u8,
    /// The domain drives the EL1 physical timer itself. Not for two domains on one core, unless it is switched with the rest.
    pub physical_timer: bool,
}

/// The values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `HCR_EL2`.
    pub hcr_el2: u64,
    /// `CPTR_EL2`.
    pub cptr_el2: u64,
    /// `MDCR_EL2`.
    pub mdcr_el2: u64,
    /// `CNTHCTL_EL2`.
    pub cnthctl_el2: u64,
}

impl Config {
    /// The values for this domain.
    pub const fn control(&self) -> Control {
        Control {
            hcr_el2: self.hcr(),
            cptr_el2: self.cptr(),
            mdcr_el2: self.mdcr(),
            cnthctl_el2: cnthctl::EL1PCTEN | if self.physical_timer { cnthctl::EL1PCEN } else { 0 },
        }
    }

    const fn hcr(&self) -> u64 {
        let common = hcr::VM | hcr::SWIO | hcr::PTW | hcr::FMO | hcr::IMO | hcr::AMO | hcr::TWI | hcr::TID3 | hcr::TSC;
        let closed = hcr::TIDCP | hcr::TACR | hcr::TSW | hcr::RW | hcr::TLOR | hcr::TERR | hcr::TID5;
        common | closed | self.hcr_of_domain()
    }

    /// The general domain keeps the keys of pointer authentication to itself. The secure domain migrates between cores, so
    /// its TLB maintenance must reach all of them.
    const fn hcr_of_domain(&self) -> u64 {
        match self.domain {
            Domain::General if self.pointer_authentication => hcr::API | hcr::APK,
            Domain::General => 0,
            Domain::Secure => hcr::FB | hcr::BSU_INNER,
        }
    }

    /// Floating point is free for both domains, and switched with them; SVE, SME, trace and activity monitors are hidden.
    const fn cptr(&self) -> u64 {
        cptr::RES1 | cptr::TZ | cptr::TSM | cptr::TTA | cptr::TAM
    }

    /// The general domain has the debug registers and the performance monitors; nothing of EL2 is counted. The secure domain
    /// has neither: with `MDSCR_EL1 = 0` out of its reach, breakpoints that the general domain left stay quiet.
    const fn mdcr(&self) -> u64 {
        let closed = mdcr::TDOSA | mdcr::TDRA | mdcr::TPMS | mdcr::TTRF;
        let counters = self.pmu_counters as u64 & mdcr::HPMN_MASK;
        let domain = match self.domain {
            Domain::General => 0,
            Domain::Secure => mdcr::TDA | mdcr::TPM | mdcr::TPMCR,
        };
        closed | counters | self.quiet_at_el2() | domain
    }

    const fn quiet_at_el2(&self) -> u64 {
        match self.pmu_version {
            0..=3 | 15.. => 0,
            4 | 5 => mdcr::HPMD,
            _ => mdcr::HPMD | mdcr::HCCD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERAL: Config = Config {
        domain: Domain::General,
        pointer_authentication: true,
        pmu_version: 6,
        pmu_counters: 6,
        physical_timer: false,
    };
    const SECURE: Config = Config { domain: Domain::Secure, ..GENERAL };

    #[test]
    fn no_domain_escapes_stage_2_interrupt_routing_or_smc_trapping() {
        for config in [GENERAL, SECURE] {
            let must = hcr::VM | hcr::IMO | hcr::FMO | hcr::AMO | hcr::TSC | hcr::TID3 | hcr::RW;
            assert_eq!(config.control().hcr_el2 & must, must);
            let (e2h, tge) = (1 << 34, 1 << 27);
            assert_eq!(config.control().hcr_el2 & (e2h | tge), 0);
        }
    }

    #[test]
    fn the_secure_domain_cannot_use_the_keys_of_the_general_one() {
        assert_eq!(SECURE.control().hcr_el2 & (hcr::API | hcr::APK), 0);
        assert_eq!(GENERAL.control().hcr_el2 & (hcr::API | hcr::APK), hcr::API | hcr::APK);
    }

    #[test]
    fn sve_and_sme_trap_and_floating_point_does_not() {
        assert_eq!(GENERAL.control().cptr_el2, 0x4010_33ff);
    }

    #[test]
    fn counters_are_quiet_at_el2_where_the_core_can() {
        let mdcr = |pmu_version| Config { pmu_version, ..GENERAL }.control().mdcr_el2 & (mdcr::HPMD | mdcr::HCCD);
        assert_eq!((mdcr(0), mdcr(1), mdcr(15)), (0, 0, 0));
        assert_eq!((mdcr(4), mdcr(6)), (mdcr::HPMD, mdcr::HPMD | mdcr::HCCD));
    }

    #[test]
    fn the_secure_domain_has_neither_debug_nor_counters() {
        let closed = mdcr::TDA | mdcr::TPM | mdcr::TPMCR;
        assert_eq!(SECURE.control().mdcr_el2 & closed, closed);
        assert_eq!(GENERAL.control().mdcr_el2 & closed, 0);
    }
}
