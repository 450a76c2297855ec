//! The PCI host of the virtual devices in the general domain's tree, and what takes its functions' messages.
//!
//! Configuration space is memory mapped (Linux, bindings/pci/host-generic-pci.yaml: `pci-host-ecam-generic`), the bus has no other behind
//! it, and PCI addresses are the domain's own. Function 0 of device *n* has the *n*-th line. Messages go to the GICv3 itself
//! (bindings/interrupt-controller/arm,gic-v3.yaml: `mbi-ranges`), or to a frame beside a GICv2 (arm,gic.yaml: `v2m`).

use alloc::{format, string::String, vec::Vec};

use dtoolkit::fdt::Fdt;

use crate::{
    Error, Frames, Interrupt, Machine, PAGE, Region, Trigger,
    board::PciBus,
    general_tree::{is_gic, specifier},
    tree,
    writer::{Node, push_region},
};

/// `phys.hi` of 32-bit memory space, not prefetchable (IEEE 1275 PCI bus binding, section 2.2.1.1).
const MEMORY_32: u32 = 0x0200_0000;
/// The device number in `phys.hi`.
const DEVICE_SHIFT: u32 = 11;
const INTA: u32 = 1;

/// The PCI host of the virtual devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// Where it is, and which interrupts take its messages.
    pub bus: PciBus,
    /// INTID of INTA of device 0; device *n* has the *n*-th behind it.
    pub first_line: u32,
    /// Devices that have a line.
    pub devices: u32,
    /// On a GICv2, first address of the frame that takes messages.
    pub frame: u64,
}

/// What the machine's tree says of the world around the host.
pub(crate) struct Surroundings {
    /// Phandle of the GIC, to which the lines lead.
    gic: u32,
    /// Cells of an address in the node of the GIC, which an entry of `interrupt-map` has.
    gic_address_cells: u32,
    /// A number that no other host of the machine has.
    domain: u32,
}

impl Surroundings {
    /// Looks around.
    ///
    /// # Errors
    /// A GIC to which nothing can refer.
    pub(crate) fn look(fdt: Fdt<'_>, machine: &Machine) -> Result<Surroundings, Error> {
        let nameless = || Error::NoNode { what: String::from("phandle of the interrupt controller") };
        let gic = machine.gic.phandle.ok_or_else(nameless)?;
        let mut found = Surroundings { gic, gic_address_cells: 0, domain: 1 };
        tree::walk(fdt, &mut |place| {
            if is_gic(place) {
                found.gic_address_cells = place.number("#address-cells")?.unwrap_or(0).min(4) as u32;
            }
            if let Some(domain) = place.number("linux,pci-domain")? {
                found.domain = found.domain.max((domain as u32).saturating_add(1));
            }
            Ok(())
        })?;
        Ok(found)
    }
}

impl PciHost {
    /// The node of the host; messages go to the node with the phandle `messages`, and what functions may reach of memory is `window`, if
    /// not all.
    pub(crate) fn node(
        &self,
        machine: &Machine,
        around: &Surroundings,
        (address_cells, size_cells): (u32, u32),
        messages: u32,
        window: Option<u32>,
    ) -> Node {
        let PciBus { configuration, registers, .. } = self.bus;
        let mut node = Node::new(format!("pcie@{:x}", configuration.base()));
        node.set("compatible", "pci-host-ecam-generic");
        node.set("device_type", "pci");
        node.set_reg(&[configuration], (address_cells, size_cells));
        for (name, cells) in [("#address-cells", 3_u32), ("#size-cells", 2), ("#interrupt-cells", 1)] {
            node.set(name, cells);
        }
        node.set("bus-range", [0_u32, 0].as_slice());
        node.set("linux,pci-domain", around.domain);
        node.set("ranges", ranges(&registers, address_cells));
        node.set("interrupt-map-mask", [0x1f_u32 << DEVICE_SHIFT, 0, 0, 7].as_slice());
        node.set("interrupt-map", self.lines(machine, around));
        node.set("msi-parent", messages);
        node.set("dma-coherent", [0_u8; 0]);
        if let Some(window) = window {
            node.set("memory-region", window);
        }
        node
    }

    /// `interrupt-map`: INTA of each device to its SPI.
    fn lines(&self, machine: &Machine, around: &Surroundings) -> Vec<u32> {
        let mut map = Vec::new();
        for device in 0..self.devices {
            let interrupt = Interrupt { intid: self.first_line + device, trigger: Trigger::Level };
            map.extend([device << DEVICE_SHIFT, 0, 0, INTA, around.gic]);
            map.resize(map.len() + around.gic_address_cells as usize, 0);
            map.extend(specifier(interrupt, machine.gic.interrupt_cells));
        }
        map
    }

    /// Makes the copied node of the GIC take messages; what a GICv2 needs for it gets the phandle `frame`. The phandle to which
    /// messages go.
    ///
    /// # Errors
    /// A GICv2 whose node maps no addresses for what is inside it.
    pub(crate) fn give_messages(
        &self,
        machine: &Machine,
        around: &Surroundings,
        gic: &mut Node,
        frame: u32,
    ) -> Result<u32, Error> {
        let PciBus { first_message, messages, .. } = self.bus;
        if matches!(machine.gic.frames, Frames::V3 { .. }) {
            gic.set("msi-controller", [0_u8; 0]);
            gic.set("mbi-ranges", [first_message, messages].as_slice());
            return Ok(around.gic);
        }
        let (Some(address_cells @ 1..=2), Some(size_cells @ 1..=2), Some(_)) =
            (gic.number("#address-cells"), gic.number("#size-cells"), gic.property("ranges"))
        else {
            let node = String::from("interrupt controller");
            return Err(Error::Property { node, property: "ranges", wrong: "leaves no place for a frame of messages" });
        };
        let mut child = Node::new(format!("v2m@{:x}", self.frame));
        // One page ends before 2^64 wherever the board has put it.
        let reg = Region::new(self.frame, PAGE);
        child.set("compatible", "arm,gic-v2m-frame");
        child.set("msi-controller", [0_u8; 0]);
        child.set_reg(reg.as_slice(), (address_cells, size_cells));
        child.set("arm,msi-base-spi", first_message);
        child.set("arm,msi-num-spis", messages);
        child.set("phandle", frame);
        gic.add(child);
        Ok(frame)
    }
}

/// One window, in which a PCI address is the domain's own.
fn ranges(registers: &Region, address_cells: u32) -> Vec<u8> {
    let mut ranges: Vec<u8> = [MEMORY_32, 0, registers.base() as u32].into_iter().flat_map(u32::to_be_bytes).collect();
    push_region(&mut ranges, registers, (address_cells, 2));
    ranges
}
