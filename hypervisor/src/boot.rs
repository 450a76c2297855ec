//! From the loader's image and device tree to a running system, step by step. Every refusal names what is wrong and where,
//! turns the machine off, and has written to no disk (see [`stop`]).

mod border;
mod found;
mod interrupts;
mod modules;

use alloc::vec::Vec;
use core::ops::Range;

use aarch64::mmio::Mmio;
use aarch64::pl011::Pl011;
use aarch64::stage1::MapError;
use abi::IRQ_LINES;
use abi::hypercall::Failure;
use console::Speaker;
use el2::gic::Interrupts;
use el2::memory::BootMemory;
use el2::{context, firmware, pages};
use machine::general_tree::{self, General, VirtualDevice};
use machine::{Frames, MemoryPlan, PAGE, PciHost, Region, Trigger};
use psci::Psci;
use spin::Mutex;
use vcpu::{El1State, Frame};
use vgic::{Config, Messages, Version, Vgic};

use self::border::Domains;
use self::interrupts::assign_sources;
use crate::board::BOARD;
use crate::dma::Dma;
use crate::log::{CONSOLE, log, set_raw};
use crate::panic::stop;
use crate::pcie::Bus;
use crate::restart::{Origin, Restart};
use crate::system::{Core, System};
use crate::{cpu, exclusive, mmio, pci, reset, secure};

pub use border::{confine_devices, domains, share_bus, stop_devices};
pub use found::{Found, device_ranges, device_tree, find_machine, memory_ranges, report};
pub use interrupts::{claim_interrupts, interrupts};
pub use modules::{load, modules, next_life, plan, restart_memory};

/// Connects a console, from here on or in place of an earlier one.
pub fn connect(registers: Mmio) {
    let uart = Pl011::new(registers);
    uart.enable_transmit();
    set_raw(uart);
    CONSOLE.lock().connect(uart);
}

fn range(region: &Region) -> Range<usize> {
    region.base() as usize..region.end() as usize
}

/// The outcome of a change of EL2's mapping.
pub fn mapped<T>(outcome: Result<T, MapError>) -> T {
    outcome.unwrap_or_else(|error| stop(format_args!("stage 1 of EL2: {error}")))
}

/// The console's registers, in place of the board's early ones.
pub fn console(found: &Found, memory: &BootMemory) {
    connect(memory.device(&range(&found.console.registers)));
}

/// Everything that runs shares, put together.
pub fn system(
    found: &Found,
    plan: &MemoryPlan,
    domains: Domains,
    dma: Option<Dma>,
    bus: Option<Bus>,
    interrupts: Interrupts,
    origin: Origin,
) -> System {
    let cores = found.cores.general().len();
    let (version, distributor, redistributors) = match &found.machine.gic.frames {
        Frames::V2 { distributor, .. } => (Version::V2, *distributor, None),
        Frames::V3 { distributor, redistributors, .. } => (Version::V3, *distributor, redistributors.first().copied()),
    };
    let vgic = Vgic::new(Config {
        version,
        cpus: cores,
        affinities: interrupts.affinities(),
        spis: interrupts.lines().saturating_sub(32) as usize,
        messages: pci::BUS.map(|bus| Messages { first: bus.first_message, count: bus.messages }),
    });
    assign_sources(found, &vgic, interrupts.lines());
    let mut lines = [None; IRQ_LINES];
    found.storage.iter().for_each(|(place, device)| lines[*place] = Some(device.interrupt.intid));
    System {
        cores,
        vgic,
        psci: psci(&interrupts, cores, found.boot_index(), plan.kept.is_some()),
        general_memory: plan.general.to_vec(),

        features: cpu::features(),
        map: mmio::Map {
            distributor,
            redistributors,
            console: found.console.registers.base(),
            channel: BOARD.channel.base,
            configuration: bus.as_ref().map(Bus::region),
            first_channel_intid: BOARD.channel.first_intid,
        },
        console_intid: found.console.interrupt.intid,
        lines,
        devices: core::array::from_fn(|index| Mutex::new(crate::devices::VirtualDevice::new(index))),
        pci: pci::State::default(),
        shared: pages::shared(),
        secure: Mutex::new(secure::SecureDomain::new(
            plan.secure.base(),
            plan.secure_tree.base(),
            domains.secure,
            Restart::new(origin),
        )),
        secure_state: secure::State::default(),
        exclusive: exclusive::State::default(),
        reset: reset::State::default(),
        slice_ticks: aarch64::time::ticks(BOARD.slice_us.into()),
        general: domains.general,
        dma,
        shared_bus: bus,
        interrupts,
    }
}

