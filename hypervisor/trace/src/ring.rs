//! One core's records: the last ones, and how many there were of each reason.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::record::{NAMES, REASONS};
use crate::{Reason, Record};

/// Records that a ring keeps.
pub const RECORDS: usize = 256;

/// The ring of one core, which alone writes it. Another core that reads it meanwhile may see a record half new; nothing waits.
#[derive(Debug)]
pub struct Ring {
    records: [[AtomicU64; 2]; RECORDS],
    counts: [AtomicU64; REASONS],
    /// Records written so far.
    next: AtomicU64,
}

impl Ring {
    /// Nothing has happened yet.
    pub const fn new() -> Ring {
        Ring {
            records: [const { [const { AtomicU64::new(0) }; 2] }; RECORDS],
            counts: [const { AtomicU64::new(0) }; REASONS],
            next: AtomicU64::new(0),
        }
    }

    /// Writes a record over the oldest.
    #[inline(always)]
    pub fn record(&self, ticks: u64, reason: Reason, detail: u64) {
        let next = self.next.load(Ordering::Relaxed);
        let [first, second] = Record::new(ticks, reason, detail).words();
        let place = &self.records[next as usize % RECORDS];
        place[0].store(first, Ordering::Relaxed);
        place[1].store(second, Ordering::Relaxed);
        self.next.store(next.wrapping_add(1), Ordering::Relaxed);
        let count = &self.counts[reason as usize];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The last `most` records, the oldest first.
    pub fn last(&self, most: usize) -> impl Iterator<Item = Record> + '_ {
        let next = self.next.load(Ordering::Relaxed);
        let kept = next.min(RECORDS as u64).min(most as u64);
        (next - kept..next).map(|at| {
            let [first, second] = &self.records[at as usize % RECORDS];
            Record::from_words([first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)])
        })
    }

    /// How often each reason occurred, those that did.
    pub fn histogram(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let counted = NAMES.iter().map(|(reason, _)| (*reason, self.counts[*reason as usize].load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count != 0)
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn an_empty_ring_has_nothing_to_tell() {
        let ring = Ring::new();
        assert_eq!((ring.last(RECORDS).count(), ring.histogram().count()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_last_records_are_there_in_order(count in 0..3 * RECORDS as u64, most in 0..2 * RECORDS) {
            let ring = Ring::new();
            (0..count).for_each(|tick| ring.record(tick, Reason::from_number((tick % 12) as u8), tick));
            let told: Vec<u64> = ring.last(most).map(|record| record.ticks).collect();
            let first = count - count.min(RECORDS as u64).min(most as u64);
            prop_assert_eq!(told, (first..count).collect::<Vec<_>>());
            prop_assert_eq!(ring.histogram().map(|(_, count)| count).sum::<u64>(), count);
        }
    }
}
