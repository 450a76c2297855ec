//! The hash trees: leaves and nodes come into the cache from the top down, each verified by its parent.

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};

use super::{Pool, cache::Lookup, job::Kind};
use crate::{
    BLOCK_BYTES, Event,
    record::node::{FAN_OUT, Position, Slot},
};

/// Why a tree block is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is on its way.
    Waits,
    /// Something that loading it needs is not free.
    Exhausted,
    /// It, or a node above it, could not be read or verified.
    Damaged,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Cache slot of the leaf that holds the entry of data block `block` of `member`.
    pub(super) fn entry_leaf(&mut self, member: usize, block: u64) -> Result<usize, Missing> {
        let index = self.members[member].geometry.entry_leaf(block);
        self.tree_slot(Position { member: member as u8, level: 0, index })
    }

    /// Cache slot of a tree block; if it is not there, it is on its way from now on. At most as deep as the tree.
    pub(super) fn tree_slot(&mut self, position: Position) -> Result<usize, Missing> {
        let number = self.tree_number(position);
        match self.cache.lookup(number) {
            Lookup::Ready(slot) => Ok(slot),
            Lookup::Loading => Err(Missing::Waits),
            Lookup::Damaged => Err(Missing::Damaged),
            Lookup::Missing => self.load_tree(position, number),
        }
    }

    /// Number of a tree block among those of all members.
    pub(super) fn tree_number(&self, position: Position) -> usize {
        let member = usize::from(position.member);
        let before: u64 = self.members[..member].iter().map(|member| member.geometry.tree_blocks()).sum();
        (before + self.members[member].geometry.tree_number(usize::from(position.level), position.index)) as usize
    }

    fn load_tree(&mut self, position: Position, number: usize) -> Result<usize, Missing> {
        let member = usize::from(position.member);
        if self.is_dead(member) {
            return Err(Missing::Damaged);
        }
        let parent = match parent_of(position)
            .filter(|parent| usize::from(parent.level) <= self.members[member].geometry.depth)
        {
            Some(parent) => Some(self.tree_slot(parent)?),
            None => None,
        };
        // The parent must not be chosen to make room for its child.
        if let Some(parent) = parent {
            self.cache.pin(parent);
        }
        let started = self.load_below(position, number, parent);
        if let (Err(Missing::Exhausted), Some(parent)) = (started, parent) {
            self.cache.unpin(parent);
        }
        started
    }

    fn load_below(&mut self, position: Position, number: usize, parent: Option<usize>) -> Result<usize, Missing> {
        let member = usize::from(position.member);
        let expected = self.expected(position, parent);
        let geometry = &self.members[member].geometry;
        let block = geometry.tree_block(usize::from(position.level), position.index, expected.place());
        if !expected.is_blank() && !self.can_start(member) {
            return Err(Missing::Exhausted);
        }
        let Some(slot) = self.cache.victim() else {
            // What is clean is in use; what is touched a checkpoint makes clean.
            self.checkpoint.want();
            return Err(Missing::Exhausted);
        };
        self.moved = true;
        if expected.is_blank() {
            self.cache.begin_load(slot, position, number, parent);
            self.cache.finish_load(slot, Some(&[0; BLOCK_BYTES]));
            return Ok(slot);
        }
        let buffer = self.members[member].device.allocate(1).ok_or(Missing::Exhausted)?;
        self.cache.begin_load(slot, position, number, parent);
        self.start_read(Kind::LoadTree(slot), member, block, buffer);
        Err(Missing::Waits)
    }

    /// What the parent, or the superblock, says about the block.
    fn expected(&self, position: Position, parent: Option<usize>) -> Slot {
        match parent {
            Some(parent) => Slot::parse(self.cache.entry(parent, (position.index % FAN_OUT) as usize)),
            None => self.superblock.roots[usize::from(position.member)],
        }
    }

    /// A tree block has been read: it is believed if its parent says so.
    pub(super) fn complete_load(&mut self, slot: usize, block: u64, buffer: Option<&Buffer>) {
        let position = self.cache.position(slot);
        let member = usize::from(position.member);
        let Some(buffer) = buffer else {
            self.report(Event::ReadFailed { member, block });
            self.cache.finish_load(slot, None);
            return;
        };
        let expected = self.expected(position, self.cache.parent(slot));
        let bytes = self.members[member].device.bytes(buffer);
        let verified = expected.verify(self.keys.tree(), position, bytes);
        self.cache.finish_load(slot, verified.is_ok().then_some(&*bytes));
        match verified {
            Ok(()) => {}
            Err(crypto::Error::TagMismatch) => self.report(Event::TreeMac { member, block }),
            Err(error) => self.refused(error),
        }
    }

    /// Keeps the node above a leaf in the cache for ever; the node must be there.
    pub(super) fn pin_parent(&mut self, leaf: Position) -> Result<(), Missing> {
        let parent = parent_of(leaf).ok_or(Missing::Damaged)?;
        let slot = self.tree_slot(parent)?;
        self.cache.pin(slot);
        Ok(())
    }

    /// Cache slot of the node above a leaf that was pinned.
    pub(super) fn pinned_parent(&mut self, leaf: Position) -> Option<usize> {
        self.tree_slot(parent_of(leaf)?).ok()
    }
}

fn parent_of(position: Position) -> Option<Position> {
    let level = position.level.checked_add(1)?;
    Some(Position { level, index: position.index / FAN_OUT, ..position })
}
