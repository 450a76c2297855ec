//! What this core has, and what of it the domains may see and do.

use aarch64::read_sysreg;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use vcpu::control::Domain;
use vcpu::id_registers::{COUNT, Filter, position};
use vcpu::{Config, Control, Features, Frame, IdRegisters};

/// Reads the identification register `op0 = 3, op1 = 0, CRn = 0` with these `CRm` and `op2` into its place.
macro_rules! identification {
    ($raw:ident, $($crm:literal),*) => {
        $(
            identification!(@ $raw, $crm, 0);
            identification!(@ $raw, $crm, 1);
            identification!(@ $raw, $crm, 2);
            identification!(@ $raw, $crm, 3);
            identification!(@ $raw, $crm, 4);
            identification!(@ $raw, $crm, 5);
            identification!(@ $raw, $crm, 6);
            identification!(@ $raw, $crm, 7);
        )*
    };
    (@ $raw:ident, $crm:literal, $op2:literal) => {
        if let Some(place) = position($crm, $op2) {
            $raw[place] = read_sysreg!(concat!("s3_0_c0_c", $crm, "_", $op2));
        }
    };
}

/// The identification registers of this core as they are; reserved ones read 0 (DDI 0487 D18.3.1).
#[inline(never)]
fn raw() -> [u64; COUNT] {
    let mut raw = [0; COUNT];
    identification!(raw, 1, 2, 3, 4, 5, 6, 7);
    raw
}

/// A 4-bit field of identification register `CRm`, `op2`.
fn field(raw: &[u64; COUNT], crm: u8, op2: u8, shift: u32) -> u8 {
    position(crm, op2).map_or(0, |place| (raw[place] >> shift & 0xf) as u8)
}

/// `ID_AA64MMFR0_EL1.PARange` of this core.
pub fn pa_range() -> u8 {
    field(&raw(), 7, 0, 0)
}

/// `PARange` of the widest stage-2 tables that this core can walk and this hypervisor builds.
pub fn shown_pa_range() -> u8 {
    let bits = stage2::vtcr::ipa_bits(pa_range());
    // The largest range that is not wider than the tables.
    (0..=6).rev().find(|range| stage2::vtcr::pa_bits(*range) <= bits).unwrap_or(0)
}

/// Whether this core has pointer authentication (`ID_AA64ISAR1_EL1.APA`, `API`, `GPA`, `GPI`; `ID_AA64ISAR2_EL1.APA3`, `GPA3`).
fn pointer_authentication(raw: &[u64; COUNT]) -> bool {
    [(1, 4), (1, 8), (1, 24), (1, 28), (2, 8), (2, 12)].into_iter().any(|(op2, shift)| field(raw, 6, op2, shift) != 0)
}

/// `ID_AA64DFR0_EL1.PMUVer`, 0 where the monitors are not the architected ones.
fn pmu_version(raw: &[u64; COUNT]) -> u8 {
    match field(raw, 5, 0, 8) {
        0xf => 0,
        version => version,
    }
}

/// Whether this core has architected performance monitors.
pub fn has_pmu() -> bool {
    pmu_version(&raw()) != 0
}

/// `frame` with PSTATE.DIT set where the core has it (ID_AA64PFR0_EL1.DIT): the time of an instruction then depends on no secret
/// operand.
pub fn data_independent_timing(mut frame: Frame) -> Frame {
    if field(&raw(), 4, 0, 48) != 0 {
        frame.spsr |= vcpu::pstate::DIT;
    }
    frame
}

/// The traps of `domain` on this core.
pub fn control(domain: Domain) -> Control {
    let raw = raw();
    let pmu_version = pmu_version(&raw);
    Config {
        domain,
        pointer_authentication: pointer_authentication(&raw),
        pmu_version,
        // PMCR_EL0.N: every counter is the general domain's.
        pmu_counters: if pmu_version == 0 { 0 } else { (read_sysreg!("pmcr_el0") >> 11 & 0x1f) as u8 },
        physical_timer: domain == Domain::General,
    }
    .control()
}

/// The identification registers as `domain` reads them on this core. The secure domain has no interrupts, no keys and no
/// performance monitors.
pub fn identification(domain: Domain) -> IdRegisters {
    let raw = raw();
    let general = domain == Domain::General;
    IdRegisters::new(
        &raw,
        Filter {
            pa_range: shown_pa_range(),
            gic: general,
            pointer_authentication: general && pointer_authentication(&raw),
            pmu: general && pmu_version(&raw) != 0,
        },
    )
}

/// What injected exceptions depend on: ID_AA64MMFR1_EL1.PAN, ID_AA64PFR1_EL1.SSBS and MTE.
pub fn features() -> Features {
    let raw = raw();
    Features { pan: field(&raw, 7, 1, 20) != 0, ssbs: field(&raw, 4, 1, 4) != 0, mte: field(&raw, 4, 1, 8) >= 2 }
}

/// This core's affinity: Aff3 to Aff0 of `MPIDR_EL1`, in their places.
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}
