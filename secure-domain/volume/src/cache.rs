//! The cache of the entry table: a fixed number of table blocks in memory, written back when a flush or an eviction asks.
//!
//! A slot knows which of its 128 blocks are being read or written (`busy`): that is the lock which keeps two requests off one
//! block, and the pin which keeps the slot from being evicted. A slot that is being stored may be changed meanwhile, since the
//! store works on a copy; it is dirty again then, and is never stored twice at a time.

use alloc::{vec, vec::Vec};

use crate::{
    BLOCK_BYTES,
    bits::Bits,
    entry::{ENTRY_BYTES, Entry},
    geometry::ENTRIES_PER_BLOCK,
};

/// Most slots of a cache: 256 MiB of table.
pub const MAX_SLOTS: usize = 1 << 16;

/// Bytes of one cached table block.
const SLOT_BYTES: usize = BLOCK_BYTES;
/// In the index: not cached.
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Empty,
    Loading,
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    table: u64,
    load: Load,
    busy: u128,
    referenced: bool,
}

/// Where a table block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// In this slot.
    Ready(usize),
    /// On its way from the disk.
    Loading,
    /// On the disk.
    Missing,
}

/// A slot for a block that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// This slot may be loaded.
    Clean(usize),
    /// This one could be, once it has been stored.
    Dirty(usize),
    /// All are in use or on their way.
    None,
}

/// The cached part of the entry table.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Slot>,
    bytes: Vec<u8>,
    /// Slot of each table block.
    index: Vec<u32>,
    dirty: Bits,
    storing: Bits,
    hand: usize,
}

impl Cache {
    /// A cache of up to `slots` blocks of a table of `table_blocks`.
    pub fn new(table_blocks: u64, slots: usize) -> Cache {
        let slots = slots.clamp(1, MAX_SLOTS).min(table_blocks as usize);
        let empty = Slot { table: 0, load: Load::Empty, busy: 0, referenced: false };
        Cache {
            slots: vec![empty; slots],
            bytes: vec![0; slots * SLOT_BYTES],
            index: vec![NOWHERE; table_blocks as usize],
            dirty: Bits::new(slots),
            storing: Bits::new(slots),
            hand: 0,
        }
    }

    /// Slots that the cache has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Where block `table` of the table is.
    pub fn lookup(&mut self, table: u64) -> Lookup {
        let slot = self.index[table as usize];
        if slot == NOWHERE {
            return Lookup::Missing;
        }
        let found = &mut self.slots[slot as usize];
        found.referenced = true;
        if found.load == Load::Ready { Lookup::Ready(slot as usize) } else { Lookup::Loading }
    }

    /// Chooses a slot to reuse: the clock algorithm, at most twice around.
    pub fn victim(&mut self) -> Victim {
        let mut dirty = Victim::None;
        for _ in 0..2 * self.slots.len() {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[index];
            if slot.busy != 0 || slot.load == Load::Loading || self.storing.contains(index) {
                continue;
            }
            if self.dirty.contains(index) {
                if dirty == Victim::None {
                    dirty = Victim::Dirty(index);
                }
            } else if !core::mem::take(&mut slot.referenced) {
                return Victim::Clean(index);
            }
        }
        dirty
    }

    /// Gives a clean slot to block `table`, which is being read.
    pub fn begin_load(&mut self, slot: usize, table: u64) {
        let old = self.slots[slot];
        assert!(old.busy == 0 && !self.dirty.contains(slot) && !self.storing.contains(slot), "slot {slot} is in use");
        if old.load != Load::Empty {
            self.index[old.table as usize] = NOWHERE;
        }
        self.slots[slot] = Slot { table, load: Load::Loading, busy: 0, referenced: true };
        self.index[table as usize] = slot as u32;
    }

