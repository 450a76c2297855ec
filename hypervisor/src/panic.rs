//! Stops: for a machine that cannot be served, and for a broken invariant of our own.

use core::fmt;
use core::panic::PanicInfo;

use el2::firmware;

use crate::log;

/// Says why Haechi cannot go on and turns the machine off, so that nobody waits for it. Nothing has been written to a disk.
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

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(format_args!("defect in the hypervisor: {info}"))
}

/// An exception that EL2 took from itself (`el2::guest`).
#[unsafe(no_mangle)]
extern "C" fn el2_unexpected_exception(kind: u64, esr: u64, elr: u64, far: u64) -> ! {
    let image = aarch64::image::sections().text.start as u64;
    stop(format_args!(
        "exception {kind} of the hypervisor at image+{:#x}: ESR {esr:#x}, FAR {far:#x}",
        elr.wrapping_sub(image)
    ))
}
