//! The volumes of a pool: record, keys, and the map from extents of the volume to extents of the members.

use alloc::{string::ToString, vec, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;

use super::{Pool, place::Place};
use crate::{
    Layout, Operation, VolumeInfo,
    record::{EXTENT_BLOCKS, catalog::VolumeRecord, entry::Entry},
    seal::Sealer,
};

/// In the map: no extent.
const NOWHERE: u32 = u32::MAX;
const EXTENT_BITS: u32 = 29;
/// Blocks of a row of a striped volume.
const ROW_BLOCKS: u64 = 32;

/// A volume.
pub(super) struct Volume {
    pub(super) record: VolumeRecord,
    pub(super) sealer: Sealer,
    pub(super) old: Option<Sealer>,
    /// Where extent `e`, copy `c` lies: index `e * copies + c`.
    map: Vec<u32>,
    /// Extents that are assigned.
    extents: u64,
    /// Requests under way.
    pub(super) requests: u32,
    /// It is being deleted: no more requests.
    pub(super) closed: bool,
}

/// Where a block of a volume is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Extent of the volume.
    pub(super) extent: u32,
    /// Block in the extent.
    pub(super) within: u64,
    /// Consecutive blocks of the volume from here on that are consecutive in one leaf.
    pub(super) room: u32,
}

/// An extent of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Physical {
    pub(super) member: usize,
    pub(super) extent: u32,
}

impl Volume {
    pub(super) fn new(record: VolumeRecord, sealer: Sealer, old: Option<Sealer>) -> Volume {
        let map = vec![NOWHERE; map_len(&record)];
        Volume { record, sealer, old, map, extents: 0, requests: 0, closed: false }
    }

    pub(super) fn info(&self) -> VolumeInfo {
        let record = &self.record;
        VolumeInfo {
            number: record.number,
            name: record.name.as_str().to_string(),
            layout: record.layout,
            blocks: record.blocks,
            epoch: record.epoch.number,
            suite: record.epoch.suite,
            resealing: record.old.is_some().then_some(record.cursor),
            extents: self.extents,
        }
    }

    /// Whether the operation lies in the volume.
    pub(super) fn contains(&self, operation: &Operation) -> bool {
        super::request::range(operation).is_none_or(|(block, blocks)| {
            let end = block.checked_add(u64::from(blocks));
            blocks != 0 && end.is_some_and(|end| end <= self.record.blocks)
        })
    }

    /// Copies of each block.
    pub(super) fn copies(&self) -> usize {
        copies(self.record.layout)
    }

    /// The size has changed.
    pub(super) fn resize(&mut self, blocks: u64) {
        self.record.blocks = blocks;
        self.map.resize(map_len(&self.record), NOWHERE);
    }

    /// Where `block` is to be found.
    pub(super) fn spot(&self, block: u64) -> Spot {
        let Layout::Striped(columns) = self.record.layout else {
            let within = block % EXTENT_BLOCKS;
            return Spot { extent: (block / EXTENT_BLOCKS) as u32, within, room: 128 - (within % 128) as u32 };
        };
        let columns = u64::from(columns);
        let (set, offset) = (block / (EXTENT_BLOCKS * columns), block % (EXTENT_BLOCKS * columns));
        let (row, in_row) = (offset / ROW_BLOCKS, offset % ROW_BLOCKS);
        Spot {
            extent: (set * columns + row % columns) as u32,
            within: row / columns * ROW_BLOCKS + in_row,
            room: (ROW_BLOCKS - in_row) as u32,
        }
    }

    /// The block of the volume at `within` of its extent `extent`: the inverse of [`spot`](Self::spot).
    pub(super) fn block_at(&self, extent: u32, within: u64) -> u64 {
        let Layout::Striped(columns) = self.record.layout else {
            return u64::from(extent) * EXTENT_BLOCKS + within;
        };
        let columns = u64::from(columns);
        let (set, column) = (u64::from(extent) / columns, u64::from(extent) % columns);
        let (row, in_row) = (within / ROW_BLOCKS, within % ROW_BLOCKS);
        set * EXTENT_BLOCKS * columns + (row * columns + column) * ROW_BLOCKS + in_row
    }

