//! Jobs: what is under way on the disks, and how it begins and ends.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, Completion, Refused};

use super::Pool;
use crate::Transfer;

/// Disk requests that a pool has under way at a time.
const MAX_JOBS: usize = 512;

/// Milliseconds until a disk that owes an answer counts as one that will not give it, where the pool may go on without one; and the
/// least until it is looked at once more before that: this machine may have slept, or been stopped.
const SILENCE_MS: u64 = 30_000;
const SECOND_LOOK_MS: u64 = 1_000;

/// What a disk request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    /// Data of this run.
    Read(usize),
    /// This copy of this run.
    Write(usize, usize),
    /// The bad copy of this run, which is healed.
    Rewrite(usize),
    /// The tree block of this slot.
    LoadTree(usize),
    /// A tree block of the running checkpoint.
    StoreTree,
    LogWrite,
    LogFlush,
    FlushRound,
    CheckpointFlush,
    StoreSuperblock,
    FlushSuperblock,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    kind: Kind,
    member: usize,
    block: u64,
    since_ms: u64,
}

/// The jobs of a pool.
pub(super) struct Jobs {
    all: Vec<Job>,
    free: Vec<usize>,
    /// Before this time no job is overdue, or those that are have been seen to be.
    look_at_ms: u64,
    /// When overdue jobs were seen last.
    seen_ms: Option<u64>,
}

impl Jobs {
    pub(super) fn new() -> Jobs {
        let free = Job { kind: Kind::Free, member: 0, block: 0, since_ms: 0 };
        Jobs { all: alloc::vec![free; MAX_JOBS], free: (0..MAX_JOBS).rev().collect(), look_at_ms: 0, seen_ms: None }
    }

