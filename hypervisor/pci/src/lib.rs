//! virtio over PCI at EL2: emulated functions behind an emulated configuration space.
//!
//! The general domain sees a bus of its own with one function for each virtual device. Nothing of it exists: there is no bridge, no
//! bus and no transaction, only registers, so every access is answered here and at once, whatever its width and alignment.
//!
//! ```text
//!     configuration space    bus     which function; where its registers are
//!     function               function identification, command, BAR, the list of capabilities
//!     BAR page 0             common  common configuration, ISR status, device configuration
//!     BAR page 1             function the doorbell
//!     BAR pages 2 and 3      msix    the MSI-X table and the pending bits
//! ```
//!
//! **One state machine.** Status, features, queues, reset and notification are those of [`channel::Device`]; `common` puts each field of
//! the common configuration into its terms, and keeps none of them. One rule differs: a store of 0 to `device_status` is done at once, since a PCI driver
//! waits until it reads 0 (virtio 1.2, section 4.1.4.3.2), which it does when the backend has confirmed.
//!
//! **Messages are virtual.** A message is what its function's driver wrote: an address and a value. Nothing is ever stored there: EL2
//! compares the address with the one register of the virtual interrupt controller that takes messages, and drops what goes elsewhere.
//!
//! Sources: Virtual I/O Device (VIRTIO) Version 1.2, section 4.1; PCI Local Bus Specification 3.0, sections 6.1 to 6.8; PCI Express Base
//! Specification, enhanced configuration access mechanism.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bus;
mod bytes;
mod common;
mod function;
#[cfg(test)]
mod model;
mod msix;

pub use bus::{Bus, CONFIGURATION_BYTES, FUNCTIONS, Place, place};
pub use function::{Access, BAR_BYTES, Behind, Function};
pub use msix::{Message, VECTORS};
