//! The power that disks and anchor share, and the clock of the world.
//!
//! Every submission and completion at a device is a *boundary*: the power can go at any of them. Once it is gone nothing
//! answers any more until the world has decided what the devices kept.

use std::{cell::Cell, rc::Rc};

/// A moment: every event of a world has one of its own.
pub type Time = u64;

/// The power line and the clock; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Power(Rc<State>);

#[derive(Debug, Default)]
struct State {
    time: Cell<Time>,
    boundaries: Cell<u64>,
    cut_at: Cell<Option<u64>>,
    off: Cell<bool>,
}

impl Power {
    /// Another power line, on and without a planned cut, whose clock begins where `other`'s is now.
    pub fn at(other: &Power) -> Power {
        let power = Power::default();
        power.0.time.set(other.0.time.get());
        power.0.boundaries.set(other.0.boundaries.get());
        power
    }

    /// The next moment.
    pub fn now(&self) -> Time {
        self.0.time.set(self.0.time.get() + 1);
        self.0.time.get()
    }

    /// Boundaries passed so far.
    pub fn boundaries(&self) -> u64 {
        self.0.boundaries.get()
    }

    /// Lets the power go `ahead` boundaries from now; 0 is the very next one.
    pub fn cut_in(&self, ahead: u64) {
        self.0.cut_at.set(Some(self.boundaries() + ahead));
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.0.off.get()
    }

    /// The power goes now.
    pub fn go(&self) {
        self.0.off.set(true);
    }

    /// The power comes back, and no cut is planned.
    pub fn restore(&self) {
        self.0.off.set(false);
        self.0.cut_at.set(None);
    }

    /// A device passes a boundary; the power may go with it.
    pub fn pass(&self) {
        if self.is_off() {
            return;
        }
        let boundary = self.boundaries();
        self.0.boundaries.set(boundary + 1);
        if self.0.cut_at.get().is_some_and(|at| boundary >= at) {
            self.go();
        }
    }
}
