//! Trapped accesses to the distributor and the redistributors: reads compose facts, writes change them and tell whose list
//! registers must be looked at.

use core::sync::atomic::Ordering;

use crate::bank::{Fact, Interrupts, NONE, bits};
use crate::inbox::{REVISE, SURVEY};
use crate::list_register::ListRegisters;
use crate::messages;
use crate::physical::{Change, Physical};
use crate::registers::{Bits, Register, identification};
use crate::{Config, Frame, Kicks, Read, Shared, Source, Version, Vgic};

/// Implemented bits of a priority: 5, which every virtual CPU interface has at least (`ICH_VTR_EL2.PRIbits`, `GICH_LR.Priority`).
const PRIORITY_MASK: u8 = 0xF8;

/// `GICD_CTLR.EnableGrp0` and `EnableGrp1`.
pub(crate) const CTLR_GROUPS: u32 = 0b11;
/// `GICD_CTLR.ARE` and `DS`, read as one (GIC IHI 0069, `GICD_CTLR` when only one Security state is
/// supported).
const CTLR_ARE_DS: u32 = 1 << 4 | 1 << 6;
/// `GICD_CTLR.RWP`.
const CTLR_RWP: u32 = 1 << 31;
/// `GICR_CTLR.RWP`.
const GICR_CTLR_RWP: u32 = 1 << 3;
/// `GICR_WAKER.ProcessorSleep`; `ChildrenAsleep` is the bit above.
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
/// `GICD_IIDR` and `GICR_IIDR`: product 'H', no JEP106 code.
pub(crate) const IIDR: u32 = 0x48 << 24;

/// SGI frame of a redistributor.
const SGI_BASE: u64 = 0x1_0000;
/// Offset of `PIDR4` in a GICv3 frame.
const IDENTIFICATION_V3: u64 = 0xFFD0;
/// Offset of `PIDR4` in the GICv2 distributor.
const IDENTIFICATION_V2: u64 = 0xFD0;

/// The interrupts that an access to a bit register is about.
#[derive(Clone, Copy)]
struct Word {
    /// Word of the INTID space.
    index: usize,
    /// Whose private interrupts, for word 0.
    owner: usize,
}

/// What a write asks for: interrupts that may be deliverable now, and such whose list register must be revised.
#[derive(Clone, Copy, Default)]
struct Effect {
    raise: u32,
    revise: u32,
}

impl Vgic {
    /// A trapped read of `size` bytes (1, 2, 4, 8) at `offset` in `frame` by vCPU `cpu`.
    pub fn mmio_read<H>(&self, cpu: usize, frame: Frame, offset: u64, size: usize, hw: &mut H) -> Read
    where
        H: ListRegisters + Physical,
    {
        match (frame, self.config.version) {
            (Frame::Distributor, Version::V3) => {
                let register = Register::decode(offset, size, IDENTIFICATION_V3);
                self.read_v3(cpu, register, size, hw)
            }
            (Frame::Distributor, Version::V2) => {
                let register = Register::decode(offset, size, IDENTIFICATION_V2);
                self.read_v2(cpu, register, size, hw)
            }
            (Frame::Redistributor(owner), Version::V3) if owner < self.config.cpus => {
                if offset < SGI_BASE {
                    return Read::from(self.read_redistributor(owner, offset, size));
                }
                let register = Register::decode(offset - SGI_BASE, size, IDENTIFICATION_V3);
                self.read_interrupts(cpu, owner, register, size, hw)
            }
            (Frame::Messages, Version::V2) => Read::from(self.read_message_frame(offset, size)),
            _ => Read::ZERO,
        }
    }