    pub(super) fn all_free(&self) -> bool {
        self.free.len() == MAX_JOBS
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Whether a request to `member` can be started.
    pub(super) fn can_start(&self, member: usize) -> bool {
        !self.jobs.free.is_empty() && self.members[member].device.room() != 0
    }

    fn begin(&mut self, kind: Kind, member: usize, block: u64) -> Option<u32> {
        if self.jobs.all_free() {
            self.jobs.look_at_ms = self.now_ms.saturating_add(SILENCE_MS);
        }
        let job = self.jobs.free.pop()?;
        self.jobs.all[job] = Job { kind, member, block, since_ms: self.now_ms };
        self.members[member].jobs += 1;
        self.moved = true;
        Some(job as u32)
    }

    /// Starts reading into `buffer`; [`can_start`](Self::can_start) was asked.
    pub(super) fn start_read(&mut self, kind: Kind, member: usize, block: u64, buffer: Buffer) {
        let tag = self.begin(kind, member, block).expect("the caller has seen a free job");
        let taken = self.members[member].device.read(tag, block, buffer);
        self.check_taken(tag, taken);
    }

    /// Starts writing `buffer`; [`can_start`](Self::can_start) was asked.
    pub(super) fn start_write(&mut self, kind: Kind, member: usize, block: u64, buffer: Buffer) {
        let tag = self.begin(kind, member, block).expect("the caller has seen a free job");
        let taken = self.members[member].device.write(tag, block, buffer);
        self.check_taken(tag, taken);
    }

    /// Starts a flush; [`can_start`](Self::can_start) was asked.
    pub(super) fn start_flush(&mut self, kind: Kind, member: usize) {
        let tag = self.begin(kind, member, 0).expect("the caller has seen a free job");
        let taken = self.members[member].device.flush(tag);
        self.check_taken(tag, taken);
    }

    /// A disk that refuses a request after it said it had room has failed it.
    fn check_taken(&mut self, tag: u32, taken: Result<(), Refused>) {
        if let Err(Refused(buffer)) = taken {
            let member = self.jobs.all[tag as usize].member;
            let result = Err(block::Error::Broken);
            self.complete(member, Completion { tag, result, buffer });
        }
    }

    /// Takes what the disks have finished. Bounded: they owe at most one completion a job.
    pub(super) fn take_completions(&mut self, transfer: &mut impl Transfer) {
        for member in 0..self.members.len() {
            for _ in 0..MAX_JOBS {
                let Some(completion) = self.members[member].device.poll() else { break };
                self.complete(member, completion);
            }
        }
        self.open_reads(transfer);
    }

    /// Ends the job that the completion names, whatever it was for.
    fn complete(&mut self, member: usize, completion: Completion) {
        let Completion { tag, result, mut buffer } = completion;
        let ok = result.is_ok();
        let job = self.jobs.all.get(tag as usize).copied().filter(|job| job.member == member);
        let Some(Job { kind, block, .. }) = job else { return };
        if kind != Kind::Free {
            self.jobs.all[tag as usize].kind = Kind::Free;
            self.jobs.free.push(tag as usize);
            self.members[member].jobs -= 1;
            self.moved = true;
        }
        match kind {
            Kind::Free => {}
            Kind::Read(run) => self.complete_read(run, block, buffer.take(), ok),
            Kind::Write(run, copy) if !ok && self.retries(run, copy) => {
                let again = buffer.take();
                self.write_again(run, copy, again);
            }
            Kind::Write(run, copy) => self.complete_write(run, copy, block, ok),
            Kind::Rewrite(run) => self.complete_rewrite(run, block, ok),
            Kind::LoadTree(slot) => self.complete_load(slot, block, buffer.as_ref().filter(|_| ok)),
            Kind::StoreTree => self.complete_store(member, block, ok),
            Kind::LogWrite => self.complete_log_write(member, block, buffer.take(), ok),
            Kind::LogFlush => self.complete_log_flush(member, ok),
            Kind::FlushRound => self.complete_flush(member, ok),
            Kind::CheckpointFlush => self.complete_checkpoint_flush(member, ok),
            Kind::StoreSuperblock => self.complete_superblock(member, block, ok),
            Kind::FlushSuperblock => self.complete_superblock_flush(member, ok),
        }
        if let Some(buffer) = buffer {
            self.members[member].device.release(buffer);
        }
    }

    /// When a disk that does not answer until then is given up.
    pub(super) fn silence_deadline(&self) -> Option<u64> {
        (self.options.degraded && !self.jobs.all_free()).then_some(self.jobs.look_at_ms)
    }

    /// Gives up the disks that have owed an answer for too long, where the pool may go on without one: those that did so at the last look
    /// already. Returns whether there was one.
    pub(super) fn give_up_silent_disks(&mut self) -> bool {
        if self.silence_deadline().is_none_or(|at| self.now_ms < at) {
            return false;
        }
        let (now_ms, mut overdue, mut silent, mut oldest_ms) = (self.now_ms, false, 0_u8, self.now_ms);
        for job in self.jobs.all.iter().filter(|job| job.kind != Kind::Free) {
            let overdue_at = |at_ms: u64| at_ms.saturating_sub(job.since_ms) >= SILENCE_MS;
            silent |= u8::from(self.jobs.seen_ms.is_some_and(overdue_at)) << job.member;
            overdue |= overdue_at(now_ms);
            oldest_ms = oldest_ms.min(job.since_ms);
        }
        self.jobs.seen_ms = overdue.then_some(now_ms);
        self.jobs.look_at_ms = if overdue { now_ms + SECOND_LOOK_MS } else { oldest_ms.saturating_add(SILENCE_MS) };
        for member in (0..self.members.len()).filter(|member| silent & 1 << member != 0) {
            self.give_up_disk(member);
        }
        silent != 0
    }

    /// What the disk owes has failed. Its buffers stay with it: it may still use them.
    fn give_up_disk(&mut self, member: usize) {
        self.members[member].device.silent = true;
        self.retire(member);
        for tag in 0..MAX_JOBS {
            let Job { kind, member: of, .. } = self.jobs.all[tag];
            if kind != Kind::Free && of == member {
                let result = Err(block::Error::Broken);
                self.complete(member, Completion { tag: tag as u32, result, buffer: None });
            }
        }
    }
}
