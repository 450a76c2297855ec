//! Other cores: on, off, and two calls at once.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::calls::{AFFINITY_INFO, CPU_ON, Conduit, call, psci};
use crate::disk::barrier;
use crate::interrupts::{now, ticks};
use crate::probe::Probe;

/// What a core does that comes on: counts, and goes off by the conduit it is told.
#[repr(C)]
struct Visit {
    count: AtomicU64,
    by_hvc: AtomicU64,
}

static VISIT: Visit = Visit { count: AtomicU64::new(0), by_hvc: AtomicU64::new(0) };

unsafe extern "C" {
    fn probe_visitor();
}

global_asm!(
    ".section .text.visitor, \"ax\"",
    ".global probe_visitor",
    "probe_visitor:", // x0 = address of the visit; no stack, MMU off
    "ldr  x1, [x0]",
    "add  x1, x1, #1",
    "str  x1, [x0]",
    "dsb  sy",
    "ldr  x1, [x0, #8]",
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
const ALREADY_ON: i32 = -4;
const ON_PENDING: i32 = -5;
const OFF: i32 = 1;
const ROUNDS: u64 = 20;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let conduit = psci(probe);
    let own = aarch64::read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
    VISIT.by_hvc.store((conduit == Conduit::Hvc).into(), Ordering::SeqCst);
    let cores = probe.machine.cores.clone();
    let others = cores.iter().copied().filter(|core| *core != own);
    if others.clone().next().is_none() {
        return probe.report.note("one core: class cores is left out");
    }
    for target in others {
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
