//! Tests of the whole engine, over disks and an anchor in memory.

mod crash;
mod degraded;
mod epochs;
mod faults;
mod full_log;
mod idle;
mod marks;
mod members;
mod model;
mod module;
mod refusal;
mod ring;
mod serving;
mod tables;
mod wanted;
mod world;
