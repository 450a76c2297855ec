//! Calls to the firmware at EL3: PSCI (Arm DEN 0022) over the SMC Calling Convention (Arm DEN 0028).

use core::arch::asm;

use aarch64_cpu::asm::barrier;

use crate::boot::{MAX_CORES, secondary_entry};

const PSCI_VERSION: u32 = 0x8400_0000;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON: u32 = 0xc400_0003;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const PSCI_FEATURES: u32 = 0x8400_000a;
const SYSTEM_RESET2: u32 = 0xc400_0012;

/// `ALREADY_ON` (DEN 0022, section 5.2.2).
pub const ALREADY_ON: i64 = -4;

/// Turns the machine off; returns only if the firmware refuses.
pub fn system_off() -> i64 {
    call(SYSTEM_OFF, [0; 3])
}

/// Resets the machine; returns only if the firmware refuses.
pub fn system_reset() -> i64 {
    call(SYSTEM_RESET, [0; 3])
}

/// Starts the core with `affinity` in `_secondary_start` as core `index`, whose stack must not be in use: the core is off.
/// Returns the firmware's answer, 0 for success; it refuses a core that is on.
pub fn cpu_on(affinity: u64, index: usize) -> i64 {
    assert!(index < MAX_CORES);
    call(CPU_ON, [affinity, secondary_entry(), index as u64])
}

/// Turns this core off; returns only if the firmware refuses.
pub fn cpu_off() -> i64 {
    call(CPU_OFF, [0; 3])
}

/// Resets the machine keeping its memory, if the firmware can; returns only if it refuses.
pub fn system_warm_reset() -> i64 {
    call(SYSTEM_RESET2, [0; 3])
}

/// Whether the firmware can reset the machine keeping its memory (`SYSTEM_RESET2`).
pub fn has_warm_reset() -> bool {
    let version = call(PSCI_VERSION, [0; 3]);
    version >= 0x1_0000 && call(PSCI_FEATURES, [SYSTEM_RESET2.into(), 0, 0]) as i32 >= 0
}

/// Asks the firmware for `function`, which `psci::Firmware` or its caller knows to change nothing of the machine but this core's
/// mitigations; `x0` to `x3` of the answer.
pub fn ask(function: u32, argument: u64) -> [u64; 4] {
    call_all(function, [argument, 0, 0])
}

/// Calls a function for its `x0`.
fn call(id: u32, arguments: [u64; 3]) -> i64 {
    call_all(id, arguments)[0] as i64
}

/// Calls one of the functions above and returns `x0` to `x3`. What was written before is observable by whoever runs afterwards.
fn call_all(id: u32, arguments: [u64; 3]) -> [u64; 4] {
    barrier::dsb(barrier::SY);
    let (mut x0, [mut x1, mut x2, mut x3]) = (u64::from(id), arguments);
    // SAFETY: the SMCCC preserves everything but x0..x17. Of the functions used, CPU_ON alone starts code: ours, with tables
    // and a stack of its own; the others answer, or end what runs, and nothing of ours is lost with it that was not written before.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _,
            out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3]
}

/// Waits until an interrupt is pending (it stays pending: EL2 runs with interrupts masked). Earlier writes complete first, so
/// that nobody waits for what has not been published.
pub fn wait_for_interrupt() {
    barrier::dsb(barrier::SY);
    aarch64_cpu::asm::wfi();
}
