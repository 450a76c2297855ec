//! The interrupt controller as its programmer's model has it, GICv2 (Arm IHI 0048) or GICv3 (Arm IHI 0069), seen from this core.
//! Interrupts stay masked in PSTATE and are polled.

use core::arch::asm;

use crate::access::{load, read32, store, write32};
use crate::tree::{GicFrames, GicV2Frames, Machine};

/// Register arrays with a bit for each INTID.
pub(crate) mod bits {
    pub(crate) const GROUP: usize = 0x080;
    pub(crate) const SET_ENABLE: usize = 0x100;
    pub(crate) const CLEAR_ENABLE: usize = 0x180;
    pub(crate) const SET_PENDING: usize = 0x200;
    pub(crate) const CLEAR_PENDING: usize = 0x280;
    pub(crate) const SET_ACTIVE: usize = 0x300;
    pub(crate) const CLEAR_ACTIVE: usize = 0x380;
}

/// `GICD_CTLR`.
pub(crate) const CTLR: usize = 0x000;
/// `GICD_TYPER`.
pub(crate) const TYPER: usize = 0x004;
/// `GICD_IIDR`.
pub(crate) const IIDR: usize = 0x008;
/// `IPRIORITYR`.
pub(crate) const PRIORITY: usize = 0x400;
/// `GICD_ITARGETSR`.
pub(crate) const TARGETS: usize = 0x800;
/// `ICFGR`.
pub(crate) const CONFIG: usize = 0xC00;
const SGIR: usize = 0xF00;
/// `GICD_CPENDSGIR`.
pub(crate) const CLEAR_SGI: usize = 0xF10;
/// `GICD_SPENDSGIR`.
pub(crate) const SET_SGI: usize = 0xF20;
/// `GICD_IROUTER`.
pub(crate) const ROUTER: usize = 0x6000;

const SGI_BASE: usize = 0x1_0000;
const GICR_WAKER: usize = 0x0014;

const GICC_CTLR: usize = 0x00;
const GICC_PMR: usize = 0x04;
const GICC_BPR: usize = 0x08;
const GICC_IAR: usize = 0x0C;
const GICC_EOIR: usize = 0x10;
const GICC_RPR: usize = 0x14;
const GICC_HPPIR: usize = 0x18;
const GICC_DIR: usize = 0x1000;

/// How often a bit is polled that changes soon, such as `RWP`.
const POLLS: u32 = 100_000;

/// `SPI`s of the distributor, in words of 32, which a reset covers.
const WORDS: usize = 8;

/// Reads a system register of the CPU interface.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads of the CPU interface touch no memory; an acknowledged interrupt is polled for, not taken.
        unsafe { asm!(concat!("mrs {}, ", $register), "dsb sy", out(reg) value, options(nostack)) };
        value as u32
    }};
}

/// Writes one.
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = u64::from($value);
        // SAFETY: registers of the CPU interface; interrupts are masked in PSTATE.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Controller {
    /// Version 2.
    V2(GicV2Frames),
    /// Version 3, with the redistributor of the first core.
    V3(GicFrames),
}

impl Controller {
    /// The one that the device tree names.
    pub(crate) fn find(machine: &Machine) -> Option<Controller> {
        machine.gic.map(Controller::V3).or(machine.gic_v2.map(Controller::V2))
    }

    /// The distributor's address.
    pub(crate) fn distributor(&self) -> usize {
        match self {
            Controller::V2(frames) => frames.distributor.base,
            Controller::V3(frames) => frames.distributor.base,
        }
    }

    /// Where the register arrays are that hold `intid`.
    pub(crate) fn frame(&self, intid: u32) -> usize {
        match self {
            Controller::V3(frames) if intid < 32 => frames.redistributors.base + SGI_BASE,
            _ => self.distributor(),
        }
    }

    /// Everything off, inactive, not pending, in Group 1 (GICv2: Group 0), of one priority, on this core; the CPU interface on.
    pub(crate) fn reset(&self) {
        for word in 0..WORDS as u32 {
            for array in [bits::CLEAR_ENABLE, bits::CLEAR_PENDING, bits::CLEAR_ACTIVE] {
                write32(self.frame(32 * word) + array + 4 * word as usize, u32::MAX);
            }
            let group = if matches!(self, Controller::V3(_)) { u32::MAX } else { 0 };
            write32(self.frame(32 * word) + bits::GROUP + 4 * word as usize, group);
        }
        for intid in 0..32 * WORDS as u32 {
            self.set_priority(intid, 0xA0);
        }
        if let Controller::V3(frames) = self {
            write32(frames.redistributors.base + GICR_WAKER, 0);
            write!("s3_0_c12_c12_5", 7_u32); // ICC_SRE_EL1
        }
        self.forward(true);
        self.set_mask(0xF8);
        self.set_binary_point(0);
        self.set_split(false);
        match self {
            Controller::V2(_) => {}
            Controller::V3(_) => write!("s3_0_c12_c12_7", 1_u32), // ICC_IGRPEN1_EL1
        }
        self.wait();
    }

    /// `GICD_CTLR`: forwards both groups, or none.
    pub(crate) fn forward(&self, on: bool) {
        let are = if matches!(self, Controller::V3(_)) { 1 << 4 } else { 0 };
        write32(self.distributor() + CTLR, if on { are | 0b11 } else { are });
        self.wait();
    }

    /// Until what was written is in force (`GICD_CTLR.RWP`).
    pub(crate) fn wait(&self) -> bool {
        let busy = |_: &u32| read32(self.distributor() + CTLR) >> 31 == 0;
        matches!(self, Controller::V2(_)) || (0..POLLS).find(busy).is_some()
    }

