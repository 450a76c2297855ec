//! Other cores: on, off, and two calls at once.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::calls::{AFFINITY_INFO, CPU_ON, Conduit, call, psci};
use crate::disk::barrier;
use crate::interrupts::{now, ticks};
use crate::probe::Probe;
use crate::tree;

/// What a core does that comes on: counts, stays while it is held, and goes off by the conduit it is told.
#[repr(C)]
struct Visit {
    count: AtomicU64,
    by_hvc: AtomicU64,
    held: AtomicU64,
}

static VISIT: Visit = Visit { count: AtomicU64::new(0), by_hvc: AtomicU64::new(0), held: AtomicU64::new(0) };

/// A core that waits for the start and then asks for the target of the race, as all the others do.
#[repr(C)]
struct Racer {
    answer: AtomicU64,
    started: AtomicU64,
    target: AtomicU64,
    entry: AtomicU64,
    context: AtomicU64,
    by_hvc: AtomicU64,
}

impl Racer {
    const fn new() -> Racer {
        let [answer, started, target, entry, context, by_hvc] = [const { AtomicU64::new(0) }; 6];
        Racer { answer, started, target, entry, context, by_hvc }
    }
}

/// Racers besides this core.
const RACERS: usize = 6;

static RACE: [Racer; RACERS] = [const { Racer::new() }; RACERS];

/// No answer yet.
const UNANSWERED: u64 = 0x5eed;

unsafe extern "C" {
    fn probe_visitor();
    fn probe_racer();
}

global_asm!(
    ".section .text.visitor, \"ax\"",
    ".global probe_visitor",
    "probe_visitor:", // x0 = address of the visit; no stack, MMU off
    "ldr  x1, [x0]",
    "add  x1, x1, #1",
    "str  x1, [x0]",
    "dsb  sy",
    "0:",
    "ldr  x1, [x0, #16]",
    "cbnz x1, 0b",
    "ldr  x1, [x0, #8]",
    "b    3f",
    ".global probe_racer",
    "probe_racer:", // x0 = address of the racer
    "mov  x19, x0",
    "4:",
    "ldr  x1, [x19, #8]",
    "cbz  x1, 4b",
    "ldp  x1, x2, [x19, #16]",
    "ldp  x3, x4, [x19, #32]",
    "mov  w0, #0x0003", // CPU_ON, 64 bit
    "movk w0, #0xc400, lsl #16",
    "cbnz x4, 5f",
    "smc  #0",
    "b    6f",
    "5:",
    "hvc  #0",
    "6:",
    "str  x0, [x19]",
    "dsb  sy",
    "ldr  x1, [x19, #40]",
    "3:",
    "mov  w0, #0x0002", // CPU_OFF
    "movk w0, #0x8400, lsl #16",
    "cbnz x1, 1f",
    "smc  #0",
    "1:",
    "hvc  #0",
    "2:",
    "b    2b",
);

const SUCCESS: i32 = 0;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;
const ON_PENDING: i32 = -5;
const OFF: i32 = 1;
const ROUNDS: u64 = 20;

