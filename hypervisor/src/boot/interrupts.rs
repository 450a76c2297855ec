//! The interrupt controller, and whose each interrupt is.

use el2::gic::{Hardware, Interrupts};
use el2::gic_v2::GicV2;
use el2::gic_v3::GicV3;
use el2::memory::BootMemory;
use machine::{Frames, Region, Trigger};
use vgic::{Source, Vgic};

use super::found::Found;
use super::range;
use crate::board::BOARD;
use crate::log::CONSOLE;
use crate::panic::stop;
use crate::pci;
use crate::system::Core;

/// The physical GIC, its distributor in a known state.
pub fn interrupts(found: &Found, memory: &BootMemory) -> Interrupts {
    let frame = |region: &Region| memory.device(&range(region));
    let hardware = match &found.machine.gic.frames {
        Frames::V2 { distributor, cpu_interface, hypervisor_interface, .. } => {
            Hardware::V2(GicV2::new(frame(distributor), frame(cpu_interface), frame(hypervisor_interface)))
        }
        Frames::V3 { distributor, redistributors, .. } => match redistributors.first() {
            Some(first) => Hardware::V3(GicV3::new(frame(distributor), frame(first))),
            None => stop(format_args!("device tree: the interrupt controller has no redistributors")),
        },
    };
    Interrupts::new(hardware, found.cores.all(), found.boot_index())
        .unwrap_or_else(|error| stop(format_args!("interrupt controller: {error:?}")))
}

/// Which interrupts are the general domain's: every SPI but those of EL2 and the secure domain, and the PPIs of the EL1 timers
/// and the performance monitors.
pub fn assign_sources(found: &Found, vgic: &Vgic, lines: u32) {
    /// Performance monitors (BSA, Arm DEN 0094, section 3.6).
    const PMU: u32 = 23;
    for intid in 32..lines {
        vgic.assign(intid, Source::Hardware);
    }
    let timers = &found.machine.timers;
    for intid in [timers.virtual_.intid, timers.physical.intid, PMU] {
        vgic.assign(intid, Source::Hardware);
    }
    for (_, device) in &found.storage {
        vgic.assign(device.interrupt.intid, Source::None);
    }
    for interrupt in found.system_mmu.iter().flat_map(|mmu| &mmu.interrupts) {
        vgic.assign(interrupt.intid, Source::None);
    }
    vgic.assign(found.console.interrupt.intid, Source::Virtual);
    for index in 0..abi::DEVICES as u32 {
        vgic.assign(BOARD.channel.first_intid + index, Source::Virtual);
    }
    if let Some(bus) = pci::BUS {
        for intid in bus.first_message..bus.first_message + bus.messages {
            if !vgic.assign(intid, Source::Virtual) {
                stop(format_args!("board file: the machine has no interrupt {intid} for a message"));
            }
        }
    }
}

/// The interrupts that EL2 and the secure domain have, routed to this core.
pub fn claim_interrupts(core: &Core, found: &Found) {
    let disks = found.storage.iter().map(|(_, device)| device.interrupt);
    for interrupt in disks.chain([found.console.interrupt]) {
        core.interrupts.set_edge(core.index, interrupt.intid, interrupt.trigger == Trigger::Edge);
        core.interrupts.claim(interrupt.intid, core.index);
    }
    if let Some(uart) = CONSOLE.lock().uart() {
        uart.enable_receive_interrupt();
    }
}
