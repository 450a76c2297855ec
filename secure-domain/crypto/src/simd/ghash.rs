//! GHASH by carry-less multiplication, 16 blocks to a reduction.
//!
//! GHASH numbers bits from the left. RFC 8452 appendix A turns it into POLYVAL, which numbers them from the right: reverse the bytes of
//! every block and multiply the hash key by x once. The reduction then takes two products by the constant below. Here only the bytes
//! of each half are reversed (REV64), so an element has its halves exchanged: its *low* register half holds the upper coefficients. That
//! costs nothing, because products of like halves stay products of like halves.
//!
//! A product is made of three (Karatsuba): of the two like halves, and of the sums of the halves. The sums of two blocks are made
//! and multiplied together: one register for the low halves, one for the high ones, their sum. For a pair of blocks that is
//! 2 REV64, 3 for the sums, 6 PMULL and 6 EOR: 8.5 instructions a block, where multiplying crosswise takes 10. Loading data and powers,
//! and the reduction with its 11, shared by 16 blocks, add 1.3.
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{Aligned, Clmul};
use crate::Block;

/// Blocks to a reduction.
const STRIDE: usize = 16;
/// x^63 + x^62 + x^57: POLYVAL's polynomial x^128 + x^127 + x^126 + x^121 + 1 above its constant, shifted down by 64.
const POLYNOMIAL: u64 = 0xc200_0000_0000_0000;

/// The powers of the hash key, the sixteenth first, as POLYVAL elements.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Powers {
    powers: [[Aligned; 4]; STRIDE / 4],
    /// The sums of the halves of two neighbours in each.
    sums: [[Aligned; 4]; STRIDE / 8],
}

/// The hash key as POLYVAL wants it: times x, without a branch.
fn times_x(h: &Block) -> Block {
    let h = u128::from_be_bytes(*h);
    let overflow = (h >> 127).wrapping_neg();
    (h << 1 ^ overflow & (u128::from(POLYNOMIAL) << 64 | 1)).to_be_bytes()
}

/// Computes the powers of `h`.
#[inline(always)]
pub(super) fn powers<V: Clmul>(h: &Block) -> Powers {
    let h = V::load(&Aligned(times_x(h))).reverse_halves();
    let none = [Aligned([0; 16]); 4];
    let mut powers = Powers { powers: [none; STRIDE / 4], sums: [none; STRIDE / 8] };
    let mut power = h;
    for slot in powers.powers.as_flattened_mut().iter_mut().rev() {
        power.store(slot);
        power = Products::of_one(power, h).reduce();
    }
    let (pairs, _) = powers.powers.as_flattened().as_chunks::<2>();
    for ([first, second], sum) in pairs.iter().zip(powers.sums.as_flattened_mut()) {
        sums_of_halves(V::load(first), V::load(second)).store(sum);
    }
    powers
}

/// Absorbs whole blocks into `sum`.
#[inline(always)]
pub(super) fn update<V: Clmul>(powers: &Powers, sum: &mut Block, blocks: &[Block]) {
    let mut aligned = Aligned(*sum);
    let y = V::load(&aligned).reverse_halves();
    absorb(powers, y, blocks).reverse_halves().store(&mut aligned);
    *sum = aligned.0;
}

/// The hash of associated data, data and their lengths, as GCM takes it (SP 800-38D section 7.1).
#[inline(always)]
pub(super) fn digest<V: Clmul>(powers: &Powers, aad: &[u8], data: &[u8]) -> Aligned {
    let y = absorb_padded(powers, V::from_halves(0, 0), aad);
    let y = absorb_padded(powers, y, data);
    let lengths = V::from_halves(8 * aad.len() as u64, 8 * data.len() as u64);
    let y = Products::of_one(y.xor(lengths), V::load(powers.first())).reduce();
    let mut digest = Aligned([0; 16]);
    y.reverse_halves().store(&mut digest);
    digest
}

