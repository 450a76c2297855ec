//! The physical GIC behind the virtual one: version 2 or 3, whichever the board has, as one core uses it.
//!
//! EL2 takes every physical interrupt (HCR_EL2.IMO/FMO). Ending one is split: EL2 drops the priority itself, and deactivation
//! is left to the guest's own end-of-interrupt through a hardware-linked list register, or to [`Interrupts::deactivate`].

use aarch64::mmio::Mmio;
use vgic::{Change, ListRegister, ListRegisters, Physical};

use crate::boot::MAX_CORES;
use crate::gic_v2::{self, GicV2};
use crate::gic_v3::{self, GicV3, Redistributor};

const GICD_ISENABLER: usize = 0x100;
const GICD_ICENABLER: usize = 0x180;
const GICD_ISPENDR: usize = 0x200;
const GICD_ICPENDR: usize = 0x280;
const GICD_ISACTIVER: usize = 0x300;
const GICD_ICACTIVER: usize = 0x380;
const GICD_IPRIORITYR: usize = 0x400;
const GICD_ICFGR: usize = 0xc00;

/// Lowest INTID that is no interrupt at all (1020..1023 are special).
const FIRST_SPECIAL_INTID: u32 = 1020;

/// Priority of what EL2 keeps for itself or the secure domain.
const OWN_PRIORITY: u8 = 0x40;

/// Priority of everything else, whatever the guest asks for: its priorities order its list registers, and must not decide what
/// EL2 sees first, nor lift an interrupt over [`MASK_OWN`].
const GENERAL_PRIORITY: u8 = 0xa0;

/// Lets only interrupts of [`OWN_PRIORITY`] through.
const MASK_OWN: u8 = 0x80;
/// Lets everything through.
const MASK_ALL: u8 = 0xff;

/// `ICH_HCR_EL2`: trap the common, group 0 and group 1 registers, for a domain that has no interrupts. GICv2 has no such
/// registers: there the domain simply does not map `GICV`.
const TRAP_ALL: u32 = 1 << 10 | 1 << 11 | 1 << 12;

/// Why a core has no interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No redistributor has this core's affinity.
    NoRedistributor,
    /// A handshake bit did not change within its bound.
    Handshake,
}

/// The board's interrupt controller.
#[derive(Clone, Copy, Debug)]
pub enum Hardware {
    /// GICv2 with virtualization extensions.
    V2(GicV2),
    /// GICv3 or later.
    V3(GicV3),
}

/// An acknowledged interrupt. GICv2 wants the sender of an SGI back when it is ended, so the whole value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an acknowledged interrupt must be ended"]
pub struct Acknowledged(u32);

impl Acknowledged {
    /// Its INTID.
    pub fn intid(self) -> u32 {
        match self.0 {
            // GICv2: bits 12:10 are the sender of an SGI. A GICv3 has no LPIs enabled, whose numbers begin at 8192.
            value if value & 0x3ff < 16 => value & 0xf,
            value => value,
        }
    }
}

/// The interrupt controller as core `core` uses it.
#[derive(Clone, Debug)]
pub struct Interrupts {
    hardware: Hardware,
    /// This core's index.
    core: usize,
    /// Each core's redistributor, on GICv3.
    redistributors: [Redistributor; MAX_CORES],
    /// Each core's affinity, as in `MPIDR_EL1`.
    affinities: [u64; MAX_CORES],
    /// `ICH_HCR_EL2` or `GICH_HCR` as the general domain has it, while this core's virtual interface is closed.
    closed: Option<u32>,
}

/// What `$two` does with a GICv2, `$three` with a GICv3, whose CPU interface is registers of the core.
macro_rules! either {
    ($interrupts:expr, $gic:ident => $two:expr, $three:expr) => {
        match &$interrupts.hardware {
            Hardware::V2($gic) => $two,
            Hardware::V3(_) => $three,
        }
    };
}

impl Interrupts {
    /// The controller for cores of these `affinities`, used by core `core`. The distributor is brought into a known state:
    /// every SPI off.
    pub fn new(hardware: Hardware, affinities: &[u64], core: usize) -> Result<Interrupts, Error> {
        let mut all = Interrupts {
            hardware,
            core,
            redistributors: [Redistributor::default(); MAX_CORES],
            affinities: [0; MAX_CORES],
            closed: None,
        };
        for (index, affinity) in affinities.iter().enumerate() {
            all.affinities[index] = *affinity;
            match &hardware {
                Hardware::V2(_) => gic_v2::expect(index, affinities.iter().filter(|other| *other < affinity).count()),
                Hardware::V3(gic) => all.redistributors[index] = gic.find(*affinity)?,
            }
        }
        match &hardware {
            Hardware::V2(gic) => gic.init_distributor(),
            Hardware::V3(gic) => gic.init_distributor()?,
        }
        for intid in 32..all.lines() {
            all.set_priority(core, intid, GENERAL_PRIORITY);
            // What `IROUTER` holds after a reset is unknown. Targets of a GICv2 are written before an interrupt is enabled.
            if let Hardware::V3(gic) = &hardware {
                gic.set_target(intid, affinities[0]);
            }
        }
        Ok(all)
    }

