//! GICv3 and GICv2 as a guest sees them.
//!
//! One virtual machine, whose vCPU *n* is pinned to one core. EL2 takes every physical interrupt, with EOImode 1: its EOI drops
//! the priority, and the guest's own EOI deactivates a physical level through the list register that is linked to it; a physical edge
//! is deactivated by EL2 at once, so that two edges before the guest takes the first are one, as the architecture has it. The
//! distributor and the redistributors are trapped and emulated here; the CPU interface is the virtual one of the hardware.
//!
//! **The list registers stay live.** They are loaded on the guest's core and left there, across exits and while the core runs
//! the other domain; nothing is saved. Only the core itself can read them. So each fact has one owner: the registers that the
//! guest wrote, edges and levels are kept in a `bank` under a lock; what the guest acknowledged is in the list registers; and
//! of a physical interrupt that is not in a list register the physical GIC is the authority.
//!
//! **A core that changes something for another** changes the bank, leaves a note in the other's `inbox` and returns its bit in [`Kicks`];
//! the caller sends an IPI, and the other core calls [`Vgic::sync`].
//!
//! **Two ways in.** The short way (`lists`) puts one interrupt into an empty list register: no search, no other lock than that of
//! the vCPU (private interrupts) or of vCPU and distributor (SPIs). Whenever there is something to choose, the long way (`refill`)
//! decides everything anew.
//!
//! **Ownership.** An interrupt that was not assigned is RAZ/WI; [`Physical`] is never called with it.
//!
//! **Locks.** `shared` (distributor) before a vCPU's `state`; never two `state` locks at once; the inboxes are lock-free. Each is held for
//! at most one pass over the list registers and the INTIDs. Call with interrupts masked at EL2.
//!
//! **Messages.** A range of virtual SPIs may take messages: stores to `GICD_SETSPI_NSR` of a GICv3, to `MSI_SETSPI_NS` of the GICv2m frame
//! beside a GICv2. [`Vgic::message`] is such a store by a device, and reaches these registers and no others.
//!
//! Not modelled, and told so by the identification registers: LPIs and ITS, 1-of-N routing, extended INTID
//! ranges, two Security states. `GICR_WAKER` answers the handshake, and sleep has no further effect. At reset interrupts are in Group 1 on
//! GICv3, as firmware leaves them to a non-secure system, and in Group 0 on GICv2.
#![no_std]
#![forbid(unsafe_code)]

mod bank;
mod distributor;
mod inbox;
mod list_register;
mod lists;
mod messages;
mod physical;
mod refill;
mod registers;
mod v2;

#[cfg(test)]
mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spin::mutex::SpinMutex as Mutex;

use bank::{Bank, Fact, Interrupts, NONE};
use inbox::{Inbox, REVISE};
use lists::{Lists, NOBODY, Offer};
use refill::Refill;

pub use list_register::{
    HCR_EN, HCR_EOICOUNT_SHIFT, HCR_LRENPIE, HCR_NPIE, HCR_TALL1, HCR_TDIR, ListRegister, ListRegisters,
    MAX_LIST_REGISTERS,
};
pub use messages::Messages;
pub use physical::{Change, Gic, Physical};

/// Most vCPUs of the guest.
pub const MAX_CPUS: usize = 8;

/// Which GIC the guest sees. It is the one that the board has: the guest's CPU interface is the hardware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: distributor here, CPU interface `GICV` mapped by stage 2.
    V2,
    /// GICv3: distributor and redistributors here, CPU interface by system registers.
    V3,
}

/// What the guest's GIC looks like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Architecture version.
    pub version: Version,
    /// vCPUs, 1 to [`MAX_CPUS`]; vCPU *n* runs on the core that calls with `cpu == n`.
    pub cpus: usize,
    /// Affinity of each vCPU in the layout of `MPIDR_EL1` and `GICD_IROUTER`: Aff3 39:32, Aff2 23:16, Aff1 15:8, Aff0 7:0.
    pub affinities: [u64; MAX_CPUS],
    /// SPIs, 0 to 988: INTIDs 32 to 31 + `spis` exist. Rounded up to a multiple of 32, as `GICD_TYPER` counts.
    pub spis: usize,
    /// Which of them take messages, if any do; all are [`Source::Virtual`].
    pub messages: Option<Messages>,
}

