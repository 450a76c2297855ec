//! The console: one physical UART, the multiplexer, the general domain's virtual PL011, and the hypervisor's own lines.

use core::fmt::{self, Write};

use aarch64::pl011::Pl011 as PhysicalPl011;
use aarch64::time;
use console::{Keyboard, Mux, Pl011, Speaker};
use spin::Mutex;

/// Everything behind the one lock of the console.
pub struct Console {
    uart: Option<PhysicalPl011>,
    mux: Mux,
    /// The UART that the general domain believes it has.
    pub guest: Pl011,
    /// Takes EL2's own keys out of the input.
    pub keyboard: Keyboard,
}

/// The console.
pub static CONSOLE: Mutex<Console> =
    Mutex::new(Console { uart: None, mux: Mux::new(), guest: Pl011::new(), keyboard: Keyboard::new() });

impl Console {
    /// From here on output appears on `uart`.
    pub fn connect(&mut self, uart: PhysicalPl011) {
        self.uart = Some(uart);
    }

    /// The physical UART, once known.
    pub fn uart(&self) -> Option<PhysicalPl011> {
        self.uart
    }

    /// Gives `bytes` of `speaker` to the multiplexer.
    pub fn push(&mut self, speaker: Speaker, bytes: &[u8]) {
        let Console { uart, mux, .. } = self;
        if speaker == Speaker::Secure {
            mux.set_time(time::milliseconds());
        }
        mux.push(speaker, bytes, &mut |byte| {
            if let Some(uart) = uart {
                uart.send(byte);
            }
        });
    }

    /// Lines of the secure domain that were left out and not told yet.
    pub fn dropped(&self) -> u64 {
        self.mux.dropped()
    }

    /// Prints what `speaker` has said of an unfinished line.
    pub fn flush(&mut self, speaker: Speaker) {
        let Console { uart, mux, .. } = self;
        mux.flush(speaker, &mut |byte| {
            if let Some(uart) = uart {
                uart.send(byte);
            }
        });
    }
}

/// The hypervisor's own voice, to be formatted into.
pub struct Voice<'a>(pub &'a mut Console);

impl Write for Voice<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push(Speaker::Hypervisor, text.as_bytes());
        Ok(())
    }
}

/// Prints one line of the hypervisor.
#[cold]
#[inline(never)]
pub fn line(arguments: fmt::Arguments<'_>) {
    // Writing to the console cannot fail, and nobody could be told.
    let _ = writeln!(Voice(&mut CONSOLE.lock()), "{arguments}");
}

/// Prints one line although the lock may be held by whoever just broke: for the last words before a stop.
#[cold]
#[inline(never)]
pub fn last_line(arguments: fmt::Arguments<'_>) {
    match CONSOLE.try_lock() {
        Some(mut console) => drop(writeln!(Voice(&mut console), "{arguments}")),
        None => raw_line(arguments),
    }
}

/// The UART of the last words: set with the console's, read without its lock.
static RAW: spin::Once<PhysicalPl011> = spin::Once::new();

/// Makes `uart` the place for lines that cannot wait for the lock.
pub fn set_raw(uart: PhysicalPl011) {
    RAW.call_once(|| uart);
}

struct Raw(PhysicalPl011);

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.0.send(byte));
        Ok(())
    }
}

fn raw_line(arguments: fmt::Arguments<'_>) {
    if let Some(uart) = RAW.get() {
        let _ = write!(Raw(*uart), "\r\n[haechi] {arguments}\r\n");
    }
}

/// Prints one line of the hypervisor: `log!("stage 1 is {state}")`.
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
pub(crate) use log;
