//! The long way: everything that a list register holds or an interrupt waits for, decided anew on the core itself.
//!
//! It runs when there is a choice to make: no list register is free, the guest changed something that one holds, or a
//! maintenance interrupt came. Three steps, each bounded by the number of list registers or of INTIDs:
//!
//! 1. *Fold*: read each list register in use. One that the guest is done with is freed; one whose interrupt may no longer be
//!    pending here (disabled, cleared, routed elsewhere) loses that state. A hardware interrupt that is taken back unseen returns
//!    to the physical GIC (pending again if it is an edge, then deactivated), which holds the truth about it from then on.
//! 2. *Load*: waiting interrupts go in by priority. If all list registers are used, one goes out for a better one: the lowest
//!    pending one; if none is pending, the active one of lowest priority. So the best pending interrupts are always in, and
//!    while any wait, at least one list register is pending: `NPIE` then fires when the last of them is acknowledged, and cannot
//!    fire again before the next refill changed that, so it never storms (which `UIE` would, with one list register or one long-running
//!    handler).
//! 3. An active interrupt that went out is *spilled*. The guest's EOI then finds no list register; the hardware counts
//!    (`EOIcount`) and `LRENPIE` calls. With EOImode 0 interrupts end in the order of their priority, so the count tells which;
//!    with EOImode 1 `TDIR` traps `ICC_DIR_EL1`, which names it. (Without `TDIR` the order of priority is the best guess left.)
//!
//! (GIC IHI 0069, `ICH_HCR_EL2`, `ICH_MISR_EL2`, `ICH_LR<n>_EL2` and Usage model for the List registers.)

use crate::bank::{Bank, Fact, Interrupts, NONE, bits};
use crate::inbox::{REVISE, SURVEY};
use crate::list_register::{
    HCR_EN, HCR_EOICOUNT_SHIFT, HCR_LRENPIE, HCR_NPIE, HCR_TALL1, HCR_TDIR, ListRegister, MAX_LIST_REGISTERS,
};
use crate::lists::{Lists, NOBODY, WORDS, compose, compose_as, merged};
use crate::physical::{Change, Gic};
use crate::{INTIDS, Kicks, Shared, Version, Vgic};

/// The vCPU under work, with everything locked that it needs.
pub(crate) struct Refill<'a> {
    pub(crate) vgic: &'a Vgic,
    pub(crate) cpu: usize,
    pub(crate) ctlr: u32,
    pub(crate) shared: &'a mut Shared,
    pub(crate) private: &'a mut Bank<1, 32>,
    pub(crate) lists: &'a mut Lists,
    pub(crate) hw: &'a mut dyn Gic,
    /// The guest looks at what is pending.
    pub(crate) looked: bool,
    pub(crate) kicks: Kicks,
}

