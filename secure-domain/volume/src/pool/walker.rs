//! The walker: goes through blocks in the background, one run at a time: sealing anew what is of an old epoch, scrubbing, and healing
//! mirrors.
//!
//! It goes on whenever no request waits, and at least once a millisecond whatever the load. A walk to a volume's end is not remembered
//! across mounts: what says that a block is done is its entry, so a mount begins again and passes over what is done by reading
//! leaves alone. The old epoch ends with a checkpoint that covers the last block (`command.rs`).

use alloc::{collections::VecDeque, vec::Vec};
use core::ops::ControlFlow;

use anchor::MonotonicStore;
use block::{BlockDevice, MAX_REQUEST_BLOCKS};

use super::{
    Pool,
    issue::Next,
    job::Kind,
    place::{Draft, MAX_COPIES, Place, Purpose},
    request::WALKER,
    resync::Difference,
    tree::Missing,
    volumes::Physical,
};
use crate::{
    BLOCK_BYTES, Done, Event, POOL, Status,
    record::{EXTENT_BLOCKS, entry::Entry, node::FAN_OUT},
};

/// Milliseconds between steps while requests keep coming.
const PACE_MS: u64 = 1;
/// Leaves that one step looks at without finding anything to do.
pub(super) const LEAVES_PER_STEP: usize = 16;
/// Milliseconds until the end of an epoch is tried again.
pub(super) const RETRY_MS: u64 = 1000;
/// The longest time until mirrors that could not be made equal are gone through again.
const MAX_RETRY_MS: u64 = 3_600_000;
/// Blocks that wait to be healed before mirrors are read no further. What is being read may add its own.
const MAX_HEALS: usize = 64;
/// Blocks that wait to be healed before the walker goes no further: less, so that requests find room.
const MAX_WALKED_HEALS: usize = 16;
/// Times that healing a block is tried.
const MAX_HEAL_ATTEMPTS: u8 = 16;
/// Copies of blocks that are kept in mind because they cannot be written.
const MAX_BAD: usize = 64;
/// The most of them of which a member that catches up is not called behind.
const MAX_BAD_EQUAL: usize = 16;

/// A block with a bad copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heal {
    /// Who waits for the block: its request, and its place in the payload.
    pub(super) request: usize,
    pub(super) offset: u32,
    pub(super) volume: usize,
    pub(super) block: u64,
    /// The copy that is bad, and where it lies: that extent is not given back meanwhile.
    pub(super) bad: usize,
    pub(super) at: Physical,
    /// Times that it was tried.
    pub(super) attempts: u8,
    /// It was not written, and nothing says so but this: a flush waits.
    pub(super) owed: bool,
}

/// A walk through a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Place of the volume in the catalog.
    pub(super) slot: usize,
    pub(super) block: u64,
    pub(super) copy: usize,
}

/// The walker of a pool.
pub(super) struct Walker {
    heals: VecDeque<Heal>,
    /// Mirrors are made equal again.
    pub(super) resyncing: Option<Walk>,
    /// Some of them could not be looked at.
    pub(super) incomplete: bool,
    /// Blocks that are being healed.
    pub(super) healing: usize,
    resealing: Option<Walk>,
    /// A scrub: its cookie, and how far it has come.
    scrubbing: Option<(u32, Walk)>,
    /// A run is under way.
    busy: bool,
    since_ms: u64,
    /// Nothing new is begun before this time.
    not_before_ms: u64,
    /// Mirrors that could not be made equal are not looked at again before this time; each time twice as long.
    not_again_before_ms: u64,
    pub(super) again_ms: u64,
    /// Heals that are owed.
    pub(super) owed: usize,
    /// The last copies that could not be healed: member, and data block of it. They are not tried again before they are written, or
    /// everything is gone through again; resealing takes the other copy.
    pub(super) bad: VecDeque<(usize, u64)>,
    /// Below this block resealing takes one block at a time.
    careful_until: u64,
}

impl Walker {
    pub(super) fn new() -> Walker {
        Walker {
            heals: VecDeque::new(),
            resyncing: None,
            incomplete: false,
            healing: 0,
            resealing: None,
            scrubbing: None,
            busy: false,
            since_ms: 0,
            not_before_ms: 0,
            not_again_before_ms: 0,
            again_ms: RETRY_MS,
            owed: 0,
            bad: VecDeque::new(),
            careful_until: 0,
        }
    }