    /// The same controller as core `core` uses it.
    pub fn for_core(&self, core: usize) -> Interrupts {
        Interrupts { core, closed: None, ..self.clone() }
    }

    /// Each core's affinity, as in `MPIDR_EL1`.
    pub fn affinities(&self) -> [u64; MAX_CORES] {
        self.affinities
    }

    /// Number of INTIDs below the special ones.
    pub fn lines(&self) -> u32 {
        let lines = match &self.hardware {
            Hardware::V2(gic) => gic.lines(),
            Hardware::V3(gic) => gic.lines(),
        };
        lines.min(FIRST_SPECIAL_INTID)
    }

    /// This core's own part: private interrupts off, CPU interface on.
    pub fn init_core(&self) -> Result<(), Error> {
        match &self.hardware {
            Hardware::V2(gic) => gic.init_core(self.core, GENERAL_PRIORITY),
            Hardware::V3(gic) => gic.init_core(self.redistributors[self.core], GENERAL_PRIORITY),
        }
    }

    /// Acknowledges the highest-priority pending interrupt; `None` when there is none any more.
    #[inline]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        let value = either!(self, gic => gic.acknowledge(), gic_v3::acknowledge());
        (!(FIRST_SPECIAL_INTID..=1023).contains(&(value & 0x3ff))).then_some(Acknowledged(value))
    }

    /// Drops this core's running priority after `interrupt`; it stays active.
    #[inline]
    pub fn drop_priority(&self, interrupt: Acknowledged) {
        either!(self, gic => gic.drop_priority(interrupt.0), gic_v3::drop_priority(interrupt.0))
    }

    /// Ends the active state of an interrupt that this core has acknowledged.
    #[inline]
    pub fn deactivate_local(&self, interrupt: Acknowledged) {
        either!(self, gic => gic.deactivate_local(interrupt.0), gic_v3::deactivate_local(interrupt.0))
    }

    /// Ends the active state of SPI `intid`, from any core.
    pub fn deactivate(&self, intid: u32) {
        self.write_bit(self.core, GICD_ICACTIVER, intid);
    }

    /// Sends SGI `intid` to core `core`. What was written before is visible to its handler.
    pub fn send_sgi(&self, intid: u32, core: usize) {
        either!(self, gic => gic.send_sgi(intid, core), gic_v3::send_sgi(intid, self.affinities[core]))
    }

    /// Keeps the general domain's interrupts pending while `only_own`, and lets them through again.
    pub fn mask_general(&self, only_own: bool) {
        let mask = if only_own { MASK_OWN } else { MASK_ALL };
        either!(self, gic => gic.set_priority_mask(mask), gic_v3::set_priority_mask(mask))
    }

    /// No interrupt reaches this core any more: before it goes off.
    pub fn disable_core(&self) {
        either!(self, gic => gic.disable_cpu_interface(), gic_v3::disable_cpu_interface())
    }

    /// Gives `intid` to EL2 or the secure domain: high priority, on, and for an SPI routed to core `core`.
    pub fn claim(&self, intid: u32, core: usize) {
        self.set_priority(core, intid, OWN_PRIORITY);
        self.set_target(intid, core);
        self.write_bit(core, GICD_ISENABLER, intid);
    }

    /// Makes SPI `intid` pending.
    pub fn pend(&self, intid: u32) {
        self.write_bit(self.core, GICD_ISPENDR, intid);
    }

    /// Turns an SPI, or a private interrupt of this core, on, with the priority of the general domain's.
    pub fn enable(&self, intid: u32) {
        self.write_bit(self.core, GICD_ISENABLER, intid);
    }

    /// Routes SPI `intid` to core `core`.
    pub fn set_target(&self, intid: u32, core: usize) {
        match &self.hardware {
            Hardware::V2(gic) => gic.set_target(intid, core),
            Hardware::V3(gic) => gic.set_target(intid, self.affinities[core]),
        }
    }

    /// Makes `intid` edge-triggered or level-sensitive.
    pub fn set_edge(&self, core: usize, intid: u32, edge: bool) {
        let (frame, base) = self.frame(core, intid);
        let offset = base + GICD_ICFGR + 4 * (intid as usize / 16);
        let bit = 2 << (2 * (intid % 16));
        let old = frame.read32(offset);
        frame.write32(offset, if edge { old | bit } else { old & !bit });
    }

    /// The virtual CPU interface of this core as on a core that has just been turned on.
    pub fn reset_virtual(&mut self) {
        self.closed = None;
        either!(self, gic => gic.reset_virtual(), gic_v3::reset_virtual())
    }

    /// Closes the virtual CPU interface while the secure domain, which has no interrupts, runs on this core: nothing is
    /// signalled and every access traps. The list registers keep their contents and may be changed.
    #[inline]
    pub fn close(&mut self) {
        self.closed = Some(self.hcr());
        self.write_hcr(TRAP_ALL);
    }

    /// Opens the interface for the general domain again.
    #[inline]
    pub fn open(&mut self) {
        if let Some(hcr) = self.closed.take() {
            self.write_hcr(hcr);
            if matches!(self.hardware, Hardware::V3(_)) {
                gic_v3::restore_system_registers();
            }
        }
    }

    #[inline]
    fn write_hcr(&self, value: u32) {
        either!(self, gic => gic.set_hcr(value & !TRAP_ALL), gic_v3::set_hcr(value))
    }

    fn set_priority(&self, core: usize, intid: u32, priority: u8) {
        let (frame, base) = self.frame(core, intid);
        frame.write8(base + GICD_IPRIORITYR + intid as usize, priority);
    }

    /// Frame and offset in it of the registers of `intid`, which have the same layout in both versions. Private interrupts of
    /// a GICv2 are banked, so they can only be reached from their own core.
    fn frame(&self, core: usize, intid: u32) -> (Mmio, usize) {
        match &self.hardware {
            Hardware::V2(gic) => (gic.distributor(), 0),
            Hardware::V3(gic) => gic.frame(self.redistributors[core], intid),
        }
    }

    fn write_bit(&self, core: usize, register: usize, intid: u32) {
        let (frame, base) = self.frame(core, intid);
        frame.write32(base + register + 4 * (intid as usize / 32), 1 << (intid % 32));
    }

    fn read_word(&self, core: usize, register: usize, word: usize) -> u32 {
        let (frame, base) = self.frame(core, 32 * word as u32);
        frame.read32(base + register + 4 * word)
    }
}

