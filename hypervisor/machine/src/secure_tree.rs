//! The secure domain's tree: what EL2 tells the secure domain at its start. Writer and reader side by side.
//!
//! The secure domain reads it with the `fdt` crate, which panics on damaged trees; that is no danger here, since EL2 has made
//! these bytes in memory that is the secure domain's alone.
//!
//! ```text
//! / {
//!     compatible = "haechi,secure-domain";
//!     memory@4c000000 { device_type = "memory"; reg = <...>; };             its own memory
//!     general-domain-memory { reg = <...> <...>; };                         the windows into the general domain's memory
//!     shared-page@4bfff000 { reg = <...>; };                                abi::SharedPage
//!     kept-page@4fffd000 { reg = <...>; };                                  its own memory that survives its restart
//!     dma-memory@4effd000 { reg = <...>; };                                 its own memory that the disks read and write
//!     storage@a003e00 { compatible = "virtio,mmio"; reg = <...>; haechi,irq-line = <0>; };      one for each disk
//!                                  // a PCI function, "virtio,pci" or "nvme,pci": <configuration> <registers>, and haechi,bus-address of these
//!     pool { haechi,cache-mib = <16>; };                                    and how it is mounted
//!     volume@0 { haechi,name = "system"; ... };                             one for each volume that is wanted
//!     anchor@4000000 { compatible = "cfi-flash"; reg = <...>; };            if there is one
//!     chosen { rng-seed = [32 bytes]; haechi,measurement = [32 bytes]; haechi,test-huk = [32 bytes];
//!              haechi,crypto-profile = "open"; };
//! };
//! ```
//!
//! Every address is the secure domain's intermediate physical address; the general domain's memory appears at its own addresses.

mod storage;

use core::fmt;

use arrayvec::ArrayVec;
use fdt::{Fdt, node::FdtNode};

use crate::board::{MAX_DISKS, MAX_VOLUMES, Pool, Volume};
#[cfg(feature = "boot")]
use crate::writer::Node;
use crate::{MAX_BANKS, Region};

pub use storage::{Storage, Window};

const COMPATIBLE: &str = "haechi,secure-domain";
const ANCHOR: &str = "/anchor";
const MEASUREMENT: &str = "haechi,measurement";
const TEST_HUK: &str = "haechi,test-huk";
const CRYPTO_PROFILE: &str = "haechi,crypto-profile";

/// Bytes of the place that the tree has at the end of the secure domain's memory.
pub const PLACE_BYTES: u64 = 2 * crate::PAGE;
/// Bytes of its memory that the disks read and write: rings and buffers.
pub const DMA_BYTES: u64 = 16 << 20;

/// Ranges of the general domain's memory: its banks, cut twice.
pub const MAX_WINDOWS: usize = MAX_BANKS + 2;

/// What the secure domain is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureTree<'a> {
    /// Its own memory.
    pub memory: Region,
    /// The general domain's memory, through which it reads and writes buffers.
    pub general: ArrayVec<Region, MAX_WINDOWS>,
    /// Address of `abi::SharedPage`.
    pub shared_page: u64,
    /// Address of the page behind its memory that is not scrubbed when it is started again.
    pub kept_page: u64,
    /// The part of its memory that the disks read and write. Disks behind a system MMU reach nothing else.
    pub dma: Region,
    /// The storage controllers, in the board's order. Those that the machine lacks are left out.
    pub storage: ArrayVec<Storage<'a>, MAX_DISKS>,
    /// How the pool on the disks is mounted.
    pub pool: Pool,
    /// The volumes that the pool shall have.
    pub volumes: ArrayVec<Volume<'a>, MAX_VOLUMES>,
    /// The flash bank for its development anchor, if the machine has one.
    pub anchor: Option<Region>,
    /// A seed for its random number generator, if the boot loader gave one.
    pub rng_seed: Option<[u8; 32]>,
    /// SHA-256 of the image that EL2 started.
    pub measurement: [u8; 32],
    /// A hardware unique key that everybody knows, on a test board.
    pub test_huk: Option<[u8; 32]>,
    /// Name of the profile in which it powers its crypto module on.
    pub crypto_profile: &'a str,
}

/// Why the tree does not tell what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no device tree, or none for the secure domain.
    Format,
    /// It has no such node.
    NoNode(&'static str),
    /// A node lacks a property, or it says what cannot be.
    Property(&'static str, &'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Format => write!(f, "this is no device tree of a secure domain"),
            Error::NoNode(node) => write!(f, "the secure domain's device tree has no node {node}"),
            Error::Property(node, property) => {
                write!(f, "node {node} of the secure domain's device tree has no usable '{property}'")
            }
        }
    }
}

impl core::error::Error for Error {}

