//! Resynchronisation: a member that was away catches up with its mirrors, in the background, after the mount that found it again.
//!
//! Nothing that it holds is believed for being there: of two copies the entry with the greater version counts, and both entries
//! are authentic, since the tree of the member is the one that the superblock kept its root of. What differs is sealed anew, as
//! a change of epoch does it (`batch.rs`): one log statement for both copies, then the data. What is zeros in the newer copy
//! is stated as zeros anew, for both. A copy that was never made gets a place, on a member that is marked before. Where the entries
//! are equal the member's data is read and verified all the same: a write that was under way when it went away may have reached it
//! alone, and was then given up. When all mirrors were seen, and none of them missed anything meanwhile, the mark in the superblock goes.

use anchor::MonotonicStore;
use block::{BlockDevice, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    issue::Next,
    place::{Draft, MAX_COPIES, Place, Purpose},
    tree::Missing,
    volumes::{Physical, Volume},
    walker::{LEAVES_PER_STEP, RETRY_MS, Walk},
};
use crate::{Event, Layout, record::entry::Entry};

/// How two copies of a block differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    None,
    /// The copy at this place holds the newest data.
    Data(usize),
    /// The block is zeros, and the copy at this place does not know.
    Zeros(usize),
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Begins, if there is a stale member that can catch up, or a copy to make.
    pub(super) fn begin_resync(&mut self) {
        if (self.recoverable() != 0 || self.lacks_copies()) && !self.stopped {
            self.walker.resyncing = Some(Walk { slot: 0, block: 0, copy: 0 });
            self.walker.incomplete = false;
            self.walker.bad.clear();
        }
    }

    /// Stale members that are there, with all of their tables.
    fn recoverable(&self) -> u8 {
        let may = |member: &usize| !self.members[*member].lost && !self.members[*member].unknown;
        let there = (0..self.members.len()).filter(may).fold(0, |mask, member| mask | 1 << member);
        self.superblock.stale & there
    }

    /// Whether an extent of a mirror has one copy only, though there is a member for the other.
    fn lacks_copies(&self) -> bool {
        let live = self.members.iter().filter(|member| !member.lost).count();
        let lacks = |volume: &Volume| {
            let has = |extent, copy| volume.physical(extent, copy).is_some();
            volume.copies() == MAX_COPIES && (0..volume.len()).any(|extent| has(extent, 0) != has(extent, 1))
        };
        self.options.degraded && live > 1 && self.volumes.iter().flatten().any(lacks)
    }

    pub(super) fn resync_step(&mut self, mut walk: Walk) {
        for _ in 0..LEAVES_PER_STEP {
            if walk.slot == self.volumes.len() {
                // What was found to be bad is being rewritten.
                self.walker.resyncing = Some(walk);
                if self.walker.has_healed() {
                    self.end_resync();
                }
                return;
            }
            if self.volumes[walk.slot].as_ref().is_some_and(|volume| volume.closed) {
                // Whether it ends is not decided yet.
                self.walker.resyncing = Some(walk);
                return;
            }
            let Some(next) = self.next_of(walk).filter(|_| self.is_mirrored(walk.slot)) else {
                walk = Walk { slot: walk.slot + 1, block: 0, copy: 0 };
                continue;
            };
            match self.resync_range(&next) {
                Ok(true) => return,
                Ok(false) => {}
                Err(Missing::Damaged) => self.walker.incomplete = true,
                Err(_) => {
                    self.walker.resyncing = Some(walk);
                    return;
                }
            }
            walk.block += next.count as u64;
            self.moved = true;
        }
        self.walker.resyncing = Some(walk);
    }

    fn is_mirrored(&self, slot: usize) -> bool {
        self.volumes[slot].as_ref().is_some_and(|volume| volume.record.layout == Layout::Mirrored)
    }

    /// Every mirror was seen: who has caught up is stale no longer.
    fn end_resync(&mut self) {
        self.walker.resyncing = None;
        self.moved = true;
        let (seen, incomplete) = (self.recoverable(), self.walker.incomplete);
        for member in (0..self.members.len()).filter(|member| seen & 1 << member != 0) {
            self.report(if incomplete { Event::Behind { member } } else { Event::Resynced { member } });
        }
        if incomplete {
            self.put_resync_off();
        } else {
            self.walker.again_ms = RETRY_MS;
            self.checkpoint.stale &= !seen;
            self.checkpoint.want_again();
        }
    }

    /// Starts to make the copies of a stretch equal; `Ok(false)`: they are.
    fn resync_range(&mut self, next: &Next) -> Result<bool, Missing> {
        let Some(both) = self.both_copies(next)? else { return Ok(false) };
        let mut draft = self.draft(next, &both.map(Some))?;
        if !self.is_free(&draft) {
            return Err(Missing::Waits);
        }
        let first = (0..draft.count).find(|at| self.difference(&draft, *at) != Difference::None);
        if self.verify_equal(&draft, first.unwrap_or(draft.count))? {
            return Ok(true);
        }
        let Some(from) = first else { return Ok(false) };
        let what = self.difference(&draft, from);
        let same = |at: &usize| self.difference(&draft, *at) == what;
        let count = (from..draft.count).take_while(same).count().min(MAX_REQUEST_BLOCKS / 2);
        draft.cut(from, count.min(self.log.longest_run(MAX_COPIES)));
        self.walker.resyncing = Some(Walk { slot: next.volume, block: draft.block, copy: 0 });
        match what {
            Difference::Data(newer) => {
                if newer != 0 {
                    draft.places.swap(0, 1);
                }
                self.issue_reseal(draft);
            }
            Difference::Zeros(_) => self.state_zeros(&draft)?,
            Difference::None => {}
        }
        Ok(true)
    }

    /// Starts to verify what the stale member holds of the first `count` blocks, whose entries are equal; `Ok(false)`: there is nothing.
    fn verify_equal(&mut self, draft: &Draft, count: usize) -> Result<bool, Missing> {
        let stale = |place: &&Place| self.is_stale(place.physical.member);
        let Some(place) = draft.places().iter().find(stale).copied() else { return Ok(false) };
        let mut copy = Draft { count, copies: 1, places: [place; MAX_COPIES], ..*draft };
        if !self.find_run(&mut copy, |entry| matches!(entry, Entry::Sealed { .. })) {
            return Ok(false);
        }
        if !self.issue_scrub(&mut copy) {
            return Err(Missing::Exhausted);
        }
        self.walker.resyncing = Some(Walk { slot: copy.volume, block: copy.block + copy.count as u64, copy: 0 });
        Ok(true)
    }

    /// Where the copies lie. One that is missing gets a place; `Ok(None)`: there is nothing to compare.
    fn both_copies(&mut self, next: &Next) -> Result<Option<[Physical; MAX_COPIES]>, Missing> {
        let at: [_; MAX_COPIES] =
            core::array::from_fn(|copy| self.volume(next.volume).physical(next.spot.extent, copy));
        if at.iter().flatten().any(|at| self.is_lost(at.member)) {
            return Err(Missing::Damaged);
        }
        match at {
            [Some(first), Some(second)] => Ok(Some([first, second])),
            [None, None] => Ok(None),
            [Some(there), None] => self.assign_copy(next, 1, there).map(|new| Some([there, new])),
            [None, Some(there)] => self.assign_copy(next, 0, there).map(|new| Some([new, there])),
        }
    }

    /// Gives copy `copy` of the extent a place on another member than that of its twin.
    fn assign_copy(&mut self, next: &Next, copy: usize, twin: Physical) -> Result<Physical, Missing> {
        if !self.extents_may_change() {
            return Err(Missing::Waits);
        }
        if !self.log_has_room(1) || self.versions_left() == 0 {
            return Err(Missing::Exhausted);
        }
        // Only one member can be marked: if one is, the copy goes there.
        let may = |member: &usize| *member != twin.member && !self.members[*member].lost;
        let room = |member: &usize| self.members[*member].extents.free();
        let most = (0..self.members.len()).filter(may).max_by_key(|at| (self.is_stale(*at) && room(at) > 0, room(at)));
        let member = most.ok_or(Missing::Damaged)?;
        let extent = self.members[member].extents.find_free().ok_or(Missing::Damaged)?;
        self.mark_stale(member)?;
        let new = Physical { member, extent };
        self.assign(next.volume, next.spot.extent, copy, new);
        Ok(new)
    }

    pub(super) fn difference(&self, draft: &Draft, at: usize) -> Difference {
        let entry = |place: &Place| self.entry_at(place, at).unwrap_or(Entry::Blank);
        let (a, b) = (entry(&draft.places[0]), entry(&draft.places[1]));
        let is_data = |entry: &Entry| matches!(entry, Entry::Sealed { .. });
        let newer = usize::from(b.version() > a.version());
        match [is_data(&a), is_data(&b)] {
            [false, false] => Difference::None,
            [true, true] if a == b => Difference::None,
            data if data[newer] => Difference::Data(newer),
            _ => Difference::Zeros(1 - newer),
        }
    }

    /// States that the blocks are zeros, in both copies.
    fn state_zeros(&mut self, draft: &Draft) -> Result<(), Missing> {
        if !self.leaves_may_change(draft) {
            return Err(Missing::Exhausted);
        }
        let (count, copies) = (draft.count, draft.copies);
        if !self.log_has_room(count * copies) || !self.runs.has_room() || self.versions_left() < count as u64 {
            return Err(Missing::Exhausted);
        }
        let run = self.begin_run(Purpose::Zero, draft);
        self.runs.get_mut(run).version = self.take_versions(count as u64);
        self.walker_run_began();
        self.append_run(run);
        Ok(())
    }
}
