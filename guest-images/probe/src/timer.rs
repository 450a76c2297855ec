//! What the generic timer promises (Arm DDI 0487, D12): both timers of EL1, their signals at the GIC, and who may use them at EL0.
//! Runs with and without a hypervisor and must find the same.

use core::arch::{asm, global_asm};

use crate::controller::{Controller, bits};
use crate::excursion::{Excursion, Level};
use crate::probe::Probe;

const ENABLE: u64 = 1 << 0;
const MASK: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;

/// Longest wait for a signal to reach the GIC, in reads.
const POLLS: u32 = 100_000;
/// `ESR_EL1.EC` of a trapped system register, and of `SVC`.
const TRAPPED: u64 = 0x18;
const CALL: u64 = 0x15;

/// One of the two timers.
struct Timer {
    name: &'static str,
    /// Its PPI (BSA, Arm DEN 0094).
    intid: u32,
    now: fn() -> u64,
    control: fn() -> u64,
    set_control: fn(u64),
    compare: fn() -> u64,
    set_compare: fn(u64),
    value: fn() -> u64,
    set_value: fn(u64),
}

macro_rules! get {
    ($register:literal) => {
        || {
            // SAFETY: orders the read of the counter behind what came before.
            unsafe { asm!("isb", options(nostack)) };
            aarch64::read_sysreg!($register)
        }
    };
}

macro_rules! set {
    ($register:literal) => {
        |value: u64| {
            // SAFETY: the timer is the probe's own and its interrupt masked at the core.
            unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) }
        }
    };
}

const TIMERS: [Timer; 2] = [
    Timer {
        name: "virtual",
        intid: 27,
        now: get!("cntvct_el0"),
        control: get!("cntv_ctl_el0"),
        set_control: set!("cntv_ctl_el0"),
        compare: get!("cntv_cval_el0"),
        set_compare: set!("cntv_cval_el0"),
        value: get!("cntv_tval_el0"),
        set_value: set!("cntv_tval_el0"),
    },
    Timer {
        name: "physical",
        intid: 30,
        now: get!("cntpct_el0"),
        control: get!("cntp_ctl_el0"),
        set_control: set!("cntp_ctl_el0"),
        compare: get!("cntp_cval_el0"),
        set_compare: set!("cntp_cval_el0"),
        value: get!("cntp_tval_el0"),
        set_value: set!("cntp_tval_el0"),
    },
];

global_asm!(
    ".section .text.timer, \"ax\"",
    "probe_read_virtual_counter: mrs x0, cntvct_el0",
    "svc #0",
    "probe_read_physical_counter: mrs x0, cntpct_el0",
    "svc #0",
    "probe_read_virtual_timer: mrs x0, cntv_ctl_el0",
    "svc #0",
    "probe_read_physical_timer: mrs x0, cntp_ctl_el0",
    "svc #0",
);

unsafe extern "C" {
    fn probe_read_virtual_counter();
    fn probe_read_physical_counter();
    fn probe_read_virtual_timer();
    fn probe_read_physical_timer();
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(gic) = Controller::find(&probe.machine) else {
        return probe.report.note("no GIC: class timer is left out");
    };
    for timer in &TIMERS {
        gic.reset();
        Check { probe, gic, timer }.all();
    }
    gic.reset();
    counters(probe);
    user(probe);
}

struct Check<'c, 'p, 'a> {
    probe: &'p mut Probe<'a>,
    gic: Controller,
    timer: &'c Timer,
}

