//! What is known of a set of interrupts: one bitmap per fact, so that a register of 32 interrupts is read in one step.

/// A fact about one interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Fact {
    /// Its source is the physical interrupt of the same INTID.
    Hardware,
    /// Its source is EL2 software (or another vCPU: SGIs).
    Virtual,
    /// The guest has enabled it.
    Enabled,
    /// It is in Group 1.
    Group1,
    /// It is edge-triggered.
    Edge,
    /// The level of its line (virtual interrupts).
    Line,
    /// Pending here and not in a list register: an edge, a write of `ISPENDR`, or a physical interrupt that EL2 acknowledged.
    Latch,
    /// The list register that holds it pending took the latch of a level-sensitive interrupt: its line may fall. Of a physical one,
    /// that the guest has made it pending by hand.
    LatchHeld,
    /// Active, without a list register.
    Spilled,
    /// The list register that holds it shall lose its pending state (`ICPENDR`).
    DropPending,
    /// The list register that holds it shall lose its active state (`ICACTIVER`).
    DropActive,
    /// It shall become active (`ISACTIVER`).
    MakeActive,
}

const FACTS: usize = 12;

/// The SGIs, INTIDs 0 to 15, in word 0 of a vCPU's private interrupts.
const SGIS: u32 = 0xFFFF;

/// No list register, no vCPU.
pub(crate) const NONE: u8 = 0xFF;

/// The view that delivery has of one or the other [`Bank`].
pub(crate) trait Interrupts {
    fn is(&self, fact: Fact, intid: u32) -> bool;
    fn set(&mut self, fact: Fact, intid: u32, value: bool);
    fn priority(&self, intid: u32) -> u8;
    /// The list register that held it last; valid only if that list register's owner agrees.
    fn slot(&self, intid: u32) -> u8;
    fn set_slot(&mut self, intid: u32, slot: u8);
    /// CPU interfaces that requested SGI `intid` (< 16) and were not served yet: GICv2 only, zero on GICv3.
    fn requesters(&mut self, intid: u32) -> &mut u8;

    /// A fact about the 32 interrupts from INTID 32 * `word`.
    fn word(&self, fact: Fact, word: usize) -> u32;
    fn word_mut(&mut self, fact: Fact, word: usize) -> &mut u32;
    fn set_priority(&mut self, intid: u32, priority: u8);

    /// Interrupts of `word` that are the guest's.
    fn owned(&self, word: usize) -> u32 {
        self.word(Fact::Hardware, word) | self.word(Fact::Virtual, word)
    }

    /// Interrupts of `word` whose active state the physical GIC has: hardware levels. An edge has happened once EL2 has taken it, so
    /// its physical interrupt is deactivated at once, and another edge is seen while the guest serves the first.
    fn linked_word(&self, word: usize) -> u32 {
        self.word(Fact::Hardware, word) & !self.word(Fact::Edge, word)
    }

    /// The same of one interrupt.
    #[inline(always)]
    fn linked(&self, intid: u32) -> bool {
        self.is(Fact::Hardware, intid) && !self.is(Fact::Edge, intid)
    }

    /// Interrupts of `word` that are pending outside of the list registers.
    fn pending_word(&self, word: usize) -> u32 {
        self.word(Fact::Latch, word) | self.word(Fact::Line, word) & !self.word(Fact::Edge, word)
    }

    /// Reads a fact and clears it.
    #[inline(always)]
    fn take(&mut self, fact: Fact, intid: u32) -> bool {
        let was = self.is(fact, intid);
        if was {
            self.set(fact, intid, false);
        }
        was
    }

    /// Pending outside of the list registers.
    #[inline(always)]
    fn pending(&self, intid: u32) -> bool {
        self.is(Fact::Latch, intid) || (self.is(Fact::Line, intid) && !self.is(Fact::Edge, intid))
    }

    /// Forwarded, and not active without a list register.
    #[inline(always)]
    fn deliverable(&self, intid: u32, ctlr: u32) -> bool {
        let word = (intid / 32) as usize;
        let group1 = self.word(Fact::Group1, word);
        let groups = group1 & (ctlr >> 1 & 1).wrapping_neg() | !group1 & (ctlr & 1).wrapping_neg();
        (self.word(Fact::Enabled, word) & !self.word(Fact::Spilled, word) & groups) >> (intid % 32) & 1 != 0
    }

