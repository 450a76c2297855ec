//! The part of the secure domain's tree that is about storage: its disks, the pool on them, the volumes that are wanted.

use arrayvec::ArrayVec;
use fdt::node::FdtNode;

use super::Error;
use crate::Region;
use crate::board::{Layout, MAX_DISKS, MAX_VOLUMES, Partition, Pool, Volume};

const STORAGE: &str = "storage";
const IRQ_LINE: &str = "haechi,irq-line";
const BUS_ADDRESS: &str = "haechi,bus-address";
const PARTITION_TYPE: &str = "haechi,partition-type";
const PARTITION_NAME: &str = "haechi,partition-name";
const POOL: &str = "pool";
const WINDOW: &str = "haechi,window-ms";
const CACHE: &str = "haechi,cache-mib";
const DEGRADED: &str = "haechi,degraded";
const VOLUME: &str = "volume";
const NAME: &str = "haechi,name";
const SIZE: &str = "haechi,size-mib";
const LAYOUT: &str = "haechi,layout";
const SUITE: &str = "haechi,suite";
const KEY_GENERATION: &str = "haechi,key-generation";

/// A storage controller as the secure domain sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// What it is.
    pub compatible: &'a str,
    /// Its registers; of a PCI function its configuration space, which can only be read.
    pub registers: Region,
    /// Of a PCI function where its registers are.
    pub window: Option<Window>,
    /// Its line in `abi::Event::irq`.
    pub irq_line: u32,
    /// The partition of its disk that is the pool's; `None`: the whole disk is.
    pub partition: Option<Partition<'a>>,
}

/// Where the registers of a PCI function are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// As the processor sees them.
    pub registers: Region,
    /// The first of them as the bus has it, which is what configuration space speaks of.
    pub bus_address: u64,
}

/// The nodes below the root that are called `name@...`.
fn nodes<'b, 'a>(root: FdtNode<'b, 'a>, name: &'static str) -> impl Iterator<Item = FdtNode<'b, 'a>> {
    root.children().filter(move |node| node.name.split('@').next() == Some(name))
}

fn bytes<'a, const N: usize>(node: FdtNode<'_, 'a>, name: &str) -> Option<&'a [u8; N]> {
    node.property(name)?.value.try_into().ok()
}

fn word(node: FdtNode<'_, '_>, name: &str) -> Option<u32> {
    bytes(node, name).map(|bytes| u32::from_be_bytes(*bytes))
}

fn text<'a>(node: FdtNode<'_, 'a>, name: &str) -> Option<&'a str> {
    node.property(name)?.as_str()
}

/// The storage controllers: one or more.
pub(super) fn read<'a>(root: FdtNode<'_, 'a>) -> Result<ArrayVec<Storage<'a>, MAX_DISKS>, Error> {
    let wrong = |property| Error::Property(STORAGE, property);
    let mut all = ArrayVec::new();
    for node in nodes(root, STORAGE) {
        let registers = node.property("reg").and_then(|reg| super::region(reg.value));
        let storage = Storage {
            compatible: text(node, "compatible").ok_or(wrong("compatible"))?,
            registers: registers.ok_or(wrong("reg"))?,
            window: window(node)?,
            irq_line: word(node, IRQ_LINE).ok_or(wrong(IRQ_LINE))?,
            partition: partition(node)?,
        };
        all.try_push(storage).map_err(|_| wrong("reg"))?;
    }
    if all.is_empty() { Err(Error::NoNode(STORAGE)) } else { Ok(all) }
}

fn window(node: FdtNode<'_, '_>) -> Result<Option<Window>, Error> {
    let wrong = |property| Error::Property(STORAGE, property);
    let Some(address) = node.property(BUS_ADDRESS) else { return Ok(None) };
    let bus_address = address.value.try_into().map(u64::from_be_bytes).map_err(|_| wrong(BUS_ADDRESS))?;
    let registers = node.property("reg").and_then(|reg| super::region(reg.value.get(16..)?));
    Ok(Some(Window { registers: registers.ok_or(wrong("reg"))?, bus_address }))
}