    /// A trapped write of `size` bytes.
    pub fn mmio_write<H>(&self, cpu: usize, frame: Frame, offset: u64, size: usize, value: u64, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        match (frame, self.config.version) {
            (Frame::Distributor, Version::V3) => match Register::decode(offset, size, IDENTIFICATION_V3) {
                Register::Router(intid, upper) => self.write_router(cpu, intid, upper, size, value, hw),
                Register::Control => self.write_control(cpu, value as u32, hw),
                Register::Message(set) => self.write_message(cpu, value as u32, set, hw),
                register if is_private(register) => Kicks::NONE,
                register => self.write_interrupts(cpu, 0, register, size, value as u32, hw),
            },
            (Frame::Messages, Version::V2) if messages::is_set(offset, size) => {
                self.write_message(cpu, value as u32, true, hw)
            }
            (Frame::Distributor, Version::V2) => self.write_v2(cpu, offset, size, value as u32, hw),
            (Frame::Redistributor(owner), Version::V3) if owner < self.config.cpus => {
                if offset >= SGI_BASE {
                    let register = Register::decode(offset - SGI_BASE, size, IDENTIFICATION_V3);
                    let private = is_private(register);
                    return if private {
                        self.write_interrupts(cpu, owner, register, size, value as u32, hw)
                    } else {
                        Kicks::NONE
                    };
                }
                if (offset, size) == (0x14, 4) {
                    self.cpus[owner].waker.store(value as u32 & WAKER_PROCESSOR_SLEEP);
                }
                Kicks::NONE
            }
            _ => Kicks::NONE,
        }
    }

    fn read_v3<H>(&self, cpu: usize, register: Register, size: usize, hw: &mut H) -> Read
    where
        H: ListRegisters + Physical,
    {
        match register {
            Register::Control => {
                let waits = if self.revision_waits(cpu) { CTLR_RWP } else { 0 };
                Read::from(self.ctlr() | CTLR_ARE_DS | waits)
            }
            Register::Type => Read::from(self.typer),
            Register::Implementer => Read::from(IIDR),
            Register::Identification(offset) => Read::from(identification(offset, 3)),
            Register::Router(intid, upper) => self.read_router(intid, upper, size),
            Register::Bits(_, 0) => Read::ZERO,
            Register::Bits(kind, index) => self.read_bits(cpu, kind, Word { index, owner: 0 }, hw),
            register if is_private(register) => Read::ZERO,
            register => self.read_interrupts(cpu, 0, register, size, hw),
        }
    }

    fn read_v2<H>(&self, cpu: usize, register: Register, size: usize, hw: &mut H) -> Read
    where
        H: ListRegisters + Physical,
    {
        match register {
            Register::Control => Read::from(self.ctlr()),
            Register::Type => Read::from(self.typer),
            Register::Implementer => Read::from(IIDR),
            Register::Identification(offset) => Read::from(identification(offset, 2)),
            Register::Targets(first) => self.read_targets(cpu, first, size),
            Register::SetSgiPending(first) | Register::ClearSgiPending(first) => {
                self.read_sgi_pending(cpu, first, size, hw)
            }
            register => self.read_interrupts(cpu, cpu, register, size, hw),
        }
    }

    fn write_v2<H>(&self, cpu: usize, offset: u64, size: usize, value: u32, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        match Register::decode(offset, size, IDENTIFICATION_V2) {
            Register::Control => self.write_control(cpu, value, hw),
            Register::Targets(first) => self.write_targets(cpu, first, size, value, hw),
            Register::Sgi => self.write_sgir(cpu, value, hw),
            Register::SetSgiPending(first) => self.set_sgi_pending(cpu, first, size, value, hw),
            Register::ClearSgiPending(first) => self.clear_sgi_pending(cpu, first, size, value, hw),
            register => self.write_interrupts(cpu, cpu, register, size, value, hw),
        }
    }

    /// `RD_base` of vCPU `owner` (GIC IHI 0069, the `GICR` register map).
    fn read_redistributor(&self, owner: usize, offset: u64, size: usize) -> u64 {
        match (offset, size) {
            (0x00, 4) if self.cpus[owner].is_online() && self.cpus[owner].inbox.revision_waits() => {
                u64::from(GICR_CTLR_RWP)
            }
            (0x04, 4) => u64::from(IIDR),
            (0x08, 8) => typer_redistributor(&self.config, owner),
            (0x08, 4) => typer_redistributor(&self.config, owner) & 0xFFFF_FFFF,
            (0x0C, 4) => typer_redistributor(&self.config, owner) >> 32,
            (0x14, 4) => {
                let sleep = self.cpus[owner].waker.load();
                u64::from(sleep | sleep << 1)
            }
            (IDENTIFICATION_V3..0x1_0000, 4) if offset.is_multiple_of(4) => {
                u64::from(identification(offset - IDENTIFICATION_V3, 3))
            }
            _ => 0,
        }
    }

