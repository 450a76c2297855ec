//! Flushes: what was answered becomes durable, and the log says so.
//!
//! A round waits until the data of every record that is durable has been written, flushes every disk, and has a record written that
//! says up to where data is durable now (the marker). Requests that arrive while a round runs wait for the next one. A
//! checkpoint, or a log with too much that is not covered, asks for a round without a marker.
//!
//! While a member has missed something and no superblock says so, the log does not call anything covered, so no marker comes. The
//! checkpoint that carries the mark may need a round itself; so those who wait for a marker stand aside meanwhile, and the round
//! ends. They do so too if the log is too full for a marker: the checkpoint that makes room may need a round. Under the `bulk` policy they then wait for the anchor, once for each mark: else the member could be mounted alone, old.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;

use super::{MAX_REQUESTS, Policy, Pool, job::Kind, request::Step};
use crate::{Event, Operation, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Waiting for the data of the records up to `until`.
    Draining,
    /// The disks are being flushed.
    Flushing,
    /// Waiting for a durable record that says so.
    Marking,
}

/// Flushes that wait for a mark, for a checkpoint, or for room in the log, then for the marker of `until`.
#[derive(Default)]
struct Aside {
    requests: Vec<usize>,
    until: u64,
    /// The checkpoint that has to be durable.
    needed: u64,
    /// Copies that were not written were being healed when they came: then the one that flushes those.
    heals: bool,
}

/// The flushes of a pool.
pub(super) struct Flush {
    phase: Phase,
    current: Vec<usize>,
    next: Vec<usize>,
    /// They wait for what only a checkpoint can bring; and those who came when there were some already.
    aside: Aside,
    late: Aside,
    /// A round is wanted though no request asks for one.
    wanted: bool,
    until: u64,
    snapshot: u64,
    issued: usize,
    outstanding: usize,
    failed: bool,
}

impl Flush {
    pub(super) fn new() -> Flush {
        Flush {
            phase: Phase::Idle,
            current: Vec::with_capacity(MAX_REQUESTS),
            next: Vec::with_capacity(MAX_REQUESTS),
            aside: Aside::default(),
            late: Aside::default(),
            wanted: false,
            until: 0,
            snapshot: 0,
            issued: 0,
            outstanding: 0,
            failed: false,
        }
    }

    /// Whether a round runs, or requests wait for one.
    pub(super) fn is_running(&self) -> bool {
        self.phase != Phase::Idle || !self.next.is_empty() || !self.aside.requests.is_empty()
    }

