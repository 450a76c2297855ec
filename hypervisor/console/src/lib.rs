//! The shared console: virtual PL011, the multiplexer of domains' lines, and the escape key.
//!
//! One physical UART serves three speakers. The general domain believes that it has it alone: its [`Pl011`] is a model whose
//! transmitted bytes go through the [`Mux`] unchanged. The secure domain and the hypervisor speak in whole lines with a
//! prefix, the secure domain no more of them than a bound. Keys go to the general domain, except those after the escape key, which [`Keyboard`] takes out.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod keyboard;
mod limit;
mod mux;
mod pl011;

pub use keyboard::{Command, ESCAPE, Input, Keyboard};
pub use limit::{BURST, INTERVAL_MS};
pub use mux::{LINE_BYTES, Mux, Speaker};
pub use pl011::{Effect, FIFO_BYTES, Pl011, offset};
