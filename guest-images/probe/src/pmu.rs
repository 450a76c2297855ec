//! The performance monitors (Arm DDI 0487, D13; FEAT_PMUv3): counters, filters, overflow and its interrupt. Runs with and without a hypervisor
//! and must find the same; with one, what it and the secure domain do is not counted.

use core::arch::{asm, global_asm};

use crate::controller::{Controller, bits};
use crate::disk::{Answer, Disk, register};
use crate::excursion::{Excursion, Level};
use crate::interrupts::{now, ticks};
use crate::probe::Probe;

/// `PMCR_EL0.E`, `P`, `C`, `LC`.
const E: u64 = 1 << 0;
const P: u64 = 1 << 1;
const C: u64 = 1 << 2;
const LC: u64 = 1 << 6;
/// The cycle counter's bit.
const CYCLES: u64 = 1 << 31;
/// Every counter's.
const ALL: u64 = 0xffff_ffff;
/// `PMEVTYPER.P`: not at EL1.
const NOT_EL1: u64 = 1 << 31;
/// Events (D13.12): software increment, and overflow of the counter below.
const SW_INCR: u64 = 0x00;
const CHAIN: u64 = 0x1e;
/// The overflow interrupt (BSA, Arm DEN 0094).
const INTID: u32 = 23;
/// `ESR_EL1.EC` of a trapped system register, and of `SVC`.
const TRAPPED: u64 = 0x18;
const CALL: u64 = 0x15;
/// QEMU's cores count a cycle each nanosecond.
const CYCLES_PER_SECOND: u64 = 1_000_000_000;

global_asm!(
    ".section .text.pmu, \"ax\"",
    "probe_read_cycles: mrs x0, pmccntr_el0",
    "svc #0",
    "probe_write_enables: msr pmcntenset_el0, xzr",
    "svc #0",
);

unsafe extern "C" {
    fn probe_read_cycles();
    fn probe_write_enables();
}

macro_rules! get {
    ($register:literal) => {{
        // SAFETY: orders the read behind what is counted.
        unsafe { asm!("isb", options(nostack)) };
        aarch64::read_sysreg!($register)
    }};
}

