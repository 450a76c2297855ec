//! The identification registers as a domain reads them (`op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7`, trapped by `HCR_EL2.TID3`).
//!
//! An allow-list: a field that is not named here reads 0, "not implemented", so an extension that is newer than this file is hidden
//! rather than half there. A field is named if its extension works at EL1 and EL0 without any control of EL2, or with those that
//! [`crate::control`] sets; where only the first versions do, the field is capped. Beside each register stand the fields that are
//! left out, and why. Three reasons recur:
//!
//! - *EL2*: it describes EL2 or stage 2, which the domain does not have;
//! - *HCRX*, *HCR*, *CPTR*, *MDCR*: it works only after an enable bit there that is not set, and traps otherwise;
//! - *state*: its registers are not saved when domains switch.
//!
//! Values are Arm DDI 0487, D19.2 (`ID_*_EL1`). Every field is four bits wide.

/// Registers in the trapped space: 7 values of `CRm` with 8 of `op2` each.
pub const COUNT: usize = 7 * 8;

/// The place of a register in a table of [`COUNT`], or `None` outside the space.
pub const fn position(crm: u8, op2: u8) -> Option<usize> {
    match (crm, op2) {
        (1..=7, 0..=7) => Some((crm as usize - 1) * 8 + op2 as usize),
        _ => None,
    }
}

/// What differs between domains and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Largest `ID_AA64MMFR0_EL1.PARange` to show: that of the stage-2 tables.
    pub pa_range: u8,
    /// The domain has the GIC's system registers.
    pub gic: bool,
    /// The domain may use pointer authentication (`HCR_EL2.API`, `APK`).
    pub pointer_authentication: bool,
    /// The domain may use the performance monitors.
    pub pmu: bool,
}

/// The filtered registers of one core (or of the least core, where they differ).
#[derive(Clone, Debug)]
pub struct IdRegisters {
    values: [u64; COUNT],
}

impl IdRegisters {
    /// Filters what the hardware says; `raw` is indexed by [`position`].
    pub fn new(raw: &[u64; COUNT], filter: Filter) -> IdRegisters {
        let mut values = [0; COUNT];
        for rule in RULES {
            if let Some(index) = position(rule.crm, rule.op2) {
                values[index] = rule.apply(raw[index], filter);
            }
        }
        IdRegisters { values }
    }

    /// What the domain reads; 0 for any register that is not in the space.
    pub fn read(&self, crm: u8, op2: u8) -> u64 {
        position(crm, op2).map_or(0, |index| self.values[index])
    }

    /// Whether the domain sees the GIC's system registers (`ID_AA64PFR0_EL1.GIC`).
    pub fn has_gic(&self) -> bool {
        self.read(4, 0) >> 24 & 0xf != 0
    }
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// Shown as it is.
    Keep(u32),
    /// Shown, but no higher than this.
    Cap(u32, u64),
    /// Shown as 0 or 1, for a domain with the GIC's system registers.
    Gic(u32),
    /// As `Keep`, for a domain with pointer authentication.
    PointerAuthentication(u32),
    /// As `Cap`, for a domain with performance monitors; 15 is "not the architected ones" and shown as 0.
    Pmu(u32, u64),
    /// Capped to [`Filter::pa_range`].
    PaRange(u32),
    /// Shown as 15, which is how this field says "not implemented".
    Absent(u32),
}

use Field::{Absent, Cap, Gic, Keep, PaRange, Pmu, PointerAuthentication};

impl Field {
    /// The field's bits as shown, in place.
    fn apply(self, raw: u64, filter: Filter) -> u64 {
        let at = |low: u32| raw >> low & 0xf;
        let unless_15 = |low: u32, max: u64| if at(low) == 15 { 0 } else { at(low).min(max) };
        match self {
            Keep(low) => at(low) << low,
            Cap(low, max) => at(low).min(max) << low,
            Gic(low) => {
                if filter.gic {
                    at(low).min(1) << low
                } else {
                    0
                }
            }
            PointerAuthentication(low) => {
                if filter.pointer_authentication {
                    at(low) << low
                } else {
                    0
                }
            }
            Pmu(low, max) => {
                if filter.pmu {
                    unless_15(low, max) << low
                } else {
                    0
                }
            }
            PaRange(low) => at(low).min(u64::from(filter.pa_range)) << low,
            Absent(low) => 0xf << low,
        }
    }
}

