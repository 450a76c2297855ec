//! The system MMU that EL2 drives, and what stands behind it (Linux, bindings/iommu/arm,smmu-v3.yaml, bindings/iommu/iommu.txt and
//! bindings/pci/pci-iommu.txt).

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::{Node as _, Property as _};
use pcie::Function;

use crate::{
    Denied, Error, Interrupt, Machine, Region, SharedHost,
    tree::{self, Place, cells},
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
    /// Streams of the devices that are the general domain's. Of a PCI host that is shared out all are among them.
    pub streams: Vec<Range<u32>>,
    /// By which the devices behind it name it.
    phandle: u32,
    /// Every node that streams can be named of, with its `#iommu-cells`.
    named: Vec<(u32, u32)>,
}

impl SystemMmu {
    /// The first enabled SMMUv3 of the tree `dtb` of `machine`, with the streams of those devices that `denied` leaves to the
    /// general domain; none if there is no such node.
    ///
    /// # Errors
    /// Those of [`Machine::read`], a system MMU whose registers are too few, and more streams than any machine has.
    #[inline(never)]
    pub fn find(dtb: &[u8], machine: &Machine, denied: &Denied) -> Result<Option<SystemMmu>, Error> {
        let fdt = tree::open(dtb)?;
        let (mut found, mut named) = (None, Vec::new());
        tree::walk(fdt, &mut |place| {
            if let (Some(phandle), Some(cells)) = (phandle(place)?, place.number("#iommu-cells")?) {
                named.push((phandle, u32::try_from(cells).unwrap_or(u32::MAX)));
            }
            if found.is_none() && place.is_enabled() && place.is_any_of(&[SMMU_V3]) {
                found = SystemMmu::read(place, machine)?;
            }
            Ok(())
        })?;
        let Some(mut found) = found else { return Ok(None) };
        found.named = named;
        tree::walk(fdt, &mut |place| {
            if place.is_enabled() && denied.leaves(&place.registers()?) {
                let behind = found.references(place);
                let own = behind.into_iter().flatten().filter(|reference| reference.phandle == found.phandle);
                found.streams.extend(own.map(|reference| reference.streams));
            }
            match found.streams.len() {
                0..=MAX_STREAMS => Ok(()),
                _ => Err(Error::TooMany { what: "ranges of streams", limit: MAX_STREAMS }),
            }
        })?;
        Ok(Some(found))
    }

    /// The stream of what `function` of `host` reads and writes, if that comes here: the host's node in the tree `dtb` says so.
    ///
    /// # Errors
    /// Those of [`Machine::read`]; none if that has read the same bytes.
    pub fn stream(&self, dtb: &[u8], host: &SharedHost, function: Function) -> Result<Option<u32>, Error> {
        let mut found = None;
        tree::walk(tree::open(dtb)?, &mut |place| {
            if host.is(place) {
                // Without a mask all bits of a requester count.
                let mask = cells(place, "iommu-map-mask").and_then(|mask| mask.first().copied()).unwrap_or(u32::MAX);
                let requester = u32::from(function.page()) & mask;
                let behind = self.references(place).into_iter().flatten();
                found = behind.filter(|it| it.phandle == self.phandle).find_map(|it| it.stream_of(requester));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn read(place: &Place<'_, '_>, machine: &Machine) -> Result<Option<SystemMmu>, Error> {
        let (Some(phandle), Some(registers)) = (phandle(place)?, place.registers()?.first().copied()) else {
            return Ok(None);
        };
        if registers.size() < FRAME_BYTES {
            return Err(place.wrong("reg", "is shorter than the frames of an SMMUv3"));
        }
        let interrupts = interrupts(place, machine)?;
        Ok(Some(SystemMmu { registers, interrupts, streams: Vec::new(), phandle, named: Vec::new() }))
    }

    /// Whether every transfer of the device at `place` comes here, as far as its references make sense.
    pub(crate) fn confines(&self, place: &Place<'_, '_>) -> bool {
        let Some(references) = self.references(place) else { return false };
        let requesters: BinaryHeap<_> = references.iter().map(|it| (it.requesters.start, it.requesters.end)).collect();
        let all = if place.node_has("iommu-map") { REQUESTERS } else { 1 };
        let reached = requesters
            .into_sorted_vec()
            .into_iter()
            .fold(0, |reached, (start, end)| if start <= reached { end.max(reached) } else { reached });
        reached >= all && references.iter().all(|reference| reference.phandle == self.phandle)
    }

    /// What `iommus` (phandle, stream) and `iommu-map` (first requester, phandle, first stream, length) of the node at `place` say, where a
    /// stream has as many cells as its system MMU's `#iommu-cells` says. None if they make no sense: such a device is taken for one that nothing
    /// confines, and has no streams.
    fn references(&self, place: &Place<'_, '_>) -> Option<Vec<Reference>> {
        let mut references = Vec::new();
        let device = cells(place, "iommus")?;
        let mut rest = device.as_slice();
        while let [phandle, after @ ..] = rest {
            let (stream, after) = after.split_at_checked(self.stream_cells(*phandle)?)?;
            rest = after;
            references.push(Reference::new(*phandle, stream, 0, 1)?);
        }
        let map = cells(place, "iommu-map")?;
        let mut rest = map.as_slice();
        while let [requester, phandle, after @ ..] = rest {
            let (stream, after) = after.split_at_checked(self.stream_cells(*phandle)?)?;
            let (length, after) = after.split_first()?;
            rest = after;
            references.push(Reference::new(*phandle, stream, *requester, *length)?);
        }
        rest.is_empty().then_some(references)
    }

    fn stream_cells(&self, phandle: u32) -> Option<usize> {
        let (_, cells) = self.named.iter().find(|(named, _)| *named == phandle)?;
        usize::try_from(*cells).ok()
    }
}

fn phandle(place: &Place<'_, '_>) -> Result<Option<u32>, Error> {
    Ok(place.number("phandle")?.and_then(|phandle| u32::try_from(phandle).ok()))
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
    /// The requesters of a bus that it is for; 0 alone for a device.
    requesters: Range<u32>,
}

impl Reference {
    /// The first cell of a stream is its number. None for what ends beyond 32 bits.
    fn new(phandle: u32, stream: &[u32], requester: u32, length: u32) -> Option<Reference> {
        let first = stream.first().copied().unwrap_or(0);
        Some(Reference {
            phandle,
            streams: first..first.checked_add(length)?,
            requesters: requester..requester.checked_add(length)?,
        })
    }

    fn stream_of(&self, requester: u32) -> Option<u32> {
        let place = self.requesters.contains(&requester).then(|| requester - self.requesters.start)?;
        self.streams.start.checked_add(place)
    }
}
