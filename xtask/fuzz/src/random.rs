//! A small generator that gives the same numbers everywhere (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).

/// The generator.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one case of one seed.
    pub(crate) fn of_case(seed: u64, case: u64) -> Self {
        let mut mixed = Self(seed);
        let start = mixed.next().wrapping_add(case);
        Self(Self(start).next())
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of the items, of which there is at least one.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}
