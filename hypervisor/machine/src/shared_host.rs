//! The PCI host whose functions two domains share (Linux, bindings/pci/host-generic-pci.yaml; IEEE 1275 PCI bus binding; Devicetree
//! Specification 0.4, section 2.4.3).
//!
//! Only bus 0 is shared out ([`pcie`]). The secure domain's functions get the end of the host's window of 32-bit memory for their registers;
//! the general domain's tree loses it, and whatever leads to an interrupt of theirs.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use pcie::{BUS_BYTES, Endpoint, Function};

use crate::{
    Device, Error, Interrupt, Machine, PAGE, Region,
    tree::{self, Place, cells},
};

/// Its `compatible`: configuration space is memory-mapped, as PCI Express has it.
const ECAM: &str = "pci-host-ecam-generic";
/// Bytes kept for the secure domain's functions, at least: the window begins at a multiple of this.
const WINDOW: u64 = 2 << 20;
/// Cells of a PCI address, of a size, and of an interrupt pin.
const ADDRESS_CELLS: usize = 3;
const SIZE_CELLS: usize = 2;
const PIN_CELLS: usize = 1;
/// The first cell of an address: its space, of which this is 32-bit memory, and where its device and function are.
const SPACE: u32 = 0b11 << 24;
const MEMORY_32: u32 = 0b10 << 24;
const DEVICE_SHIFT: u32 = 11;

/// A PCI host whose functions are shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedHost {
    /// Path of its node.
    pub path: String,
    /// Configuration space of all its busses: none of it is the general domain's but by EL2's leave.
    pub configuration: Region,
    /// Where the processor sees the registers of the secure domain's functions.
    pub window: Region,
    /// Where they are on the bus.
    bus_window: u64,
    /// The secure domain's functions.
    functions: Vec<Function>,
    lines: Vec<Line>,
}

/// An entry of `interrupt-map`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The first cell of the address, and the pin; as far as `mask` says.
    unit: [u32; 2],
    mask: [u32; 2],
    interrupt: Interrupt,
}

impl SharedHost {
    /// The first enabled host of the tree `dtb` of `machine`, of which `functions` are the secure domain's.
    ///
    /// # Errors
    /// No such host, or one that cannot be shared out: without bus 0, 32-bit memory or wired interrupts to the GIC.
    #[inline(never)]
    pub fn find(dtb: &[u8], machine: &Machine, functions: &[Function]) -> Result<SharedHost, Error> {
        let fdt = tree::open(dtb)?;
        let gic_cells = gic_address_cells(fdt, machine)?;
        let mut found = None;
        tree::walk(fdt, &mut |place| {
            if found.is_none() && place.is_enabled() && place.is_any_of(&[ECAM]) {
                found = Some(SharedHost::read(place, machine, gic_cells, functions)?);
            }
            Ok(())
        })?;
        found.ok_or_else(|| Error::NoNode { what: alloc::format!("enabled node compatible with '{ECAM}'") })
    }

    fn read(
        place: &Place<'_, '_>,
        machine: &Machine,
        gic_cells: usize,
        functions: &[Function],
    ) -> Result<SharedHost, Error> {
        let configuration = place.registers()?.first().copied();
        let configuration = configuration.filter(|region| region.size() >= BUS_BYTES as u64);
        let configuration =
            configuration.ok_or_else(|| place.wrong("reg", "is shorter than a bus' configuration space"))?;
        if cells(place, "bus-range").is_none_or(|range| range.first().is_some_and(|first| *first != 0)) {
            return Err(place.wrong("bus-range", "does not begin with bus 0"));
        }
        let (memory, bus_base) = memory(place)?;
        let room = (bus_base + memory.size()).checked_sub(WINDOW).map(|base| base & !(WINDOW - 1));
        let bus_window = room.filter(|base| *base > bus_base && memory.base().is_multiple_of(PAGE));
        let bus_window =
            bus_window.ok_or_else(|| place.wrong("ranges", "has no room for the secure domain's functions"))?;
        let window = Region::between(memory.base() + (bus_window - bus_base), memory.end());
        Ok(SharedHost {
            path: place.path(),
            configuration,
            window: window.ok_or_else(|| place.wrong("ranges", "has no room for the secure domain's functions"))?,
            bus_window,
            functions: functions.to_vec(),
            lines: lines(place, machine, gic_cells)?,
        })
    }

