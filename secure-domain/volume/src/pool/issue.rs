//! Issuing: a request becomes runs as far as locks and resources allow; for a write that is done in the order of what may be missing:
//! room in the log, extents, leaves, locks, buffers, versions, and at last the payload, which is read once.

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    place::{Draft, MAX_COPIES, Place, Purpose},
    request::{Step, range},
    tree::Missing,
    volumes::{Physical, Spot},
};
use crate::{
    Event, Operation, Status, Transfer,
    record::{
        EXTENT_BLOCKS,
        extent::Assignment,
        log::{Address, LogEntry, Statement},
    },
};

/// What a request is to do next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) request: usize,
    pub(super) volume: usize,
    pub(super) block: u64,
    /// Blocks of the request before it.
    pub(super) offset: u32,
    pub(super) spot: Spot,
    /// Blocks that one run could take.
    pub(super) count: usize,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Issues as many runs of the request as can go now.
    pub(super) fn issue(&mut self, request: usize, transfer: &mut impl Transfer) -> Step {
        let operation = self.requests.get(request).operation;
        let Some((_, blocks)) = range(&operation) else { return self.issue_flush(request) };
        let writes = !matches!(operation, Operation::Read { .. });
        if self.is_halted() || writes && self.stopped {
            self.give_up(request, Status::IoError);
        }
        // Bounded: every turn but the last issues at least one block.
        while self.requests.get(request).issued < blocks {
            let before = self.requests.get(request).issued;
            let step = match operation {
                Operation::Zero { .. } => self.issue_zero(request),
                _ if self.issue_budget == 0 => Step::Exhausted,
                Operation::Read { .. } => self.issue_read(request, transfer),
                _ => self.issue_write(request, transfer),
            };
            if step != Step::Issued {
                return step;
            }
            if !matches!(operation, Operation::Zero { .. }) {
                let issued = self.requests.get(request).issued - before;
                self.issue_budget = self.issue_budget.saturating_sub(issued);
            }
        }
        self.settle(request);
        Step::Issued
    }

    /// What is left of the request, as far as one leaf goes.
    pub(super) fn next(&self, request: usize) -> Next {
        let state = self.requests.get(request);
        let (start, blocks) = range(&state.operation).expect("a flush has no runs");
        let block = start + u64::from(state.issued);
        let spot = self.volume(state.slot).spot(block);
        let count = (blocks - state.issued).min(spot.room) as usize;
        Next { request, volume: state.slot, block, offset: state.issued, spot, count }
    }

    /// The draft of a run over these copies, whose leaves must all be there.
    pub(super) fn draft(&mut self, next: &Next, copies: &[Option<Physical>]) -> Result<Draft, Missing> {
        let nowhere = Place::new(Physical { member: 0, extent: 0 }, 0, 0);
        let Next { request, volume, block, offset, count, .. } = *next;
        let mut draft = Draft { request, volume, block, offset, count, copies: 0, places: [nowhere; MAX_COPIES] };
        for physical in copies.iter().flatten() {
            let first = u64::from(physical.extent) * EXTENT_BLOCKS + next.spot.within;
            let slot = self.entry_leaf(physical.member, first)?;
            draft.places[draft.copies] = Place::new(*physical, next.spot.within, slot);
            draft.copies += 1;
        }
        Ok(draft)
    }

    /// Issues the next run of a write.
    fn issue_write(&mut self, request: usize, transfer: &mut impl Transfer) -> Step {
        let mut next = self.next(request);
        let longest = self.log.longest_run(self.volume(next.volume).copies());
        next.count = next.count.min(MAX_REQUEST_BLOCKS).min(longest);
        let mut draft = match self.draft_write(&next) {
            Ok(draft) => draft,
            Err(step) => return step,
        };
        if !self.runs.has_room() {
            return Step::Exhausted;
        }
        let Some(buffers) = self.allocate_buffers(&mut draft) else { return Step::Exhausted };
        let run = self.begin_run(Purpose::Write, &draft);
        let version = self.take_versions(draft.count as u64);
        let epoch = self.volume(draft.volume).sealer.epoch();
        let state = self.runs.get_mut(run);
        (state.buffers, state.version, state.epoch) = (buffers, version, epoch);
        self.promise(run);
        self.gather_run(run, transfer);
        Step::Issued
    }

    /// What writing and zeroing have in common: room in the log, extents, leaves that may become dirty, locks.
    pub(super) fn draft_write(&mut self, next: &Next) -> Result<Draft, Step> {
        let copies = self.volume(next.volume).copies();
        if copies == MAX_COPIES && !self.losses_are_marked() {
            return Err(Step::Waits);
        }
        if !self.log_has_room((next.count + 1) * copies) {
            return Err(Step::Exhausted);
        }
        if self.versions_left() < (next.count + MAX_COPIES) as u64 {
            return Err(self.without_versions(next.request));
        }
        let lies = |copy| self.volume(next.volume).physical(next.spot.extent, copy).is_some();
        if !self.extents_may_change() && !(0..copies).any(lies) {
            return Err(Step::Waits);
        }
        let physical = match self.assigned(next.volume, next.spot.extent) {
            Ok(physical) => physical,
            Err(_) if self.frees_space() => return Err(Step::Waits),
            Err(Status::NoSpace) => return Err(self.no_space(next)),
            Err(_) => return Err(self.fail_part(next.request, next.count)),
        };
        let draft = match self.writable_copies(next, physical).and_then(|copies| self.draft(next, &copies)) {
            Ok(draft) if draft.copies != 0 => draft,
            Err(Missing::Waits) => return Err(Step::Waits),
            Err(Missing::Exhausted) => return Err(Step::Exhausted),
            Ok(_) | Err(Missing::Damaged) => return Err(self.fail_part(next.request, next.count)),
        };
        if !self.is_free(&draft) {
            return Err(Step::Waits);
        }
        if !self.leaves_may_change(&draft) {
            return Err(Step::Waits);
        }
        Ok(draft)
    }

    /// Whether no more leaves become dirty by this draft than may. If not, a checkpoint is on its way.
    pub(super) fn leaves_may_change(&mut self, draft: &Draft) -> bool {
        let fresh = draft.places().iter().filter(|place| !self.cache.is_touched(place.slot)).count();
        let may = fresh == 0 || self.cache.touched() + fresh <= self.superblock.dirty_limit as usize;
        if !may {
            self.checkpoint.want();
        }
        may
    }

    /// The copies that can be written. One that cannot must be known to be stale before it misses anything.
    pub(super) fn writable_copies(
        &mut self,
        next: &Next,
        mut copies: [Option<Physical>; MAX_COPIES],
    ) -> Result<[Option<Physical>; MAX_COPIES], Missing> {
        let mirrored = self.volume(next.volume).copies() == MAX_COPIES;
        if mirrored
            && self.options.degraded
            && let [Some(only), None] | [None, Some(only)] = copies
        {
            self.mark_another(only.member)?;
        }
        for copy in &mut copies {
            let Some(at) = *copy else { continue };
            let first = u64::from(at.extent) * EXTENT_BLOCKS + next.spot.within;
            let leaf = if self.is_lost(at.member) { Err(Missing::Damaged) } else { self.entry_leaf(at.member, first) };
            match leaf {
                Ok(_) => {}
                Err(Missing::Damaged) => {
                    if mirrored {
                        self.may_miss(at.member)?;
                    }
                    *copy = None;
                }
                Err(missing) => return Err(missing),
            }
        }
        Ok(copies)
    }

    /// The next blocks of the request fail; it goes on behind them.
    pub(super) fn fail_part(&mut self, request: usize, count: usize) -> Step {
        self.requests.get_mut(request).issued += count as u32;
        self.fail(request, Status::IoError);
        self.moved = true;
        Step::Issued
    }

    fn no_space(&mut self, next: &Next) -> Step {
        let volume = self.volume(next.volume).record.number;
        self.report(Event::NoSpace { volume });
        self.fail_rest(next.request, Status::NoSpace)
    }

    /// The request fails as a whole.
    pub(super) fn fail_rest(&mut self, request: usize, status: Status) -> Step {
        self.give_up(request, status);
        Step::Issued
    }

    /// A buffer for each copy of the draft, which becomes as short as they are.
    pub(super) fn allocate_buffers(&mut self, draft: &mut Draft) -> Option<[Option<Buffer>; MAX_COPIES]> {
        let mut buffers = [None, None];
        for copy in 0..draft.copies {
            buffers[copy] = self.members[draft.places[copy].physical.member].device.allocate(draft.count);
            let blocks = buffers[copy].as_ref().map_or(0, Buffer::blocks);
            // The first buffer decides; a second that is shorter means that there is no room now.
            if blocks < draft.count && (copy != 0 || blocks == 0) {
                self.release_buffers(draft, buffers);
                return None;
            }
            draft.count = blocks;
        }
        Some(buffers)
    }

    fn release_buffers(&mut self, draft: &Draft, buffers: [Option<Buffer>; MAX_COPIES]) {
        for (place, buffer) in draft.places.iter().zip(buffers) {
            if let Some(buffer) = buffer {
                self.members[place.physical.member].device.release(buffer);
            }
        }
    }

    /// Where the copies of `extent` lie; what lies nowhere yet gets a place now.
    fn assigned(&mut self, volume: usize, extent: u32) -> Result<[Option<Physical>; MAX_COPIES], Status> {
        let state = self.volume(volume);
        let copies = state.copies();
        let mut found = core::array::from_fn(|copy| if copy < copies { state.physical(extent, copy) } else { None });
        if found.iter().all(Option::is_none) {
            if self.may_be_unseen(volume, extent) {
                return Err(Status::IoError);
            }
            found = self.choose_extents(volume, extent, copies)?;
            for (copy, at) in found.iter().enumerate() {
                let Some(at) = at else { continue };
                self.assign(volume, extent, copy, *at);
            }
        }
        Ok(found)
    }

    /// Free extents for `extent` of the volume: on its column's member, on two members, or wherever there is most room. While there
    /// is one member only that could take a copy, it takes the only one.
    fn choose_extents(
        &mut self,
        volume: usize,
        extent: u32,
        copies: usize,
    ) -> Result<[Option<Physical>; MAX_COPIES], Status> {
        let column = match self.volume(volume).record.layout {
            crate::Layout::Striped(columns) => Some(extent as usize % usize::from(columns)),
            _ => None,
        };
        let mut found: [Option<Physical>; MAX_COPIES] = [None; MAX_COPIES];
        for copy in 0..copies {
            let taken = found[0].map(|first| first.member);
            let may = |member: &usize| {
                let chosen = column.is_none_or(|column| column == *member) && taken != Some(*member);
                chosen && !self.members[*member].lost
            };
            let live = self.members.iter().filter(|member| !member.lost).count();
            if copy != 0 && live == 1 {
                break;
            }
            let most = (0..self.members.len()).filter(may).max_by_key(|&member| self.members[member].extents.free());
            let member = most.ok_or(Status::IoError)?;
            let extent = self.members[member].extents.find_free().ok_or(Status::NoSpace)?;
            let free = Physical { member, extent };
            *(if copy == 0 { &mut found[0] } else { &mut found[1] }) = Some(free);
        }
        Ok(found)
    }

    /// Gives the extent to the volume, in memory and in the log.
    pub(super) fn assign(&mut self, volume: usize, extent: u32, copy: usize, physical: Physical) {
        let version = self.take_versions(1);
        let number = self.volume(volume).record.number;
        let assignment = Assignment { volume: number, index: extent, copy: copy as u8, version };
        self.members[physical.member].extents.set(physical.extent, Some(&assignment));
        self.volume_mut(volume).set_physical(extent, copy, Some(physical));
        self.note_move(volume, physical.member);
        self.append(
            LogEntry { address: extent_address(physical), statement: Statement::Assigned(assignment) }.encode(),
        );
    }
}

/// The address that stands for an extent.
pub(super) fn extent_address(physical: Physical) -> Address {
    Address { member: physical.member as u8, block: u64::from(physical.extent) * EXTENT_BLOCKS }
}
