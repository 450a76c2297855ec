//! The physical GICv3 (Arm IHI 0069): set-up, acknowledge, priority drop, and the list registers of this core.
//!
//! EL2 takes every physical interrupt (HCR_EL2.IMO/FMO) with EOImode 1: it drops priority itself, and deactivation is left to
//! the guest's own end-of-interrupt through a hardware-linked list register, or to [`GicV3::deactivate`].

use aarch64::mmio::Mmio;
use aarch64::{read_sysreg, write_sysreg};

const GICD_CTLR: usize = 0x0;
const GICD_TYPER: usize = 0x4;
const GICD_IGROUPR: usize = 0x80;
const GICD_ISENABLER: usize = 0x100;
const GICD_ICENABLER: usize = 0x180;
const GICD_ISPENDR: usize = 0x200;
const GICD_ICPENDR: usize = 0x280;
const GICD_ISACTIVER: usize = 0x300;
const GICD_ICACTIVER: usize = 0x380;
const GICD_IPRIORITYR: usize = 0x400;
const GICD_ICFGR: usize = 0xc00;
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

/// Lowest INTID that is no interrupt at all (1020..1023 are special).
pub const FIRST_SPECIAL_INTID: u32 = 1020;

/// Priority of every interrupt that EL2 keeps for itself or the secure domain: above any guest's.
const PRIORITY: u8 = 0x40;

/// One physical GICv3.
#[derive(Clone, Copy, Debug)]
pub struct GicV3 {
    distributor: Mmio,
    /// First redistributor region: frames of cores follow each other in it.
    redistributors: Mmio,
}

/// Why a core has no interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No redistributor has this core's affinity.
    NoRedistributor,
    /// A handshake bit did not change within its bound.
    Handshake,
}

/// One core's redistributor: where its frames are, relative to the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redistributor(usize);

impl GicV3 {
    /// The GIC with these frames.
    pub const fn new(distributor: Mmio, redistributors: Mmio) -> GicV3 {
        GicV3 { distributor, redistributors }
    }

    /// Number of INTIDs below the special ones (GICD_TYPER.ITLinesNumber).
    pub fn lines(&self) -> u32 {
        (32 * ((self.distributor.read32(GICD_TYPER) & 0x1f) + 1)).min(FIRST_SPECIAL_INTID)
    }

    /// Brings the distributor into a known state: affinity routing, group 1 on, every SPI off, inactive and in group 1.
    pub fn init_distributor(&self) -> Result<(), Error> {
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

    /// Finds and wakes this core's redistributor, with its SGIs and PPIs off, and turns the CPU interface on.
    pub fn init_core(&self, affinity: u64) -> Result<Redistributor, Error> {
        let redistributor = self.find(affinity)?;
        let Redistributor(base) = redistributor;
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
            r.write8(sgi + GICD_IPRIORITYR + intid, PRIORITY);
        }
        init_cpu_interface();
        Ok(redistributor)
    }

