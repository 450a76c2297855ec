//! Discard and write-zeroes: the log and the leaves state zeros, and no data is written. A whole extent is given back instead, which
//! says the same in one entry.

use anchor::MonotonicStore;
use block::{BlockDevice, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    issue::{Next, extent_address},
    place::{MAX_COPIES, Place, Purpose},
    request::Step,
    volumes::Physical,
};
use crate::record::{
    EXTENT_BLOCKS,
    entry::Entry,
    log::{LogEntry, Statement},
};

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Issues the next run of a discard or write-zeroes.
    pub(super) fn issue_zero(&mut self, request: usize) -> Step {
        let mut next = self.next(request);
        if self.zero_budget == 0 {
            return Step::Exhausted;
        }
        let volume = self.volume(next.volume);
        let mut copies = [None; MAX_COPIES];
        (0..volume.copies()).for_each(|copy| copies[copy] = volume.physical(next.spot.extent, copy));
        if copies.iter().all(Option::is_none) {
            if self.may_be_unseen(next.volume, next.spot.extent) {
                return self.fail_part(request, next.count);
            }
            self.requests.get_mut(request).issued += next.count as u32;
            return Step::Issued;
        }
        if let Some(step) = self.free_extent(&next, &copies) {
            return step;
        }
        let longest = self.log.longest_run(self.volume(next.volume).copies());
        next.count = next.count.min(MAX_REQUEST_BLOCKS).min(longest).min(self.zero_budget as usize);
        let draft = match self.draft_write(&next) {
            Ok(draft) => draft,
            Err(step) => return step,
        };
        self.zero_budget -= draft.count as u32;
        if draft.places().iter().all(|place| self.all_zero(place, draft.count)) {
            self.requests.get_mut(request).issued += draft.count as u32;
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

    /// Gives back the extent, if the rest of the request covers all of it. `None`: it does not.
    fn free_extent(&mut self, next: &Next, copies: &[Option<Physical>; MAX_COPIES]) -> Option<Step> {
        let state = self.requests.get(next.request);
        let (_, blocks) = super::request::range(&state.operation)?;
        let whole = next.spot.within == 0 && u64::from(blocks - state.issued) >= EXTENT_BLOCKS;
        if !whole || matches!(self.volume(next.volume).record.layout, crate::Layout::Striped(_)) {
            return None;
        }
        if copies.iter().flatten().any(|at| self.members[at.member].extents.in_use(at.extent)) {
            return Some(Step::Waits);
        }
        if copies.iter().flatten().any(|at| self.is_lost(at.member)) {
            if self.volume(next.volume).copies() != MAX_COPIES {
                return None;
            }
            if !self.losses_are_marked() {
                return Some(Step::Waits);
            }
        }
        if !self.log_has_room(MAX_COPIES) || !self.runs.has_room() {
            return Some(Step::Exhausted);
        }
        if self.versions_left() < MAX_COPIES as u64 {
            return Some(self.without_versions(next.request));
        }
        for (copy, at) in copies.iter().enumerate() {
            let Some(at) = at else { continue };
            let version = self.take_versions(1);
            self.members[at.member].extents.set(at.extent, None);
            self.volume_mut(next.volume).set_physical(next.spot.extent, copy, None);
            self.note_move(next.volume, at.member);
            self.append(LogEntry { address: extent_address(*at), statement: Statement::Freed { version } }.encode());
        }
        let state = self.requests.get_mut(next.request);
        state.issued += EXTENT_BLOCKS as u32;
        state.runs += 1;
        self.log.wait_for_commit(next.request);
        Some(Step::Issued)
    }

    /// Whether `count` blocks from the place on read as zeros.
    pub(super) fn all_zero(&self, place: &Place, count: usize) -> bool {
        let is_zero = |at| self.entry_at(place, at).is_some_and(|entry| !matches!(entry, Entry::Sealed { .. }));
        (0..count).all(is_zero)
    }
}
