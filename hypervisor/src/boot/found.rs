//! What there is: the machine as its device tree tells it, and what of it is whose.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use el2::memory::NoDeviceTree;
use machine::board::{Attachment, Function, Reset};
use machine::{Cores, Denied, Device, Frames, Machine, MemoryPlan, PAGE, Region, SharedHost, Stoppable, SystemMmu};

use super::range;
use crate::board::BOARD;
use crate::cpu;
use crate::dma;
use crate::log::log;
use crate::panic::stop;
use crate::pcie::Bus;

/// The loader's device tree, or the reason why there is none.
pub fn device_tree(address: usize, read: Result<Vec<u8>, NoDeviceTree>) -> Vec<u8> {
    read.unwrap_or_else(|error| stop(format_args!("no device tree at {address:#x} (x0 of the boot loader): {error}")))
}

/// What the machine is.
pub struct Found {
    /// The machine as its tree tells it.
    pub machine: Machine,
    /// The storage controllers of the secure domain that the machine has, each with its place in the board file.
    pub storage: Vec<(usize, Device)>,
    /// The flash bank for the secure domain's anchor, if there is one.
    pub anchor: Option<Region>,
    /// The console's UART.
    pub console: Device,
    /// The cores, by whose they are.
    pub cores: Cores,
    /// Affinity of the core that boots.
    pub affinity: u64,
    /// Where the loader left the tree.
    pub tree: Region,
    /// What the general domain must never reach.
    pub denied: Denied,
    /// The system MMU that its devices are behind, if the machine has one.
    pub system_mmu: Option<SystemMmu>,
    /// Its bus masters, by how EL2 can stop them.
    pub masters: Stoppable,
    /// The PCI host that the secure domain's disks are on, if they are.
    pub host: Option<SharedHost>,
    /// Those disks, and their streams, as far as they are behind the system MMU.
    pub disk_streams: Vec<(Function, u32)>,
}

/// Reads the tree and checks that this build can serve the machine.
pub fn find_machine(tree: &[u8], address: usize) -> Found {
    let machine = Machine::read(tree).unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let host = find_host(&machine, tree);
    let storage = find_storage(&machine, tree, host.as_ref());
    let anchor = BOARD.anchor.and_then(|board| {
        machine.anchor(tree, &board).inspect_err(|error| log!("no anchor for the secure domain: {error}")).ok()
    });
    let Some(console) = machine.console.clone() else {
        stop(format_args!("device tree: /chosen/stdout-path names no PL011"));
    };
    if machine.psci != machine::Conduit::Smc {
        stop(format_args!(
            "device tree: firmware is called by HVC, which EL2 cannot do; start Haechi at EL2 under firmware at EL3"
        ));
    }
    let affinity = cpu::affinity();
    let cores = Cores::share(&machine.cpus, affinity, BOARD.secure_core);
    let cores = cores.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let registers: Vec<_> = storage.iter().map(|(_, device)| device.registers).collect();
    let denied = Denied::new(&machine, &BOARD, &registers, host.as_ref());
    let system_mmu = SystemMmu::find(tree, &machine, &denied);
    let system_mmu = system_mmu.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let disk_streams = disk_streams(tree, host.as_ref(), system_mmu.as_ref());
    let masters = stoppable_masters(tree, &denied, host.as_ref());
    let tree = Region::new(address as u64, tree.len() as u64).expect("a tree that was read is not empty");
    Found { machine, storage, anchor, console, cores, affinity, tree, denied, system_mmu, masters, host, disk_streams }
}

/// The general domain's bus masters. The functions of a host that is shared out are stopped one by one ([`Bus::stop_general`]).
fn stoppable_masters(tree: &[u8], denied: &Denied, host: Option<&SharedHost>) -> Stoppable {
    let found = Stoppable::find(tree, denied);
    let mut masters = found.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    masters.ecam.retain(|space| host.is_none_or(|host| host.configuration != *space));
    masters
}

/// The PCI host, if a disk of the board is one of its functions.
fn find_host(machine: &Machine, tree: &[u8]) -> Option<SharedHost> {
    let functions: Vec<_> = BOARD.functions().collect();
    let find = |functions: Vec<_>| {
        SharedHost::find(tree, machine, &functions)
            .unwrap_or_else(|error| stop(format_args!("no PCI bus for the secure domain's disk: {error}")))
    };
    (!functions.is_empty()).then(|| find(functions))
}

/// The streams of the disks that are PCI functions behind `mmu`.
fn disk_streams(tree: &[u8], host: Option<&SharedHost>, mmu: Option<&SystemMmu>) -> Vec<(Function, u32)> {
    let (Some(host), Some(mmu)) = (host, mmu) else { return Vec::new() };
    let stream =
        |function| mmu.stream(tree, host, function).unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    host.functions().iter().filter_map(|function| Some((*function, stream(*function)?))).collect()
}

