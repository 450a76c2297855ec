//! Self-hosted debug (Arm DDI 0487, D2): breakpoints, watchpoints, software step and the OS lock, at EL0 and EL1. Runs with and without a
//! hypervisor and must find the same; steps over what a hypervisor does in the guest's stead count as one.

use core::arch::{asm, global_asm};

use crate::controller::Controller;
use crate::disk::{Answer, Disk, register};
use crate::excursion::{Excursion, Level};
use crate::probe::Probe;

/// `MDSCR_EL1.SS`, `KDE`, `MDE`.
const SS: u64 = 1 << 0;
const KDE: u64 = 1 << 13;
const MDE: u64 = 1 << 15;
/// `OSLSR_EL1.OSLK`.
const LOCKED: u64 = 1 << 1;
/// `DBGBCR.E`, all four bytes; `DBGWCR.E`, loads and stores, all eight bytes.
const BREAK: u64 = 0b1111 << 5 | 1;
const WATCH: u64 = 0xff << 5 | 0b11 << 3 | 1;

/// Exception classes, of EL0; those of EL1 are one higher.
const BREAKPOINT: u64 = 0x30;
const STEP: u64 = 0x32;
const WATCHPOINT: u64 = 0x34;
const CALL: u64 = 0x15;

global_asm!(
    ".section .text.debug, \"ax\"",
    "probe_debugged:", // x0 = a doubleword
    "nop",
    "nop",
    "str  x1, [x0]",
    "ldr  x2, [x0]",
    "svc  #0",
    "probe_stepped:", // x0 = a register of the GIC
    "nop",
    "ldr  w2, [x0]",            // of the distributor: emulated
    "mrs  x3, id_aa64pfr0_el1", // identification: emulated
    "str  w2, [x0]",
    "b    1f",
    "nop",
    "1:",
    "dc   cisw, xzr", // of set 0, way 0 of the first level
    "svc  #0",
    "probe_kicks:", // x0 = a QueueNotify register
    "str  wzr, [x0]",
    "svc  #0",
);

unsafe extern "C" {
    fn probe_debugged();
    fn probe_stepped();
    fn probe_kicks();
}

/// What breakpoints and watchpoints guard.
static mut GUARDED: u64 = 0;

/// Steps that any of the pieces above takes at most.
const STEPS: u64 = 32;

/// Debug register `$name<n>_EL1` by a number that only the run knows.
macro_rules! numbered {
    ($index:expr, $access:ident, $name:literal $(, $value:expr)?) => {
        match $index {
            0 => $access!($name, "0_el1" $(, $value)?),
            1 => $access!($name, "1_el1" $(, $value)?),
            2 => $access!($name, "2_el1" $(, $value)?),
            3 => $access!($name, "3_el1" $(, $value)?),
            4 => $access!($name, "4_el1" $(, $value)?),
            _ => $access!($name, "5_el1" $(, $value)?),
        }
    };
}

macro_rules! get {
    ($name:literal, $rest:literal) => {
        aarch64::read_sysreg!(concat!($name, $rest))
    };
}

macro_rules! set {
    ($name:literal, $rest:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: debug registers; debug exceptions are masked here, and excursions expect them.
        unsafe { asm!(concat!("msr ", $name, $rest, ", {}"), "isb", in(reg) value, options(nostack)) }
    }};
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    set!("oslar", "_el1", 0);
    set!("osdlr", "_el1", 0);
    set!("mdscr", "_el1", 0);
    registers(probe);
    os_lock(probe);
    for level in [Level::User, Level::Kernel] {
        breakpoint(probe, level);
        watchpoint(probe, level);
        step(probe, level);
    }
    kernel_debug_needs_its_enable(probe);
    if let Some(gic) = Controller::find(&probe.machine) {
        step_over_emulation(probe, gic.distributor());
    }
    match Disk::find(&probe.machine) {
        Some(mut disk) => over_the_secure_domain(probe, &mut disk),
        None => probe.report.note("no virtual disk: the rest of class debug is left out"),
    }
    quiet();
}

