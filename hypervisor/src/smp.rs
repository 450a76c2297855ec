//! Cores other than the one that boots: started and stopped at the general domain's wish.

use el2::boot::MAX_CORES;
use el2::{boot as entry, firmware};

use crate::log::log;
use crate::system::{self, Core};
use crate::{boot, calls, run};

/// PSCI `CPU_ON`, 64-bit (Arm DEN 0022, section 5.6).
const CPU_ON: u32 = 0xc400_0003;
/// PSCI `CPU_OFF` (section 5.5).
const CPU_OFF: u32 = 0x8400_0002;

/// Asks the firmware to start core `index`, which will look for its vCPU's entry in the PSCI state. Returns the firmware's answer.
pub fn start(core: &Core, index: usize) -> i64 {
    let target = core.interrupts.affinities[index];
    // SAFETY: the core enters `_secondary_start`, whose stack and tables are its own and final.
    unsafe { firmware::call(CPU_ON, [target, entry::secondary_entry(), index as u64]) }
}

/// Turns this core off for good; a later [`start`] begins anew.
pub fn stop(core: &mut Core) -> ! {
    run::leave(core);
    // SAFETY: the vCPU has left the core, no lock is held, and what others read of it is in coherent memory.
    let answer = unsafe { firmware::call(CPU_OFF, [0; 3]) };
    panic!("the firmware refused to turn the core off: {answer}");
}

/// This core's part of the interrupt controller and of the traps.
pub fn init_core(core: &Core, affinity: u64) {
    let ready = core.interrupts.gic.init_core(affinity);
    ready.unwrap_or_else(|error| panic!("core {affinity:#x}: interrupt controller: {error:?}"));
    let redistributor = core.interrupts.redistributors[core.index];
    for intid in [crate::irq::KICK, crate::irq::MAINTENANCE, el2::timer::INTID] {
        core.interrupts.gic.claim(redistributor, intid, affinity);
    }
}

/// Another core's first line of Rust.
pub extern "C" fn secondary(index: usize) -> ! {
    assert!(index < MAX_CORES, "the firmware started core {index}, which nobody asked for");
    let system = system::get();
    let mut core = Core::new(system, index);
    init_core(&core, crate::cpu::affinity());
    let Some((entry, context)) = calls::started(system, index) else {
        log!("core {index} was started without anybody's wish");
        stop(&mut core);
    };
    boot::load_vcpu(&mut core, entry, context);
    run::run(&mut core)
}
