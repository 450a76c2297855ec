//! Power and firmware calls: errors as PSCI 1.1 (Arm DEN 0022) has them, standby, and a suspend that resumes.

use core::arch::global_asm;

use crate::calls::{AFFINITY_INFO, CPU_ON, Conduit, call, has_hypervisor, psci};
use crate::controller::{Controller, bits};
use crate::disk::{Answer, Disk};
use crate::interrupts::{now, ticks};
use crate::probe::Probe;

const CPU_SUSPEND: u64 = 0xC400_0001;
const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const PSCI_FEATURES: u64 = 0x8400_000A;
const SYSTEM_SUSPEND: u64 = 0xC400_000E;
const SMCCC_VERSION: u64 = 0x8000_0000;
const ARCH_FEATURES: u64 = 0x8000_0001;
const TRNG_VERSION: u64 = 0x8400_0050;

const SUCCESS: i32 = 0;
const NOT_SUPPORTED: i32 = -1;
const INVALID_PARAMETERS: i32 = -2;
const INVALID_ADDRESS: i32 = -9;

/// The virtual timer's PPI.
const TIMER: u32 = 27;
/// What a resumed core finds in `x0`.
const CONTEXT: u64 = 0x0005_eed5_eed5_eed5;

global_asm!(
    ".section .bss.suspend, \"aw\", %nobits",
    ".balign 16",
    "probe_suspended:",
    ".skip 112",
    ".section .text.suspend, \"ax\"",
    ".global probe_suspend",
    "probe_suspend:", // x0 to x2 = SYSTEM_SUSPEND, entry, context; comes back by refusal or by resuming
    "adrp x9, probe_suspended",
    "add  x9, x9, :lo12:probe_suspended",
    "stp  x19, x20, [x9]",
    "stp  x21, x22, [x9, #16]",
    "stp  x23, x24, [x9, #32]",
    "stp  x25, x26, [x9, #48]",
    "stp  x27, x28, [x9, #64]",
    "stp  x29, x30, [x9, #80]",
    "mov  x10, sp",
    "str  x10, [x9, #96]",
    "dsb  sy",
    "smc  #0",
    "ret",
    ".global probe_resumed",
    "probe_resumed:", // x0 = context; everything else as after a reset
    "adrp x9, probe_suspended",
    "add  x9, x9, :lo12:probe_suspended",
    "ldp  x19, x20, [x9]",
    "ldp  x21, x22, [x9, #16]",
    "ldp  x23, x24, [x9, #32]",
    "ldp  x25, x26, [x9, #48]",
    "ldp  x27, x28, [x9, #64]",
    "ldp  x29, x30, [x9, #80]",
    "ldr  x10, [x9, #96]",
    "mov  sp, x10",
    "movz x1, #0x0333, lsl #16",
    "msr  cpacr_el1, x1",
    "adrp x1, probe_vectors",
    "add  x1, x1, :lo12:probe_vectors",
    "msr  vbar_el1, x1",
    "isb",
    "ret",
);

unsafe extern "C" {
    fn probe_suspend(function: u64, entry: u64, context: u64) -> u64;
    fn probe_resumed();
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    if !has_hypervisor() {
        return probe.report.note("no hypervisor: class power is left out");
    }
    let conduit = psci(probe);
    features(probe, conduit);
    errors(probe, conduit);
    let Some(gic) = Controller::find(&probe.machine) else { return };
    sleeps(probe, conduit, gic);
}

fn features(probe: &mut Probe<'_>, conduit: Conduit) {
    let mut equal = |name: &str, function, argument, expected: i32| {
        let got = call(conduit, [function, argument, 0, 0]).code();
        probe.report.case(name, expected, got, got == expected);
    };
    for (name, function) in [
        ("has_cpu_suspend", CPU_SUSPEND),
        ("has_cpu_on", CPU_ON),
        ("has_affinity_info", AFFINITY_INFO),
        ("has_system_suspend", SYSTEM_SUSPEND),
        ("has_smccc_version", SMCCC_VERSION),
    ] {
        equal(name, PSCI_FEATURES, function, SUCCESS);
    }
    equal("has_no_cpu_freeze", PSCI_FEATURES, 0x8400_000B, NOT_SUPPORTED);
    equal("has_no_wide_system_off", PSCI_FEATURES, 0xC400_0008, NOT_SUPPORTED);
    equal("nothing_migrates", MIGRATE_INFO_TYPE, 0, 2);
    equal("smccc_is_1_1", SMCCC_VERSION, 0, 0x1_0001);
    equal("arch_features_of_itself", ARCH_FEATURES, ARCH_FEATURES, SUCCESS);
    equal("arch_features_of_nothing", ARCH_FEATURES, 0x8000_1234, NOT_SUPPORTED);
    // QEMU's firmware has no workarounds; what is not offered cannot be called.
    for workaround in [0x8000_8000, 0x8000_7FFF, 0x8000_3FFF] {
        let offered = call(conduit, [ARCH_FEATURES, workaround, 0, 0]).code();
        let called = call(conduit, [workaround, 0, 0, 0]).code();
        let fits = (offered >= 0) == (called != NOT_SUPPORTED);
        let got = format_args!("offered_{offered}_called_{called}");
        probe.report.case(format_args!("workaround_{workaround:x}"), "called_if_offered", got, fits);
    }
    let random = call(conduit, [TRNG_VERSION, 0, 0, 0]).code();
    let known = random == NOT_SUPPORTED || random >= 0x1_0000;
    probe.report.case("random_numbers", "version_or_not_supported", random, known);
}

