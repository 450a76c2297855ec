//! Stopping a storage controller, so that it writes no memory any more: before that memory gets new contents.
//!
//! Such a controller is behind no system MMU to cut it off with, so it is asked itself. A device that has answered a reset touches no
//! queue and no buffer until it is set up again (virtio 1.2, section 2.4).

use aarch64::mmio::Mmio;

/// `Status` of a virtio-mmio device (virtio 1.2, section 4.2.2).
const STATUS: usize = 0x070;
/// Times that the answer to a reset is looked for. Emulators answer at once.
const ATTEMPTS: usize = 10_000;

/// The controllers of `virtio,mmio` type that a domain drives.
pub const COMPATIBLE: &str = "virtio,mmio";

/// Resets the virtio-mmio device with these registers. Returns whether it has answered.
#[must_use]
pub fn stop(registers: &Mmio) -> bool {
    registers.write32(STATUS, 0);
    (0..ATTEMPTS).any(|_| registers.read32(STATUS) == 0)
}
