//! The physical counter and the barriers that waiting needs.

use core::arch::asm;

/// Ticks of the system counter since reset, read no earlier than program order says.
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads the counter; the ISB keeps the read from being done early (DDI 0487 D12.1.2).
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks of the counter per second.
pub fn frequency_hz() -> u64 {
    crate::read_sysreg!("cntfrq_el0")
}

/// Ticks in `microseconds`, saturating.
pub fn ticks(microseconds: u64) -> u64 {
    frequency_hz().saturating_mul(microseconds) / 1_000_000
}
