//! What the general domain asks of its firmware, which is EL2: PSCI and the SMC Calling Convention.

use abi::Event;
use el2::firmware;
use psci::{Call, Decision, Start, decode};
use trace::Reason;

use crate::log::log;
use crate::system::Core;
use crate::{boot, exits, irq, panic, reset, run, secure, smp};

/// Carries out the call in the vCPU's registers, which has been stepped over. One that nobody knows needs nothing of the system.
pub fn handle(core: &mut Core) {
    let [x0, x1, x2, x3, ..] = core.frame.x;
    exits::note(core.exits, Reason::Call, x0 & 0xffff_ffff);
    match decode(x0 as u32, [x1, x2, x3]) {
        Call::Unknown(_) => core.frame.x[0] = psci::Error::NotSupported as i64 as u64,
        call => known(core, call),
    }
}

#[inline(never)]
fn known(core: &mut Core, call: Call) {
    let system = core.system;
    let is_memory =
        |address: u64| system.general_memory.iter().any(|bank| (bank.base()..bank.end()).contains(&address));
    match system.psci.decide(core.index, call, &core.firmware, &is_memory) {
        Decision::Return(value) => core.frame.x[0] = value,
        Decision::Wake { cpu } => {
            smp::start(core, cpu);
            core.frame.x[0] = 0;
        }
        Decision::Await { cpu } => {
            smp::await_start(core, cpu);
            core.frame.x[0] = system.psci.after_wait(cpu);
        }
        Decision::Off => smp::stop(core),
        Decision::Standby => {
            run::idle(core);
            core.frame.x[0] = 0;
        }
        Decision::SystemOff => {
            reset::save(core);
            log!("off");
            panic::off()
        }
        Decision::SystemReset { warm } => reset::carry_out(core, warm),
        Decision::SystemSuspend(start) => suspend(core, start),
        Decision::Firmware(function, argument) => {
            core.frame.x[..4].copy_from_slice(&firmware::ask(function, argument));
        }
    }
}

/// The machine sleeps, all other cores being off: this core idles until an interrupt waits for its vCPU, which then starts anew.
/// A sleeping machine may lose its power, so everything is saved first.
fn suspend(core: &mut Core, start: Start) {
    reset::save(core);
    while !core.system.vgic.has_pending(core.index, &core.interrupts) {
        run::idle(core);
        irq::serve(core);
    }
    secure::call(core, Event::AWAKE);
    let kicks = core.system.vgic.cpu_off(core.index, &mut core.interrupts);
    core.kick(kicks);
    boot::load_vcpu(core, start.entry, start.context);
}
