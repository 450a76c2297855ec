//! A simulated anchor: it answers when told to, refuses, and loses power in the middle of an advance.

use std::{cell::RefCell, rc::Rc};

use anchor::{Error, MonotonicStore, Record, Snapshot};

use crate::power::{Power, Time};

/// An anchor as the world holds it; it outlives every mount.
#[derive(Clone, Debug)]
pub struct Store(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    held: Snapshot,
    pending: Option<(Time, Snapshot)>,
    power: Power,
    credit: usize,
    refuses: bool,
    /// When the advances began that have completed since the world last asked.
    completed: Vec<Time>,
    advances: u64,
}

impl Store {
    /// An anchor that was never advanced.
    pub fn new(power: &Power) -> Store {
        Store::with(Snapshot { counter: 0, record: Record::EMPTY }, power)
    }

    /// An anchor that holds `snapshot`.
    pub fn with(snapshot: Snapshot, power: &Power) -> Store {
        let power = power.clone();
        let state = State {
            held: snapshot,
            pending: None,
            power,
            credit: usize::MAX,
            refuses: false,
            completed: Vec::new(),
            advances: 0,
        };
        Store(Rc::new(RefCell::new(state)))
    }

    /// An anchor of its own that holds the same and has the same advance under way.
    pub fn copy(&self, power: &Power) -> Store {
        let state = self.0.borrow();
        let copy = Store::with(state.held.clone(), power);
        copy.0.borrow_mut().pending = state.pending.clone();
        copy
    }

    /// What is held now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().held.clone()
    }

    /// What is held now, and what an advance under way would leave.
    pub fn outcomes(&self) -> (Snapshot, Option<Snapshot>) {
        let state = self.0.borrow();
        (state.held.clone(), state.pending.as_ref().map(|(_, next)| next.clone()))
    }

    /// Lets `credit` more advances complete.
    pub fn give(&self, credit: usize) {
        self.0.borrow_mut().credit = credit;
    }

    /// Whether an advance is under way.
    pub fn is_busy(&self) -> bool {
        self.0.borrow().pending.is_some()
    }

    /// Lets it refuse every advance, or not any more.
    pub fn refuse(&self, refuses: bool) {
        self.0.borrow_mut().refuses = refuses;
    }

    /// Whether it refuses.
    pub fn refuses(&self) -> bool {
        self.0.borrow().refuses
    }

    /// The power went; the advance under way, if any, `happened` or not.
    pub fn cut(&self, happened: bool) {
        let mut state = self.0.borrow_mut();
        if let Some((started, next)) = state.pending.take().filter(|_| happened) {
            state.settle(started, next);
        }
    }

    /// When the advances began that have completed since the last call.
    pub fn take_completed(&self) -> Vec<Time> {
        std::mem::take(&mut self.0.borrow_mut().completed)
    }

    /// Advances so far.
    pub fn advances(&self) -> u64 {
        self.0.borrow().advances
    }

    /// The anchor as the engine sees it.
    pub fn attach(&self) -> SimAnchor {
        self.0.borrow_mut().pending = None;
        SimAnchor(self.clone())
    }
}

impl State {
    fn settle(&mut self, started: Time, next: Snapshot) {
        self.held = next;
        self.completed.push(started);
        self.advances += 1;
    }
}

/// The anchor as the engine sees it.
#[derive(Debug)]
pub struct SimAnchor(Store);

impl MonotonicStore for SimAnchor {
    fn read(&mut self) -> Result<Snapshot, Error> {
        let state = self.0.0.borrow();
        match state.pending {
            Some(_) => Err(Error::Busy),
            None if state.power.is_off() => Err(Error::Silent),
            None => Ok(state.held.clone()),
        }
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error> {
        let mut state = self.0.0.borrow_mut();
        let found = state.held.counter;
        if state.pending.is_some() {
            return Err(Error::Busy);
        }
        if state.power.is_off() {
            // Nobody takes it, and nobody is there to say so.
            return Ok(());
        }
        if found != expected_counter {
            return Err(Error::CounterMismatch { expected: expected_counter, found });
        }
        let counter = found.checked_add(1).ok_or(Error::Exhausted)?;
        let now = state.power.now();
        state.pending = Some((now, Snapshot { counter, record: record.clone() }));
        state.power.pass();
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<u64, Error>> {
        let mut state = self.0.0.borrow_mut();
        if state.credit == 0 || state.power.is_off() {
            return None;
        }
        let (started, next) = state.pending.take()?;
        state.credit -= usize::from(state.credit != usize::MAX);
        if state.refuses {
            return Some(Err(Error::Refused));
        }
        state.settle(started, next);
        state.power.pass();
        Some(Ok(state.held.counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Record {
        Record::new(&[byte; 3]).unwrap()
    }

    #[test]
    fn a_refusing_anchor_keeps_what_it_had() {
        let store = Store::new(&Power::default());
        let mut anchor = store.attach();
        store.refuse(true);
        anchor.start(0, &record(1)).unwrap();
        assert_eq!(anchor.poll(), Some(Err(Error::Refused)));
        assert_eq!(store.snapshot().counter, 0);
    }

    #[test]
    fn a_cut_leaves_old_or_new() {
        for happened in [false, true] {
            let store = Store::new(&Power::default());
            store.attach().start(0, &record(1)).unwrap();
            store.cut(happened);
            assert_eq!(store.attach().read().unwrap().counter, u64::from(happened));
        }
    }
}
