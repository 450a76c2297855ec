//! EL2's own mapping, and its hold on physical memory while the system is put together.
//!
//! [`BootMemory`] is the only way to touch memory outside the image. It exists once, on the core that boots, between the
//! final tables and the first instruction of a domain that could write the same bytes; slices that it lends end before it
//! writes (the borrow checker sees to that), and [`BootMemory::close`] unmaps all of it but what [`DomainMemory`] holds.
//!
//! The general domain's memory has no place in EL2's tables. A reset of that domain, when it runs nowhere, needs it for a moment:
//! [`GeneralMemory`] is a second set of tables that has it, made at boot and used by the one core that carries the reset out.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::slice;

use aarch64::heap::BootHeap;
use aarch64::image::sections;
use aarch64::mmio::Mmio;
use aarch64::read_sysreg;
use aarch64::stage1::{El2Tables, Kind, MapError, switch_el2};
use machine::pci::ConfigurationSpace;

use crate::{boot, pages, smmu, storage};

/// First bytes of a flattened device tree, in memory order (Devicetree Specification 0.4, section 5.2).
const DEVICE_TREE_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Longest device tree that a loader may pass (Linux, Documentation/arch/arm64/booting.rst).
pub const MAX_DEVICE_TREE_BYTES: usize = 2 << 20;

/// Why there is no device tree at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDeviceTree {
    /// The loader passed no address, or a misaligned one.
    Address,
    /// The first bytes are something else.
    Magic,
    /// The header's total size is less than a header or more than a loader may pass.
    Size(u32),
}

impl core::fmt::Display for NoDeviceTree {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            NoDeviceTree::Address => write!(f, "no address, or one that is not a multiple of 8"),
            NoDeviceTree::Magic => write!(f, "the first bytes are not d0 0d fe ed"),
            NoDeviceTree::Size(size) => write!(f, "its header claims {size} bytes"),
        }
    }
}

/// A copy of the device tree that the loader left at `address`.
///
/// # Safety
/// `address` must come from the loader, with [`MAX_DEVICE_TREE_BYTES`] from there on mapped readable and written by nobody.
pub unsafe fn device_tree(address: usize) -> Result<Vec<u8>, NoDeviceTree> {
    if address == 0 || !address.is_multiple_of(8) {
        return Err(NoDeviceTree::Address);
    }
    // SAFETY: mapped by the caller's contract.
    let header: &[u8; 8] = unsafe { &*with_exposed_provenance(address) };
    let [magic @ .., a, b, c, d] = *header;
    if magic != DEVICE_TREE_MAGIC {
        return Err(NoDeviceTree::Magic);
    }
    let total = u32::from_be_bytes([a, b, c, d]);
    if !(40..=MAX_DEVICE_TREE_BYTES as u32).contains(&total) {
        return Err(NoDeviceTree::Size(total));
    }
    // SAFETY: as above, and no longer than the contract says.
    Ok(unsafe { slice::from_raw_parts(with_exposed_provenance(address), total as usize) }.to_vec())
}

/// The mapped registers of a device that the board file places, before there are final tables.
///
/// # Safety
/// The boot code must have mapped the GiB of `base` as Device memory, as it does for the early console.
pub unsafe fn early_device(base: u64, len: usize) -> Mmio {
    // SAFETY: passed on to the caller.
    unsafe { Mmio::new(base as usize, len) }
}

/// All memory outside the image, and EL2's final tables.
pub struct BootMemory {
    tables: El2Tables,
    memory: Vec<Range<usize>>,
    devices: Vec<Range<usize>>,
}

