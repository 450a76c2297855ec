//! The general domain's tree: the machine's, minus what is not the domain's, plus its virtual devices.
//!
//! Nothing is invented: a node is left out, or it is what the machine's tree says. Left out are the nodes of denied devices and
//! of all whose registers share a page with one, memory that is not the domain's, a core that
//! is not and with it the map of cores, everything inside the GIC (physical PCI
//! devices use their wired interrupts; only virtual ones send messages), system MMUs, the second timer of EL2, and what refers to these.
//! The GIC and the console stay although their pages are denied: EL2 emulates them at their own addresses. And PSCI is EL2's, to be called by
//! HVC as any guest of a hypervisor does, whatever the machine's own firmware is called by; simple guests know no other way.

use alloc::{format, string::String, vec::Vec};

use dtoolkit::{Node as _, Property as _, fdt::Fdt};

use crate::{
    Denied, Device, Error, Interrupt, Machine, MemoryPlan, Region, SharedHost, Trigger,
    gic::{GIC_V2, GIC_V3},
    pci_host::{PciHost, Surroundings},
    read::{FIRMWARE_CONFIGURATION, PSCI, SMMU, TIMER},
    shared_host,
    tree::{self, Place},
    writer::Node,
};

/// Properties that refer to nodes which the general domain does not have.
const REFERENCES: [&str; 7] =
    ["msi-parent", "msi-map", "msi-map-mask", "iommus", "iommu-map", "iommu-map-mask", "numa-node-id"];
/// Strings of `compatible` whose nodes are never the general domain's; memory on several nodes is told as one.
const NEVER: [&str; 2] = [FIRMWARE_CONFIGURATION, "numa-distance-map-v1"];
const FLASH: &str = "cfi-flash";
/// The timers that every core has; a fifth is EL2's alone (Linux, bindings/timer/arm,arch_timer.yaml).
const TIMERS: usize = 4;

/// A virtual device on the virtio-mmio transport (virtio 1.2, section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualDevice {
    /// Its register page.
    pub registers: Region,
    /// Its interrupt, an SPI.
    pub interrupt: Interrupt,
}

/// What the general domain has.
#[derive(Clone, Copy, Debug)]
pub struct General<'a> {
    /// Its memory and initrd.
    pub plan: &'a MemoryPlan,
    /// Affinity of the core that it does not have, if there is one.
    pub exclusive_core: Option<u64>,
    /// What it does not have.
    pub denied: &'a Denied,
    /// The PCI host whose functions it shares with the secure domain, if there is one.
    pub host: Option<&'a SharedHost>,
    /// What it has instead.
    pub devices: &'a [VirtualDevice],
    /// Or this.
    pub pci: Option<PciHost>,
    /// The kernel's command line, if it is to be another than the boot loader's.
    pub bootargs: Option<&'a str>,
}

/// The tree of the general domain on `machine`, whose own tree is `dtb`.
///
/// # Errors
/// Those of [`Machine::read`]; none if that has read the same bytes, except [`Error::NoNode`] for a `/chosen` that is not there.
#[inline(never)]
pub fn write(dtb: &[u8], machine: &Machine, general: &General<'_>) -> Result<Vec<u8>, Error> {
    let fdt = tree::open(dtb)?;
    let phandle = free_phandle(fdt)?;
    let bus = match general.pci {
        Some(host) => Some((host, Surroundings::look(fdt, machine)?)),
        None => None,
    };
    let gic_cells = shared_host::gic_address_cells(fdt, machine)?;
    let mut editor = Editor { machine, general, bus, frame: phandle.saturating_add(1), messages: 0, gic_cells };
    let root = Place::root(fdt);
    let mut tree = editor.copy(&root)?;
    let bus = root.as_bus()?;
    let cells = (bus.address_cells, bus.size_cells);
    editor.add_memory(&mut tree, cells);
    let window = editor.add_window(&mut tree, cells, phandle)?;
    editor.add_devices(&mut tree, cells, window);
    if let Some((host, around)) = &editor.bus {
        tree.add(host.node(machine, around, cells, editor.messages, window));
    }
    editor.edit_chosen(&mut tree);
    drop_dangling_aliases(&mut tree);
    Ok(tree.to_dtb(fdt.memory_reservations()))
}

struct Editor<'e> {
    machine: &'e Machine,
    general: &'e General<'e>,
    /// `#address-cells` of the GIC.
    gic_cells: usize,
    bus: Option<(PciHost, Surroundings)>,
    /// A phandle for the frame that takes messages.
    frame: u32,
    /// Phandle of what takes messages, once the GIC has been copied.
    messages: u32,
}