    /// Whether a core other than `cpu` has not carried out a change yet. It waits for a refill under way.
    fn revision_waits(&self, cpu: usize) -> bool {
        if self.config.cpus == 1 {
            return false;
        }
        let _refill_done = self.shared.lock();
        let cpus = &self.cpus[..self.config.cpus];
        cpus.iter().enumerate().any(|(other, it)| other != cpu && it.is_online() && it.inbox.revision_waits())
    }

    fn write_control<H>(&self, cpu: usize, value: u32, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let mut shared = self.shared.lock();
        let groups = value & CTLR_GROUPS;
        if groups == self.ctlr() {
            return Kicks::NONE;
        }
        self.set_ctlr(groups);
        let mut kicks = Kicks::NONE;
        for target in 0..self.config.cpus {
            self.cpus[target].inbox.ask(SURVEY);
            self.kick_unless(cpu, target, &mut kicks);
        }
        kicks | self.refill_locked(cpu, &mut shared, hw)
    }

    fn read_interrupts<H>(&self, cpu: usize, owner: usize, register: Register, size: usize, hw: &mut H) -> Read
    where
        H: ListRegisters + Physical,
    {
        match register {
            Register::Bits(kind, index) => self.read_bits(cpu, kind, Word { index, owner }, hw),
            Register::Priority(first) => Read::from(self.with_bank(owner, first, |bank| {
                let priority = |intid| if owns(bank, intid) { bank.priority(intid) } else { 0 };
                compose_bytes(size, |n| priority(first + n))
            })),
            Register::Config(first) => Read::from(self.with_bank(owner, first, |bank| {
                let edges = bank.word(Fact::Edge, (first / 32) as usize) & bank.owned((first / 32) as usize);
                spread(edges >> (first % 32))
            })),
            _ => Read::ZERO,
        }
    }

    #[inline(always)]
    fn read_bits<H>(&self, cpu: usize, kind: Bits, word: Word, hw: &mut H) -> Read
    where
        H: ListRegisters + Physical,
    {
        let fact = match kind {
            Bits::Group => Fact::Group1,
            Bits::SetEnable | Bits::ClearEnable => Fact::Enabled,
            Bits::SetPending | Bits::ClearPending => return self.read_state(cpu, word, hw).0,
            Bits::SetActive | Bits::ClearActive => return self.read_state(cpu, word, hw).1,
        };
        let first = word.index as u32 * 32;
        Read::from(self.with_bank(word.owner, first, |bank| bank.word(fact, word.index) & bank.owned(word.index)))
    }

    /// Pending and active bits, each as a read of its own.
    ///
    /// What the list registers of another core hold only that core can tell, and nobody waits at EL2 for another core. So the read is
    /// not answered: that core is asked and the guest executes its load again, with its own interrupts served in between, until all
    /// have answered. The value is then what was true at some time during the instruction. A guest that polls `ISACTIVER` until an
    /// interrupt is done (Linux: `synchronize_irq`) never goes on too early, nor waits for one that is only pending.
    fn read_state<H>(&self, cpu: usize, word: Word, hw: &mut H) -> (Read, Read)
    where
        H: ListRegisters + Physical,
    {
        let mut shared = self.shared.lock();
        // Answers to an earlier load, which the guest never came back to, are none to this one.
        let name = word.index as u32 + 1;
        let asked = self.cpus[cpu].asking.swap(0, Ordering::Relaxed) == name;
        let mut kicks = self.look_at_levels(cpu, word, &mut shared, hw);
        let (mut held, mut unknown) = (Held::default(), false);
        let others = if word.index == 0 { 1 << word.owner } else { shared.homes(word.index) };
        for holder in bits(others | 1 << cpu).map(|holder| holder as usize) {
            if word.index == 0 && holder != word.owner {
                continue;
            }
            match self.held_by(cpu, holder, word.index, asked, hw) {
                Some(known) => held |= known,
                None => {
                    unknown = true;
                    self.kick_unless(cpu, holder, &mut kicks);
                }
            }
        }
        if unknown {
            self.cpus[cpu].asking.store(name, Ordering::Relaxed);
        }
        if unknown || !kicks.is_empty() {
            return (Read::Again(kicks), Read::Again(kicks));
        }
        let (pending, active) = self.compose_state(&shared, word, held, hw);
        (Read::from(pending), Read::from(active))
    }

