//! The bus masters that the general domain controls, as far as the machine's tree shows them.
//!
//! Where no system MMU confines it, such a device reads and writes all memory on its driver's word. A tree shows a master by what
//! its transfers need: a system MMU (`iommus`, `iommu-map`), windows (`dma-ranges`), coherence (`dma-coherent`), channels
//! (`#dma-cells`), or by being a PCI host or a virtio transport. A master with none of these cannot be told from any other device.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};

use dtoolkit::Node as _;

use crate::{
    Denied, Error, Region, SystemMmu,
    read::{FIRMWARE_CONFIGURATION, SMMU},
    tree::{self, Place},
};

const SIGNS: [&str; 5] = ["dma-coherent", "dma-ranges", "iommus", "iommu-map", "#dma-cells"];
/// Transports whose devices may be masters.
const TRANSPORTS: [&str; 1] = ["virtio,mmio"];
/// PCI hosts whose configuration space is memory (Linux, bindings/pci/host-generic-pci.yaml).
const ECAM: &str = "pci-host-ecam-generic";

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masters {
    /// The name of their nodes, without the address.
    pub name: String,
    /// How many.
    pub count: usize,
}

/// The masters in the tree `dtb` that `denied` leaves to the general domain and `driven` does not confine, by kind, in the order of
/// the tree.
///
/// # Errors
/// Those of [`crate::Machine::read`] and [`SystemMmu::find`]; none if these have read the same bytes.
#[inline(never)]
pub fn bus_masters(dtb: &[u8], denied: &Denied, driven: Option<&SystemMmu>) -> Result<Vec<Masters>, Error> {
    let mut masters = Vec::new();
    tree::walk(tree::open(dtb)?, &mut |place| {
        let confined = driven.is_some_and(|driven| driven.confines(place));
        if place.is_enabled() && is_master(place) && !confined && denied.leaves(&place.registers()?) {
            count(&mut masters, place.node.name_without_address());
        }
        Ok(())
    })?;
    Ok(masters)
}

/// The bus masters of the general domain by how they can be stopped, from outside and for good: until a driver sets them up anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stoppable {
    /// Registers of virtio-mmio devices: one that has been reset does nothing (virtio 1.2, section 2.4).
    pub virtio: Vec<Region>,
    /// Configuration spaces of PCI hosts: a function that is no bus master sends nothing ([`crate::pci::stop`]).
    pub ecam: Vec<Region>,
    /// All others, which nobody but their drivers knows to stop.
    pub others: Vec<Masters>,
}

impl Stoppable {
    /// The masters in the tree `dtb` that `denied` leaves to the general domain, confined or not.
    ///
    /// # Errors
    /// As [`bus_masters`].
    #[inline(never)]
    pub fn find(dtb: &[u8], denied: &Denied) -> Result<Stoppable, Error> {
        let mut found = Stoppable::default();
        tree::walk(tree::open(dtb)?, &mut |place| {
            let registers = place.registers()?;
            if place.is_enabled() && is_master(place) && denied.leaves(&registers) {
                match registers.first() {
                    Some(device) if place.is_any_of(&TRANSPORTS) => found.virtio.push(*device),
                    Some(host) if place.is_any_of(&[ECAM]) => found.ecam.push(*host),
                    _ => count(&mut found.others, place.node.name_without_address()),
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

fn is_master(place: &Place<'_, '_>) -> bool {
    let known = place.is_any_of(&SMMU) || place.is_any_of(&[FIRMWARE_CONFIGURATION]);
    let shown = SIGNS.iter().any(|sign| place.node_has(sign));
    !known && (shown || place.device_type() == Some("pci") || place.is_any_of(&TRANSPORTS))
}

fn count(masters: &mut Vec<Masters>, name: &str) {
    match masters.iter_mut().find(|known| known.name == name) {
        Some(known) => known.count += 1,
        None => masters.push(Masters { name: name.to_string(), count: 1 }),
    }
}
