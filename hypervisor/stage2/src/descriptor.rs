//! One entry of a translation table with the 4 KiB granule (Arm DDI 0487, D8.3.1).

use crate::{Attributes, Ipa, PhysAddr};

/// Entries of one 4 KiB table.
pub const ENTRIES: usize = 512;
/// The level at which every walk starts; level 0 would only be needed beyond 43 bits.
pub const START_LEVEL: u8 = 1;
/// The level of pages.
pub const LAST_LEVEL: u8 = 3;

const VALID: u64 = 1;
/// At levels 1 and 2 a table, at level 3 a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// Bits `[47:12]`: the output address, or the next table.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Bytes that one entry of `level` (1 to 3) covers.
pub const fn size_bytes(level: u8) -> u64 {
    1 << shift(level)
}

/// Where the index of `level` begins in an address.
const fn shift(level: u8) -> u32 {
    12 + 9 * (LAST_LEVEL - level) as u32
}

/// The index of `ipa` in a table of `level`. At the start level the index runs on through the concatenated tables.
pub const fn index(ipa: Ipa, level: u8) -> usize {
    let index = (ipa.0 >> shift(level)) as usize;
    if level == START_LEVEL { index } else { index % ENTRIES }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// An access faults here.
    Invalid,
    /// The walk goes on in this table.
    Table(PhysAddr),
    /// A block (levels 1 and 2) or a page (level 3).
    Leaf(PhysAddr, Attributes),
}

impl Descriptor {
    /// Reads an entry of `level`. Bits that nothing here writes make it [`Descriptor::Invalid`].
    pub const fn decode(entry: u64, level: u8) -> Descriptor {
        let address = PhysAddr(entry & ADDRESS);
        match (entry & VALID != 0, entry & TABLE_OR_PAGE != 0, level == LAST_LEVEL) {
            (true, true, false) => Descriptor::Table(address),
            (true, false, false) | (true, true, true) => match Attributes::from_bits(entry) {
                Some(attributes) => Descriptor::Leaf(address, attributes),
                None => Descriptor::Invalid,
            },
            _ => Descriptor::Invalid,
        }
    }

    /// The entry for `level`.
    pub const fn encode(self, level: u8) -> u64 {
        match self {
            Descriptor::Invalid => 0,
            Descriptor::Table(table) => table.0 | TABLE_OR_PAGE | VALID,
            Descriptor::Leaf(pa, attributes) if level == LAST_LEVEL => pa.0 | attributes.bits() | TABLE_OR_PAGE | VALID,
            Descriptor::Leaf(pa, attributes) => pa.0 | attributes.bits() | VALID,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_not_allowed_at_the_last_level() {
        assert_eq!(Descriptor::decode(Attributes::RAM.bits() | 0b01, 3), Descriptor::Invalid);
    }

    #[test]
    fn entries_survive_their_encoding() {
        let pa = PhysAddr(0x40_0000_0000);
        for level in 1..=3 {
            let leaf = Descriptor::Leaf(pa, Attributes::DEVICE);
            assert_eq!(Descriptor::decode(leaf.encode(level), level), leaf);
        }
        assert_eq!(Descriptor::Table(pa).encode(1), 0x40_0000_0003);
        assert_eq!(Descriptor::decode(0x40_0000_0003, 2), Descriptor::Table(pa));
    }

    #[test]
    fn the_root_index_runs_through_the_concatenated_tables() {
        assert_eq!(index(Ipa(0x80_0000_0000), 1), 512);
        assert_eq!(index(Ipa(0x80_0020_3000), 2), 1);
        assert_eq!(index(Ipa(0x80_0020_3000), 3), 3);
    }
}
