//! What brought each core to EL2 last: a ring of records and a histogram, written at every exit and read by a host.
//!
//! A record is two words, so that writing one costs a dozen instructions:
//!
//! ```text
//!     word 0   ticks of the system counter
//!     word 1   reason (63:56)   detail (55:0), whose meaning is the reason's
//! ```
//!
//! EL2 tells them on its console as hexadecimal digits ([`Telling`]), a few records a line; [`Told`] reads such lines out of a
//! log, whatever else stands there, and a [`Record`] says in words what it was. A panic leaves the ring of its core in [`Last`], a page that
//! survives a reset, for the next boot to tell.
#![no_std]
#![forbid(unsafe_code)]

mod last;
mod record;
mod ring;
mod told;

pub use last::{LAST_BYTES, Last, Stop};
pub use record::{Reason, Record};
pub use ring::{RECORDS, Ring};
pub use told::{Telling, Told};
