//! The hash tree of a member: what of it verifies, and what its leaves say.
use keystore::PoolKeys;
use volume::BLOCK_BYTES;
use volume::record::geometry::{Geometry, MAX_LEVELS};
use volume::record::node::{FAN_OUT, Position, Slot};

use super::tables::Tables;
use super::{Contents, Disk, Report};

/// Damaged blocks that are named; more are counted.
const NAMED: u64 = 16;

/// Shows how each level fares, then catalog, extents and entries.
pub(super) fn dump(pool: &Contents<'_>, member: usize, disk: &Disk, report: &mut Report) {
    let Some(geometry) = pool.superblock.geometry(member) else { return };
    let keys = pool.keys();
    let levels = [Level::default(); MAX_LEVELS + 1];
    let mut walk = Walk { disk, member, geometry, keys, levels, tables: Tables::new(geometry), damaged: Vec::new() };
    walk.visit(geometry.depth, 0, &pool.superblock.roots[member]);
    walk.report(&pool.superblock.roots[member], report);
    walk.tables.report(pool, report);
}

/// How the blocks of a level fare.
#[derive(Clone, Copy, Default)]
struct Level {
    good: u64,
    damaged: u64,
}

struct Walk<'a> {
    disk: &'a Disk,
    member: usize,
    geometry: Geometry,
    keys: Option<PoolKeys>,
    levels: [Level; MAX_LEVELS + 1],
    tables: Tables,
    /// The first damaged blocks.
    damaged: Vec<String>,
}

impl Walk<'_> {
    /// Looks at a block and all below it. Bounded: each block of the tree has one parent, and what cannot be read has no children.
    fn visit(&mut self, level: usize, index: u64, slot: &Slot) {
        if slot.is_blank() {
            return;
        }
        let place = self.geometry.tree_block(level, index, slot.place());
        let position = Position { member: self.member as u8, level: level as u8, index };
        let block = self.disk.block(place);
        let verifies = |block: &[u8; BLOCK_BYTES]| {
            self.keys.as_ref().is_none_or(|keys| slot.verify(keys.tree(), position, block).is_ok())
        };
        let Some(block) = block.filter(|block| verifies(block)) else {
            return self.damage(level, index, place);
        };
        self.levels[level].good += 1;
        if level == 0 {
            return self.tables.leaf(index, &block);
        }
        for (child, slot) in block.as_chunks().0.iter().enumerate() {
            let (index, slot) = (index * FAN_OUT + child as u64, Slot::parse(slot));
            if index < self.geometry.level_len(level - 1) {
                self.visit(level - 1, index, &slot);
            } else if !slot.is_blank() {
                self.damaged.push(format!("level {level} has a child beyond its last, {index}"));
            }
        }
    }

    fn damage(&mut self, level: usize, index: u64, place: u64) {
        self.levels[level].damaged += 1;
        if self.levels[level].damaged <= NAMED {
            let what = format!("level {level}, index {index}, block {place} of the disk: not what its parent says");
            self.damaged.push(what);
        }
    }

    fn report(&self, root: &Slot, report: &mut Report) {
        let (checkpoint, place) = (root.stamp >> 1, if root.place() == 0 { 'A' } else { 'B' });
        match root.is_blank() {
            true => report.say(1, "tree: empty"),
            false => report.say(1, format!("tree: root of checkpoint {checkpoint}, place {place}")),
        }
        let checked = if self.keys.is_some() { "verify" } else { "can be read" };
        for level in (0..=self.geometry.depth).rev() {
            let (Level { good, damaged }, all) = (self.levels[level], self.geometry.level_len(level));
            let name = if level == 0 { "leaves".to_owned() } else { format!("level {level}") };
            report.say(2, format!("{name}: {good} of {all} {checked}, {damaged} do not"));
        }
        self.damaged.iter().for_each(|what| report.say(2, what));
    }
}
