//! Cores other than the one that boots: started and stopped at the general domain's wish.

use aarch64::time;
use el2::boot::MAX_CORES;
use el2::{context, firmware, timer};
use psci::Power;
use spin::Mutex;

use crate::log::log;
use crate::system::{self, Core};
use crate::{boot, exclusive, irq, panic, run, secure};

/// How long a core may take from leaving the guest to being off for the firmware, or from being claimed to its first
/// instruction, in microseconds.
const TURN_OFF_US: u64 = 100_000;
/// Slices that a core which goes off first gives to the secure domain's unfinished work.
const LAST_SLICES: usize = 100;

/// Has the firmware start core `index`, whose entry the PSCI state holds. A core that has left the guest but is not off yet for
/// the firmware answers "already on" for a moment.
/// Whether it does.
pub fn start(core: &Core, index: usize) -> bool {
    let target = core.interrupts.affinities()[index];
    let deadline = time::counter() + time::ticks(TURN_OFF_US);
    loop {
        let answer = firmware::cpu_on(target, index);
        if answer != firmware::ALREADY_ON || time::counter() > deadline {
            if answer != 0 {
                log!("core {index}: the firmware does not start it: {answer}");
                core.system.psci.stopped(index);
            }
            return answer == 0;
        }
    }
}

/// Waits until core `index`, which another core is starting, has begun. It needs no domain for that, and no longer than this.
pub fn await_start(core: &Core, index: usize) {
    let deadline = time::counter() + time::ticks(TURN_OFF_US);
    while core.system.psci.power(index) == Power::OnPending && time::counter() < deadline {}
}

/// Turns this core off; a later [`start`] begins anew.
pub fn stop(core: &mut Core) -> ! {
    for _ in 0..LAST_SLICES {
        if !secure::wanted(core) {
            break;
        }
        secure::serve_guaranteed(core);
    }
    leave(core)
}

/// As [`stop`], at once: another core carries the secure domain's work on.
pub fn leave(core: &mut Core) -> ! {
    timer::stop();
    run::leave(core);
    pass_on(core);
    off(core)
}

/// Starts core `to`, which has been claimed, and turns this core off, which has left the guest and counts as off already. What this core has for others, `to`
/// takes when it comes.
pub fn hand_over(core: &mut Core, to: usize) -> ! {
    if !start(core, to) {
        let answer = firmware::system_reset();
        panic::stop(format_args!(
            "nobody can enter the general domain, and the firmware does not reset the machine: {answer}"
        ));
    }
    timer::stop();
    core.interrupts.disable_core();
    off(core)
}

fn off(core: &Core) -> ! {
    let answer = firmware::cpu_off();
    log!("core {}: the firmware refused to turn it off: {answer}", core.index);
    loop {
        firmware::wait_for_interrupt();
    }
}

/// One core at a time leaves, so that two do not name each other as heir.
static LEAVING: Mutex<()> = Mutex::new(());

/// Gives what this core has for others to one that stays: the interrupts of the secure domain and of the console, and the
/// secure domain's unfinished work, and the time that it waits for. If none is on, the next one that comes takes them (`secondary`).
fn pass_on(core: &mut Core) {
    let system = core.system;
    let one_at_a_time = LEAVING.lock();
    system.psci.stopped(core.index);
    let heir = (0..system.cores).find(|index| system.psci.power(*index) == Power::On);
    if let Some(heir) = heir {
        irq::route_lines(core, heir);
        if secure::wanted(core) || secure::has_alarm(core) || system.reset.is_demanded() {
            core.interrupts.send_sgi(irq::KICK, heir);
        }
    }
    drop(one_at_a_time);
}

/// This core's traps and its part of the interrupt controller.
pub fn init_core(core: &Core) {
    context::init_core(aarch64::read_sysreg!("mpidr_el1"), &core.system.general);
    let ready = core.interrupts.init_core();
    ready.unwrap_or_else(|error| panic!("core {}: interrupt controller: {error:?}", core.index));
    for intid in [irq::MAINTENANCE, timer::INTID] {
        core.interrupts.claim(intid, core.index);
    }
    core.interrupts.enable(irq::KICK);
}

/// Another core's first line of Rust, and the first core's when the general domain begins anew.
pub extern "C" fn secondary(index: usize) -> ! {
    assert!(index < MAX_CORES, "the firmware started core {index}, which nobody asked for");
    let system = system::get();
    let mut core = Core::new(system, index);
    init_core(&core);
    if exclusive::is(&core) {
        exclusive::run(&mut core);
    }
    let start = system.psci.begin(index).expect("a core is started after its entry has been published");
    if system.psci.must_leave(index) {
        leave(&mut core);
    }
    {
        let _one_at_a_time = LEAVING.lock();
        irq::route_lines(&core, index);
    }
    boot::load_vcpu(&mut core, start.entry, start.context);
    secure::wake_later(&mut core);
    run::run(&mut core)
}
