//! SEED on one block, portable: what short inputs and chains take.
//!
//! The four bytes that go through G become eight planes of four bits each: in plane `j`, which is the word shifted right by `j`, bit
//! 0 of every byte is of interest, and what is in the others does not matter. Both S-boxes share all of their circuit but its end. All else is
//! arithmetic of words.
use super::words;
use crate::Block;
use crate::sbox::{seed_s1, seed_s2};

/// Enciphers a block with the keys of either direction.
pub(super) fn crypt<'k>(keys: impl Iterator<Item = &'k [u32; 2]>, block: &Block) -> Block {
    let [mut l0, mut l1, mut r0, mut r1] = words(block);
    for key in keys {
        let [c, d] = f(r0, r1, *key);
        [l0, l1, r0, r1] = [r0, r1, l0 ^ c, l1 ^ d];
    }
    let mut out = [0; 16];
    for (bytes, word) in out.chunks_exact_mut(4).zip([r0, r1, l0, l1]) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// The round function F (RFC 4269 section 2.1).
#[inline(always)]
fn f(c: u32, d: u32, key: [u32; 2]) -> [u32; 2] {
    let t0 = c ^ key[0];
    let t1 = g(t0 ^ d ^ key[1]);
    let t0 = g(t0.wrapping_add(t1));
    let t1 = g(t1.wrapping_add(t0));
    [t0.wrapping_add(t1), t1]
}

/// The function G (RFC 4269 section 2.2). Byte `i` of its sum takes bits `2b` and `2b + 1` from all bytes but byte `b - i`: it
/// is the sum of all four, and what is left out is added again.
#[inline(always)]
fn g(x: u32) -> u32 {
    let y = substitute(x);
    let pairs = y ^ y.rotate_left(16);
    let sum = pairs ^ pairs.rotate_left(8);
    // Byte `i` of `mirror` is byte `-i`.
    let mirror = y.swap_bytes().rotate_left(8);
    (0..4).fold(sum, |z, b| z ^ mirror.rotate_left(8 * b) & 0x0303_0303 << (2 * b))
}

/// S1 in bytes 0 and 2, S2 in bytes 1 and 3.
#[inline(always)]
fn substitute(x: u32) -> u32 {
    let planes = core::array::from_fn(|j| x >> j);
    let (first, second) = (seed_s1(planes), seed_s2(planes));
    (0..8).fold(0, |y, j| y | (first[j] & 0x0001_0001 | second[j] & 0x0100_0100) << j)
}