impl Editor<'_> {
    /// Copies the node at `place` and those below that are the general domain's.
    fn copy(&mut self, place: &Place<'_, '_>) -> Result<Node, Error> {
        let mut copy = Node::new(place.node.name());
        for property in place.node.properties().filter(|property| !REFERENCES.contains(&property.name())) {
            copy.set(property.name(), property.value());
        }
        if is_gic(place) {
            self.edit_gic(place, &mut copy);
            if let Some((host, around)) = &self.bus {
                self.messages = host.give_messages(self.machine, around, &mut copy, self.frame)?;
            }
            return Ok(copy);
        }
        if place.is_any_of(&PSCI) {
            copy.set("method", "hvc");
        }
        if place.is_any_of(&[TIMER]) {
            truncate(&mut copy, "interrupts", TIMERS * 4 * self.machine.gic.interrupt_cells as usize);
        }
        if place.is_any_of(&[FLASH]) {
            self.edit_flash(place, &mut copy)?;
        }
        if let Some(host) = self.general.host.filter(|host| host.is(place)) {
            self.edit_host(host, place, &mut copy);
        }
        let bus = place.as_bus()?;
        for node in place.node.children() {
            let child = place.child(node, &bus)?;
            if self.keeps(&child)? {
                copy.add(self.copy(&child)?);
            }
        }
        Ok(copy)
    }

    /// Whether the node at `place` is the general domain's.
    fn keeps(&self, place: &Place<'_, '_>) -> Result<bool, Error> {
        if place.device_type() == Some("memory") || place.is_any_of(&NEVER) || place.is_any_of(&SMMU) {
            return Ok(false);
        }
        if self.is_of_exclusive_core(place) {
            return Ok(false);
        }
        if is_gic(place) || self.is_console(place) {
            return Ok(true);
        }
        let registers = place.registers()?;
        let denied = registers.iter().filter(|region| self.general.denied.takes(region)).count();
        // Flash banks stand side by side in one node: it stays as long as one bank does.
        Ok(denied == 0 || place.is_any_of(&[FLASH]) && denied < registers.len())
    }

    /// Whether `place` is the core that the general domain does not have, or the map that names all cores: Linux takes it whole or not at all
    /// (Linux, bindings/cpu/cpu-topology.txt), and without it goes by affinities.
    fn is_of_exclusive_core(&self, place: &Place<'_, '_>) -> bool {
        let Some(core) = self.general.exclusive_core else { return false };
        let is_it = || matches!(place.number("reg"), Ok(Some(affinity)) if affinity == core);
        place.is("/cpus/cpu-map") || place.device_type() == Some("cpu") && is_it()
    }

    fn is_console(&self, place: &Place<'_, '_>) -> bool {
        self.machine.console.as_ref().is_some_and(|Device { path, .. }| *path == place.path())
    }

    /// Leaves the frames that a guest has, and no maintenance interrupt.
    fn edit_gic(&self, place: &Place<'_, '_>, copy: &mut Node) {
        copy.retain(|name, _| name != "interrupts");
        let entry = (place.bus.address_cells + place.bus.size_cells) as usize * 4;
        let keep = self.machine.gic.guest_frames() * entry;
        truncate(copy, "reg", keep);
    }

    /// Leaves bus 0, without the window and the interrupt lines of the secure domain's functions.
    fn edit_host(&self, host: &SharedHost, place: &Place<'_, '_>, copy: &mut Node) {
        let entry_cells = shared_host::map_entry_cells(self.machine, self.gic_cells);
        copy.set("ranges", host.ranges_left(place).unwrap_or_default());
        copy.set("interrupt-map", host.interrupts_left(place, entry_cells).unwrap_or_default());
        copy.set("bus-range", [0_u32, 0]);
        copy.set_reg(&[host.bus()], (place.bus.address_cells, place.bus.size_cells));
    }

    /// Leaves the banks that are not denied.
    fn edit_flash(&self, place: &Place<'_, '_>, copy: &mut Node) -> Result<(), Error> {
        let entry = (place.bus.address_cells + place.bus.size_cells) as usize * 4;
        let banks = place.registers()?;
        let Some(reg) = copy.property_mut("reg") else { return Ok(()) };
        let banks = banks.iter().zip(reg.chunks_exact(entry.max(4)));
        let kept = banks.filter(|(bank, _)| !self.general.denied.touches(bank)).flat_map(|(_, entry)| entry);
        *reg = kept.copied().collect();
        Ok(())
    }

    fn add_memory(&self, root: &mut Node, cells: (u32, u32)) {
        let banks = &self.general.plan.general;
        let base = banks.first().map_or(0, Region::base);
        let mut memory = Node::new(format!("memory@{base:x}"));
        memory.set("device_type", "memory");
        memory.set_reg(banks, cells);
        root.add(memory);
    }

    /// The window as a restricted DMA pool (Linux, bindings/reserved-memory/shared-dma-pool.yaml) with the phandle `phandle`, if there is one.
    /// Linux wants the cells of `/reserved-memory` to be the root's.
    fn add_window(&self, root: &mut Node, cells: (u32, u32), phandle: u32) -> Result<Option<u32>, Error> {
        let Some(window) = self.general.plan.window else { return Ok(None) };
        let mut pool = Node::new(format!("restricted-dma-pool@{:x}", window.base()));
        pool.set("compatible", "restricted-dma-pool");
        pool.set_reg(&[window], cells);
        pool.set("phandle", phandle);
        let reserved = root.child("reserved-memory");
        for (property, cells) in [("#address-cells", cells.0), ("#size-cells", cells.1)] {
            if reserved.number(property).is_some_and(|there| there != cells) {
                let node = String::from("/reserved-memory");
                return Err(Error::Property {
                    node,
                    property,
                    wrong: "is not the root's, so that no window can be told",
                });
            }
            reserved.set(property, cells);
        }
        reserved.set("ranges", [0_u8; 0]);
        reserved.add(pool);
        Ok(Some(phandle))
    }

    fn add_devices(&self, root: &mut Node, cells: (u32, u32), window: Option<u32>) {
        for VirtualDevice { registers, interrupt } in self.general.devices {
            let mut node = Node::new(format!("virtio_mmio@{:x}", registers.base()));
            node.set("compatible", "virtio,mmio");
            node.set_reg(&[*registers], cells);
            node.set("interrupts", specifier(*interrupt, self.machine.gic.interrupt_cells));
            if let Some(phandle) = self.machine.gic.phandle {
                node.set("interrupt-parent", phandle);
            }
            node.set("dma-coherent", [0_u8; 0]);
            if let Some(window) = window {
                node.set("memory-region", window);
            }
            root.add(node);
        }
    }

    fn edit_chosen(&self, root: &mut Node) {
        let chosen = root.child("chosen");
        let gone = ["linux,initrd-start", "linux,initrd-end", "rng-seed", "kaslr-seed"];
        chosen.retain(|name, _| !gone.contains(&name));
        if let Some(initrd) = self.general.plan.initrd {
            chosen.set("linux,initrd-start", initrd.base());
            chosen.set("linux,initrd-end", initrd.end());
        }
        if let Some(seeds) = &self.machine.seeds {
            chosen.set("rng-seed", seeds.general);
            chosen.set("kaslr-seed", seeds.layout);
        }
        if let Some(bootargs) = self.general.bootargs {
            chosen.set("bootargs", bootargs);
        }
    }
}