/// Reads the tree that [`write`] has made; bytes behind its length are ignored.
///
/// # Errors
/// Another tree, or one that lacks something.
pub fn read(dtb: &[u8]) -> Result<SecureTree<'_>, Error> {
    let tree = Fdt::new(dtb).map_err(|_| Error::Format)?;
    let root = tree.find_node("/").ok_or(Error::Format)?;
    if root.property("compatible").and_then(|property| property.as_str()) != Some(COMPATIBLE) {
        return Err(Error::Format);
    }
    let chosen = tree.find_node("/chosen").ok_or(Error::NoNode("/chosen"))?;
    Ok(SecureTree {
        memory: first_region(&tree, "/memory")?,
        general: general(&tree)?,
        shared_page: first_region(&tree, "/shared-page")?.base(),
        kept_page: first_region(&tree, "/kept-page")?.base(),
        dma: first_region(&tree, "/dma-memory")?,
        storage: storage::read(root)?,
        pool: storage::read_pool(root)?,
        volumes: storage::read_volumes(root)?,
        anchor: tree.find_node(ANCHOR).map(|_| first_region(&tree, ANCHOR)).transpose()?,
        rng_seed: optional_key(chosen, "rng-seed")?,
        measurement: optional_key(chosen, MEASUREMENT)?.ok_or(Error::Property("/chosen", MEASUREMENT))?,
        test_huk: optional_key(chosen, TEST_HUK)?,
        crypto_profile: crypto_profile(chosen)?,
    })
}

fn regions<'a>(tree: &Fdt<'a>, path: &'static str) -> Result<impl Iterator<Item = Option<Region>> + 'a, Error> {
    let node = tree.find_node(path).ok_or(Error::NoNode(path))?;
    let reg = node.property("reg").ok_or(Error::Property(path, "reg"))?;
    Ok(reg.value.chunks(16).map(region))
}

/// One entry of a `reg`.
fn region(entry: &[u8]) -> Option<Region> {
    let number = |at: usize| entry.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Region::new(number(0)?, number(8)?)
}

fn first_region(tree: &Fdt<'_>, path: &'static str) -> Result<Region, Error> {
    regions(tree, path)?.next().flatten().ok_or(Error::Property(path, "reg"))
}

fn general(tree: &Fdt<'_>) -> Result<ArrayVec<Region, MAX_WINDOWS>, Error> {
    const PATH: &str = "/general-domain-memory";
    let mut windows = ArrayVec::new();
    for window in regions(tree, PATH)? {
        let pushed = window.map(|window| windows.try_push(window));
        pushed.and_then(Result::ok).ok_or(Error::Property(PATH, "reg"))?;
    }
    Ok(windows)
}

fn crypto_profile<'a>(chosen: FdtNode<'_, 'a>) -> Result<&'a str, Error> {
    let name = chosen.property(CRYPTO_PROFILE).and_then(|property| property.as_str());
    name.ok_or(Error::Property("/chosen", CRYPTO_PROFILE))
}

fn optional_key(chosen: FdtNode<'_, '_>, name: &'static str) -> Result<Option<[u8; 32]>, Error> {
    let Some(property) = chosen.property(name) else { return Ok(None) };
    property.value.try_into().map(Some).map_err(|_| Error::Property("/chosen", name))
}

/// The bytes of a tree that tells `what`.
#[cfg(feature = "boot")]
#[inline(never)]
pub fn write(what: &SecureTree<'_>) -> alloc::vec::Vec<u8> {
    use alloc::format;

    let root = &mut Node::new("");
    root.set("compatible", COMPATIBLE);
    root.set("model", COMPATIBLE);
    root.set("#address-cells", 2_u32);
    root.set("#size-cells", 2_u32);
    let memory = add(root, &format!("memory@{:x}", what.memory.base()), &[what.memory]);
    memory.set("device_type", "memory");
    add(root, "general-domain-memory", &what.general);
    add(root, &format!("dma-memory@{:x}", what.dma.base()), &[what.dma]);
    for (name, address) in [("shared-page", what.shared_page), ("kept-page", what.kept_page)] {
        if let Some(page) = Region::new(address, crate::PAGE) {
            add(root, &format!("{name}@{address:x}"), &[page]);
        }
    }
    storage::write(root, what);
    if let Some(bank) = what.anchor {
        add(root, &format!("anchor@{:x}", bank.base()), &[bank]).set("compatible", "cfi-flash");
    }
    let chosen = add(root, "chosen", &[]);
    chosen.set(MEASUREMENT, what.measurement);
    chosen.set(CRYPTO_PROFILE, what.crypto_profile);
    for (name, key) in [("rng-seed", what.rng_seed), (TEST_HUK, what.test_huk)] {
        if let Some(key) = key {
            chosen.set(name, key);
        }
    }
    root.to_dtb(core::iter::empty())
}

#[cfg(feature = "boot")]
fn add<'n>(root: &'n mut Node, name: &str, reg: &[Region]) -> &'n mut Node {
    let node = root.add(Node::new(name));
    if !reg.is_empty() {
        node.set_reg(reg, (2, 2));
    }
    node
}
