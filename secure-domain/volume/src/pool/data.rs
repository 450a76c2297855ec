//! The data of a write: in place, once, when its record is durable; then the entries change.
//!
//! A changed entry is *unsettled* until its record is covered: if power fails before that, the block may still hold what it
//! held, so a checkpoint must not forget the entry before. Unsettled changes keep it aside.

use alloc::collections::VecDeque;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};

use super::{
    Pool,
    job::Kind,
    place::{MAX_COPIES, Purpose},
};
use crate::{
    Event, Status,
    record::{
        entry::{Entry, EntryBytes},
        log::{Address, LogEntry, MAX_ENTRIES, Statement},
    },
};

/// Times that a write of the walker is tried again, and a write of a mirror.
const MAX_ATTEMPTS: u8 = 16;
const MAX_MIRROR_ATTEMPTS: u8 = 3;

/// A change of an entry that a power cut may undo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsettled {
    /// Cache slot of the leaf, and entry in it.
    pub(super) slot: usize,
    pub(super) index: usize,
    /// The record that states it.
    pub(super) seq: u64,
    /// The entry before.
    pub(super) old: EntryBytes,
}

/// Copies of runs that wait for a place in a disk's queue.
pub(super) type DataQueue = VecDeque<(usize, usize)>;

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// The run's record is durable, and is held.
    pub(super) fn start_data(&mut self, index: usize) {
        let run = self.runs.get(index);
        let (copies, purpose) = (run.copies, run.purpose);
        if purpose == Purpose::Zero {
            self.finish_write(index);
            return;
        }
        for copy in 0..copies {
            self.data.push_back((index, copy));
        }
        self.runs.get_mut(index).left = copies;
    }

    /// Starts as many data writes as the disks take.
    pub(super) fn pump_data(&mut self) {
        for _ in 0..self.data.len() {
            let Some((index, copy)) = self.data.pop_front() else { return };
            let place = self.runs.get(index).places[copy];
            let member = place.physical.member;
            // With writes stopped nobody gives up a disk that takes nothing.
            if self.is_lost(member) || self.stopped && self.is_dead(member) {
                self.complete_write(index, copy, place.block, false);
                continue;
            }
            if !self.can_start(member) {
                self.data.push_back((index, copy));
                continue;
            }
            let buffer: Buffer = self.runs.get_mut(index).buffers[copy].take().expect("a sealed run holds its buffers");
            let block = self.members[member].geometry.data_start + place.block;
            self.start_write(Kind::Write(index, copy), member, block, buffer);
        }
    }

    /// Whether a write that failed is tried again: nobody asked for it who could be told, or the other copy may have been written.
    pub(super) fn retries(&self, index: usize, copy: usize) -> bool {
        let run = self.runs.get(index);
        let lost = self.is_lost(run.places[copy].physical.member);
        let most = match run.purpose {
            Purpose::Reseal => MAX_ATTEMPTS,
            // What one copy misses has to be healed.
            _ if run.copies == MAX_COPIES && !self.has_bad(&run.places[copy], run.count) => MAX_MIRROR_ATTEMPTS,
            _ => 0,
        };
        !lost && run.attempts < most && !self.stopped
    }

    pub(super) fn write_again(&mut self, index: usize, copy: usize, buffer: Option<Buffer>) {
        let run = self.runs.get_mut(index);
        run.attempts += 1;
        run.buffers[copy] = buffer;
        self.data.push_back((index, copy));
    }

    pub(super) fn complete_write(&mut self, index: usize, copy: usize, block: u64, ok: bool) {
        let run = self.runs.get_mut(index);
        run.left -= 1;
        run.written[copy] = ok;
        let (left, at, count) = (run.left, run.places[copy], run.count);
        if ok {
            self.forget_bad(&at, count);
        } else {
            self.report(Event::WriteFailed { member: at.physical.member, block });
        }
        if left == 0 {
            self.finish_write(index);
        }
    }

    /// All copies were written, or some; or the run states zeros.
    fn finish_write(&mut self, index: usize) {
        let run = self.runs.get(index);
        let (request, ordinal) = (run.request, run.ordinal);
        let is_good = |copy: usize| {
            let lost = self.members[run.places[copy].physical.member].lost;
            !lost && (run.purpose == Purpose::Zero || run.written[copy])
        };
        let good = (0..run.copies).any(is_good);
        if good {
            self.heal_unwritten(index);
            self.change_entries(index);
        } else if run.purpose == Purpose::Reseal {
            // What was to be replaced was flushed long ago, and either may lie there now: the log keeps both for the next mount to see.
            self.stop_writes();
        } else {
            self.fail(request, Status::IoError);
            self.take_back(index);
        }
        self.release_record(ordinal);
        self.end_run(index);
    }

    /// A copy that was not written gets the new entries all the same: what it holds does not open with them, so nothing old is believed,
    /// and one bad block costs no more than itself. It is healed from the other copy.
    ///
    /// If that one is on a member that has missed something when the log is gone through again, only the trees say that it is as new:
    /// replay does not take the log's word for it. So nothing more is called covered before a checkpoint holds both entries, and until
    /// then the other member is not given up.
    fn heal_unwritten(&mut self, index: usize) {
        let run = self.runs.get(index);
        let (places, copies, written, purpose) = (run.places, run.copies, run.written, run.purpose);
        let last = (run.ordinal + (copies * run.count) as u64 - 1) / MAX_ENTRIES as u64;
        for copy in (0..copies).filter(|copy| purpose != Purpose::Zero && !written[*copy]) {
            let member = places[copy].physical.member;
            if !self.is_lost(member) {
                self.members[member].unwritten = last;
                self.hold_covered();
                self.heal_copy(index, copy);
            }
        }
    }

    fn change_entries(&mut self, index: usize) {
        let run = self.runs.get(index);
        for copy in 0..run.copies {
            let place = run.places[copy];
            if self.members[place.physical.member].lost {
                continue;
            }
            for block in 0..run.count {
                let version = run.version + block as u64;
                let entry = match run.purpose {
                    Purpose::Zero => Entry::Zero { version },
                    _ => Entry::Sealed { version, epoch: run.epoch, tag: run.tags[block] },
                };
                let seq = (run.ordinal + (copy * run.count + block) as u64) / MAX_ENTRIES as u64;
                let (slot, index) = (place.slot, place.first + block);
                let old = *self.cache.entry(slot, index);
                self.unsettled.push_back(Unsettled { slot, index, seq, old });
                self.cache.add_unsettled(slot);
                self.cache.set_entry(slot, index, &entry.encode());
            }
        }
    }

    /// No copy was written. The log says that they were, so it has to say now that the blocks are what they were before.
    fn take_back(&mut self, index: usize) {
        let run = self.runs.get(index);
        let (count, copies, places) = (run.count, run.copies, run.places);
        if !self.log_has_reserve(count * MAX_COPIES) || self.versions_left() < count as u64 {
            self.stop_writes();
            return;
        }
        for block in 0..count {
            // What was never written is zeros, of one version in all copies.
            let blank = Entry::Zero { version: self.take_versions(1) };
            for place in &places[..copies] {
                let entry = match Entry::parse(self.cache.entry(place.slot, place.first + block)) {
                    Some(entry @ (Entry::Sealed { .. } | Entry::Zero { .. })) => entry,
                    _ => blank,
                };
                let address: Address = place.address(block);
                self.append(LogEntry { address, statement: Statement::Block(entry) }.encode());
            }
        }
    }

    /// Forgets what a power cut cannot undo any more.
    pub(super) fn settle_changes(&mut self) {
        while let Some(change) = self.unsettled.front().filter(|change| change.seq <= self.log.covered) {
            self.cache.settle(change.slot);
            self.unsettled.pop_front();
        }
    }

    /// Makes the image of the leaf in `slot` one that holds changes up to record `boundary` only; returns whether it differs from
    /// the leaf.
    pub(super) fn undo_unsettled(&self, slot: usize, boundary: u64, image: &mut [u8]) -> bool {
        if self.cache.unsettled(slot) == 0 {
            return false;
        }
        let entries = image.as_chunks_mut::<32>().0;
        let mut undone = false;
        for change in self.unsettled.iter().rev().filter(|change| change.slot == slot && change.seq > boundary) {
            entries[change.index] = change.old;
            undone = true;
        }
        undone
    }
}
