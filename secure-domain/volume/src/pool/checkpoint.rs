//! Checkpoints: what the log says is carried over into the trees, while requests go on.
//!
//! ```text
//! Settling    a flush round covers every record that was durable when the checkpoint began; the last covered one is the boundary
//! Tables      dirty leaves of the catalogs and of the tables of extents; meanwhile no extent changes hands
//! Storing     dirty leaves of the data, then the nodes above all of them level by level
//! Draining    all of them have been written
//! Flushing    every disk
//! Superblock  written to every member, then flushed: from here on the log begins behind the boundary
//! ```
//! A block is stored to the place that the last checkpoint does not use, and once: what changes later is the next checkpoint's.
//! So nothing of the last one is overwritten before the new superblock is durable, and a power cut at any point leaves one or
//! the other. The tables are stored as they are at one moment, so that of two of them none gives away what the other still has;
//! and no superblock is written before the log says durably what they say, because an older record would undo half of it.
//! A leaf's image holds changes up to the boundary only (`data.rs`), since a later one may not have
//! reached its disk; what came later makes the leaf dirty again.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;

use super::{MAX_REQUESTS, Pool, job::Kind, log::RecordState};
use crate::{
    BLOCK_BYTES, Event, Status,
    record::{
        catalog::{RECORD_BYTES, RECORDS_PER_LEAF},
        geometry::{METADATA_MEMBERS, RING_BLOCKS},
        node::{FAN_OUT, Position, Slot},
        superblock::Superblock,
    },
};

/// Times that a superblock is written before it is given up.
const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Settling,
    Tables,
    Storing,
    Draining,
    Flushing,
    Superblock,
    SuperblockFlush,
}

/// What a tree block is made of.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A cached leaf or node.
    Cached(usize),
    /// A leaf of the extent table, counted from the table's first.
    Extents(usize),
    /// A leaf of the catalog.
    Catalog(usize),
}

/// The checkpoints of a pool.
pub(super) struct Checkpoint {
    phase: Phase,
    wanted: bool,
    /// Requests that wait for the next checkpoint, and for the one that runs.
    waiting: Vec<usize>,
    current: Vec<usize>,
    /// The record that must be covered before blocks are stored.
    until: u64,
    boundary: Option<RecordState>,
    /// The record with the last change of the tables that it stores.
    said: u64,
    /// The superblock that it ends with.
    next: Superblock,
    level: u8,
    cursor: usize,
    issued: usize,
    outstanding: usize,
    failed: bool,
    attempts: u32,
    /// Leaves of the catalog that differ from the last checkpoint's, for each metadata member.
    pub(super) catalog_dirty: [u32; METADATA_MEMBERS],
    /// The number that the next volume gets.
    pub(super) next_volume: u32,
    /// Members that the next superblock calls stale.
    pub(super) stale: u8,
    /// Members that had caught up when the running one began: it carries what made them equal, and calls them stale no longer.
    clearing: u8,
    /// The last checkpoint that called a member stale which had not been, until the log names it.
    pub(super) marking: Option<u64>,
    /// The checkpoint that has to be durable before anything more is called covered.
    pub(super) needed: u64,
}

impl Checkpoint {
    pub(super) fn new(superblock: &Superblock) -> Checkpoint {
        Checkpoint {
            phase: Phase::Idle,
            wanted: false,
            waiting: Vec::with_capacity(MAX_REQUESTS),
            current: Vec::with_capacity(MAX_REQUESTS),
            until: 0,
            boundary: None,
            said: 0,
            next: *superblock,
            level: 0,
            cursor: 0,
            issued: 0,
            outstanding: 0,
            failed: false,
            attempts: 0,
            catalog_dirty: [0; METADATA_MEMBERS],
            next_volume: superblock.next_volume,
            stale: superblock.stale,
            clearing: 0,
            marking: None,
            needed: 0,
        }
    }

    /// Asks for a checkpoint.
    pub(super) fn want(&mut self) {
        self.wanted |= self.phase == Phase::Idle;
    }

    /// Asks for a checkpoint after the one that may be running.
    pub(super) fn want_again(&mut self) {
        self.wanted = true;
    }

    /// Whether the superblock that may be on its way calls `member` stale.
    pub(super) fn will_mark(&self, member: usize) -> bool {
        !self.is_decided() || self.next.stale & 1 << member != 0
    }

    /// Whether the superblock that may be on its way leaves the mark of `member` as it shall be.
    pub(super) fn keeps_mark(&self, member: usize) -> bool {
        self.stale & 1 << member == 0 || self.will_mark(member)
    }

    /// Whether the trees of the running checkpoint are durable, and its superblock is on its way.
    fn is_decided(&self) -> bool {
        matches!(self.phase, Phase::Superblock | Phase::SuperblockFlush)
    }