/// The fields of one register that are shown.
#[derive(Debug)]
struct Rule {
    crm: u8,
    op2: u8,
    fields: &'static [Field],
}

impl Rule {
    fn apply(&self, raw: u64, filter: Filter) -> u64 {
        self.fields.iter().fold(0, |value, field| value | field.apply(raw, filter))
    }
}

const fn rule(crm: u8, op2: u8, fields: &'static [Field]) -> Rule {
    Rule { crm, op2, fields }
}

/// All eight fields of an AArch32 register that says nothing about EL2 or about what is hidden.
const ALL: &[Field] = &[Keep(0), Keep(4), Keep(8), Keep(12), Keep(16), Keep(20), Keep(24), Keep(28)];

/// Every register of which something is shown. Whatever is not listed reads 0, among it: `ID_AFR0_EL1`, `ID_AA64AFR0_EL1` and `AFR1`
/// (IMPLEMENTATION DEFINED), `ID_DFR1_EL1` (EL2: HPMN0, MTPMU), `ID_AA64PFR2_EL1` (FPMR: HCRX; MTE), `ID_AA64ZFR0_EL1` and
/// `ID_AA64SMFR0_EL1` (CPTR, state), `ID_AA64FPFR0_EL1` (FPMR: HCRX, state), `ID_AA64DFR1_EL1` (EBEP, SPMU, ABLE: MDCR, state),
/// `ID_AA64DFR2_EL1`, `ID_AA64MMFR4_EL1` (EL2, HCRX).
static RULES: &[Rule] = &[
    // ID_PFR0_EL1: State0 to State3, CSV2 (2: SCXTNUM, HCR.EnSCXT), DIT. Not: AMU (CPTR.TAM), RAS.
    rule(1, 0, &[Keep(0), Keep(4), Keep(8), Keep(12), Cap(16, 1), Keep(24)]),
    // ID_PFR1_EL1: ProgMod, Security, MProgMod, GenTimer, GIC. Not: Virtualization, Sec_frac, Virt_frac (EL2).
    rule(1, 1, &[Keep(0), Keep(4), Keep(8), Keep(16), Gic(28)]),
    // ID_DFR0_EL1: CopDbg, PerfMon. Not: trace (CPTR.TTA), TraceFilt (MDCR.TTRF), secure debug.
    rule(1, 2, &[Cap(0, 8), Pmu(24, 6)]),
    // ID_MMFR0_EL1 to ID_MMFR3_EL1.
    rule(1, 4, ALL),
    rule(1, 5, ALL),
    rule(1, 6, ALL),
    rule(1, 7, ALL),
    // ID_ISAR0_EL1 to ID_ISAR5_EL1.
    rule(2, 0, ALL),
    rule(2, 1, ALL),
    rule(2, 2, ALL),
    rule(2, 3, ALL),
    rule(2, 4, ALL),
    rule(2, 5, ALL),
    // ID_MMFR4_EL1. Not: XNX, EVT (EL2).
    rule(2, 6, &[Keep(0), Keep(4), Keep(12), Keep(16), Keep(20), Keep(24)]),
    // ID_ISAR6_EL1.
    rule(2, 7, ALL),
    // MVFR0_EL1 to MVFR2_EL1.
    rule(3, 0, ALL),
    rule(3, 1, ALL),
    rule(3, 2, ALL),
    // ID_PFR2_EL1: CSV3, SSBS. Not: RAS_frac.
    rule(3, 4, &[Keep(0), Keep(4)]),
    // ID_MMFR5_EL1: ETS, nTLBPA.
    rule(3, 6, &[Keep(0), Keep(4)]),
    // ID_AA64PFR0_EL1: EL0; EL1 as AArch64 only (HCR.RW); FP and AdvSIMD (15: not implemented); GIC; DIT; CSV2 (2: SCXTNUM,
    // HCR.EnSCXT); CSV3. Not: EL2, EL3; RAS (HCR.TERR: errors are EL2's to see); SVE (CPTR.TZ, state); SEL2 (EL2); MPAM (MPAM2_EL2); AMU
    // (CPTR.TAM); RME.
    rule(4, 0, &[Keep(0), Cap(4, 1), Keep(16), Keep(20), Gic(24), Cap(48, 1), Cap(56, 1), Keep(60)]),
    // ID_AA64PFR1_EL1: BT, SSBS, CSV2_frac (2: SCXTNUM). Not: MTE, MTE_frac, MTEX (HCR.ATA, state, tag memory has no owner);
    // RAS_frac; MPAM_frac; SME (CPTR.TSM, state); RNDR_trap (EL3); NMI (HCRX, GIC); GCS (HCRX); THE (HCRX); DF2, PFAR (HCRX).
    rule(4, 1, &[Keep(0), Keep(4), Cap(32, 1)]),
    // ID_AA64DFR0_EL1: DebugVer up to Debugv8p2, PMUVer up to PMUv3p5 (later ones: MDCR), BRPs, WRPs, CTX_CMPs. Not: DoubleLock (15: not
    // implemented; MDCR.TDOSA), TraceVer (CPTR.TTA); PMSS, SEBEP (MDCR); PMSVer (SPE: MDCR.TPMS, writes memory); TraceFilt (MDCR.TTRF); TraceBuffer
    // (TRBE: MDCR.E2TB, writes memory); MTPMU (MDCR); BRBE (HFGRTR); ExtTrcBuff; HPMN0 (EL2).
    rule(5, 0, &[Cap(0, 8), Pmu(8, 6), Keep(12), Keep(20), Keep(28), Absent(36)]),
    // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, Atomic, RDM, SHA3, SM3, SM4, DP, FHM, TS, TLB, RNDR. Not: TME (HCR.TME).
    rule(
        6,
        0,
        &[
            Keep(4),
            Keep(8),
            Keep(12),
            Keep(16),
            Keep(20),
            Keep(28),
            Keep(32),
            Keep(36),
            Keep(40),
            Keep(44),
            Keep(48),
            Keep(52),
            Cap(56, 2),
            Keep(60),
        ],
    ),
    // ID_AA64ISAR1_EL1: DPB, APA, API, JSCVT, FCMA, LRCPC, GPA, GPI, FRINTTS, SB, SPECRES, BF16, DGH, I8MM, XS. Not: LS64 (HCRX).
    rule(
        6,
        1,
        &[
            Keep(0),
            PointerAuthentication(4),
            PointerAuthentication(8),
            Keep(12),
            Keep(16),
            Keep(20),
            PointerAuthentication(24),
            PointerAuthentication(28),
            Keep(32),
            Keep(36),
            Keep(40),
            Keep(44),
            Keep(48),
            Keep(52),
            Keep(56),
        ],
    ),
    // ID_AA64ISAR2_EL1: WFxT, RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB, PRFMSLC, RPRFM, CSSC, LUT. Not: MOPS (HCRX.MSCEn); SYSREG_128,
    // SYSINSTR_128 (HCRX.D128En); ATS1A (HFGITR2).
    rule(
        6,
        2,
        &[
            Keep(0),
            Keep(4),
            PointerAuthentication(8),
            PointerAuthentication(12),
            Keep(20),
            PointerAuthentication(24),
            Keep(28),
            Keep(40),
            Keep(48),
            Keep(52),
            Keep(56),
        ],
    ),
    // ID_AA64ISAR3_EL1: FAMINMAX. Not: CPA (SCTLR2: HCRX), TLBIW (HCRX), PACM (HCRX), and what is newer.
    rule(6, 3, &[Keep(4)]),
    // ID_AA64MMFR0_EL1: PARange, ASIDBits, BigEnd, BigEndEL0, TGran16, TGran64, TGran4, ExS. Not: SNSMem (one Security state); TGran16_2,
    // TGran64_2, TGran4_2, FGT, ECV (EL2).
    rule(7, 0, &[PaRange(0), Keep(4), Keep(8), Keep(16), Keep(20), Keep(24), Keep(28), Keep(44)]),
    // ID_AA64MMFR1_EL1: HAFDBS (3: HAFT, TCR2), HPDS, PAN, SpecSEI, ETS, AFP, nTLBPA, TIDCP1, CMOW, ECBHB. Not: VMIDBits, VH, XNX (EL2); LO
    // (HCR.TLOR); TWED, HCX (EL2).
    rule(
        7,
        1,
        &[Cap(0, 2), Cap(12, 2), Cap(20, 3), Keep(24), Keep(36), Keep(44), Keep(48), Cap(52, 1), Keep(56), Keep(60)],
    ),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD. Not: IESB (RAS); NV, FWB, EVT (EL2).
    rule(
        7,
        2,
        &[Keep(0), Keep(4), Keep(8), Keep(16), Keep(20), Keep(28), Keep(32), Keep(36), Keep(48), Keep(52), Keep(60)],
    ),
    // ID_AA64MMFR3_EL1: Spec_FPACC. Not: TCRX (TCR2_EL1: HCRX.TCR2En); SCTLRX (SCTLR2_EL1: HCRX.SCTLR2En); S1PIE, S1POE, AIE (TCR2); S2PIE,
    // S2POE (EL2); MEC (EL2); D128, D128_2 (HCRX.D128En); SNERR, ANERR, SDERR, ADERR (RAS).
    rule(7, 3, &[Keep(60)]),
];

