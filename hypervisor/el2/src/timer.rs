//! The hypervisor's own timer (CNTHP): it ends a slice of the secure domain and wakes it when it has waited long enough.

use aarch64::write_sysreg;
use aarch64_cpu::registers::CNTHP_CTL_EL2;
use tock_registers::interfaces::Writeable;

/// Private peripheral interrupt of the non-secure EL2 physical timer (BSA, Arm DEN 0094, section 3.6).
pub const INTID: u32 = 26;

/// Fires after `ticks` of the counter.
pub fn start(ticks: u64) {
    // SAFETY: the timer only raises its interrupt, which EL2 handles.
    unsafe { write_sysreg!("cnthp_tval_el2", ticks.min(i32::MAX as u64)) };
    CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::SET);
}

/// Fires no more.
pub fn stop() {
    CNTHP_CTL_EL2.set(0);
}
