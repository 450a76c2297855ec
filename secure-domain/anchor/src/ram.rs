//! An anchor in memory, for tests: it answers when told to, refuses, loses power, and can be rolled back.

use crate::{Error, MonotonicStore, Record, Snapshot};

/// An anchor in memory.
#[derive(Clone, Debug)]
pub struct RamAnchor {
    held: Snapshot,
    pending: Option<Snapshot>,
    /// How many advances may complete before the anchor falls silent; tests add to it.
    pub credit: usize,
    /// What every read and advance fails with.
    pub failure: Option<Error>,
    /// Advances that completed.
    pub advances: usize,
}

impl Default for RamAnchor {
    fn default() -> Self {
        Self::new()
    }
}

impl RamAnchor {
    /// An anchor that was never advanced. It completes everything at once until [`credit`](Self::credit) is lowered.
    pub fn new() -> RamAnchor {
        RamAnchor::with(Snapshot { counter: 0, record: Record::EMPTY })
    }

    /// An anchor that holds `snapshot`.
    pub fn with(snapshot: Snapshot) -> RamAnchor {
        RamAnchor { held: snapshot, pending: None, credit: usize::MAX, failure: None, advances: 0 }
    }

    /// What is held now: what an adversary copies, whatever the faults.
    pub fn snapshot(&self) -> Snapshot {
        self.held.clone()
    }

    /// Rolls the anchor back (or anywhere), as only an adversary could.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.held = snapshot;
    }

    /// Whether an advance is under way.
    pub fn pending(&self) -> bool {
        self.pending.is_some()
    }

    /// A power cut: the advance under way, if any, `happened` or not. The faults are over.
    pub fn cut(&mut self, happened: bool) {
        if let Some(next) = self.pending.take().filter(|_| happened) {
            self.held = next;
        }
        self.credit = usize::MAX;
        self.failure = None;
    }

    /// What an idle and willing anchor holds.
    fn idle(&self) -> Result<&Snapshot, Error> {
        match self.failure {
            Some(error) => Err(error),
            None if self.pending.is_some() => Err(Error::Busy),
            None => Ok(&self.held),
        }
    }
}

impl MonotonicStore for RamAnchor {
    fn read(&mut self) -> Result<Snapshot, Error> {
        self.idle().cloned()
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error> {
        let found = self.idle()?.counter;
        if found != expected_counter {
            return Err(Error::CounterMismatch { expected: expected_counter, found });
        }
        let counter = found.checked_add(1).ok_or(Error::Exhausted)?;
        self.pending = Some(Snapshot { counter, record: record.clone() });
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<u64, Error>> {
        if self.credit == 0 {
            return None;
        }
        let next = self.pending.take()?;
        self.credit -= usize::from(self.credit != usize::MAX);
        if let Some(error) = self.failure {
            return Some(Err(error));
        }
        self.held = next;
        self.advances += 1;
        Some(Ok(self.held.counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Record {
        Record::new(&[byte; 3]).unwrap()
    }

    #[test]
    fn an_unexpected_counter_is_refused() {
        let mut anchor = RamAnchor::new();
        assert_eq!(anchor.start(1, &record(1)), Err(Error::CounterMismatch { expected: 1, found: 0 }));
        assert_eq!(anchor.poll(), None);
    }

    #[test]
    fn a_second_advance_and_a_read_wait_for_the_first() {
        let mut anchor = RamAnchor { credit: 0, ..RamAnchor::new() };
        anchor.start(0, &record(1)).unwrap();
        assert_eq!(anchor.poll(), None);
        assert_eq!(anchor.start(0, &record(2)), Err(Error::Busy));
        assert_eq!(anchor.read(), Err(Error::Busy));
        anchor.credit = 1;
        assert_eq!(anchor.poll(), Some(Ok(1)));
        assert_eq!(anchor.read(), Ok(Snapshot { counter: 1, record: record(1) }));
    }

    #[test]
    fn a_failing_anchor_keeps_what_it_had() {
        let mut anchor = RamAnchor::new();
        anchor.start(0, &record(1)).unwrap();
        anchor.failure = Some(Error::Refused);
        assert_eq!(anchor.poll(), Some(Err(Error::Refused)));
        assert_eq!(anchor.start(0, &record(1)), Err(Error::Refused));
        assert_eq!(anchor.snapshot().counter, 0);
    }

    #[test]
    fn a_cut_leaves_old_or_new() {
        for happened in [false, true] {
            let mut anchor = RamAnchor::new();
            anchor.start(0, &record(7)).unwrap();
            anchor.cut(happened);
            assert_eq!(anchor.read().unwrap().counter, u64::from(happened));
        }
    }

    #[test]
    fn an_adversary_can_roll_it_back() {
        let mut anchor = RamAnchor::new();
        let old = anchor.snapshot();
        anchor.start(0, &record(1)).unwrap();
        assert_eq!(anchor.poll(), Some(Ok(1)));
        anchor.restore(old);
        assert_eq!(anchor.read().unwrap().counter, 0);
    }

    #[test]
    fn the_last_counter_is_the_end() {
        let mut anchor = RamAnchor::with(Snapshot { counter: u64::MAX, record: Record::EMPTY });
        assert_eq!(anchor.start(u64::MAX, &Record::EMPTY), Err(Error::Exhausted));
    }
}