#[cfg(test)]
mod cores;

#[cfg(test)]
mod tests {
    use super::cores::*;
    use super::*;

    const GENERAL: Filter = Filter { pa_range: 5, gic: true, pointer_authentication: true, pmu: true };
    const SECURE: Filter = Filter { gic: false, pointer_authentication: false, pmu: false, ..GENERAL };

    /// Every field that must never be seen, by register and lowest bit.
    const HIDDEN: &[(u8, u8, &[u32])] = &[
        (1, 0, &[20, 28]),                                        // AMU, RAS
        (1, 1, &[12, 20, 24]),                                    // Virtualization, Sec_frac, Virt_frac
        (2, 6, &[8, 28]),                                         // XNX, EVT
        (4, 0, &[8, 12, 28, 32, 36, 40, 44, 52]),                 // EL2, EL3, RAS, SVE, SEL2, MPAM, AMU, RME
        (4, 1, &[8, 12, 16, 24, 28, 36, 40, 44, 48, 52, 56, 60]), // MTE, RAS, MPAM, SME, NMI, GCS, THE, PFAR
        (5, 0, &[4, 16, 24, 32, 40, 44, 48, 52, 56, 60]),         // trace, SPE, TRBE, BRBE
        (6, 0, &[24]),                                            // TME
        (6, 1, &[60]),                                            // LS64
        (6, 2, &[16, 32, 36, 60]),                                // MOPS, SYSREG_128, SYSINSTR_128, ATS1A
        (6, 3, &[0, 8, 12]),                                      // CPA, TLBIW, PACM
        (7, 0, &[12, 32, 36, 40, 56, 60]),                        // SNSMem, stage-2 granules, FGT, ECV
        (7, 1, &[4, 8, 16, 28, 32, 40]),                          // VMIDBits, VH, LO, XNX, TWED, HCX
        (7, 2, &[12, 24, 40, 56]),                                // IESB, NV, FWB, EVT
        (7, 3, &[0, 4, 8, 12, 16, 20, 24, 28, 32, 36]),           // TCR2, SCTLR2, S1PIE, S1POE, AIE, MEC, D128
    ];