/// Absorbs `data` into `y`, filled up with zeros to whole blocks.
#[inline(always)]
fn absorb_padded<V: Clmul>(powers: &Powers, y: V, data: &[u8]) -> V {
    let (blocks, rest) = data.as_chunks::<16>();
    let y = absorb(powers, y, blocks);
    if rest.is_empty() {
        return y;
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    absorb(powers, y, &[last])
}

impl Powers {
    /// The hash key itself.
    fn first(&self) -> &Aligned {
        &self.powers[STRIDE / 4 - 1][3]
    }
}

/// Absorbs whole blocks into `y`.
#[inline(always)]
fn absorb<V: Clmul>(powers: &Powers, mut y: V, blocks: &[Block]) -> V {
    let (fours, rest) = blocks.as_chunks::<4>();
    let (strides, fours) = fours.as_chunks::<{ STRIDE / 4 }>();
    let ([i, j, k, l], [s, t]) = (&powers.powers, &powers.sums);
    for [a, b, c, d] in strides {
        let sum = Products::of_four(load4_after(y, a), i, [&s[0], &s[1]])
            .add(Products::of_four(V::load4_reversed(b), j, [&s[2], &s[3]]))
            .add(Products::of_four(V::load4_reversed(c), k, [&t[0], &t[1]]))
            .add(Products::of_four(V::load4_reversed(d), l, [&t[2], &t[3]]));
        y = sum.reduce();
    }
    for four in fours {
        y = Products::of_four(load4_after(y, four), l, [&t[2], &t[3]]).reduce();
    }
    for block in rest {
        let x = V::load_block(block).reverse_halves();
        y = Products::of_one(y.xor(x), V::load(powers.first())).reduce();
    }
    y
}

/// Four blocks, the sum so far added to the first.
#[inline(always)]
fn load4_after<V: Clmul>(y: V, blocks: &[Block; 4]) -> [V; 4] {
    let [a, b, c, d] = V::load4_reversed(blocks);
    [a.xor(y), b, c, d]
}

/// The sum of the halves of the one, and that of the other.
#[inline(always)]
fn sums_of_halves<V: Clmul>(first: V, second: V) -> V {
    first.join_low(second).xor(first.join_high(second))
}

/// A product of two elements, or a sum of such, before its parts are put together.
#[derive(Clone, Copy)]
struct Products<V> {
    /// Of the lower coefficients.
    low: V,
    /// Of the sums of the halves.
    sums: V,
    /// Of the upper coefficients.
    high: V,
}

impl<V: Clmul> Products<V> {
    #[inline(always)]
    fn of_one(x: V, h: V) -> Self {
        Self { low: x.high(h), sums: sums_of_halves(x, x).low(sums_of_halves(h, h)), high: x.low(h) }
    }

    #[inline(always)]
    fn of_two(first: V, second: V, [h, i]: [V; 2], sums: V) -> Self {
        let x = sums_of_halves(first, second);
        let first = Self { low: first.high(h), sums: x.low(sums), high: first.low(h) };
        first.add(Self { low: second.high(i), sums: x.high(sums), high: second.low(i) })
    }

    #[inline(always)]
    fn of_four(x: [V; 4], powers: &[Aligned; 4], sums: [&Aligned; 2]) -> Self {
        let [h, i, j, k] = V::load4(powers);
        Self::of_two(x[0], x[1], [h, i], V::load(sums[0])).add(Self::of_two(x[2], x[3], [j, k], V::load(sums[1])))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { low: self.low.xor(other.low), sums: self.sums.xor(other.sums), high: self.high.xor(other.high) }
    }

    /// The element, halves exchanged as they all are. In each step the lowest 64 coefficients `l` go away: modulo the polynomial
    /// `l = l x^128 + l POLYNOMIAL x^64`.
    #[inline(always)]
    fn reduce(self) -> V {
        let polynomial = V::from_halves(POLYNOMIAL, 0);
        let middle = self.sums.xor(self.low).xor(self.high);
        let middle = middle.xor(self.low.swap_halves()).xor(self.low.low(polynomial));
        self.high.xor(middle.low(polynomial)).swap_halves().xor(middle)
    }
}
