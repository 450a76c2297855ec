//! Accesses of any width and alignment, in terms of aligned 32-bit words.

/// The `size` bytes at `offset` of a register space whose aligned words `word` gives. Bytes behind the eighth are 0.
pub(crate) fn read(offset: usize, size: usize, mut word: impl FnMut(usize) -> u32) -> u64 {
    (0..size.min(8)).fold(0, |value, index| {
        let at = offset + index;
        let byte = word(at & !3) >> (8 * (at & 3)) & 0xff;
        value | u64::from(byte) << (8 * index)
    })
}

/// The aligned words that a store of `size` bytes at `offset` touches: offset, the bits stored, and which of them count.
pub(crate) fn words(offset: usize, size: usize, value: u64) -> impl Iterator<Item = (usize, u32, u32)> {
    let size = size.min(8);
    let stored = u128::from(value) << (8 * (offset & 3));
    let mask = ((1_u128 << (8 * size)) - 1) << (8 * (offset & 3));
    (0..3)
        .map(move |index| {
            let shift = 32 * index;
            ((offset & !3) + 4 * index, (stored >> shift) as u32, (mask >> shift) as u32)
        })
        .filter(|(_, _, mask)| *mask != 0)
}

/// `old` with the bits of `mask` from `new`.
pub(crate) fn merge(old: u32, new: u32, mask: u32) -> u32 {
    old & !mask | new & mask
}

/// Whether `size` bytes at `offset` touch the `len` bytes at `start`.
pub(crate) fn touches(offset: usize, size: usize, start: usize, len: usize) -> bool {
    offset < start + len && start < offset + size.min(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_is_stored_in_any_shape_is_read_back_in_any_other() {
        let mut space = [0_u32; 8];
        for (offset, size) in (0..16).flat_map(|offset| (0..=8).map(move |size| (offset, size))) {
            let value = 0x8877_6655_4433_2211 & ((1_u128 << (8 * size)) - 1) as u64;
            for (at, new, mask) in words(offset, size, value) {
                space[at / 4] = merge(space[at / 4], new, mask);
            }
            assert_eq!(read(offset, size, |at| space[at / 4]), value, "{size} bytes at {offset}");
        }
    }

    #[test]
    fn a_store_touches_no_other_byte() {
        let touched: Vec<_> = words(6, 3, u64::MAX).collect();
        assert_eq!(touched, [(4, 0xffff_0000, 0xffff_0000), (8, 0xffff_ffff, 0xff)]);
        assert_eq!(words(0, 0, 1).count(), 0);
        assert!(touches(6, 3, 8, 4) && !touches(5, 3, 8, 4) && !touches(12, 1, 8, 4) && !touches(8, 0, 8, 4));
    }
}
