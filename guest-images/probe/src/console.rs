//! The console: a PL011, polled.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::access;

const DR: usize = 0x00;
const LCR_H: usize = 0x2c;
const CR: usize = 0x30;
const IMSC: usize = 0x38;

/// Address of the UART; 0 until the device tree has told it.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// The console, once [`start`] has run; mute before.
pub(crate) struct Console;

/// Enables the UART at `base`, also after it has been mistreated.
pub(crate) fn start(base: usize) {
    for (register, value) in [(IMSC, 0), (LCR_H, 0x70), (CR, 0x301)] {
        access::write32(base + register, value);
    }
    BASE.store(base, Ordering::Relaxed);
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let base = BASE.load(Ordering::Relaxed);
        for byte in text.bytes().filter(|_| base != 0) {
            if byte == b'\n' {
                access::write32(base + DR, b'\r'.into());
            }
            access::write32(base + DR, byte.into());
        }
        Ok(())
    }
}