impl Refill<'_> {
    /// Does all of it.
    pub(crate) fn run(&mut self) {
        let flags = self.vgic.cpus[self.cpu].inbox.take(&mut self.lists.ready);
        if !self.lists.online {
            self.lists.ready.clear();
            return;
        }
        if flags & SURVEY != 0 {
            self.survey();
        }
        self.count_eois();
        self.fold();
        self.load();
        self.split_doubles();
        self.reload_spilled();
        self.set_maintenance();
    }

    /// The vCPU comes: nothing is in the list registers, whatever is pending for it is ready.
    pub(crate) fn start(&mut self) {
        self.clear_lists();
        self.lists.online = true;
        self.lists.spilled = true;
        self.lists.hcr = 0;
        self.hw.set_hcr(0);
        self.restore_private();
        self.survey();
        self.run();
    }

    /// A core that was off has lost what its physical private interrupts were set to; the guest believes that it stands.
    fn restore_private(&mut self) {
        for intid in 16..32 {
            if self.private.is(Fact::Hardware, intid) {
                let [edge, enabled] = [Fact::Edge, Fact::Enabled].map(|fact| self.private.is(fact, intid));
                self.hw.apply(self.cpu, intid, Change::Edge(edge));
                self.hw.apply(self.cpu, intid, Change::Enable(enabled));
            }
        }
    }

    /// The vCPU goes: pending interrupts stay pending, active ones stay active, none in a list register.
    pub(crate) fn stop(&mut self) {
        self.run();
        for slot in 0..self.hw.count() {
            if self.lists.held[slot] != NOBODY {
                self.evict(slot);
            }
        }
        self.clear_lists();
        self.forget_stale_homes();
        self.lists.online = false;
        self.lists.hcr = 0;
        self.hw.set_hcr(0);
    }

    fn clear_lists(&mut self) {
        self.lists.held = [NOBODY; MAX_LIST_REGISTERS];
        self.lists.ready.clear();
        for slot in 0..self.hw.count() {
            self.hw.write(slot, ListRegister::EMPTY);
        }
    }

    /// An offline vCPU holds nothing, and is home only to interrupts that are active: nobody would answer for others.
    fn forget_stale_homes(&mut self) {
        for intid in 0..32 {
            self.private.set_slot(intid, NONE);
        }
        for intid in 32..INTIDS as u32 {
            if !self.shared.bank.is(Fact::Spilled, intid) {
                self.forget_home(intid);
            }
        }
    }

    fn bank(&mut self, intid: u32) -> &mut dyn Interrupts {
        if intid < 32 { &mut *self.private } else { &mut self.shared.bank }
    }

    fn slot_of(&self, intid: u32) -> Option<usize> {
        if intid < 32 { self.lists.slot_of(self.private, intid) } else { self.lists.slot_of(&self.shared.bank, intid) }
    }

    /// Whether the interrupt is routed to this vCPU.
    fn is_here(&self, intid: u32) -> bool {
        intid < 32 || usize::from(self.shared.route[intid as usize]) == self.cpu
    }

    /// Everything that is pending for this vCPU becomes ready.
    fn survey(&mut self) {
        self.lists.ready.insert_word(0, self.private.pending_word(0) | self.private.word(Fact::MakeActive, 0));
        for word in 1..WORDS {
            let candidates = self.shared.bank.pending_word(word) | self.shared.bank.word(Fact::MakeActive, word);
            for bit in bits(candidates) {
                let intid = word as u32 * 32 + bit;
                if self.is_here(intid) {
                    self.lists.ready.insert(intid);
                }
            }
        }
    }

    /// Ends the spilled interrupts that the guest ended since.
    fn count_eois(&mut self) {
        if !self.lists.spilled {
            return;
        }
        let count = self.hw.hcr() >> HCR_EOICOUNT_SHIFT;
        for _ in 0..count {
            let Some(intid) = self.best_spilled() else { break };
            self.end_spilled(intid);
        }
        if count != 0 {
            self.hw.set_hcr(self.lists.hcr);
        }
    }

    /// The spilled interrupt of this vCPU with the highest priority.
    fn best_spilled(&mut self) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        for word in 0..WORDS {
            let spilled = if word == 0 {
                self.private.word(Fact::Spilled, 0)
            } else {
                self.shared.bank.word(Fact::Spilled, word)
            };
            for bit in bits(spilled) {
                let intid = word as u32 * 32 + bit;
                let mine = word == 0 || usize::from(self.shared.home[intid as usize]) == self.cpu;
                let candidate = (self.bank(intid).priority(intid), intid);
                if mine && best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
        }
        best.map(|(_, intid)| intid)
    }

    /// The guest has deactivated an interrupt that has no list register.
    pub(crate) fn end_spilled(&mut self, intid: u32) {
        self.bank(intid).set(Fact::Spilled, intid, false);
        if self.bank(intid).linked(intid) {
            self.hw.apply(self.cpu, intid, Change::Active(false));
        }
        self.leave(intid);
    }

    /// The guest deactivates `intid` by name (`ICC_DIR_EL1`).
    pub(crate) fn deactivate(&mut self, intid: u32) {
        let spilled = self.bank(intid).is(Fact::Spilled, intid);
        if spilled && (intid < 32 || usize::from(self.shared.home[intid as usize]) == self.cpu) {
            self.end_spilled(intid);
        } else if self.slot_of(intid).is_some() {
            self.bank(intid).set(Fact::DropActive, intid, true);
        }
    }

    /// No list register holds `intid` any more: what is pending of it may go where it is routed.
    fn leave(&mut self, intid: u32) {
        self.forget_home(intid);
        if self.bank(intid).pending(intid) {
            self.requeue(intid);
        }
    }

    fn forget_home(&mut self, intid: u32) {
        if intid >= 32 && usize::from(self.shared.home[intid as usize]) == self.cpu {
            self.shared.home[intid as usize] = NONE;
        }
    }

    /// Hands a pending interrupt to the vCPU that it is routed to; the physical GIC does so itself.
    fn requeue(&mut self, intid: u32) {
        if self.is_here(intid) {
            self.lists.ready.insert(intid);
        } else if self.shared.bank.is(Fact::Hardware, intid) {
            self.shared.bank.set(Fact::Latch, intid, false);
            self.give_back(intid);
        } else {
            self.vgic.push(self.shared.route[intid as usize], intid, 0, &mut self.kicks);
        }
    }

    fn fold(&mut self) {
        for slot in 0..self.hw.count().min(MAX_LIST_REGISTERS) {
            if self.lists.held[slot] != NOBODY {
                self.fold_one(slot, u32::from(self.lists.held[slot]));
            }
        }
        self.lists.renewed |= core::mem::take(&mut self.lists.wanted);
    }

    fn fold_one(&mut self, slot: usize, intid: u32) {
        let old = self.hw.read(slot);
        let value = self.drop_what_the_guest_dropped(intid, old);
        let value = self.withdraw_if_not_deliverable(intid, value);
        if !value.is_pending() && !value.is_active() {
            if old.0 != 0 {
                self.hw.write(slot, ListRegister::EMPTY);
            }
            self.lists.held[slot] = NOBODY;
            self.leave(intid);
            return;
        }
        let value = self.renew(intid, value);
        self.lists.seen[slot] = value;
        if value != old {
            self.hw.write(slot, value);
        }
    }

    /// Applies `ICPENDR`, `ICACTIVER` and `ISACTIVER` writes to what the list register holds.
    fn drop_what_the_guest_dropped(&mut self, intid: u32, value: ListRegister) -> ListRegister {
        let bank = self.bank(intid);
        let (mut pending, mut active) = (value.is_pending(), value.is_active());
        let drop_pending = bank.take(Fact::DropPending, intid) && pending;
        let drop_active = bank.take(Fact::DropActive, intid) && active;
        let make_active = bank.take(Fact::MakeActive, intid) && (pending || active);
        pending &= !drop_pending;
        active &= !drop_active;
        if !pending {
            bank.set(Fact::LatchHeld, intid, false);
        }
        if value.is_hardware() && (drop_pending || drop_active) {
            self.hw.apply(self.cpu, intid, Change::Active(false));
        }
        if make_active && !active {
            active = true;
            if value.is_hardware() && pending {
                pending = false;
                self.set_physical_pending_if_edge(intid);
            }
        }
        value.with_state(pending, active)
    }

    fn set_physical_pending_if_edge(&mut self, intid: u32) {
        if self.bank(intid).is(Fact::Edge, intid) {
            self.hw.apply(self.cpu, intid, Change::Pending(true));
        }
    }

    /// Takes the pending state out of the list register if the guest must not see it.
    fn withdraw_if_not_deliverable(&mut self, intid: u32, value: ListRegister) -> ListRegister {
        if !value.is_pending() {
            return value;
        }
        let (ctlr, here) = (self.ctlr, self.is_here(intid));
        let forwarded = here && self.bank(intid).forwarded(intid, ctlr);
        let level_fell = forwarded && self.level_fell(intid, value);
        if forwarded && !level_fell {
            return value;
        }
        let bank = self.bank(intid);
        if value.is_hardware() && (!here || !bank.is(Fact::Enabled, intid) || level_fell) {
            self.give_back(intid);
        } else {
            self.unlatch(intid, value);
        }
        value.with_state(false, value.is_active())
    }

    /// Whether the pending level that a list register holds is over before the guest has seen it. Of a physical one that EL2 has
    /// acknowledged, what is pending beside the active state is its line; that is only worth a look when the guest looks too.
    fn level_fell(&mut self, intid: u32, value: ListRegister) -> bool {
        let bank = self.bank(intid);
        if bank.is(Fact::Edge, intid) || bank.is(Fact::LatchHeld, intid) {
            return false;
        }
        if value.is_hardware() {
            (self.looked || self.lists.wanted != 0)
                && self.hw.pending(self.cpu, (intid / 32) as usize) >> (intid % 32) & 1 == 0
        } else {
            !bank.is(Fact::Line, intid)
        }
    }

    /// Returns an acknowledged but undelivered interrupt to the physical GIC.
    pub(crate) fn give_back(&mut self, intid: u32) {
        self.set_physical_pending_if_edge(intid);
        self.hw.apply(self.cpu, intid, Change::Active(false));
    }

    /// Brings a list register in use up to date: priority, group, what became pending meanwhile.
    fn renew(&mut self, intid: u32, value: ListRegister) -> ListRegister {
        let (ctlr, here) = (self.ctlr, self.is_here(intid));
        let bank = self.bank(intid);
        let fresh = compose_as(bank, intid, value.is_hardware()).with_state(value.is_pending(), value.is_active());
        if value.is_hardware() {
            return fresh;
        }
        let fresh = fresh.with_source(value.source()).with_eoi(value.has_eoi());
        if here && bank.forwarded(intid, ctlr) {
            merged(bank, intid, fresh)
        } else {
            fresh.with_eoi(bank.pending(intid))
        }
    }

    /// Fills the list registers from the waiting interrupts, best first.
    fn load(&mut self) {
        let (candidates, count) = self.select();
        for &(priority, intid) in &candidates[..count] {
            let Some(slot) = self.make_room(priority) else { break };
            self.lists.ready.remove(u32::from(intid));
            self.place_pending(u32::from(intid), slot);
        }
    }

    /// While others wait, an active and pending list register would become pending at its EOI and hide that a better one waits: its
    /// pending state waits like the others, and its EOI calls.
    fn split_doubles(&mut self) {
        if self.lists.ready.is_empty() {
            return;
        }
        for slot in 0..self.hw.count().min(MAX_LIST_REGISTERS) {
            let value = self.hw.read(slot);
            if value.is_pending() && value.is_active() {
                self.unlatch(u32::from(self.lists.held[slot]), value);
                let value = value.with_state(false, true).with_eoi(true);
                self.lists.seen[slot] = value;
                self.hw.write(slot, value);
            }
        }
    }

    fn place_pending(&mut self, intid: u32, slot: usize) {
        if intid < 32 {
            self.lists.load(&mut *self.private, intid, slot, self.hw);
        } else {
            self.lists.load(&mut self.shared.bank, intid, slot, self.hw);
            self.shared.home[intid as usize] = self.cpu as u8;
        }
    }

    /// The best waiting interrupts, at most one per list register, in order; drops from the set what cannot be delivered here.
    fn select(&mut self) -> ([(u8, u16); MAX_LIST_REGISTERS], usize) {
        let capacity = self.hw.count().min(MAX_LIST_REGISTERS);
        let mut best = [(NONE, NOBODY); MAX_LIST_REGISTERS];
        let mut count = 0;
        for word in bits(self.lists.ready.summary()) {
            for bit in bits(self.lists.ready.word(word as usize)) {
                let intid = word * 32 + bit;
                if !self.waits_here(intid) {
                    self.lists.ready.remove(intid);
                    continue;
                }
                let candidate = (self.bank(intid).priority(intid), intid as u16);
                let at = best[..count].partition_point(|other| *other < candidate);
                if at < capacity {
                    count = (count + 1).min(capacity);
                    best[at..count].rotate_right(1);
                    best[at] = candidate;
                }
            }
        }
        (best, count)
    }

    /// Whether `intid` needs a list register of this vCPU; sends it where it belongs otherwise.
    fn waits_here(&mut self, intid: u32) -> bool {
        let (cpu, ctlr) = (self.cpu, self.ctlr);
        let held = self.slot_of(intid).is_some();
        if !held {
            self.activate_if_asked(intid);
        }
        let home = if intid < 32 { NONE } else { self.shared.home[intid as usize] };
        let bank = self.bank(intid);
        if home == NONE || usize::from(home) == cpu {
            // Fold has served those that concern a list register of this vCPU; others came too late for theirs.
            bank.set(Fact::DropPending, intid, false);
            bank.set(Fact::DropActive, intid, false);
        }
        let waits = bank.pending(intid) && bank.forwarded(intid, ctlr) && !bank.is(Fact::Spilled, intid);
        if held || intid < 32 {
            return waits && !held;
        }
        if !self.shared.bank.is(Fact::Spilled, intid) && usize::from(home) == cpu {
            self.shared.home[intid as usize] = NONE;
        } else if home != NONE && usize::from(home) != cpu {
            self.vgic.push(home, intid, REVISE, &mut self.kicks);
            return false;
        }
        if waits && !self.is_here(intid) {
            self.requeue(intid);
        }
        waits && self.is_here(intid)
    }

    /// `ISACTIVER` of an interrupt that no list register holds.
    fn activate_if_asked(&mut self, intid: u32) {
        if !self.bank(intid).take(Fact::MakeActive, intid) {
            return;
        }
        if self.bank(intid).linked(intid) {
            self.hw.apply(self.cpu, intid, Change::Active(true));
        }
        self.mark_spilled(intid);
    }

    fn mark_spilled(&mut self, intid: u32) {
        self.bank(intid).set(Fact::Spilled, intid, true);
        self.lists.spilled = true;
        if intid >= 32 {
            self.shared.home[intid as usize] = self.cpu as u8;
        }
    }

    /// A list register for an interrupt of `priority`.
    fn make_room(&mut self, priority: u8) -> Option<usize> {
        let count = self.hw.count().min(MAX_LIST_REGISTERS);
        if let Some(slot) = self.lists.held[..count].iter().position(|held| *held == NOBODY) {
            return Some(slot);
        }
        let (mut worst_pending, mut worst_active) = (None, None);
        for slot in 0..count {
            let value = self.hw.read(slot);
            let worst = if value.is_active() { &mut worst_active } else { &mut worst_pending };
            let candidate = Some((value.priority(), slot));
            if candidate > *worst {
                *worst = candidate;
            }
        }
        let slot = match (worst_pending, worst_active) {
            (Some((worst, slot)), _) => (worst > priority).then_some(slot)?,
            (None, active) => active?.1,
        };
        self.evict(slot);
        Some(slot)
    }

    /// Empties list register `slot`: its pending state waits again, its active state is spilled.
    fn evict(&mut self, slot: usize) {
        let value = self.hw.read(slot);
        let intid = u32::from(self.lists.held[slot]);
        self.lists.held[slot] = NOBODY;
        self.hw.write(slot, ListRegister::EMPTY);
        self.forget_home(intid);
        if value.is_pending() {
            self.unlatch(intid, value);
        }
        if value.is_active() {
            self.mark_spilled(intid);
        } else if value.is_pending() {
            self.lists.ready.insert(intid);
        } else {
            self.leave(intid);
        }
    }

    /// Spilled interrupts return to free list registers once nobody waits for those.
    fn reload_spilled(&mut self) {
        if !self.lists.spilled || !self.lists.ready.is_empty() {
            return;
        }
        for slot in 0..self.hw.count().min(MAX_LIST_REGISTERS) {
            if self.lists.held[slot] != NOBODY {
                continue;
            }
            let Some(intid) = self.best_spilled() else { break };
            self.bank(intid).set(Fact::Spilled, intid, false);
            let active = compose(self.bank(intid), intid).with_state(false, true);
            let value = self.renew(intid, active);
            if intid < 32 {
                self.lists.place(&mut *self.private, intid, slot, value, self.hw);
            } else {
                self.lists.place(&mut self.shared.bank, intid, slot, value, self.hw);
            }
        }
        self.lists.spilled = self.best_spilled().is_some();
    }

    /// Asks for the maintenance interrupts that the state needs.
    fn set_maintenance(&mut self) {
        let waiting = if self.lists.ready.is_empty() { 0 } else { HCR_NPIE };
        let spilled = if self.lists.spilled { HCR_LRENPIE | HCR_TDIR } else { 0 };
        let hcr = HCR_EN | waiting | spilled | self.lists.hcr & HCR_TALL1;
        if hcr != self.lists.hcr {
            self.lists.hcr = hcr;
            self.hw.set_hcr(hcr);
        }
    }
    /// Returns the pending state of a list register to the latch of its interrupt.
    fn unlatch(&mut self, intid: u32, value: ListRegister) {
        let banked_by_requester = intid < 16 && self.vgic.config.version == Version::V2;
        let bank = self.bank(intid);
        if banked_by_requester {
            *bank.requesters(intid) |= 1 << value.source();
        }
        let level = !value.is_hardware() && !bank.is(Fact::Edge, intid);
        if !level || bank.take(Fact::LatchHeld, intid) {
            bank.set(Fact::Latch, intid, true);
        }
    }
}
