//! The storage simulator: a seeded world of guest, disks, anchor and adversary that judges the volume engine.
#![forbid(unsafe_code)]

pub mod content;
pub mod disk;
pub mod fault;
pub mod media;
pub mod model;
pub mod power;
pub mod rng;
pub mod store;