    /// The block of `slot` has been read, or could not be (`None`).
    pub fn finish_load(&mut self, slot: usize, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.bytes[slot * SLOT_BYTES..(slot + 1) * SLOT_BYTES].copy_from_slice(bytes);
                self.slots[slot].load = Load::Ready;
            }
            None => {
                self.index[self.slots[slot].table as usize] = NOWHERE;
                self.slots[slot].load = Load::Empty;
            }
        }
    }

    /// Locks `count` blocks from `first` on (within the slot); `false` if any is locked already.
    pub fn lock(&mut self, slot: usize, first: usize, count: usize) -> bool {
        let mask = mask(first, count);
        let free = self.slots[slot].busy & mask == 0;
        if free {
            self.slots[slot].busy |= mask;
        }
        free
    }

    /// Unlocks what [`lock`](Self::lock) locked.
    pub fn unlock(&mut self, slot: usize, first: usize, count: usize) {
        let mask = mask(first, count);
        assert_eq!(self.slots[slot].busy & mask, mask, "only what is locked is unlocked");
        self.slots[slot].busy &= !mask;
    }

    /// Whether all of `count` blocks from `first` on are unlocked.
    pub fn is_free(&self, slot: usize, first: usize, count: usize) -> bool {
        self.slots[slot].busy & mask(first, count) == 0
    }

    /// Entry `index` of the slot; `None` if it is damaged.
    pub fn entry(&self, slot: usize, index: usize) -> Option<Entry> {
        let at = slot * SLOT_BYTES + index * ENTRY_BYTES;
        Entry::parse(self.bytes[at..].first_chunk()?)
    }

    /// Replaces entry `index` of the slot, which becomes dirty.
    pub fn set_entry(&mut self, slot: usize, index: usize, entry: &Entry) {
        let at = slot * SLOT_BYTES + index * ENTRY_BYTES;
        self.bytes[at..at + ENTRY_BYTES].copy_from_slice(&entry.encode());
        self.dirty.insert(slot);
    }

    /// Begins to store a dirty slot: returns its table block and its bytes, to be copied now.
    pub fn begin_store(&mut self, slot: usize) -> (u64, &[u8]) {
        assert!(self.dirty.contains(slot) && !self.storing.contains(slot), "slot {slot} cannot be stored");
        self.dirty.remove(slot);
        self.storing.insert(slot);
        (self.slots[slot].table, &self.bytes[slot * SLOT_BYTES..(slot + 1) * SLOT_BYTES])
    }

    /// A store has ended; if it failed the slot is dirty again. Returns the table block.
    pub fn finish_store(&mut self, slot: usize, stored: bool) -> u64 {
        self.storing.remove(slot);
        if !stored {
            self.dirty.insert(slot);
        }
        self.slots[slot].table
    }

    /// Slots that hold changes which were not handed to the disk.
    pub fn dirty(&self) -> &Bits {
        &self.dirty
    }

    /// Slots that are being stored.
    pub fn storing(&self) -> &Bits {
        &self.storing
    }
}

/// `count` (1 to 128) set bits from `first` on.
fn mask(first: usize, count: usize) -> u128 {
    debug_assert!(count >= 1 && first + count <= ENTRIES_PER_BLOCK as usize);
    (u128::MAX >> (ENTRIES_PER_BLOCK as usize - count)) << first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::State;

    const ENTRY: Entry = Entry { version: 1, tag: [1; 16], state: State::Zero };

    /// A cache of two slots with blocks 0 and 1 of a table of four.
    fn full() -> Cache {
        let mut cache = Cache::new(4, 2);
        for table in 0..2 {
            let Victim::Clean(slot) = cache.victim() else { panic!("an empty slot is clean") };
            cache.begin_load(slot, table);
            assert_eq!(cache.lookup(table), Lookup::Loading);
            cache.finish_load(slot, Some(&[0; BLOCK_BYTES]));
        }
        cache
    }

    #[test]
    fn locked_loading_and_storing_slots_are_not_evicted() {
        let mut cache = full();
        let (Lookup::Ready(a), Lookup::Ready(b)) = (cache.lookup(0), cache.lookup(1)) else { panic!("loaded") };
        assert!(cache.lock(a, 0, 1));
        cache.set_entry(b, 0, &ENTRY);
        cache.begin_store(b);
        assert_eq!(cache.victim(), Victim::None);
        cache.finish_store(b, true);
        assert_eq!(cache.victim(), Victim::Clean(b));
        cache.begin_load(b, 2);
        assert_eq!((cache.lookup(1), cache.victim()), (Lookup::Missing, Victim::None));
        cache.finish_load(b, None);
        assert_eq!(cache.lookup(2), Lookup::Missing);
    }

    #[test]
    fn a_dirty_slot_is_stored_before_it_is_reused() {
        let mut cache = full();
        for slot in 0..2 {
            cache.set_entry(slot, 5, &ENTRY);
        }
        let Victim::Dirty(slot) = cache.victim() else { panic!("all are dirty") };
        cache.begin_store(slot);
        // Changed while it is stored: dirty again, whatever becomes of the store.
        cache.set_entry(slot, 6, &ENTRY);
        cache.finish_store(slot, true);
        assert!(cache.dirty().contains(slot));
        cache.begin_store(slot);
        cache.finish_store(slot, false);
        assert!(cache.dirty().contains(slot), "a failed store keeps the changes");
    }

    #[test]
    fn a_locked_block_is_locked_for_everyone_and_its_neighbours_are_not() {
        let mut cache = full();
        assert!(cache.lock(0, 10, 5));
        assert!(!cache.lock(0, 14, 1) && !cache.lock(0, 0, 128) && !cache.lock(0, 5, 6));
        assert!(cache.lock(0, 15, 113) && cache.lock(0, 0, 10) && cache.lock(1, 10, 5));
        cache.unlock(0, 10, 5);
        assert!(cache.lock(0, 10, 5));
    }

    #[test]
    #[should_panic(expected = "only what is locked")]
    fn what_is_not_locked_cannot_be_unlocked() {
        full().unlock(0, 0, 1);
    }
}
