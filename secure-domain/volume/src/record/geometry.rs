//! Where the parts of a pool lie on a member: everything follows from the member's size, the log's and whether it keeps metadata.
//!
//! ```text
//! 0 .. 8              superblock ring
//! 8 .. 8+L            log (0 blocks on members that keep no metadata)
//! then                tree nodes A, tree nodes B     levels 1 and up, level after level
//! then                leaves A, leaves B             catalog (16 or 0), extent table, entry table
//! up to 32            unused
//! data                extents of 1,024 blocks
//! ```

use super::{EXTENT_BLOCKS, MAX_MEMBERS, node::FAN_OUT};

/// Superblock places of a member.
pub const RING_BLOCKS: u64 = 8;
/// Leaves of the catalog on a member that keeps it: 256 volumes.
pub const CATALOG_LEAVES: u64 = 16;
/// Members that keep log and catalog.
pub const METADATA_MEMBERS: usize = 2;
/// Fewest blocks of a log.
pub const MIN_LOG_BLOCKS: u64 = 64;
/// Most blocks of a log: 64 MiB.
pub const MAX_LOG_BLOCKS: u64 = 16_384;
/// Most extents of a member: 16 TiB, so that an address fits 37 bits and a leaf index 32.
pub const MAX_EXTENTS: u64 = 1 << 22;
/// Most levels above the leaves.
pub const MAX_LEVELS: usize = 5;
/// Entry leaves of an extent.
const LEAVES_PER_EXTENT: u64 = EXTENT_BLOCKS / FAN_OUT;
/// The data begins at a multiple of this many blocks.
const ALIGNMENT: u64 = 32;

/// The layout of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the log.
    pub log_blocks: u64,
    /// Extents.
    pub extents: u64,
    /// Leaves of the catalog.
    pub catalog_leaves: u64,
    /// Leaves of the extent table.
    pub extent_leaves: u64,
    /// Nodes of each level: `levels[0]` is level 1.
    levels: [u64; MAX_LEVELS],
    /// Levels above the leaves.
    pub depth: usize,
    /// First block of the nodes, place A.
    nodes_start: u64,
    /// Nodes of all levels.
    nodes: u64,
    /// First block of the leaves, place A.
    leaves_start: u64,
    /// First block of extent 0.
    pub data_start: u64,
}

impl Geometry {
    /// The largest layout that fits a member of `blocks` blocks; `None` if not one extent fits, or `member` is no member.
    pub fn for_member(member: usize, blocks: u64, log_blocks: u64) -> Option<Geometry> {
        if member >= MAX_MEMBERS || !(MIN_LOG_BLOCKS..=MAX_LOG_BLOCKS).contains(&log_blocks) {
            return None;
        }
        let keeps = member < METADATA_MEMBERS;
        let (log, catalog) = if keeps { (log_blocks, CATALOG_LEAVES) } else { (0, 0) };
        let mut extents = (blocks / EXTENT_BLOCKS).min(MAX_EXTENTS);
        // The metadata of an extent is below 2 % of it, so this comes to its end within extents / 50 turns; a jump by what is
        // missing makes it a few.
        for _ in 0..64 {
            let geometry = Geometry::with(extents, log, catalog)?;
            match geometry.end().checked_sub(blocks) {
                None | Some(0) => return Some(geometry),
                Some(excess) => extents = extents.checked_sub(excess.div_ceil(EXTENT_BLOCKS + 32).max(1))?,
            }
        }
        None
    }

    /// The blocks of log that a pool whose smallest metadata member has `blocks` blocks gets: so many that all metadata of a member
    /// of 256 MiB is less than 2 % of it.
    pub fn default_log_blocks(blocks: u64) -> u64 {
        (blocks / 320).clamp(MIN_LOG_BLOCKS, MAX_LOG_BLOCKS)
    }

    fn with(extents: u64, log_blocks: u64, catalog_leaves: u64) -> Option<Geometry> {
        if extents == 0 {
            return None;
        }
        let extent_leaves = extents.div_ceil(FAN_OUT);
        let leaves = catalog_leaves + extent_leaves + extents * LEAVES_PER_EXTENT;
        let (mut levels, mut depth, mut below) = ([0; MAX_LEVELS], 0, leaves);
        while depth == 0 || below > 1 {
            below = below.div_ceil(FAN_OUT);
            *levels.get_mut(depth)? = below;
            depth += 1;
        }
        let nodes = levels.iter().sum::<u64>();
        let nodes_start = RING_BLOCKS + log_blocks;
        let leaves_start = nodes_start + 2 * nodes;
        let data_start = (leaves_start + 2 * leaves).next_multiple_of(ALIGNMENT);
        Some(Geometry {
            log_blocks,
            extents,
            catalog_leaves,
            extent_leaves,
            levels,
            depth,
            nodes_start,
            nodes,
            leaves_start,
            data_start,
        })
    }

