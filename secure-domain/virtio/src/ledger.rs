//! What a device must remember of a queue to go on with it after its own death.
//!
//! The rings alone do not tell which chains a device holds. Chains come back in any order, and the available ring forgets a head
//! as soon as the driver reuses its slot, so the oldest chain under way may be in no ring at all. A ledger lies in memory that
//! outlives the device: one bit for each head that was popped and has not been shown to the driver as used. Everything else
//! follows: the next available entry is the used index plus the number of such heads.
//!
//! A device may die between any two stores, so each step leaves a ledger from which the next life concludes the same:
//!
//! ```text
//!                             ledger: used  target  taken  returned | driver sees
//!     pop                                            +h             |
//!     push_used                                             +h      |               dies here: h is served again
//!     publish, 1                            = new                   |               dies here: h is served again
//!     publish, 2                                                    | used index    dies here: 3 is done by the next life
//!     publish, 3                     = new           -h      -h     |
//! ```
//!
//! Serving a chain again is harmless: until the driver sees it as used, its buffers are the device's, and a block request has the
//! same effect twice. The stores are of one core; whoever reads them after its death does so behind the lock under which the
//! domain moves between cores, so only the compiler could reorder them, and the `Release` stores forbid it.
//!
//! The ledger is this domain's own memory. After a crash its contents are an allegation like any other: a wrong one can serve
//! a chain twice or never, and the queue checks every head and index that it takes from it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::queue::MAX_SIZE;

const WORDS: usize = MAX_SIZE as usize / 64;
/// Marks a tag as one that was written.
const BEGUN: u64 = 1 << 32;