/// The storage controllers; without one that the board names the others go on.
fn find_storage(machine: &Machine, tree: &[u8], host: Option<&SharedHost>) -> Vec<(usize, Device)> {
    let mut found = Vec::with_capacity(BOARD.storage.len());
    for (place, controller) in BOARD.storage.iter().enumerate() {
        let device = match (controller.at, host) {
            (Attachment::Function(function, _), Some(host)) => host.device(function),
            (Attachment::Function(..), None) => continue,
            (Attachment::Registers { compatible, base }, _) => machine.storage(tree, compatible, base),
        };
        match device {
            Ok(device) => found.push((place, device)),
            Err(error) if BOARD.storage.len() == 1 => stop(format_args!("no storage for the secure domain: {error}")),
            Err(error) => log!("disk {place} is missing: {error}"),
        }
    }
    if found.is_empty() {
        stop(format_args!("no storage for the secure domain: none of its disks is there"));
    }
    found
}

/// Memory of the machine.
pub fn memory_ranges(found: &Found) -> Vec<Range<usize>> {
    found.machine.memory.iter().map(range).collect()
}

/// Devices that EL2 drives.
pub fn device_ranges(found: &Found) -> Vec<Range<usize>> {
    let mut regions = match &found.machine.gic.frames {
        Frames::V2 { distributor, cpu_interface, hypervisor_interface, .. } => {
            vec![*distributor, *cpu_interface, *hypervisor_interface]
        }
        Frames::V3 { distributor, redistributors, .. } => {
            redistributors.iter().copied().chain([*distributor]).collect()
        }
    };
    regions.push(found.console.registers);
    regions.extend(found.storage_pages());
    regions.extend(found.system_mmu.iter().map(|mmu| mmu.registers));
    regions.extend(found.host.iter().map(SharedHost::bus));
    regions.into_iter().map(|region| range(&region.hull(PAGE))).collect()
}

impl Found {
    /// The pages of the storage controllers, each once: they may share one.
    pub fn storage_pages(&self) -> Vec<Region> {
        let mapped =
            self.storage.iter().filter(|(place, _)| matches!(BOARD.storage[*place].at, Attachment::Registers { .. }));
        let mut pages = Vec::with_capacity(self.storage.len());
        for page in mapped.map(|(_, device)| device.registers.hull(PAGE)) {
            if !pages.contains(&page) {
                pages.push(page);
            }
        }
        pages
    }

    /// How many disks reach all memory.
    pub fn unconfined_disks(&self) -> usize {
        let confined = |place: usize| match BOARD.storage[place].at {
            Attachment::Function(function, _) => self.disk_streams.iter().any(|(disk, _)| *disk == function),
            Attachment::Registers { .. } => false,
        };
        self.storage.iter().filter(|(place, _)| !confined(*place)).count()
    }

    /// Configuration space of each disk that is a PCI function, and its registers.
    pub fn function_pages(&self, bus: Option<&Bus>) -> Vec<(Region, Region)> {
        let (Some(host), Some(bus)) = (&self.host, bus) else { return Vec::new() };
        let pages = |function| host.page(function).zip(bus.window(function).map(|window| window.registers));
        host.functions().iter().filter_map(|function| pages(*function)).collect()
    }

    /// Whether a reset of the general domain can be its own: the board wants it, and EL2 can stop its bus masters.
    pub fn resets_alone(&self) -> bool {
        BOARD.reset == Reset::Domain && self.masters.others.is_empty()
    }

    /// Index of the core that boots.
    pub fn boot_index(&self) -> usize {
        let position = self.cores.general().iter().position(|affinity| *affinity == self.affinity);
        position.expect("checked when the cores were shared out")
    }
}

/// Says what has been found.
pub fn report(found: &Found, plan: &MemoryPlan) {
    log!("{} core(s), {} MiB of memory", found.machine.cpus.len(), found.machine.memory_bytes() >> 20);
    if let Some(affinity) = found.cores.exclusive() {
        log!("core {affinity:#x} is the secure domain's alone; the general domain has {}", found.cores.general().len());
    }
    log!("memory: hypervisor {}, secure domain {}", plan.el2, plan.secure);
    if let Some(window) = &plan.window {
        log!("the secure domain reaches {window} of the general domain's memory, and nothing else of it");
    }
    match &plan.kept {
        Some(kept) => log!("a reset of the general domain is its own; the boot bundle is kept in {kept}"),
        None if BOARD.reset == Reset::Machine => {}
        None if found.resets_alone() => {
            log!("a reset resets the machine: there is too little memory to keep the boot bundle")
        }
        None => log!("a reset resets the machine: EL2 cannot stop {}", dma::names(&found.masters.others)),
    }
    for (place, device) in &found.storage {
        log!("disk {place}: {} at {}", device.path, device.registers);
    }
    if let Some(bank) = &found.anchor {
        log!("anchor: flash at {bank}");
    }
}
