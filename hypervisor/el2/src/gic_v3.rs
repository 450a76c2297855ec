//! The physical GICv3 (Arm IHI 0069): set-up, acknowledge, priority drop, and the list registers of this core.
//!
//! EL2 takes every physical interrupt (HCR_EL2.IMO/FMO) with EOImode 1: it drops priority itself, and deactivation is left to
//! the guest's own end-of-interrupt through a hardware-linked list register, or to [`GicV3::deactivate`].

use aarch64::mmio::Mmio;
use aarch64::{read_sysreg, write_sysreg};
use vgic::ListRegister;

use crate::gic::Error;

const GICD_CTLR: usize = 0x0;
const GICD_TYPER: usize = 0x4;
const GICD_IGROUPR: usize = 0x80;
const GICD_ICENABLER: usize = 0x180;
const GICD_ICACTIVER: usize = 0x380;
const GICD_IPRIORITYR: usize = 0x400;
const GICD_IROUTER: usize = 0x6000;
const GICD_RWP: u32 = 1 << 31;

const GICR_TYPER: usize = 0x8;
const GICR_WAKER: usize = 0x14;
const GICR_WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const GICR_WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
const GICR_TYPER_VLPIS: u64 = 1 << 1;
const GICR_TYPER_LAST: u64 = 1 << 4;
/// The SGI frame lies 64 KiB above the RD frame.
const SGI_FRAME: usize = 0x1_0000;

/// Polls of a handshake bit before we give up: a distributor that never answers must not hang the boot.
const HANDSHAKE_POLLS: u32 = 1_000_000;

/// One physical GICv3.
#[derive(Clone, Copy, Debug)]
pub struct GicV3 {
    distributor: Mmio,
    /// First redistributor region: frames of cores follow each other in it.
    redistributors: Mmio,
}

/// One core's redistributor: where its frames are, relative to the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redistributor(usize);

impl GicV3 {
    /// The GIC with these frames.
    pub const fn new(distributor: Mmio, redistributors: Mmio) -> GicV3 {
        GicV3 { distributor, redistributors }
    }

    /// Interrupt lines times 32 (GICD_TYPER.ITLinesNumber).
    pub(crate) fn lines(&self) -> u32 {
        32 * ((self.distributor.read32(GICD_TYPER) & 0x1f) + 1)
    }

    /// Brings the distributor into a known state: affinity routing, group 1 on, every SPI off, inactive and in group 1.
    pub(crate) fn init_distributor(&self) -> Result<(), Error> {
        let d = &self.distributor;
        d.write32(GICD_CTLR, 0);
        self.wait_distributor()?;
        for word in 1..(self.lines() as usize).div_ceil(32) {
            d.write32(GICD_ICENABLER + 4 * word, !0);
            d.write32(GICD_ICACTIVER + 4 * word, !0);
            d.write32(GICD_IGROUPR + 4 * word, !0);
        }
        d.write32(GICD_CTLR, 0x12); // ARE_NS | EnableGrp1A: the same bits in the two- and the one-security-state view
        self.wait_distributor()
    }

    /// Wakes this core's redistributor, with its SGIs and PPIs off, and turns the CPU interface on.
    pub(crate) fn init_core(&self, Redistributor(base): Redistributor, priority: u8) -> Result<(), Error> {
        let r = &self.redistributors;
        r.write32(base + GICR_WAKER, r.read32(base + GICR_WAKER) & !GICR_WAKER_PROCESSOR_SLEEP);
        let awake = (0..HANDSHAKE_POLLS).any(|_| r.read32(base + GICR_WAKER) & GICR_WAKER_CHILDREN_ASLEEP == 0);
        if !awake {
            return Err(Error::Handshake);
        }
        let sgi = base + SGI_FRAME;
        r.write32(sgi + GICD_ICENABLER, !0);
        r.write32(sgi + GICD_ICACTIVER, !0);
        r.write32(sgi + GICD_IGROUPR, !0);
        for intid in 0..32 {
            r.write8(sgi + GICD_IPRIORITYR + intid, priority);
        }
        init_cpu_interface();
        Ok(())
    }