/// A phandle that no node of the machine has: also none that has left the tree, to which something may still refer.
fn free_phandle(fdt: Fdt<'_>) -> Result<u32, Error> {
    let mut last = 0;
    tree::walk(fdt, &mut |place| {
        let own = place.node.property("phandle").and_then(|property| property.value_as::<u32>().ok());
        last = last.max(own.unwrap_or(0));
        Ok(())
    })?;
    Ok(last.saturating_add(1))
}

pub(crate) fn is_gic(place: &Place<'_, '_>) -> bool {
    place.is_any_of(&GIC_V3) || place.is_any_of(&GIC_V2)
}

fn truncate(node: &mut Node, name: &str, length: usize) {
    if let Some(value) = node.property_mut(name) {
        value.truncate(length);
    }
}

/// An interrupt specifier of the GIC bindings.
pub(crate) fn specifier(interrupt: Interrupt, cells: u32) -> Vec<u32> {
    let flags = match interrupt.trigger {
        Trigger::Edge => 1,
        Trigger::Level => 4,
    };
    let mut words = alloc::vec![0, interrupt.intid.saturating_sub(32), flags];
    words.resize(cells as usize, 0);
    words
}

/// Removes the aliases whose node is gone.
fn drop_dangling_aliases(root: &mut Node) {
    if !root.has("/aliases") {
        return;
    }
    let mut aliases = core::mem::replace(root.child("aliases"), Node::new("aliases"));
    aliases.retain(|_, value| {
        let path = value.strip_suffix(&[0]).and_then(|path| core::str::from_utf8(path).ok()).unwrap_or("");
        !path.starts_with('/') || root.has(path)
    });
    *root.child("aliases") = aliases;
}
