//! What the secure domain asks of EL2 (`abi::hypercall`). A wrong argument is an error in `x0`, never a reason to stop.

use abi::hypercall::{self, Error, Failure, Function, LOG_BYTES};
use channel::Offer;
use console::Speaker;
use trace::Reason;
use vcpu::Frame;

use crate::devices::Notice;
use crate::log::{CONSOLE, log};
use crate::secure::{self, Leave};
use crate::system::Core;
use crate::{boot, devices, exits};

/// Carries out the hypercall in `frame`; the leave, if the domain gives the core back.
pub fn handle(core: &mut Core, frame: &mut Frame) -> Option<Leave> {
    exits::note(core.exits, Reason::SecureCall, frame.x[0] & 0xffff_ffff);
    let Some(function) = Function::from_id(frame.x[0] as u32) else {
        frame.x[0] = hypercall::encode(Err(Error::NotSupported));
        return None;
    };
    match function {
        Function::Wait => {
            frame.x[0] = 0;
            core.system.secure_state.set_alive();
            core.system.secure_state.set_alarm(frame.x[1]);
            core.system.secure_state.set_when_idle(frame.x[2] == 1);
            return (!core.system.shared.pending()).then_some(Leave::Idle);
        }
        Function::Fail => return Some(fail(core, Failure::from_code(frame.x[1]))),
        Function::Version => frame.x[1] = abi::VERSION,
        _ => {}
    }
    frame.x[0] = hypercall::encode(command(core, function, &frame.x));
    None
}

/// The functions that only succeed or fail.
fn command(core: &mut Core, function: Function, x: &[u64; 31]) -> Result<(), Error> {
    let system = core.system;
    match function {
        Function::Version | Function::Wait | Function::Fail => {}
        Function::Ready => secure::ready(core),
        Function::Quiesced => system.secure_state.set_quiesced(),
        Function::Log => return log_text(x),
        Function::Attach => {
            let offer = Offer {
                device_id: x[2] as u32,
                features: x[3],
                queues: u8::try_from(x[4]).map_err(|_| Error::InvalidParameter)?,
                queue_size_max: u16::try_from(x[5]).map_err(|_| Error::InvalidParameter)?,
            };
            return system.devices[index(x[1])?].lock().attach(offer);
        }
        Function::Config => {
            let offset = usize::try_from(x[2]).map_err(|_| Error::InvalidParameter)?;
            return system.devices[index(x[1])?].lock().set_config(offset, x[3] as u32);
        }
        Function::Interrupt => {
            system.secure_state.set_alive();
            system.secure_state.lives.answered();
            devices::notify(core, index(x[1])?, Notice::Used);
        }
        Function::ConfigChanged => devices::notify(core, index(x[1])?, Notice::ConfigChanged),
        Function::NeedsReset => devices::notify(core, index(x[1])?, Notice::NeedsReset),
        Function::ResetDone => return devices::reset_done(core, index(x[1])?),
        Function::IrqDone => {
            let line = usize::try_from(x[1]).ok().and_then(|line| *system.lines.get(line)?);
            core.interrupts.deactivate(line.ok_or(Error::InvalidParameter)?);
        }
    }
    Ok(())
}

/// A device index from a register.
fn index(value: u64) -> Result<usize, Error> {
    usize::try_from(value).ok().filter(|index| *index < abi::DEVICES).ok_or(Error::InvalidParameter)
}

fn log_text(x: &[u64; 31]) -> Result<(), Error> {
    let len = usize::try_from(x[1]).ok().filter(|len| *len <= LOG_BYTES).ok_or(Error::InvalidParameter)?;
    let mut text = [0; LOG_BYTES];
    for (bytes, word) in text.as_chunks_mut::<8>().0.iter_mut().zip(&x[2..8]) {
        *bytes = word.to_le_bytes();
    }
    CONSOLE.lock().push(Speaker::Secure, &text[..len]);
    Ok(())
}

/// The domain cannot serve. Before the general domain runs there is nothing to go on with; later this life has ended.
fn fail(core: &Core, failure: Failure) -> Leave {
    CONSOLE.lock().flush(Speaker::Secure);
    if !core.system.secure_state.is_ready() {
        boot::stop_for(failure);
    }
    log!("the secure domain has crashed: {}", boot::describe(failure));
    Leave::Crashed
}