    /// The redistributor whose GICR_TYPER carries `affinity` (Aff3.Aff2.Aff1.Aff0 in 32 bits).
    pub(crate) fn find(&self, affinity: u64) -> Result<Redistributor, Error> {
        let mut base = 0;
        for _ in 0..512 {
            let typer = self.redistributors.read64(base + GICR_TYPER);
            if typer >> 32 == affinity {
                return Ok(Redistributor(base));
            }
            if typer & GICR_TYPER_LAST != 0 {
                break;
            }
            // Two 64 KiB frames, and two more with virtual LPIs (GICv4).
            base += if typer & GICR_TYPER_VLPIS != 0 { 0x4_0000 } else { 0x2_0000 };
        }
        Err(Error::NoRedistributor)
    }

    /// Waits for the distributor to have taken a write of GICD_CTLR or an enable.
    fn wait_distributor(&self) -> Result<(), Error> {
        (0..HANDSHAKE_POLLS)
            .any(|_| self.distributor.read32(GICD_CTLR) & GICD_RWP == 0)
            .then_some(())
            .ok_or(Error::Handshake)
    }

    /// Frame and offset in it of the registers of `intid`: the distributor for an SPI, else the core's SGI frame.
    pub(crate) fn frame(&self, core: Redistributor, intid: u32) -> (Mmio, usize) {
        if intid < 32 { (self.redistributors, core.0 + SGI_FRAME) } else { (self.distributor, 0) }
    }

    /// Routes SPI `intid` to the core with `affinity` (as in `MPIDR_EL1`).
    pub(crate) fn set_target(&self, intid: u32, affinity: u64) {
        if intid >= 32 {
            self.distributor.write64(GICD_IROUTER + 8 * intid as usize, affinity);
        }
    }
}

