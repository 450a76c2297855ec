//! The loop of one core: enter the general domain, serve what made it stop, enter it again.

use aarch64_cpu::registers::{
    ELR_EL1, ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, HPFAR_EL2, Readable, SCTLR_EL1, SPSR_EL1, VBAR_EL1, Writeable,
};
use el2::guest::{self, Trap};
use el2::{context, firmware};
use trace::Reason;
use vcpu::exit::{class, class_of, instruction_bytes};
use vcpu::sysreg::{Action, SgiRegister, decide, os_lock_status};
use vcpu::{Entry, Exception, Exit, SystemAccess};

use crate::system::Core;
use crate::{calls, exits, irq, mmio, secure};

/// Runs the general domain's vCPU of this core for ever. It has been set up in `core.frame` and the live EL1 registers.
pub fn run(core: &mut Core) -> ! {
    loop {
        match guest::enter(&mut core.frame) {
            Trap::Synchronous => synchronous(core),
            Trap::Interrupt => irq::serve(core),
            Trap::SError => inject_serror(),
        }
    }
}

/// Decodes what the syndrome registers say of the last synchronous exit.
pub fn decode() -> Exit {
    Exit::decode(ESR_EL2.get(), FAR_EL2.get(), HPFAR_EL2.get())
}

/// What comes often is told by its class alone, before everything that the other classes need is decoded.
fn synchronous(core: &mut Core) {
    let esr = ESR_EL2.get();
    match class_of(esr) {
        class::HVC => calls::handle(core),
        class::DATA_ABORT => mmio::data_abort(core, esr),
        _ => any(core),
    }
}

#[inline(never)]
fn any(core: &mut Core) {
    let exit = decode();
    note(core, &exit);
    match exit {
        Exit::DataAbort(fault) => mmio::refuse(core, &fault),
        Exit::SystemRegister(access) => system_register(core, &access),
        Exit::Wfi { deadline: None } => {
            step_over(core);
            idle(core);
        }
        // WFIT may return early; its deadline is not worth a timer.
        Exit::Wfi { .. } | Exit::Wfe { .. } => step_over(core),
        Exit::Smc { .. } => {
            core.frame.advance(4);
            calls::handle(core);
        }
        Exit::Hvc { .. } => calls::handle(core),
        Exit::InstructionAbort(fault) => inject(core, Exception::instruction_abort(&fault)),
        Exit::SError { .. } => inject_serror(),
        Exit::Trapped(_) | Exit::Debug { .. } | Exit::Unknown { .. } => inject(core, Exception::Undefined),
    }
}

/// Calls and aborts are noted by those who handle them.
fn note(core: &Core, exit: &Exit) {
    match exit {
        Exit::SystemRegister(_) => exits::note(core.exits, Reason::Register, ESR_EL2.get()),
        Exit::Wfi { .. } | Exit::Wfe { .. } => exits::note(core.exits, Reason::Wait, core.frame.elr),
        Exit::InstructionAbort(fault) => {
            exits::note(core.exits, Reason::Abort, fault.ipa.map_or(fault.far.unwrap_or(0), |ipa| ipa.0));
        }
        Exit::Smc { .. } | Exit::Hvc { .. } | Exit::DataAbort(_) => {}
        _ => exits::note(core.exits, Reason::Exception, ESR_EL2.get()),
    }
}

/// Goes on behind a trapped instruction of two (T32) or four bytes.
fn step_over(core: &mut Core) {
    core.frame.advance(instruction_bytes(ESR_EL2.get()));
}

fn system_register(core: &mut Core, access: &SystemAccess) {
    let written = core.frame.read(access.rt);
    match decide(access, written, &core.identification) {
        Action::Read(value) => core.frame.write(access.rt, value),
        Action::Ignore => {}
        Action::Sgi { register, value } => send_sgi(core, register, value),
        Action::Deactivate(value) => {
            let kicks = core.system.vgic.dir(core.index, value, &mut core.interrupts);
            core.kick(kicks);
        }
        Action::Look => {
            let kicks = core.system.vgic.look(core.index, &mut core.interrupts);
            return core.kick(kicks);
        }
        Action::LockDebug(closed) => core.os_lock = closed,
        Action::ReadOsLock => core.frame.write(access.rt, os_lock_status(core.os_lock)),
        Action::Undefined => return inject(core, Exception::Undefined),
    }
    core.frame.advance(4);
}

fn send_sgi(core: &mut Core, register: SgiRegister, value: u64) {
    let vgic = &core.system.vgic;
    let kicks = match register {
        SgiRegister::Sgi1r => vgic.sgi1r(core.index, value, &mut core.interrupts),
        SgiRegister::Sgi0r | SgiRegister::Asgi1r => vgic.sgi0r(core.index, value, &mut core.interrupts),
    };
    core.kick(kicks);
}

/// The vCPU has nothing to do: the secure domain gets the core if it wants it, else the core sleeps. Waking up for no reason
/// is allowed, so there is no need to know what woke it.
pub fn idle(core: &mut Core) {
    let system = core.system;
    if system.vgic.has_pending(core.index, &core.interrupts) {
        return;
    }
    secure::tell_idle(core);
    if !secure::wanted(core) {
        firmware::wait_for_interrupt();
    } else if !secure::serve_idle(core) {
        secure::await_turn(core);
    }
}

/// Gives the vCPU an exception of its own.
pub fn inject(core: &mut Core, exception: Exception) {
    let (vbar, sctlr) = (VBAR_EL1.get(), SCTLR_EL1.get());
    let entry = Entry::new(exception, core.frame.elr, core.frame.spsr, vbar, sctlr, core.system.features);
    core.frame.elr = entry.pc;
    core.frame.spsr = entry.pstate;
    ELR_EL1.set(entry.elr_el1);
    SPSR_EL1.set(entry.spsr_el1);
    ESR_EL1.set(entry.esr_el1);
    if let Some(far) = entry.far_el1 {
        FAR_EL1.set(far);
    }
}

/// Gives the vCPU a virtual SError: the hardware's was its own.
fn inject_serror() {
    context::pend_virtual_serror();
}

/// Ends what is left of the vCPU on this core before the core goes off.
pub fn leave(core: &mut Core) {
    let kicks = core.system.vgic.cpu_off(core.index, &mut core.interrupts);
    core.kick(kicks);
    core.interrupts.disable_core();
}
