//! Walking the machine's tree: each node with what its ancestors say about it.
//!
//! A node's registers mean nothing without the buses above it (`ranges`), its interrupts nothing without the controller that
//! an ancestor may name. A [`Place`] is a node together with its chain of ancestors; nothing is allocated for it, and the
//! chain is as long as the recursion is deep.

use alloc::{string::String, vec::Vec};

use dtoolkit::{
    Cells, Node as _, Property as _,
    fdt::{Fdt, FdtNode},
    standard::NodeStandard as _,
};

use crate::{
    Error, MAX_DEPTH, MAX_TREE_BYTES, Region,
    device::{Interrupt, Trigger},
};

/// More cells than any address or size has (PCI has 3); a larger number is damage.
const MAX_CELLS: u32 = 4;
/// Magic number of a flattened device tree (Devicetree Specification 0.4, section 5.2).
pub(crate) const MAGIC: u32 = 0xD00D_FEED;

/// Length in bytes of the tree that begins with `start` (at least 8 bytes), as its header states it.
///
/// # Errors
/// Fewer bytes than that, another magic number, or a length above [`MAX_TREE_BYTES`].
pub fn tree_length(start: &[u8]) -> Result<usize, Error> {
    let word = |at: usize| start.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let (Some(magic), Some(size)) = (word(0), word(4)) else {
        return Err(Error::Truncated { has: start.len(), needs: 8 });
    };
    if magic != MAGIC {
        return Err(Error::Magic(magic));
    }
    let size = size as usize;
    if size > MAX_TREE_BYTES { Err(Error::TooLarge { size }) } else { Ok(size) }
}

/// The tree at the start of `dtb`, its format checked; bytes behind its length are ignored.
pub(crate) fn open(dtb: &[u8]) -> Result<Fdt<'_>, Error> {
    let needs = tree_length(dtb)?;
    let tree = dtb.get(..needs).ok_or(Error::Truncated { has: dtb.len(), needs })?;
    Ok(Fdt::new(tree)?)
}

/// How the addresses of a node's children become those of its parent.
enum Ranges {
    /// They are the same.
    Identity,
    /// By these windows: child address, parent address, size.
    Windows(Vec<(u64, u64, u64)>),
    /// Not at all: the children are not memory-mapped.
    Opaque,
}

/// A node seen as a bus.
pub(crate) struct Bus<'p> {
    parent: Option<&'p Bus<'p>>,
    ranges: Ranges,
    pub(crate) address_cells: u32,
    pub(crate) size_cells: u32,
}

/// What is above the root.
static NOWHERE: Bus<'static> = Bus { parent: None, ranges: Ranges::Identity, address_cells: 2, size_cells: 2 };

impl Bus<'_> {
    /// Where the processor sees `region` of this bus; none if it does not.
    fn to_cpu(&self, region: Region) -> Option<Region> {
        let above = match &self.ranges {
            Ranges::Identity => region,
            Ranges::Windows(windows) => windows.iter().find_map(|window| through(*window, region))?,
            Ranges::Opaque => return None,
        };
        match self.parent {
            Some(parent) => parent.to_cpu(above),
            None => Some(above),
        }
    }
}

fn through((child, parent, size): (u64, u64, u64), region: Region) -> Option<Region> {
    let window = Region::new(child, size)?;
    if !window.contains(&region) {
        return None;
    }
    Region::new(parent.checked_add(region.base() - child)?, region.size())
}

/// A node and what stands above it.
pub(crate) struct Place<'p, 'a> {
    pub(crate) node: FdtNode<'a>,
    pub(crate) parent: Option<&'p Place<'p, 'a>>,
    pub(crate) bus: &'p Bus<'p>,
    depth: usize,
    interrupt_parent: Option<u32>,
    enabled: bool,
}

impl<'p, 'a> Place<'p, 'a> {
    /// The root of `fdt`.
    pub(crate) fn root(fdt: Fdt<'a>) -> Place<'p, 'a> {
        let node = fdt.root();
        Place { node, parent: None, bus: &NOWHERE, depth: 0, interrupt_parent: interrupt_parent(&node), enabled: true }
    }

