//! A fixed set of small numbers.

use alloc::{vec, vec::Vec};

/// A set of numbers below its size.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// An empty set for numbers below `size`.
    pub fn new(size: usize) -> Bits {
        Bits { words: vec![0; size.div_ceil(64)], len: 0 }
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 != 0
    }

    /// Adds `index`.
    pub fn insert(&mut self, index: usize) {
        self.len += usize::from(!self.contains(index));
        self.words[index / 64] |= 1 << (index % 64);
    }

    /// Takes `index` out.
    pub fn remove(&mut self, index: usize) {
        self.len -= usize::from(self.contains(index));
        self.words[index / 64] &= !(1 << (index % 64));
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set has no members.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The smallest member that is not below `from`.
    pub fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Makes this set equal to `other`, which has the same size.
    pub fn copy_from(&mut self, other: &Bits) {
        self.words.copy_from_slice(&other.words);
        self.len = other.len;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0usize..150), 0..300), from in 0usize..150) {
            let (mut bits, mut set) = (Bits::new(150), BTreeSet::new());
            for (add, index) in steps {
                if add {
                    bits.insert(index);
                    set.insert(index);
                } else {
                    bits.remove(index);
                    set.remove(&index);
                }
            }
            prop_assert_eq!(bits.len(), set.len());
            prop_assert_eq!(bits.is_empty(), set.is_empty());
            prop_assert_eq!(bits.next(from), set.range(from..).next().copied());
            prop_assert!((0..150).all(|index| bits.contains(index) == set.contains(&index)));
        }
    }
}
