//! The machine as its device tree tells it: memory plan and each domain's own tree.
//!
//! Boot in three steps, each a pure function of bytes and numbers:
//!
//! 1. [`Machine::read`] takes what the hypervisor needs out of the machine's tree, [`Device::find`] the storage controller.
//! 2. [`MemoryPlan::make`] shares out the memory; [`Denied`] collects what the general domain must never reach, and
//!    [`device_windows`] what is left of the device address space.
//! 3. [`general_tree::write`] and [`secure_tree::write`] tell each domain what is its own.
//!
//! The machine's tree comes from the boot loader, which is trusted to describe the machine but not to be free of faults: every
//! loop over it is bounded by its length ([`MAX_TREE_BYTES`]), every recursion by [`MAX_DEPTH`], and whatever does not make sense
//! is an [`Error`] that names the node and the property.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "boot")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod board;
pub mod pci;
mod region;
pub mod secure_tree;

#[cfg(feature = "boot")]
mod cores;
#[cfg(feature = "boot")]
mod device;
#[cfg(feature = "boot")]
mod error;
#[cfg(feature = "boot")]
pub mod general_tree;
#[cfg(feature = "boot")]
mod gic;
#[cfg(feature = "boot")]
mod masters;
#[cfg(feature = "boot")]
mod pci_host;
#[cfg(feature = "boot")]
mod plan;
#[cfg(feature = "boot")]
mod read;
#[cfg(feature = "boot")]
mod seed;
#[cfg(feature = "boot")]
mod shared_host;
#[cfg(feature = "boot")]
mod system_mmu;
#[cfg(feature = "boot")]
mod tree;
#[cfg(feature = "boot")]
mod windows;
#[cfg(feature = "boot")]
mod writer;

pub use board::Board;
pub use region::Region;

#[cfg(feature = "boot")]
pub use self::{
    cores::{Cores, CoresError},
    device::{Device, Interrupt, Trigger},
    error::Error,
    gic::{Frames, Gic},
    masters::{Masters, Stoppable, bus_masters},
    pci_host::PciHost,
    plan::{KernelSize, Loaded, MemoryPlan, PlanError},
    read::{Conduit, Machine, Timers},
    seed::{Restart, Seeds},
    shared_host::SharedHost,
    system_mmu::SystemMmu,
    tree::tree_length,
    windows::{Denied, device_windows},
};

/// The unit in which memory is given to a domain or kept from it, in bytes.
pub const PAGE: u64 = 4096;
/// The unit in which a bank of memory is cut, in bytes: a level 2 block of the stage 2 tables.
pub const BLOCK: u64 = 2 << 20;
/// Cores that a machine may have.
pub const MAX_CPUS: usize = 8;
/// Separate ranges of memory that a machine may have.
pub const MAX_BANKS: usize = 16;
/// Levels of nodes in a tree.
pub const MAX_DEPTH: usize = 16;
/// Length of a tree in bytes (Linux, Documentation/arch/arm64/booting.rst, section 2).
pub const MAX_TREE_BYTES: usize = 2 << 20;
