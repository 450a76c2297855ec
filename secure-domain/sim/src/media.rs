//! What a disk remembers: the durable image, what reads see, and every write that no flush has covered yet.
//!
//! A write that has completed is visible to reads and *unflushed*. A flush covers the writes that had completed when it was
//! submitted; they become durable, in order. At a power cut each block takes its durable content or that of any unflushed
//! write to it (completed or under way), independently of every other block; on a device that promises only its 512-byte
//! sectors, each sector chooses for itself. That is every subset and every order in which a cache can write back.

use std::rc::Rc;

use crate::{
    content::{Bytes, Content, SECTOR_BYTES, SECTORS},
    rng::mix,
};

/// What a block holds; `None` is a block of zeros.
pub type Cell = Option<Rc<Content>>;

/// A whole image: one cell for each block.
pub type Image = Vec<Cell>;

/// A write that no flush has covered.
#[derive(Clone, Debug)]
pub struct Unflushed {
    /// Its place in the order of completion.
    pub number: u64,
    /// Block of the disk.
    pub block: u64,
    /// What it wrote.
    pub content: Cell,
}

/// Chooses what a power cut leaves. For a block (whole when `sector` is `None`) it picks one of `candidates` contents: 0 is
/// the durable one, the others are the unflushed writes in order of completion.
pub type Choose<'a> = dyn FnMut(u64, Option<usize>, usize) -> usize + 'a;

/// The memory of one disk.
#[derive(Clone, Debug)]
pub struct Media {
    durable: Image,
    visible: Image,
    unflushed: Vec<Unflushed>,
    next_number: u64,
}

impl Media {
    /// A disk of `blocks` blocks of zeros.
    pub fn new(blocks: u64) -> Media {
        Media::with(vec![None; blocks as usize])
    }

    /// A disk that holds `image`, durable.
    pub fn with(image: Image) -> Media {
        Media { visible: image.clone(), durable: image, unflushed: Vec::new(), next_number: 0 }
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.durable.len() as u64
    }

    /// What would be left if nothing unflushed were.
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// What reads see.
    pub fn visible(&self) -> &Image {
        &self.visible
    }

    /// The writes that no flush has covered, in order of completion.
    pub fn unflushed(&self) -> &[Unflushed] {
        &self.unflushed
    }

    /// The number of the next write to complete: a flush that is submitted now covers those below.
    pub fn mark(&self) -> u64 {
        self.next_number
    }

    /// A write completes.
    pub fn write(&mut self, block: u64, content: Cell) {
        self.visible[block as usize].clone_from(&content);
        self.unflushed.push(Unflushed { number: self.next_number, block, content });
        self.next_number += 1;
    }

    /// A flush completes that was submitted at `mark`.
    pub fn flush(&mut self, mark: u64) {
        let kept = self.unflushed.partition_point(|write| write.number < mark);
        for write in self.unflushed.drain(..kept) {
            self.durable[write.block as usize] = write.content;
        }
    }

    /// Someone else changes a block, durably.
    pub fn tamper(&mut self, block: u64, content: Cell) {
        self.unflushed.retain(|write| write.block != block);
        self.visible[block as usize].clone_from(&content);
        self.durable[block as usize] = content;
    }

    /// The power goes while the writes `under_way` are: `choose` decides what is left.
    pub fn cut(&mut self, under_way: &[(u64, Cell)], torn: bool, choose: &mut Choose<'_>) {
        for (block, content) in under_way {
            self.write(*block, content.clone());
        }
        for (block, cell) in survivors(&self.durable, &self.unflushed, torn, choose) {
            self.durable[block as usize] = cell;
        }
        self.unflushed.clear();
        self.visible.clone_from(&self.durable);
    }
}

