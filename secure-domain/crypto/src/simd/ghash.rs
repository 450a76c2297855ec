//! GHASH by carry-less multiplication, eight blocks to a reduction.
//!
//! GHASH numbers bits from the left. RFC 8452 appendix A turns it into POLYVAL, which numbers them from the right: reverse the bytes of
//! every block and multiply the hash key by x once. The reduction then takes two products by the constant below.
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{Aligned, Clmul, each, four};
use crate::Block;

/// Blocks to a reduction.
const STRIDE: usize = 8;
/// x^63 + x^62 + x^57: POLYVAL's polynomial x^128 + x^127 + x^126 + x^121 + 1 above its constant, shifted down by 64.
const POLYNOMIAL: u64 = 0xc200_0000_0000_0000;

/// The powers of the hash key, the eighth first, as POLYVAL elements.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Powers([Aligned; STRIDE]);

/// The hash key as POLYVAL wants it: times x, without a branch.
fn times_x(h: &Block) -> Block {
    let h = u128::from_be_bytes(*h);
    let overflow = (h >> 127).wrapping_neg();
    (h << 1 ^ overflow & (u128::from(POLYNOMIAL) << 64 | 1)).to_be_bytes()
}

/// Computes the powers of `h`.
#[inline(always)]
pub(super) fn powers<V: Clmul>(h: &Block) -> Powers {
    let h = V::load(&Aligned(times_x(h))).reverse();
    let mut powers = Powers([Aligned([0; 16]); STRIDE]);
    let mut power = h;
    for slot in powers.0.iter_mut().rev() {
        power.store(slot);
        power = reduce([Products::of(power, h)]);
    }
    powers
}

/// Absorbs whole blocks into `sum`.
#[inline(always)]
pub(super) fn update<V: Clmul>(powers: &Powers, sum: &mut Block, blocks: &[Block]) {
    let mut aligned = Aligned(*sum);
    let mut y = V::load(&aligned).reverse();
    let (fours, rest) = blocks.as_chunks::<4>();
    let (strides, four) = fours.as_chunks::<2>();
    for [first, second] in strides {
        let [first, second] = [V::load4_reversed(first), V::load4_reversed(second)];
        y = reduce(each!(0 1 2 3 4 5 6 7; |I| {
            let x = if I < 4 { first[I % 4] } else { second[I % 4] };
            Products::of(if I == 0 { x.xor(y) } else { x }, V::load(&powers.0[I]))
        }));
    }
    for four in four {
        let x = V::load4_reversed(four);
        y = reduce(four!(|I| Products::of(if I == 0 { x[I].xor(y) } else { x[I] }, V::load(&powers.0[4 + I]))));
    }
    for block in rest {
        let x = V::load(&Aligned(*block)).reverse();
        y = reduce([Products::of(y.xor(x), V::load(&powers.0[STRIDE - 1]))]);
    }
    y.reverse().store(&mut aligned);
    *sum = aligned.0;
}

/// A product of two elements before its parts are put together.
#[derive(Clone, Copy)]
struct Products<V> {
    low: V,
    middle: V,
    high: V,
}

impl<V: Clmul> Products<V> {
    #[inline(always)]
    fn of(x: V, h: V) -> Self {
        let swapped = x.swap_halves();
        Self { low: x.low(h), middle: swapped.low(h).xor(swapped.high(h)), high: x.high(h) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { low: self.low.xor(other.low), middle: self.middle.xor(other.middle), high: self.high.xor(other.high) }
    }
}

/// Sums products and reduces them.
#[inline(always)]
fn reduce<V: Clmul, const N: usize>(products: [Products<V>; N]) -> V {
    let mut sum = products[0];
    for product in &products[1..] {
        sum = sum.add(*product);
    }
    let polynomial = V::from_low(POLYNOMIAL);
    let low = sum.low.xor(sum.middle.shift_up());
    let high = sum.high.xor(sum.middle.shift_down());
    let folded = low.swap_halves().xor(low.low(polynomial));
    let folded = folded.swap_halves().xor(folded.low(polynomial));
    high.xor(folded)
}
