//! SEED on 16 blocks, portable: what inputs take that are too short for a pass.
//!
//! A word of all blocks is eight `u64` of two each, where additions and keys are cheap. The function G turns them into eight bit planes, in
//! which every bit is of interest, and back. Both S-boxes run on all bytes, and each byte takes the one that is its own.
use super::words;
use crate::Block;
use crate::sbox::{seed_s1, seed_s2, transpose};

/// Blocks in a group.
pub(super) const BLOCKS: usize = 16;

/// One 32-bit word of all blocks: those of blocks `i` and `i + 8` are the halves of number `i`.
type Words = [u64; 8];

/// Enciphers blocks in place with the keys of either direction.
pub(super) fn crypt<'k>(keys: impl Iterator<Item = &'k [u32; 2]>, blocks: &mut [Block; BLOCKS]) {
    let column = |column: usize| -> Words {
        let word = |i: usize| u64::from(words(&blocks[i])[column]);
        core::array::from_fn(|i| word(i) | word(i + 8) << 32)
    };
    let [mut l0, mut l1, mut r0, mut r1] = [column(0), column(1), column(2), column(3)];
    for key in keys {
        let [c, d] = f(&r0, &r1, *key);
        (l0, l1, r0, r1) = (r0, r1, xor(&l0, &c), xor(&l1, &d));
    }
    for (column, words) in [r0, r1, l0, l1].iter().enumerate() {
        for (i, block) in blocks.iter_mut().enumerate() {
            let word = (words[i % 8] >> (32 * (i / 8))) as u32;
            block[4 * column..4 * column + 4].copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// The round function F (RFC 4269 section 2.1).
#[inline(always)]
fn f(c: &Words, d: &Words, key: [u32; 2]) -> [Words; 2] {
    let t0 = add_key(c, key[0]);
    let t1 = g(&xor(&t0, &add_key(d, key[1])));
    let t0 = g(&add(&t0, &t1));
    let t1 = g(&add(&t1, &t0));
    [add(&t0, &t1), t1]
}

fn xor(a: &Words, b: &Words) -> Words {
    core::array::from_fn(|i| a[i] ^ b[i])
}

fn add_key(a: &Words, key: u32) -> Words {
    a.map(|x| x ^ (u64::from(key) << 32 | u64::from(key)))
}

/// Sums modulo 2^32. Without their top bits nothing carries out of a word, and those are added without a carry.
fn add(a: &Words, b: &Words) -> Words {
    const TOPS: u64 = 0x8000_0000_8000_0000;
    core::array::from_fn(|i| (a[i] & !TOPS).wrapping_add(b[i] & !TOPS) ^ (a[i] ^ b[i]) & TOPS)
}

/// The even bytes, which S1 takes.
const EVEN_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
/// The lower two bytes of every word.
const LOW_HALVES: u64 = 0x0000_ffff_0000_ffff;

/// The function G (RFC 4269 section 2.2).
// Not inlined: three times in a round the two circuits would crowd each other out.
#[inline(never)]
fn g(x: &Words) -> Words {
    let mut planes = *x;
    transpose(&mut planes);
    let (first, second) = (seed_s1(planes), seed_s2(planes));
    let mut sums = core::array::from_fn(|j| sum(j, select(EVEN_BYTES, first[j], second[j])));
    transpose(&mut sums);
    sums
}

/// What G sums of bit `j` of the bytes: byte `i` takes those of its word but byte `b - i`, where `j` is `2b` or `2b + 1`. It is the sum of
/// all four, and what is left out is added again.
#[inline(always)]
fn sum(j: usize, y: u64) -> u64 {
    let turned = exchange(16, LOW_HALVES, y);
    let pairs = y ^ turned;
    let left_out = match j / 2 {
        0 => select(EVEN_BYTES, y, turned),
        1 => exchange(8, EVEN_BYTES, y),
        2 => select(EVEN_BYTES, turned, y),
        _ => exchange(8, EVEN_BYTES, turned),
    };
    pairs ^ exchange(8, EVEN_BYTES, pairs) ^ left_out
}

/// What `mask` has ones for of `yes`, and the rest of `no`.
#[inline(always)]
fn select(mask: u64, yes: u64, no: u64) -> u64 {
    yes & mask | no & !mask
}

/// Exchanges what `mask` has ones for with what lies `distance` bits above.
#[inline(always)]
fn exchange(distance: u32, mask: u64, x: u64) -> u64 {
    x >> distance & mask | (x & mask) << distance
}
