//! Runs: blocks of a request that share a leaf and are issued together, and the locks they hold.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};
use crypto::{TAG_LEN, Tag};

use super::{Pool, request::WALKER, volumes::Physical};
use crate::record::{EXTENT_BLOCKS, log::Address};

/// Runs that a pool has under way at a time.
pub(super) const MAX_RUNS: usize = 256;
/// Copies that a block may have.
pub(super) const MAX_COPIES: usize = 2;

/// Where one copy of a run lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) physical: Physical,
    /// First data block of the member.
    pub(super) block: u64,
    /// Cache slot of the leaf.
    pub(super) slot: usize,
    /// First entry in the leaf.
    pub(super) first: usize,
}

impl Place {
    pub(super) fn new(physical: Physical, within: u64, slot: usize) -> Place {
        let block = u64::from(physical.extent) * EXTENT_BLOCKS + within;
        Place { physical, block, slot, first: (within % 128) as usize }
    }

    pub(super) fn address(&self, index: usize) -> Address {
        Address { member: self.physical.member as u8, block: self.block + index as u64 }
    }
}

const NO_PLACE: Place = Place { physical: Physical { member: 0, extent: 0 }, block: 0, slot: 0, first: 0 };

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Free,
    Read,
    Write,
    Zero,
    /// Read in the old epoch, then written in the new one.
    Reseal,
    /// Read and verified for nobody.
    Scrub,
    /// Read from the good copy, which then overwrites the bad one.
    Heal,
}

impl Purpose {
    /// Whether the run will change the entries of its blocks.
    fn changes(self) -> bool {
        matches!(self, Purpose::Write | Purpose::Zero | Purpose::Reseal)
    }

    /// Whether the run takes its request further.
    fn counts(self) -> bool {
        matches!(self, Purpose::Read | Purpose::Write | Purpose::Zero)
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) purpose: Purpose,
    pub(super) request: usize,
    /// Place of the volume in the catalog.
    pub(super) volume: usize,
    /// First block, of the volume.
    pub(super) block: u64,
    /// Blocks of the request before this run.
    pub(super) offset: u32,
    pub(super) count: usize,
    pub(super) copies: usize,
    pub(super) places: [Place; MAX_COPIES],
    pub(super) buffers: [Option<Buffer>; MAX_COPIES],
    /// Version of the first block of a write.
    pub(super) version: u64,
    pub(super) epoch: u16,
    /// Number of its first log entry: record times 126 plus index.
    pub(super) ordinal: u64,
    /// Disk requests under way.
    pub(super) left: usize,
    /// Copies that were written.
    pub(super) written: [bool; MAX_COPIES],
    /// The disk could not read it.
    pub(super) unread: bool,
    /// A block of it was bad.
    pub(super) spoiled: bool,
    /// Times that its writes were tried again.
    pub(super) attempts: u8,
    /// It heals what was not written, and a flush may wait for it.
    pub(super) owed: bool,
    pub(super) tags: [Tag; MAX_REQUEST_BLOCKS],
}

impl Run {
    fn free() -> Run {
        Run {
            purpose: Purpose::Free,
            request: 0,
            volume: 0,
            block: 0,
            offset: 0,
            count: 0,
            copies: 0,
            places: [NO_PLACE; MAX_COPIES],
            buffers: [None, None],
            version: 0,
            epoch: 0,
            ordinal: 0,
            left: 0,
            written: [false; MAX_COPIES],
            unread: false,
            spoiled: false,
            attempts: 0,
            owed: false,
            tags: [[0; TAG_LEN]; MAX_REQUEST_BLOCKS],
        }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places[..self.copies]
    }
}

/// The runs of a pool.
pub(super) struct Runs {
    all: Vec<Run>,
    free: Vec<usize>,
}

impl Runs {
    pub(super) fn new() -> Runs {
        Runs { all: (0..MAX_RUNS).map(|_| Run::free()).collect(), free: (0..MAX_RUNS).rev().collect() }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn get(&self, run: usize) -> &Run {
        &self.all[run]
    }

    pub(super) fn get_mut(&mut self, run: usize) -> &mut Run {
        &mut self.all[run]
    }
}

/// A run that is about to be issued.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) request: usize,
    pub(super) volume: usize,
    pub(super) block: u64,
    pub(super) offset: u32,
    pub(super) count: usize,
    pub(super) copies: usize,
    pub(super) places: [Place; MAX_COPIES],
}

impl Draft {
    pub(super) fn places(&self) -> &[Place] {
        &self.places[..self.copies]
    }

    /// Cuts the draft to `count` blocks from the one at `from` on.
    pub(super) fn cut(&mut self, from: usize, count: usize) {
        self.block += from as u64;
        self.count = count;
        for place in &mut self.places[..self.copies] {
            place.first += from;
            place.block += from as u64;
        }
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Whether nobody is at the blocks of the draft.
    pub(super) fn is_free(&self, draft: &Draft) -> bool {
        draft.places().iter().all(|place| self.cache.is_free(place.slot, place.first, draft.count))
    }

    /// Makes the draft a run: locks its blocks and counts them as issued. The caller has seen that there is room and that the
    /// blocks are free.
    pub(super) fn begin_run(&mut self, purpose: Purpose, draft: &Draft) -> usize {
        let index = self.runs.free.pop().expect("the caller has seen a free run");
        for place in draft.places() {
            self.cache.lock(place.slot, place.first, draft.count);
            self.members[place.physical.member].extents.enter(place.physical.extent);
            if purpose.changes() {
                self.cache.reserve(place.slot);
            }
        }
        let request = self.requests.get_mut(draft.request);
        request.issued += if purpose.counts() && draft.request != WALKER { draft.count as u32 } else { 0 };
        request.runs += 1;
        self.walker.healing += usize::from(purpose == Purpose::Heal);
        let run = &mut self.runs.all[index];
        (run.purpose, run.request, run.volume, run.block) = (purpose, draft.request, draft.volume, draft.block);
        (run.offset, run.count, run.copies, run.places) = (draft.offset, draft.count, draft.copies, draft.places);
        run.left = 0;
        (run.written, run.unread, run.spoiled) = ([false; MAX_COPIES], false, false);
        (run.attempts, run.owed) = (0, false);
        self.moved = true;
        index
    }

    /// Ends the run: unlocks its blocks, gives its buffers back.
    pub(super) fn end_run(&mut self, index: usize) {
        let run = &mut self.runs.all[index];
        let purpose = core::mem::replace(&mut run.purpose, Purpose::Free);
        for copy in 0..run.copies {
            let place = run.places[copy];
            self.cache.unlock(place.slot, place.first, run.count);
            let member = &mut self.members[place.physical.member];
            member.extents.leave(place.physical.extent);
            if let Some(buffer) = run.buffers[copy].take() {
                member.device.release(buffer);
            }
            if purpose.changes() {
                self.cache.unreserve(place.slot);
            }
        }
        let (request, owed) = (run.request, run.owed);
        self.walker.healing -= usize::from(purpose == Purpose::Heal);
        self.runs.free.push(index);
        if owed {
            self.heal_settled();
        }
        if request == WALKER && purpose != Purpose::Heal {
            self.walker_run_ended();
        }
        self.finish_run_of(request);
    }
}
