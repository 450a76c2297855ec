//! The physical GICv2 with virtualization extensions (Arm IHI 0048): set-up, acknowledge, priority drop, list registers.
//!
//! The same rules as for GICv3: EL2 takes every interrupt, `GICC_CTLR.EOImode` splits priority drop from deactivation. What
//! differs: everything is memory-mapped and banked by core, SPIs name their target by CPU interface number, and an acknowledged
//! SGI carries the number of its sender, which must be written back when it is ended.

use core::sync::atomic::{AtomicU8, Ordering};

use aarch64::mmio::Mmio;
use vgic::{ListRegister, MAX_LIST_REGISTERS};

use crate::boot::MAX_CORES;
use crate::gic::Error;

const GICD_CTLR: usize = 0x0;
const GICD_TYPER: usize = 0x4;
const GICD_IGROUPR: usize = 0x80;
const GICD_ICENABLER: usize = 0x180;
const GICD_ICACTIVER: usize = 0x380;
const GICD_IPRIORITYR: usize = 0x400;
const GICD_ITARGETSR: usize = 0x800;
const GICD_SGIR: usize = 0xf00;

const GICC_CTLR: usize = 0x0;
const GICC_PMR: usize = 0x4;
const GICC_IAR: usize = 0xc;
const GICC_EOIR: usize = 0x10;
const GICC_APR: usize = 0xd0;
const GICC_DIR: usize = 0x1000;
/// `EnableGrp0 | EOImodeNS`: in the view of a core without security extensions, or non-secure, bit 0 enables the one group.
const GICC_CTLR_ON: u32 = 1 << 0 | 1 << 9;

const GICH_HCR: usize = 0x0;
const GICH_VTR: usize = 0x4;
const GICH_VMCR: usize = 0x8;
const GICH_ELRSR0: usize = 0x30;
const GICH_APR: usize = 0xf0;
const GICH_LR0: usize = 0x100;

/// CPU interface number of each core as a one-hot target mask: what is expected of it, until the core itself has learnt it.
static TARGETS: [AtomicU8; MAX_CORES] = [const { AtomicU8::new(0) }; MAX_CORES];

/// Core `core` is expected to have CPU interface `number`, counted by affinity, until it has run and knows.
pub(crate) fn expect(core: usize, number: usize) {
    TARGETS[core].store(1 << number, Ordering::Release);
}

/// One physical GICv2.
#[derive(Clone, Copy, Debug)]
pub struct GicV2 {
    distributor: Mmio,
    cpu_interface: Mmio,
    hypervisor_interface: Mmio,
}

impl GicV2 {
    /// The GIC with these frames.
    pub const fn new(distributor: Mmio, cpu_interface: Mmio, hypervisor_interface: Mmio) -> GicV2 {
        GicV2 { distributor, cpu_interface, hypervisor_interface }
    }

    /// The distributor; private interrupts are banked in it by core.
    pub(crate) fn distributor(&self) -> Mmio {
        self.distributor
    }

    /// Interrupt lines times 32 (GICD_TYPER.ITLinesNumber).
    pub(crate) fn lines(&self) -> u32 {
        32 * ((self.distributor.read32(GICD_TYPER) & 0x1f) + 1)
    }

    /// Brings the distributor into a known state: on, every SPI off and inactive.
    pub(crate) fn init_distributor(&self) {
        let d = &self.distributor;
        d.write32(GICD_CTLR, 0);
        for word in 1..(self.lines() as usize).div_ceil(32) {
            d.write32(GICD_ICENABLER + 4 * word, !0);
            d.write32(GICD_ICACTIVER + 4 * word, !0);
        }
        d.write32(GICD_CTLR, 1);
    }

    /// This core's private interrupts off, its CPU interface on, its number learnt.
    pub(crate) fn init_core(&self, core: usize, priority: u8) -> Result<(), Error> {
        let d = &self.distributor;
        d.write32(GICD_ICENABLER, !0);
        d.write32(GICD_ICACTIVER, !0);
        d.write32(GICD_IGROUPR, 0);
        for intid in 0..32 {
            d.write8(GICD_IPRIORITYR + intid, priority);
        }
        // Reads of a private interrupt's targets give the reader's own number; on a single core they may read 0.
        let own = (0..8).map(|word| d.read32(GICD_ITARGETSR + 4 * word)).fold(0, |all, word| all | word);
        let mask = (own | own >> 8 | own >> 16 | own >> 24) as u8;
        if mask != 0 {
            TARGETS[core].store(mask, Ordering::Release);
        }
        let c = &self.cpu_interface;
        c.write32(GICC_APR, 0);
        c.write32(GICC_PMR, 0xff);
        c.write32(GICC_CTLR, GICC_CTLR_ON);
        Ok(())
    }

    /// Routes SPI `intid` to core `core`. If one that has not run yet has another number than expected, it corrects that.
    pub(crate) fn set_target(&self, intid: u32, core: usize) {
        if intid >= 32 {
            self.distributor.write8(GICD_ITARGETSR + intid as usize, TARGETS[core].load(Ordering::Acquire));
        }
    }

    pub(crate) fn acknowledge(&self) -> u32 {
        self.cpu_interface.read32(GICC_IAR)
    }

    pub(crate) fn drop_priority(&self, acknowledged: u32) {
        self.cpu_interface.write32(GICC_EOIR, acknowledged);
    }

    pub(crate) fn deactivate_local(&self, acknowledged: u32) {
        self.cpu_interface.write32(GICC_DIR, acknowledged);
    }

    pub(crate) fn send_sgi(&self, intid: u32, core: usize) {
        let target = u32::from(TARGETS[core].load(Ordering::Acquire));
        // SAFETY: a barrier; what was written before is visible to the handler of the interrupt (IHI 0048, 4.3.15).
        unsafe { core::arch::asm!("dsb ishst", options(nostack)) };
        self.distributor.write32(GICD_SGIR, target << 16 | intid);
    }

    pub(crate) fn set_priority_mask(&self, mask: u8) {
        self.cpu_interface.write32(GICC_PMR, mask.into());
    }

    pub(crate) fn disable_cpu_interface(&self) {
        self.cpu_interface.write32(GICC_CTLR, 0);
    }

    pub(crate) fn reset_virtual(&self) {
        let h = &self.hypervisor_interface;
        h.write32(GICH_HCR, 0);
        h.write32(GICH_VMCR, 0);
        for index in 0..self.list_registers() {
            h.write32(GICH_LR0 + 4 * index, 0);
        }
        h.write32(GICH_APR, 0);
        h.write32(GICH_HCR, 1);
    }

    pub(crate) fn list_registers(&self) -> usize {
        ((self.hypervisor_interface.read32(GICH_VTR) & 0x3f) as usize + 1).min(MAX_LIST_REGISTERS)
    }

    pub(crate) fn read_list_register(&self, index: usize) -> ListRegister {
        ListRegister::from_gich(self.hypervisor_interface.read32(GICH_LR0 + 4 * index))
    }

    pub(crate) fn write_list_register(&self, index: usize, value: ListRegister) {
        self.hypervisor_interface.write32(GICH_LR0 + 4 * index, value.to_gich());
    }

    pub(crate) fn empty_list_registers(&self) -> u32 {
        self.hypervisor_interface.read32(GICH_ELRSR0)
    }

    pub(crate) fn hcr(&self) -> u32 {
        self.hypervisor_interface.read32(GICH_HCR)
    }

    pub(crate) fn set_hcr(&self, value: u32) {
        self.hypervisor_interface.write32(GICH_HCR, value);
    }
}