impl BootMemory {
    /// Replaces the boot mapping: the image W^X with its stacks' guard pages out, `devices`, and what `memory` has outside the
    /// image.
    ///
    /// # Safety
    /// Once, on the core that boots. `memory` must be RAM and `devices` device registers, and nothing else must write them until
    /// the value is closed, except a domain in memory that is not read here any more.
    pub unsafe fn map(memory: &[Range<usize>], devices: Vec<Range<usize>>) -> Result<BootMemory, MapError> {
        let image = sections();
        let own = image.text.start..image.data.end;
        let outside =
            memory.iter().flat_map(|bank| [bank.start..bank.end.min(own.start), bank.start.max(own.end)..bank.end]);
        let memory: Vec<Range<usize>> = outside.filter(|piece| piece.start < piece.end).collect();
        let mut tables = own_tables(&devices)?;
        memory.iter().try_for_each(|piece| tables.map(piece, Kind::Data))?;
        // These pages were zeroed through a cacheable mapping: no line of theirs may stay.
        uncached().into_iter().for_each(aarch64::cache::clean_and_invalidate_to_poc);
        // SAFETY: image, devices and memory are mapped; nothing else has been used.
        boot::publish_tables(unsafe { tables.activate() });
        Ok(BootMemory { tables, memory, devices })
    }

    /// The registers of a mapped device.
    pub fn device(&self, range: &Range<usize>) -> Mmio {
        assert!(self.devices.iter().any(|it| within(it, range)), "registers at {range:#x?} are not mapped");
        // SAFETY: mapped as Device memory for good; `map`'s contract says that they are registers.
        unsafe { Mmio::new(range.start, range.len()) }
    }

    /// Whether `range` is memory that this gives access to.
    pub fn contains(&self, range: &Range<usize>) -> bool {
        self.memory.iter().any(|it| within(it, range))
    }

    /// The bytes of `range`.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        assert!(self.contains(range), "memory at {range:#x?} is not mapped");
        // SAFETY: mapped, and written by nobody while `self` is borrowed.
        unsafe { slice::from_raw_parts(with_exposed_provenance(range.start), range.len()) }
    }

    /// Fills `range` with `contents`, then zeros, and cleans it to the point of coherency: who runs there starts with caches off.
    pub fn fill(&mut self, range: &Range<usize>, contents: &[u8]) {
        assert!(self.contains(range) && contents.len() <= range.len(), "contents do not fit {range:#x?}");
        // SAFETY: mapped, exclusively ours while `self` is borrowed mutably.
        let target: &mut [u8] =
            unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(range.start), range.len()) };
        let (start, rest) = target.split_at_mut(contents.len());
        start.copy_from_slice(contents);
        rest.fill(0);
        aarch64::cache::clean_and_invalidate_to_poc(range.clone());
    }

    /// As [`BootMemory::fill`] with the bytes of `source`, which must not overlap `range`.
    pub fn fill_from(&mut self, range: &Range<usize>, source: &Range<usize>) {
        let apart = source.end <= range.start || range.end <= source.start;
        assert!(apart && self.contains(source), "cannot copy {source:#x?} to {range:#x?}");
        // SAFETY: mapped, and not among the bytes that `fill` writes.
        let contents = unsafe { slice::from_raw_parts(with_exposed_provenance(source.start), source.len()) };
        self.fill(range, contents);
    }

    /// What a reset of the general domain needs: `place` for the domain's memory and devices, and of `close` what stays.
    ///
    /// # Safety
    /// `place.kept` must be EL2's alone from here on, and `place.devices` registers of devices that are mapped as nothing else. Whoever opens the
    /// value sees to it that the general domain runs on no core meanwhile. Another core of EL2 may be on, with tables that do not have this memory;
    /// what a secure domain on it writes there is no more than what a device could write.
    pub unsafe fn set_aside(
        &self,
        place: GeneralPlace,
        pristine: &Range<usize>,
        domain: &Range<usize>,
    ) -> Result<GeneralMemory, MapError> {
        let kept = [&place.kept, pristine, domain];
        let is_memory = place.memory.iter().chain(kept).all(|piece| self.contains(piece));
        assert!(is_memory, "what is set aside is memory");
        let mut tables = own_tables(&self.devices)?;
        place.devices.iter().try_for_each(|device| tables.map(device, Kind::Device))?;
        place.memory.iter().try_for_each(|piece| tables.map(piece, Kind::Data))?;
        tables.map(&place.kept, Kind::Rodata)?;
        tables.map(pristine, Kind::Rodata)?;
        tables.map(domain, Kind::Data)?;
        let open = tables.set_aside();
        core::mem::forget(tables);
        Ok(GeneralMemory { open, closed: read_sysreg!("ttbr0_el2"), place })
    }

    /// Ends EL2's access to all memory outside its image, but for that of a domain that it may start again and the copy that it
    /// starts it from.
    ///
    /// # Safety
    /// `pristine` must be EL2's alone from here on. Whoever uses the value sees to it that the domain in `domain` runs on no core
    /// meanwhile, and that no device writes there.
    pub unsafe fn close(mut self, pristine: Range<usize>, domain: Range<usize>) -> Result<DomainMemory, MapError> {
        assert!(self.contains(&pristine) && self.contains(&domain), "what is kept is memory");
        self.memory.iter().try_for_each(|piece| self.tables.map(piece, Kind::Hole))?;
        self.tables.map(&pristine, Kind::Rodata)?;
        self.tables.map(&domain, Kind::Data)?;
        // The tables stay in use for good.
        core::mem::forget(self.tables);
        Ok(DomainMemory { pristine, domain })
    }
}