    /// The redistributor whose GICR_TYPER carries `affinity` (Aff3.Aff2.Aff1.Aff0 in 32 bits).
    pub fn find(&self, affinity: u64) -> Result<Redistributor, Error> {
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
    fn frame(&self, core: Redistributor, intid: u32) -> (Mmio, usize) {
        if intid < 32 { (self.redistributors, core.0 + SGI_FRAME) } else { (self.distributor, 0) }
    }

    fn write_bit(&self, core: Redistributor, register: usize, intid: u32) {
        let (frame, base) = self.frame(core, intid);
        frame.write32(base + register + 4 * (intid as usize / 32), 1 << (intid % 32));
    }

    /// Enables or disables `intid`.
    pub fn set_enabled(&self, core: Redistributor, intid: u32, enabled: bool) {
        self.write_bit(core, if enabled { GICD_ISENABLER } else { GICD_ICENABLER }, intid);
    }

    /// Sets or clears the pending state of `intid`.
    pub fn set_pending(&self, core: Redistributor, intid: u32, pending: bool) {
        self.write_bit(core, if pending { GICD_ISPENDR } else { GICD_ICPENDR }, intid);
    }

    /// Sets or clears the active state of `intid`.
    pub fn set_active(&self, core: Redistributor, intid: u32, active: bool) {
        self.write_bit(core, if active { GICD_ISACTIVER } else { GICD_ICACTIVER }, intid);
    }

    /// The pending bits of INTIDs 32·`word` to 32·`word` + 31.
    pub fn pending_word(&self, core: Redistributor, word: usize) -> u32 {
        let (frame, base) = self.frame(core, 32 * word as u32);
        frame.read32(base + GICD_ISPENDR + 4 * word)
    }

    /// The active bits of INTIDs 32·`word` to 32·`word` + 31.
    pub fn active_word(&self, core: Redistributor, word: usize) -> u32 {
        let (frame, base) = self.frame(core, 32 * word as u32);
        frame.read32(base + GICD_ISACTIVER + 4 * word)
    }

    /// Sets the priority of `intid`.
    pub fn set_priority(&self, core: Redistributor, intid: u32, priority: u8) {
        let (frame, base) = self.frame(core, intid);
        frame.write8(base + GICD_IPRIORITYR + intid as usize, priority);
    }

    /// Makes `intid` edge-triggered or level-sensitive.
    pub fn set_edge(&self, core: Redistributor, intid: u32, edge: bool) {
        let (frame, base) = self.frame(core, intid);
        let offset = base + GICD_ICFGR + 4 * (intid as usize / 16);
        let bit = 2 << (2 * (intid % 16));
        let old = frame.read32(offset);
        frame.write32(offset, if edge { old | bit } else { old & !bit });
    }

    /// Routes SPI `intid` to the core with `affinity` (as in `MPIDR_EL1`).
    pub fn set_target(&self, intid: u32, affinity: u64) {
        if intid >= 32 {
            self.distributor.write64(GICD_IROUTER + 8 * intid as usize, affinity & 0xff_00ff_ffff);
        }
    }

    /// Gives `intid` to EL2 or the secure domain: high priority, on, and for an SPI routed to `affinity`.
    pub fn claim(&self, core: Redistributor, intid: u32, affinity: u64) {
        self.set_priority(core, intid, PRIORITY);
        self.set_target(intid, affinity);
        self.set_enabled(core, intid, true);
    }

    /// Ends the active state of an SPI, from any core.
    pub fn deactivate(&self, intid: u32) {
        self.distributor.write32(GICD_ICACTIVER + 4 * (intid as usize / 32), 1 << (intid % 32));
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

/// Acknowledges the highest-priority pending interrupt: its INTID, or `None` when there is none any more.
pub fn acknowledge() -> Option<u32> {
    let intid = read_sysreg!("s3_0_c12_c12_0") as u32 & 0xff_ffff; // ICC_IAR1_EL1
    // SAFETY: a barrier; the read above has side effects that later device accesses must follow (IHI 0069, 12.1.2).
    unsafe { core::arch::asm!("dsb sy", options(nostack)) };
    (!(FIRST_SPECIAL_INTID..=1023).contains(&intid)).then_some(intid)
}

/// Drops this core's running priority after `intid`; it stays active.
pub fn drop_priority(intid: u32) {
    // SAFETY: ends the priority of an interrupt that this core has acknowledged.
    unsafe {
        write_sysreg!("s3_0_c12_c12_1", intid.into()); // ICC_EOIR1_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// Ends the active state of an interrupt of this core (SGI, PPI) after its priority was dropped.
pub fn deactivate_local(intid: u32) {
    // SAFETY: as in `drop_priority`.
    unsafe { write_sysreg!("s3_0_c12_c11_1", intid.into()) }; // ICC_DIR_EL1
}

/// Sends SGI `intid` to the core with `affinity` (as in `MPIDR_EL1`). What was written before is visible to its handler.
pub fn send_sgi(intid: u32, affinity: u64) {
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
pub fn set_priority_mask(mask: u64) {
    // SAFETY: masked interrupts stay pending.
    unsafe {
        write_sysreg!("s3_0_c4_c6_0", mask); // ICC_PMR_EL1
        core::arch::asm!("isb", options(nostack));
    }
}

/// No interrupt reaches this core any more: before it goes off.
pub fn disable_cpu_interface() {
    // SAFETY: interrupts stay pending in the distributor and redistributor.
    unsafe {
        write_sysreg!("s3_0_c12_c12_7", 0); // ICC_IGRPEN1_EL1
        core::arch::asm!("isb", options(nostack));
    }
}
