//! The contract between EL2 and the secure domain: hypercalls, the shared page, error codes.
//!
//! Two directions, two means. *Secure domain to EL2* goes through registers alone ([`hypercall`]): EL2 never reads memory
//! that the secure domain can write, with one harmless exception, the [`SharedPage::events`] word. *EL2 to secure domain* goes
//! through the [`SharedPage`], so that a doorbell costs the secure domain a load and no trap.
//!
//! Version 3. A change of anything here raises [`VERSION`]; EL2 refuses a secure domain of another version at
//! [`hypercall::Function::Version`].
#![no_std]
#![forbid(unsafe_code)]

pub mod hypercall;
pub mod shared;

pub use hypercall::{Error, Function};
pub use shared::{DeviceView, Event, QueueView, SharedPage};

/// The version of this contract.
pub const VERSION: u64 = 3;

/// Virtual devices that the secure domain can serve.
pub const DEVICES: usize = 8;

/// Queues of one virtual device.
pub const QUEUES: usize = 8;

/// Physical interrupt lines that the secure domain can own; line *n* is reported as [`Event::irq`]`(n)`.
pub const IRQ_LINES: usize = 8;
