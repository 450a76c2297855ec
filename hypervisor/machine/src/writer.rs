//! A device tree in the making: nodes with their properties, and the bytes of them (Devicetree Specification 0.4, chapter 5).
//!
//! `dtoolkit` can edit and write trees too, with hashed tables that are the larger part of it; here every node is looked at once or twice.

use alloc::{string::String, vec::Vec};

use dtoolkit::{ToPropertyValue, memreserve::MemoryReservation};

use crate::{Region, tree::MAGIC};

/// Words of the structure block (section 5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;
/// Bytes of the header, and the versions in it: of the format, and the oldest one that a reader may know (section 5.2).
const HEADER_BYTES: usize = 40;
const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;

/// A node and all below it.
pub(crate) struct Node {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<Node>,
}

impl Node {
    /// A node with nothing in it.
    pub(crate) fn new(name: impl Into<String>) -> Node {
        Node { name: name.into(), properties: Vec::new(), children: Vec::new() }
    }

    /// The value of a property.
    pub(crate) fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// A property of one cell.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.property(name)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The value of a property, to be changed.
    pub(crate) fn property_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.properties.iter_mut().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Gives a property a value, in place of the one that it has.
    pub(crate) fn set(&mut self, name: &str, value: impl ToPropertyValue) {
        let mut bytes = alloc::vec![0; value.property_value_len()];
        value.write_property_value(&mut bytes);
        self.put(name, bytes);
    }

    fn put(&mut self, name: &str, bytes: Vec<u8>) {
        match self.property_mut(name) {
            Some(value) => *value = bytes,
            None => self.properties.push((String::from(name), bytes)),
        }
    }

    /// Sets `reg` to `regions`, in so many cells for an address and for a size.
    pub(crate) fn set_reg(&mut self, regions: &[Region], cells: (u32, u32)) {
        let mut reg = Vec::new();
        regions.iter().for_each(|region| push_region(&mut reg, region, cells));
        self.put("reg", reg);
    }

    /// Keeps the properties for which `keeps(name, value)`.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&str, &[u8]) -> bool) {
        self.properties.retain(|(name, value)| keeps(name, value));
    }

    /// Puts `child` behind the other children.
    pub(crate) fn add(&mut self, child: Node) -> &mut Node {
        self.children.push(child);
        self.children.last_mut().expect("one has just been put there")
    }

    /// The child of that name, which is made if it is not there.
    pub(crate) fn child(&mut self, name: &str) -> &mut Node {
        match self.children.iter().position(|child| child.name == name) {
            Some(place) => &mut self.children[place],
            None => self.add(Node::new(name)),
        }
    }

    /// Whether there is a node at `path`, which begins with a slash, from this one on.
    pub(crate) fn has(&self, path: &str) -> bool {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(self, |node, name| node.children.iter().find(|child| child.name == name)).is_some()
    }

    /// The bytes of the tree of which this is the root.
    pub(crate) fn to_dtb(&self, reservations: impl Iterator<Item = MemoryReservation>) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Vec::new());
        self.write(&mut structure, &mut strings);
        push(&mut structure, END);
        let reserved = reservations.map(|range| [range.address(), range.size()]).chain([[0; 2]]).flatten();
        let reserved: Vec<u8> = reserved.flat_map(u64::to_be_bytes).collect();
        let structure_at = HEADER_BYTES + reserved.len();
        let strings_at = structure_at + structure.len();
        let mut dtb = Vec::with_capacity(strings_at + strings.len());
        // All of it is below MAX_TREE_BYTES and little more.
        let places = [strings_at + strings.len(), structure_at, strings_at, HEADER_BYTES].map(|place| place as u32);
        let lengths = [strings.len() as u32, structure.len() as u32];
        let header = [MAGIC].into_iter().chain(places).chain([VERSION, LAST_COMPATIBLE, 0]).chain(lengths);
        header.for_each(|word| push(&mut dtb, word));
        [reserved, structure, strings].iter().for_each(|block| dtb.extend_from_slice(block));
        dtb
    }

    /// Adds the node to the structure block. Recurses as deep as the tree is.
    fn write(&self, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
        push(structure, BEGIN_NODE);
        structure.extend_from_slice(self.name.as_bytes());
        structure.push(0);
        align(structure);
        for (name, value) in &self.properties {
            let name = place(strings, name);
            [PROPERTY, value.len() as u32, name as u32].into_iter().for_each(|word| push(structure, word));
            structure.extend_from_slice(value);
            align(structure);
        }
        self.children.iter().for_each(|child| child.write(structure, strings));
        push(structure, END_NODE);
    }
}

/// A region in cells.
pub(crate) fn push_region(reg: &mut Vec<u8>, region: &Region, (address_cells, size_cells): (u32, u32)) {
    push_number(reg, region.base(), address_cells);
    push_number(reg, region.size(), size_cells);
}

/// A number in `cells` cells, of which only two can differ from zero.
fn push_number(reg: &mut Vec<u8>, number: u64, cells: u32) {
    for cell in (0..cells).rev() {
        push(reg, if cell < 2 { (number >> (32 * cell)) as u32 } else { 0 });
    }
}

fn push(block: &mut Vec<u8>, word: u32) {
    block.extend_from_slice(&word.to_be_bytes());
}

fn align(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

/// Where `name` is in the strings block, to which it is added if it is not there.
fn place(strings: &mut Vec<u8>, name: &str) -> usize {
    let mut at = 0;
    for string in strings.split_inclusive(|byte| *byte == 0) {
        if string.strip_suffix(&[0]) == Some(name.as_bytes()) {
            return at;
        }
        at += string.len();
    }
    strings.extend_from_slice(name.as_bytes());
    strings.push(0);
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::{Node as _, Property as _, fdt::Fdt};

    fn tree() -> Node {
        let mut root = Node::new("");
        root.set("compatible", "a,b");
        root.add(Node::new("one@1")).set("compatible", "c,d");
        root.child("two").set("reg", [1_u32, 2]);
        root
    }

    #[test]
    fn what_is_written_is_read() {
        let range = MemoryReservation::new(0x1000, 0x2000);
        let dtb = tree().to_dtb([range].into_iter());
        let read = Fdt::new(&dtb).unwrap();
        assert_eq!(dtb.len(), u32::from_be_bytes(*dtb[4..].first_chunk().unwrap()) as usize);
        assert_eq!(read.memory_reservations().collect::<Vec<_>>(), [range]);
        assert_eq!(read.root().child("one@1").unwrap().property("compatible").unwrap().value(), b"c,d\0");
        assert_eq!(read.find_node("/two").unwrap().property("reg").unwrap().value(), [0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(read.root().children().count(), 2);
        assert!(fdt::Fdt::new(&dtb).is_ok(), "nor is it strange to the other reader");
    }

    #[test]
    fn a_property_has_one_value_and_its_name_is_there_once() {
        let mut root = tree();
        root.set("compatible", "e");
        root.retain(|name, value| name != "compatible" || value == b"e\0");
        let dtb = root.to_dtb(core::iter::empty());
        assert_eq!(root.property("compatible"), Some(b"e\0".as_slice()));
        assert_eq!(dtb.windows(11).filter(|name| *name == b"compatible\0").count(), 1);
    }

    #[test]
    fn a_path_leads_to_nodes_that_are_there() {
        let mut root = tree();
        assert!(root.has("/") && root.has("/two") && root.has("/one@1/"));
        assert!(!root.has("/one") && !root.has("/two/three"));
        root.child("two").child("three");
        assert!(root.has("/two/three"));
        assert_eq!(root.children.len(), 2);
    }
}
