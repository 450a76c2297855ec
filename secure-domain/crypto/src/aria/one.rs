//! ARIA on one block, portable: what short inputs and chains take.
//!
//! The 16 bytes become eight planes of 16 bits, in which all four kinds of S-boxes go through one circuit together, where a pass runs four
//! circuits for 16 blocks. A plane has two bits of interest in each byte of a `u64`, one for each half of the block, and what is in
//! the other six does not matter. So the way into planes is a swap of every other bit between the halves, and shifts. Key addition and
//! diffusion are done on bytes.
use super::{RoundKeys, diffuse_block};
use crate::sbox::{ARIA_MIXED_AFTER, ARIA_MIXED_BEFORE, Byte, aria_mixed};
use crate::{Block, xor_block};

/// Every other bit.
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;
/// The two bits of interest in every byte of a plane.
const OF_INTEREST: u64 = 0x0303_0303_0303_0303;

/// Enciphers a block with the round keys of either direction.
pub(super) fn crypt(keys: &RoundKeys, block: &Block) -> Block {
    let (last, rest) = keys.as_slice().split_last().expect("a key has at least 13 round keys");
    let (last_round, rest) = rest.split_last().expect("a key has at least 13 round keys");
    let mut x = *block;
    for (i, key) in rest.iter().enumerate() {
        x = if i % 2 == 0 { round::<false>(&x, key) } else { round::<true>(&x, key) };
    }
    xor_block(&substitute::<true>(&xor_block(&x, last_round)), last)
}

/// One round function FO (`EVEN` false) or FE (`EVEN` true) (RFC 5794 section 2.4.1).
#[inline(always)]
pub(super) fn round<const EVEN: bool>(block: &Block, key: &Block) -> Block {
    diffuse_block(&substitute::<EVEN>(&xor_block(block, key)))
}

/// The substitution layer: type 1 for odd rounds, type 2 (`EVEN`) for even ones (RFC 5794 section 2.4.2).
#[inline(always)]
fn substitute<const EVEN: bool>(block: &Block) -> Block {
    let ones = |kind| {
        let mut ones = [0; 4];
        ones[kind] = 0xff;
        word::<EVEN>(ones)
    };
    let [low, high] = halves(block);
    let (before, after) = (word::<EVEN>(ARIA_MIXED_BEFORE), word::<EVEN>(ARIA_MIXED_AFTER));
    let y = aria_mixed(spread(low ^ before, high ^ before), ones(1), ones(2), ones(3));
    let [low, high] = gather(&y);
    (u128::from(low ^ after) | u128::from(high ^ after) << 64).to_le_bytes()
}

/// A byte for each kind of S-box, at the places of that kind in half a block.
#[inline(always)]
const fn word<const EVEN: bool>([a, b, c, d]: [u8; 4]) -> u64 {
    if EVEN { u64::from_le_bytes([c, d, a, b, c, d, a, b]) } else { u64::from_le_bytes([a, b, c, d, a, b, c, d]) }
}

#[inline(always)]
fn halves(block: &Block) -> [u64; 2] {
    let whole = u128::from_le_bytes(*block);
    [whole as u64, (whole >> 64) as u64]
}

/// From the halves of a block to planes: bit 0 of each byte of plane `i` is bit `i` of that byte in the lower half, bit 1 that of
/// the upper.
#[inline(always)]
fn spread(low: u64, high: u64) -> Byte<u64> {
    let even = low & EVEN_BITS | (high & EVEN_BITS) << 1;
    let odd = low >> 1 & EVEN_BITS | high & !EVEN_BITS;
    core::array::from_fn(|i| if i % 2 == 0 { even >> i } else { odd >> (i - 1) })
}

/// From planes back to the halves.
#[inline(always)]
fn gather(planes: &Byte<u64>) -> [u64; 2] {
    let every_other = |from: usize| (0..4).fold(0, |sum, i| sum | (planes[from + 2 * i] & OF_INTEREST) << (2 * i));
    let (even, odd) = (every_other(0), every_other(1));
    [even & EVEN_BITS | (odd & EVEN_BITS) << 1, even >> 1 & EVEN_BITS | odd & !EVEN_BITS]
}
