//! Interrupts: one's own arrive, another's cannot be touched.

use core::arch::asm;

use crate::access::{read32, write32};
use crate::gic;
use crate::probe::Probe;
use crate::tree;

/// The virtual timer's PPI (BSA, Arm DEN 0094).
const VIRTUAL_TIMER: u32 = 27;
/// An SGI that nobody else uses.
const SGI: u32 = 5;
/// The interrupt of QEMU's last virtio-mmio transport, which the secure domain owns.
const STORAGE_INTID: u32 = 79;
/// Spurious wake-ups that WFI may have before the timer's.
const WAKE_UPS: u32 = 10_000;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(frames) = probe.machine.gic else {
        return probe.report.note("no GICv3: class interrupts is left out");
    };
    gic::start(&frames);
    others_interrupt_is_out_of_reach(probe, frames.distributor.base);
    gic::start(&frames);
    gic::enable_private(&frames, SGI);
    gic::send_sgi(SGI, own_target());
    probe.report.equal("sgi_to_self", SGI.into(), gic::take().into());
    gic::send_sgi(SGI, 0x00ff_00ff_00fe_ffff);
    probe.report.case("sgi_to_cores_that_are_not", "ignored", "ignored", true);
    gic::enable_private(&frames, VIRTUAL_TIMER);
    let woken = sleep(10);
    probe.report.case("wfi_until_timer", "woken", if woken { "woken" } else { "asleep" }, woken);
    probe.report.equal("timer_interrupt", VIRTUAL_TIMER.into(), gic::take().into());
    stop_timer();
    gic::start(&frames);
}

fn others_interrupt_is_out_of_reach(probe: &mut Probe<'_>, distributor: usize) {
    let intid = tree::word(probe.bootargs, "probe.intid").and_then(|word| word.parse().ok()).unwrap_or(STORAGE_INTID);
    let (word, bit) = (4 * (intid as usize / 32), 1 << (intid % 32));
    for (name, register) in [("enable", gic::GICD_ISENABLER), ("pend", gic::GICD_ISPENDR)] {
        write32(distributor + register + word, bit);
        let got = read32(distributor + register + word) & bit;
        probe.report.equal(format_args!("{name}_storage_interrupt_{intid}"), 0, got.into());
    }
}

/// `ICC_SGI1R_EL1` for this core alone.
pub(crate) fn own_target() -> u64 {
    let mpidr = aarch64::read_sysreg!("mpidr_el1");
    (mpidr >> 32 & 0xff) << 48 | (mpidr >> 16 & 0xff) << 32 | (mpidr >> 8 & 0xff) << 16 | 1 << (mpidr & 0xf)
}

/// Ticks of the virtual counter.
pub(crate) fn now() -> u64 {
    aarch64::read_sysreg!("cntvct_el0")
}

/// Ticks in `milliseconds`.
pub(crate) fn ticks(milliseconds: u64) -> u64 {
    aarch64::read_sysreg!("cntfrq_el0") / 1000 * milliseconds
}

/// Sleeps in WFI until the virtual timer fires; false if it never did.
fn sleep(milliseconds: u64) -> bool {
    let deadline = now() + ticks(milliseconds);
    // SAFETY: the virtual timer is the probe's own; its interrupt stays masked at the core and wakes WFI all the same.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) deadline, in(reg) 1_u64, options(nostack));
    }
    let fired = |_: &u32| {
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack)) };
        aarch64::read_sysreg!("cntv_ctl_el0") & 0b100 != 0
    };
    (0..WAKE_UPS).find(fired).is_some()
}

fn stop_timer() {
    // SAFETY: the probe's own timer.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack)) };
}