/// Where an interrupt of the guest comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is not the guest's: its registers are RAZ/WI.
    None,
    /// The physical interrupt of the same INTID.
    Hardware,
    /// EL2 software.
    Virtual,
}

/// A trapped register frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `GICD`, offsets below 64 KiB (GICv2: below 4 KiB).
    Distributor,
    /// `GICR` of the vCPU with this index: `RD_base` then `SGI_base`, offsets below 128 KiB.
    Redistributor(usize),
    /// The GICv2m frame beside a GICv2, offsets below 4 KiB.
    Messages,
}

/// vCPUs whose cores must call [`Vgic::sync`] soon: bit *n* is vCPU *n*. The caller sends an IPI to each.
/// As wide as what a register reads as, so that [`Read`] is handed back in registers.
#[must_use = "a core that is not kicked does not see its interrupt"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicks(pub u64);

/// The answer to a trapped read.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The register's value, zero-extended.
    Value(u64),
    /// Only these cores know: the caller kicks them and lets the guest execute the load again, which they answer meanwhile.
    Again(Kicks),
}

impl Kicks {
    /// Nobody.
    pub const NONE: Kicks = Kicks(0);

    /// Whether nobody is to be kicked.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The vCPUs to be kicked, ascending.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        bank::bits(self.0 as u32).map(|cpu| cpu as usize)
    }
}

impl core::ops::BitOr for Kicks {
    type Output = Kicks;

    fn bitor(self, other: Kicks) -> Kicks {
        Kicks(self.0 | other.0)
    }
}

/// INTIDs that have a place (1020 to 1023 are special and never assigned).
pub(crate) const INTIDS: usize = 1024;

/// The distributor's interrupts.
#[derive(Debug)]
struct Shared {
    bank: Bank<32, INTIDS>,
    /// `IROUTER` packed as [`distributor::pack`] does, or `ITARGETSR`.
    affinity: [u32; INTIDS],
    /// The vCPU that the above names, or [`NONE`].
    route: [u8; INTIDS],
    /// The vCPU whose list registers hold the interrupt, or held it last, or which has it spilled; or [`NONE`].
    home: [u8; INTIDS],
}

impl Shared {
    /// The vCPUs that are home to an interrupt of `word`, as a bitmap.
    fn homes(&self, word: usize) -> u32 {
        let homes = self.home[word * 32..][..32].iter();
        homes.filter(|home| **home != NONE).fold(0, |all, home| all | 1 << home)
    }
}

/// One vCPU: its private interrupts and its list registers.
#[derive(Debug)]
struct State {
    private: Bank<1, 32>,
    lists: Lists,
}

#[derive(Debug)]
struct Cpu {
    state: Mutex<State>,
    inbox: Inbox,
    /// Its core answers kicks. A copy of `Lists::online` for other cores.
    online: AtomicBool,
    /// `GICR_WAKER.ProcessorSleep`.
    waker: AtomicU32,
    /// The word of interrupts whose state its last read asked other cores for, plus one; or 0.
    asking: AtomicU32,
}

impl Cpu {
    const fn new(group1: bool) -> Cpu {
        Cpu {
            state: Mutex::new(State { private: Bank::new(group1).with_sgis(), lists: Lists::new() }),
            inbox: Inbox::new(),
            online: AtomicBool::new(false),
            waker: AtomicU32::new(0),
            asking: AtomicU32::new(0),
        }
    }

    #[inline]
    fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }
}

