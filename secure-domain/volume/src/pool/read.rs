//! Reads: a run comes from a disk into a DMA buffer, is opened from there, and only verified blocks go on to the guest. A run of
//! zeros needs no disk at all.

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};

use super::{Pool, issue::Next, job::Kind, place::Purpose, request::Step, tree::Missing};
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
        let Some(first) = volume.physical(extent, 0) else { return self.read_zeros(&next, transfer) };
        let second = if copies == 2 { volume.physical(extent, 1) } else { None };
        let mut draft = match (self.draft(&next, &[Some(first)]), second) {
            (Err(Missing::Damaged), Some(second)) => self.draft(&next, &[Some(second)]),
            (draft, _) => draft,
        };
        let draft = match &mut draft {
            Ok(draft) => draft,
            Err(Missing::Waits) => return Step::Waits,
            Err(Missing::Exhausted) => return Step::Exhausted,
            Err(Missing::Damaged) => return self.fail_rest(request, Status::IoError),
        };
        if !self.is_free(draft) {
            return Step::Waits;
        }
        let place = draft.places[0];
        if self.all_zero(&place, draft.count) {
            return self.read_zeros(&next, transfer);
        }
        let member = place.physical.member;
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
        if ok {
            self.batch.add_read(run);
            return;
        }
        let (request, member, count) = (state.request, state.places[0].physical.member, state.count);
        state.spoiled = true;
        self.report(Event::ReadFailed { member, block });
        for index in 0..count {
            if !self.heal(run, index) {
                self.fail(request, Status::IoError);
                self.pause_resealing(run);
            }
        }
        self.finish_opened(run);
    }
}
