//! Discard and write-zeroes: the log and the leaves state zeros, and no data is written. A whole extent is given back instead, which
//! says the same in one entry.

use alloc::vec::Vec;
use core::ops::Range;

use anchor::MonotonicStore;
use block::{BlockDevice, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    issue::{Next, extent_address},
    place::{MAX_COPIES, Place, Purpose},
    request::Step,
    volumes::Physical,
};
use crate::{
    Layout,
    record::{
        EXTENT_BLOCKS,
        entry::Entry,
        log::{LogEntry, Statement},
    },
};

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Issues the next run of a discard or write-zeroes.
    pub(super) fn issue_zero(&mut self, request: usize) -> Step {
        if self.zero_budget == 0 {
            return Step::Exhausted;
        }
        let next = self.next(request);
        let whole = self.whole_extents(&next);
        whole.and_then(|extents| self.free_extents(&next, extents)).unwrap_or_else(|| self.zero_blocks(next))
    }

    /// States zeros for the next blocks, as far as one leaf goes.
    fn zero_blocks(&mut self, mut next: Next) -> Step {
        let volume = self.volume(next.volume);
        if (0..volume.copies()).all(|copy| volume.physical(next.spot.extent, copy).is_none()) {
            return self.pass_over_blank(&next, next.spot.extent..next.spot.extent + 1, next.count as u32);
        }
        let longest = self.log.longest_run(self.volume(next.volume).copies());
        next.count = next.count.min(MAX_REQUEST_BLOCKS).min(longest).min(self.zero_budget as usize);
        let draft = match self.draft_write(&next) {
            Ok(draft) => draft,
            Err(step) => return step,
        };
        self.zero_budget -= draft.count as u32;
        if draft.places().iter().all(|place| self.all_zero(place, draft.count)) {
            self.requests.get_mut(next.request).issued += draft.count as u32;
            return Step::Issued;
        }
        if !self.runs.has_room() {
            return Step::Exhausted;
        }
        let run = self.begin_run(Purpose::Zero, &draft);
        self.runs.get_mut(run).version = self.take_versions(draft.count as u64);
        self.append_run(run);
        Step::Issued
    }

    /// Blocks that lie nowhere are zeros, if it is known that they lie nowhere.
    fn pass_over_blank(&mut self, next: &Next, extents: Range<u32>, blocks: u32) -> Step {
        let mut extents = extents;
        if extents.any(|extent| self.may_be_unseen(next.volume, extent)) {
            return self.fail_part(next.request, next.count);
        }
        self.requests.get_mut(next.request).issued += blocks;
        Step::Issued
    }

    /// The extents that the rest of the request covers from its next block on, all of each: one, or a set of a striped volume.
    fn whole_extents(&self, next: &Next) -> Option<Range<u32>> {
        let state = self.requests.get(next.request);
        let (_, blocks) = super::request::range(&state.operation)?;
        let columns = match self.volume(next.volume).record.layout {
            Layout::Striped(columns) => u32::from(columns),
            Layout::Linear | Layout::Mirrored => 1,
        };
        let set = EXTENT_BLOCKS * u64::from(columns);
        let whole = next.block.is_multiple_of(set) && u64::from(blocks - state.issued) >= set;
        whole.then_some(next.spot.extent..next.spot.extent + columns)
    }

    /// Gives back all of these extents. `None`: they cannot be, but their blocks can be stated as zeros.
    fn free_extents(&mut self, next: &Next, extents: Range<u32>) -> Option<Step> {
        let blocks = extents.len() as u32 * EXTENT_BLOCKS as u32;
        let volume = self.volume(next.volume);
        let copies = volume.copies();
        let places = extents.clone().flat_map(|extent| (0..copies).map(move |copy| (extent, copy)));
        let held: Vec<_> =
            places.filter_map(|(extent, copy)| Some((extent, copy, volume.physical(extent, copy)?))).collect();
        if held.is_empty() {
            return Some(self.pass_over_blank(next, extents, blocks));
        }
        let lies = |extent| held.iter().any(|(at, ..)| *at == extent);
        if extents.into_iter().any(|extent| !lies(extent) && self.may_be_unseen(next.volume, extent)) {
            return None;
        }
        let in_use = |at: &Physical| self.members[at.member].extents.in_use(at.extent);
        if !self.extents_may_change() || held.iter().any(|(_, _, at)| in_use(at)) {
            return Some(Step::Waits);
        }
        if held.iter().any(|(_, _, at)| self.is_lost(at.member)) {
            if copies != MAX_COPIES {
                return None;
            }
            if !self.losses_are_marked() {
                return Some(Step::Waits);
            }
        }
        if !self.log_has_room(held.len()) {
            return Some(Step::Exhausted);
        }
        if self.versions_left() < 2 * held.len() as u64 {
            return Some(self.without_versions(next.request));
        }
        let mut last = None;
        for (extent, copy, at) in held {
            // Versions that follow each other are those of twins: of the next extent they do not.
            if last.replace(extent) != Some(extent) {
                self.take_versions(1);
            }
            self.free_extent(next.volume, extent, copy, at);
        }
        let state = self.requests.get_mut(next.request);
        state.issued += blocks;
        state.runs += 1;
        self.log.wait_for_commit(next.request);
        Some(Step::Issued)
    }

    /// Gives the extent back, in memory and in the log.
    fn free_extent(&mut self, volume: usize, extent: u32, copy: usize, at: Physical) {
        let version = self.take_versions(1);
        self.members[at.member].extents.set(at.extent, None);
        self.volume_mut(volume).set_physical(extent, copy, None);
        self.note_move(volume, at.member);
        self.append(LogEntry { address: extent_address(at), statement: Statement::Freed { version } }.encode());
    }

    /// Whether `count` blocks from the place on read as zeros.
    pub(super) fn all_zero(&self, place: &Place, count: usize) -> bool {
        let is_zero = |at| self.entry_at(place, at).is_some_and(|entry| !matches!(entry, Entry::Sealed { .. }));
        (0..count).all(is_zero)
    }
}