    /// A physical level that this core's list registers hold pending may have fallen meanwhile: then it is taken back.
    fn look_at_levels<H>(&self, cpu: usize, word: Word, shared: &mut Shared, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let held = self.cpus[cpu].state.lock().lists.held;
        let waits = (0..hw.count().min(held.len())).any(|slot| {
            let value = hw.read(slot);
            (u32::from(held[slot]) / 32) as usize == word.index && value.is_hardware() && value.is_pending()
        });
        if !waits {
            return Kicks::NONE;
        }
        self.with_refill(cpu, shared, hw, |refill| {
            refill.looked = true;
            refill.run();
        })
    }

    /// What the list registers of `holder` have of `word`; none if only that core knows, which is asked. `asked`: it has been before.
    fn held_by<H: ListRegisters>(&self, cpu: usize, holder: usize, word: usize, asked: bool, hw: &H) -> Option<Held> {
        let mut state = self.cpus[holder].state.lock();
        let mut held = Held::default();
        for slot in 0..hw.count().min(state.lists.held.len()) {
            let intid = u32::from(state.lists.held[slot]);
            if (intid / 32) as usize == word {
                let value = if holder == cpu { hw.read(slot) } else { state.lists.seen[slot] };
                held.pending |= u32::from(value.is_pending()) << (intid % 32);
                held.active |= u32::from(value.is_active()) << (intid % 32);
            }
        }
        let renewed = state.lists.renewed >> cpu & 1 != 0;
        if holder == cpu || held.any() == 0 || (asked && renewed) {
            return Some(held);
        }
        state.lists.renewed &= !(1 << cpu);
        state.lists.wanted |= 1 << cpu;
        self.cpus[holder].inbox.ask(REVISE);
        None
    }

    fn compose_state<H: Physical>(&self, shared: &Shared, word: Word, held: Held, hw: &mut H) -> (u32, u32) {
        let mut compose = |bank: &dyn Interrupts| {
            let hardware = bank.word(Fact::Hardware, word.index);
            let (mut pending, mut active) = (bank.pending_word(word.index) | held.pending, held.active);
            active |= bank.word(Fact::Spilled, word.index) | bank.word(Fact::MakeActive, word.index);
            if hardware != 0 {
                let undelivered = bank.word(Fact::Latch, word.index) | held.pending & !held.active;
                pending |= hw.pending(word.owner, word.index) & hardware;
                active |= hw.active(word.owner, word.index) & bank.linked_word(word.index) & !undelivered;
            }
            let owned = bank.owned(word.index);
            (pending & owned, active & owned)
        };
        if word.index == 0 { compose(&self.cpus[word.owner].state.lock().private) } else { compose(&shared.bank) }
    }