    /// Whether no block waits to be healed.
    pub(super) fn no_heals(&self) -> bool {
        self.heals.is_empty()
    }

    /// Whether so much waits to be healed that nothing more is looked for.
    fn waits_for_heals(&self) -> bool {
        self.heals.len() >= MAX_WALKED_HEALS
    }

    /// Whether no block waits to be healed or is being healed.
    pub(super) fn has_healed(&self) -> bool {
        self.heals.is_empty() && self.healing == 0
    }

    /// Whether nothing is to be done before some time has passed.
    pub(super) fn is_idle(&self, now_ms: u64) -> bool {
        let reseals = (self.resealing.is_some() || self.resyncing.is_some()) && now_ms >= self.not_before_ms;
        self.heals.is_empty() && !self.busy && !reseals && self.scrubbing.is_none()
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Nothing is healed any more.
    pub(super) fn give_up_heals(&mut self) {
        while let Some(heal) = self.walker.heals.pop_front() {
            self.lost(&heal);
        }
    }

    /// Whether mirrors are read no further before some of what is bad has been healed.
    pub(super) fn heals_are_full(&self) -> bool {
        self.walker.heals.len() >= MAX_HEALS
    }

    /// Nothing is sealed anew any more.
    pub(super) fn end_resealing_walks(&mut self) {
        (self.walker.resealing, self.walker.resyncing) = (None, None);
    }

    /// Nothing is walked any more: the cookie of the scrub that ends so.
    pub(super) fn end_walks(&mut self) -> Option<u32> {
        self.end_resealing_walks();
        self.walker.scrubbing.take().map(|(cookie, _)| cookie)
    }

    /// Begins to read and verify everything.
    pub(super) fn begin_scrub(&mut self, cookie: u32) {
        self.walker.scrubbing = Some((cookie, Walk { slot: 0, block: 0, copy: 0 }));
        self.walker.bad.clear();
    }

    /// Whether the walker is at a block of this volume.
    pub(super) fn walker_is_in(&self, slot: usize) -> bool {
        self.walker.busy
            || self.walker.healing != 0
            || self.walker.heals.iter().any(|heal| heal.volume == slot)
            || self.volume(slot).record.old.is_some()
    }

    /// Moves the walker on.
    pub(super) fn pump_walker(&mut self) {
        if !self.serving {
            return;
        }
        self.issue_heals();
        if self.walker.busy || self.is_halted() || self.walker.waits_for_heals() || !self.walker_may_go() {
            return;
        }
        self.walker.since_ms = self.now_ms;
        let reseals = !self.stopped && self.now_ms >= self.walker.not_before_ms;
        if let Some(walk) = self.walker.resyncing.filter(|_| reseals) {
            self.resync_step(walk);
        } else if let Some(walk) = if reseals { self.next_to_reseal() } else { None } {
            self.reseal_step(walk);
        } else if let Some((cookie, walk)) = self.walker.scrubbing {
            self.scrub_step(cookie, walk);
        }
    }

    /// Where resealing stands; it begins with the first volume that has an old epoch.
    fn next_to_reseal(&mut self) -> Option<Walk> {
        if self.walker.resyncing.is_some() {
            return None;
        }
        if self.walker.resealing.is_none() && self.old_epochs != 0 && self.commands.is_idle() {
            let has_old = |volume: &super::Volume| volume.old.is_some();
            let next = self.volumes.iter().position(|volume| volume.as_ref().is_some_and(has_old));
            self.walker.resealing = next.map(|slot| Walk { slot, block: 0, copy: 0 });
            self.walker.careful_until = 0;
        }
        self.walker.resealing
    }

    fn walker_may_go(&self) -> bool {
        self.requests.no_pending() && self.requests.all_free()
            || self.now_ms.saturating_sub(self.walker.since_ms) >= PACE_MS
    }

    /// When time alone lets the walker go on. While a run of its own, a checkpoint or a command is under way, their end does.
    pub(super) fn walker_deadline(&self) -> Option<u64> {
        let busy = self.walker.busy || self.walker.waits_for_heals();
        let waits = busy || !self.serving || self.checkpoint.is_running() || !self.commands.is_idle();
        let paced_ms = self.walker.since_ms.saturating_add(PACE_MS);
        let reseals = !self.stopped && (self.old_epochs != 0 || self.walker.resyncing.is_some());
        let resealing_ms = reseals.then_some(paced_ms.max(self.walker.not_before_ms));
        let scrubbing_ms = self.walker.scrubbing.map(|_| paced_ms);
        [resealing_ms, scrubbing_ms].into_iter().flatten().min().filter(|_| !waits)
    }

    /// Something that resealing needs cannot be read or made durable now: it is tried again later.
    pub(super) fn pause_walker(&mut self) {
        self.walker.not_before_ms = self.now_ms + RETRY_MS;
    }

    /// What differs could not all be made equal: to try that again, all that a member holds of mirrors is read.
    pub(super) fn put_resync_off(&mut self) {
        self.walker.not_again_before_ms = self.now_ms + self.walker.again_ms;
        self.walker.again_ms = (2 * self.walker.again_ms).min(MAX_RETRY_MS);
    }

    /// A run of the walker is under way.
    pub(super) fn walker_run_began(&mut self) {
        self.walker.busy = true;
    }

    /// A run of the walker has ended.
    pub(super) fn walker_run_ended(&mut self) {
        self.walker.busy = false;
    }

    /// What of the volume can be looked at in one go, from `block` on: as far as one leaf goes.
    pub(super) fn next_of(&self, walk: Walk) -> Option<Next> {
        let volume =
            self.volumes[walk.slot].as_ref().filter(|volume| walk.block < volume.record.blocks && !volume.closed)?;
        let spot = volume.spot(walk.block);
        let count = (volume.record.blocks - walk.block).min(u64::from(spot.room)) as usize;
        Some(Next { request: WALKER, volume: walk.slot, block: walk.block, offset: 0, spot, count })
    }

    /// Where the copies of what is next lie, leaves loaded; `Ok(None)` if it lies nowhere.
    fn walk_draft(&mut self, next: &Next, copies: core::ops::Range<usize>) -> Result<Option<Draft>, Missing> {
        let volume = self.volume(next.volume);
        let (mut physical, seen) = ([None; MAX_COPIES], copies.len());
        for (at, copy) in copies.enumerate() {
            physical[at] = volume.physical(next.spot.extent, copy);
        }
        let lies = physical.iter().any(Option::is_some);
        let live = physical.map(|at| at.filter(|at| self.is_readable(next.volume, at.member)));
        if !lies && !self.may_be_unseen(next.volume, next.spot.extent)
            || lies && seen == 1 && live[0].is_none() && volume.copies() > 1
        {
            return Ok(None);
        }
        if live.iter().all(Option::is_none) {
            return Err(Missing::Damaged);
        }
        self.draft(next, &live).map(Some)
    }

    /// The first run of blocks, of those of the draft, whose entry is wanted; the draft is cut to it. `None`: there is none.
    pub(super) fn find_run(&self, draft: &mut Draft, wanted: impl Fn(&Entry) -> bool) -> bool {
        let place = draft.places[0];
        let is_wanted = |at: usize| self.entry_at(&place, at).is_some_and(|entry| wanted(&entry));
        let Some(from) = (0..draft.count).find(|&at| is_wanted(at)) else { return false };
        let until = (from..draft.count).find(|&at| !is_wanted(at)).unwrap_or(draft.count);
        draft.cut(from, (until - from).min(MAX_REQUEST_BLOCKS / 2));
        true
    }

    fn reseal_step(&mut self, mut walk: Walk) {
        for _ in 0..LEAVES_PER_STEP {
            let Some(next) = self.next_of(walk) else {
                if self.end_resealing(walk.slot) {
                    self.walker.resealing = None;
                }
                return;
            };
            let old = self.volume(walk.slot).old.as_ref().map(crate::seal::Sealer::epoch);
            let copies = self.volume(walk.slot).copies();
            let draft = match self.walk_draft(&next, 0..copies) {
                Ok(draft) => draft,
                // What lies there may be readable another time: the old key stays until it was.
                Err(Missing::Damaged) => {
                    self.pause_walker();
                    return;
                }
                Err(_) => return,
            };
            if let Some(mut draft) = draft {
                if draft.places().iter().any(|place| self.is_lost(place.physical.member)) {
                    self.pause_walker();
                    return;
                }
                // A write under way may turn out to have failed: whether there is something to do is seen when it has ended.
                if !self.is_free(&draft) {
                    return;
                }
                if draft.copies < copies && !self.mark_stale_copies(&next) {
                    return;
                }
                // An old copy must not be sealed anew as if it were the newest.
                if copies > 1 && !self.is_newest(&draft) {
                    if self.now_ms >= self.walker.not_again_before_ms {
                        self.begin_resync();
                    }
                    self.pause_walker();
                    return;
                }
                if self
                    .find_run(&mut draft, |entry| matches!(entry, Entry::Sealed { epoch, .. } if Some(*epoch) == old))
                {
                    self.walker.resealing = Some(Walk { block: draft.block, ..walk });
                    if self.is_bad(&draft.places[0], 0) && draft.copies == MAX_COPIES {
                        draft.places.swap(0, 1);
                        draft.count = 1;
                    }
                    self.issue_reseal(draft);
                    return;
                }
            }
            walk.block += next.count as u64;
            self.walker.resealing = Some(walk);
            self.moved = true;
        }
    }

    /// Whether the first copy of a mirror is the newest: it equals the other one, or is the only one and has missed nothing.
    fn is_newest(&self, draft: &Draft) -> bool {
        if draft.copies == MAX_COPIES {
            return (0..draft.count).all(|at| self.difference(draft, at) == Difference::None);
        }
        !self.is_stale(draft.places[0].physical.member)
    }

    /// Starts to read what is to be sealed anew; it goes on in `batch.rs`.
    pub(super) fn issue_reseal(&mut self, mut draft: Draft) {
        let most = if draft.block < self.walker.careful_until { 1 } else { self.log.longest_run(draft.copies) };
        draft.count = draft.count.min(most);
        let member = draft.places[0].physical.member;
        if !self.leaves_may_change(&draft)
            || !self.log_has_room(draft.count * draft.copies)
            || !self.runs.has_room()
            || !self.can_start(member)
        {
            return;
        }
        let Some(buffers) = self.allocate_buffers(&mut draft) else { return };
        let run = self.begin_run(Purpose::Reseal, &draft);
        let state = self.runs.get_mut(run);
        state.buffers = buffers;
        self.walker.busy = true;
        let Some(buffer) = self.runs.get_mut(run).buffers[0].take() else { return };
        let block = self.members[member].geometry.data_start + draft.places[0].block;
        self.start_read(Kind::Read(run), member, block, buffer);
    }

    /// A block cannot be opened from any copy: it is lost under any key, and resealing that stands at it passes over it.
    pub(super) fn pass_over(&mut self, slot: usize, block: u64) {
        if let Some(walk) = self.walker.resealing.as_mut().filter(|walk| walk.slot == slot && walk.block == block) {
            walk.block = block + 1;
        }
        if let Some(walk) = self.walker.resyncing.as_mut().filter(|walk| walk.slot == slot && walk.block == block) {
            (walk.block, self.walker.incomplete) = (block + 1, true);
        }
    }

    /// Whether every copy that resealing cannot reach is known to be stale.
    fn mark_stale_copies(&mut self, next: &Next) -> bool {
        let volume = self.volume(next.volume);
        let copies: [_; MAX_COPIES] =
            core::array::from_fn(
                |copy| {
                    if copy < volume.copies() { volume.physical(next.spot.extent, copy) } else { None }
                },
            );
        let marked = |at: &Physical| !self.is_lost(at.member) || self.may_miss(at.member).is_ok();
        copies.iter().flatten().all(marked)
    }

    /// The disk failed to read what was to be resealed: it may be readable another time.
    pub(super) fn pause_resealing(&mut self, run: usize) {
        if self.runs.get(run).purpose == Purpose::Reseal {
            self.pause_walker();
        }
    }

    /// A block of a run that was to be resealed is bad: its blocks are taken one by one.
    pub(super) fn reseal_carefully(&mut self, run: usize) {
        let state = self.runs.get(run);
        self.walker.careful_until = state.block + state.count as u64;
    }

    fn scrub_step(&mut self, cookie: u32, mut walk: Walk) {
        for _ in 0..LEAVES_PER_STEP {
            let step = match self.next_of(walk) {
                Some(next) => self.scrub_copy(walk, &next),
                None if walk.slot + 1 == self.volumes.len() => {
                    self.walker.scrubbing = None;
                    self.done.push_back(Done { volume: POOL, cookie, status: Status::Ok });
                    self.moved = true;
                    return;
                }
                None => ControlFlow::Continue(Walk { slot: walk.slot + 1, block: 0, copy: 0 }),
            };
            let (ControlFlow::Continue(from) | ControlFlow::Break(from)) = step;
            self.walker.scrubbing = Some((cookie, from));
            if step.is_break() {
                return;
            }
            walk = from;
            self.moved = true;
        }
    }

    /// Looks at one copy of a stretch: where the walk goes on, at once if there is nothing to read.
    fn scrub_copy(&mut self, walk: Walk, next: &Next) -> ControlFlow<Walk, Walk> {
        let after = self.after_copy(walk, next);
        let mut draft = match self.walk_draft(next, walk.copy..walk.copy + 1) {
            Ok(Some(draft)) => draft,
            Ok(None) | Err(Missing::Damaged) => return ControlFlow::Continue(after),
            Err(_) => return ControlFlow::Break(walk),
        };
        if !self.is_free(&draft) {
            return ControlFlow::Break(walk);
        }
        if !self.find_run(&mut draft, |entry| matches!(entry, Entry::Sealed { .. })) {
            return ControlFlow::Continue(after);
        }
        if !self.issue_scrub(&mut draft) {
            return ControlFlow::Break(walk);
        }
        // The next run begins behind this one, in the same copy, until the leaf is through.
        let behind = draft.block + draft.count as u64;
        let through = behind >= next.block + next.count as u64;
        ControlFlow::Break(if through { after } else { Walk { block: behind, ..walk } })
    }

    /// Behind the end of a leaf's first copy the second begins where the first did: at the leaf's begin.
    fn after_copy(&self, walk: Walk, next: &Next) -> Walk {
        if walk.copy + 1 < self.volume(walk.slot).copies() {
            return Walk { copy: walk.copy + 1, block: walk.block - walk.block % FAN_OUT, ..walk };
        }
        Walk { copy: 0, block: walk.block + next.count as u64, ..walk }
    }

    pub(super) fn issue_scrub(&mut self, draft: &mut Draft) -> bool {
        let member = draft.places[0].physical.member;
        if !self.runs.has_room() || !self.can_start(member) {
            return false;
        }
        let Some(buffer) = self.members[member].device.allocate(draft.count) else { return false };
        draft.count = buffer.blocks();
        let run = self.begin_run(Purpose::Scrub, draft);
        self.walker.busy = true;
        let block = self.members[member].geometry.data_start + draft.places[0].block;
        self.start_read(Kind::Read(run), member, block, buffer);
        true
    }

    /// A copy of a block is bad: if there is another, the request (if any) waits for that one. Returns whether there is.
    pub(super) fn heal(&mut self, run: usize, index: usize) -> bool {
        let state = self.runs.get(run);
        let (request, volume, place) = (state.request, state.volume, state.places[0]);
        let (block, offset, purpose) = (state.block + index as u64, state.offset + index as u32, state.purpose);
        let owner = self.members[place.physical.member].extents.get(place.physical.extent);
        let bad = owner.map_or(0, |owner| usize::from(owner.copy));
        if self.volume(volume).copies() != MAX_COPIES || purpose == Purpose::Heal {
            return false;
        }
        self.queue_heal(Heal { request, offset, volume, block, bad, at: place.physical, attempts: 0, owed: false });
        true
    }

    fn queue_heal(&mut self, heal: Heal) {
        self.members[heal.at.member].extents.enter(heal.at.extent);
        self.requests.get_mut(heal.request).runs += 1;
        self.walker.owed += usize::from(heal.owed);
        self.walker.heals.push_back(heal);
        self.moved = true;
    }

    /// A copy of a run was not written: its blocks are healed one by one, those that are known to be bad excepted. If too many wait for
    /// that, its member is marked, if it can be: then all of it is looked at.
    pub(super) fn heal_copy(&mut self, run: usize, copy: usize) {
        let state = self.runs.get(run);
        let (volume, first, count, place) = (state.volume, state.block, state.count, state.places[copy]);
        let at = place.physical;
        let owner = self.members[at.member].extents.get(at.extent);
        let bad = owner.map_or(copy, |owner| usize::from(owner.copy));
        if self.heals_are_full() && self.may_miss(at.member) != Err(Missing::Damaged) {
            return;
        }
        let owed = self.checkpoint.stale & 1 << at.member == 0;
        for index in (0..count).filter(|index| !self.is_bad(&place, *index)).collect::<Vec<_>>() {
            let block = first + index as u64;
            self.queue_heal(Heal { request: WALKER, offset: 0, volume, block, bad, at, attempts: 0, owed });
        }
    }

    /// A block was not healed: it is tried again for nobody, after `attempts` more a few times. Then the one copy stays bad, which is no
    /// more than that: it does not open, so it needs no mark. Of a good copy that cannot be read nothing follows for the bad one.
    pub(super) fn heal_again(&mut self, run: usize, attempts: u8) {
        let state = self.runs.get(run);
        let (volume, block, at, owed) = (state.volume, state.block, state.places[1].physical, state.owed);
        let (attempts, unread, bad) = (state.attempts + attempts, state.unread, state.places[1]);
        if state.copies != MAX_COPIES || self.stopped || self.is_lost(at.member) {
            return;
        }
        if attempts < MAX_HEAL_ATTEMPTS {
            let owner = self.members[at.member].extents.get(at.extent);
            let bad = owner.map_or(0, |owner| usize::from(owner.copy));
            self.queue_heal(Heal { request: WALKER, offset: 0, volume, block, bad, at, attempts, owed });
        } else if unread {
            self.walker.incomplete = true;
            self.pause_walker();
        } else {
            self.note_bad(&bad);
        }
    }

    /// What was owed is healed, or given up; a checkpoint flushes it.
    pub(super) fn heal_settled(&mut self) {
        self.walker.owed -= 1;
        if self.walker.owed == 0 {
            self.hold_covered();
            self.heals_ended();
        }
        self.moved = true;
    }

    /// Whether the copy of block `index` of the place is one that cannot be written.
    fn is_bad(&self, place: &Place, index: usize) -> bool {
        self.walker.bad.contains(&(place.physical.member, place.block + index as u64))
    }

    /// Whether one of `count` copies at the place is.
    pub(super) fn has_bad(&self, place: &Place, count: usize) -> bool {
        !self.walker.bad.is_empty() && (0..count).any(|index| self.is_bad(place, index))
    }

    /// The copy at the place cannot be written. A member with many of these has not caught up.
    fn note_bad(&mut self, place: &Place) {
        let (member, bad) = (place.physical.member, &mut self.walker.bad);
        if bad.len() == MAX_BAD {
            bad.pop_front();
        }
        bad.push_back((member, place.block));
        self.walker.incomplete |= bad.iter().filter(|(of, _)| *of == member).count() > MAX_BAD_EQUAL;
    }

    /// `count` blocks at the place were written.
    pub(super) fn forget_bad(&mut self, place: &Place, count: usize) {
        let written = place.block..place.block + count as u64;
        self.walker.bad.retain(|(member, block)| *member != place.physical.member || !written.contains(block));
    }

    /// Starts to read the good copies of blocks that have a bad one.
    fn issue_heals(&mut self) {
        for _ in 0..self.walker.heals.len() {
            let Some(heal) = self.walker.heals.pop_front() else { return };
            if !self.issue_heal(&heal) {
                self.walker.heals.push_back(heal);
            }
        }
    }

    /// Returns whether the block need not wait any longer.
    fn issue_heal(&mut self, heal: &Heal) -> bool {
        let Heal { request, offset, volume, block, bad, at, attempts, owed } = *heal;
        let spot = self.volume(volume).spot(block);
        let next = Next { request, volume, block, offset, spot, count: 1 };
        let draft = match self.draft_heal(&next, bad) {
            Ok(draft) if draft.copies != 0 => draft,
            Ok(_) | Err(Missing::Damaged) => {
                self.lost(heal);
                return true;
            }
            Err(_) => return false,
        };
        let member = draft.places[0].physical.member;
        let can_start = draft.places().iter().all(|place| self.can_start(place.physical.member));
        if !self.is_free(&draft) || !self.runs.has_room() || !can_start {
            return false;
        }
        let mut draft = draft;
        let Some(mut buffers) = self.allocate_buffers(&mut draft) else { return false };
        let run = self.begin_run(Purpose::Heal, &draft);
        let first = buffers[0].take();
        let state = self.runs.get_mut(run);
        (state.buffers, state.attempts, state.owed) = (buffers, attempts, owed);
        // The run holds the request and the extents from here on.
        self.requests.get_mut(request).runs -= 1;
        self.members[at.member].extents.leave(at.extent);
        let Some(buffer) = first else { return true };
        let block = self.members[member].geometry.data_start + draft.places[0].block;
        self.start_read(Kind::Read(run), member, block, buffer);
        true
    }

    /// The good copy of a block, and the bad one where it can be rewritten. A good one that may be old is none.
    fn draft_heal(&mut self, next: &Next, bad: usize) -> Result<Draft, Missing> {
        let at = [1 - bad, bad].map(|copy| self.volume(next.volume).physical(next.spot.extent, copy));
        let [Some(good), at] = at.map(|at| at.filter(|at| self.is_readable(next.volume, at.member))) else {
            return Err(Missing::Damaged);
        };
        let mut draft = self.draft(next, &[Some(good)])?;
        match self.draft(next, &[at]) {
            Ok(other) if other.copies == 1 => {
                (draft.places[1], draft.copies) = (other.places[0], MAX_COPIES);
                if matches!(self.difference(&draft, 0), Difference::Data(1) | Difference::Zeros(0)) {
                    return Err(Missing::Damaged);
                }
            }
            Ok(_) | Err(Missing::Damaged) if self.is_stale(good.member) => return Err(Missing::Damaged),
            Ok(_) | Err(Missing::Damaged) => {}
            Err(missing) => return Err(missing),
        }
        Ok(draft)
    }

    /// There is no good copy of the block.
    fn lost(&mut self, heal: &Heal) {
        self.walker.incomplete = true;
        if !self.is_halted() {
            let volume = self.volume(heal.volume).record.number;
            self.report(Event::TagMismatch { volume, block: heal.block });
            self.pass_over(heal.volume, heal.block);
        }
        self.members[heal.at.member].extents.leave(heal.at.extent);
        if heal.owed {
            self.heal_settled();
        }
        self.fail(heal.request, Status::IoError);
        self.finish_run_of(heal.request);
    }

    /// The good copy was opened and handed on: the bad one is overwritten with it.
    pub(super) fn rewrite_bad_copy(&mut self, run: usize) {
        let state = self.runs.get_mut(run);
        let [good, bad] = [state.places[0], state.places[1]];
        let target = state.buffers[1].take();
        let (Some(source), Some(target)) = (&state.buffers[0], target) else {
            self.walker.incomplete = true;
            self.end_run(run);
            return;
        };
        let mut bytes = [0; BLOCK_BYTES];
        bytes.copy_from_slice(&self.members[good.physical.member].device.bytes(source)[..BLOCK_BYTES]);
        let member = bad.physical.member;
        let known = self.is_bad(&bad, 0);
        if self.stopped || known || !self.can_start(member) {
            self.members[member].device.release(target);
            if !known {
                // There is no place in the queue, which says nothing about the block.
                self.heal_again(run, 0);
            }
            self.end_run(run);
            return;
        }
        self.members[member].device.bytes(&target)[..BLOCK_BYTES].copy_from_slice(&bytes);
        let block = self.members[member].geometry.data_start
            + u64::from(bad.physical.extent) * EXTENT_BLOCKS
            + bad.block % EXTENT_BLOCKS;
        self.start_write(Kind::Rewrite(run), member, block, target);
    }

    pub(super) fn complete_rewrite(&mut self, run: usize, block: u64, ok: bool) {
        let state = self.runs.get(run);
        let (volume, of_volume, member) = (state.volume, state.block, state.places[1].physical.member);
        if ok {
            self.report(Event::Healed { volume: self.volume(volume).record.number, block: of_volume });
        } else {
            if state.attempts == 0 {
                self.report(Event::WriteFailed { member, block });
            }
            self.heal_again(run, 1);
        }
        self.end_run(run);
    }
}
