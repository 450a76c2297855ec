//! What a write to the registers of 32 interrupts changes: in their bank, in the physical GIC, and in list registers.

use super::owns;
use crate::bank::{Fact, Interrupts, NONE, bits};
use crate::physical::{Change, Physical};
use crate::registers::{Bits, Register};

/// Implemented bits of a priority: 5, which every virtual CPU interface has at least (`ICH_VTR_EL2.PRIbits`, `GICH_LR.Priority`).
const PRIORITY_MASK: u8 = 0xF8;

/// What a write asks for: interrupts that may be deliverable now, and such whose list register must be revised.
#[derive(Clone, Copy, Default)]
pub(super) struct Effect {
    pub(super) raise: u32,
    pub(super) revise: u32,
}

/// The interrupts that a write changes: one word of one bank.
pub(super) struct Target<'a> {
    pub(super) bank: &'a mut dyn Interrupts,
    /// Routes and homes, of SPIs.
    pub(super) places: Option<(&'a mut [u8; crate::INTIDS], &'a mut [u8; crate::INTIDS])>,
    pub(super) index: usize,
    /// For the physical GIC.
    pub(super) cpu: usize,
    /// `ISPENDR` and `ICPENDR` change SGIs (GICv3; on GICv2 they have registers of their own).
    pub(super) sgis_by_bits: bool,
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

    pub(super) fn write(&mut self, register: Register, size: usize, value: u32, hw: &mut dyn Physical) -> Effect {
        match register {
            Register::Bits(kind, _) => self.write_bits(kind, value, hw),
            Register::Priority(first) => self.write_priorities(first, size, value, hw),
            Register::Config(first) => self.write_config(first, value, hw),
            _ => Effect::default(),
        }
    }

    fn write_bits(&mut self, kind: Bits, value: u32, hw: &mut dyn Physical) -> Effect {
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

    fn enable(&mut self, new: u32, hw: &mut dyn Physical) -> Effect {
        *self.bank.word_mut(Fact::Enabled, self.index) |= new;
        for bit in bits(new & self.bank.word(Fact::Hardware, self.index)) {
            if self.is_routed(self.intid(bit)) {
                hw.apply(self.cpu, self.intid(bit), Change::Enable(true));
            }
        }
        self.reconsider(new)
    }

    fn disable(&mut self, gone: u32, hw: &mut dyn Physical) -> Effect {
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

    fn set_pending(&mut self, named: u32, hw: &mut dyn Physical) -> Effect {
        let hardware = named & self.bank.word(Fact::Hardware, self.index);
        for bit in bits(hardware) {
            hw.apply(self.cpu, self.intid(bit), Change::Pending(true));
        }
        *self.bank.word_mut(Fact::LatchHeld, self.index) |= named & self.bank.linked_word(self.index);
        *self.bank.word_mut(Fact::Latch, self.index) |= named & !hardware;
        self.reconsider(named & !hardware)
    }

    fn clear_pending(&mut self, named: u32, hw: &mut dyn Physical) -> Effect {
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

    fn clear_active(&mut self, named: u32, hw: &mut dyn Physical) -> Effect {
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

    fn write_priorities(&mut self, first: u32, size: usize, value: u32, hw: &mut dyn Physical) -> Effect {
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

    fn write_config(&mut self, first: u32, value: u32, hw: &mut dyn Physical) -> Effect {
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
pub(crate) fn give_back(bank: &dyn Interrupts, cpu: usize, intid: u32, hw: &mut dyn Physical) {
    if bank.is(Fact::Edge, intid) {
        hw.apply(cpu, intid, Change::Pending(true));
    }
    hw.apply(cpu, intid, Change::Active(false));
}

/// The inverse of [`spread`].
fn gather(value: u32) -> u32 {
    (0..16).fold(0, |flags, n| flags | (value >> (2 * n + 1) & 1) << n)
}
