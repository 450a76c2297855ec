//! The members of a pool, and what happens when one is lost.
//!
//! A member that cannot make metadata durable, or takes nothing any more, is *retired*: from then on nothing is written to it. What only
//! it holds is read as far as it answers, and cannot be written; that is an I/O error, block by block. Mirrored volumes go on
//! from their other copies; but before the first write that it misses, a checkpoint marks it *stale* in the superblock, and every
//! record of the log after it names that checkpoint. So what it holds is never taken for the newest again, until the walker
//! has gone through all mirrors (`resync.rs`).
//!
//! A member can be retired only if nothing is lost thereby: another metadata member remains, the trees lack nothing about volumes
//! that have one copy, and no other member is stale: of two copies one at least has always missed nothing. Else writes stop, the log
//! stays as it is, and the next mount finds everything in it.

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, Completion, Refused};

use super::{Pool, extents::Extents, tree::Missing};
use crate::{
    Event, Layout,
    record::{
        geometry::{Geometry, METADATA_MEMBERS},
        node::Position,
    },
};

/// A member of the pool.
pub(super) struct Member<D> {
    pub(super) device: Disk<D>,
    pub(super) geometry: Geometry,
    pub(super) extents: Extents,
    /// It is not written any more, or was not there at the mount.
    pub(super) lost: bool,
    /// Extents of it may belong to volumes that do not know: its table, or part of it, could not be read.
    pub(super) unknown: bool,
    /// An extent of a volume with one copy was given or taken: since the last checkpoint began, and while one runs before that.
    pub(super) moved_single: bool,
    pub(super) storing_single: bool,
    /// Requests under way.
    pub(super) jobs: usize,
    /// The last record of which a copy on it was not written.
    pub(super) unwritten: u64,
}

impl<D> Member<D> {
    pub(super) fn new(device: Disk<D>, geometry: Geometry) -> Member<D> {
        let gone = device.is_gone();
        let (moved_single, storing_single) = (false, false);
        let extents = Extents::new(&geometry);
        Member {
            device,
            extents,
            geometry,
            lost: gone,
            unknown: gone,
            moved_single,
            storing_single,
            jobs: 0,
            unwritten: 0,
        }
    }
}

/// A disk, or the place of one that is not there: that takes nothing.
pub(super) struct Disk<D> {
    pub(super) disk: Option<D>,
    /// It did not answer: it is given nothing more, and what it may still say is not listened to.
    pub(super) silent: bool,
}

impl<D> Disk<D> {
    pub(super) fn new(disk: Option<D>) -> Disk<D> {
        Disk { disk, silent: false }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.disk.is_none()
    }
}

impl<D: BlockDevice> BlockDevice for Disk<D> {
    fn blocks(&self) -> u64 {
        self.disk.as_ref().map_or(0, D::blocks)
    }

    fn room(&self) -> usize {
        self.disk.as_ref().filter(|_| !self.silent).map_or(0, D::room)
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.disk.as_mut()?.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        if let Some(disk) = &mut self.disk {
            disk.release(buffer);
        }
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        self.disk.as_mut().map_or(&mut [], |disk| disk.bytes(buffer))
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        self.disk.as_mut()?.span(buffer, blocks)
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        match &mut self.disk {
            Some(disk) => disk.read(tag, block, buffer),
            None => Err(Refused(Some(buffer))),
        }
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        match &mut self.disk {
            Some(disk) => disk.write(tag, block, buffer),
            None => Err(Refused(Some(buffer))),
        }
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.disk.as_mut().map_or(Err(Refused(None)), |disk| disk.flush(tag))
    }