    /// Where copy `copy` of extent `extent` lies.
    pub(super) fn physical(&self, extent: u32, copy: usize) -> Option<Physical> {
        let at = *self.map.get(extent as usize * self.copies() + copy)?;
        (at != NOWHERE)
            .then_some(Physical { member: (at >> EXTENT_BITS) as usize, extent: at & ((1 << EXTENT_BITS) - 1) })
    }

    /// Whether the volume has such an extent and copy.
    pub(super) fn has(&self, extent: u32, copy: usize) -> bool {
        copy < self.copies() && (extent as usize) < self.map.len() / self.copies()
    }

    /// Extents of the volume.
    pub(super) fn len(&self) -> u32 {
        (self.map.len() / self.copies()) as u32
    }

    /// Changes where copy `copy` of extent `extent` lies.
    pub(super) fn set_physical(&mut self, extent: u32, copy: usize, to: Option<Physical>) {
        let index = extent as usize * self.copies() + copy;
        let now = to.map_or(NOWHERE, |to| (to.member as u32) << EXTENT_BITS | to.extent);
        self.extents += u64::from(self.map[index] == NOWHERE && now != NOWHERE);
        self.extents -= u64::from(self.map[index] != NOWHERE && now == NOWHERE);
        self.map[index] = now;
    }

    /// The cipher of `epoch`.
    pub(super) fn sealer_of(&self, epoch: u16) -> Option<&Sealer> {
        if self.sealer.epoch() == epoch {
            return Some(&self.sealer);
        }
        self.old.as_ref().filter(|old| old.epoch() == epoch)
    }
}

/// Copies of each block.
fn copies(layout: Layout) -> usize {
    if layout == Layout::Mirrored { 2 } else { 1 }
}

fn map_len(record: &VolumeRecord) -> usize {
    let columns = if let Layout::Striped(columns) = record.layout { u64::from(columns) } else { 1 };
    let extents = record.blocks.div_ceil(EXTENT_BLOCKS * columns) * columns;
    extents as usize * copies(record.layout)
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Place in the catalog of the volume with this number.
    pub(super) fn find(&self, number: u32) -> Option<usize> {
        let is_it = |volume: &Volume| volume.record.number == number && !volume.closed;
        self.volumes.iter().position(|volume| volume.as_ref().is_some_and(is_it))
    }

    /// What the entry of block `at` of a place says: one of an earlier owner says nothing.
    pub(super) fn entry_at(&self, place: &Place, at: usize) -> Option<Entry> {
        let floor = self.members[place.physical.member].extents.version(place.physical.extent);
        let entry = Entry::parse(self.cache.entry(place.slot, place.first + at))?;
        Some(if entry.version() < floor { Entry::Blank } else { entry })
    }

    /// Where the other copy of an extent lies.
    pub(super) fn twin(&self, at: Physical) -> Option<Physical> {
        let owner = self.members[at.member].extents.get(at.extent)?;
        let volume = self.volumes[self.find(owner.volume)?].as_ref()?;
        let other = 1 - usize::from(owner.copy).min(1);
        volume.has(owner.index, other).then(|| volume.physical(owner.index, other))?
    }

    /// Counts the volumes that have an old epoch, so that nobody has to look for one when there is none.
    pub(super) fn count_old_epochs(&mut self) {
        self.old_epochs = self.volumes.iter().flatten().filter(|volume| volume.old.is_some()).count();
    }

    /// The volume in this place of the catalog, which has one.
    pub(super) fn volume(&self, slot: usize) -> &Volume {
        self.volumes[slot].as_ref().expect("a volume is not deleted while it has requests")
    }

    pub(super) fn volume_mut(&mut self, slot: usize) -> &mut Volume {
        self.volumes[slot].as_mut().expect("a volume is not deleted while it has requests")
    }
}