    pub(crate) fn write_interrupts<H>(
        &self,
        cpu: usize,
        owner: usize,
        register: Register,
        size: usize,
        value: u32,
        hw: &mut H,
    ) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let first = match register {
            Register::Bits(_, index) => index as u32 * 32,
            Register::Priority(first) | Register::Config(first) => first,
            _ => return Kicks::NONE,
        };
        let mut shared = self.shared.lock();
        let index = (first / 32) as usize;
        let sgis_by_bits = self.config.version == Version::V3;
        if index == 0 {
            let mut state = self.cpus[owner].state.lock();
            let mut target = Target { bank: &mut state.private, places: None, index, cpu: owner, sgis_by_bits };
            let effect = target.write(register, size, value, hw);
            drop(state);
            self.spread_private(cpu, owner, effect, &mut shared, hw)
        } else {
            let Shared { bank, route, home, .. } = &mut *shared;
            let mut target = Target { bank, places: Some((route, home)), index, cpu, sgis_by_bits };
            let effect = target.write(register, size, value, hw);
            self.spread_shared(cpu, index, effect, &mut shared, hw)
        }
    }

    fn spread_private<H>(&self, cpu: usize, owner: usize, effect: Effect, shared: &mut Shared, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        if effect.raise | effect.revise == 0 {
            return Kicks::NONE;
        }
        let flags = if effect.revise != 0 { REVISE } else { 0 };
        self.cpus[owner].inbox.push_word(0, effect.raise | effect.revise, flags);
        if owner == cpu {
            return self.refill_locked(cpu, shared, hw);
        }
        let mut kicks = Kicks::NONE;
        self.kick_unless(cpu, owner, &mut kicks);
        kicks
    }

    fn spread_shared<H>(&self, cpu: usize, index: usize, effect: Effect, shared: &mut Shared, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let (mut kicks, mut own) = (Kicks::NONE, false);
        for bit in bits(effect.raise | effect.revise) {
            let intid = index as u32 * 32 + bit;
            let (home, route) = (shared.home[intid as usize], shared.route[intid as usize]);
            let (target, flags) = if home == NONE { (route, 0) } else { (home, REVISE) };
            own |= usize::from(target) == cpu;
            self.push_except(cpu, target, intid, flags, &mut kicks);
        }
        if own {
            kicks = kicks | self.refill_locked(cpu, shared, hw);
        }
        kicks
    }

    fn read_router(&self, intid: u32, upper: bool, size: usize) -> Read {
        let shared = self.shared.lock();
        let affinity = if owns(&shared.bank, intid) { unpack(shared.affinity[intid as usize]) } else { 0 };
        let value = match (size, upper) {
            (8, _) => affinity,
            (_, true) => affinity >> 32,
            (_, false) => affinity & 0xFFFF_FFFF,
        };
        Read::Value(value)
    }

    fn write_router<H>(&self, cpu: usize, intid: u32, upper: bool, size: usize, value: u64, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let mut shared = self.shared.lock();
        if !owns(&shared.bank, intid) {
            return Kicks::NONE;
        }
        let old = unpack(shared.affinity[intid as usize]);
        let affinity = match (size, upper) {
            (8, _) => value,
            (_, true) => old & 0xFFFF_FFFF | value << 32,
            (_, false) => old & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
        };
        shared.affinity[intid as usize] = pack(affinity);
        let route = self.config.vcpu_with_affinity(pack(affinity));
        self.set_route(cpu, intid, route, &mut shared, hw)
    }

    /// Routes an SPI to vCPU `route`, or nowhere.
    pub(crate) fn set_route<H>(&self, cpu: usize, intid: u32, route: u8, shared: &mut Shared, hw: &mut H) -> Kicks
    where
        H: ListRegisters + Physical,
    {
        let old = core::mem::replace(&mut shared.route[intid as usize], route);
        if old == route {
            return Kicks::NONE;
        }
        if shared.bank.is(Fact::Hardware, intid) {
            if route != NONE {
                hw.apply(cpu, intid, Change::Route(route.into()));
            }
            if shared.bank.is(Fact::Enabled, intid) && (old == NONE) != (route == NONE) {
                hw.apply(cpu, intid, Change::Enable(route != NONE));
            }
            if shared.bank.take(Fact::Latch, intid) {
                give_back(&shared.bank, cpu, intid, hw);
            }
        }
        let bit = 1 << (intid % 32);
        self.spread_shared(cpu, (intid / 32) as usize, Effect { raise: bit, revise: bit }, shared, hw)
    }

    fn with_bank<R>(&self, owner: usize, first: u32, read: impl FnOnce(&dyn Interrupts) -> R) -> R {
        if first < 32 { read(&self.cpus[owner].state.lock().private) } else { read(&self.shared.lock().bank) }
    }
}

/// What list registers hold of one word.
#[derive(Clone, Copy, Default)]
struct Held {
    pending: u32,
    active: u32,
}

