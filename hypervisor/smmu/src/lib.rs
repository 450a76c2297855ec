//! SMMUv3 (Arm IHI 0070): which device may reach which memory.
//!
//! A device's transfers carry a *stream*. The stream table gives each stream of the general domain that domain's own stage-2 tables, so
//! its devices reach what its cores reach and nothing else, and each of the secure domain's disks tables that map what it is to read and write;
//! every other stream is stopped. What is stopped is told in the event
//! queue, of which [`Smmu::notice`] makes something readable.
//!
//! There is no machine in here: registers are reached through [`Registers`], the tables and queues through [`Memory`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod command;
pub mod driver;
pub mod fault;
pub mod features;
mod ring;
pub mod stream;

#[cfg(test)]
mod model;

pub use driver::{Error, Notice, Smmu, stop};
pub use fault::{Cause, Fault};
pub use features::Features;
pub use stream::{Share, Translation};

/// The register frames of an SMMU: page 0, and page 1 64 KiB above it (IHI 0070, section 6.1).
pub trait Registers {
    /// Reads 32 bits at `offset`.
    fn read32(&self, offset: usize) -> u32;
    /// Writes 32 bits at `offset`.
    fn write32(&self, offset: usize, value: u32);
    /// Writes 64 bits at `offset`.
    fn write64(&self, offset: usize, value: u64);
}

/// Second-level stream tables that a [`Memory`] has.
pub const TABLES: usize = 4;

/// What an SMMU and its driver share in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first-level stream table: [`stream::DIRECTORY_WORDS`] words.
    Directory,
    /// A second-level table, below [`TABLES`]: [`stream::TABLE_WORDS`] words.
    Table(usize),
    /// The command queue: [`driver::QUEUE_WORDS`] words.
    Commands,
    /// The event queue: as many.
    Events,
}

/// Memory that the SMMU sees as its driver writes it: 64-bit words, little-endian, in no cache. Each part begins at a multiple of its size
/// and is zero at first.
pub trait Memory {
    /// Where `part` begins, as the SMMU addresses it.
    fn address(&self, part: Part) -> u64;
    /// Reads a word of `part`.
    fn read(&self, part: Part, word: usize) -> u64;
    /// Writes one.
    fn write(&mut self, part: Part, word: usize, value: u64);
    /// Completes every access to memory and registers before any that follows.
    fn barrier(&self);
}
