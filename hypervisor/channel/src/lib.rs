//! virtio transport at EL2: register file in the layout of virtio-mmio, doorbells, interrupt status.
//!
//! The register file lives here and not in the backend, so that a driver's access never waits for the secure domain, which
//! may be absent, restarting or hostile. Reads cost nothing: the general domain maps the register page read-only and reads
//! plain memory, which a [`Device`] keeps right at all times through [`RegisterPage`]. Writes trap to EL2 and come to
//! [`Device::write`]; the [`Effect`] says what EL2 must do next.
//!
//! One write waits for the backend after all: a reset of a device that the backend has worked on. virtio-mmio drivers write
//! 0 to `Status` and go on at once, freeing the memory of their rings; so that store must not retire before the backend has
//! dropped every request. EL2 gets [`Effect::ResetRequested`] or [`Effect::ResetPending`], leaves the guest's program
//! counter where it is, lets other work run (the guest's interrupts too), and replays the store until it answers
//! [`Effect::None`], which it does after [`Device::reset_done`] or [`Device::backend_stopped`].
//!
//! A device on PCI is the same state machine in other registers (crate `pci`), which read what the page holds and what
//! [`Device::written`] tells.
//!
//! Sources: Virtual I/O Device (VIRTIO) Version 1.2, sections 2.1 (status), 2.2 (features), 3.1 (initialisation) and 4.2
//! (virtio over MMIO, register layout version 2).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod device;
#[cfg(test)]
mod model;
mod queue;
mod registers;
mod view;

pub use device::{AttachError, Device, Effect, Offer};
pub use registers::{CONFIG_BYTES, RegisterPage, features, offset, status};
pub use view::ring_doorbell;
