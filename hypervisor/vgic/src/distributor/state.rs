//! Reads of what is pending and active: of the banks, of list registers here and on other cores, and of the physical GIC.

use core::sync::atomic::Ordering;

use super::Word;
use crate::bank::{Fact, Interrupts, bits};
use crate::inbox::REVISE;
use crate::list_register::ListRegisters;
use crate::physical::{Gic, Physical};
use crate::{Kicks, Read, Shared, Vgic};

impl Vgic {
    /// Pending and active bits, each as a read of its own.
    ///
    /// What the list registers of another core hold only that core can tell, and nobody waits at EL2 for another core. So the read is
    /// not answered: that core is asked and the guest executes its load again, with its own interrupts served in between, until all
    /// have answered. The value is then what was true at some time during the instruction. A guest that polls `ISACTIVER` until an
    /// interrupt is done (Linux: `synchronize_irq`) never goes on too early, nor waits for one that is only pending.
    pub(super) fn read_state(&self, cpu: usize, word: Word, hw: &mut dyn Gic) -> (Read, Read) {
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
                Some(known) => {
                    held.pending |= known.pending;
                    held.active |= known.active;
                }
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
    fn look_at_levels(&self, cpu: usize, word: Word, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
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
    fn held_by(&self, cpu: usize, holder: usize, word: usize, asked: bool, hw: &dyn ListRegisters) -> Option<Held> {
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
        if holder == cpu || held.pending | held.active == 0 || (asked && renewed) {
            return Some(held);
        }
        state.lists.renewed &= !(1 << cpu);
        state.lists.wanted |= 1 << cpu;
        self.cpus[holder].inbox.ask(REVISE);
        None
    }

    fn compose_state(&self, shared: &Shared, word: Word, held: Held, hw: &mut dyn Physical) -> (u32, u32) {
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
}

/// What list registers hold of one word.
#[derive(Clone, Copy, Default)]
struct Held {
    pending: u32,
    active: u32,
}