    /// Registers of which nothing is seen.
    const EMPTY: &[(u8, u8)] = &[
        (1, 3),
        (3, 3),
        (3, 5),
        (3, 7),
        (4, 2),
        (4, 4),
        (4, 5),
        (4, 7),
        (5, 1),
        (5, 2),
        (5, 4),
        (5, 5),
        (6, 7),
        (7, 4),
    ];

    /// `ID_AA64DFR0_EL1.DoubleLock`, in which 15 says that there is none.
    const DOUBLE_LOCK: (u8, u8, u32) = (5, 0, 36);

    fn field(ids: &IdRegisters, crm: u8, op2: u8, low: u32) -> u64 {
        ids.read(crm, op2) >> low & 0xf
    }

    #[test]
    fn hidden_fields_read_zero_whatever_the_core_says() {
        for raw in [&[u64::MAX; COUNT], &[0x1111_1111_1111_1111; COUNT], &MAX] {
            let ids = IdRegisters::new(raw, GENERAL);
            for (crm, op2, lows) in HIDDEN {
                assert!(lows.iter().all(|low| field(&ids, *crm, *op2, *low) == 0), "CRm {crm}, op2 {op2}");
            }
            assert!(EMPTY.iter().all(|(crm, op2)| ids.read(*crm, *op2) == 0));
        }
    }

