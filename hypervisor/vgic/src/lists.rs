//! The list registers of one vCPU as software knows them, and the short way of an interrupt into one.
//!
//! A list register stays live in hardware, so its state is only known by reading it, and only its own core can. What is kept
//! here is who was put where (`held`). An entry is not erased when the guest is done with its interrupt: the next one that
//! takes the list register overwrites it, and whoever looks an interrupt up checks that both sides agree.

use crate::bank::{Fact, Interrupts, NONE};
use crate::list_register::{ListRegister, ListRegisters, MAX_LIST_REGISTERS};

/// Words of a bitmap of all INTIDs.
pub(crate) const WORDS: usize = 32;

/// `held` entry without an interrupt.
pub(crate) const NOBODY: u16 = u16::MAX;

/// A set of INTIDs with a summary, so that finding its members costs what they are.
#[derive(Debug)]
pub(crate) struct Set {
    summary: u32,
    words: [u32; WORDS],
}

impl Set {
    pub(crate) const fn new() -> Set {
        Set { summary: 0, words: [0; WORDS] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// Words with members, as a bitmap.
    pub(crate) fn summary(&self) -> u32 {
        self.summary
    }

    pub(crate) fn word(&self, word: usize) -> u32 {
        self.words[word]
    }

    pub(crate) fn insert(&mut self, intid: u32) {
        self.insert_word((intid / 32) as usize, 1 << (intid % 32));
    }

    pub(crate) fn insert_word(&mut self, word: usize, bits: u32) {
        self.words[word] |= bits;
        if bits != 0 {
            self.summary |= 1 << word;
        }
    }

    pub(crate) fn remove(&mut self, intid: u32) {
        let word = (intid / 32) as usize;
        self.words[word] &= !(1 << (intid % 32));
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Set::new();
    }
}

/// What became of an interrupt offered to the list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A list register holds it.
    Held,
    /// It cannot be delivered now; whatever changes that will offer it again.
    Refused,
    /// There is no list register for it, or others wait too: [`crate::refill`] must decide.
    Full,
}

/// The list registers of one vCPU.
#[derive(Debug)]
pub(crate) struct Lists {
    /// The vCPU runs: its core answers kicks.
    pub(crate) online: bool,
    /// INTID that list register *n* was last loaded with, or [`NOBODY`].
    pub(crate) held: [u16; MAX_LIST_REGISTERS],
    /// List register *n* as its core saw it last, for readers on other cores.
    pub(crate) seen: [ListRegister; MAX_LIST_REGISTERS],
    /// vCPUs whose read waits for `seen` to be renewed, as a bitmap.
    pub(crate) wanted: u8,
    /// Those for whom it was renewed since they asked.
    pub(crate) renewed: u8,
    /// Pending and deliverable, waiting for a list register.
    pub(crate) ready: Set,
    /// Some active interrupt of this vCPU may have no list register.
    pub(crate) spilled: bool,
    /// `ICH_HCR_EL2` as last written.
    pub(crate) hcr: u32,
}

impl Lists {
    pub(crate) const fn new() -> Lists {
        Lists {
            online: false,
            held: [NOBODY; MAX_LIST_REGISTERS],
            seen: [ListRegister::EMPTY; MAX_LIST_REGISTERS],
            wanted: 0,
            renewed: 0,
            ready: Set::new(),
            spilled: false,
            hcr: 0,
        }
    }

    /// The list register that holds `intid` or held it last.
    #[inline]
    pub(crate) fn slot_of<B: Interrupts + ?Sized>(&self, bank: &B, intid: u32) -> Option<usize> {
        let slot = bank.slot(intid);
        let held = u32::from(self.held[slot as usize % MAX_LIST_REGISTERS]);
        (slot != NONE && held == intid).then_some(slot as usize % MAX_LIST_REGISTERS)
    }

    /// The short way: brings a pending interrupt that is routed here into a list register, if that needs no choice.
    #[inline]
    pub(crate) fn offer(
        &mut self,
        bank: &mut (impl Interrupts + ?Sized),
        intid: u32,
        ctlr: u32,
        hw: &mut (impl ListRegisters + ?Sized),
    ) -> Offer {
        if !self.online || !bank.deliverable(intid, ctlr) {
            return Offer::Refused;
        }
        if !self.ready.is_empty() {
            return Offer::Full;
        }
        if let Some(slot) = self.slot_of(bank, intid) {
            let value = hw.read(slot);
            if value.is_pending() || (value.is_active() && !value.is_hardware()) {
                merge(bank, intid, slot, value, hw);
            } else {
                self.load(bank, intid, slot, hw);
            }
            return Offer::Held;
        }
        let Some(slot) = self.free_slot(hw) else { return Offer::Full };
        self.load(bank, intid, slot, hw);
        Offer::Held
    }

