//! Reads: a run comes from a disk into a DMA buffer, is opened from there, and only verified blocks go on to the guest. A run of
//! zeros needs no disk at all.

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    issue::Next,
    job::Kind,
    place::{Draft, MAX_COPIES, Purpose},
    request::Step,
    tree::Missing,
    volumes::Physical,
};
use crate::{BLOCK_BYTES, Event, Status, Transfer};

pub(super) const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Starts to read the next run, or answers it at once if all of it is zeros.
    pub(super) fn issue_read(&mut self, request: usize, transfer: &mut impl Transfer) -> Step {
        let mut next = self.next(request);
        next.count = next.count.min(MAX_REQUEST_BLOCKS);
        let (volume, extent) = (self.volume(next.volume), next.spot.extent);
        let copies = volume.copies();
        if copies > 1 && self.heals_are_full() {
            return Step::Exhausted;
        }
        let physical: [_; MAX_COPIES] =
            core::array::from_fn(|copy| if copy < copies { volume.physical(extent, copy) } else { None });
        if physical.iter().all(Option::is_none) {
            if self.may_be_unseen(next.volume, extent) {
                return self.fail_part(request, next.count);
            }
            return self.read_zeros(&next, transfer);
        }
        let mut draft = self.draft_read(&next, &physical);
        let draft = match &mut draft {
            Ok(draft) => draft,
            Err(Missing::Waits) => return Step::Waits,
            Err(Missing::Exhausted) => return Step::Exhausted,
            Err(Missing::Damaged) => return self.fail_part(request, next.count),
        };
        next.count = draft.count;
        if !self.is_free(draft) {
            return Step::Waits;
        }
        let place = draft.places[0];
        if self.all_zero(&place, draft.count) {
            return self.read_zeros(&next, transfer);
        }
        let member = place.physical.member;
        if self.is_dead(member) {
            return self.fail_part(request, draft.count);
        }
        if !self.can_start(member) || !self.runs.has_room() {
            return Step::Exhausted;
        }
        let Some(buffer) = self.members[member].device.allocate(draft.count) else { return Step::Exhausted };
        draft.count = buffer.blocks();
        let run = self.begin_run(Purpose::Read, draft);
        let block = self.members[member].geometry.data_start + place.block;
        self.start_read(Kind::Read(run), member, block, buffer);
        Step::Issued
    }

    /// The copy to read from. Where members have missed something that is the newer one, block by block; a copy that may be old is
    /// not believed alone.
    fn draft_read(&mut self, next: &Next, physical: &[Option<Physical>; MAX_COPIES]) -> Result<Draft, Missing> {
        if self.is_whole() {
            let [first, second] = if physical[0].is_some() { *physical } else { [physical[1], None] };
            return match (self.draft(next, &[first]), second) {
                (Err(Missing::Damaged), Some(_)) => self.draft(next, &[second]),
                (draft, _) => draft,
            };
        }
        let mut found: [Option<Draft>; MAX_COPIES] = [None; MAX_COPIES];
        for (found, at) in found.iter_mut().zip(physical) {
            let Some(at) = at.filter(|at| self.is_readable(next.volume, at.member)) else { continue };
            match self.draft(next, &[Some(at)]) {
                Ok(draft) => *found = Some(draft),
                Err(Missing::Damaged) => {}
                Err(missing) => return Err(missing),
            }
        }
        let mirrored = self.volume(next.volume).copies() == MAX_COPIES;
        match found {
            [Some(first), Some(second)] => Ok(self.newer(first, second)),
            [Some(only), None] | [None, Some(only)] => {
                let old = mirrored && self.is_stale(only.places[0].physical.member);
                if old { Err(Missing::Damaged) } else { Ok(only) }
            }
            [None, None] => Err(Missing::Damaged),
        }
    }

    /// The newer of two copies, as far as it is the newer one.
    fn newer(&self, first: Draft, second: Draft) -> Draft {
        let version = |draft: &Draft, at: usize| self.entry_at(&draft.places[0], at).map(|entry| entry.version());
        let is_newer = |at: usize| version(&second, at) > version(&first, at);
        let takes_second = is_newer(0);
        let count = (1..first.count).find(|at| is_newer(*at) != takes_second).unwrap_or(first.count);
        Draft { count, ..if takes_second { second } else { first } }
    }

    /// Answers a run of zeros.
    fn read_zeros(&mut self, next: &Next, transfer: &mut impl Transfer) -> Step {
        let state = self.requests.get_mut(next.request);
        let mut faults = false;
        for index in 0..next.count as u32 {
            let at = (next.offset + index) * BLOCK_BYTES as u32;
            faults |= transfer.scatter(state.volume, state.cookie, at, &ZEROS).is_err();
        }
        state.issued += next.count as u32;
        if faults {
            self.fail(next.request, Status::IoError);
        }
        self.moved = true;
        Step::Issued
    }

    /// The ciphertext is there, or is not; opening waits until all completions were taken.
    pub(super) fn complete_read(&mut self, run: usize, block: u64, buffer: Option<Buffer>, ok: bool) {
        let state = self.runs.get_mut(run);
        state.buffers[0] = buffer;
        let member = state.places[0].physical.member;
        (state.unread, state.spoiled) = (!ok, !ok);
        if !ok {
            self.report(Event::ReadFailed { member, block });
        }
        self.batch.add_read(run);
    }

    /// A sealed block of a run could not be read: another copy may be good.
    pub(super) fn unreadable(&mut self, run: usize, index: usize) {
        if !self.heal(run, index) {
            self.fail(self.runs.get(run).request, Status::IoError);
            self.pause_resealing(run);
        }
    }
}