/// The CPU interface of this core: system registers, priority mask open, EOImode 1, group 1.
fn init_cpu_interface() {
    // SAFETY: these registers only steer which interrupts reach EL2, which handles all of them.
    unsafe {
        write_sysreg!("s3_4_c12_c9_5", 0xf); // ICC_SRE_EL2: system registers here and at EL1
        core::arch::asm!("isb", options(nostack));
        write_sysreg!("s3_0_c12_c12_5", 0x7); // ICC_SRE_EL1
        write_sysreg!("s3_0_c4_c6_0", 0xff); // ICC_PMR_EL1
        write_sysreg!("s3_0_c12_c12_3", 0); // ICC_BPR1_EL1
        write_sysreg!("s3_0_c12_c12_4", 1 << 1); // ICC_CTLR_EL1.EOImode
        write_sysreg!("s3_0_c12_c12_7", 1); // ICC_IGRPEN1_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// ICC_SRE_EL1 as the general domain needs it: the secure domain may have changed it where it can be changed.
#[inline]
pub(crate) fn restore_system_registers() {
    // SAFETY: chooses how EL1 reaches its own virtual interface.
    unsafe { write_sysreg!("s3_0_c12_c12_5", 0x7) };
}

/// Acknowledges the highest-priority pending interrupt: ICC_IAR1_EL1.
pub(crate) fn acknowledge() -> u32 {
    let intid = read_sysreg!("s3_0_c12_c12_0") as u32 & 0xff_ffff;
    // SAFETY: a barrier; the read above has side effects that later device accesses must follow (IHI 0069, 12.1.2).
    unsafe { core::arch::asm!("dsb sy", options(nostack)) };
    intid
}

/// Drops this core's running priority after `intid`; it stays active.
pub(crate) fn drop_priority(intid: u32) {
    // SAFETY: ends the priority of an interrupt that this core has acknowledged.
    unsafe {
        write_sysreg!("s3_0_c12_c12_1", intid.into()); // ICC_EOIR1_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// Ends the active state of an interrupt of this core (SGI, PPI) after its priority was dropped.
pub(crate) fn deactivate_local(intid: u32) {
    // SAFETY: as in `drop_priority`.
    unsafe { write_sysreg!("s3_0_c12_c11_1", intid.into()) }; // ICC_DIR_EL1
}

/// Sends SGI `intid` to the core with `affinity` (as in `MPIDR_EL1`). What was written before is visible to its handler.
pub(crate) fn send_sgi(intid: u32, affinity: u64) {
    let [aff0, aff1, aff2] = [0, 8, 16].map(|shift| affinity >> shift & 0xff);
    let aff3 = affinity >> 32 & 0xff;
    let value = aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | u64::from(intid) << 24 | aff1 << 16 | 1 << (aff0 & 0xf);
    // SAFETY: interrupts another core, which handles it; the barriers order our stores before it (IHI 0069, 12.1.6).
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack));
        write_sysreg!("s3_0_c12_c11_5", value); // ICC_SGI1R_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// Lets only interrupts of a higher priority (a smaller number) than `mask` through to this core.
pub(crate) fn set_priority_mask(mask: u8) {
    // SAFETY: masked interrupts stay pending.
    unsafe {
        write_sysreg!("s3_0_c4_c6_0", mask.into()); // ICC_PMR_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// No interrupt reaches this core any more: before it goes off.
pub(crate) fn disable_cpu_interface() {
    // SAFETY: interrupts stay pending in the distributor and redistributor.
    unsafe {
        write_sysreg!("s3_0_c12_c12_7", 0); // ICC_IGRPEN1_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// `ICH_LR<n>_EL2`, whose number is part of the instruction.
macro_rules! list_register {
    ($index:expr, $access:ident $(, $value:expr)?) => {
        match $index {
            0 => $access!("ich_lr0_el2" $(, $value)?),
            1 => $access!("ich_lr1_el2" $(, $value)?),
            2 => $access!("ich_lr2_el2" $(, $value)?),
            3 => $access!("ich_lr3_el2" $(, $value)?),
            4 => $access!("ich_lr4_el2" $(, $value)?),
            5 => $access!("ich_lr5_el2" $(, $value)?),
            6 => $access!("ich_lr6_el2" $(, $value)?),
            7 => $access!("ich_lr7_el2" $(, $value)?),
            8 => $access!("ich_lr8_el2" $(, $value)?),
            9 => $access!("ich_lr9_el2" $(, $value)?),
            10 => $access!("ich_lr10_el2" $(, $value)?),
            11 => $access!("ich_lr11_el2" $(, $value)?),
            12 => $access!("ich_lr12_el2" $(, $value)?),
            13 => $access!("ich_lr13_el2" $(, $value)?),
            14 => $access!("ich_lr14_el2" $(, $value)?),
            _ => $access!("ich_lr15_el2" $(, $value)?),
        }
    };
}

/// List registers that this core has.
#[inline]
pub(crate) fn list_registers() -> usize {
    (read_sysreg!("ich_vtr_el2") & 0x1f) as usize + 1
}

#[inline]
pub(crate) fn read_list_register(index: usize) -> ListRegister {
    ListRegister(list_register!(index, read_sysreg))
}

#[inline]
pub(crate) fn write_list_register(index: usize, value: ListRegister) {
    // SAFETY: a list register only decides which virtual interrupt the guest sees.
    unsafe { list_register!(index, write_sysreg, value.0) }
}

#[inline]
pub(crate) fn empty_list_registers() -> u32 {
    read_sysreg!("ich_elrsr_el2") as u32
}

#[inline]
pub(crate) fn hcr() -> u32 {
    read_sysreg!("ich_hcr_el2") as u32
}

#[inline]
pub(crate) fn set_hcr(value: u32) {
    // SAFETY: concerns the guest's interrupts alone.
    unsafe { write_sysreg!("ich_hcr_el2", value.into()) }
}

/// The state of the virtual CPU interface at reset: everything masked, as on a core that has just been turned on.
pub(crate) fn reset_virtual() {
    // SAFETY: concerns the guest's interrupts alone.
    unsafe {
        write_sysreg!("ich_hcr_el2", 0);
        write_sysreg!("ich_vmcr_el2", 0);
        for index in 0..list_registers() {
            list_register!(index, write_sysreg, 0);
        }
        clear_active_priorities();
        write_sysreg!("ich_hcr_el2", 1);
        core::arch::asm!("isb", options(nostack));
    }
}

/// Clears the active priorities that this core implements (`ICH_VTR_EL2.PREbits`: 5, 6 or 7 bits).
fn clear_active_priorities() {
    // SAFETY: concerns the guest's interrupts alone; registers beyond the implemented ones are not touched.
    unsafe {
        write_sysreg!("ich_ap0r0_el2", 0);
        write_sysreg!("ich_ap1r0_el2", 0);
        let bits = (read_sysreg!("ich_vtr_el2") >> 26 & 7) + 1;
        if bits >= 6 {
            write_sysreg!("ich_ap0r1_el2", 0);
            write_sysreg!("ich_ap1r1_el2", 0);
        }
        if bits >= 7 {
            write_sysreg!("ich_ap0r2_el2", 0);
            write_sysreg!("ich_ap0r3_el2", 0);
            write_sysreg!("ich_ap1r2_el2", 0);
            write_sysreg!("ich_ap1r3_el2", 0);
        }
    }
}