impl Held {
    fn any(self) -> u32 {
        self.pending | self.active
    }
}

impl core::ops::BitOrAssign for Held {
    fn bitor_assign(&mut self, other: Held) {
        self.pending |= other.pending;
        self.active |= other.active;
    }
}

/// The interrupts that a write changes: one word of one bank.
struct Target<'a> {
    bank: &'a mut dyn Interrupts,
    /// Routes and homes, of SPIs.
    places: Option<(&'a mut [u8; crate::INTIDS], &'a mut [u8; crate::INTIDS])>,
    index: usize,
    /// For the physical GIC.
    cpu: usize,
    /// `ISPENDR` and `ICPENDR` change SGIs (GICv3; on GICv2 they have registers of their own).
    sgis_by_bits: bool,
}

impl Target<'_> {
    fn intid(&self, bit: u32) -> u32 {
        self.index as u32 * 32 + bit
    }

    /// Those of `named` that a list register may hold.
    fn held(&self, named: u32) -> u32 {
        let may = |bit: &u32| match &self.places {
            Some((_, home)) => home[self.intid(*bit) as usize] != NONE,
            None => self.bank.slot(self.intid(*bit)) != NONE,
        };
        bits(named & !self.bank.word(Fact::Spilled, self.index)).filter(may).fold(0, |all, bit| all | 1 << bit)
    }

    fn is_routed(&self, intid: u32) -> bool {
        self.places.as_ref().is_none_or(|(route, _)| route[intid as usize] != NONE)
    }

    fn write<H: Physical>(&mut self, register: Register, size: usize, value: u32, hw: &mut H) -> Effect {
        match register {
            Register::Bits(kind, _) => self.write_bits(kind, value, hw),
            Register::Priority(first) => self.write_priorities(first, size, value, hw),
            Register::Config(first) => self.write_config(first, value, hw),
            _ => Effect::default(),
        }
    }

    fn write_bits<H: Physical>(&mut self, kind: Bits, value: u32, hw: &mut H) -> Effect {
        let named = value & self.bank.owned(self.index);
        match kind {
            Bits::Group => self.write_groups(value),
            Bits::SetEnable => self.enable(named & !self.bank.word(Fact::Enabled, self.index), hw),
            Bits::ClearEnable => self.disable(named & self.bank.word(Fact::Enabled, self.index), hw),
            Bits::SetPending => self.set_pending(named & self.changeable_pending(), hw),
            Bits::ClearPending => self.clear_pending(named & self.changeable_pending(), hw),
            Bits::SetActive => self.set_active(named),
            Bits::ClearActive => self.clear_active(named, hw),
        }
    }

    fn changeable_pending(&self) -> u32 {
        if self.index == 0 && !self.sgis_by_bits { !0xFFFF } else { !0 }
    }

    fn write_groups(&mut self, value: u32) -> Effect {
        let owned = self.bank.owned(self.index);
        let groups = self.bank.word_mut(Fact::Group1, self.index);
        let changed = (*groups ^ value) & owned;
        *groups ^= changed;
        self.reconsider(changed)
    }

    /// Something about `changed` interrupts is different now.
    fn reconsider(&self, changed: u32) -> Effect {
        Effect { raise: changed & self.bank.pending_word(self.index), revise: self.held(changed) }
    }

    fn enable<H: Physical>(&mut self, new: u32, hw: &mut H) -> Effect {
        *self.bank.word_mut(Fact::Enabled, self.index) |= new;
        for bit in bits(new & self.bank.word(Fact::Hardware, self.index)) {
            if self.is_routed(self.intid(bit)) {
                hw.apply(self.cpu, self.intid(bit), Change::Enable(true));
            }
        }
        self.reconsider(new)
    }

    fn disable<H: Physical>(&mut self, gone: u32, hw: &mut H) -> Effect {
        *self.bank.word_mut(Fact::Enabled, self.index) &= !gone;
        for bit in bits(gone & self.bank.word(Fact::Hardware, self.index)) {
            let intid = self.intid(bit);
            hw.apply(self.cpu, intid, Change::Enable(false));
            if self.bank.take(Fact::Latch, intid) {
                give_back(self.bank, self.cpu, intid, hw);
            }
        }
        Effect { raise: 0, revise: self.held(gone) }
    }

    fn set_pending<H: Physical>(&mut self, named: u32, hw: &mut H) -> Effect {
        let hardware = named & self.bank.word(Fact::Hardware, self.index);
        for bit in bits(hardware) {
            hw.apply(self.cpu, self.intid(bit), Change::Pending(true));
        }
        *self.bank.word_mut(Fact::LatchHeld, self.index) |= named & self.bank.linked_word(self.index);
        *self.bank.word_mut(Fact::Latch, self.index) |= named & !hardware;
        self.reconsider(named & !hardware)
    }

    fn clear_pending<H: Physical>(&mut self, named: u32, hw: &mut H) -> Effect {
        let held = self.held(named);
        for bit in bits(named & self.bank.word(Fact::Hardware, self.index)) {
            let intid = self.intid(bit);
            hw.apply(self.cpu, intid, Change::Pending(false));
            if self.bank.is(Fact::Latch, intid) && !self.bank.is(Fact::Spilled, intid) {
                hw.apply(self.cpu, intid, Change::Active(false));
            }
        }
        *self.bank.word_mut(Fact::Latch, self.index) &= !named;
        *self.bank.word_mut(Fact::LatchHeld, self.index) &= !(named & self.bank.linked_word(self.index));
        *self.bank.word_mut(Fact::DropPending, self.index) |= held;
        Effect { raise: 0, revise: held }
    }

    fn set_active(&mut self, named: u32) -> Effect {
        let new = named & !self.bank.word(Fact::Spilled, self.index);
        *self.bank.word_mut(Fact::MakeActive, self.index) |= new;
        Effect { raise: new, revise: self.held(new) }
    }

    fn clear_active<H: Physical>(&mut self, named: u32, hw: &mut H) -> Effect {
        let spilled = named & self.bank.word(Fact::Spilled, self.index);
        let held = self.held(named & !spilled);
        *self.bank.word_mut(Fact::MakeActive, self.index) &= !named;
        *self.bank.word_mut(Fact::Spilled, self.index) &= !spilled;
        *self.bank.word_mut(Fact::DropActive, self.index) |= held;
        let undelivered = self.bank.word(Fact::Latch, self.index) & !spilled;
        for bit in bits(named & self.bank.linked_word(self.index) & !held & !undelivered) {
            hw.apply(self.cpu, self.intid(bit), Change::Active(false));
        }
        for bit in bits(spilled) {
            let intid = self.intid(bit);
            if let Some((_, home)) = &mut self.places {
                home[intid as usize] = NONE;
            }
        }
        Effect { raise: spilled, revise: held }
    }

    fn write_priorities<H: Physical>(&mut self, first: u32, size: usize, value: u32, hw: &mut H) -> Effect {
        let mut changed = 0;
        for n in 0..size as u32 {
            let (intid, priority) = (first + n, (value >> (8 * n)) as u8 & PRIORITY_MASK);
            if !owns(self.bank, intid) || self.bank.priority(intid) == priority {
                continue;
            }
            self.bank.set_priority(intid, priority);
            if self.bank.is(Fact::Hardware, intid) {
                hw.apply(self.cpu, intid, Change::Priority(priority));
            }
            changed |= 1 << (intid % 32);
        }
        self.reconsider(changed)
    }

    fn write_config<H: Physical>(&mut self, first: u32, value: u32, hw: &mut H) -> Effect {
        let sgis = if self.index == 0 { 0xFFFF } else { 0 };
        let here = 0xFFFF << (first % 32) & self.bank.owned(self.index) & !sgis;
        let edges = self.bank.word_mut(Fact::Edge, self.index);
        let changed = (*edges ^ gather(value) << (first % 32)) & here;
        *edges ^= changed;
        for bit in bits(changed & self.bank.word(Fact::Hardware, self.index)) {
            let edge = self.bank.is(Fact::Edge, self.intid(bit));
            hw.apply(self.cpu, self.intid(bit), Change::Edge(edge));
        }
        self.reconsider(changed)
    }
}