/// The machine has the core and this domain does not: it can be neither asked for nor asked about.
fn hidden_core(probe: &mut Probe<'_>, conduit: Conduit, core: u64) {
    let shown = probe.machine.cores.contains(&core);
    probe.report.equal("hidden_core_is_not_in_the_tree", 0, shown.into());
    let invalid = i64::from(INVALID_PARAMETERS) as u64;
    let asked = call(conduit, [AFFINITY_INFO, core, 0, 0]).code();
    probe.report.equal("affinity_info_of_hidden_core", invalid, i64::from(asked) as u64);
    probe.report.equal("cpu_on_of_hidden_core", invalid, i64::from(turn_on(conduit, core)) as u64);
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let conduit = psci(probe);
    let own = aarch64::read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
    VISIT.by_hvc.store((conduit == Conduit::Hvc).into(), Ordering::SeqCst);
    let cores = probe.machine.cores.clone();
    let others = cores.iter().copied().filter(|core| *core != own);
    if let Some(hidden) = tree::word(probe.bootargs, "probe.hidden") {
        hidden_core(probe, conduit, u64::from_str_radix(hidden, 16).unwrap_or(0));
    }
    if others.clone().next().is_none() {
        return probe.report.note("one core: class cores is left out");
    }
    for target in others.clone() {
        let (mut bad, mut visits) = (0_u64, 0_u64);
        for _ in 0..ROUNDS {
            let before = VISIT.count.load(Ordering::SeqCst);
            let first = turn_on(conduit, target);
            let second = turn_on(conduit, target);
            let raced = matches!(second, ALREADY_ON | ON_PENDING | SUCCESS);
            let off = wait(|| call(conduit, [AFFINITY_INFO, target, 0, 0]).code() == OFF);
            bad += u64::from(first != SUCCESS || !raced || !off);
            let came = VISIT.count.load(Ordering::SeqCst) - before;
            visits += u64::from(came == 1 + u64::from(second == SUCCESS));
        }
        probe.report.equal(format_args!("on_and_off_of_{target:#x}"), 0, bad);
        probe.report.equal(format_args!("visits_of_{target:#x}"), ROUNDS, visits);
    }
    let others: arrayvec::ArrayVec<u64, 16> = others.collect();
    if let [target, racers @ ..] = others.as_slice() {
        race(probe, conduit, *target, racers);
    }
}

/// All cores ask for one core at once: one turns it on, and the others hear that it is on, or about to be.
fn race(probe: &mut Probe<'_>, conduit: Conduit, target: u64, racers: &[u64]) {
    let (mut winners, mut losers) = (0_u64, 0_u64);
    for _ in 0..ROUNDS {
        VISIT.held.store(1, Ordering::SeqCst);
        let running = &RACE[..racers.len().min(RACERS)];
        for (racer, core) in running.iter().zip(racers) {
            prepare(racer, target);
            barrier();
            let entry = (probe_racer as *const ()).addr() as u64;
            call(conduit, [CPU_ON, *core, entry, core::ptr::from_ref(racer).addr() as u64]);
        }
        running.iter().for_each(|racer| racer.started.store(1, Ordering::SeqCst));
        let own = turn_on(conduit, target);
        wait(|| running.iter().all(|racer| racer.answer.load(Ordering::SeqCst) != UNANSWERED));
        let answers = running.iter().map(|racer| racer.answer.load(Ordering::SeqCst) as i32).chain([own]);
        winners += answers.clone().filter(|answer| *answer == SUCCESS).count() as u64;
        losers += answers.filter(|answer| matches!(*answer, ALREADY_ON | ON_PENDING)).count() as u64;
        VISIT.held.store(0, Ordering::SeqCst);
        wait(|| racers.iter().chain([&target]).all(|core| call(conduit, [AFFINITY_INFO, *core, 0, 0]).code() == OFF));
    }
    probe.report.equal("one_wins_a_race", ROUNDS, winners);
    probe.report.equal("the_others_are_refused", ROUNDS * racers.len().min(RACERS) as u64, losers);
}

fn prepare(racer: &Racer, target: u64) {
    racer.answer.store(UNANSWERED, Ordering::SeqCst);
    racer.started.store(0, Ordering::SeqCst);
    racer.target.store(target, Ordering::SeqCst);
    racer.entry.store((probe_visitor as *const ()).addr() as u64, Ordering::SeqCst);
    racer.context.store((&raw const VISIT).addr() as u64, Ordering::SeqCst);
    racer.by_hvc.store(VISIT.by_hvc.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// Has a core come on, count, and go off again.
pub(crate) fn visit(conduit: Conduit, target: u64) -> i32 {
    VISIT.by_hvc.store((conduit == Conduit::Hvc).into(), Ordering::SeqCst);
    turn_on(conduit, target)
}

/// Time for other cores to go off.
pub(crate) fn pause() {
    wait(|| false);
}

fn turn_on(conduit: Conduit, target: u64) -> i32 {
    let entry = (probe_visitor as *const ()).addr() as u64;
    barrier();
    call(conduit, [CPU_ON, target, entry, (&raw const VISIT).addr() as u64]).code()
}

/// Waits for a second at most.
fn wait(done: impl Fn() -> bool) -> bool {
    let deadline = now() + ticks(1000);
    while now() < deadline {
        if done() {
            return true;
        }
    }
    false
}
