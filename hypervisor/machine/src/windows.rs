//! The device address space of the general domain: what it must never reach, and what is left.
//!
//! Left to itself the general domain drives every device, so the rule is default-allow with a list of exceptions. An exception
//! is a whole page: registers that share one with a denied device are denied too, and their nodes leave the tree
//! ([`crate::general_tree`]).

use alloc::vec::Vec;

use crate::{Board, Frames, Machine, PAGE, Region, SharedHost, board::Attachment, region};

/// Nothing above this is taken for a device page below memory, in bytes.
const LOW: u64 = 1 << 32;

/// Pages that the general domain must not reach, whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pages: Vec<Region>,
    /// Those of them that belong to a device which is the domain's all the same: EL2 answers there.
    answered: Option<Region>,
}

impl Denied {
    /// All that `machine` and `board` name: the GIC with its MSI frames, system MMUs, the firmware configuration device, the
    /// storage controllers, the anchor, the console, the window of the virtual devices, and the board's own list. Of these the
    /// general domain sees the GIC, the console and the virtual devices, by emulation. Of a PCI host that is shared out it has the functions
    /// that are not the secure domain's, and EL2 says which.
    #[inline(never)]
    pub fn new(machine: &Machine, board: &Board, storage: &[Region], host: Option<&SharedHost>) -> Denied {
        let mut pages = gic_frames(machine);
        pages.extend_from_slice(&machine.msi);
        pages.extend_from_slice(&machine.smmu);
        pages.extend_from_slice(&machine.firmware_configuration);
        pages.extend_from_slice(board.denied);
        pages.extend(board.channel.region());
        pages.extend(board.channel.pci.into_iter().flat_map(|bus| [bus.configuration, bus.registers]));
        pages.extend_from_slice(storage);
        // Whether or not the machine has them.
        pages.extend(board.storage.iter().filter_map(|controller| match controller.at {
            Attachment::Registers { base, .. } => Region::new(base, 1),
            Attachment::Function(..) => None,
        }));
        pages.extend(host.iter().flat_map(|host| [host.configuration, host.window]));
        pages.extend(board.anchor.map(|anchor| anchor.registers));
        pages.extend(machine.console.as_ref().map(|console| console.registers));
        let pages = region::union(pages.into_iter().map(|region| region.hull(PAGE)).collect());
        Denied { pages, answered: host.map(|host| host.configuration) }
    }

    /// The pages, sorted, as few ranges as possible.
    pub fn regions(&self) -> &[Region] {
        &self.pages
    }

    /// Whether `region` touches a denied page.
    pub fn touches(&self, region: &Region) -> bool {
        self.pages.iter().any(|denied| denied.overlaps(region))
    }

    /// Whether `region` touches a denied page at which nobody answers.
    pub(crate) fn takes(&self, region: &Region) -> bool {
        self.touches(region) && self.answered.as_ref() != Some(region)
    }

    /// Whether the general domain reaches all registers of the device that has `registers`. A bus without any is no device.
    pub(crate) fn leaves(&self, registers: &[Region]) -> bool {
        !registers.is_empty() && !registers.iter().any(|region| self.takes(region))
    }
}

fn gic_frames(machine: &Machine) -> Vec<Region> {
    match &machine.gic.frames {
        Frames::V3 { distributor, redistributors, .. } => {
            redistributors.iter().copied().chain([*distributor]).collect()
        }
        Frames::V2 { distributor, cpu_interface, hypervisor_interface, virtual_cpu_interface } => {
            [*distributor, *cpu_interface, *hypervisor_interface, *virtual_cpu_interface].into()
        }
    }
}

/// The pages to map one to one as Device memory for the general domain: the addresses below memory (at most the low 4 GiB) and
/// whatever registers and bus windows the tree names above, without memory, without `denied`, and below `limit` (the first
/// address that stage 2 cannot translate). Sorted, in whole pages, as few ranges as possible.
#[inline(never)]
pub fn device_windows(machine: &Machine, denied: &Denied, limit: u64) -> Vec<Region> {
    let below_memory = machine.memory.first().and_then(|bank| Region::between(0, bank.base().min(LOW)));
    let named = machine.windows.iter().map(|window| window.hull(PAGE));
    let reachable = Region::between(0, limit & !(PAGE - 1));
    let windows: Vec<Region> = named.chain(below_memory).filter_map(|window| window.common(&reachable?)).collect();
    let mut holes = denied.pages.clone();
    holes.extend_from_slice(&machine.memory);
    region::difference(&windows, &holes)
}
