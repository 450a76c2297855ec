//! Cores other than the one that boots: started and stopped at the general domain's wish.

use aarch64::time;
use el2::boot::MAX_CORES;
use el2::{firmware, timer};
use psci::Power;

use crate::log::log;
use crate::system::{self, Core};
use crate::{boot, irq, run, secure};

/// How long a core may take from leaving the guest to being off for the firmware, in microseconds.
const TURN_OFF_US: u64 = 100_000;
/// Slices that a core which goes off first gives to the secure domain's unfinished work.
const LAST_SLICES: usize = 100;

/// Has the firmware start core `index`, whose entry the PSCI state holds. A core that has left the guest but is not off yet for
/// the firmware answers "already on" for a moment.
pub fn start(core: &Core, index: usize) {
    let target = core.interrupts.affinities()[index];
    let deadline = time::counter() + time::ticks(TURN_OFF_US);
    loop {
        let answer = firmware::cpu_on(target, index);
        if answer != firmware::ALREADY_ON || time::counter() > deadline {
            if answer != 0 {
                log!("core {index}: the firmware does not start it: {answer}");
                core.system.psci.stopped(index);
            }
            return;
        }
    }
}

/// Turns this core off; a later [`start`] begins anew.
pub fn stop(core: &mut Core) -> ! {
    let system = core.system;
    for _ in 0..LAST_SLICES {
        if !secure::wanted(core) {
            break;
        }
        secure::serve_guaranteed(core);
    }
    timer::stop();
    let other = (0..system.cores).find(|index| *index != core.index && system.psci.power(*index) == Power::On);
    if let Some(other) = other {
        irq::route_lines(core, other);
    }
    run::leave(core);
    system.psci.stopped(core.index);
    let answer = firmware::cpu_off();
    panic!("the firmware refused to turn the core off: {answer}");
}

/// This core's part of the interrupt controller.
pub fn init_core(core: &Core) {
    let ready = core.interrupts.init_core();
    ready.unwrap_or_else(|error| panic!("core {}: interrupt controller: {error:?}", core.index));
    for intid in [irq::KICK, irq::MAINTENANCE, timer::INTID] {
        core.interrupts.claim(intid, core.index);
    }
}

/// Another core's first line of Rust.
pub extern "C" fn secondary(index: usize) -> ! {
    assert!(index < MAX_CORES, "the firmware started core {index}, which nobody asked for");
    let system = system::get();
    let mut core = Core::new(system, index);
    init_core(&core);
    let start = system.psci.begin(index).expect("a core is started after its entry has been published");
    boot::load_vcpu(&mut core, start.entry, start.context);
    run::run(&mut core)
}
