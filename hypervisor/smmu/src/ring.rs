//! Indices of a queue (IHI 0070, section 3.5.1): an entry's number with a wrap bit above it, so that full differs from empty.

/// One side's index into a queue of `2^bits` entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    bits: u8,
    value: u32,
}

impl Index {
    /// The first entry, not wrapped. `bits` is at most 19.
    pub(crate) const fn new(bits: u8) -> Index {
        Index { bits, value: 0 }
    }

    /// log2 of the queue's entries.
    pub(crate) const fn bits(self) -> u8 {
        self.bits
    }

    /// The index that a `PROD` or `CONS` register holds.
    pub(crate) const fn read(self, register: u32) -> Index {
        Index { value: register & ((2 << self.bits) - 1), ..self }
    }

    /// For a register.
    pub(crate) const fn register(self) -> u32 {
        self.value
    }

    /// The entry's number.
    pub(crate) const fn entry(self) -> usize {
        (self.value & ((1 << self.bits) - 1)) as usize
    }

    /// The one behind it.
    pub(crate) const fn next(self) -> Index {
        self.read(self.value + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_not_an_empty_one() {
        let first = Index::new(2);
        let full = (0..4).fold(first, |index, _| index.next());
        assert_eq!((full.entry(), full == first), (0, false));
        let wrapped = (0..4).fold(full, |index, _| index.next());
        assert_eq!(wrapped, first);
    }

    #[test]
    fn bits_beyond_the_index_are_no_part_of_it() {
        assert_eq!(Index::new(2).read(0x8000_0005).register(), 5);
        assert_eq!(Index::new(2).read(0xff).entry(), 3);
    }
}
