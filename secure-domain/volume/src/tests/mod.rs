//! Tests of the whole engine, over disks and an anchor in memory.

mod crash;
mod model;
mod refusal;
mod serving;
mod world;