    /// Asks for a round.
    pub(super) fn cover(&mut self) {
        self.wanted = true;
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Adds a flush to the next round.
    pub(super) fn issue_flush(&mut self, request: usize) -> Step {
        self.requests.get_mut(request).issued = 1;
        if self.stopped {
            self.give_up(request, Status::IoError);
            self.settle(request);
            return Step::Issued;
        }
        self.requests.get_mut(request).runs += 1;
        self.flush.next.push(request);
        self.moved = true;
        Step::Issued
    }

    /// Moves the round on.
    pub(super) fn pump_flush(&mut self) {
        self.end_aside();
        if self.flush.phase == Phase::Idle {
            self.begin_round();
        }
        if self.flush.phase == Phase::Draining && self.log.completed() >= self.flush.until {
            self.flush.phase = if self.log.covered >= self.flush.until { Phase::Marking } else { Phase::Flushing };
            (self.flush.issued, self.flush.failed, self.flush.snapshot) = (0, false, self.log.completed());
            self.moved = true;
        }
        if self.flush.phase == Phase::Flushing {
            self.issue_flushes();
        }
        if self.flush.phase == Phase::Marking {
            self.mark();
        }
    }

    fn begin_round(&mut self) {
        let flush = &mut self.flush;
        if flush.next.is_empty() && !flush.wanted || self.stopped {
            return;
        }
        core::mem::swap(&mut flush.current, &mut flush.next);
        flush.wanted = false;
        flush.until = self.log.durable().seq;
        flush.phase = Phase::Draining;
        self.moved = true;
    }

    fn issue_flushes(&mut self) {
        while self.flush.issued < self.members.len() {
            let member = self.flush.issued;
            if !self.is_lost(member) && !self.can_start(member) {
                break;
            }
            self.flush.issued += 1;
            if self.is_lost(member) {
                continue;
            }
            self.flush.outstanding += 1;
            self.start_flush(Kind::FlushRound, member);
        }
        if self.flush.phase != Phase::Flushing || self.flush.issued < self.members.len() || self.flush.outstanding != 0
        {
            return;
        }
        if self.flush.failed {
            self.stop_writes();
            return;
        }
        let snapshot = self.flush.snapshot;
        self.cover(snapshot);
        self.flush.phase = Phase::Marking;
        self.moved = true;
    }

    pub(super) fn complete_flush(&mut self, member: usize, ok: bool) {
        self.flush.outstanding -= 1;
        if !ok {
            self.report(Event::FlushFailed { member });
            self.flush.failed |= !self.retire(member);
        }
    }

    /// Waits for the marker; then the round ends.
    fn mark(&mut self) {
        let waits = !self.flush.current.is_empty();
        if waits && (!self.is_marked() || self.is_frozen()) {
            self.stand_aside();
        } else if waits && !self.has_marker(self.flush.until) {
            if self.log.has_room_for_marker() {
                return;
            }
            self.stand_aside();
        }
        self.flush.phase = Phase::Idle;
        self.moved = true;
        let mut current = core::mem::take(&mut self.flush.current);
        for request in current.drain(..) {
            self.end_flush(request);
        }
        self.flush.current = current;
    }

    /// The flushes of the round wait for what only a checkpoint can bring, without holding up rounds.
    fn stand_aside(&mut self) {
        let flush = &mut self.flush;
        // Those who wait already wait for no more than they did: others may keep writing what cannot be written.
        let aside = if flush.aside.requests.is_empty() { &mut flush.aside } else { &mut flush.late };
        aside.requests.append(&mut flush.current);
        (aside.until, aside.needed) = (flush.until, self.checkpoint.needed);
        aside.heals |= self.walker.owed != 0;
    }

    /// Whether a durable record says that everything up to `until` is covered; if none will, one is asked for.
    pub(super) fn has_marker(&mut self, until: u64) -> bool {
        if self.log.stated < until {
            self.force_record();
        }
        self.log.marked >= until
    }

    /// Has a record written soon, whether or not there is anything to say.
    fn force_record(&mut self) {
        self.moved |= !self.log.force;
        self.log.force = true;
    }

    /// Whether of all that members have missed a superblock knows, and the log knows of that superblock. If not, both are asked for.
    pub(super) fn is_marked(&mut self) -> bool {
        if self.marks_are_pending() {
            self.checkpoint.want();
            return false;
        }
        let Some(marking) = self.checkpoint.marking else { return true };
        if self.log.named_checkpoint < marking {
            if self.log.is_idle() {
                self.force_record();
            }
            return false;
        }
        self.checkpoint.marking = None;
        self.anchoring.required = self.log.durable().seq;
        true
    }

    /// Ends the flushes that stood aside, once the marks and their marker, or a checkpoint that says the same, are durable.
    fn end_aside(&mut self) {
        let Aside { ref requests, until, needed, heals } = self.flush.aside;
        if requests.is_empty() || heals || !self.is_durable(needed) || !self.is_marked() {
            return;
        }
        // While nothing more is called covered, checkpoints come, and say so too.
        let is_covered = if self.is_frozen() { self.log.marked >= until } else { self.has_marker(until) };
        if is_covered {
            self.moved = true;
            let late = core::mem::take(&mut self.flush.late);
            for request in core::mem::replace(&mut self.flush.aside, late).requests {
                self.end_flush(request);
            }
        }
    }

    /// What was owed is healed: a checkpoint that is needed now flushes it.
    pub(super) fn heals_ended(&mut self) {
        for aside in [&mut self.flush.aside, &mut self.flush.late] {
            if core::mem::take(&mut aside.heals) {
                aside.needed = self.checkpoint.needed;
            }
        }
    }

    /// The request's data is durable and the log says so; whether that is enough depends on the request and the policy.
    fn end_flush(&mut self, request: usize) {
        let seq = self.log.durable().seq;
        if self.requests.get(request).operation == Operation::Sync {
            self.checkpoint.wait(request);
        } else if self.options.policy == Policy::Strict || self.anchoring.lacks_mark() {
            self.anchoring.wait(request, seq);
        } else {
            self.finish_run_of(request);
        }
    }

    /// Nothing becomes durable any more.
    pub(super) fn fail_flush(&mut self) {
        self.flush.phase = Phase::Idle;
        self.flush.wanted = false;
        let mut requests = core::mem::take(&mut self.flush.current);
        requests.append(&mut self.flush.next);
        requests.append(&mut self.flush.aside.requests);
        requests.append(&mut self.flush.late.requests);
        for request in requests {
            self.fail(request, Status::IoError);
            self.finish_run_of(request);
        }
    }
}