    /// The secure domain's functions.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Configuration space of bus 0.
    pub fn bus(&self) -> Region {
        Region::new(self.configuration.base(), BUS_BYTES as u64).unwrap_or(self.configuration)
    }

    /// The addresses of [`SharedHost::window`] on the bus.
    pub fn bus_window(&self) -> Range<u64> {
        self.bus_window..self.bus_window + self.window.size()
    }

    /// Where the processor sees `range` of the bus, which is of [`SharedHost::bus_window`].
    pub fn to_cpu(&self, range: &Range<u64>) -> Option<Region> {
        let base = range.start.checked_sub(self.bus_window)?.checked_add(self.window.base())?;
        Region::new(base, range.end.checked_sub(range.start)?)
    }

    /// The page of a function's configuration space.
    pub fn page(&self, function: Function) -> Option<Region> {
        Region::new(self.configuration.base() + u64::from(function.page()) * PAGE, PAGE)
    }

    /// The secure domain's `function` as a device, whose registers are its configuration space. INTA is its interrupt.
    ///
    /// # Errors
    /// No interrupt line for it.
    pub fn device(&self, function: Function) -> Result<Device, Error> {
        let missing =
            || Error::NoNode { what: alloc::format!("interrupt of PCI function {function} in {}", self.path) };
        let interrupt = self.line(function, 1).ok_or_else(missing)?;
        let registers = self.page(function).ok_or_else(missing)?;
        Ok(Device { path: alloc::format!("{} function {function}", self.path), registers, interrupt })
    }

    /// The line of a function's pin, 1 to 4.
    fn line(&self, function: Function, pin: u8) -> Option<Interrupt> {
        let unit = [u32::from(function.device()) << DEVICE_SHIFT, pin.into()];
        let matches =
            |line: &&Line| (0..2).all(|cell| unit[cell] & line.mask[cell] == line.unit[cell] & line.mask[cell]);
        self.lines.iter().find(matches).map(|line| line.interrupt)
    }

    /// Whether the pin of a function of the general domain's has the same line as a function of the secure domain's, or one that is not known.
    pub fn shares_line(&self, endpoint: &Endpoint) -> bool {
        if endpoint.pin == 0 {
            return false;
        }
        self.line(endpoint.function, endpoint.pin).is_none_or(|interrupt| self.is_secure(interrupt))
    }

    fn is_secure(&self, interrupt: Interrupt) -> bool {
        self.functions.iter().filter_map(|function| self.line(*function, 1)).any(|own| own.intid == interrupt.intid)
    }

    /// The general domain's `ranges`: without the window.
    pub(crate) fn ranges_left(&self, place: &Place<'_, '_>) -> Option<Vec<u32>> {
        let mut words = cells(place, "ranges")?;
        let entry = ADDRESS_CELLS + place.bus.address_cells as usize + SIZE_CELLS;
        let ours = words.chunks_exact_mut(entry).find(|entry| entry[0] & SPACE == MEMORY_32)?;
        let left = self.bus_window - low(&ours[..ADDRESS_CELLS]);
        ours[entry - 2] = (left >> 32) as u32;
        ours[entry - 1] = left as u32;
        Some(words)
    }

    /// The general domain's `interrupt-map`: without the lines of the secure domain's functions.
    pub(crate) fn interrupts_left(&self, place: &Place<'_, '_>, entry_cells: usize) -> Option<Vec<u32>> {
        let words = cells(place, "interrupt-map")?;
        let entries = words.chunks_exact(entry_cells.max(1)).zip(&self.lines);
        Some(
            entries
                .filter(|(_, line)| !self.is_secure(line.interrupt))
                .flat_map(|(entry, _)| entry.iter().copied())
                .collect(),
        )
    }
}