    /// This node as a bus for its children.
    pub(crate) fn as_bus(&self) -> Result<Bus<'_>, Error> {
        let (address_cells, size_cells) = (self.cells("#address-cells", 2)?, self.cells("#size-cells", 1)?);
        let ranges = if self.parent.is_none() {
            Ranges::Identity
        } else {
            match self.node.property("ranges") {
                None => Ranges::Opaque,
                Some(property) if property.value().is_empty() => Ranges::Identity,
                Some(_) if address_cells > 2 => Ranges::Opaque,
                Some(_) => Ranges::Windows(self.ranges(address_cells, size_cells)?),
            }
        };
        Ok(Bus { parent: self.parent.map(|_| self.bus), ranges, address_cells, size_cells })
    }

    /// The child `node` of this node, whose bus is `bus`.
    pub(crate) fn child<'c>(&'c self, node: FdtNode<'a>, bus: &'c Bus<'c>) -> Result<Place<'c, 'a>, Error> {
        let child = Place {
            node,
            parent: Some(self),
            bus,
            depth: self.depth + 1,
            interrupt_parent: interrupt_parent(&node).or(self.interrupt_parent),
            enabled: self.enabled && is_enabled(&node),
        };
        if child.depth > MAX_DEPTH { Err(Error::TooDeep { node: child.path() }) } else { Ok(child) }
    }

    /// Its path from the root.
    pub(crate) fn path(&self) -> String {
        match self.parent {
            None => String::from("/"),
            Some(parent) => {
                let mut path = parent.path();
                if parent.parent.is_some() {
                    path.push('/');
                }
                path.push_str(self.node.name());
                path
            }
        }
    }

    /// Whether `path` names this node; a component of it may lack the unit address.
    pub(crate) fn is(&self, path: &str) -> bool {
        let Some(parent) = self.parent else { return path.is_empty() };
        let Some((rest, component)) = path.rsplit_once('/') else { return false };
        (component == self.node.name() || component == self.node.name_without_address()) && parent.is(rest)
    }

    /// Whether neither it nor a node above it is disabled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether one of the strings of its `compatible` is among `names`.
    pub(crate) fn is_any_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.node.is_compatible(name))
    }

    /// Its `device_type`, if it has one.
    pub(crate) fn device_type(&self) -> Option<&'a str> {
        self.node.property("device_type")?.value_as::<&str>().ok()
    }

    /// Phandle of the interrupt controller that its `interrupts` are for.
    pub(crate) fn interrupt_parent(&self) -> Option<u32> {
        self.interrupt_parent
    }

    /// Whether it has the property itself.
    pub(crate) fn node_has(&self, property: &str) -> bool {
        self.node.property(property).is_some()
    }

    /// Its registers as the processor sees them; those that it does not see are left out.
    pub(crate) fn registers(&self) -> Result<Vec<Region>, Error> {
        let mut registers = Vec::new();
        for (base, size) in self.pairs("reg", self.bus.address_cells, self.bus.size_cells)? {
            let Some(region) = Region::new(base, size) else { continue };
            registers.extend(self.bus.to_cpu(region));
        }
        Ok(registers)
    }

    /// Where the processor sees the windows that it opens for its children.
    pub(crate) fn windows(&self) -> Result<Vec<Region>, Error> {
        if self.node.property("ranges").is_none_or(|property| property.value().is_empty()) {
            return Ok(Vec::new());
        }
        let ranges = self.ranges(self.cells("#address-cells", 2)?, self.cells("#size-cells", 1)?)?;
        let windows = ranges.into_iter().filter_map(|(_, parent, size)| Region::new(parent, size));
        Ok(windows.filter_map(|window| self.bus.to_cpu(window)).collect())
    }

    /// Where the processor sees `region` of the bus that it is on.
    pub(crate) fn bus_to_cpu(&self, region: Region) -> Option<Region> {
        self.bus.to_cpu(region)
    }

    /// Its interrupts, if `controller` is theirs, in the form of the GIC bindings (Linux,
    /// Documentation/devicetree/bindings/interrupt-controller/arm,gic.yaml).
    pub(crate) fn interrupts(&self, controller: Option<u32>, cells: u32) -> Result<Vec<Interrupt>, Error> {
        if self.interrupt_parent != controller || controller.is_none() {
            return Err(self.wrong("interrupts", "are for another controller than the GIC"));
        }
        let property = self.property("interrupts")?;
        let chunks = property.value().chunks_exact((cells as usize).max(3) * 4);
        if !chunks.remainder().is_empty() {
            return Err(self.wrong("interrupts", "has a length that is no multiple of the GIC's #interrupt-cells"));
        }
        chunks
            .map(|chunk| interrupt(chunk).ok_or_else(|| self.wrong("interrupts", "names no SPI and no PPI")))
            .collect()
    }

    /// A property that it must have.
    pub(crate) fn property(&self, property: &'static str) -> Result<dtoolkit::fdt::FdtProperty<'a>, Error> {
        self.node.property(property).ok_or_else(|| Error::NoProperty { node: self.path(), property })
    }

    /// A string property that it must have.
    pub(crate) fn text(&self, property: &'static str) -> Result<&'a str, Error> {
        self.property(property)?.value_as::<&str>().map_err(|_| self.wrong(property, "is no string"))
    }

    /// A number of one or two cells, if the property is there.
    pub(crate) fn number(&self, property: &'static str) -> Result<Option<u64>, Error> {
        let Some(found) = self.node.property(property) else { return Ok(None) };
        let value = found.value_as::<u64>().or_else(|_| found.value_as::<u32>().map(u64::from));
        value.map(Some).map_err(|_| self.wrong(property, "is neither 4 nor 8 bytes long"))
    }

    /// An error about one of its properties.
    pub(crate) fn wrong(&self, property: &'static str, wrong: &'static str) -> Error {
        Error::Property { node: self.path(), property, wrong }
    }

    fn cells(&self, property: &'static str, default: u32) -> Result<u32, Error> {
        let Some(found) = self.node.property(property) else { return Ok(default) };
        match found.value_as::<u32>() {
            Ok(cells) if cells <= MAX_CELLS => Ok(cells),
            _ => Err(self.wrong(property, "is no number from 0 to 4")),
        }
    }

    /// The property as pairs of numbers. None of them if a number has more than 64 bits: such a bus is not memory-mapped.
    fn pairs(&self, property: &'static str, first: u32, second: u32) -> Result<Vec<(u64, u64)>, Error> {
        let Some(found) = self.node.property(property) else { return Ok(Vec::new()) };
        if first == 0 || first > 2 || second > 2 {
            return Ok(Vec::new());
        }
        let cells = [first as usize, second as usize];
        let entries = found.as_prop_encoded_array(cells).map_err(|_| self.wrong(property, "has a broken length"))?;
        Ok(entries.map(|[first, second]| (value(first), value(second))).collect())
    }

    /// `ranges` as child address (its low 64 bits), parent address, size.
    fn ranges(&self, address_cells: u32, size_cells: u32) -> Result<Vec<(u64, u64, u64)>, Error> {
        let property = self.property("ranges")?;
        let parent_cells = self.bus.address_cells;
        if parent_cells > 2 || size_cells > 2 {
            return Ok(Vec::new());
        }
        let cells = [address_cells as usize, parent_cells as usize, size_cells as usize];
        let entries = property.as_prop_encoded_array(cells).map_err(|_| self.wrong("ranges", "has a broken length"))?;
        Ok(entries.map(|[child, parent, size]| (value(child), value(parent), value(size))).collect())
    }
}

/// The low 64 bits of a number in cells.
fn value(cells: Cells<'_>) -> u64 {
    let words = cells.as_ref();
    words.iter().skip(words.len().saturating_sub(2)).fold(0, |value, word| value << 32 | u64::from(word.get()))
}

/// An interrupt specifier: kind, number, flags.
pub(crate) fn interrupt(cells: &[u8]) -> Option<Interrupt> {
    let word = |at: usize| cells.get(at * 4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let intid = match (word(0)?, word(1)?) {
        (0, number) if number < 988 => 32 + number,
        (1, number) if number < 16 => 16 + number,
        _ => return None,
    };
    let trigger = if word(2)? & 0b11 != 0 { Trigger::Edge } else { Trigger::Level };
    Some(Interrupt { intid, trigger })
}

/// The cells of a property; none of them if it is not there, nothing if it is not made of cells.
pub(crate) fn cells(place: &Place<'_, '_>, property: &'static str) -> Option<Vec<u32>> {
    let Some(found) = place.node.property(property) else { return Some(Vec::new()) };
    let (cells, rest) = found.value().as_chunks::<4>();
    rest.is_empty().then(|| cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
}

fn interrupt_parent(node: &FdtNode<'_>) -> Option<u32> {
    node.property("interrupt-parent")?.value_as::<u32>().ok()
}

fn is_enabled(node: &FdtNode<'_>) -> bool {
    match node.property("status") {
        None => true,
        Some(status) => matches!(status.value_as::<&str>(), Ok("okay" | "ok")),
    }
}

/// Shows every node to `visit`, parents first.
pub(crate) fn walk<'a>(fdt: Fdt<'a>, visit: &mut dyn FnMut(&Place<'_, 'a>) -> Result<(), Error>) -> Result<(), Error> {
    walk_from(&Place::root(fdt), visit)
}

fn walk_from<'a>(
    place: &Place<'_, 'a>,
    visit: &mut dyn FnMut(&Place<'_, 'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    visit(place)?;
    let bus = place.as_bus()?;
    for node in place.node.children() {
        walk_from(&place.child(node, &bus)?, visit)?;
    }
    Ok(())
}
