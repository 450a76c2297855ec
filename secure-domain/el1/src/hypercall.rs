//! Calls to EL2 ([`abi::hypercall`]).

use core::arch::asm;
use core::fmt;

use abi::Function;
use abi::hypercall::{Failure, LOG_BYTES, NO_DEADLINE};

/// Calls `function`; returns `x0` (0 or an error) and `x1`.
///
/// `HVC` is also the barrier that the shared rings need: EL2 is entered by an exception, which completes nothing by itself, so
/// the DSB makes what was written before the call visible to whoever the call wakes.
fn call(function: Function, arguments: [u64; 7]) -> (i64, u64) {
    let [x1, x2, x3, x4, x5, x6, x7] = arguments;
    let mut x0 = u64::from(function as u32);
    let mut out = x1;
    // SAFETY: EL2 changes x0 and x1 only, and none of our memory but the shared page, which is made of atomics.
    unsafe {
        asm!(
            "dsb ish",
            "hvc #0",
            inout("x0") x0, inout("x1") out, in("x2") x2, in("x3") x3, in("x4") x4, in("x5") x5, in("x6") x6, in("x7") x7,
            options(nostack),
        );
    }
    (x0 as i64, out)
}

/// Calls `function` with up to five arguments, where an error would be a defect of ours.
fn command(function: Function, arguments: [u64; 5]) {
    let [x1, x2, x3, x4, x5] = arguments;
    let (result, _) = call(function, [x1, x2, x3, x4, x5, 0, 0]);
    assert!(result == 0, "EL2 refused {function:?}: {result}");
}

/// The version of the contract that EL2 keeps.
pub fn version() -> u64 {
    call(Function::Version, [0; 7]).1
}

/// Sleeps until an event is set; [`abi::Event::TIME`] is when the physical counter reaches `deadline`, and [`abi::Event::IDLE`], if
/// `when_idle`, when the general domain has nothing to do.
pub fn wait(deadline: Option<u64>, when_idle: bool) {
    command(Function::Wait, [deadline.unwrap_or(NO_DEADLINE), when_idle.into(), 0, 0, 0]);
}

/// Initialisation is done: the general domain may start.
pub fn ready() {
    command(Function::Ready, [0; 5]);
}

/// Sets the configuration space of device `index`.
pub fn set_config(index: usize, config: &[u32]) {
    for (word, value) in config.iter().enumerate() {
        command(Function::Config, [index as u64, 4 * word as u64, u64::from(*value), 0, 0]);
    }
}

/// Sets the configuration space of device `index`, then offers it.
pub fn attach(index: usize, device_id: u32, features: u64, queues: usize, queue_size: u16, config: &[u32]) {
    set_config(index, config);
    command(Function::Attach, [index as u64, device_id.into(), features, queues as u64, queue_size.into()]);
}

/// Used-buffer notification to the driver of device `index`.
pub fn interrupt(index: usize) {
    command(Function::Interrupt, [index as u64, 0, 0, 0, 0]);
}

/// Device `index` has dropped every request: the driver's reset may complete. EL2 denies it where no reset is under way, as
/// when a driver has given up without one.
pub fn reset_done(index: usize) {
    call(Function::ResetDone, [index as u64, 0, 0, 0, 0, 0, 0]);
}

/// Device `index` cannot go on without a reset by its driver.
pub fn needs_reset(index: usize) {
    command(Function::NeedsReset, [index as u64, 0, 0, 0, 0]);
}

/// Configuration change notification to the driver of device `index`, whose words [`set_config`] has set.
pub fn config_changed(index: usize) {
    command(Function::ConfigChanged, [index as u64, 0, 0, 0, 0]);
}

/// The interrupt of `line` has been served.
pub fn irq_done(line: usize) {
    command(Function::IrqDone, [line as u64, 0, 0, 0, 0]);
}

/// Everything acknowledged is on stable storage.
pub fn quiesced() {
    command(Function::Quiesced, [0; 5]);
}

/// Gives up; the reason has been logged.
pub fn fail(failure: Failure) -> ! {
    loop {
        call(Function::Fail, [failure as u64, 0, 0, 0, 0, 0, 0]);
    }
}

/// The console as a place to format into: each [`LOG_BYTES`] one hypercall. A newline ends a line.
pub struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.as_bytes().chunks(LOG_BYTES) {
            let mut bytes = [0; LOG_BYTES];
            bytes[..piece.len()].copy_from_slice(piece);
            let mut arguments = [piece.len() as u64, 0, 0, 0, 0, 0, 0];
            for (argument, word) in arguments[1..].iter_mut().zip(bytes.as_chunks::<8>().0) {
                *argument = u64::from_le_bytes(*word);
            }
            call(Function::Log, arguments);
        }
        Ok(())
    }
}