    #[test]
    fn what_is_not_in_the_space_reads_zero() {
        let ids = IdRegisters::new(&[u64::MAX; COUNT], GENERAL);
        assert_eq!((ids.read(0, 0), ids.read(8, 0), ids.read(1, 8), ids.read(255, 255)), (0, 0, 0, 0));
    }

    #[test]
    fn nothing_is_shown_that_the_core_has_not() {
        for raw in [&CORTEX_A53, &CORTEX_A57, &CORTEX_A72, &CORTEX_A76, &NEOVERSE_N1, &MAX] {
            let ids = IdRegisters::new(raw, GENERAL);
            for (crm, op2) in (1..=7).flat_map(|crm| (0..8).map(move |op2| (crm, op2))) {
                let there = raw[position(crm, op2).expect("inside the space")];
                let lows = (0..64).step_by(4).filter(|low| (crm, op2, *low) != DOUBLE_LOCK);
                assert!(lows.into_iter().all(|low| field(&ids, crm, op2, low) <= there >> low & 0xf));
            }
        }
    }

    #[test]
    fn a_core_of_the_first_architecture_loses_only_its_upper_levels() {
        let ids = IdRegisters::new(&CORTEX_A53, GENERAL);
        // ID_AA64PFR0_EL1: EL0 both, EL1 AArch64 only, GIC.
        assert_eq!(ids.read(4, 0), 0x0100_0012);
        assert_eq!(ids.read(5, 0), CORTEX_A53[position(5, 0).expect("inside the space")] | 0xf << 36);
        for (crm, op2) in [(6, 0), (2, 5), (3, 0), (3, 1)] {
            assert_eq!(ids.read(crm, op2), CORTEX_A53[position(crm, op2).expect("inside the space")]);
        }
        // Without SNSMem.
        assert_eq!(ids.read(7, 0), 0x122);
    }

    #[test]
    fn the_largest_model_keeps_what_works_without_el2() {
        let ids = IdRegisters::new(&MAX, GENERAL);
        // CSV3, CSV2 capped, DIT, GIC, AdvSIMD, FP, EL1, EL0.
        assert_eq!(ids.read(4, 0), 0x1101_0000_0111_0012);
        // SSBS, BT.
        assert_eq!(ids.read(4, 1), 0x21);
        // PMUv3p5, Debugv8p2, breakpoints and watchpoints, no double lock.
        assert_eq!(ids.read(5, 0), 0xf0_1030_5608);
        // All of ISAR0 and ISAR1 that QEMU has: LSE, crypto, RNDR, PAuth.
        assert_eq!(ids.read(6, 0), MAX[40]);
        assert_eq!(ids.read(6, 1), MAX[41] & !(0xf << 60));
        // E0PD, PAN3.
        assert_eq!((field(&ids, 7, 2, 60), field(&ids, 7, 1, 20)), (1, 3));
    }

    #[test]
    fn the_address_size_is_capped_to_the_tables() {
        let ids = IdRegisters::new(&MAX, Filter { pa_range: 2, ..GENERAL });
        assert_eq!(field(&ids, 7, 0, 0), 2);
        assert_eq!(field(&IdRegisters::new(&CORTEX_A53, GENERAL), 7, 0, 0), 2);
    }

    #[test]
    fn the_secure_domain_sees_no_gic_no_keys_no_counters() {
        let ids = IdRegisters::new(&MAX, SECURE);
        let fields = [(4, 0, 24), (6, 1, 4), (6, 1, 8), (6, 1, 24), (6, 1, 28), (6, 2, 8), (6, 2, 12), (5, 0, 8)];
        assert!(fields.iter().all(|(crm, op2, low)| field(&ids, *crm, *op2, *low) == 0));
    }

    #[test]
    fn absent_floating_point_stays_absent() {
        let mut raw = MAX;
        raw[24] |= 0xff << 16;
        let ids = IdRegisters::new(&raw, GENERAL);
        assert_eq!((field(&ids, 4, 0, 16), field(&ids, 4, 0, 20)), (15, 15));
        raw[32] |= 0xf << 8;
        assert_eq!(field(&IdRegisters::new(&raw, GENERAL), 5, 0, 8), 0);
    }

    #[test]
    fn each_register_has_one_rule() {
        for (index, rule) in RULES.iter().enumerate() {
            assert!(position(rule.crm, rule.op2).is_some());
            assert!(RULES[index + 1..].iter().all(|other| (other.crm, other.op2) != (rule.crm, rule.op2)));
        }
    }
}
