//! The GICv3 as the probe uses it (Arm IHI 0069): interrupts stay masked at the core and are polled.

use core::arch::asm;

use crate::access::{read32, write32};
use crate::tree::GicFrames;

/// Distributor registers.
pub(crate) const GICD_CTLR: usize = 0x0000;
/// Set-enable, a bit per INTID.
pub(crate) const GICD_ISENABLER: usize = 0x0100;
const GICD_ICENABLER: usize = 0x0180;
/// Set-pending, a bit per INTID.
pub(crate) const GICD_ISPENDR: usize = 0x0200;
const GICD_ICPENDR: usize = 0x0280;
const GICD_ICACTIVER: usize = 0x0380;
const GICR_WAKER: usize = 0x0014;
/// The SGI frame of a redistributor.
pub(crate) const SGI_BASE: usize = 0x1_0000;
const GICD_IGROUPR: usize = 0x0080;
const GICR_ISENABLER0: usize = SGI_BASE + 0x100;
const GICR_IPRIORITYR: usize = SGI_BASE + 0x400;

/// INTIDs of SPIs that are disabled again, in words of 32.
const SPI_WORDS: usize = 32;
/// How often a register is polled.
const POLLS: u32 = 100_000;

/// ARE and both groups; bits that a view does not have are ignored.
const CTLR: u32 = 0b1_0011;

/// Brings the GIC of this core into use from any state that writes can leave it in, with nothing enabled.
pub(crate) fn start(gic: &GicFrames) {
    let (distributor, redistributor) = (gic.distributor.base, gic.redistributors.base);
    for word in 0..SPI_WORDS {
        let base = if word == 0 { redistributor + SGI_BASE } else { distributor };
        for register in [GICD_ICENABLER, GICD_ICPENDR, GICD_ICACTIVER] {
            write32(base + register + 4 * word, u32::MAX);
        }
        write32(base + GICD_IGROUPR + 4 * word, u32::MAX);
    }
    write32(distributor + GICD_CTLR, CTLR);
    write32(redistributor + GICR_WAKER, 0);
    let _ = (0..POLLS).find(|_| read32(redistributor + GICR_WAKER) & 0b100 == 0);
    for word in 0..8 {
        write32(redistributor + GICR_IPRIORITYR + 4 * word, 0x8080_8080);
    }
    // SAFETY: registers of the CPU interface; interrupts are masked in PSTATE.
    unsafe {
        asm!("msr s3_0_c12_c12_5, {sre}", "isb", // ICC_SRE_EL1
            "msr s3_0_c4_c6_0, {lowest}",        // ICC_PMR_EL1
            "msr s3_0_c12_c12_7, {one}",         // ICC_IGRPEN1_EL1
            "isb",
            sre = in(reg) 7_u64, lowest = in(reg) 0xff_u64, one = in(reg) 1_u64, options(nostack));
    }
}

/// Bytes of one core's redistributor.
const REDISTRIBUTOR_BYTES: usize = 0x2_0000;

/// Wakes the redistributor of another core, the one with this index, and enables a private interrupt there. Its CPU interface is its own to
/// turn on.
pub(crate) fn start_other(gic: &GicFrames, index: usize, intid: u32) {
    let redistributor = gic.redistributors.base + index * REDISTRIBUTOR_BYTES;
    write32(redistributor + GICR_WAKER, 0);
    let _ = (0..POLLS).find(|_| read32(redistributor + GICR_WAKER) & 0b100 == 0);
    write32(redistributor + SGI_BASE + GICD_IGROUPR, u32::MAX);
    write32(redistributor + GICR_IPRIORITYR + 4 * (intid as usize / 4), 0x8080_8080);
    write32(redistributor + GICR_ISENABLER0, 1 << intid);
}

/// Enables a private interrupt of this core.
pub(crate) fn enable_private(gic: &GicFrames, intid: u32) {
    write32(gic.redistributors.base + GICR_ISENABLER0, 1 << intid);
}

/// Takes and ends the highest pending interrupt: its INTID, 1023 if there is none.
pub(crate) fn take() -> u32 {
    let intid: u64;
    // SAFETY: acknowledging and ending an interrupt touches no memory.
    unsafe {
        asm!("mrs {intid}, s3_0_c12_c12_0", "dsb sy", "msr s3_0_c12_c12_1, {intid}", "isb", // ICC_IAR1_EL1, ICC_EOIR1_EL1
            intid = out(reg) intid, options(nostack));
    }
    intid as u32 & 0xff_ffff
}

/// Sends SGI `intid` to the cores of `ICC_SGI1R_EL1` value `targets`.
pub(crate) fn send_sgi(intid: u32, targets: u64) {
    let value = targets | u64::from(intid) << 24;
    // SAFETY: interrupts are masked here; what other cores make of it is what is tried.
    unsafe { asm!("msr s3_0_c12_c11_5, {}", "isb", in(reg) value, options(nostack)) };
}