/// Everything off.
fn quiet() {
    set!("mdscr", "_el1", 0);
    for index in 0..2 {
        numbered!(index, set, "dbgbcr", 0);
        numbered!(index, set, "dbgwcr", 0);
    }
}

/// Breakpoints and watchpoints that there are (`ID_AA64DFR0_EL1.BRPs`, `WRPs`).
fn counts() -> (u64, u64) {
    let features = aarch64::read_sysreg!("id_aa64dfr0_el1");
    (1 + (features >> 12 & 0xf), 1 + (features >> 20 & 0xf))
}

fn name_of(level: Level) -> (&'static str, u64) {
    match level {
        Level::User => ("el0", 0),
        Level::Kernel => ("el1", 1),
    }
}

/// `PMC` and `PAC`: of this level.
fn control(level: Level) -> u64 {
    if level == Level::User { 0b10 << 1 } else { 0b01 << 1 }
}

fn debugged() -> u64 {
    (probe_debugged as *const ()).addr() as u64
}

fn guarded() -> u64 {
    (&raw const GUARDED).addr() as u64
}

/// Every register that the identification registers tell of holds what is written.
fn registers(probe: &mut Probe<'_>) {
    let (breakpoints, watchpoints) = counts();
    let mut held = 0;
    for index in 0..breakpoints.min(6) {
        numbered!(index, set, "dbgbvr", 0x1000 + 16 * index);
        numbered!(index, set, "dbgbcr", 0b1111 << 5);
        let value = numbered!(index, get, "dbgbvr");
        held += u64::from(value == 0x1000 + 16 * index && numbered!(index, get, "dbgbcr") == 0b1111 << 5);
    }
    probe.report.equal("breakpoint_registers_hold", breakpoints.min(6), held);
    held = 0;
    for index in 0..watchpoints.min(6) {
        numbered!(index, set, "dbgwvr", 0x2000 + 16 * index);
        numbered!(index, set, "dbgwcr", 0xff << 5);
        let value = numbered!(index, get, "dbgwvr");
        held += u64::from(value == 0x2000 + 16 * index && numbered!(index, get, "dbgwcr") == 0xff << 5);
    }
    probe.report.equal("watchpoint_registers_hold", watchpoints.min(6), held);
    set!("mdscr", "_el1", MDE | KDE);
    probe.report.equal("mdscr_holds", MDE | KDE, get!("mdscr", "_el1") & (MDE | KDE | SS));
    quiet();
}

fn os_lock(probe: &mut Probe<'_>) {
    let status = || get!("oslsr", "_el1");
    probe.report.equal("os_lock_exists", 1 << 3, status() & 0b1001);
    probe.report.equal("os_lock_is_open", 0, status() & LOCKED);
    set!("oslar", "_el1", 1);
    probe.report.equal("os_lock_closes", LOCKED, status() & LOCKED);
    set!("oslar", "_el1", 0);
    probe.report.equal("os_lock_opens", 0, status() & LOCKED);
}

/// At the second instruction.
fn arm_breakpoint(level: Level) {
    set!("dbgbvr", "0_el1", debugged() + 4);
    set!("dbgbcr", "0_el1", BREAK | control(level));
    set!("mdscr", "_el1", MDE | KDE);
}

fn breakpoint(probe: &mut Probe<'_>, level: Level) {
    let (name, above) = name_of(level);
    arm_breakpoint(level);
    let mut code = Excursion::new(debugged() as usize, level, [guarded(), 7]);
    probe.report.equal(format_args!("breakpoint_at_{name}"), BREAKPOINT + above, code.go());
    probe.report.equal(format_args!("breakpoint_stops_in_front_at_{name}"), debugged() + 4, code.pc());
    set!("dbgbcr", "0_el1", 0);
    probe.report.equal(format_args!("goes_on_behind_breakpoint_at_{name}"), CALL, code.go());
    quiet();
}

