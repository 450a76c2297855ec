//! Tests of the whole engine, over disks and an anchor in memory.

mod crash;
mod epochs;
mod faults;
mod host;
mod model;
mod refusal;
mod ring;
mod serving;
mod world;
