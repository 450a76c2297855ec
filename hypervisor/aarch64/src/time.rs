//! The physical counter.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use tock_registers::interfaces::Readable;

/// Ticks of the system counter since reset, read no earlier than program order says (DDI 0487 D12.1.2).
pub fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTPCT_EL0.get()
}

/// Ticks of the system counter about now: earlier or later instructions may be done before it is read.
#[inline(always)]
pub fn counter_about_now() -> u64 {
    CNTPCT_EL0.get()
}

/// Ticks of the counter per second.
pub fn frequency_hz() -> u64 {
    CNTFRQ_EL0.get()
}

/// Ticks in `microseconds`, saturating.
pub fn ticks(microseconds: u64) -> u64 {
    frequency_hz().saturating_mul(microseconds) / 1_000_000
}

/// The microseconds of `ticks` of the counter.
pub fn microseconds(ticks: u64) -> u64 {
    let hertz = frequency_hz().max(1);
    ticks / hertz * 1_000_000 + ticks % hertz * 1_000_000 / hertz
}

/// The counter in milliseconds since reset.
pub fn milliseconds() -> u64 {
    counter() / (frequency_hz() / 1000).max(1)
}
