//! Device registers: one volatile access each, of the stated width.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

/// A window of device registers at a mapped address.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: usize,
    len: usize,
}

impl Mmio {
    /// The window of `len` bytes at `base`.
    ///
    /// # Safety
    /// `base..base + len` must be mapped as Device memory (or as uncached memory that only this kind of access touches) for as
    /// long as the value lives, and its registers must be safe to access in any order that the safe code of the owner chooses.
    pub const unsafe fn new(base: usize, len: usize) -> Mmio {
        Mmio { base, len }
    }

    /// Where the window starts.
    pub const fn base(self) -> usize {
        self.base
    }

    /// The address of an access; stops loudly on an offset outside the window, which only our own code can ask for.
    #[inline(always)]
    fn address(self, offset: usize, width: usize) -> usize {
        assert!(offset <= self.len - width && offset.is_multiple_of(width), "register access outside its window");
        self.base + offset
    }

    /// Reads 8 bits at `offset`.
    #[inline(always)]
    pub fn read8(self, offset: usize) -> u8 {
        // SAFETY: inside the window, which is mapped by the contract of `new`.
        unsafe { with_exposed_provenance::<u8>(self.address(offset, 1)).read_volatile() }
    }

    /// Reads 16 bits at `offset`.
    #[inline(always)]
    pub fn read16(self, offset: usize) -> u16 {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance::<u16>(self.address(offset, 2)).read_volatile() }
    }

    /// Reads 32 bits at `offset`.
    #[inline(always)]
    pub fn read32(self, offset: usize) -> u32 {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance::<u32>(self.address(offset, 4)).read_volatile() }
    }

    /// Reads 64 bits at `offset`.
    #[inline(always)]
    pub fn read64(self, offset: usize) -> u64 {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance::<u64>(self.address(offset, 8)).read_volatile() }
    }

    /// Writes 8 bits at `offset`.
    #[inline(always)]
    pub fn write8(self, offset: usize, value: u8) {
        // SAFETY: inside the window, which is mapped by the contract of `new`.
        unsafe { with_exposed_provenance_mut::<u8>(self.address(offset, 1)).write_volatile(value) }
    }

    /// Writes 16 bits at `offset`.
    #[inline(always)]
    pub fn write16(self, offset: usize, value: u16) {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance_mut::<u16>(self.address(offset, 2)).write_volatile(value) }
    }

    /// Writes 32 bits at `offset`.
    #[inline(always)]
    pub fn write32(self, offset: usize, value: u32) {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance_mut::<u32>(self.address(offset, 4)).write_volatile(value) }
    }

    /// Writes 64 bits at `offset`.
    #[inline(always)]
    pub fn write64(self, offset: usize, value: u64) {
        // SAFETY: inside the window and aligned; mapped by the contract of `new`.
        unsafe { with_exposed_provenance_mut::<u64>(self.address(offset, 8)).write_volatile(value) }
    }
}
