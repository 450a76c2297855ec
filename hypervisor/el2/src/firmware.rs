//! Calls to the firmware at EL3 (SMC Calling Convention, Arm DEN 0028).

use core::arch::asm;

use aarch64_cpu::asm::barrier;

/// Calls firmware function `id` and returns `x0`.
///
/// # Safety
/// The call must not take away what this program runs on (for example reset the machine under a write that must land), and a
/// function that starts code elsewhere must be given code that is sound to start.
pub unsafe fn call(id: u32, arguments: [u64; 3]) -> i64 {
    let mut x0 = u64::from(id);
    // SAFETY: the SMCCC preserves everything but x0..x17; the rest is the caller's contract.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0, inout("x1") arguments[0] => _, inout("x2") arguments[1] => _, inout("x3") arguments[2] => _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _,
            out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    x0 as i64
}

/// Waits until an interrupt is pending (it stays pending: EL2 runs with interrupts masked).
pub fn wait_for_interrupt() {
    // Earlier writes complete first, so that nobody waits for what we have not published.
    barrier::dsb(barrier::SY);
    aarch64_cpu::asm::wfi();
}