fn watchpoint(probe: &mut Probe<'_>, level: Level) {
    let (name, above) = name_of(level);
    set!("dbgwvr", "0_el1", guarded());
    set!("dbgwcr", "0_el1", WATCH | control(level));
    set!("mdscr", "_el1", MDE | KDE);
    let mut code = Excursion::new(debugged() as usize, level, [guarded(), 7]);
    probe.report.equal(format_args!("watchpoint_at_{name}"), WATCHPOINT + above, code.go());
    probe.report.equal(format_args!("watchpoint_tells_the_address_at_{name}"), guarded(), code.far());
    probe.report.equal(format_args!("watchpoint_stops_at_the_store_at_{name}"), debugged() + 8, code.pc());
    set!("dbgwcr", "0_el1", 0);
    probe.report.equal(format_args!("goes_on_behind_watchpoint_at_{name}"), CALL, code.go());
    probe.report.equal(format_args!("store_happened_at_{name}"), 7, code.x(2));
    quiet();
}

/// Software step: each step is one instruction.
fn step(probe: &mut Probe<'_>, level: Level) {
    let (name, above) = name_of(level);
    set!("mdscr", "_el1", SS | KDE);
    let mut code = Excursion::new(debugged() as usize, level, [guarded(), 9]);
    let steps = count_steps(&mut code, STEP + above, debugged());
    probe.report.equal(format_args!("steps_at_{name}"), 4, steps);
    quiet();
}

/// Steps until something else than a step happens; each must be at the instruction after the one before, or in front of it.
fn count_steps(code: &mut Excursion, class: u64, start: u64) -> u64 {
    let mut place = start;
    for steps in 0..STEPS {
        if code.step() != class {
            return steps;
        }
        if !(place..=place + 8).contains(&code.pc()) {
            return u64::MAX;
        }
        place = code.pc();
    }
    STEPS
}

fn kernel_debug_needs_its_enable(probe: &mut Probe<'_>) {
    arm_breakpoint(Level::Kernel);
    set!("mdscr", "_el1", MDE);
    let got = Excursion::new(debugged() as usize, Level::Kernel, [guarded(), 7]).go();
    probe.report.equal("no_breakpoint_at_el1_without_kde", CALL, got);
    quiet();
}

/// An instruction that somebody else carries out is one step too.
fn step_over_emulation(probe: &mut Probe<'_>, distributor: usize) {
    let start = (probe_stepped as *const ()).addr();
    set!("mdscr", "_el1", SS | KDE);
    let mut code = Excursion::new(start, Level::Kernel, [distributor as u64, 0]);
    let steps = count_steps(&mut code, STEP + 1, start as u64);
    probe.report.equal("steps_over_emulated_instructions", 6, steps);
    quiet();
}

/// The secure domain runs on this core in between: it must not be stopped, and must leave everything as it was.
fn over_the_secure_domain(probe: &mut Probe<'_>, disk: &mut Disk) {
    disk.start();
    set!("dbgbvr", "0_el1", 0x1234_5678);
    set!("dbgbcr", "0_el1", BREAK | 0b11 << 1);
    set!("dbgwvr", "0_el1", guarded());
    set!("dbgwcr", "0_el1", WATCH | 0b10 << 1);
    set!("mdscr", "_el1", MDE | KDE);
    let state = || {
        [
            get!("dbgbvr", "0_el1"),
            get!("dbgbcr", "0_el1"),
            get!("dbgwvr", "0_el1"),
            get!("dbgwcr", "0_el1"),
            get!("mdscr", "_el1"),
        ]
    };
    let before = state();
    let reads = (0..20).filter(|_| disk.read_well() == Answer::Status(0)).count();
    probe.report.equal("secure_domain_reads_while_we_debug", 20, reads as u64);
    probe.report.equal("debug_registers_survive_the_secure_domain", 1, (before == state()).into());
    quiet();
    set!("mdscr", "_el1", SS | KDE);
    let start = (probe_kicks as *const ()).addr();
    let mut code = Excursion::new(start, Level::Kernel, [(disk.base() + register::QUEUE_NOTIFY) as u64, 0]);
    let steps = count_steps(&mut code, STEP + 1, start as u64);
    probe.report.equal("steps_over_a_kick", 1, steps);
    quiet();
}
