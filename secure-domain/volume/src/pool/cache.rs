//! The cache of the hash trees: a fixed number of leaves and nodes in memory.
//!
//! What is cached was verified, and its parent is cached too (a parent counts its `children` and stays). A leaf knows which of its
//! 128 blocks are being read or written (`busy`): the lock which keeps two requests off one block. A block that
//! differs from what the last checkpoint wrote (`dirty`), that the running checkpoint has written (`flushing`), or that writes
//! under way will change (`reserved`) stays until a checkpoint has ended: those are *touched*, and replaying the log touches
//! no others, which is why their number is limited.

use alloc::{vec, vec::Vec};

use crate::{
    BLOCK_BYTES,
    bits::Bits,
    record::{
        entry::{ENTRY_BYTES, EntryBytes},
        node::{FAN_OUT, Position},
    },
};

/// In the index: not cached.
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Empty,
    Loading,
    Ready,
    /// It could not be read or verified; whoever looks next is told, then it is forgotten.
    Damaged,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    position: Position,
    /// Number among all blocks of all trees.
    number: u32,
    parent: u32,
    load: Load,
    referenced: bool,
    /// Cached children, and what else must not lose its parent.
    children: u32,
    /// Runs under way that will change it.
    reserved: u32,
    /// Changes that are not settled.
    unsettled: u32,
    busy: u128,
}

/// Where a tree block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// In this slot.
    Ready(usize),
    /// On its way from the disk.
    Loading,
    /// On the disk.
    Missing,
    /// It could not be read or verified just now.
    Damaged,
}

/// The cached part of the trees.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    bytes: Vec<[u8; BLOCK_BYTES]>,
    /// Slot of each tree block, by its number among all.
    index: Vec<u32>,
    dirty: Bits,
    flushing: Bits,
    touched: usize,
    hand: usize,
}

impl Cache {
    /// A cache of `slots` blocks of trees that have `tree_blocks` together.
    pub(crate) fn new(tree_blocks: usize, slots: usize) -> Cache {
        let position = Position { member: 0, level: 0, index: 0 };
        let empty = Slot {
            position,
            number: NOWHERE,
            parent: NOWHERE,
            load: Load::Empty,
            referenced: false,
            children: 0,
            reserved: 0,
            unsettled: 0,
            busy: 0,
        };
        Cache {
            slots: vec![empty; slots],
            bytes: vec![[0; BLOCK_BYTES]; slots],
            index: vec![NOWHERE; tree_blocks],
            dirty: Bits::new(slots),
            flushing: Bits::new(slots),
            touched: 0,
            hand: 0,
        }
    }

    /// Where the block with this number is.
    pub(crate) fn lookup(&mut self, number: usize) -> Lookup {
        let slot = self.index[number] as usize;
        let Some(found) = self.slots.get_mut(slot) else { return Lookup::Missing };
        found.referenced = true;
        match found.load {
            Load::Ready => Lookup::Ready(slot),
            Load::Loading | Load::Empty => Lookup::Loading,
            Load::Damaged => {
                found.load = Load::Empty;
                self.index[number] = NOWHERE;
                Lookup::Damaged
            }
        }
    }

    /// Whether the block with this number is cached and touched.
    pub(crate) fn touches(&self, number: usize) -> bool {
        let slot = self.index[number];
        slot != NOWHERE && self.is_touched(slot as usize)
    }

    /// Chooses a slot to reuse: the clock algorithm, at most twice around.
    pub(crate) fn victim(&mut self) -> Option<usize> {
        for _ in 0..2 * self.slots.len() {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &self.slots[index];
            let held = slot.busy != 0 || slot.children != 0 || slot.unsettled != 0 || slot.load == Load::Loading;
            if held || self.is_touched(index) {
                continue;
            }
            if !core::mem::take(&mut self.slots[index].referenced) {
                return Some(index);
            }
        }
        None
    }

    /// Gives a victim to the block at `position`, which is being read. The parent is pinned by the caller, for the child.
    pub(crate) fn begin_load(&mut self, slot: usize, position: Position, number: usize, parent: Option<usize>) {
        let old = self.slots[slot];
        debug_assert!(old.busy == 0 && old.children == 0 && !self.is_touched(slot), "slot {slot} is in use");
        if matches!(old.load, Load::Ready | Load::Damaged) {
            self.index[old.number as usize] = NOWHERE;
        }
        if old.load == Load::Ready && old.parent != NOWHERE {
            self.unpin(old.parent as usize);
        }
        let parent = parent.map_or(NOWHERE, |parent| parent as u32);
        let now = &mut self.slots[slot];
        (now.position, now.number, now.parent, now.load, now.referenced) =
            (position, number as u32, parent, Load::Loading, true);
        self.index[number] = slot as u32;
    }

