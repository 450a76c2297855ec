//! Stops: for a machine that cannot be served, and for a broken invariant of our own.
//!
//! A defect leaves a record in a page that the image does not clear, and resets the machine, whose next boot tells of it ([`trace::Last`]) where
//! the reset has kept memory. If that happens again and again, the machine is turned off instead.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64::time;
use el2::{firmware, last};
use trace::{LAST_BYTES, Last, Stop, Telling};

use crate::log::{self, log};
use crate::{cpu, exits, system};

/// Defects in a row, each soon after the boot that the one before has caused.
const MOST_IN_A_ROW: u64 = 3;
/// A boot that has lasted this long is not in a row with the stop before it, in microseconds.
const SOON_US: u64 = 60_000_000;
/// Records of the stopped core that the next boot tells.
const TOLD: usize = 16;

/// Says why Haechi cannot go on and turns the machine off, so that nobody waits for it. Nothing has been written to a disk,
/// but where a core of the secure domain's own does not start, which is the last step: then it is as after a power cut.
#[cold]
#[inline(never)]
pub fn stop(reason: fmt::Arguments<'_>) -> ! {
    log::last_line(format_args!("stopped: {reason}"));
    off()
}

/// Turns the machine off; stays if the firmware will not.
pub fn off() -> ! {
    firmware::system_off();
    loop {
        firmware::wait_for_interrupt();
    }
}

/// Stops in a row before this boot, and when this boot began, in ticks.
static STOPS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Tells of the stop that ended the boot before this one, if one did.
pub fn tell_last_stop() {
    let page = last::read();
    let told = Last::read(&page);
    STOPS[0].store(told.map_or(0, |stop| stop.in_a_row()), Ordering::Relaxed);
    STOPS[1].store(time::counter(), Ordering::Relaxed);
    if let Some(stop) = told {
        log!("last stop, {} in a row: {}", stop.in_a_row(), stop.text().as_bytes().escape_ascii());
        let telling = Telling { ring: &stop.ring(), core: 0, hertz: time::frequency_hz(), most: TOLD };
        log!("it was preceded by\n{telling}");
        last::write(&[0; LAST_BYTES]);
    }
}

/// A defect of ours: tells of it, keeps it for the next boot, and boots again.
fn defect(reason: fmt::Arguments<'_>) -> ! {
    log::last_line(format_args!("stopped: {reason}"));
    let now = time::counter();
    let [before, booted] = [&STOPS[0], &STOPS[1]].map(|stop| stop.load(Ordering::Relaxed));
    let in_a_row = if now - booted > time::ticks(SOON_US) { 1 } else { before.saturating_add(1) };
    let mut text = Text { bytes: [0; TEXT_BYTES], len: 0 };
    // What is too long is cut.
    let _ = write!(text, "{reason}");
    let mut page = [0; LAST_BYTES];
    Stop { in_a_row, ticks: now, text: text.as_str() }
        .write(system::index_of(cpu::affinity()).map(exits::of), &mut page);
    last::write(&page);
    if in_a_row < MOST_IN_A_ROW {
        if firmware::has_warm_reset() {
            let _ = firmware::system_warm_reset();
        }
        let _ = firmware::system_reset();
    }
    off()
}

/// Bytes of a reason that are kept.
const TEXT_BYTES: usize = 1024;

/// A reason in memory of its own: whoever fails may hold every lock.
struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Text {
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("(not text)")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.floor_char_boundary(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defect(format_args!("defect in the hypervisor: {info}"))
}

/// An exception that EL2 took from itself (`el2::guest`).
#[unsafe(no_mangle)]
extern "C" fn el2_unexpected_exception(kind: u64, esr: u64, elr: u64, far: u64) -> ! {
    let image = aarch64::image::sections().text.start as u64;
    defect(format_args!(
        "exception {kind} of the hypervisor at image+{:#x}: ESR {esr:#x}, FAR {far:#x}",
        elr.wrapping_sub(image)
    ))
}
