//! `VTCR_EL2` and `VTTBR_EL2` (Arm DDI 0487, D19.2) for tables with the 4 KiB granule that start at level 1.

use crate::PhysAddr;

/// Smallest intermediate address size, in bits.
pub const MIN_IPA_BITS: u8 = 32;
/// Largest: 16 concatenated tables at level 1.
pub const MAX_IPA_BITS: u8 = 43;

/// `SL0 = 0b01`: the walk starts at level 1 (4 KiB granule).
const SL0_LEVEL_1: u64 = 0b01 << 6;
/// `IRGN0`: walks are inner write-back, write-allocate cacheable.
const IRGN0_WRITE_BACK: u64 = 0b01 << 8;
/// `ORGN0`: and outer.
const ORGN0_WRITE_BACK: u64 = 0b01 << 10;
/// `SH0`: inner shareable.
const SH0_INNER: u64 = 0b11 << 12;
/// `TG0 = 0b00`: 4 KiB granule. `VS = 0`: 8-bit VMIDs. `HA = HD = 0`: hardware does not write our tables.
const TG0_4K: u64 = 0b00 << 14;
/// `RES1`.
const RES1: u64 = 1 << 31;
/// `PS` and `ID_AA64MMFR0_EL1.PARange`: 48 bits. 52 bits need another descriptor format.
const PS_48_BITS: u8 = 0b0101;

/// `VTCR_EL2` for `ipa_bits`; `pa_range` is `ID_AA64MMFR0_EL1.PARange` of the core with the smallest one.
pub const fn vtcr(ipa_bits: u8, pa_range: u8) -> u64 {
    let ps = if pa_range > PS_48_BITS { PS_48_BITS } else { pa_range };
    let t0sz = 64 - ipa_bits as u64;
    RES1 | (ps as u64) << 16 | TG0_4K | SH0_INNER | ORGN0_WRITE_BACK | IRGN0_WRITE_BACK | SL0_LEVEL_1 | t0sz
}

/// `VTTBR_EL2`: the root and the VMID. `CnP = 0`.
pub const fn vttbr(root: PhysAddr, vmid: u8) -> u64 {
    (vmid as u64) << 48 | root.0
}

/// Number of contiguous 4 KiB tables that the root of `ipa_bits` needs (1 to 16); the root is aligned to their total size.
pub const fn root_tables(ipa_bits: u8) -> usize {
    if ipa_bits > 39 { 1 << (ipa_bits - 39) } else { 1 }
}

/// The bits that `ID_AA64MMFR0_EL1.PARange` stands for, at most 48.
pub const fn pa_bits(pa_range: u8) -> u8 {
    match pa_range {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// The intermediate address size for a core with `pa_range`: the physical size, within what a start at level 1 can reach.
pub const fn ipa_bits(pa_range: u8) -> u8 {
    let bits = pa_bits(pa_range);
    if bits > MAX_IPA_BITS { MAX_IPA_BITS } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_concatenated_beyond_39_bits() {
        let cases = [(32, 1), (39, 1), (40, 2), (42, 8), (43, 16)];
        assert!(cases.iter().all(|(bits, tables)| root_tables(*bits) == *tables));
    }

    #[test]
    fn vtcr_of_a_forty_bit_core() {
        // RES1, PS=40 bits, SH0=inner, ORGN0=IRGN0=write-back, SL0=level 1, T0SZ=24.
        assert_eq!(vtcr(40, 2), 0x8002_3558);
    }

    #[test]
    fn a_core_of_52_bits_is_driven_with_48() {
        assert_eq!(vtcr(43, 6) >> 16 & 0b111, 0b101);
        assert_eq!(ipa_bits(6), 43);
        assert_eq!(ipa_bits(0), 32);
    }
}