    /// The block of `slot` has been read and verified, or not (`None`).
    pub(crate) fn finish_load(&mut self, slot: usize, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.bytes[slot].copy_from_slice(bytes);
                self.slots[slot].load = Load::Ready;
            }
            None => {
                self.slots[slot].load = Load::Damaged;
                if self.slots[slot].parent != NOWHERE {
                    self.unpin(self.slots[slot].parent as usize);
                }
            }
        }
    }

    /// Keeps the slot, for a child or for ever.
    pub(crate) fn pin(&mut self, slot: usize) {
        self.slots[slot].children += 1;
    }

    /// Undoes one [`pin`](Self::pin).
    pub(crate) fn unpin(&mut self, slot: usize) {
        self.slots[slot].children -= 1;
    }

    pub(crate) fn position(&self, slot: usize) -> Position {
        self.slots[slot].position
    }

    pub(crate) fn parent(&self, slot: usize) -> Option<usize> {
        let parent = self.slots[slot].parent;
        (parent != NOWHERE).then_some(parent as usize)
    }

    pub(crate) fn bytes(&self, slot: usize) -> &[u8; BLOCK_BYTES] {
        &self.bytes[slot]
    }

    /// Entry or child slot `index` of the block.
    pub(crate) fn entry(&self, slot: usize, index: usize) -> &EntryBytes {
        &self.bytes[slot].as_chunks().0[index]
    }

    /// Replaces entry or child slot `index` of the block, which becomes dirty.
    pub(crate) fn set_entry(&mut self, slot: usize, index: usize, entry: &EntryBytes) {
        self.bytes[slot][index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES].copy_from_slice(entry);
        self.set_dirty(slot);
    }

    pub(crate) fn set_dirty(&mut self, slot: usize) {
        if !self.dirty.contains(slot) {
            self.touch(slot, |cache| cache.dirty.insert(slot));
        }
    }

    /// The running checkpoint writes the block; it stays dirty if `again`.
    pub(crate) fn begin_flushing(&mut self, slot: usize, again: bool) {
        self.touch(slot, |cache| {
            cache.flushing.insert(slot);
            if !again {
                cache.dirty.remove(slot);
            }
        });
    }

    /// The checkpoint has ended.
    pub(crate) fn end_flushing(&mut self) {
        let mut from = 0;
        while let Some(slot) = self.flushing.next(from) {
            self.touch(slot, |cache| cache.flushing.remove(slot));
            from = slot + 1;
        }
    }

    /// The leaves of `member` that differ from what the last checkpoint wrote, or that writes under way will change.
    pub(crate) fn changed_leaves(&self, member: u8) -> impl Iterator<Item = Position> {
        let positions =
            (0..self.slots.len()).filter(|slot| self.is_touched(*slot)).map(|slot| self.slots[slot].position);
        positions.filter(move |position| position.member == member && position.level == 0)
    }

    /// No checkpoint will write what has changed of `member`: it may be evicted.
    pub(crate) fn forget_changes(&mut self, member: u8) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].position.member == member {
                self.touch(slot, |cache| {
                    cache.dirty.remove(slot);
                    cache.flushing.remove(slot);
                });
            }
        }
    }

    /// A run that was issued will change the leaf.
    pub(crate) fn reserve(&mut self, slot: usize) {
        self.touch(slot, |cache| cache.slots[slot].reserved += 1);
    }

    /// The run has changed it, or will not.
    pub(crate) fn unreserve(&mut self, slot: usize) {
        self.touch(slot, |cache| cache.slots[slot].reserved -= 1);
    }

    pub(crate) fn is_touched(&self, slot: usize) -> bool {
        self.dirty.contains(slot) || self.flushing.contains(slot) || self.slots[slot].reserved != 0
    }

    /// Leaves that are touched.
    pub(crate) fn touched(&self) -> usize {
        self.touched
    }

    fn touch(&mut self, slot: usize, change: impl FnOnce(&mut Cache)) {
        let before = self.is_touched(slot);
        change(self);
        let after = self.is_touched(slot);
        if self.slots[slot].position.level == 0 {
            self.touched = self.touched + usize::from(after) - usize::from(before);
        }
    }

    pub(crate) fn is_flushing(&self, slot: usize) -> bool {
        self.flushing.contains(slot)
    }

    /// The first dirty slot from `from` on.
    pub(crate) fn next_dirty(&self, from: usize) -> Option<usize> {
        self.dirty.next(from)
    }

    /// Changes of the slot that are not settled.
    pub(crate) fn unsettled(&self, slot: usize) -> u32 {
        self.slots[slot].unsettled
    }

    pub(crate) fn add_unsettled(&mut self, slot: usize) {
        self.slots[slot].unsettled += 1;
    }

    pub(crate) fn settle(&mut self, slot: usize) {
        self.slots[slot].unsettled -= 1;
    }

    /// Whether all of `count` blocks from `first` on are unlocked.
    pub(crate) fn is_free(&self, slot: usize, first: usize, count: usize) -> bool {
        self.slots[slot].busy & mask(first, count) == 0
    }

    /// Locks `count` free blocks from `first` on.
    pub(crate) fn lock(&mut self, slot: usize, first: usize, count: usize) {
        debug_assert!(self.is_free(slot, first, count), "what is locked is not locked again");
        self.slots[slot].busy |= mask(first, count);
    }

    /// Unlocks what [`lock`](Self::lock) locked.
    pub(crate) fn unlock(&mut self, slot: usize, first: usize, count: usize) {
        debug_assert_eq!(
            self.slots[slot].busy & mask(first, count),
            mask(first, count),
            "only what is locked is unlocked"
        );
        self.slots[slot].busy &= !mask(first, count);
    }
}

