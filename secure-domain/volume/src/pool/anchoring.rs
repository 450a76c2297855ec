//! The anchor: which incarnation this is, how far the log is known to have come, which versions are reserved.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;

use super::{MAX_REQUESTS, Policy, Pool, request::Step};
use crate::{
    Event, Status,
    record::anchored::{Anchored, Secret},
};

/// Milliseconds until an advance that failed is tried again without a reason.
const RETRY_MS: u64 = 1000;

/// The anchor of a pool.
pub(super) struct Anchoring<A> {
    pub(super) store: A,
    counter: u64,
    /// What it holds.
    pub(super) held: Anchored,
    /// What it is being given.
    busy: Option<Anchored>,
    /// Requests, each with the log record that must be anchored before it is answered.
    waiting: Vec<(usize, u64)>,
    /// Nothing is answered as durable before this record is anchored: it names a superblock that marks a member.
    pub(super) required: u64,
    /// When it was last advanced.
    since_ms: u64,
    /// The last advance failed; the next one waits for a reason.
    failed: bool,
    /// Advances that failed so far.
    pub(super) failures: u64,
}

impl<A> Anchoring<A> {
    pub(super) fn new(store: A, counter: u64, held: Anchored) -> Anchoring<A> {
        Anchoring {
            store,
            counter,
            held,
            busy: None,
            waiting: Vec::with_capacity(MAX_REQUESTS),
            required: 0,
            since_ms: 0,
            failed: false,
            failures: 0,
        }
    }

    /// Whether a member is marked, and the anchor does not know yet: an old disk alone would be believed.
    pub(super) fn lacks_mark(&self) -> bool {
        self.held.head.seq < self.required
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The request is answered when record `seq` is anchored.
    pub(super) fn wait(&mut self, request: usize, seq: u64) {
        self.waiting.push((request, seq));
        self.failed = false;
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Versions that may be used now.
    pub(super) fn versions_left(&self) -> u64 {
        self.versions.limit.saturating_sub(self.versions.next)
    }

    /// The first of `count` fresh versions; the caller has seen that they are there.
    pub(super) fn take_versions(&mut self, count: u64) -> u64 {
        let first = self.versions.next;
        self.versions.next += count;
        assert!(self.versions.next <= self.versions.limit, "a version is used only when it is reserved");
        first
    }

    /// A request needs versions that are not reserved yet: it waits for them, or fails if they could not be had.
    pub(super) fn without_versions(&mut self, request: usize) -> Step {
        if core::mem::take(&mut self.anchoring.failed) {
            return self.fail_rest(request, Status::IoError);
        }
        Step::Exhausted
    }

    /// Moves the anchor on.
    pub(super) fn pump_anchor(&mut self) {
        if self.anchoring.busy.is_some() {
            self.poll_anchor();
        }
        self.answer_anchored();
        if self.anchoring.busy.is_none() && self.wants_anchor() {
            let next = self.next_anchored();
            self.start_anchor(next);
        }
    }

    fn wants_anchor(&self) -> bool {
        self.anchor_due_ms().is_some_and(|due_ms| due_ms <= self.now_ms)
    }

    /// When time alone makes the anchor advance.
    pub(super) fn anchor_deadline(&self) -> Option<u64> {
        self.anchor_due_ms().filter(|_| self.anchoring.busy.is_none())
    }

    /// From when on the anchor is to be advanced, as things stand; `None`: there is no reason to.
    fn anchor_due_ms(&self) -> Option<u64> {
        if self.is_halted() {
            return None;
        }
        let Anchoring { since_ms, failed, .. } = self.anchoring;
        let low = self.versions_left() < self.options.reservation / 2;
        let left = self.commands.wants_anchor() && self.secret_to_keep().is_some();
        let due_ms = if !self.anchoring.waiting.is_empty() || left || !self.stopped && low {
            Some(0)
        } else {
            let Policy::Bulk { window_ms } = self.options.policy else { return None };
            let behind = self.log.durable().seq != self.anchoring.held.head.seq;
            (behind && !self.stopped).then_some(since_ms.saturating_add(window_ms))
        };
        let earliest_ms = if failed { since_ms.saturating_add(RETRY_MS) } else { 0 };
        due_ms.map(|due_ms| due_ms.max(earliest_ms))
    }

    /// What the anchor should hold now.
    pub(super) fn next_anchored(&self) -> Anchored {
        let limit = self.versions.next.saturating_add(self.options.reservation).max(self.anchoring.held.version_limit);
        let mut next = Anchored { head: self.log.durable(), version_limit: limit, ..self.anchoring.held.clone() };
        if let Some(secret) = self.secret_to_keep() {
            (next.secret, next.next_secret) = (secret.clone(), None);
        }
        next
    }

    /// The only secret that the anchor needs to keep, once the log names the checkpoint that wrapped every key under it.
    fn secret_to_keep(&self) -> Option<&Secret> {
        self.commands.undropped.as_ref().filter(|_| self.log.named_checkpoint >= self.superblock.checkpoint)
    }

    /// Gives the anchor a new record.
    pub(super) fn start_anchor(&mut self, next: Anchored) {
        (self.anchoring.since_ms, self.anchoring.failed) = (self.now_ms, false);
        self.moved = true;
        match self.anchoring.store.start(self.anchoring.counter, &next.encode()) {
            Ok(()) => self.anchoring.busy = Some(next),
            Err(error) => self.anchor_failed(error),
        }
    }

    pub(super) fn poll_anchor(&mut self) {
        let Some(result) = self.anchoring.store.poll() else { return };
        self.moved = true;
        let Some(next) = self.anchoring.busy.take() else { return };
        match result {
            Ok(counter) => self.anchor_holds(counter, next),
            // Either record may stand; the anchor knows.
            Err(error) => match self.anchoring.store.read() {
                Ok(snapshot) if snapshot.record == next.encode() => self.anchor_holds(snapshot.counter, next),
                _ => self.anchor_failed(error),
            },
        }
    }

    fn anchor_holds(&mut self, counter: u64, next: Anchored) {
        self.anchoring.counter = counter;
        self.versions.limit = next.version_limit;
        self.anchoring.held = next;
        if self.commands.undropped.as_ref() == Some(&self.anchoring.held.secret) {
            self.commands.undropped = None;
        }
    }

    fn anchor_failed(&mut self, error: anchor::Error) {
        self.report(Event::AnchorFailed(error));
        self.anchoring.failed = true;
        self.anchoring.failures += 1;
        self.fail_anchored();
    }

    /// What waits for the anchor fails.
    pub(super) fn fail_anchored(&mut self) {
        for (request, _) in core::mem::take(&mut self.anchoring.waiting) {
            self.fail(request, Status::IoError);
            self.finish_run_of(request);
        }
    }

    /// Answers the requests whose record is anchored.
    fn answer_anchored(&mut self) {
        let head = self.anchoring.held.head.seq;
        let mut at = 0;
        while at < self.anchoring.waiting.len() {
            if self.anchoring.waiting[at].1 <= head {
                let (request, _) = self.anchoring.waiting.swap_remove(at);
                self.finish_run_of(request);
            } else {
                at += 1;
            }
        }
    }
}
