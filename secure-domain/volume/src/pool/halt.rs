//! A crypto module that refuses: the pool stops as if power had failed, and answers.
//!
//! The module may stop at any moment: a conditional test fails, an operator zeroises it. Every service then refuses, so nothing more is
//! sealed, opened or authenticated; what is on the disks is what a power cut would have left there, which the next mount knows how to
//! read. Whoever meets the refusal notes it and leaves its own work undone; at the end of the round everything that waits is answered
//! with an I/O error, and so is whatever comes later. The pool serves again after a mount, with a module that has passed its tests.

use anchor::MonotonicStore;
use block::BlockDevice;

use super::Pool;
use crate::{Done, Event, POOL, Status};

/// Whether the crypto module serves the pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Halt {
    refusal: Option<crypto::Error>,
    halted: bool,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// The crypto module has refused. The caller leaves undone what it was at.
    pub(super) fn refused(&mut self, error: crypto::Error) {
        self.halt.refusal.get_or_insert(error);
    }

    /// Why the crypto module has refused.
    pub(super) fn refusal(&self) -> Option<crypto::Error> {
        self.halt.refusal
    }

    /// Whether every request fails.
    pub(super) fn is_halted(&self) -> bool {
        self.halt.halted
    }

    /// Asks the module, once for each call of the engine.
    pub(super) fn ask_module(&mut self) {
        if let Err(error) = self.keys.module().permit() {
            self.refused(error);
        }
        self.halt_if_refused();
    }

    /// Stops, once, if the crypto module has refused.
    pub(super) fn halt_if_refused(&mut self) {
        let Some(error) = self.halt.refusal.filter(|_| !self.halt.halted) else { return };
        self.halt.halted = true;
        self.report(Event::ModuleRefused(error));
        self.stop_writes();
        self.fail_anchored();
        self.give_up_heals();
        if let Some(cookie) = self.end_walks() {
            self.done.push_back(Done { volume: POOL, cookie, status: Status::IoError });
        }
    }
}