    fn kick(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.kick();
        }
    }

    fn acknowledge(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.acknowledge();
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        self.disk.as_mut().filter(|_| !self.silent)?.poll()
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Whether nothing goes to `member` any more.
    pub(super) fn is_lost(&self, member: usize) -> bool {
        self.members[member].lost
    }

    /// Whether `member` takes nothing though it has nothing to do: it cannot be read either.
    pub(super) fn is_dead(&self, member: usize) -> bool {
        let Member { jobs, ref device, .. } = self.members[member];
        jobs == 0 && device.room() == 0
    }

    /// Whether the copy of a volume at `member` can be read: one of several only where none can have missed anything.
    pub(super) fn is_readable(&self, volume: usize, member: usize) -> bool {
        let believed = self.volume(volume).copies() == 1 || !self.is_lost(member);
        believed && !self.is_dead(member)
    }

    /// Whether what `member` holds may be older than its mirror.
    pub(super) fn is_stale(&self, member: usize) -> bool {
        (self.superblock.stale | self.checkpoint.stale) & 1 << member != 0
    }

    /// Whether every disk may be used and none has missed anything.
    pub(super) fn is_whole(&self) -> bool {
        let is_here = |member: usize| !self.is_lost(member) && !self.is_dead(member);
        self.superblock.stale | self.checkpoint.stale == 0 && (0..self.members.len()).all(is_here)
    }

    /// Whether another member than this one may have missed something: then this one must not.
    pub(super) fn is_another_stale(&self, member: usize) -> bool {
        (self.superblock.stale | self.checkpoint.stale) & !(1 << member) != 0
    }

    /// Has `member` marked as stale: waits for the checkpoint that says so. One member at a time can be.
    pub(super) fn mark_stale(&mut self, member: usize) -> Result<(), Missing> {
        let marked = self.superblock.stale & 1 << member != 0;
        if self.is_another_stale(member) || !self.options.degraded && !marked {
            return Err(Missing::Damaged);
        }
        self.checkpoint.stale |= 1 << member;
        if marked && self.checkpoint.will_mark(member) {
            return Ok(());
        }
        if self.checkpoint.will_mark(member) {
            self.checkpoint.want();
        } else {
            self.checkpoint.want_again();
        }
        Err(Missing::Waits)
    }

    /// `member` holds the only copy of something: has another one marked, so that this one is not given up.
    pub(super) fn mark_another(&mut self, member: usize) -> Result<(), Missing> {
        let stale = self.superblock.stale & !(1 << member);
        let other = if stale != 0 {
            Some(stale.trailing_zeros() as usize)
        } else {
            (0..self.members.len()).find(|at| *at != member)
        };
        self.mark_stale(other.ok_or(Missing::Damaged)?)
    }

    /// `member` is to miss a change of a mirror. That must be known before, and it does not catch up in this walk any more.
    pub(super) fn may_miss(&mut self, member: usize) -> Result<(), Missing> {
        self.walker.incomplete = true;
        self.mark_stale(member)
    }

    /// Whether it is known of every lost member that it misses changes of mirrors.
    pub(super) fn losses_are_marked(&mut self) -> bool {
        (0..self.members.len()).all(|member| !self.is_lost(member) || self.may_miss(member).is_ok())
    }

    /// Whether some member has missed something, and no durable superblock says so yet. Until one does, nothing is called covered, and
    /// no flush is answered: a mount would take what this member holds for the newest.
    pub(super) fn marks_are_pending(&self) -> bool {
        let wanted = self.checkpoint.stale;
        wanted & !self.superblock.stale != 0
            || (0..self.members.len()).any(|member| !self.checkpoint.keeps_mark(member))
    }

    /// Whether no record calls anything more covered: while a mark is pending, a copy that was not written is being healed, or the
    /// checkpoint that holds what became of it is not durable.
    pub(super) fn is_frozen(&self) -> bool {
        self.marks_are_pending() || self.walker.owed != 0 || !self.is_durable(self.checkpoint.needed)
    }

    /// `member` failed at something that the pool depends on: goes on without it, or stops writing. Returns whether it goes on.
    pub(super) fn retire(&mut self, member: usize) -> bool {
        if self.members[member].lost {
            return true;
        }
        if self.stopped || !self.can_do_without(member) {
            self.stop_writes();
            return false;
        }
        self.members[member].lost = true;
        self.checkpoint.stale |= 1 << member;
        self.cache.forget_changes(member as u8);
        self.checkpoint.lose_member(member, self.superblock.roots[member]);
        self.members[member].extents.forget_changes();
        self.checkpoint.want_again();
        self.report(Event::MemberLost { member });
        self.moved = true;
        true
    }

    /// Whether nothing is lost without `member` but what only it holds.
    fn can_do_without(&self, member: usize) -> bool {
        let remains = |other: usize| other != member && !self.members[other].lost;
        let metadata = (0..self.members.len().min(METADATA_MEMBERS)).any(remains);
        let single = |at: Position| {
            let Some(extent) = self.members[member].geometry.extent_of_leaf(at.index) else { return false };
            let owner = self.members[member].extents.get(extent).and_then(|owner| self.find(owner.volume));
            owner.is_some_and(|slot| self.volume(slot).record.layout != Layout::Mirrored)
        };
        let changed = self.cache.changed_leaves(member as u8).any(single);
        let Member { moved_single, storing_single, .. } = self.members[member];
        let moved = moved_single || storing_single;
        // What another one could not write lies here alone, and nobody was told that it is durable.
        let needed =
            (0..self.members.len()).any(|other| remains(other) && self.members[other].unwritten > self.log.marked);
        self.options.degraded && metadata && !changed && !moved && !needed && !self.is_another_stale(member)
    }

    /// An extent was given to `volume`, or taken from it.
    pub(super) fn note_move(&mut self, volume: usize, member: usize) {
        self.members[member].moved_single |= self.volume(volume).copies() == 1;
    }

    /// Retires the disks that take nothing though they have nothing to do. Returns whether there was one to retire.
    pub(super) fn retire_silent_members(&mut self) -> bool {
        let silent: u8 = (0..self.members.len())
            .filter(|member| !self.stopped && !self.is_lost(*member) && self.is_dead(*member))
            .fold(0, |silent, member| silent | 1 << member);
        for member in (0..self.members.len()).filter(|member| silent & 1 << member != 0) {
            self.retire(member);
        }
        silent != 0
    }

    /// Whether `extent` of the volume may lie where nobody can see: it is not where its volume knows, and some member's table could
    /// not be read.
    pub(super) fn may_be_unseen(&self, volume: usize, extent: u32) -> bool {
        let may_hold = |member: usize| self.members[member].unknown;
        let may_differ = |member: &usize| may_hold(*member) || self.is_stale(*member);
        match self.volume(volume).record.layout {
            Layout::Linear => (0..self.members.len()).any(may_hold),
            Layout::Striped(columns) => may_hold(extent as usize % usize::from(columns)),
            // Both copies would have to be, and then neither is anywhere.
            Layout::Mirrored => (0..self.members.len()).filter(may_differ).count() > 1,
        }
    }
}
