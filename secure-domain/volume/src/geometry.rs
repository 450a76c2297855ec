//! Where the parts of a volume lie on its disk.
//!
//! ```text
//! block 0   superblock A
//! block 1   superblock B
//! block 2   entry table: one block for 128 data blocks
//! ...       (unused up to a multiple of 32 blocks)
//! data      data blocks
//! ```

/// Entries in one block of the entry table.
pub const ENTRIES_PER_BLOCK: u64 = 128;
/// First block of the entry table.
const TABLE_START: u64 = 2;
/// The data begins at a multiple of this many blocks: 128 KiB.
const DATA_ALIGNMENT: u64 = 32;
/// Most data blocks of a volume: 16 TiB.
pub const MAX_DATA_BLOCKS: u64 = 1 << 32;

/// The layout of a volume: every field follows from the number of data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks that the volume offers.
    pub data_blocks: u64,
    /// First block of the entry table.
    pub table_start: u64,
    /// Blocks of the entry table.
    pub table_blocks: u64,
    /// First data block.
    pub data_start: u64,
}

impl Geometry {
    /// The layout of a volume of `data_blocks` blocks; `None` if it would be empty or above [`MAX_DATA_BLOCKS`].
    pub fn for_data(data_blocks: u64) -> Option<Geometry> {
        if data_blocks == 0 || data_blocks > MAX_DATA_BLOCKS {
            return None;
        }
        let table_blocks = data_blocks.div_ceil(ENTRIES_PER_BLOCK);
        let data_start = (TABLE_START + table_blocks).next_multiple_of(DATA_ALIGNMENT);
        Some(Geometry { data_blocks, table_start: TABLE_START, table_blocks, data_start })
    }

    /// The largest layout that fits a disk of `disk_blocks` blocks.
    pub fn for_disk(disk_blocks: u64) -> Option<Geometry> {
        let disk_blocks = disk_blocks.min(MAX_DATA_BLOCKS);
        // An estimate that is never too small, corrected by what the alignment costs.
        let mut data = disk_blocks.checked_sub(TABLE_START)?;
        for _ in 0..64 {
            let geometry = Geometry::for_data(data)?;
            match geometry.disk_blocks().checked_sub(disk_blocks) {
                None | Some(0) => return Some(geometry),
                Some(excess) => data = data.checked_sub(excess.div_ceil(2).max(1))?,
            }
        }
        None
    }

    /// Blocks that the volume takes on its disk.
    pub fn disk_blocks(&self) -> u64 {
        self.data_start + self.data_blocks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Geometry::for_data(0), None);
        assert_eq!(Geometry::for_data(MAX_DATA_BLOCKS + 1), None);
        for blocks in 0..=32 {
            assert_eq!(Geometry::for_disk(blocks), None);
        }
    }

    proptest! {
        #[test]
        fn parts_do_not_overlap(data in 1u64..=MAX_DATA_BLOCKS) {
            let geometry = Geometry::for_data(data).unwrap();
            prop_assert!(geometry.table_start >= 2);
            prop_assert!(geometry.table_start + geometry.table_blocks <= geometry.data_start);
            prop_assert!(geometry.table_blocks * ENTRIES_PER_BLOCK >= data);
        }

        #[test]
        fn the_largest_layout_fits_and_wastes_little(disk in 33u64..1 << 30) {
            let geometry = Geometry::for_disk(disk).unwrap();
            prop_assert!(geometry.disk_blocks() <= disk);
            prop_assert!(disk - geometry.disk_blocks() <= 64, "wasted {}", disk - geometry.disk_blocks());
        }
    }
}