impl ListRegisters for Interrupts {
    #[inline]
    fn count(&self) -> usize {
        either!(self, gic => gic.list_registers(), gic_v3::list_registers())
    }

    #[inline]
    fn read(&self, index: usize) -> ListRegister {
        either!(self, gic => gic.read_list_register(index), gic_v3::read_list_register(index))
    }

    #[inline]
    fn write(&mut self, index: usize, value: ListRegister) {
        either!(self, gic => gic.write_list_register(index, value), gic_v3::write_list_register(index, value))
    }

    #[inline]
    fn empty(&self) -> u32 {
        either!(self, gic => gic.empty_list_registers(), gic_v3::empty_list_registers())
    }

    #[inline]
    fn hcr(&self) -> u32 {
        self.closed.unwrap_or_else(|| either!(self, gic => gic.hcr(), gic_v3::hcr()))
    }

    #[inline]
    fn set_hcr(&mut self, value: u32) {
        match &mut self.closed {
            Some(hcr) => *hcr = value,
            None => self.write_hcr(value),
        }
    }
}

impl Physical for Interrupts {
    fn apply(&mut self, cpu: usize, intid: u32, change: Change) {
        match change {
            Change::Enable(on) => self.write_bit(cpu, if on { GICD_ISENABLER } else { GICD_ICENABLER }, intid),
            Change::Pending(on) => self.write_bit(cpu, if on { GICD_ISPENDR } else { GICD_ICPENDR }, intid),
            Change::Active(on) => self.write_bit(cpu, if on { GICD_ISACTIVER } else { GICD_ICACTIVER }, intid),
            Change::Priority(_) => {}
            Change::Edge(edge) => self.set_edge(cpu, intid, edge),
            Change::Route(cpu) => self.set_target(intid, cpu),
        }
    }

    fn pending(&mut self, cpu: usize, word: usize) -> u32 {
        self.read_word(cpu, GICD_ISPENDR, word)
    }

    fn active(&mut self, cpu: usize, word: usize) -> u32 {
        self.read_word(cpu, GICD_ISACTIVER, word)
    }
}