    /// Enabled, and its group is forwarded by `GICD_CTLR` value `ctlr` (bit 0 Group 0, bit 1 Group 1).
    #[inline(always)]
    fn forwarded(&self, intid: u32, ctlr: u32) -> bool {
        self.is(Fact::Enabled, intid) && ctlr >> self.is(Fact::Group1, intid) as u32 & 1 != 0
    }
}

/// Facts about `WORDS` * 32 = `INTIDS` interrupts, indexed by INTID. Indexes wrap, so that no access can panic; callers
/// stay below `INTIDS`.
#[derive(Debug)]
pub(crate) struct Bank<const WORDS: usize, const INTIDS: usize> {
    facts: [[u32; WORDS]; FACTS],
    priority: [u8; INTIDS],
    slot: [u8; INTIDS],
    requesters: [u8; 16],
}

impl<const WORDS: usize, const INTIDS: usize> Bank<WORDS, INTIDS> {
    /// After reset: nothing owned, nothing enabled, highest priority, Group 1 if `group1`.
    pub(crate) const fn new(group1: bool) -> Self {
        let mut facts = [[0; WORDS]; FACTS];
        if group1 {
            facts[Fact::Group1 as usize] = [u32::MAX; WORDS];
        }
        Bank { facts, priority: [0; INTIDS], slot: [NONE; INTIDS], requesters: [0; 16] }
    }

    /// As after a reset, but for whose the interrupts are.
    pub(crate) fn reset(&mut self, group1: bool) {
        let [hardware, software] = [Fact::Hardware, Fact::Virtual].map(|fact| self.facts[fact as usize]);
        let sgis = self.facts[Fact::Edge as usize][0] & SGIS & software[0];
        *self = Bank::new(group1);
        self.facts[Fact::Hardware as usize] = hardware;
        self.facts[Fact::Virtual as usize] = software;
        self.facts[Fact::Edge as usize][0] = sgis;
    }

    /// SGIs exist, are edge-triggered and come from software.
    pub(crate) const fn with_sgis(mut self) -> Self {
        self.facts[Fact::Virtual as usize][0] = SGIS;
        self.facts[Fact::Edge as usize][0] = SGIS;
        self
    }
}

impl<const WORDS: usize, const INTIDS: usize> Interrupts for Bank<WORDS, INTIDS> {
    #[inline(always)]
    fn is(&self, fact: Fact, intid: u32) -> bool {
        self.word(fact, (intid / 32) as usize) >> (intid % 32) & 1 != 0
    }

    #[inline(always)]
    fn set(&mut self, fact: Fact, intid: u32, value: bool) {
        let word = self.word_mut(fact, (intid / 32) as usize);
        let bit = 1 << (intid % 32);
        *word = if value { *word | bit } else { *word & !bit };
    }

    #[inline(always)]
    fn word(&self, fact: Fact, word: usize) -> u32 {
        self.facts[fact as usize][word % WORDS]
    }

    #[inline(always)]
    fn word_mut(&mut self, fact: Fact, word: usize) -> &mut u32 {
        &mut self.facts[fact as usize][word % WORDS]
    }

    #[inline(always)]
    fn priority(&self, intid: u32) -> u8 {
        self.priority[intid as usize % INTIDS]
    }

    fn set_priority(&mut self, intid: u32, priority: u8) {
        self.priority[intid as usize % INTIDS] = priority;
    }

    #[inline(always)]
    fn slot(&self, intid: u32) -> u8 {
        self.slot[intid as usize % INTIDS]
    }

    #[inline(always)]
    fn set_slot(&mut self, intid: u32, slot: u8) {
        self.slot[intid as usize % INTIDS] = slot;
    }

    #[inline(always)]
    fn requesters(&mut self, intid: u32) -> &mut u8 {
        &mut self.requesters[intid as usize % 16]
    }
}

/// The positions of the set bits of `word`, ascending.
#[inline]
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 32).then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn bits_come_in_order() {
        assert_eq!(bits(0x8000_0011).collect::<std::vec::Vec<_>>(), [0, 4, 31]);
        assert_eq!(bits(0).next(), None);
    }

    #[test]
    fn a_level_is_pending_only_while_level_sensitive() {
        let mut bank: Bank<1, 32> = Bank::new(true);
        bank.set(Fact::Line, 20, true);
        assert!(bank.pending(20));
        bank.set(Fact::Edge, 20, true);
        assert!(!bank.pending(20));
        assert_eq!(bank.pending_word(0), 0);
    }
}