/// `count` (1 to 128) set bits from `first` on.
fn mask(first: usize, count: usize) -> u128 {
    debug_assert!(count >= 1 && first + count <= FAN_OUT as usize);
    (u128::MAX >> (FAN_OUT as usize - count)) << first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(index: u64) -> Position {
        Position { member: 0, level: 0, index }
    }

    /// A cache of three slots with a node (number 9) and two leaves below it.
    fn full() -> (Cache, usize, usize, usize) {
        let mut cache = Cache::new(10, 3);
        let node = cache.victim().unwrap();
        cache.begin_load(node, Position { level: 1, ..leaf(0) }, 9, None);
        cache.finish_load(node, Some(&[0; BLOCK_BYTES]));
        let [a, b] = [0, 1].map(|number| {
            cache.pin(node);
            let slot = cache.victim().unwrap();
            cache.begin_load(slot, leaf(number as u64), number, Some(node));
            assert_eq!(cache.lookup(number), Lookup::Loading);
            cache.finish_load(slot, Some(&[0; BLOCK_BYTES]));
            slot
        });
        (cache, node, a, b)
    }

    #[test]
    fn locked_touched_and_parent_slots_are_not_evicted() {
        let (mut cache, _, a, b) = full();
        cache.lock(a, 0, 1);
        cache.set_entry(b, 3, &[1; 32]);
        assert_eq!(cache.victim(), None);
        cache.unlock(a, 0, 1);
        assert_eq!(cache.victim(), Some(a));
        cache.reserve(a);
        assert_eq!((cache.victim(), cache.touched()), (None, 2));
        cache.unreserve(a);
        cache.begin_flushing(b, false);
        assert_eq!((cache.victim(), cache.touched(), cache.next_dirty(0)), (Some(a), 1, None));
        cache.end_flushing();
        assert_eq!(cache.touched(), 0);
    }

    #[test]
    fn a_parent_goes_when_its_children_are_gone() {
        let (mut cache, node, a, b) = full();
        for (slot, number) in [(a, 2), (b, 3)] {
            cache.begin_load(slot, leaf(number as u64), number, None);
            cache.finish_load(slot, Some(&[0; BLOCK_BYTES]));
            cache.lock(slot, 0, 1);
        }
        assert_eq!(cache.victim(), Some(node));
        assert_eq!(cache.lookup(0), Lookup::Missing);
    }

    #[test]
    fn a_damaged_block_is_told_once_and_read_again() {
        let (mut cache, node, a, _) = full();
        cache.pin(node);
        cache.begin_load(a, leaf(5), 5, Some(node));
        cache.finish_load(a, None);
        assert_eq!((cache.lookup(5), cache.lookup(5)), (Lookup::Damaged, Lookup::Missing));
    }

    #[test]
    fn a_block_changed_while_it_is_flushed_stays_dirty() {
        let (mut cache, _, a, _) = full();
        cache.set_entry(a, 0, &[1; 32]);
        cache.begin_flushing(a, true);
        cache.end_flushing();
        assert_eq!((cache.next_dirty(0), cache.touched()), (Some(a), 1));
    }
}