/// The guest's GIC.
#[derive(Debug)]
pub struct Vgic {
    config: Config,
    /// The affinities, packed.
    affinities: [u32; MAX_CPUS],
    /// `GICD_TYPER`.
    typer: u32,
    /// `GICD_CTLR`: `EnableGrp0` and `EnableGrp1`.
    ctlr: AtomicU32,
    shared: Mutex<Shared>,
    cpus: [Cpu; MAX_CPUS],
}

impl Vgic {
    /// A GIC after reset, in which the guest owns only its SGIs and every vCPU is off. About 12 KiB.
    ///
    /// # Panics
    /// If `config.cpus` is not 1 to [`MAX_CPUS`].
    pub const fn new(config: Config) -> Vgic {
        assert!(config.cpus >= 1 && config.cpus <= MAX_CPUS);
        let group1 = matches!(config.version, Version::V3);
        let shared =
            Shared { bank: Bank::new(group1), affinity: [0; INTIDS], route: [NONE; INTIDS], home: [NONE; INTIDS] };
        let cpus = if group1 { [const { Cpu::new(true) }; MAX_CPUS] } else { [const { Cpu::new(false) }; MAX_CPUS] };
        let mut affinities = [0; MAX_CPUS];
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            affinities[cpu] = distributor::pack(config.affinities[cpu]);
            cpu += 1;
        }
        Vgic {
            config,
            affinities,
            typer: distributor::typer(&config),
            ctlr: AtomicU32::new(0),
            shared: Mutex::new(shared),
            cpus,
        }
    }

    /// Says where interrupt `intid` comes from; a PPI is assigned for every vCPU. At boot, before the guest runs. A hardware
    /// interrupt must be disabled, inactive, not pending, level-sensitive, of priority 0 and routed to vCPU 0 in the physical GIC, as
    /// the guest finds it. False: there is no such PPI or SPI, and nothing was done.
    #[inline(never)]
    pub fn assign(&self, intid: u32, source: Source) -> bool {
        let (hardware, software) = source.facts();
        if (16..32).contains(&intid) {
            for cpu in &self.cpus {
                let bank = &mut cpu.state.lock().private;
                bank.set(Fact::Hardware, intid, hardware);
                bank.set(Fact::Virtual, intid, software);
            }
            return true;
        }
        let last = 31 + (self.config.spis.next_multiple_of(32) as u32).min(988);
        if !(32..=last).contains(&intid) {
            return false;
        }
        let mut shared = self.shared.lock();
        shared.bank.set(Fact::Hardware, intid, hardware);
        shared.bank.set(Fact::Virtual, intid, software);
        shared.route[intid as usize] = self.named_by(shared.affinity[intid as usize]);
        true
    }

    /// The vCPU that an entry of [`Shared::affinity`] names, or [`NONE`].
    fn named_by(&self, affinity: u32) -> u8 {
        match self.config.version {
            Version::V3 => self.config.vcpu_with_affinity(affinity),
            Version::V2 => self.first_target(affinity),
        }
    }

    /// Puts everything back to what it was before the guest first ran, here and in the physical GIC; interrupts keep their sources.
    /// On the core of `cpu`, when every vCPU has gone ([`Vgic::cpu_off`]); whoever else calls may change levels of virtual interrupts and nothing
    /// more. Private physical interrupts of other cores are left to whoever turns these on: their core has been off by then.
    #[inline(never)]
    pub fn reset(&self, cpu: usize, hw: &mut dyn Physical) {
        self.set_ctlr(0);
        let group1 = self.config.version == Version::V3;
        let mut shared = self.shared.lock();
        for word in 1..lists::WORDS {
            for bit in bank::bits(shared.bank.word(Fact::Hardware, word)) {
                silence(cpu, word as u32 * 32 + bit, hw);
                hw.apply(cpu, word as u32 * 32 + bit, Change::Route(0));
            }
        }
        shared.bank.reset(group1);
        shared.affinity = [0; INTIDS];
        shared.home = [NONE; INTIDS];
        for intid in 32..INTIDS {
            let owned = shared.bank.owned(intid / 32) >> (intid % 32) & 1 != 0;
            shared.route[intid] = if owned { self.named_by(0) } else { NONE };
        }
        for (index, vcpu) in self.cpus.iter().enumerate() {
            let mut state = vcpu.state.lock();
            if index == cpu {
                bank::bits(state.private.word(Fact::Hardware, 0)).for_each(|intid| silence(cpu, intid, hw));
            }
            state.private.reset(group1);
            state.lists = Lists::new();
            vcpu.inbox.clear();
            vcpu.waker.store(0, Ordering::Relaxed);
            vcpu.asking.store(0, Ordering::Relaxed);
        }
    }

    /// A trapped write of `ICC_SGI1R_EL1` by vCPU `cpu` (GIC IHI 0069, `ICC_SGI1R_EL1` and Forwarding an SGI to a target PE): generates an SGI of either group.
    pub fn sgi1r(&self, cpu: usize, value: u64, hw: &mut impl Gic) -> Kicks {
        self.generate(cpu, value, true, hw)
    }

    /// A trapped write of `ICC_SGI0R_EL1` or `ICC_ASGI1R_EL1`: with one Security state, Group 0 SGIs only.
    pub fn sgi0r(&self, cpu: usize, value: u64, hw: &mut impl Gic) -> Kicks {
        self.generate(cpu, value, false, hw)
    }

    fn generate(&self, cpu: usize, value: u64, group1: bool, hw: &mut impl Gic) -> Kicks {
        let intid = (value >> 24 & 0xF) as u32;
        let mut kicks = Kicks::NONE;
        if value >> 40 & 1 != 0 {
            for target in (0..self.config.cpus).filter(|target| *target != cpu) {
                kicks = kicks | self.raise_sgi(cpu, target, intid, group1, hw);
            }
            return kicks;
        }
        // Aff3.Aff2.Aff1 and the range are all but the lowest four bits of a packed affinity.
        let cluster = (value >> 48 & 0xFF) << 20 | (value >> 32 & 0xFF) << 12 | (value >> 16 & 0xFF) << 4;
        let group = (cluster | value >> 44 & 0xF) as u32;
        for (target, affinity) in self.affinities.iter().enumerate().take(self.config.cpus) {
            if affinity >> 4 == group && value >> (affinity & 0xF) & 1 != 0 {
                kicks = kicks | self.raise_sgi(cpu, target, intid, group1, hw);
            }
        }
        kicks
    }

    /// Makes SGI `intid` pending on vCPU `target`. `group1`: whatever its group; else only if it is in Group 0.
    fn raise_sgi(&self, cpu: usize, target: usize, intid: u32, group1: bool, hw: &mut impl Gic) -> Kicks {
        let vcpu = &self.cpus[target];
        {
            let mut guard = vcpu.state.lock();
            let State { private, lists } = &mut *guard;
            if !group1 && private.is(Fact::Group1, intid) {
                return Kicks::NONE;
            }
            private.set(Fact::Latch, intid, true);
            if self.config.version == Version::V2 {
                *private.requesters(intid) |= 1 << cpu;
            }
            if target == cpu && self.may_offer(target) && lists.offer(private, intid, self.ctlr(), hw) != Offer::Full {
                return Kicks::NONE;
            }
        }
        vcpu.inbox.push(intid, 0);
        if target == cpu {
            return self.refill(target, hw);
        }
        let mut kicks = Kicks::NONE;
        self.kick_unless(cpu, target, &mut kicks);
        kicks
    }

    /// Whether the short way is open on this core: nobody asked it to revise what it holds.
    #[inline]
    fn may_offer(&self, cpu: usize) -> bool {
        self.cpus[cpu].inbox.attention() == 0
    }

    /// A trapped write of `ICC_DIR_EL1` (`ICH_HCR_EL2.TDIR`, which this crate sets only while an active interrupt has no list register).
    #[inline(never)]
    pub fn dir(&self, cpu: usize, value: u64, hw: &mut dyn Gic) -> Kicks {
        let intid = (value & 0xFF_FFFF) as u32;
        if intid >= 1020 {
            return Kicks::NONE;
        }
        let mut shared = self.shared.lock();
        self.with_refill(cpu, &mut shared, hw, |refill| {
            refill.deactivate(intid);
            refill.run();
        })
    }

    /// EL2 on the core of `cpu` has acknowledged physical interrupt `intid` and dropped its priority, without deactivating it.
    /// `None`: the interrupt is not the guest's, and the caller deactivates it.
    #[must_use = "an interrupt that is not the guest's stays active until the caller deactivates it"]
    pub fn physical_interrupt(&self, cpu: usize, intid: u32, hw: &mut impl Gic) -> Option<Kicks> {
        let offer = if intid < 32 {
            let mut guard = self.cpus[cpu].state.lock();
            let State { private, lists } = &mut *guard;
            if !private.is(Fact::Hardware, intid) {
                return None;
            }
            if private.is(Fact::Edge, intid) {
                let offer = match capture_edge(private, cpu, intid, hw) {
                    true if self.may_offer(cpu) => lists.offer(private, intid, self.ctlr(), hw),
                    true => Offer::Full,
                    false => Offer::Refused,
                };
                drop(guard);
                return Some(if offer == Offer::Full { self.revise(cpu, cpu as u8, intid, hw) } else { Kicks::NONE });
            }
            self.accept_physical(cpu, intid, private, lists, hw)
        } else {
            let mut shared = self.shared.lock();
            if intid >= 1020 || !shared.bank.is(Fact::Hardware, intid) {
                return None;
            }
            if shared.bank.is(Fact::Edge, intid) {
                let captured = capture_edge(&mut shared.bank, cpu, intid, hw);
                return Some(if captured { self.rose(cpu, intid, &mut shared, hw) } else { Kicks::NONE });
            }
            let lists = &mut self.cpus[cpu].state.lock().lists;
            let offer = self.accept_physical(cpu, intid, &mut shared.bank, lists, hw);
            // It was not active, so whichever list register held it is done with it.
            shared.home[intid as usize] = if offer == Offer::Held { cpu as u8 } else { NONE };
            offer
        };
        if offer != Offer::Full {
            return Some(Kicks::NONE);
        }
        self.cpus[cpu].inbox.push(intid, REVISE);
        Some(self.refill(cpu, hw))
    }

    #[inline]
    fn accept_physical(
        &self,
        cpu: usize,
        intid: u32,
        bank: &mut impl Interrupts,
        lists: &mut Lists,
        hw: &mut impl Gic,
    ) -> Offer {
        if !bank.is(Fact::Enabled, intid) {
            distributor::give_back(bank, cpu, intid, hw);
            return Offer::Refused;
        }
        let offer = if self.may_offer(cpu) { lists.offer_physical(bank, intid, self.ctlr(), hw) } else { Offer::Full };
        if offer != Offer::Held {
            bank.set(Fact::Latch, intid, true);
        }
        offer
    }

    /// Sets the line of a virtual interrupt; on an edge-triggered one each call with true is an edge. `cpu` is the core that runs; a
    /// PPI is that vCPU's. A core that has no vCPU may raise SPIs: it calls with a number that no vCPU has, below [`MAX_CPUS`]. No effect on an interrupt that is not virtual.
    pub fn set_level(&self, cpu: usize, intid: u32, level: bool, hw: &mut impl Gic) -> Kicks {
        self.signal(cpu, intid, Some(level), hw)
    }

    /// One edge of a virtual interrupt. On a level-sensitive one it is pending until it is acknowledged, like a write of `ISPENDR`.
    pub fn raise_edge(&self, cpu: usize, intid: u32, hw: &mut impl Gic) -> Kicks {
        self.signal(cpu, intid, None, hw)
    }

    fn signal(&self, cpu: usize, intid: u32, level: Option<bool>, hw: &mut impl Gic) -> Kicks {
        if (16..32).contains(&intid) {
            let offer = {
                let mut guard = self.cpus[cpu].state.lock();
                let State { private, lists } = &mut *guard;
                match note_signal(private, intid, level) {
                    Signal::Nothing => return Kicks::NONE,
                    Signal::Fell => Offer::Full,
                    Signal::Rose if self.may_offer(cpu) => lists.offer(private, intid, self.ctlr(), hw),
                    Signal::Rose => Offer::Full,
                }
            };
            return if offer == Offer::Full { self.revise(cpu, cpu as u8, intid, hw) } else { Kicks::NONE };
        }
        if !(32..1020).contains(&intid) {
            return Kicks::NONE;
        }
        let mut shared = self.shared.lock();
        match note_signal(&mut shared.bank, intid, level) {
            Signal::Nothing => Kicks::NONE,
            Signal::Rose => self.rose(cpu, intid, &mut shared, hw),
            Signal::Fell => self.fell(cpu, intid, &mut shared, hw),
        }
    }

    /// SPI `intid` became pending outside of the list registers.
    fn rose(&self, cpu: usize, intid: u32, shared: &mut Shared, hw: &mut impl Gic) -> Kicks {
        let (home, route) = (shared.home[intid as usize], shared.route[intid as usize]);
        if usize::from(route) == cpu && (home == NONE || home == route) && self.may_offer(cpu) {
            let offer = self.cpus[cpu].state.lock().lists.offer(&mut shared.bank, intid, self.ctlr(), hw);
            if offer == Offer::Held {
                shared.home[intid as usize] = route;
            }
            if offer != Offer::Full {
                return Kicks::NONE;
            }
        }
        self.revise_shared(cpu, intid, if home == NONE { route } else { home }, shared, hw)
    }

    /// The line of SPI `intid` fell.
    fn fell(&self, cpu: usize, intid: u32, shared: &mut Shared, hw: &mut impl Gic) -> Kicks {
        let home = shared.home[intid as usize];
        if home == NONE || (usize::from(home) == cpu && self.lower_here(cpu, intid, shared, hw)) {
            return Kicks::NONE;
        }
        self.revise_shared(cpu, intid, home, shared, hw)
    }

    /// Has the core of vCPU `target` look at SPI `intid`. Still under the lock: a vCPU that goes off now would not look into its inbox
    /// again.
    #[inline(never)]
    fn revise_shared(&self, cpu: usize, intid: u32, target: u8, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
        let mut kicks = Kicks::NONE;
        self.push_except(cpu, target, intid, REVISE, &mut kicks);
        if usize::from(target) == cpu { self.refill_locked(cpu, shared, hw) } else { kicks }
    }

    /// The line of `intid`, which this core may hold, fell: an active one needs no maintenance interrupt at its end any more. That
    /// is the usual case, a driver that serves its device before its EOI. False: it takes a refill.
    fn lower_here(&self, cpu: usize, intid: u32, shared: &mut Shared, hw: &mut impl ListRegisters) -> bool {
        let state = self.cpus[cpu].state.lock();
        let Some(slot) = state.lists.slot_of(&shared.bank, intid) else { return false };
        let value = hw.read(slot);
        if value.is_pending() || shared.bank.pending(intid) || !self.may_offer(cpu) {
            return false;
        }
        if value.is_active() && value.has_eoi() {
            hw.write(slot, value.with_eoi(false));
        }
        value.is_active()
    }

    /// Has the core of vCPU `target` look at `intid` and at all it holds.
    #[inline(never)]
    fn revise(&self, cpu: usize, target: u8, intid: u32, hw: &mut dyn Gic) -> Kicks {
        let mut kicks = Kicks::NONE;
        self.push_except(cpu, target, intid, REVISE, &mut kicks);
        if usize::from(target) == cpu { self.refill(cpu, hw) } else { kicks }
    }

    /// A physical level came to vCPU `cpu`, on its core, while PSTATE masks interrupts: it may fall before the vCPU can take it, most of all
    /// when a handler ends its interrupt first and quiets its device then. So the vCPU's next look at its interface traps, and
    /// calls [`Vgic::look`]. A GICv2 has no such trap, and delivers what is over; so does a vCPU with more active interrupts than list registers,
    /// whose ends the hardware may be counting where the trap is set.
    pub fn watch(&self, cpu: usize, hw: &mut impl ListRegisters) {
        let lists = &mut self.cpus[cpu].state.lock().lists;
        if self.config.version == Version::V3 && lists.online && !lists.spilled {
            lists.hcr |= HCR_TALL1;
            hw.set_hcr(lists.hcr);
        }
    }

    /// vCPU `cpu`, which is watched, looks at its interface: levels that have fallen are taken back, and it may look again.
    #[inline(never)]
    pub fn look(&self, cpu: usize, hw: &mut dyn Gic) -> Kicks {
        self.with_refill(cpu, &mut self.shared.lock(), hw, |refill| {
            refill.looked = true;
            refill.run();
            refill.lists.hcr &= !HCR_TALL1;
            refill.hw.set_hcr(refill.lists.hcr);
        })
    }

    /// The maintenance interrupt of this core (GIC IHI 0069, `ICH_MISR_EL2`). It is level-sensitive: after this its cause is gone.
    pub fn maintenance(&self, cpu: usize, hw: &mut dyn Gic) -> Kicks {
        self.refill(cpu, hw)
    }

    /// After a kick: takes what other cores left for this one. One load when there is nothing.
    pub fn sync(&self, cpu: usize, hw: &mut impl Gic) -> Kicks {
        let inbox = &self.cpus[cpu].inbox;
        if inbox.attention() == 0 {
            return Kicks::NONE;
        }
        let Some(private_ones) = inbox.take_private() else { return self.refill(cpu, hw) };
        let mut left = 0;
        {
            let mut guard = self.cpus[cpu].state.lock();
            let State { private, lists } = &mut *guard;
            for intid in bank::bits(private_ones) {
                if private.pending(intid) && lists.offer(private, intid, self.ctlr(), hw) == Offer::Full {
                    left |= 1 << intid;
                }
            }
        }
        if left == 0 {
            return Kicks::NONE;
        }
        inbox.push_word(0, left, 0);
        self.refill(cpu, hw)
    }

    /// vCPU `cpu` starts, on its core, whose virtual CPU interface (`ICH_VMCR_EL2`, `ICH_AP<x>R<n>_EL2`) has just been reset.
    pub fn cpu_on(&self, cpu: usize, hw: &mut dyn Gic) -> Kicks {
        let mut shared = self.shared.lock();
        self.cpus[cpu].online.store(true, Ordering::Release);
        self.with_refill(cpu, &mut shared, hw, |refill| refill.start())
    }

    /// vCPU `cpu` stops, on its core: its list registers are emptied and the interface switched off. What was pending or active
    /// remains so (`PSCI CPU_OFF` resets no redistributor); interrupts that come while it is off are remembered.
    pub fn cpu_off(&self, cpu: usize, hw: &mut dyn Gic) -> Kicks {
        let mut shared = self.shared.lock();
        self.cpus[cpu].online.store(false, Ordering::Release);
        self.with_refill(cpu, &mut shared, hw, |refill| refill.stop())
    }

    /// Whether an interrupt waits for vCPU `cpu`, on its core, masked by it or not: if so, its WFI should not give the core away.
    #[must_use]
    pub fn has_pending(&self, cpu: usize, hw: &impl ListRegisters) -> bool {
        if self.cpus[cpu].inbox.attention() != 0 {
            return true;
        }
        let state = self.cpus[cpu].state.lock();
        let mut held = state.lists.held[..hw.count().min(MAX_LIST_REGISTERS)].iter().enumerate();
        let waits = |(slot, held): (usize, &u16)| *held != NOBODY && hw.read(slot).is_pending();
        !state.lists.ready.is_empty() || held.any(waits)
    }

    #[inline]
    fn ctlr(&self) -> u32 {
        self.ctlr.load(Ordering::Relaxed)
    }

    fn set_ctlr(&self, value: u32) {
        self.ctlr.store(value, Ordering::Relaxed);
    }

    #[inline(never)]
    fn refill(&self, cpu: usize, hw: &mut dyn Gic) -> Kicks {
        self.refill_locked(cpu, &mut self.shared.lock(), hw)
    }

    fn refill_locked(&self, cpu: usize, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
        self.with_refill(cpu, shared, hw, |refill| refill.run())
    }

    fn with_refill(
        &self,
        cpu: usize,
        shared: &mut Shared,
        hw: &mut dyn Gic,
        work: impl FnOnce(&mut Refill<'_>),
    ) -> Kicks {
        let mut guard = self.cpus[cpu].state.lock();
        let State { private, lists } = &mut *guard;
        let mut refill = Refill {
            vgic: self,
            cpu,
            ctlr: self.ctlr(),
            shared,
            private,
            lists,
            hw,
            looked: false,
            kicks: Kicks::NONE,
        };
        work(&mut refill);
        refill.kicks
    }

    /// Leaves a note about `intid` with the core of vCPU `target`, if that is one.
    fn push(&self, target: u8, intid: u32, flags: u32, kicks: &mut Kicks) {
        self.push_except(MAX_CPUS, target, intid, flags, kicks);
    }

    /// The same, without a kick if `target` is `cpu`.
    #[inline]
    fn push_except(&self, cpu: usize, target: u8, intid: u32, flags: u32, kicks: &mut Kicks) {
        if let Some(receiver) = self.cpus.get(usize::from(target)) {
            receiver.inbox.push(intid, flags);
            self.kick_unless(cpu, target.into(), kicks);
        }
    }

    #[inline]
    fn kick_unless(&self, cpu: usize, target: usize, kicks: &mut Kicks) {
        if target != cpu && self.cpus[target].is_online() {
            kicks.0 |= 1 << target;
        }
    }
}

