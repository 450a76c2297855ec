//! What the general domain asks of its firmware, which is EL2: PSCI and the SMC Calling Convention.

use el2::firmware;
use psci::{Decision, decode};

use crate::log::log;
use crate::system::Core;
use crate::{panic, run, secure, smp};

/// Carries out the call in the vCPU's registers, which has been stepped over.
pub fn handle(core: &mut Core) {
    let system = core.system;
    let [x0, x1, x2, x3, ..] = core.frame.x;
    let is_memory =
        |address: u64| system.general_memory.iter().any(|bank| (bank.base()..bank.end()).contains(&address));
    match system.psci.decide(core.index, decode(x0 as u32, [x1, x2, x3]), is_memory) {
        Decision::Return(value) => core.frame.x[0] = value,
        Decision::Wake { cpu } => {
            smp::start(core, cpu);
            core.frame.x[0] = 0;
        }
        Decision::Off => smp::stop(core),
        Decision::Standby => {
            run::idle(core);
            core.frame.x[0] = 0;
        }
        Decision::SystemOff => {
            save_everything(core);
            log!("off");
            panic::off()
        }
        Decision::SystemReset { .. } => {
            save_everything(core);
            log!("reset");
            let answer = firmware::system_reset();
            panic::stop(format_args!("the firmware refused to reset the machine: {answer}"))
        }
        // Neither is offered (`boot::system`), so the state machine does not decide it.
        Decision::SystemSuspend(_) | Decision::Workaround(..) => {
            core.frame.x[0] = psci::Error::NotSupported as i64 as u64
        }
    }
}

/// Before power goes: the secure domain brings what it has acknowledged to stable storage.
fn save_everything(core: &mut Core) {
    if !secure::quiesce(core) && !core.system.secure_state.is_stopped() {
        log!("the secure domain has not saved everything in time");
    }
}
