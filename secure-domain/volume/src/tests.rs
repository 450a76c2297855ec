//! The volume end to end: a driver posts through a real ring, a disk completes out of order, a plain model knows what must
//! come back.

pub(crate) mod audit;
mod crash;
mod format;
mod model;
mod refusal;
mod ring;
mod world;