impl Check<'_, '_, '_> {
    fn equal(&mut self, name: &str, expected: u64, got: u64) {
        let timer = self.timer.name;
        self.probe.report.equal(format_args!("{timer}_{name}"), expected, got);
    }

    fn holds(&mut self, name: &str, holds: bool) {
        self.equal(name, 1, holds.into());
    }

    fn all(&mut self) {
        self.registers();
        self.signal();
        self.signal_of_a_disabled_interrupt();
        self.latency();
        self.interrupt();
        self.end_before_the_level_falls();
        (self.timer.set_control)(0);
    }

    fn milliseconds(&self, milliseconds: u64) -> u64 {
        crate::interrupts::ticks(milliseconds)
    }

    fn registers(&mut self) {
        let Timer { now, control, set_control, compare, set_compare, value, set_value, .. } = *self.timer;
        set_control(0);
        self.equal("can_be_off", 0, control() & (ENABLE | MASK));
        set_compare(0x0123_4567_89ab_cdef);
        self.equal("compare_value_holds", 0x0123_4567_89ab_cdef, compare());
        set_control(ENABLE | MASK | STATUS);
        self.equal("status_cannot_be_written", ENABLE | MASK, control());
        set_control(0);
        let before = now();
        set_value(1_000_000);
        let after = now();
        self.holds("timer_value_sets_the_compare_value", (before..=after).contains(&(compare() - 1_000_000)));
        set_value(-5_i64 as u64 & 0xffff_ffff);
        self.holds("timer_value_is_signed", compare() < now());
        // TVAL has 32 bits, and a counter may tick each nanosecond.
        set_compare(now() + self.milliseconds(2_000));
        let left = value();
        self.holds("timer_value_counts_down", left <= self.milliseconds(2_000) && left > self.milliseconds(1));
    }

    /// Waits until the GIC sees the timer's signal at `level`.
    fn settles(&self, level: u64) -> bool {
        (0..POLLS).any(|_| self.gic.bit(bits::SET_PENDING, self.timer.intid) == level)
    }

    fn signal(&mut self) {
        let Timer { now, control, set_control, set_compare, intid, .. } = *self.timer;
        self.gic.write_bit(bits::SET_ENABLE, intid);
        set_compare(now() + self.milliseconds(10_000));
        set_control(ENABLE);
        self.holds("is_quiet_before_its_time", control() & STATUS == 0 && self.settles(0));
        set_compare(u64::MAX);
        self.holds("is_quiet_before_the_end_of_time", control() & STATUS == 0 && self.settles(0));
        set_compare(now() - 1);
        self.holds("fires_at_its_time", control() & STATUS != 0 && self.settles(1));
        set_control(ENABLE | MASK);
        self.holds("is_quiet_when_masked", control() & STATUS != 0 && self.settles(0));
        set_control(ENABLE);
        self.holds("fires_again_unmasked", self.settles(1));
        set_control(0);
        self.holds("is_quiet_when_off", self.settles(0));
    }

    /// What waits can be read although it cannot arrive.
    fn signal_of_a_disabled_interrupt(&mut self) {
        let Timer { now, set_control, set_compare, intid, .. } = *self.timer;
        self.gic.write_bit(bits::CLEAR_ENABLE, intid);
        set_compare(now() - 1);
        set_control(ENABLE);
        self.holds("disabled_interrupt_is_pending", self.settles(1));
        self.equal("disabled_interrupt_does_not_arrive", 1023, self.gic.acknowledge().into());
        set_compare(now() + self.milliseconds(10_000));
        self.holds("disabled_interrupt_is_quiet_again", self.settles(0));
        set_control(0);
    }

    fn latency(&mut self) {
        let Timer { now, control, set_control, set_compare, .. } = *self.timer;
        let deadline = now() + self.milliseconds(10);
        set_compare(deadline);
        set_control(ENABLE);
        while control() & STATUS == 0 && now() < deadline + self.milliseconds(1000) {}
        let seen = now();
        self.holds("status_comes_at_its_time", (deadline..deadline + self.milliseconds(1000)).contains(&seen));
        set_control(0);
    }

    fn interrupt(&mut self) {
        let Timer { now, set_control, set_compare, set_value, intid, .. } = *self.timer;
        self.gic.write_bit(bits::SET_ENABLE, intid);
        set_value(self.milliseconds(1));
        set_control(ENABLE);
        let deadline = now() + self.milliseconds(1000);
        while self.gic.best_pending() != intid.into() && now() < deadline {}
        let got = self.gic.acknowledge();
        self.equal("interrupt_arrives", intid.into(), got.into());
        // A level that stays makes it pending again as soon as it is no longer active.
        self.gic.end(got);
        self.gic.nudge(intid);
        let again = (0..POLLS).any(|_| self.gic.best_pending() == intid.into());
        self.holds("interrupt_arrives_again_while_the_level_stays", again);
        let got = self.gic.acknowledge();
        set_compare(now() + self.milliseconds(10_000));
        self.gic.end(got);
        self.holds("interrupt_is_over_when_the_level_falls", self.settles(0));
        self.equal("nothing_arrives_afterwards", 1023, self.gic.acknowledge().into());
        set_control(0);
    }

    /// A handler may end its interrupt before it quiets the device, as long as interrupts stay masked: what fell meanwhile does not arrive.
    fn end_before_the_level_falls(&mut self) {
        let Timer { now, set_control, set_compare, intid, .. } = *self.timer;
        set_compare(now() - 1);
        set_control(ENABLE);
        self.gic.nudge(intid);
        let fired = (0..POLLS).any(|_| self.gic.best_pending() == intid.into());
        let got = self.gic.acknowledge();
        self.holds("fires_for_a_hasty_handler", fired && got == intid);
        self.gic.end(got);
        let deadline = now() + self.milliseconds(1);
        while now() < deadline {}
        set_control(ENABLE | MASK);
        self.equal("quietened_after_its_end_does_not_arrive", 1023, self.gic.acknowledge().into());
        self.holds("quietened_after_its_end_is_not_pending", self.settles(0));
        set_control(ENABLE);
        self.gic.nudge(intid);
        let again = (0..POLLS).any(|_| self.gic.best_pending() == intid.into());
        self.holds("fires_again_after_a_hasty_handler", again);
        self.gic.end(self.gic.acknowledge());
        set_control(0);
    }
}

fn counters(probe: &mut Probe<'_>) {
    let (mut backwards, mut apart) = (0_u64, 0_u64);
    let mut last = 0;
    let [virtual_, physical] = TIMERS.map(|timer| timer.now);
    for _ in 0..1000 {
        let (before, now, after) = (physical(), virtual_(), physical());
        backwards += u64::from(before < last || after < before);
        apart += u64::from(!(before..=after).contains(&now));
        last = after;
    }
    probe.report.equal("counters_never_go_back", 0, backwards);
    probe.report.equal("counters_have_one_time", 0, apart);
}

/// `CNTKCTL_EL1`: EL0 reads what EL1 allows, and what it does not comes to EL1.
fn user(probe: &mut Probe<'_>) {
    let kept = aarch64::read_sysreg!("cntkctl_el1");
    for (name, code, allowed) in [
        ("virtual_counter", probe_read_virtual_counter as *const (), 1 << 1),
        ("physical_counter", probe_read_physical_counter as *const (), 1 << 0),
        ("virtual_timer", probe_read_virtual_timer as *const (), 1 << 8),
        ("physical_timer", probe_read_physical_timer as *const (), 1 << 9),
    ] {
        for (verb, control, expected) in [("free", allowed, CALL), ("closed", 0, TRAPPED)] {
            set!("cntkctl_el1")(control);
            let got = Excursion::new(code.addr(), Level::User, [0; 2]).go();
            probe.report.equal(format_args!("{verb}_{name}_at_el0"), expected, got);
        }
    }
    set!("cntkctl_el1")(kept);
}