/// Returns an acknowledged but undelivered interrupt to the physical GIC: pending again if an edge, and not active.
pub(crate) fn give_back<H: Physical>(bank: &dyn Interrupts, cpu: usize, intid: u32, hw: &mut H) {
    if bank.is(Fact::Edge, intid) {
        hw.apply(cpu, intid, Change::Pending(true));
    }
    hw.apply(cpu, intid, Change::Active(false));
}

impl Config {
    /// The vCPU with packed affinity `affinity`, or [`NONE`].
    pub(crate) fn vcpu_with_affinity(&self, affinity: u32) -> u8 {
        let found = self.affinities[..self.cpus].iter().position(|it| pack(*it) == affinity);
        found.map_or(NONE, |cpu| cpu as u8)
    }
}

impl Source {
    pub(crate) fn facts(self) -> (bool, bool) {
        (self == Source::Hardware, self == Source::Virtual)
    }
}

/// Whether all of `register` is about SGIs and PPIs.
fn is_private(register: Register) -> bool {
    match register {
        Register::Bits(_, index) => index == 0,
        Register::Priority(first) | Register::Config(first) | Register::Targets(first) => first < 32,
        _ => false,
    }
}

fn owns(bank: &(impl Interrupts + ?Sized), intid: u32) -> bool {
    bank.is(Fact::Hardware, intid) || bank.is(Fact::Virtual, intid)
}