/// Brings the physical interrupt `intid` to rest, level-sensitive as the guest first finds it.
fn silence(cpu: usize, intid: u32, hw: &mut dyn Physical) {
    for change in [Change::Enable(false), Change::Edge(false), Change::Pending(false), Change::Active(false)] {
        hw.apply(cpu, intid, change);
    }
}

/// EL2 has acknowledged a physical edge: from here on it is the guest's, as pending state of its own. False: the guest does not want
/// it now, and the physical GIC has it back.
fn capture_edge(bank: &mut impl Interrupts, cpu: usize, intid: u32, hw: &mut impl Physical) -> bool {
    let wanted = bank.is(Fact::Enabled, intid);
    if wanted {
        bank.set(Fact::Latch, intid, true);
        hw.apply(cpu, intid, Change::Active(false));
    } else {
        distributor::give_back(bank, cpu, intid, hw);
    }
    wanted
}

/// What a signal did to the pending state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Nothing,
    Rose,
    Fell,
}

/// Notes a level, or an edge, of a virtual interrupt.
fn note_signal(bank: &mut impl Interrupts, intid: u32, level: Option<bool>) -> Signal {
    if !bank.is(Fact::Virtual, intid) {
        return Signal::Nothing;
    }
    if let Some(level) = level {
        bank.set(Fact::Line, intid, level);
    }
    match level {
        Some(false) if bank.is(Fact::Edge, intid) => Signal::Nothing,
        Some(false) => Signal::Fell,
        Some(true) if !bank.is(Fact::Edge, intid) => Signal::Rose,
        _ => {
            bank.set(Fact::Latch, intid, true);
            Signal::Rose
        }
    }
}