/// The memory of a domain that can be started again, and the read-only copy of what it is started from. What is written here is
/// cleaned to the point of coherency: the domain's first instructions run with caches off.
#[derive(Debug)]
pub struct DomainMemory {
    pristine: Range<usize>,
    domain: Range<usize>,
}

impl DomainMemory {
    /// The domain's bytes at `range`, which are to be written.
    fn target(&mut self, range: &Range<usize>) -> &mut [u8] {
        assert!(within(&self.domain, range), "{range:#x?} is not the domain's memory");
        // SAFETY: mapped for good, written by nobody else while `self` is in use (the contract of `close`).
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(range.start), range.len()) }
    }

    /// Fills `range` of the domain's memory with zeros.
    pub fn zero(&mut self, range: &Range<usize>) {
        clear(self.target(range));
    }

    /// Writes `contents` to `at` of the domain's memory.
    pub fn write(&mut self, at: usize, contents: &[u8]) {
        put(self.target(&(at..at + contents.len())), contents);
    }

    /// Copies `source` of the pristine copy to `at` of the domain's memory.
    pub fn load(&mut self, at: usize, source: &Range<usize>) {
        assert!(within(&self.pristine, source), "{source:#x?} is not in the pristine copy");
        // SAFETY: mapped for good, never written, and apart from the domain's memory.
        let contents = unsafe { slice::from_raw_parts(with_exposed_provenance(source.start), source.len()) };
        self.write(at, contents);
    }

    /// The domain's bytes at `range`.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        assert!(within(&self.domain, range), "{range:#x?} is not the domain's memory");
        // SAFETY: mapped for good, and written by nobody while `self` is borrowed.
        unsafe { slice::from_raw_parts(with_exposed_provenance(range.start), range.len()) }
    }
}

/// Tables that map EL2's image, W^X, with its stacks' guard pages out, and `devices`.
fn own_tables(devices: &[Range<usize>]) -> Result<El2Tables, MapError> {
    let mut tables = El2Tables::new(&sections())?;
    uncached().iter().try_for_each(|pages| tables.map(pages, Kind::Device))?;
    boot::guard_pages().try_for_each(|guard| tables.map(&guard, Kind::Hole))?;
    devices.iter().try_for_each(|device| tables.map(device, Kind::Device))?;
    Ok(tables)
}

/// Pages of the image that are mapped as a device.
fn uncached() -> [Range<usize>; 2] {
    [pages::register_pages(), smmu::shared_pages()]
}

/// Where the general domain's memory is, what it is loaded from, and its devices.
#[derive(Debug)]
pub struct GeneralPlace {
    /// Its memory.
    pub memory: Vec<Range<usize>>,
    /// What EL2 keeps to load it from.
    pub kept: Range<usize>,
    /// Registers of its devices.
    pub devices: Vec<Range<usize>>,
}

/// The general domain's memory, which EL2 does not see until it opens it.
#[derive(Debug)]
pub struct GeneralMemory {
    /// `TTBR0_EL2` with it and without.
    open: u64,
    closed: u64,
    place: GeneralPlace,
}

