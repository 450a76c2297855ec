//! The system MMU that EL2 drives, and what stands behind it (Linux, bindings/iommu/arm,smmu-v3.yaml, bindings/iommu/iommu.txt and
//! bindings/pci/pci-iommu.txt).

use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::{Node as _, Property as _};

use crate::{
    Denied, Error, Interrupt, Machine, Region,
    tree::{self, Place},
};

/// Its `compatible`.
const SMMU_V3: &str = "arm,smmu-v3";
/// Names of the interrupts by which it asks to be looked at: each of them, or all as one.
const ASKING: [&str; 3] = ["eventq", "gerror", "combined"];
/// Bytes of its registers: two pages of 64 KiB (Arm IHI 0070, section 6.1).
const FRAME_BYTES: u64 = 0x2_0000;
/// Requester identifiers of a PCI segment.
const REQUESTERS: u32 = 1 << 16;
/// More ranges of streams than any machine has.
const MAX_STREAMS: usize = 256;

/// An SMMUv3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemMmu {
    /// Its registers.
    pub registers: Region,
    /// Interrupts by which it asks to be looked at; none if it only has messages.
    pub interrupts: Vec<Interrupt>,
    /// Streams of the devices that are the general domain's.
    pub streams: Vec<Range<u32>>,
    /// By which the devices behind it name it.
    phandle: u32,
}

impl SystemMmu {
    /// The first enabled SMMUv3 of the tree `dtb` of `machine`, with the streams of those devices that `denied` leaves to the
    /// general domain; none if there is no such node.
    ///
    /// # Errors
    /// Those of [`Machine::read`], and references to the system MMU that cannot be.
    pub fn find(dtb: &[u8], machine: &Machine, denied: &Denied) -> Result<Option<SystemMmu>, Error> {
        let fdt = tree::open(dtb)?;
        let mut found = None;
        tree::walk(fdt, &mut |place| {
            if found.is_none() && place.is_enabled() && place.is_any_of(&[SMMU_V3]) {
                found = SystemMmu::read(place, machine)?;
            }
            Ok(())
        })?;
        let Some(mut found) = found else { return Ok(None) };
        tree::walk(fdt, &mut |place| {
            if place.is_enabled() && denied.leaves(&place.registers()?) {
                let behind = references(place)?.filter(|reference| reference.phandle == found.phandle);
                found.streams.extend(behind.map(|reference| reference.streams));
            }
            match found.streams.len() {
                0..=MAX_STREAMS => Ok(()),
                _ => Err(Error::TooMany { what: "ranges of streams", limit: MAX_STREAMS }),
            }
        })?;
        Ok(Some(found))
    }

    fn read(place: &Place<'_, '_>, machine: &Machine) -> Result<Option<SystemMmu>, Error> {
        let phandle = place.number("phandle")?.and_then(|phandle| u32::try_from(phandle).ok());
        let (Some(phandle), Some(registers)) = (phandle, place.registers()?.first().copied()) else { return Ok(None) };
        if registers.size() < FRAME_BYTES {
            return Err(place.wrong("reg", "is shorter than the frames of an SMMUv3"));
        }
        Ok(Some(SystemMmu { registers, interrupts: interrupts(place, machine)?, streams: Vec::new(), phandle }))
    }

    /// Whether every transfer of the device at `place` comes here.
    pub(crate) fn confines(&self, place: &Place<'_, '_>) -> Result<bool, Error> {
        let mut requesters = 0;
        for reference in references(place)? {
            if reference.phandle != self.phandle {
                return Ok(false);
            }
            requesters += reference.requesters;
        }
        Ok(requesters >= if place.node_has("iommu-map") { REQUESTERS } else { 1 })
    }
}

/// In the order of `interrupt-names`; wired ones only.
fn interrupts(place: &Place<'_, '_>, machine: &Machine) -> Result<Vec<Interrupt>, Error> {
    if !place.node_has("interrupts") {
        return Ok(Vec::new());
    }
    let interrupts = place.interrupts(machine.gic.phandle, machine.gic.interrupt_cells)?;
    let Some(names) = place.node.property("interrupt-names") else { return Ok(Vec::new()) };
    let named = names.value().split(|byte| *byte == 0).zip(interrupts);
    Ok(named.filter(|(name, _)| ASKING.iter().any(|asking| asking.as_bytes() == *name)).map(|(_, it)| it).collect())
}

/// A device's reference to a system MMU.
struct Reference {
    phandle: u32,
    streams: Range<u32>,
    /// How many requesters of a bus it is for; 1 for a device.
    requesters: u32,
}

/// What `iommus` (phandle, stream) and `iommu-map` (first requester, phandle, first stream, length) say. An SMMUv3 has one cell for a
/// stream; a system MMU with more is not driven, and what its cells are taken for names it or nobody.
fn references(place: &Place<'_, '_>) -> Result<impl Iterator<Item = Reference>, Error> {
    let device = cells(place, "iommus", 2)?.into_iter().map(|cells| (cells[0], cells[1], 1));
    let bus = cells(place, "iommu-map", 4)?.into_iter().map(|cells| (cells[1], cells[2], cells[3]));
    let mut references = Vec::new();
    for (phandle, first, length) in device.chain(bus) {
        let end = first.checked_add(length).ok_or_else(|| place.wrong("iommu-map", "ends beyond 32 bits"))?;
        references.push(Reference { phandle, streams: first..end, requesters: length });
    }
    Ok(references.into_iter())
}

/// A property as entries of `count` (at most 4) cells.
fn cells(place: &Place<'_, '_>, property: &'static str, count: usize) -> Result<Vec<[u32; 4]>, Error> {
    let Some(found) = place.node.property(property) else { return Ok(Vec::new()) };
    let entries = found.value().chunks_exact(4 * count);
    if !entries.remainder().is_empty() {
        return Err(place.wrong(property, "has a broken length"));
    }
    let word = |entry: &[u8], cell: usize| {
        entry.get(4 * cell..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    };
    Ok(entries.map(|entry| core::array::from_fn(|cell| word(entry, cell))).collect())
}
