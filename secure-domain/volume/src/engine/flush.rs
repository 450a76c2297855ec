//! Flushes, in rounds: every table block that was dirty when the round began is stored, those stores are waited for, then the
//! disk is flushed. Flushes that arrive meanwhile share the next round.

use block::BlockDevice;

use super::{Kind, Reservation, Round, Step, Volume};
use crate::Event;

impl<D: BlockDevice> Volume<D> {
    /// A flush waits as one job, for its round.
    pub(super) fn issue_flush(&mut self, request: usize) -> Step {
        if self.requests[request].issued == 0 {
            self.requests[request].issued = 1;
            self.requests[request].jobs = 1;
            self.flush.next.push(request);
        }
        Step::Issued
    }

    /// Moves the flush round on: store every slot that was dirty when it began, wait for those stores, flush the disk.
    pub(super) fn pump_flush(&mut self) {
        if self.flush.round == Round::Idle && !self.flush.next.is_empty() {
            self.begin_round();
        }
        if self.flush.round == Round::Storing {
            self.store_round();
        }
    }

    /// Everybody who waits now is in; what is dirty or on its way now has to be stored.
    pub(super) fn begin_round(&mut self) {
        core::mem::swap(&mut self.flush.current, &mut self.flush.next);
        self.flush.to_store.copy_from(self.cache.dirty());
        self.flush.to_finish.copy_from(self.cache.storing());
        self.flush.failed = false;
        self.flush.round = Round::Storing;
        if self.reservation == Reservation::Failed {
            self.reservation = Reservation::Idle;
        }
    }

    /// Stores what is left to store; when all of it has arrived, flushes the disk.
    pub(super) fn store_round(&mut self) {
        let mut from = 0;
        // Bounded: `from` grows with every turn.
        while let Some(slot) = self.flush.to_store.next(from) {
            from = slot + 1;
            if !self.cache.storing().contains(slot) && !self.store_table(slot) {
                return;
            }
        }
        if !self.flush.to_store.is_empty() || !self.flush.to_finish.is_empty() {
            return;
        }
        if !self.flush.needed {
            return self.end_round();
        }
        if self.disk.room() == 0 {
            return;
        }
        let Some(job) = self.free_jobs.pop() else { return };
        self.flush.round = Round::Flushing;
        self.flush.needed = false;
        self.jobs[job].kind = Kind::FlushRound;
        let taken = self.disk.flush(job as u32);
        self.check_taken(job, taken);
    }

    /// The disk has flushed, or could not.
    pub(super) fn complete_flush(&mut self, ok: bool) {
        if !ok {
            self.report(Event::FlushFailed);
            self.flush.failed = true;
            self.flush.needed = true;
        }
        self.end_round();
    }

    /// Answers everybody who waited for this round.
    pub(super) fn end_round(&mut self) {
        self.flush.round = Round::Idle;
        for index in 0..self.flush.current.len() {
            let request = self.flush.current[index];
            self.requests[request].failed |= self.flush.failed;
            self.finish_job_of(request);
        }
        self.flush.current.clear();
    }
}