impl GeneralMemory {
    /// Maps it for this core, until the value is dropped.
    pub fn open(&mut self) -> OpenMemory<'_> {
        // SAFETY: the tables exist for good, and have all that the others have.
        unsafe { switch_el2(self.open) };
        OpenMemory(self)
    }
}

/// The general domain's memory and devices, mapped. What is written is cleaned to the point of coherency: the domain's first
/// instructions run with caches off.
#[derive(Debug)]
pub struct OpenMemory<'m>(&'m mut GeneralMemory);

impl Drop for OpenMemory<'_> {
    fn drop(&mut self) {
        // SAFETY: these tables were in use before; what they lack is reached through `self` alone.
        unsafe { switch_el2(self.0.closed) };
    }
}

impl OpenMemory<'_> {
    fn target(&mut self, range: &Range<usize>) -> &mut [u8] {
        assert!(self.0.place.memory.iter().any(|it| within(it, range)), "{range:#x?} is not the domain's memory");
        // SAFETY: mapped while `self` exists, and written by nobody else meanwhile (the contract of `set_aside`).
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(range.start), range.len()) }
    }

    /// Fills `range` with zeros.
    pub fn zero(&mut self, range: &Range<usize>) {
        clear(self.target(range));
    }

    /// Writes `contents` to `at`.
    pub fn write(&mut self, at: usize, contents: &[u8]) {
        put(self.target(&(at..at + contents.len())), contents);
    }

    /// Copies `source` of what EL2 has kept to `at`.
    pub fn load(&mut self, at: usize, source: &Range<usize>) {
        assert!(within(&self.0.place.kept, source), "{source:#x?} has not been kept");
        // SAFETY: mapped while `self` exists, never written, and apart from the domain's memory.
        let contents = unsafe { slice::from_raw_parts(with_exposed_provenance(source.start), source.len()) };
        self.write(at, contents);
    }

    fn device(&self, registers: &Range<usize>) -> Mmio {
        assert!(
            self.0.place.devices.iter().any(|it| within(it, registers)),
            "{registers:#x?} is no device of the domain"
        );
        // SAFETY: mapped as Device memory while `self` exists; it does not leave this type but by a borrow.
        unsafe { Mmio::new(registers.start, registers.len()) }
    }

    /// Resets the virtio-mmio device with these registers. Returns whether it has answered.
    #[must_use]
    pub fn stop_virtio(&self, registers: &Range<usize>) -> bool {
        storage::stop(&self.device(registers))
    }

    /// The configuration space in these registers.
    pub fn configuration_space(&self, registers: &Range<usize>) -> Ecam<'_> {
        Ecam(self.device(registers), PhantomData)
    }
}

/// The configuration space of a PCI host, mapped.
#[derive(Debug)]
pub struct Ecam<'m>(Mmio, PhantomData<&'m ()>);

impl ConfigurationSpace for Ecam<'_> {
    fn read32(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }

    fn write32(&mut self, offset: usize, value: u32) {
        self.0.write32(offset, value);
    }
}

/// Fills `target` with zeros, down to the point of coherency.
fn clear(target: &mut [u8]) {
    aarch64::zero::fill(target);
    clean(target);
}

/// Writes `contents` to `target`, which has their length, down to the point of coherency.
fn put(target: &mut [u8], contents: &[u8]) {
    target.copy_from_slice(contents);
    clean(target);
}

fn clean(written: &[u8]) {
    let start = written.as_ptr().addr();
    aarch64::cache::clean_and_invalidate_to_poc(start..start + written.len());
}

fn within(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.start <= inner.end && inner.end <= outer.end
}

/// Gives `heap` the region that the linker script keeps for it.
pub fn init_heap(heap: &BootHeap) {
    unsafe extern "C" {
        static _heap_start: u8;
        static _heap_end: u8;
    }
    let [start, end] = [(&raw const _heap_start).expose_provenance(), (&raw const _heap_end).expose_provenance()];
    // SAFETY: the region between the two symbols is part of this image and used by nothing else.
    unsafe { heap.init(start, end - start) }
}
