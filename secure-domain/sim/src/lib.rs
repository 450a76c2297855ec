//! The storage simulator: a seeded world of guest, disks, anchor and adversary that judges the volume engine.
#![forbid(unsafe_code)]

pub mod audit;
pub mod campaign;
pub mod config;
pub mod content;
pub mod disk;
pub mod exhaustive;
pub mod fault;
pub mod gate;
pub mod media;
pub mod model;
pub mod payload;
pub mod power;
pub mod rng;
pub mod step;
pub mod store;
pub mod tally;
pub mod tamper;
pub mod world;
