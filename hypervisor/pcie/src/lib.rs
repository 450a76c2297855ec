//! The machine's PCI bus shared out by function (PCI Express Base Specification 5.0, chapter 7; PCI Local Bus 3.0, chapter 6).
//!
//! Some functions of bus 0 are the secure domain's, all others that are there at boot the general domain's. What keeps them apart:
//!
//! - Memory-mapped configuration space has a page for each function. The general domain reads the pages of its own, writes to them through
//!   [`Filter::write`], and finds nothing in all others.
//! - The secure domain's functions have their registers in a window of bus addresses that is theirs alone, where EL2 has put them
//!   ([`Endpoint::place`]). The general domain's cores do not reach it, and the filter lets no function of its decode an address there: such a
//!   function would hear, or answer in the disk's place, what the secure domain says to its disk.
//! - A function can only be kept in if all its addresses are in the registers that are known here. So a bus with a bridge, which would open
//!   windows, is refused ([`survey`]), and so is a function with fixed addresses. Extended configuration space, from which virtual functions
//!   are made and registers resized, is not written.
//!
//! What a function reads and writes in memory is the system MMU's affair.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "boot")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod function;

#[cfg(feature = "boot")]
mod endpoint;
#[cfg(feature = "boot")]
mod filter;
#[cfg(feature = "boot")]
mod refusal;
#[cfg(feature = "boot")]
mod survey;

#[cfg(test)]
mod model;

pub use function::Function;

#[cfg(feature = "boot")]
pub use self::{
    endpoint::{Endpoint, start, stop},
    filter::Filter,
    refusal::Refusal,
    survey::survey,
};

/// Bytes of one function's configuration space.
pub const FUNCTION_BYTES: usize = 4096;
/// Bytes of one bus' configuration space.
pub const BUS_BYTES: usize = 256 * FUNCTION_BYTES;

/// Configuration space of bus 0. Offsets are multiples of the width and below [`FUNCTION_BYTES`].
pub trait Configuration {
    /// Reads 32 bits; all ones where there is no function.
    fn read32(&self, function: Function, offset: usize) -> u32;
    /// Writes 8 bits.
    fn write8(&self, function: Function, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&self, function: Function, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&self, function: Function, offset: usize, value: u32);
}

/// Offsets of registers in configuration space that is no bridge's.
#[cfg(feature = "boot")]
pub(crate) mod offset {
    pub(crate) const ID: usize = 0x00;
    pub(crate) const COMMAND: usize = 0x04;
    pub(crate) const HEADER: usize = 0x0c;
    pub(crate) const BAR_0: usize = 0x10;
    pub(crate) const ROM: usize = 0x30;
    pub(crate) const CAPABILITIES: usize = 0x34;
    pub(crate) const INTERRUPT: usize = 0x3c;
}

/// `COMMAND`: answer in memory space.
#[cfg(feature = "boot")]
pub(crate) const MEMORY_SPACE: u32 = 1 << 1;
/// `COMMAND`: read and write memory.
#[cfg(feature = "boot")]
pub(crate) const BUS_MASTER: u32 = 1 << 2;
/// `COMMAND`: raise no wired interrupt.
#[cfg(feature = "boot")]
pub(crate) const INTERRUPT_DISABLE: u32 = 1 << 10;
