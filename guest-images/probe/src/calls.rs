//! Calls to the firmware and the hypervisor: random identifiers do nothing, known ones refuse wrong arguments.

use core::arch::asm;

use crate::access::{load, store};
use crate::disk::Disk;
use crate::exception::{Outcome, attempt};
use crate::interrupts::{now, ticks};
use crate::probe::Probe;
use crate::tree;

/// PSCI `SYSTEM_OFF` (Arm DEN 0022).
pub(crate) const SYSTEM_OFF: u64 = 0x8400_0008;
/// PSCI `CPU_ON`, 64-bit.
pub(crate) const CPU_ON: u64 = 0xC400_0003;
/// PSCI `AFFINITY_INFO`, 64-bit.
pub(crate) const AFFINITY_INFO: u64 = 0xC400_0004;
const PSCI_VERSION: u64 = 0x8400_0000;
const PSCI_FEATURES: u64 = 0x8400_000A;
/// First call of the secure domain to EL2 (`abi::hypercall`).
const HYPERCALLS: u64 = 0xC600_0000;

const PV_TIME_FEATURES: u64 = 0xC500_0020;
const PV_TIME_ST: u64 = 0xC500_0021;
/// Requests during which stolen time is watched.
const READS: u32 = 20;

const NOT_SUPPORTED: u32 = -1_i32 as u32;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;

const RANDOM_CALLS: u32 = 10_000;

/// The instruction that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduit {
    /// To the secure monitor; trapped.
    Smc,
    /// To the hypervisor.
    Hvc,
}

/// What a call gives back.
pub(crate) struct Answer {
    /// `x0`, or the exception.
    pub(crate) outcome: Outcome,
    /// Whether `x4` to `x17` kept their values (Arm DEN 0028, section 2.6).
    pub(crate) preserved: bool,
}

impl Answer {
    /// `w0`, signed.
    pub(crate) fn code(&self) -> i32 {
        self.outcome.value() as i32
    }
}

/// Calls with `x0` to `x3` from `arguments`.
pub(crate) fn call(conduit: Conduit, arguments: [u64; 4]) -> Answer {
    let mut kept: [u64; 14] = core::array::from_fn(|index| 0x1111_0000_0000_0000 + index as u64);
    let outcome = attempt(|| {
        let mut x0 = arguments[0];
        macro_rules! instruction {
            ($text:literal) => {
                asm!($text, inout("x0") x0,
                    inout("x1") arguments[1] => _, inout("x2") arguments[2] => _, inout("x3") arguments[3] => _,
                    inout("x4") kept[0], inout("x5") kept[1], inout("x6") kept[2], inout("x7") kept[3],
                    inout("x8") kept[4], inout("x9") kept[5], inout("x10") kept[6], inout("x11") kept[7],
                    inout("x12") kept[8], inout("x13") kept[9], inout("x14") kept[10], inout("x15") kept[11],
                    inout("x16") kept[12], inout("x17") kept[13], options(nostack))
            };
        }
        // SAFETY: a call by the SMC Calling Convention changes x0 to x17 at most, which are declared; those that would stop
        // or move this core are made by callers who mean it.
        unsafe {
            match conduit {
                Conduit::Smc => instruction!("smc #0"),
                Conduit::Hvc => instruction!("hvc #0"),
            }
        }
        x0
    });
    let preserved = kept.iter().enumerate().all(|(index, value)| *value == 0x1111_0000_0000_0000 + index as u64);
    Answer { outcome, preserved }
}

/// The conduit that the device tree names for PSCI.
pub(crate) fn psci(probe: &Probe<'_>) -> Conduit {
    if probe.machine.psci_by_hvc { Conduit::Hvc } else { Conduit::Smc }
}

/// Whether a hypervisor is there. Without one, and without firmware at EL3, `SMC` is undefined (Arm DDI 0487, C6.2, `SMC`).
pub(crate) fn has_hypervisor() -> bool {
    !call(Conduit::Smc, [PSCI_VERSION, 0, 0, 0]).outcome.is_caught()
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let conduit = psci(probe);
    for (name, conduit) in [("smc", Conduit::Smc), ("hvc", Conduit::Hvc)] {
        random_calls(probe, name, conduit);
        secure_calls(probe, name, conduit);
    }
    let version = call(conduit, [PSCI_VERSION, 0, 0, 0]).outcome.value();
    probe.report.case(
        "psci_version",
        "1.0_or_later",
        format_args!("{version:#x}"),
        (0x1_0000..0x2_0000).contains(&version),
    );
    let features = call(conduit, [PSCI_FEATURES, 0x8400_00FF, 0, 0]).outcome.value() as u32;
    probe.report.equal("psci_features_of_unknown_function", NOT_SUPPORTED.into(), features.into());
    stolen_time(probe, conduit);
    // An entry that is fine: the core is what is wrong.
    let entry = (run as *const ()).addr() as u64;
    let own = probe.machine.cores.first().copied().unwrap_or(0);
    for (name, target, expected) in
        [("cpu_on_unknown_core", 0x00ff_ffff, INVALID_PARAMETERS), ("cpu_on_own_core", own, ALREADY_ON)]
    {
        let got = call(conduit, [CPU_ON, target, entry, 0]).code();
        probe.report.case(name, expected, got, got == expected);
    }
}

