//! Seeded random numbers: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").

/// A generator; the same seed gives the same cases.
pub(crate) struct Random(u64);

impl Random {
    /// From a seed; 0 counts as 1.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    /// One of `items`, which has some.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}
