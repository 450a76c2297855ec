//! The buffers of a DMA region: runs of contiguous blocks, handed out by a bitmap. No run goes over a multiple of [`GROUP`] blocks.

use core::ops::Range;

use crate::{BLOCK_BYTES, MAX_REQUEST_BLOCKS};

/// Blocks that a pool can manage: 16 MiB.
pub const MAX_BLOCKS: usize = GROUP * WORDS;
/// Blocks of a word of the bitmap, in which every run lies: block numbers that are equal when divided by this.
pub const GROUP: usize = 64;
const WORDS: usize = 64;

/// A run of contiguous blocks of a DMA region. It is neither copied nor cloned: whoever holds it owns the bytes.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer goes back through release"]
pub struct Buffer {
    first: u16,
    blocks: u16,
}

impl Buffer {
    /// Its length in blocks.
    pub fn blocks(&self) -> usize {
        usize::from(self.blocks)
    }

    /// Its first block in the pool.
    pub fn first(&self) -> usize {
        usize::from(self.first)
    }

    /// The bytes of `blocks` blocks from its first on, where the pool's first block begins at byte `start` of the region.
    pub(crate) fn range(&self, start: usize, blocks: usize) -> Range<usize> {
        let first = start + self.first() * BLOCK_BYTES;
        first..first + blocks * BLOCK_BYTES
    }
}

/// The free blocks of a region.
#[derive(Debug)]
pub struct Pool {
    /// Bit set: free.
    free: [u64; WORDS],
    /// The word in which the last search ended: the next one begins there.
    hint: usize,
}

impl Pool {
    /// A pool of `blocks` blocks, at most [`MAX_BLOCKS`] of which it manages.
    pub fn new(blocks: usize) -> Pool {
        let mut free = [0; WORDS];
        for block in 0..blocks.min(MAX_BLOCKS) {
            free[block / 64] |= 1 << (block % 64);
        }
        Pool { free, hint: 0 }
    }

    /// A run of `blocks` blocks (at most [`MAX_REQUEST_BLOCKS`]), or the longest of half, a quarter, ... that is free.
    pub fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        let mut blocks = blocks.clamp(1, MAX_REQUEST_BLOCKS);
        loop {
            if let Some(buffer) = self.allocate_exactly(blocks) {
                return Some(buffer);
            }
            if blocks == 1 {
                return None;
            }
            blocks /= 2;
        }
    }

    /// Takes the run back.
    pub fn release(&mut self, buffer: Buffer) {
        let (word, mask) = (buffer.first() / 64, mask(buffer.first() % 64, buffer.blocks()));
        assert_eq!(self.free[word] & mask, 0, "a buffer was released twice");
        self.free[word] |= mask;
        self.hint = word;
    }

    /// Free blocks.
    pub fn free_blocks(&self) -> usize {
        self.free.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn allocate_exactly(&mut self, blocks: usize) -> Option<Buffer> {
        for step in 0..WORDS {
            let word = (self.hint + step) % WORDS;
            if let Some(bit) = find(self.free[word], blocks) {
                self.free[word] &= !mask(bit, blocks);
                self.hint = word;
                return Some(Buffer { first: (word * 64 + bit) as u16, blocks: blocks as u16 });
            }
        }
        None
    }
}

/// `blocks` (1 to 32) set bits from `bit` on.
fn mask(bit: usize, blocks: usize) -> u64 {
    ((1 << blocks) - 1) << bit
}

/// The lowest bit at which `run` consecutive bits of `word` are set.
fn find(word: u64, run: usize) -> Option<usize> {
    let (mut starts, mut have) = (word, 1);
    while have < run {
        let step = have.min(run - have);
        starts &= starts >> step;
        have += step;
    }
    (starts != 0).then(|| starts.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_exhausted_pool_hands_out_nothing() {
        let mut pool = Pool::new(3);
        let _kept: Vec<_> = (0..3).map(|_| pool.allocate(1).unwrap()).collect();
        assert_eq!(pool.allocate(1), None);
        assert_eq!(pool.allocate(32), None);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_buffer_of_another_pool_is_noticed() {
        let buffer = Pool::new(8).allocate(4).unwrap();
        Pool::new(8).release(buffer);
    }

    #[test]
    fn a_fragmented_pool_hands_out_shorter_runs() {
        let mut pool = Pool::new(64);
        let mut all: Vec<_> = (0..64).map(|_| pool.allocate(1).unwrap()).collect();
        for _ in 0..5 {
            pool.release(all.pop().unwrap());
        }
        assert_eq!(pool.allocate(32).unwrap().blocks(), 4);
        assert_eq!(pool.allocate(32).unwrap().blocks(), 1);
        assert_eq!(pool.allocate(32), None);
    }

    proptest! {
        #[test]
        fn no_block_has_two_owners(
            blocks in 1usize..200,
            steps in prop::collection::vec((any::<bool>(), 1usize..40, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut pool = Pool::new(blocks);
            let mut held: Vec<Buffer> = Vec::new();
            for (allocate, want, index) in steps {
                if allocate {
                    if let Some(buffer) = pool.allocate(want) {
                        prop_assert!(buffer.blocks() >= 1 && buffer.blocks() <= want);
                        prop_assert!(buffer.first() + buffer.blocks() <= blocks);
                        let last = buffer.first() + buffer.blocks() - 1;
                        prop_assert_eq!(buffer.first() / GROUP, last / GROUP);
                        for other in &held {
                            prop_assert!(buffer.first() + buffer.blocks() <= other.first()
                                || other.first() + other.blocks() <= buffer.first());
                        }
                        held.push(buffer);
                    } else {
                        prop_assert_eq!(pool.free_blocks(), 0);
                    }
                } else if !held.is_empty() {
                    let buffer = held.swap_remove(index.index(held.len()));
                    pool.release(buffer);
                }
                let used: usize = held.iter().map(Buffer::blocks).sum();
                prop_assert_eq!(pool.free_blocks() + used, blocks);
            }
        }
    }
}
