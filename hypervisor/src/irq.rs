//! Physical interrupts: every one arrives here and goes to its owner.

use abi::Event;
use console::{Effect, Input, Speaker};
use el2::gic::Acknowledged;
use el2::timer;
use trace::Reason;

use crate::dma::Dma;
use crate::log::{CONSOLE, Console};
use crate::system::Core;
use crate::{dma, exclusive, exits, reset, secure};

/// The SGI by which one core asks another to look at its virtual GIC, and at what else waits for it. Physical SGIs are all EL2's.
pub const KICK: u32 = 1;

/// Maintenance interrupt of the virtual CPU interface (BSA, Arm DEN 0094, section 3.6).
pub const MAINTENANCE: u32 = 25;

/// The first INTID of a shared peripheral interrupt.
const SPI: u32 = 32;

/// What an interrupt asks of the core that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing is left to do.
    Served,
    /// The secure domain has an event.
    Secure,
    /// The timer that EL2 keeps for the secure domain has fired.
    Slice,
    /// The general domain must look: an interrupt of its own, or a kick.
    General(Acknowledged),
}

/// Takes the pending interrupt of this core and drops its priority. What is the general domain's stays active and is returned.
pub fn take(core: &mut Core) -> Claim {
    let Some(interrupt) = core.interrupts.acknowledge() else { return Claim::Served };
    core.interrupts.drop_priority(interrupt);
    exits::note(core.exits, Reason::Interrupt, interrupt.intid().into());
    let system = core.system;
    match interrupt.intid() {
        KICK if exclusive::is(core) => {
            core.interrupts.deactivate_local(interrupt);
            Claim::Served
        }
        KICK | MAINTENANCE => Claim::General(interrupt),
        timer::INTID => {
            timer::stop();
            core.interrupts.deactivate_local(interrupt);
            Claim::Slice
        }
        // Those of the console and the disks are SPIs.
        intid if intid < SPI => Claim::General(interrupt),
        intid if intid == system.console_intid => {
            console_input(core);
            core.interrupts.deactivate_local(interrupt);
            Claim::Served
        }
        // It stays active, and so quiet, until the secure domain has served it.
        intid => match system.lines.iter().position(|line| *line == Some(intid)) {
            Some(line) => {
                system.shared.raise(Event::irq(line));
                Claim::Secure
            }
            None => Claim::General(interrupt),
        },
    }
}

/// Hands an interrupt that [`take`] returned to the virtual GIC, whose interface must be open.
pub fn deliver(core: &mut Core, interrupt: Acknowledged) {
    let system = core.system;
    match interrupt.intid() {
        KICK => {
            core.interrupts.deactivate_local(interrupt);
            reset::attend(core);
            let kicks = system.vgic.sync(core.index, &mut core.interrupts);
            core.kick(kicks);
            // A core that went off may have left work of the secure domain behind.
            secure::wake_later(core);
        }
        MAINTENANCE => {
            let kicks = system.vgic.maintenance(core.index, &mut core.interrupts);
            core.kick(kicks);
            core.interrupts.deactivate_local(interrupt);
        }
        intid => {
            // The general domain cannot take now what comes now.
            if core.frame.spsr & vcpu::pstate::I != 0 {
                system.vgic.watch(core.index, &mut core.interrupts);
            }
            match system.vgic.physical_interrupt(core.index, intid, &mut core.interrupts) {
                Some(kicks) => core.kick(kicks),
                None => {
                    dma::serve(core, intid);
                    core.interrupts.deactivate_local(interrupt);
                }
            }
        }
    }
}

/// Takes and serves an interrupt while the general domain has this core.
pub fn serve(core: &mut Core) {
    match take(core) {
        Claim::Served => {}
        Claim::Secure => secure::serve_interrupt(core),
        Claim::Slice => secure::timer_fired(core),
        Claim::General(interrupt) => deliver(core, interrupt),
    }
}

/// Routes the interrupts of EL2, and those of the secure domain if it is where they are served, to the core of `index`, which is the general
/// domain's.
pub fn route_lines(core: &Core, index: usize) {
    let system = core.system;
    let dma = system.dma.iter().flat_map(Dma::interrupts).map(|interrupt| interrupt.intid);
    for intid in dma.chain([system.console_intid]) {
        core.interrupts.set_target(intid, index);
    }
    if !exclusive::IS_THERE {
        route_disks(core, index);
    }
}

/// Routes the interrupts of the secure domain's disks to the core of `index`.
pub fn route_disks(core: &Core, index: usize) {
    core.system.lines.into_iter().flatten().for_each(|intid| core.interrupts.set_target(intid, index));
}

/// Keys have arrived.
fn console_input(core: &mut Core) {
    let mut console = CONSOLE.lock();
    if let Some(uart) = console.uart() {
        uart.acknowledge_receive();
        feed(core, &mut console);
    }
}

/// Moves keys from the physical UART on: the general domain's to its UART as far as it has room, EL2's own are carried out.
/// What finds no room stays in the physical FIFO until the general domain has read, for which no interrupt comes.
pub fn feed(core: &mut Core, console: &mut Console) {
    let Some(uart) = console.uart() else { return };
    // A UART that never runs empty cannot keep us here.
    for _ in 0..2 * console::FIFO_BYTES {
        if !console.guest.has_room() {
            return;
        }
        let Some(byte) = uart.receive() else { return };
        key(core, console, byte);
    }
}

fn key(core: &mut Core, console: &mut Console, byte: u8) {
    match console.keyboard.key(byte) {
        Input::General(byte) => {
            let line = console.guest.receive(byte);
            console_line(core, line);
        }
        Input::Command(command) => crate::status::answer(core, console, command),
        Input::Nothing => {}
    }
}

/// Carries out what an access to the virtual UART asks for. Called with the console locked, so that bytes and levels keep
/// their order.
pub fn console_effect(core: &mut Core, console: &mut Console, effect: Effect) {
    if let Some(byte) = effect.transmit {
        console.push(Speaker::General, &[byte]);
    }
    console_line(core, effect.line);
}

fn console_line(core: &mut Core, line: Option<bool>) {
    if let Some(level) = line {
        let system = core.system;
        let kicks = system.vgic.set_level(core.index, system.console_intid, level, &mut core.interrupts);
        core.kick(kicks);
    }
}
