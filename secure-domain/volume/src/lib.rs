//! SV1: sealed volumes over a pool of disks: on-disk format and engine.
//!
//! The walk of a write: `service.rs` takes it from the ring; `pool/issue.rs` cuts it into runs, takes fresh versions and copies
//! the payload once; `pool/batch.rs` seals 16 blocks at a time with `seal.rs`; `pool/log.rs` commits the new entries to the log;
//! `pool/data.rs` writes the data in place and puts the entries into `pool/cache.rs`; `service.rs` answers through the used ring.
//! Later `pool/checkpoint.rs` carries the entries over into the hash tree. `pool/mount.rs` and `pool/recover.rs` are the way back
//! from a disk to a pool. The format is `docs/volume-format.md`; its records are in `record/`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
mod company;
mod error;
pub mod operation;
pub mod pool;
pub mod record;
pub mod seal;
pub mod service;
#[cfg(test)]
mod tests;
pub mod wanted;

pub use block::BLOCK_BYTES;
pub use error::{Error, Event};
pub use operation::{Command, Done, Fault, Full, Layout, Name, Operation, POOL, Refusal, Status, Transfer, VolumeInfo};
pub use pool::{
    FormatOptions, Options, Policy, Pool, Random, RandomFailed, Recovery,
    mount::{format, mount},
};
pub use service::{Outcome, Server};