fn errors(probe: &mut Probe<'_>, conduit: Conduit) {
    let entry = (probe_resumed as *const ()).addr() as u64;
    let other = probe.machine.cores.get(1).copied();
    let mut cases: arrayvec::ArrayVec<(&str, [u64; 4], i32), 8> = arrayvec::ArrayVec::new();
    cases.push(("affinity_info_of_level_4", [AFFINITY_INFO, 0, 4, 0], INVALID_PARAMETERS));
    cases.push(("affinity_info_of_nobody", [AFFINITY_INFO, 0x77, 0, 0], INVALID_PARAMETERS));
    cases.push(("cpu_suspend_with_reserved_bits", [CPU_SUSPEND, 1 << 31, entry, 0], INVALID_PARAMETERS));
    cases.push(("system_suspend_to_a_device", [SYSTEM_SUSPEND, 0x0900_0000, 0, 0], INVALID_ADDRESS));
    if let Some(other) = other {
        cases.push(("cpu_on_at_a_device", [CPU_ON, other, 0x0900_0000, 0], INVALID_ADDRESS));
        cases.push(("cpu_on_between_instructions", [CPU_ON, other, entry + 2, 0], INVALID_ADDRESS));
        cases.push(("cpu_on_above_memory", [CPU_ON, other, 1 << 47, 0], INVALID_ADDRESS));
    }
    for (name, arguments, expected) in cases {
        let got = call(conduit, arguments).code();
        probe.report.case(name, expected, got, got == expected);
    }
}

/// Standby returns to its caller; a suspended system starts anew where it was told to. The virtual timer wakes both.
fn sleeps(probe: &mut Probe<'_>, conduit: Conduit, gic: Controller) {
    gic.reset();
    gic.write_bit(bits::SET_ENABLE, TIMER);
    let deadline = set_timer(20);
    let standby = || call(conduit, [CPU_SUSPEND, 0, 0, 0]).code();
    let woken = (0..1000).find(|_| standby() != SUCCESS || now() >= deadline);
    probe.report.equal("standby_lasts_until_the_timer", 1, (woken.is_some() && now() >= deadline).into());
    // A level that was taken before it fell would wake the system at once.
    stop_timer();
    gic.reset();
    gic.write_bit(bits::SET_ENABLE, TIMER);
    let mut disk = Disk::find(&probe.machine).filter(Disk::is_haechis);
    if let Some(disk) = &mut disk {
        disk.start();
    }
    let deadline = set_timer(20);
    let entry = (probe_resumed as *const ()).addr() as u64;
    // SAFETY: the assembly keeps what the procedure call standard asks for, whichever way it comes back.
    let got = unsafe { probe_suspend(SYSTEM_SUSPEND, entry, CONTEXT) };
    probe.report.equal("system_resumes_at_its_entry", CONTEXT, got);
    probe.report.equal("system_slept_until_the_timer", 1, (now() >= deadline).into());
    if let Some(disk) = &mut disk {
        let got = disk.read_well();
        probe.report.case("disk_serves_after_sleep", "status_0", got, got == Answer::Status(0));
    }
    gic.reset();
    gic.write_bit(bits::SET_ENABLE, TIMER);
    // Timers are off after a reset, so the one that woke the system may be gone with its interrupt.
    let deadline = set_timer(1);
    // The emulator's clock may run ahead of its timers.
    while gic.best_pending() != TIMER.into() && now() < deadline + ticks(1000) {}
    let intid = gic.acknowledge();
    gic.end(intid);
    probe.report.equal("interrupts_arrive_afterwards", TIMER.into(), intid.into());
    stop_timer();
    gic.reset();
}

fn stop_timer() {
    // SAFETY: the probe's own timer.
    unsafe { core::arch::asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack)) };
}

/// Starts the virtual timer; its deadline.
fn set_timer(milliseconds: u64) -> u64 {
    let deadline = now() + ticks(milliseconds);
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb",
            in(reg) deadline, in(reg) 1_u64, options(nostack));
    }
    deadline
}