/// The low 64 bits of a number in cells.
fn low(words: &[u32]) -> u64 {
    words.iter().skip(words.len().saturating_sub(2)).fold(0, |value, word| value << 32 | u64::from(*word))
}

/// The host's window of 32-bit memory as the processor sees it, and its first address on the bus.
fn memory(place: &Place<'_, '_>) -> Result<(Region, u64), Error> {
    let parent = place.bus.address_cells as usize;
    let entry = ADDRESS_CELLS + parent + SIZE_CELLS;
    let words = cells(place, "ranges").ok_or_else(|| place.wrong("ranges", "is not made of cells"))?;
    let entry = words.chunks_exact(entry).find(|entry| entry[0] & SPACE == MEMORY_32);
    let entry = entry.ok_or_else(|| place.wrong("ranges", "has no 32-bit memory"))?;
    let (child, rest) = entry.split_at(ADDRESS_CELLS);
    let (parent, size) = rest.split_at(parent);
    let window = Region::new(low(parent), low(size)).filter(|_| low(child).checked_add(low(size)).is_some());
    let window = window.and_then(|window| place.bus_to_cpu(window));
    window
        .map(|window| (window, low(child)))
        .ok_or_else(|| place.wrong("ranges", "has a window that leaves the address space"))
}

/// Cells of an entry of `interrupt-map`: the unit and its pin, the controller, its unit's address and a specifier.
pub(crate) fn map_entry_cells(machine: &Machine, gic_cells: usize) -> usize {
    ADDRESS_CELLS + PIN_CELLS + 1 + gic_cells + machine.gic.interrupt_cells as usize
}

fn lines(place: &Place<'_, '_>, machine: &Machine, gic_cells: usize) -> Result<Vec<Line>, Error> {
    let missing = || place.wrong("interrupt-map", "is not made of wired interrupts of the GIC");
    let words = cells(place, "interrupt-map").filter(|words| !words.is_empty()).ok_or_else(missing)?;
    let mask = cells(place, "interrupt-map-mask").filter(|mask| mask.len() == ADDRESS_CELLS + PIN_CELLS);
    let mask = mask.ok_or_else(|| place.wrong("interrupt-map-mask", "does not have four cells"))?;
    let entries = words.chunks_exact(map_entry_cells(machine, gic_cells));
    if !entries.remainder().is_empty() || machine.gic.phandle.is_none() {
        return Err(missing());
    }
    let line = |entry: &[u32]| {
        let (controller, specifier) = entry[ADDRESS_CELLS + PIN_CELLS..].split_first()?;
        let bytes: Vec<u8> = specifier.iter().skip(gic_cells).flat_map(|cell| cell.to_be_bytes()).collect();
        let interrupt = tree::interrupt(&bytes).filter(|_| Some(*controller) == machine.gic.phandle)?;
        Some(Line { unit: [entry[0], entry[ADDRESS_CELLS]], mask: [mask[0], mask[ADDRESS_CELLS]], interrupt })
    };
    entries.map(|entry| line(entry).ok_or_else(missing)).collect()
}

/// `#address-cells` of the GIC, which an interrupt map has to skip; 0 if it says nothing.
pub(crate) fn gic_address_cells(fdt: dtoolkit::fdt::Fdt<'_>, machine: &Machine) -> Result<usize, Error> {
    let mut found = 0;
    tree::walk(fdt, &mut |place| {
        let phandle = place.number("phandle")?.and_then(|phandle| u32::try_from(phandle).ok());
        if phandle.is_some() && phandle == machine.gic.phandle {
            found = place.number("#address-cells")?.unwrap_or(0).min(4) as usize;
        }
        Ok(())
    })?;
    Ok(found)
}

impl SharedHost {
    /// Whether it is the node at `place`.
    pub(crate) fn is(&self, place: &Place<'_, '_>) -> bool {
        place.path() == self.path
    }
}
