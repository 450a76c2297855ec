//! A range of physical addresses, and sets of them.

use core::fmt;

#[cfg(feature = "boot")]
use alloc::collections::BinaryHeap;
#[cfg(feature = "boot")]
use alloc::vec::Vec;

/// A range of addresses: not empty, and ending before 2^64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    base: u64,
    size: u64,
}

impl Region {
    /// The range of `size` bytes at `base`; none if it is empty or does not end before 2^64.
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        if size == 0 || base.checked_add(size).is_none() { None } else { Some(Self { base, size }) }
    }

    /// The range from `base` up to, not including, `end`; none if it is empty.
    pub const fn between(base: u64, end: u64) -> Option<Self> {
        if end <= base { None } else { Some(Self { base, size: end - base }) }
    }

    /// First address.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// First address behind the range.
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Whether the two share an address.
    pub const fn overlaps(&self, other: &Region) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// Whether all of `other` lies in this range.
    pub const fn contains(&self, other: &Region) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }

    /// The smallest range around this one that begins and ends at a multiple of `unit` (a power of two); the last such range
    /// if rounding up would leave the address space.
    pub const fn hull(&self, unit: u64) -> Region {
        let base = self.base & !(unit - 1);
        let end = match self.end().checked_next_multiple_of(unit) {
            Some(end) => end,
            None => !(unit - 1),
        };
        Region { base, size: end - base }
    }

    /// The largest range in this one that begins and ends at a multiple of `unit` (a power of two), if there is one.
    pub const fn core(&self, unit: u64) -> Option<Region> {
        match self.base.checked_next_multiple_of(unit) {
            Some(base) => Region::between(base, self.end() & !(unit - 1)),
            None => None,
        }
    }

    /// What both have in common.
    pub fn common(&self, other: &Region) -> Option<Region> {
        Region::between(self.base.max(other.base), self.end().min(other.end()))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.base, self.end())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The same addresses as `regions`, sorted, and as few ranges as possible.
#[cfg(feature = "boot")]
pub(crate) fn union(regions: Vec<Region>) -> Vec<Region> {
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    // A heap sorts in a tenth of the code that `sort` takes.
    for region in BinaryHeap::from(regions).into_sorted_vec() {
        match merged.last_mut() {
            Some(last) if region.base <= last.end() => last.size = last.end().max(region.end()) - last.base,
            _ => merged.push(region),
        }
    }
    merged
}

/// The addresses of `regions` that are in none of `holes`, sorted.
#[cfg(feature = "boot")]
pub(crate) fn difference(regions: &[Region], holes: &[Region]) -> Vec<Region> {
    let holes = union(holes.to_vec());
    let mut rest = Vec::new();
    for region in union(regions.to_vec()) {
        let mut base = region.base;
        for hole in holes.iter().filter(|hole| hole.overlaps(&region)) {
            rest.extend(Region::between(base, hole.base));
            base = base.max(hole.end());
        }
        rest.extend(Region::between(base, region.end()));
    }
    rest
}

#[cfg(all(test, feature = "boot"))]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn region(base: u64, end: u64) -> Region {
        Region::between(base, end).unwrap()
    }

    #[test]
    fn refuses_empty_and_wrapping_ranges() {
        assert_eq!(Region::new(1, 0), None);
        assert_eq!(Region::new(u64::MAX, 1), None);
        assert_eq!(Region::between(5, 5), None);
        assert_eq!(region(0x1001, 0x1FFF).core(0x1000), None);
        assert_eq!(region(u64::MAX - 5, u64::MAX - 1).core(0x1000), None);
    }

    #[test]
    fn hull_and_core_round_out_and_in() {
        assert_eq!(region(0x1001, 0x2001).hull(0x1000), region(0x1000, 0x3000));
        assert_eq!(region(0x1001, 0x3001).core(0x1000), Some(region(0x2000, 0x3000)));
        assert_eq!(region(u64::MAX - 5, u64::MAX).hull(0x1000).end(), u64::MAX - 0xFFF);
    }

    #[test]
    fn neighbours_do_not_overlap_but_unite() {
        assert!(!region(0, 5).overlaps(&region(5, 9)));
        assert_eq!(union(vec![region(5, 9), region(0, 5)]), [region(0, 9)]);
    }

    proptest! {
        #[test]
        fn sets_are_those_of_a_bitmap(a in sets(), b in sets()) {
            let bitmap = |set: &[Region]| core::array::from_fn::<bool, 64, _>(|at| set.iter().any(|r| r.base <= at as u64 && (at as u64) < r.end()));
            let (in_a, in_b) = (bitmap(&a), bitmap(&b));
            let rest = difference(&a, &b);
            prop_assert_eq!(bitmap(&rest), core::array::from_fn(|at| in_a[at] && !in_b[at]));
            prop_assert!(rest.windows(2).all(|pair| pair[0].end() < pair[1].base));
            prop_assert_eq!(bitmap(&union(a)), in_a);
        }
    }

    fn sets() -> impl Strategy<Value = Vec<Region>> {
        proptest::collection::vec((0..60_u64, 1..4_u64).prop_map(|(base, size)| Region { base, size }), 0..8)
    }
}
