//! The domain's own memory behind its image: heap, DMA region, device registers, the shared page.

use core::arch::asm;
use core::ops::Range;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::slice;

use aarch64::mmio::Mmio;
use abi::SharedPage;

const PAGE: usize = 4096;

/// The page that EL2 shares.
///
/// # Safety
/// `address` must be the shared page that EL2's device tree names, mapped as Normal memory.
pub unsafe fn shared_page(address: u64) -> &'static SharedPage {
    // SAFETY: a whole page of atomics, so the other side's writes are no data race.
    unsafe { &*with_exposed_provenance(address as usize) }
}

/// The page that survives a restart of this domain, as a `T` of atomics for which all zeros is a value.
///
/// # Safety
/// `address` must be the kept page that EL2's device tree names, mapped as Normal memory, and every life of this domain must
/// take it for the same type, which any bytes are a value of.
pub unsafe fn kept_page<T: Sync>(address: u64) -> &'static T {
    const { assert!(size_of::<T>() <= PAGE && align_of::<T>() <= PAGE) };
    // SAFETY: the caller's contract.
    unsafe { &*with_exposed_provenance(address as usize) }
}

/// Bytes that EL2 placed in this domain's memory before it ran.
///
/// # Safety
/// The range must be mapped readable and be written by nobody.
pub unsafe fn bytes(range: Range<usize>) -> &'static [u8] {
    // SAFETY: the caller's contract.
    unsafe { slice::from_raw_parts(with_exposed_provenance(range.start), range.len()) }
}

/// Registers of a storage controller, or of the anchor's flash.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRegisters(Mmio);

impl DeviceRegisters {
    /// The registers at `range`.
    ///
    /// # Safety
    /// The range must be mapped as Device memory and be the registers of a device that this domain alone drives.
    pub unsafe fn new(range: &Range<usize>) -> DeviceRegisters {
        // SAFETY: the caller's contract.
        DeviceRegisters(unsafe { Mmio::new(range.start, range.len()) })
    }
}

impl block::Registers for DeviceRegisters {
    fn read(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.0.write32(offset, value);
    }
}

impl block::NarrowRegisters for DeviceRegisters {
    fn read8(&self, offset: usize) -> u8 {
        self.0.read8(offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        self.0.read16(offset)
    }

    fn write8(&mut self, offset: usize, value: u8) {
        self.0.write8(offset, value);
    }

    fn write16(&mut self, offset: usize, value: u16) {
        self.0.write16(offset, value);
    }
}

/// Memory that this domain shares with a storage controller, identity-mapped and cache-coherent.
#[derive(Debug)]
pub struct DmaRegion {
    start: usize,
    len: usize,
}

impl DmaRegion {
    /// The region at `range`.
    ///
    /// # Safety
    /// The range must be mapped read-write as Normal memory at its physical address and be used by nobody else.
    pub unsafe fn new(range: Range<usize>) -> DmaRegion {
        DmaRegion { start: range.start, len: range.len() }
    }

    /// Divides the region into `parts` (at least one) of whole pages, as large as each other.
    pub fn divide(self, parts: usize) -> impl Iterator<Item = DmaRegion> {
        let DmaRegion { start, len } = self;
        let each = (len / parts) & !(PAGE - 1);
        (0..parts).map(move |part| DmaRegion { start: start + part * each, len: each })
    }

    /// The address of `width` bytes at `offset`; stops loudly outside the region, which only our own code can ask for.
    fn at(&self, offset: usize, width: usize) -> usize {
        assert!(offset.is_multiple_of(width) && offset <= self.len - width, "DMA access outside its region");
        self.start + offset
    }
}

impl block::Dma for DmaRegion {
    fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.start as u64
    }

    fn bytes(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len, "DMA buffer outside its region");
        // SAFETY: inside the region; the device does not own these bytes now, by the contract of `block::Dma`.
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(self.start + range.start), range.len()) }
    }

    fn load8(&self, offset: usize) -> u8 {
        // SAFETY: inside the region; volatile because the device writes it.
        unsafe { with_exposed_provenance::<u8>(self.at(offset, 1)).read_volatile() }
    }

    fn load16(&self, offset: usize) -> u16 {
        let value: u32;
        // SAFETY: inside the region and aligned. Acquire: what the device wrote before this value is seen by later loads.
        unsafe {
            asm!("ldarh {:w}, [{}]", out(reg) value, in(reg) self.at(offset, 2), options(nostack, preserves_flags))
        };
        value as u16
    }

    fn load32(&self, offset: usize) -> u32 {
        // SAFETY: as in `load8`, and aligned.
        unsafe { with_exposed_provenance::<u32>(self.at(offset, 4)).read_volatile() }
    }

    fn store8(&mut self, offset: usize, value: u8) {
        // SAFETY: as in `load8`.
        unsafe { with_exposed_provenance_mut::<u8>(self.at(offset, 1)).write_volatile(value) }
    }

    fn store16(&mut self, offset: usize, value: u16) {
        // The device may be outside the cores' inner shareable domain, for which a store-release is not enough: DMB OSHST
        // orders the descriptors before the index for every observer (DDI 0487 B2.3.12).
        // SAFETY: inside the region and aligned.
        unsafe {
            asm!(
                "dmb oshst",
                "strh {:w}, [{}]",
                in(reg) u32::from(value), in(reg) self.at(offset, 2),
                options(nostack, preserves_flags),
            );
        }
    }

    fn store32(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `load32`.
        unsafe { with_exposed_provenance_mut::<u32>(self.at(offset, 4)).write_volatile(value) }
    }

    fn store64(&mut self, offset: usize, value: u64) {
        // SAFETY: as in `load8`, and aligned.
        unsafe { with_exposed_provenance_mut::<u64>(self.at(offset, 8)).write_volatile(value) }
    }

    fn fence(&self) {
        // SAFETY: a barrier only waits.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    }
}