/// Stolen time (Arm DEN 0057): a record that only the hypervisor writes and that grows while the disk works, unless the secure domain has a core of
/// its own (`probe.hidden`).
fn stolen_time(probe: &mut Probe<'_>, conduit: Conduit) {
    for (name, function, expected) in
        [("pv_time_features", PV_TIME_ST, 0), ("pv_time_features_of_unknown_function", PV_TIME_ST + 1, NOT_SUPPORTED)]
    {
        let got = call(conduit, [PV_TIME_FEATURES, function, 0, 0]).outcome.value() as u32;
        probe.report.equal(name, expected.into(), got.into());
    }
    let record = call(conduit, [PV_TIME_ST, 0, 0, 0]).outcome.value() as usize;
    probe.report.equal("stolen_time_is_aligned", 0, record as u64 % 64);
    probe.report.equal("stolen_time_has_revision_0", 0, load(record, 8).value());
    probe.report.abort("stolen_time_is_not_written", store(record + 8, 8, 0));
    let Some(mut disk) = Disk::find(&probe.machine) else { return };
    let before = (load(record + 8, 8).value(), now());
    disk.start();
    for _ in 0..READS {
        disk.read_well();
    }
    let (stolen, passed) = (load(record + 8, 8).value() - before.0, now() - before.1);
    let nanoseconds = passed * 1000 / (ticks(1000) / 1_000_000).max(1);
    let got = format_args!("{stolen}_of_{nanoseconds}_ns");
    if tree::word(probe.bootargs, "probe.hidden").is_some() {
        return probe.report.case("no_time_is_stolen", "none", got, stolen == 0);
    }
    probe.report.case("stolen_time_is_the_secure_domains", "some", got, stolen > 0 && stolen <= nanoseconds);
}

/// Whether `id` may mean something to firmware: Arm architecture calls and standard service calls (owners 0 and 4).
fn may_be_known(id: u64) -> bool {
    id >> 31 & 1 == 1 && matches!(id >> 24 & 0x3f, 0 | 4)
}

/// An answer that says no: not supported, or an instruction that this machine does not have.
fn is_refused(answer: &Answer) -> bool {
    answer.outcome.is_undefined() || answer.outcome.value() as u32 == NOT_SUPPORTED && answer.preserved
}

fn random_calls(probe: &mut Probe<'_>, name: &str, conduit: Conduit) {
    let mut refused = 0;
    let mut last = (0, Outcome::Value(0));
    let mut tried = 0;
    for _ in 0..RANDOM_CALLS {
        let mut arguments = core::array::from_fn(|_| probe.random.next());
        arguments[0] &= 0xffff_ffff;
        if may_be_known(arguments[0]) {
            continue;
        }
        tried += 1;
        let answer = call(conduit, arguments);
        if is_refused(&answer) {
            refused += 1;
        } else {
            last = (arguments[0], answer.outcome);
        }
    }
    if tried == refused {
        probe.report.case(
            format_args!("{name}_random_ids"),
            "not_supported",
            format_args!("not_supported_all_{tried}"),
            true,
        );
    } else {
        let (id, outcome) = last;
        probe.report.case(
            format_args!("{name}_random_ids"),
            "not_supported",
            format_args!("{outcome}_for_{id:#x}"),
            false,
        );
    }
}

/// The secure domain's calls are nobody else's.
fn secure_calls(probe: &mut Probe<'_>, name: &str, conduit: Conduit) {
    let breach = (0..16).find(|function| !is_refused(&call(conduit, [HYPERCALLS + function, 0, 0, 0])));
    match breach {
        None => probe.report.case(format_args!("{name}_of_secure_domain"), "not_supported", "not_supported", true),
        Some(function) => {
            let got = format_args!("answered_{function}");
            probe.report.case(format_args!("{name}_of_secure_domain"), "not_supported", got, false);
        }
    }
}
