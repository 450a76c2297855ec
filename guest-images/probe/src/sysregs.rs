//! System registers and instructions: every encoding that reads is tried, and every one that writes to EL2 or EL3. Each must
//! give a value or be undefined; none may hang or stop the machine.

use crate::access;
use crate::exception::Outcome;
use crate::probe::Probe;

const RET: u32 = 0xd65f_03c0;
/// `MRS x0, <op0 = 2>`; op0's low bit is bit 19.
const MRS: u32 = 0xd530_0000;
/// `MSR <op0 = 2>, x0`.
const MSR: u32 = 0xd510_0000;
/// `SYS #op1, Cn, Cm, #op2, x0`: op0 = 1.
const SYS: u32 = 0xd508_0000;

/// `RDVL x0, #1`: the SVE vector length.
const RDVL: u32 = 0x04bf_5020;
/// `RDSVL x0, #1`: the SME vector length.
const RDSVL: u32 = 0x04bf_5820;

/// Two instructions that the probe writes for itself.
#[repr(C, align(64))]
struct Code([u32; 16]);

static mut CODE: Code = Code([0; 16]);

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    identification(probe);
    set_way(probe);
    sweep(probe, "read_all_of_op0_3", reads(3), |outcome| !outcome.is_caught() || outcome.is_undefined());
    sweep(probe, "read_all_of_op0_2", reads(2), |outcome| !outcome.is_caught() || outcome.is_undefined());
    sweep(probe, "write_all_of_el2_and_el3", upper(MSR | 1 << 19), |outcome| outcome.is_undefined());
    sweep(probe, "operate_all_of_el2_and_el3", upper(SYS), |outcome| outcome.is_undefined());
}

/// Features that the general domain must not see (Arm DDI 0487, ID_AA64PFR0_EL1).
fn identification(probe: &mut Probe<'_>) {
    let features = aarch64::read_sysreg!("id_aa64pfr0_el1");
    for (name, shift) in [("el2", 8), ("sve", 32)] {
        probe.report.equal(format_args!("id_aa64pfr0_{name}"), 0, features >> shift & 0xf);
    }
    for (name, instruction) in [("rdvl_of_hidden_sve", RDVL), ("rdsvl_of_hidden_sme", RDSVL)] {
        let got = run_instruction(instruction);
        probe.report.case(name, "undefined", got, got.is_undefined());
    }
    let level = aarch64::read_sysreg!("CurrentEL") >> 2 & 3;
    probe.report.equal("current_el", 1, level);
}

/// Cache maintenance by set and way must do no harm, whether it is carried out or not.
fn set_way(probe: &mut Probe<'_>) {
    for (name, crm) in [("dc_isw", 6), ("dc_csw", 10), ("dc_cisw", 14)] {
        let got = run_instruction(SYS | 7 << 12 | crm << 8 | 2 << 5);
        probe.report.case(name, "no_exception", got, !got.is_caught());
    }
    for (name, instruction) in
        [("actlr_el1_write", MSR | 1 << 19 | 1 << 12 | 1 << 5), ("actlr_el1_read", MRS | 1 << 19 | 1 << 12 | 1 << 5)]
    {
        let got = run_instruction(instruction);
        probe.report.case(name, "no_harm", got, !got.is_caught() || got.is_undefined());
    }
}

/// Reads of all registers of `op0`.
fn reads(op0: u32) -> impl Iterator<Item = u32> {
    (0..1 << 14).map(move |fields| MRS | (op0 & 1) << 19 | fields << 5)
}

/// `base` with all encodings whose `op1` (4, 5, 6) belongs to EL2 and EL3.
fn upper(base: u32) -> impl Iterator<Item = u32> {
    (4..7).flat_map(move |op1| (0..1 << 11).map(move |fields| base | op1 << 16 | fields << 5))
}

fn sweep(
    probe: &mut Probe<'_>,
    name: &str,
    instructions: impl Iterator<Item = u32>,
    accepted: impl Fn(Outcome) -> bool,
) {
    let (mut tried, mut values) = (0, 0);
    let mut breach = None;
    for instruction in instructions {
        let outcome = run_instruction(instruction);
        tried += 1;
        values += u32::from(!outcome.is_caught());
        if !accepted(outcome) {
            breach.get_or_insert((instruction, outcome));
        }
    }
    match breach {
        None => {
            let got = format_args!("{tried}_tried_{values}_gave_values");
            probe.report.case(name, "answered", got, true);
        }
        Some((instruction, outcome)) => {
            probe.report.case(name, "answered", format_args!("{outcome}_for_{instruction:#x}"), false);
        }
    }
}

/// Writes `instruction` and a return into the code area and calls it with `x0` = 0.
pub(crate) fn run_instruction(instruction: u32) -> Outcome {
    let code = (&raw const CODE).addr();
    access::write32(code, instruction);
    access::write32(code + 4, RET);
    // SAFETY: makes the two words visible to fetches (Arm DDI 0487, B2.4.4).
    unsafe {
        core::arch::asm!("dc cvau, {a}", "dsb sy", "ic ivau, {a}", "dsb sy", "isb", a = in(reg) code, options(nostack));
    }
    access::execute(code)
}