/// What each block with unflushed writes holds after a cut.
fn survivors(durable: &Image, unflushed: &[Unflushed], torn: bool, choose: &mut Choose<'_>) -> Vec<(u64, Cell)> {
    let mut blocks: Vec<u64> = unflushed.iter().map(|write| write.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let survivor = |block: u64| {
        let mut candidates = vec![&durable[block as usize]];
        candidates.extend(unflushed.iter().filter(|write| write.block == block).map(|write| &write.content));
        let cell = if torn {
            tear(block, &candidates, choose)
        } else {
            candidates[choose(block, None, candidates.len())].clone()
        };
        (block, cell)
    };
    blocks.into_iter().map(survivor).collect()
}

/// A block each of whose sectors comes from a candidate of its own.
fn tear(block: u64, candidates: &[&Cell], choose: &mut Choose<'_>) -> Cell {
    let chosen: [usize; SECTORS] = std::array::from_fn(|sector| choose(block, Some(sector), candidates.len()));
    if chosen.iter().all(|index| *index == chosen[0]) {
        return candidates[chosen[0]].clone();
    }
    let mut bytes = [0; block::BLOCK_BYTES];
    for (sector, index) in chosen.into_iter().enumerate() {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        if let Some(content) = candidates[index] {
            bytes[range.clone()].copy_from_slice(&content.bytes[range]);
        }
    }
    cell(&bytes)
}

/// A block with the sectors of `new` that `mask` has a bit for, and the others of `old`.
pub fn mixed(old: &Cell, new: &Cell, mask: u8) -> Cell {
    let (mut mixture, new) = (bytes(old), bytes(new));
    for sector in (0..SECTORS).filter(|sector| mask & 1 << sector != 0) {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        mixture[range.clone()].copy_from_slice(&new[range]);
    }
    cell(&mixture)
}

/// The cell for these bytes.
pub fn cell(bytes: &[u8]) -> Cell {
    let content = Content::new(bytes);
    (content.digest != 0).then_some(content)
}

/// The bytes of a cell.
pub fn bytes(cell: &Cell) -> Bytes {
    cell.as_ref().map_or([0; block::BLOCK_BYTES], |content| content.bytes)
}

/// A digest of a whole image.
pub fn digest(image: &Image) -> u64 {
    let digests =
        image.iter().enumerate().filter_map(|(block, cell)| cell.as_ref().map(|content| (block, content.digest)));
    digests.fold(0, |all, (block, digest)| all ^ mix(digest ^ mix(block as u64 + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8) -> Cell {
        cell(&[byte; block::BLOCK_BYTES])
    }

    #[test]
    fn a_flush_covers_only_what_had_completed_when_it_was_submitted() {
        let mut media = Media::new(2);
        media.write(0, filled(1));
        let mark = media.mark();
        media.write(1, filled(2));
        media.flush(mark);
        assert_eq!((media.durable()[0].clone(), media.durable()[1].clone()), (filled(1), None));
        assert_eq!(media.visible()[1], filled(2));
        media.cut(&[], false, &mut |_, _, _| 0);
        assert_eq!(media.visible()[1], None);
    }

    #[test]
    fn a_cut_can_keep_any_write_of_a_block_and_one_under_way() {
        for (index, expected) in [(0, None), (1, filled(1)), (2, filled(2)), (3, filled(3))] {
            let mut media = Media::new(1);
            media.write(0, filled(1));
            media.write(0, filled(2));
            media.cut(&[(0, filled(3))], false, &mut |_, _, candidates| {
                assert_eq!(candidates, 4);
                index
            });
            assert_eq!(media.durable()[0], expected);
        }
    }

    #[test]
    fn a_torn_block_has_sectors_of_several_writes() {
        let mut media = Media::new(1);
        media.write(0, filled(1));
        media.cut(&[], true, &mut |_, sector, _| sector.unwrap_or(0) % 2);
        let left = bytes(&media.durable()[0]);
        assert_eq!((left[0], left[511], left[512], left[1023], left[4095]), (0, 0, 1, 1, 1));
    }
}