/// The general domain's cores: the one that boots is on.
fn psci(interrupts: &Interrupts, cores: usize, boot: usize, resets_alone: bool) -> Psci {
    let psci = Psci::new(psci::Config {
        cores,
        affinities: interrupts.affinities(),
        stolen_time: pages::stolen_times() as u64,
        system_suspend: true,
        warm_reset: resets_alone || firmware::has_warm_reset(),
    });
    let nowhere = psci::Start { entry: 0, context: 0 };
    let started = psci.claim(boot, nowhere).is_ok() && psci.begin(boot).is_some();
    assert!(started, "a core that nobody has claimed can be started");
    psci
}

/// Writes the general domain's tree, with the devices that the secure domain offers, and returns it; erases the loader's, whose seeds
/// are no domain's to know.
pub fn general_tree(core: &Core, found: &Found, tree: &[u8], plan: &MemoryPlan, memory: &mut BootMemory) -> Vec<u8> {
    let attached: Vec<usize> =
        (0..abi::DEVICES).filter(|index| core.system.devices[*index].lock().is_attached()).collect();
    let devices: Vec<VirtualDevice> = match pci::BUS {
        Some(_) => Vec::new(),
        None => attached.iter().copied().filter_map(virtual_device).collect(),
    };
    let pci = pci::BUS.map(|bus| PciHost {
        bus,
        first_line: BOARD.channel.first_intid,
        devices: abi::DEVICES as u32,
        frame: BOARD.channel.base,
    });
    let host = found.host.as_ref();
    let (denied, exclusive_core) = (&found.denied, found.cores.exclusive());
    let general = General { plan, exclusive_core, denied, host, devices: &devices, pci, bootargs: None };
    let made = general_tree::write(tree, &found.machine, &general)
        .unwrap_or_else(|error| stop(format_args!("device tree of the general domain: {error}")));
    if made.len() as u64 > plan.general_tree.size() {
        stop(format_args!("device tree of the general domain: {} bytes do not fit", made.len()));
    }
    memory.fill(&range(&found.tree), &[]);
    memory.fill(&range(&plan.general_tree), &made);
    log!(
        "general domain: {} virtual disk(s){}, kernel at {:#x}, device tree at {:#x}",
        attached.len(),
        if pci.is_some() { " as PCI functions" } else { "" },
        plan.kernel.base(),
        plan.general_tree.base()
    );
    made
}

fn virtual_device(index: usize) -> Option<VirtualDevice> {
    let page = Region::new(BOARD.channel.base + index as u64 * PAGE, PAGE)?;
    let intid = BOARD.channel.first_intid + index as u32;
    Some(VirtualDevice { registers: page, interrupt: machine::Interrupt { intid, trigger: Trigger::Level } })
}

/// Loads a vCPU of the general domain onto this core: at `entry` with `argument` in `x0`, everything else as after a reset.
pub fn load_vcpu(core: &mut Core, entry: u64, argument: u64) {
    core.interrupts.reset_virtual();
    core.frame = Frame::reset(entry, argument);
    core.el1 = El1State::reset();
    context::load(&core.el1, &core.system.general);
    context::load_timers(&core.el1);
    context::reset_monitors(core.has_pmu);
    core.os_lock = true;
    let kicks = core.system.vgic.cpu_on(core.index, &mut core.interrupts);
    core.kick(kicks);
}

/// Stops before the general domain has run: there is nothing to serve it with.
pub fn stop_for(failure: Failure) -> ! {
    CONSOLE.lock().flush(Speaker::Secure);
    stop(format_args!("the secure domain cannot serve: {}", describe(failure)))
}

/// What a failure of the secure domain means.
pub fn describe(failure: Failure) -> &'static str {
    match failure {
        Failure::Disk => "no disk that it can drive",
        Failure::Volume => "no volume on its disk that it can serve",
        Failure::Panic => "a defect of its own",
        Failure::SelfTest => "a self-test of its crypto engine failed",
        Failure::DeviceTree => "its device tree lacks something",
    }
}