    /// Blocks that the member must have.
    pub fn end(&self) -> u64 {
        self.data_start + self.extents * EXTENT_BLOCKS
    }

    /// Leaves of the tree.
    pub fn leaves(&self) -> u64 {
        self.catalog_leaves + self.extent_leaves + self.extents * LEAVES_PER_EXTENT
    }

    /// Blocks in `level`; 0 is the leaves.
    pub fn level_len(&self, level: usize) -> u64 {
        if level == 0 { self.leaves() } else { self.levels[level - 1] }
    }

    /// Blocks of the tree in all levels.
    pub fn tree_blocks(&self) -> u64 {
        self.leaves() + self.nodes
    }

    /// Number of a tree block among all of the member's: leaves first, then level after level.
    pub fn tree_number(&self, level: usize, index: u64) -> u64 {
        if level == 0 { index } else { self.leaves() + self.levels[..level - 1].iter().sum::<u64>() + index }
    }

    /// Disk block of tree block `index` of `level` in `place` (0 or 1).
    pub fn tree_block(&self, level: usize, index: u64, place: u64) -> u64 {
        if level == 0 {
            return self.leaves_start + place * self.leaves() + index;
        }
        self.nodes_start + place * self.nodes + self.levels[..level - 1].iter().sum::<u64>() + index
    }

    /// Leaf of the extent table that holds the record of `extent`.
    pub fn extent_leaf(&self, extent: u64) -> u64 {
        self.catalog_leaves + extent / FAN_OUT
    }

    /// Leaf of the entry table that holds the entry of data block `block`.
    pub fn entry_leaf(&self, block: u64) -> u64 {
        self.catalog_leaves + self.extent_leaves + block / FAN_OUT
    }

    /// First data block whose entry lies in `leaf`, a leaf of the entry table.
    pub fn leaf_block(&self, leaf: u64) -> u64 {
        (leaf - self.catalog_leaves - self.extent_leaves) * FAN_OUT
    }

    /// Data blocks.
    pub fn data_blocks(&self) -> u64 {
        self.extents * EXTENT_BLOCKS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        for blocks in 0..1152 {
            assert_eq!(Geometry::for_member(0, blocks, 64), None);
        }
        assert_eq!(Geometry::for_member(0, 1 << 20, 63), None);
        assert_eq!(Geometry::for_member(0, 1 << 20, 16_385), None);
        assert_eq!(Geometry::for_member(8, 1 << 20, 64), None);
    }

    #[test]
    fn metadata_takes_less_than_two_percent() {
        for mib in (256u64..2048).step_by(4).chain([4, 16, 64, 256, 1024, 16_384].map(|gib| gib << 10)) {
            let blocks = mib << 8;
            let geometry = Geometry::for_member(0, blocks, Geometry::default_log_blocks(blocks)).unwrap();
            let metadata = geometry.data_start;
            assert!(metadata * 50 <= geometry.end(), "{mib} MiB: {metadata} of {}", geometry.end());
            assert!(geometry.depth <= MAX_LEVELS);
        }
    }

    proptest! {
        #[test]
        fn parts_do_not_overlap_and_fit(member in 0usize..8, blocks in 1300u64..1 << 32, log in 64u64..=16_384) {
            let Some(geometry) = Geometry::for_member(member, blocks, log) else { return Ok(()) };
            prop_assert!(geometry.end() <= blocks);
            let mut last = RING_BLOCKS + geometry.log_blocks;
            for place in 0..2 {
                for level in 1..=geometry.depth {
                    prop_assert_eq!(geometry.tree_block(level, 0, place), last);
                    last += geometry.level_len(level);
                }
            }
            for place in 0..2 {
                prop_assert_eq!(geometry.tree_block(0, 0, place), last);
                last += geometry.leaves();
            }
            prop_assert!(last <= geometry.data_start);
            prop_assert_eq!(geometry.level_len(geometry.depth), 1);
            prop_assert_eq!(geometry.tree_number(geometry.depth, 0) + 1, geometry.tree_blocks());
        }

        #[test]
        fn the_largest_layout_wastes_less_than_three_extents(blocks in 4096u64..1 << 30) {
            let geometry = Geometry::for_member(0, blocks, 64).unwrap();
            prop_assert!(blocks - geometry.end() < 3 * EXTENT_BLOCKS, "wasted {}", blocks - geometry.end());
        }
    }
}