    /// A member is lost: its tree stays what it is in the last superblock, unless it is durable for the next one already. That one
    /// may be on other members, and says that the log begins behind what the tree holds.
    pub(super) fn lose_member(&mut self, member: usize, root: Slot) {
        if !self.is_decided() {
            self.next.roots[member] = root;
        }
    }

    /// The request is answered when what is durable now is in the trees, and anchored.
    pub(super) fn wait(&mut self, request: usize) {
        self.waiting.push(request);
        self.wanted = true;
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase != Phase::Idle || self.wanted
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// A record of the catalog has changed.
    pub(super) fn catalog_changed(&mut self, slot: usize) {
        self.catalog_dirty.iter_mut().for_each(|dirty| *dirty |= 1 << (slot / RECORDS_PER_LEAF));
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Nothing more is called covered before a checkpoint that begins from now on is durable.
    pub(super) fn hold_covered(&mut self) {
        self.checkpoint.needed = self.superblock.checkpoint + 1 + u64::from(!self.checkpoint.is_idle());
        self.checkpoint.wanted |= !self.stopped;
    }

    /// Whether the checkpoint of this number is durable.
    pub(super) fn is_durable(&self, number: u64) -> bool {
        self.superblock.checkpoint >= number
    }

    /// Moves the checkpoint on.
    pub(super) fn pump_checkpoint(&mut self) {
        if self.checkpoint.phase == Phase::Idle {
            self.begin_checkpoint();
        }
        if self.checkpoint.phase == Phase::Settling {
            self.settle_checkpoint();
        }
        if self.checkpoint.phase == Phase::Tables {
            self.store_tables();
        }
        if self.checkpoint.phase == Phase::Storing {
            self.store_blocks();
        }
        if self.checkpoint.phase == Phase::Draining && self.checkpoint.outstanding == 0 {
            if self.checkpoint.failed {
                self.stop_writes();
                return;
            }
            self.next_phase(Phase::Flushing);
        }
        if self.checkpoint.phase == Phase::Flushing {
            self.flush_checkpoint(Kind::CheckpointFlush, Phase::Superblock);
        }
        if self.checkpoint.phase == Phase::Superblock {
            self.store_superblocks();
        }
        if self.checkpoint.phase == Phase::SuperblockFlush {
            self.flush_checkpoint(Kind::FlushSuperblock, Phase::Idle);
        }
    }

    fn next_phase(&mut self, phase: Phase) {
        let checkpoint = &mut self.checkpoint;
        (checkpoint.phase, checkpoint.issued, checkpoint.cursor, checkpoint.level) = (phase, 0, 0, 0);
        self.moved = true;
    }

    fn begin_checkpoint(&mut self) {
        let nearly_all = 4 * self.cache.touched() > 3 * self.superblock.dirty_limit as usize;
        let needed = self.log.is_half_full() || nearly_all && self.log.durable() != self.log.boundary_of_checkpoint();
        if self.stopped || !(self.checkpoint.wanted || needed) {
            return;
        }
        let checkpoint = &mut self.checkpoint;
        checkpoint.wanted = false;
        core::mem::swap(&mut checkpoint.waiting, &mut checkpoint.current);
        checkpoint.until = self.log.durable().seq;
        checkpoint.clearing = self.superblock.stale & !checkpoint.stale;
        (checkpoint.failed, checkpoint.attempts) = (false, 0);
        self.next_phase(Phase::Settling);
    }

    /// Waits until what was durable at the beginning is covered.
    fn settle_checkpoint(&mut self) {
        if self.log.covered < self.checkpoint.until {
            self.flush.cover();
            return;
        }
        let boundary = self.log.boundary();
        let checkpoint = &mut self.checkpoint;
        (checkpoint.boundary, checkpoint.said) = (Some(boundary), self.log.last());
        let next = &mut checkpoint.next;
        *next = self.superblock;
        next.checkpoint += 1;
        next.sequence += 1;
        next.incarnation = self.anchoring.held.incarnation;
        (next.log_position, next.log_start) = (boundary.next_position, boundary.point);
        next.next_volume = checkpoint.next_volume;
        for member in &mut self.members {
            member.storing_single |= core::mem::take(&mut member.moved_single);
        }
        self.next_phase(Phase::Tables);
    }

    /// Whether an extent may be given to someone, or given back: not while the tables of them are being stored.
    pub(super) fn extents_may_change(&self) -> bool {
        self.checkpoint.phase != Phase::Tables
    }

    /// Stores as many leaves of the catalogs and the tables of extents as the disks and the budget take.
    fn store_tables(&mut self) {
        while self.tree_budget != 0 {
            let Some((position, source)) = self.next_of_tables() else {
                self.next_phase(Phase::Storing);
                return;
            };
            if !self.store(position, source) {
                return;
            }
            self.tree_budget -= 1;
        }
    }

    /// Stores as many blocks as the disks and the budget take; the next level begins when all of one were started.
    fn store_blocks(&mut self) {
        while self.tree_budget != 0 {
            let Some((position, source)) = self.next_cached() else {
                if usize::from(self.checkpoint.level) == crate::record::geometry::MAX_LEVELS {
                    self.next_phase(Phase::Draining);
                    return;
                }
                self.checkpoint.level += 1;
                self.checkpoint.cursor = 0;
                continue;
            };
            if !self.store(position, source) {
                return;
            }
            self.tree_budget -= 1;
        }
    }

    /// The next block of the level that has to be stored.
    fn next_cached(&mut self) -> Option<(Position, Source)> {
        while let Some(slot) = self.cache.next_dirty(self.checkpoint.cursor) {
            let position = self.cache.position(slot);
            if position.level == self.checkpoint.level && !self.cache.is_flushing(slot) {
                self.checkpoint.cursor = slot;
                return Some((position, Source::Cached(slot)));
            }
            self.checkpoint.cursor = slot + 1;
        }
        None
    }

    /// The next leaf of a catalog or an extent table that has to be stored.
    fn next_of_tables(&self) -> Option<(Position, Source)> {
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| !member.lost) {
            let dirty = self.checkpoint.catalog_dirty.get(index).copied().unwrap_or(0);
            let leaf = |index: u64| Position { member: 0, level: 0, index };
            if dirty != 0 {
                let at = dirty.trailing_zeros() as usize;
                return Some((Position { member: index as u8, ..leaf(at as u64) }, Source::Catalog(at)));
            }
            if let Some(at) = member.extents.next_dirty() {
                let number = member.geometry.catalog_leaves + at as u64;
                return Some((Position { member: index as u8, ..leaf(number) }, Source::Extents(at)));
            }
        }
        None
    }

    /// Starts to write one block to its new place, and tells its parent. Returns whether it could.
    fn store(&mut self, position: Position, source: Source) -> bool {
        let member = usize::from(position.member);
        let parent = match source {
            Source::Cached(slot) => self.cache.parent(slot),
            _ => match self.pinned_parent(position) {
                Some(parent) => Some(parent),
                None => return false,
            },
        };
        if !self.can_start(member) {
            return false;
        }
        let Some(buffer) = self.members[member].device.allocate(1) else { return false };
        let mut image = [0; BLOCK_BYTES];
        self.fill(position, source, &mut image);
        let child = (position.index % FAN_OUT) as usize;
        let now = match parent {
            Some(parent) => Slot::parse(self.cache.entry(parent, child)),
            None => self.superblock.roots[member],
        };
        let stamp = now.next_stamp(self.checkpoint.next.checkpoint);
        let slot = match Slot::of(self.keys.tree(), position, stamp, &image) {
            Ok(slot) => slot,
            Err(error) => {
                self.members[member].device.release(buffer);
                self.refused(error);
                return false;
            }
        };
        match parent {
            Some(parent) => self.cache.set_entry(parent, child, &slot.encode()),
            None => self.checkpoint.next.roots[member] = slot,
        }
        self.members[member].device.bytes(&buffer).copy_from_slice(&image);
        let block = self.members[member].geometry.tree_block(usize::from(position.level), position.index, slot.place());
        self.checkpoint.outstanding += 1;
        self.start_write(Kind::StoreTree, member, block, buffer);
        true
    }

    /// Makes the image of a tree block as the checkpoint writes it.
    fn fill(&mut self, position: Position, source: Source, image: &mut [u8; BLOCK_BYTES]) {
        let member = usize::from(position.member);
        match source {
            Source::Cached(slot) => {
                image.copy_from_slice(self.cache.bytes(slot));
                let boundary = self.checkpoint.next.log_start.seq;
                let again = self.undo_unsettled(slot, boundary, image);
                self.cache.begin_flushing(slot, again);
            }
            Source::Extents(leaf) => self.members[member].extents.encode(leaf, image),
            Source::Catalog(leaf) => {
                self.checkpoint.catalog_dirty[member] &= !(1 << leaf);
                for (at, record) in image.chunks_exact_mut(RECORD_BYTES).enumerate() {
                    if let Some(volume) = self.record_to_store(leaf * RECORDS_PER_LEAF + at) {
                        volume.encode(record);
                    }
                }
            }
        }
    }

    pub(super) fn complete_store(&mut self, member: usize, block: u64, ok: bool) {
        self.checkpoint.outstanding -= 1;
        if !ok {
            self.report(Event::WriteFailed { member, block });
            self.checkpoint.failed |= !self.retire(member);
        }
    }

    /// Flushes every disk, then goes on to `then`.
    fn flush_checkpoint(&mut self, kind: Kind, then: Phase) {
        while let Some(member) = self.next_for_checkpoint() {
            self.checkpoint.issued = member + 1;
            self.checkpoint.outstanding += 1;
            self.start_flush(kind, member);
        }
        if self.checkpoint.phase == Phase::Idle
            || self.checkpoint.issued < self.members.len()
            || self.checkpoint.outstanding != 0
        {
            return;
        }
        if self.checkpoint.failed {
            self.stop_writes();
            return;
        }
        if self.log.durable().seq < self.checkpoint.said {
            return;
        }
        self.next_phase(then);
        if then == Phase::Idle {
            self.end_checkpoint();
        } else {
            self.checkpoint.next.log_required = self.log.durable();
            self.checkpoint.next.stale = self.checkpoint.stale | self.superblock.stale & !self.checkpoint.clearing;
        }
    }

    /// The next member that the running phase goes to, if it can; those that are lost are passed over.
    fn next_for_checkpoint(&mut self) -> Option<usize> {
        while self.checkpoint.issued < self.members.len() && self.is_lost(self.checkpoint.issued) {
            self.checkpoint.issued += 1;
        }
        Some(self.checkpoint.issued).filter(|member| *member < self.members.len() && self.can_start(*member))
    }

    pub(super) fn complete_checkpoint_flush(&mut self, member: usize, ok: bool) {
        self.checkpoint.outstanding -= 1;
        if !ok {
            self.report(Event::FlushFailed { member });
            self.checkpoint.failed |= !self.retire(member);
        }
    }

    fn store_superblocks(&mut self) {
        while let Some(member) = self.next_for_checkpoint() {
            let Some(buffer) = self.members[member].device.allocate(1) else { return };
            let device = &mut self.members[member].device;
            if let Err(error) = self.checkpoint.next.encode(member, &self.keys, device.bytes(&buffer)) {
                device.release(buffer);
                self.refused(error);
                return;
            }
            self.checkpoint.issued = member + 1;
            self.checkpoint.outstanding += 1;
            self.start_write(Kind::StoreSuperblock, member, self.checkpoint.next.sequence % RING_BLOCKS, buffer);
        }
        if self.checkpoint.phase != Phase::Superblock
            || self.checkpoint.issued < self.members.len()
            || self.checkpoint.outstanding != 0
        {
            return;
        }
        if !self.checkpoint.failed {
            self.next_phase(Phase::SuperblockFlush);
        } else if self.checkpoint.attempts + 1 < MAX_ATTEMPTS {
            // The same superblock under the next number: whichever of them is durable says the same.
            self.checkpoint.attempts += 1;
            self.checkpoint.failed = false;
            self.checkpoint.next.sequence += 1;
            self.next_phase(Phase::Superblock);
        } else {
            self.stop_writes();
        }
    }

    pub(super) fn complete_superblock(&mut self, member: usize, block: u64, ok: bool) {
        self.checkpoint.outstanding -= 1;
        if !ok {
            self.report(Event::WriteFailed { member, block });
            let last = self.checkpoint.attempts + 1 == MAX_ATTEMPTS;
            self.checkpoint.failed |= !(last && self.retire(member));
        }
    }

    pub(super) fn complete_superblock_flush(&mut self, member: usize, ok: bool) {
        self.complete_checkpoint_flush(member, ok);
    }

    /// The new superblock is durable.
    fn end_checkpoint(&mut self) {
        let newly = self.checkpoint.next.stale & !self.superblock.stale;
        self.superblock = self.checkpoint.next;
        if newly != 0 {
            self.checkpoint.marking = Some(self.superblock.checkpoint);
            self.begin_resync();
        }
        self.cache.end_flushing();
        self.members.iter_mut().for_each(|member| member.storing_single = false);
        if let Some(boundary) = self.checkpoint.boundary.take() {
            self.log.start_after(&boundary);
        }
        self.log.uncovered_limit = self.superblock.uncovered_limit as usize;
        self.log.force |= self.end_command();
        let seq = self.log.durable().seq;
        let mut current = core::mem::take(&mut self.checkpoint.current);
        for request in current.drain(..) {
            self.anchoring.wait(request, seq);
        }
        self.checkpoint.current = current;
        self.checkpoint.wanted |= !self.checkpoint.waiting.is_empty();
    }

    /// No checkpoint ends any more.
    pub(super) fn fail_checkpoint(&mut self) {
        let checkpoint = &mut self.checkpoint;
        (checkpoint.phase, checkpoint.wanted) = (Phase::Idle, false);
        let mut requests = core::mem::take(&mut checkpoint.current);
        requests.append(&mut checkpoint.waiting);
        for request in requests {
            self.fail(request, Status::IoError);
            self.finish_run_of(request);
        }
        self.fail_command();
    }
}