    /// Writes the bit of `intid` in a register array.
    pub(crate) fn write_bit(&self, array: usize, intid: u32) {
        write32(self.frame(intid) + array + 4 * (intid as usize / 32), 1 << (intid % 32));
        self.wait();
    }

    /// Reads it.
    pub(crate) fn bit(&self, array: usize, intid: u32) -> u64 {
        u64::from(read32(self.frame(intid) + array + 4 * (intid as usize / 32)) >> (intid % 32) & 1)
    }

    /// By a byte access.
    pub(crate) fn set_priority(&self, intid: u32, priority: u8) {
        let _ = store(self.frame(intid) + PRIORITY + intid as usize, 1, priority.into());
    }

    /// By a byte access.
    pub(crate) fn priority(&self, intid: u32) -> u64 {
        load(self.frame(intid) + PRIORITY + intid as usize, 1).value()
    }

    /// Edge-triggered, or level-sensitive.
    pub(crate) fn set_edge(&self, intid: u32, edge: bool) {
        let (place, bit) = (self.frame(intid) + CONFIG + 4 * (intid as usize / 16), 2 << (2 * (intid % 16)));
        let old = read32(place);
        write32(place, if edge { old | bit } else { old & !bit });
    }

    /// Whether it is edge-triggered.
    pub(crate) fn is_edge(&self, intid: u32) -> u64 {
        let place = self.frame(intid) + CONFIG + 4 * (intid as usize / 16);
        u64::from(read32(place) >> (2 * (intid % 16) + 1) & 1)
    }

    /// Routes an SPI to this core, which is the first.
    pub(crate) fn route_here(&self, intid: u32) {
        let place = self.distributor();
        let affinity = aarch64::read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
        let _ = match self {
            Controller::V2(_) => store(place + TARGETS + intid as usize, 1, 1),
            Controller::V3(_) => store(place + ROUTER + 8 * intid as usize, 8, affinity),
        };
    }

    /// `IAR`: what it says, to be given back to [`Self::end`].
    pub(crate) fn acknowledge(&self) -> u32 {
        match self {
            Controller::V2(frames) => read32(frames.interface.base + GICC_IAR),
            Controller::V3(_) => read!("s3_0_c12_c12_0"),
        }
    }

    /// `EOIR`.
    pub(crate) fn end(&self, acknowledged: u32) {
        match self {
            Controller::V2(frames) => write32(frames.interface.base + GICC_EOIR, acknowledged),
            Controller::V3(_) => write!("s3_0_c12_c12_1", acknowledged),
        }
    }

    /// Has the emulator look at the line of `intid` again. QEMU's GICv2 does not do so when a virtual end of interrupt deactivates
    /// a physical one (hw/intc/gic_internal.h, `gic_clear_active`), but at the next write to its distributor.
    pub(crate) fn nudge(&self, intid: u32) {
        if let Controller::V2(_) = self {
            self.write_bit(bits::CLEAR_ENABLE, intid);
            self.write_bit(bits::SET_ENABLE, intid);
        }
    }

    /// `DIR`.
    pub(crate) fn deactivate(&self, acknowledged: u32) {
        match self {
            Controller::V2(frames) => write32(frames.interface.base + GICC_DIR, acknowledged),
            Controller::V3(_) => write!("s3_0_c12_c11_1", acknowledged),
        }
    }

    /// `RPR`.
    pub(crate) fn running(&self) -> u64 {
        u64::from(match self {
            Controller::V2(frames) => read32(frames.interface.base + GICC_RPR),
            Controller::V3(_) => read!("s3_0_c12_c11_3"),
        })
    }

    /// `HPPIR`.
    pub(crate) fn best_pending(&self) -> u64 {
        u64::from(match self {
            Controller::V2(frames) => read32(frames.interface.base + GICC_HPPIR),
            Controller::V3(_) => read!("s3_0_c12_c12_2"),
        })
    }

    /// `PMR`.
    pub(crate) fn set_mask(&self, mask: u8) {
        match self {
            Controller::V2(frames) => write32(frames.interface.base + GICC_PMR, mask.into()),
            Controller::V3(_) => write!("s3_0_c4_c6_0", mask),
        }
    }

    /// `BPR` of the group in use. The least that there is, if it is greater.
    pub(crate) fn set_binary_point(&self, point: u8) {
        match self {
            Controller::V2(frames) => write32(frames.interface.base + GICC_BPR, point.into()),
            Controller::V3(_) => write!("s3_0_c12_c12_3", point),
        }
    }

    /// `EOImode`: whether `EOIR` leaves deactivation to `DIR`. On GICv2 this turns the interface on as well.
    pub(crate) fn set_split(&self, split: bool) {
        match self {
            Controller::V2(frames) => write32(frames.interface.base + GICC_CTLR, 0b1 | u32::from(split) << 9),
            Controller::V3(_) => write!("s3_0_c12_c12_4", u32::from(split) << 1),
        }
    }

    /// An SGI to this core.
    pub(crate) fn sgi_to_self(&self, intid: u32) {
        match self {
            Controller::V2(frames) => write32(frames.distributor.base + SGIR, 0b10 << 24 | intid),
            Controller::V3(_) => crate::gic::send_sgi(intid, crate::interrupts::own_target()),
        }
    }

    /// An SGI to all cores but this one.
    pub(crate) fn sgi_to_others(&self, intid: u32) {
        match self {
            Controller::V2(frames) => write32(frames.distributor.base + SGIR, 0b01 << 24 | intid),
            Controller::V3(_) => crate::gic::send_sgi(intid, 1 << 40),
        }
    }
}