fn partition<'a>(node: FdtNode<'_, 'a>) -> Result<Option<Partition<'a>>, Error> {
    let kind = node.property(PARTITION_TYPE).map(|kind| kind.value.try_into());
    let kind = kind.transpose().map_err(|_| Error::Property(STORAGE, PARTITION_TYPE))?;
    let name = text(node, PARTITION_NAME);
    Ok((kind.is_some() || name.is_some()).then_some(Partition { kind, name }))
}

/// How the pool is mounted.
pub(super) fn read_pool(root: FdtNode<'_, '_>) -> Result<Pool, Error> {
    let node = nodes(root, POOL).next().ok_or(Error::NoNode(POOL))?;
    let cache_mib = word(node, CACHE).ok_or(Error::Property(POOL, CACHE))?;
    Ok(Pool { window_ms: word(node, WINDOW), cache_mib, degraded: node.property(DEGRADED).is_some() })
}

/// The volumes that are wanted.
pub(super) fn read_volumes<'a>(root: FdtNode<'_, 'a>) -> Result<ArrayVec<Volume<'a>, MAX_VOLUMES>, Error> {
    let wrong = |property| Error::Property(VOLUME, property);
    let mut all = ArrayVec::new();
    for node in nodes(root, VOLUME) {
        let layout = text(node, LAYOUT).and_then(|name| Layout::ALL.into_iter().find(|layout| layout.name() == name));
        let generation = word(node, KEY_GENERATION).and_then(|number| number.try_into().ok());
        let volume = Volume {
            name: text(node, NAME).ok_or(wrong(NAME))?,
            size_mib: bytes(node, SIZE).map(|bytes| u64::from_be_bytes(*bytes)).ok_or(wrong(SIZE))?,
            layout: layout.ok_or(wrong(LAYOUT))?,
            suite: text(node, SUITE).ok_or(wrong(SUITE))?,
            key_generation: generation.ok_or(wrong(KEY_GENERATION))?,
        };
        all.try_push(volume).map_err(|_| wrong(NAME))?;
    }
    Ok(all)
}

/// Adds all of it to the tree.
#[cfg(feature = "boot")]
pub(super) fn write(root: &mut crate::writer::Node, what: &super::SecureTree<'_>) {
    use alloc::format;

    use super::add;

    for storage in &what.storage {
        let own = storage.window.map(|window| window.registers);
        let registers: alloc::vec::Vec<Region> = [storage.registers].into_iter().chain(own).collect();
        let node = add(root, &format!("{STORAGE}@{:x}", storage.registers.base()), &registers);
        storage.window.into_iter().for_each(|window| node.set(BUS_ADDRESS, window.bus_address));
        node.set("compatible", storage.compatible);
        node.set(IRQ_LINE, storage.irq_line);
        let Some(Partition { kind, name }) = storage.partition else { continue };
        kind.into_iter().for_each(|kind| node.set(PARTITION_TYPE, kind));
        name.into_iter().for_each(|name| node.set(PARTITION_NAME, name));
    }
    let pool = add(root, POOL, &[]);
    pool.set(CACHE, what.pool.cache_mib);
    what.pool.window_ms.into_iter().for_each(|window| pool.set(WINDOW, window));
    if what.pool.degraded {
        pool.set(DEGRADED, 1u32);
    }
    for (index, volume) in what.volumes.iter().enumerate() {
        let node = add(root, &format!("{VOLUME}@{index}"), &[]);
        node.set(NAME, volume.name);
        node.set(SIZE, volume.size_mib);
        node.set(LAYOUT, volume.layout.name());
        node.set(SUITE, volume.suite);
        node.set(KEY_GENERATION, u32::from(volume.key_generation));
    }
}