/// The ledger of one queue. All zeros is a ledger that continues nothing.
#[derive(Debug)]
#[repr(C)]
pub struct Ledger {
    /// [`BEGUN`] and the driver's generation that the rest is about.
    tag: AtomicU64,
    /// The used index that was last published, as this side knows.
    used: AtomicU32,
    /// The used index that is being published.
    target: AtomicU32,
    /// Heads that the device has and the driver does not know to be used.
    taken: [AtomicU64; WORDS],
    /// Heads among them whose used entries are written.
    returned: [AtomicU64; WORDS],
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

impl Ledger {
    /// A ledger that continues nothing.
    pub const fn new() -> Ledger {
        Ledger {
            tag: AtomicU64::new(0),
            used: AtomicU32::new(0),
            target: AtomicU32::new(0),
            taken: [const { AtomicU64::new(0) }; WORDS],
            returned: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// Whether it is about the queue that a driver has used since its reset number `generation`.
    pub fn continues(&self, generation: u32) -> bool {
        self.tag.load(Ordering::Acquire) == BEGUN | u64::from(generation)
    }

    /// Begins afresh, for a queue that the driver has set up after its reset number `generation`.
    pub fn begin(&self, generation: u32) {
        self.tag.store(0, Ordering::Relaxed);
        self.clear(&self.taken);
        self.clear(&self.returned);
        self.used.store(0, Ordering::Release);
        self.target.store(0, Ordering::Release);
        self.tag.store(BEGUN | u64::from(generation), Ordering::Release);
    }

    fn clear(&self, bits: &[AtomicU64; WORDS]) {
        bits.iter().for_each(|word| word.store(0, Ordering::Release));
    }

    /// The device has popped `head`. Returns false if it has it already.
    #[must_use]
    pub(crate) fn take(&self, head: u16) -> bool {
        let Some(word) = self.taken.get(usize::from(head / 64)) else { return false };
        let before = word.load(Ordering::Relaxed);
        word.store(before | 1 << (head % 64), Ordering::Release);
        before >> (head % 64) & 1 == 0
    }

    /// The used entry of `head` is written.
    pub(crate) fn give_back(&self, head: u16) {
        if let Some(word) = self.returned.get(usize::from(head / 64)) {
            word.store(word.load(Ordering::Relaxed) | 1 << (head % 64), Ordering::Release);
        }
    }

    /// The used index will be stored next.
    pub(crate) fn publishing(&self, index: u16) {
        self.target.store(index.into(), Ordering::Release);
    }

    /// The used index has been stored.
    pub(crate) fn published(&self, index: u16) {
        for (taken, returned) in self.taken.iter().zip(&self.returned) {
            let gone = returned.load(Ordering::Relaxed);
            if gone != 0 {
                taken.store(taken.load(Ordering::Relaxed) & !gone, Ordering::Release);
                returned.store(0, Ordering::Release);
            }
        }
        self.used.store(index.into(), Ordering::Release);
    }

    /// Ends what the last life was at, whose driver sees the used index `seen`. The index to go on from, or `None` if the driver
    /// sees an index that this device has not written.
    pub(crate) fn settle(&self, seen: u16) -> Option<u16> {
        let (used, target) = (self.used.load(Ordering::Acquire), self.target.load(Ordering::Acquire));
        if u32::from(seen) != used && u32::from(seen) == target {
            self.published(seen);
        }
        self.clear(&self.returned);
        (self.used.load(Ordering::Relaxed) == u32::from(seen)).then_some(seen)
    }

    /// Number of heads that the device has.
    pub(crate) fn count(&self) -> u32 {
        self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// The lowest head from `from` on that the device has.
    pub(crate) fn next(&self, from: u16) -> Option<u16> {
        let first = usize::from(from / 64);
        let words = self.taken.iter().enumerate().skip(first);
        words.map(|(index, word)| (index, word.load(Ordering::Relaxed))).find_map(|(index, word)| {
            let word = if index == first { word & u64::MAX << (from % 64) } else { word };
            (word != 0).then(|| (index as u32 * 64 + word.trailing_zeros()) as u16)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn heads(ledger: &Ledger) -> Vec<u16> {
        let mut from = 0;
        core::iter::from_fn(|| {
            let head = ledger.next(from)?;
            from = head + 1;
            Some(head)
        })
        .collect()
    }

    #[test]
    fn a_blank_ledger_continues_nothing() {
        let ledger = Ledger::new();
        assert!(!ledger.continues(0));
        ledger.begin(0);
        assert!(ledger.continues(0) && !ledger.continues(1));
        assert!(ledger.take(7));
        ledger.begin(1);
        assert!(!ledger.continues(0) && ledger.continues(1));
        assert_eq!(ledger.count(), 0);
    }

    #[test]
    fn a_head_is_taken_once() {
        let ledger = Ledger::new();
        assert!(ledger.take(63) && ledger.take(64) && ledger.take(255));
        assert!(!ledger.take(63) && !ledger.take(256));
        assert_eq!(heads(&ledger), [63, 64, 255]);
        assert_eq!(ledger.count(), 3);
    }

    /// A ledger with heads 1 and 70 taken, 70 written to the used ring, and 5 being published after 4.
    fn publishing() -> Ledger {
        let ledger = Ledger::new();
        ledger.begin(0);
        ledger.published(4);
        assert!(ledger.take(1) && ledger.take(70));
        ledger.give_back(70);
        ledger.publishing(5);
        ledger
    }

    #[test]
    fn an_index_that_was_not_stored_gives_its_chains_back_to_be_served() {
        let ledger = publishing();
        assert_eq!(ledger.settle(4), Some(4));
        assert_eq!(heads(&ledger), [1, 70]);
        ledger.publishing(5);
        assert_eq!(ledger.settle(5), Some(5), "and their used entries are written anew");
        assert_eq!(heads(&ledger), [1, 70]);
    }

    #[test]
    fn an_index_that_was_stored_ends_its_chains_wherever_the_device_died() {
        for steps in 0..4 {
            let ledger = publishing();
            // What `published` does, cut after `steps` stores.
            if steps > 0 {
                ledger.taken[1].store(0, Ordering::Relaxed);
            }
            if steps > 1 {
                ledger.returned[1].store(0, Ordering::Relaxed);
            }
            if steps > 2 {
                ledger.used.store(5, Ordering::Relaxed);
            }
            assert_eq!(ledger.settle(5), Some(5), "after {steps} stores");
            assert_eq!(heads(&ledger), [1], "after {steps} stores");
        }
    }

    #[test]
    fn an_index_that_the_device_never_wrote_is_refused() {
        assert_eq!(publishing().settle(6), None);
        assert_eq!(publishing().settle(3), None);
    }
}
