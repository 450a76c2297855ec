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
    Denied, Error,
    read::{FIRMWARE_CONFIGURATION, SMMU},
    tree::{self, Place},
};

const SIGNS: [&str; 5] = ["dma-coherent", "dma-ranges", "iommus", "iommu-map", "#dma-cells"];
/// Transports whose devices may be masters.
const TRANSPORTS: [&str; 1] = ["virtio,mmio"];

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masters {
    /// The name of their nodes, without the address.
    pub name: String,
    /// How many.
    pub count: usize,
}

/// The masters in the tree `dtb` that `denied` leaves to the general domain, by kind, in the order of the tree.
///
/// # Errors
/// Those of [`crate::Machine::read`]; none if that has read the same bytes.
pub fn bus_masters(dtb: &[u8], denied: &Denied) -> Result<Vec<Masters>, Error> {
    let mut masters = Vec::new();
    collect(&Place::root(tree::open(dtb)?), denied, &mut masters)?;
    Ok(masters)
}

/// As deep as the tree is, which [`Place::child`] bounds.
fn collect(place: &Place<'_, '_>, denied: &Denied, masters: &mut Vec<Masters>) -> Result<(), Error> {
    let bus = place.as_bus()?;
    for node in place.node.children() {
        let child = place.child(node, &bus)?;
        if !child.is_enabled() {
            continue;
        }
        if is_master(&child) && is_left(&child, denied)? {
            count(masters, child.node.name_without_address());
        }
        collect(&child, denied, masters)?;
    }
    Ok(())
}

fn is_master(place: &Place<'_, '_>) -> bool {
    let known = place.is_any_of(&SMMU) || place.is_any_of(&[FIRMWARE_CONFIGURATION]);
    let shown = SIGNS.iter().any(|sign| place.node_has(sign));
    !known && (shown || place.device_type() == Some("pci") || place.is_any_of(&TRANSPORTS))
}

/// Whether the general domain reaches all of its registers. A bus without registers is no device.
fn is_left(place: &Place<'_, '_>, denied: &Denied) -> Result<bool, Error> {
    let registers = place.registers()?;
    Ok(!registers.is_empty() && !registers.iter().any(|region| denied.touches(region)))
}

fn count(masters: &mut Vec<Masters>, name: &str) {
    match masters.iter_mut().find(|known| known.name == name) {
        Some(known) => known.count += 1,
        None => masters.push(Masters { name: name.to_string(), count: 1 }),
    }
}