/// Aff3.Aff2.Aff1.Aff0 in one word.
pub(crate) const fn pack(affinity: u64) -> u32 {
    (affinity & 0xFF_FFFF) as u32 | (affinity >> 32 << 24) as u32
}

const fn unpack(affinity: u32) -> u64 {
    (affinity & 0xFF_FFFF) as u64 | (affinity as u64 >> 24) << 32
}

/// `GICD_TYPER`. GICv3: `IDbits` 10, `No1N`, `A3V` if an affinity needs it, `MBIS` if there are message-based SPIs; no LPIs, no extended
/// ranges.
/// GICv2: the number of CPU interfaces.
pub(crate) const fn typer(config: &Config) -> u32 {
    let spis = if config.spis < 988 { config.spis as u32 } else { 988 };
    let lines = spis.div_ceil(32);
    if matches!(config.version, Version::V2) {
        return lines | (config.cpus as u32 - 1) << 5;
    }
    let (mut aff3, mut cpu) = (0, 0);
    while cpu < config.cpus {
        aff3 |= config.affinities[cpu] >> 32 & 0xFF;
        cpu += 1;
    }
    lines | (config.messages.is_some() as u32) << 16 | 9 << 19 | ((aff3 != 0) as u32) << 24 | 1 << 25
}

/// `GICR_TYPER`: affinity, processor number, `Last`.
fn typer_redistributor(config: &Config, owner: usize) -> u64 {
    let last = owner + 1 == config.cpus;
    u64::from(pack(config.affinities[owner])) << 32 | (owner as u64) << 8 | u64::from(last) << 4
}

/// `size` bytes, byte *n* from `byte(n)`.
pub(crate) fn compose_bytes(size: usize, byte: impl Fn(u32) -> u8) -> u32 {
    (0..size as u32).fold(0, |value, n| value | u32::from(byte(n)) << (8 * n))
}

/// 16 bits to the odd bits of a word, as `ICFGR` has them.
fn spread(flags: u32) -> u32 {
    (0..16).fold(0, |value, n| value | (flags >> n & 1) << (2 * n + 1))
}

/// The inverse of [`spread`].
fn gather(value: u32) -> u32 {
    (0..16).fold(0, |flags, n| flags | (value >> (2 * n + 1) & 1) << n)
}

impl Read {
    /// RAZ.
    const ZERO: Read = Read::Value(0);
}

impl From<u32> for Read {
    fn from(value: u32) -> Read {
        Read::from(u64::from(value))
    }
}

impl From<u64> for Read {
    fn from(value: u64) -> Read {
        Read::Value(value)
    }
}