macro_rules! set {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the monitors are the probe's own; their interrupt is masked at the core.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) }
    }};
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let version = aarch64::read_sysreg!("id_aa64dfr0_el1") >> 8 & 0xf;
    if matches!(version, 0 | 15) {
        return probe.report.note("no performance monitors: class pmu is left out");
    }
    let counters = get!("pmcr_el0") >> 11 & 0x1f;
    probe.report.case("event_counters", "2_or_more", counters, counters >= 2);
    let cases: [fn(&mut Probe<'_>); 8] =
        [control, cycles, cycle_overflow, software_increments, chained, selected, user, interrupt];
    for case in cases {
        reset();
        case(probe);
    }
    reset();
    over_the_secure_domain(probe);
    reset();
}

/// Nothing counts, nothing has overflowed, and every counter is 0.
fn reset() {
    set!("pmcntenclr_el0", ALL);
    set!("pmintenclr_el1", ALL);
    set!("pmovsclr_el0", ALL);
    set!("pmccfiltr_el0", 0);
    set!("pmuserenr_el0", 0);
    set!("pmcr_el0", LC | C | P);
    set!("pmevtyper0_el0", SW_INCR);
    set!("pmevtyper1_el0", SW_INCR);
}

fn control(probe: &mut Probe<'_>) {
    let mut holds = 0;
    for value in [0, E, 1 << 4 | E, 0] {
        set!("pmcr_el0", LC | value);
        holds += u64::from(get!("pmcr_el0") & (E | 1 << 4 | LC) == LC | value);
    }
    probe.report.equal("control_holds", 4, holds);
    set!("pmcr_el0", LC | C | P);
    probe.report.equal("resets_read_zero", 0, get!("pmcr_el0") & (C | P));
    let counters = get!("pmcr_el0") >> 11 & 0x1f;
    set!("pmcntenset_el0", ALL);
    let all = ((1 << counters) - 1) | CYCLES;
    probe.report.equal("enables_of_every_counter", all, get!("pmcntenset_el0"));
    set!("pmcntenclr_el0", 1);
    probe.report.equal("enables_clear_one_by_one", all & !1, get!("pmcntenclr_el0"));
    set!("pmintenset_el1", CYCLES | 2);
    set!("pmintenclr_el1", 2);
    probe.report.equal("interrupt_enables", CYCLES, get!("pmintenset_el1"));
}

/// Whether the cycle counter moves while time passes.
fn moves() -> bool {
    let before = get!("pmccntr_el0");
    let deadline = now() + ticks(1);
    while now() < deadline {}
    get!("pmccntr_el0") != before
}

fn cycles(probe: &mut Probe<'_>) {
    let mut equal = |name: &str, expected: bool| probe.report.equal(name, expected.into(), moves().into());
    set!("pmcr_el0", LC | E);
    equal("cycles_stand_still_disabled", false);
    set!("pmcntenset_el0", CYCLES);
    equal("cycles_count_enabled", true);
    set!("pmccfiltr_el0", NOT_EL1);
    equal("cycles_stand_still_filtered", false);
    set!("pmccfiltr_el0", 0);
    equal("cycles_count_again", true);
    set!("pmcr_el0", LC);
    equal("cycles_stand_still_all_off", false);
    set!("pmccntr_el0", 0x1_2345_6789);
    probe.report.equal("cycles_can_be_written", 0x1_2345_6789, get!("pmccntr_el0"));
    set!("pmcr_el0", LC | P);
    probe.report.equal("cycles_survive_a_reset_of_events", 0x1_2345_6789, get!("pmccntr_el0"));
    set!("pmcr_el0", LC | C);
    probe.report.equal("cycles_reset", 0, get!("pmccntr_el0"));
    set!("pmcr_el0", LC | E);
    let (mut back, mut last) = (0_u64, 0);
    for _ in 0..1000 {
        let cycles = get!("pmccntr_el0");
        back += u64::from(cycles < last);
        last = cycles;
    }
    probe.report.equal("cycles_never_go_back", 0, back);
}

/// Whether the cycle counter's overflow is seen within a second.
fn overflows() -> bool {
    let deadline = now() + ticks(1000);
    while get!("pmovsset_el0") & CYCLES == 0 && now() < deadline {}
    get!("pmovsset_el0") & CYCLES != 0
}

fn cycle_overflow(probe: &mut Probe<'_>) {
    set!("pmcntenset_el0", CYCLES);
    set!("pmccntr_el0", u64::MAX - 1000);
    set!("pmcr_el0", LC | E);
    probe.report.equal("cycles_overflow_at_64_bits", 1, overflows().into());
    set!("pmovsclr_el0", CYCLES);
    probe.report.equal("overflow_is_cleared", 0, get!("pmovsset_el0"));
    set!("pmovsset_el0", 2);
    probe.report.equal("overflow_can_be_set", 2, get!("pmovsclr_el0"));
}

/// Increments by software counters 0 and 1, this many times.
fn increment(times: u64) {
    (0..times).for_each(|_| set!("pmswinc_el0", 0b11));
}

fn software_increments(probe: &mut Probe<'_>) {
    set!("pmcntenset_el0", 0b01);
    increment(3);
    probe.report.equal("events_stand_still_all_off", 0, get!("pmevcntr0_el0"));
    set!("pmcr_el0", LC | E);
    increment(100);
    probe.report.equal("events_count", 100, get!("pmevcntr0_el0"));
    probe.report.equal("disabled_events_do_not", 0, get!("pmevcntr1_el0"));
    set!("pmevcntr0_el0", ALL - 2);
    increment(2);
    probe.report.equal("no_overflow_before_the_last", 0, get!("pmovsset_el0"));
    increment(2);
    probe.report.equal("events_overflow", 1, get!("pmovsset_el0"));
    // From FEAT_PMUv3p5 on the counters are wider than what overflows (PMCR_EL0.LP).
    probe.report.equal("events_wrap", 1, get!("pmevcntr0_el0") & ALL);
    set!("pmcr_el0", LC | E | P);
    probe.report.equal("events_reset", 0, get!("pmevcntr0_el0"));
}

/// The odd counter counts the even one's overflows, where the core has the event.
fn chained(probe: &mut Probe<'_>) {
    if get!("pmceid0_el0") >> CHAIN & 1 == 0 {
        return probe.report.note("no CHAIN event");
    }
    set!("pmevtyper1_el0", CHAIN);
    set!("pmevcntr0_el0", ALL - 1);
    set!("pmcntenset_el0", 0b11);
    set!("pmcr_el0", LC | E);
    increment(3);
    probe.report.equal("chain_counts_overflows", 1, get!("pmevcntr1_el0"));
    probe.report.equal("chained_counter_wraps", 1, get!("pmevcntr0_el0"));
}

/// `PMSELR_EL0` and the registers behind it.
fn selected(probe: &mut Probe<'_>) {
    set!("pmselr_el0", 1);
    set!("pmxevcntr_el0", 77);
    set!("pmxevtyper_el0", NOT_EL1 | CHAIN);
    probe.report.equal("selected_counter", 77, get!("pmevcntr1_el0"));
    probe.report.equal("selected_type", NOT_EL1 | CHAIN, get!("pmevtyper1_el0"));
    set!("pmselr_el0", 31);
    set!("pmxevtyper_el0", NOT_EL1);
    probe.report.equal("selected_cycle_filter", NOT_EL1, get!("pmccfiltr_el0"));
}

fn user(probe: &mut Probe<'_>) {
    let cycles = (probe_read_cycles as *const ()).addr();
    let enables = (probe_write_enables as *const ()).addr();
    for (name, code, control, expected) in [
        ("cycles_closed_at_el0", cycles, 0, TRAPPED),
        ("cycles_free_at_el0", cycles, 1 << 2, CALL),
        ("enables_closed_at_el0", enables, 1 << 2, TRAPPED),
        ("all_free_at_el0", enables, 1, CALL),
    ] {
        set!("pmuserenr_el0", control);
        probe.report.equal(name, expected, Excursion::new(code, Level::User, [0; 2]).go());
    }
}

/// The overflow interrupt is a level.
fn interrupt(probe: &mut Probe<'_>) {
    let Some(gic) = Controller::find(&probe.machine) else { return };
    gic.reset();
    gic.set_edge(INTID, false);
    gic.write_bit(bits::SET_ENABLE, INTID);
    let arrives = || {
        let deadline = now() + ticks(100);
        while gic.best_pending() != INTID.into() && now() < deadline {}
        gic.acknowledge()
    };
    set!("pmcntenset_el0", 0b1);
    set!("pmcr_el0", LC | E);
    set!("pmevcntr0_el0", ALL);
    increment(1);
    probe.report.equal("no_interrupt_unless_enabled", 0, gic.bit(bits::SET_PENDING, INTID));
    set!("pmintenset_el1", 0b1);
    let got = arrives();
    probe.report.equal("overflow_interrupts", INTID.into(), got.into());
    gic.end(got);
    gic.nudge(INTID);
    let got = arrives();
    probe.report.equal("overflow_interrupts_until_it_is_cleared", INTID.into(), got.into());
    set!("pmovsclr_el0", ALL);
    gic.end(got);
    probe.report.equal("nothing_pends_afterwards", 0, gic.bit(bits::SET_PENDING, INTID));
    set!("pmcntenset_el0", CYCLES);
    set!("pmintenset_el1", CYCLES);
    set!("pmccntr_el0", u64::MAX - 100_000);
    let got = arrives();
    probe.report.equal("cycle_overflow_interrupts", INTID.into(), got.into());
    set!("pmintenclr_el1", ALL);
    set!("pmovsclr_el0", ALL);
    gic.end(got);
    probe.report.equal("nothing_arrives_afterwards", 1023, gic.acknowledge().into());
    gic.reset();
}

/// The secure domain runs on this core in between: it changes nothing, and its cycles are not counted here.
fn over_the_secure_domain(probe: &mut Probe<'_>) {
    let Some(mut disk) = Disk::find(&probe.machine).filter(Disk::is_haechis) else {
        return probe.report.note("no virtual disk of Haechi's: the rest of class pmu is left out");
    };
    disk.start();
    set!("pmevcntr0_el0", 123);
    set!("pmcntenset_el0", 0b01);
    set!("pmintenset_el1", 0b10);
    set!("pmselr_el0", 1);
    set!("pmcr_el0", LC | E);
    let state = || {
        [
            get!("pmcr_el0"),
            get!("pmcntenset_el0"),
            get!("pmintenset_el1"),
            get!("pmovsset_el0"),
            get!("pmselr_el0"),
            get!("pmevcntr0_el0"),
            get!("pmevtyper0_el0"),
            get!("pmccntr_el0"),
        ]
    };
    let before = state();
    let reads = (0..20).filter(|_| disk.read_well() == Answer::Status(0)).count();
    probe.report.equal("reads_while_counting", 20, reads as u64);
    probe.report.equal("counters_survive_the_secure_domain", 1, (before == state()).into());
    set!("pmcntenset_el0", CYCLES);
    let (cycles, time) = (get!("pmccntr_el0"), now());
    for _ in 0..1000 {
        disk.write(register::QUEUE_NOTIFY, 0);
    }
    let time = (now() - time) * (CYCLES_PER_SECOND / 1000) / ticks(1);
    let cycles = get!("pmccntr_el0") - cycles;
    // Nearly all of the time is spent in EL2 and the secure domain.
    let got = format_args!("{}_percent", 100 * cycles / time.max(1));
    probe.report.case("cycles_of_others_are_not_counted", "less_than_half", got, 2 * cycles < time);
}