    /// The same for a physical level that EL2 has just acknowledged, whose latch is not set. It was not active, so the list
    /// register that held it last is free, unless another took it.
    #[inline]
    pub(crate) fn offer_physical(
        &mut self,
        bank: &mut impl Interrupts,
        intid: u32,
        ctlr: u32,
        hw: &mut (impl ListRegisters + ?Sized),
    ) -> Offer {
        if !self.online || !bank.deliverable(intid, ctlr) {
            return Offer::Refused;
        }
        if !self.ready.is_empty() {
            return Offer::Full;
        }
        let slot = match self.slot_of(bank, intid) {
            Some(slot) => slot,
            None => match self.free_slot(hw) {
                Some(slot) => slot,
                None => return Offer::Full,
            },
        };
        let (priority, group1) = (bank.priority(intid), bank.is(Fact::Group1, intid));
        let value = ListRegister::hardware(intid, priority, group1).with_state(true, false);
        self.place(bank, intid, slot, value, hw);
        Offer::Held
    }

    /// A list register that is free. What `ELRSR` says is checked by reading it: without an ISB `ELRSR` may lag behind a write
    /// of this core, and a read of the register itself does not (Arm ARM DDI 0487, Synchronization requirements for System registers).
    #[inline]
    fn free_slot(&self, hw: &(impl ListRegisters + ?Sized)) -> Option<usize> {
        let mut empty = hw.empty();
        for _ in 0..MAX_LIST_REGISTERS {
            let slot = empty.trailing_zeros() as usize;
            let held = self.held.get(slot)?;
            if *held == NOBODY || hw.read(slot).is_idle() {
                return Some(slot);
            }
            empty &= empty - 1;
        }
        None
    }

    /// Puts a pending interrupt into list register `slot`, which is free.
    #[inline]
    pub(crate) fn load(
        &mut self,
        bank: &mut (impl Interrupts + ?Sized),
        intid: u32,
        slot: usize,
        hw: &mut (impl ListRegisters + ?Sized),
    ) {
        let value = compose_pending(bank, intid);
        self.place(bank, intid, slot, value, hw);
    }

    /// Writes list register `slot` and the books.
    #[inline]
    pub(crate) fn place(
        &mut self,
        bank: &mut (impl Interrupts + ?Sized),
        intid: u32,
        slot: usize,
        value: ListRegister,
        hw: &mut (impl ListRegisters + ?Sized),
    ) {
        hw.write(slot, value);
        self.held[slot % MAX_LIST_REGISTERS] = intid as u16;
        self.seen[slot % MAX_LIST_REGISTERS] = value;
        bank.set_slot(intid, slot as u8);
    }
}

/// The list register value of an interrupt in no state.
pub(crate) fn compose<B: Interrupts + ?Sized>(bank: &B, intid: u32) -> ListRegister {
    compose_as(bank, intid, bank.linked(intid))
}

/// The same, linked to the physical interrupt or not: a list register in use stays what it was loaded as.
pub(crate) fn compose_as<B: Interrupts + ?Sized>(bank: &B, intid: u32, linked: bool) -> ListRegister {
    let (priority, group1) = (bank.priority(intid), bank.is(Fact::Group1, intid));
    if linked {
        ListRegister::hardware(intid, priority, group1)
    } else {
        ListRegister::software(intid, priority, group1)
    }
}

/// Moves the pending state of an interrupt from its latch into a list register value.
#[inline]
fn compose_pending<B: Interrupts + ?Sized>(bank: &mut B, intid: u32) -> ListRegister {
    let value = compose(bank, intid).with_state(true, false);
    if intid < 16 && *bank.requesters(intid) != 0 {
        let requesters = bank.requesters(intid);
        let cpu = requesters.trailing_zeros();
        *requesters &= *requesters - 1;
        let more = *requesters != 0;
        bank.set(Fact::Latch, intid, more);
        return value.with_source(cpu).with_eoi(more);
    }
    let latch = bank.take(Fact::Latch, intid);
    if value.is_hardware() || bank.is(Fact::Edge, intid) {
        return value;
    }
    bank.set(Fact::LatchHeld, intid, latch);
    value.with_eoi(true)
}

/// Adds a new pending state to a virtual interrupt that list register `slot` holds with `value`.
fn merge(
    bank: &mut (impl Interrupts + ?Sized),
    intid: u32,
    slot: usize,
    value: ListRegister,
    hw: &mut (impl ListRegisters + ?Sized),
) {
    let merged = merged(bank, intid, value);
    if merged != value {
        hw.write(slot, merged);
    }
}

/// `value`, which is in some state, with what is pending outside of it: a second edge of an active interrupt becomes active and
/// pending, a level that stays high asks for a maintenance interrupt at the end, and so does an SGI of another requester.
pub(crate) fn merged<B: Interrupts + ?Sized>(bank: &mut B, intid: u32, value: ListRegister) -> ListRegister {
    if value.is_hardware() {
        return value;
    }
    if intid < 16 && *bank.requesters(intid) != 0 {
        if value.is_pending() {
            *bank.requesters(intid) &= !(1 << value.source());
        }
        let more = *bank.requesters(intid) != 0;
        bank.set(Fact::Latch, intid, more);
        return value.with_eoi(more);
    }
    if bank.is(Fact::Edge, intid) {
        let pending = bank.take(Fact::Latch, intid) || value.is_pending();
        return value.with_state(pending, value.is_active()).with_eoi(false);
    }
    if value.is_pending() {
        if bank.take(Fact::Latch, intid) {
            bank.set(Fact::LatchHeld, intid, true);
        }
        return value.with_eoi(true);
    }
    value.with_eoi(bank.pending(intid))
}
