//! GHASH, the polynomial hash of GCM (SP 800-38D section 6.4), portable and constant time.
//!
//! Carry-less products come from ordinary multiplications of operands with holes: with only every fourth bit present, the
//! carries of a column of at most 15 ones stay inside the hole. Operands are split into four such parts each, and the 16
//! products are sorted back into the four bit classes. GHASH numbers bits from the left, so a block read big-endian is the
//! reversed polynomial; the product of reversed operands is the reversed product shifted by one bit. (Thomas Pornin describes
//! both tricks for BearSSL's `ctmul64`.)
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Block;
use crate::features::CpuFeatures;
use crate::simd::{self, VectorProof};

/// The hash key.
// One key lives long and in place; boxing would need an allocator.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Key {
    /// For products made of ordinary multiplications.
    Portable(Operand),
    /// For carry-less multiplication.
    Vector(VectorProof, simd::ghash::Powers),
}

impl Key {
    /// The key `h`, the encipherment of the zero block.
    pub(crate) fn new(h: &Block, features: CpuFeatures) -> Self {
        match VectorProof::new(features) {
            Some(proof) => Self::Vector(proof, simd::ghash_powers(proof, h)),
            None => Self::Portable(Operand::new(halves(h))),
        }
    }

    /// The hash of associated data, ciphertext and their lengths (SP 800-38D section 7.1 step 5).
    pub(crate) fn digest(&self, aad: &[u8], ciphertext: &[u8]) -> Block {
        if let Self::Vector(proof, powers) = self {
            return simd::ghash_digest(*proof, powers, aad, ciphertext).0;
        }
        let mut hash = Ghash::new(self);
        hash.update_padded(aad);
        hash.update_padded(ciphertext);
        hash.update_blocks(&[(bits(aad) << 64 | bits(ciphertext)).to_be_bytes()]);
        hash.finish()
    }
}

/// A running sum under a key.
pub(crate) struct Ghash<'k> {
    key: &'k Key,
    sum: Block,
}

/// A field element in the three parts that Karatsuba's method multiplies, each also with its bits reversed, because the high
/// half of a product of 64-bit polynomials is the low half of the product of their reversals.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Operand {
    plain: [u64; 3],
    reversed: [u64; 3],
}

impl Operand {
    fn new([high, low]: [u64; 2]) -> Self {
        let plain = [low, high, low ^ high];
        Self { plain, reversed: plain.map(u64::reverse_bits) }
    }
}

impl<'k> Ghash<'k> {
    /// Starts a hash.
    pub(crate) const fn new(key: &'k Key) -> Self {
        Self { key, sum: [0; 16] }
    }

    /// Absorbs `data`, filled up with zeros to whole blocks.
    pub(crate) fn update_padded(&mut self, data: &[u8]) {
        let (blocks, rest) = data.as_chunks::<16>();
        self.update_blocks(blocks);
        if !rest.is_empty() {
            let mut block = [0; 16];
            block[..rest.len()].copy_from_slice(rest);
            self.update_blocks(&[block]);
        }
    }

    /// Absorbs whole blocks.
    pub(crate) fn update_blocks(&mut self, blocks: &[Block]) {
        match self.key {
            Key::Portable(key) => {
                let mut sum = halves(&self.sum);
                for block in blocks {
                    let [high, low] = halves(block);
                    sum = multiply(&Operand::new([sum[0] ^ high, sum[1] ^ low]), key);
                }
                self.sum = (u128::from(sum[0]) << 64 | u128::from(sum[1])).to_be_bytes();
            }
            Key::Vector(proof, powers) => simd::ghash_update(*proof, powers, &mut self.sum, blocks),
        }
    }

    /// The hash of all that was absorbed.
    pub(crate) fn finish(&self) -> Block {
        self.sum
    }
}

impl Drop for Ghash<'_> {
    fn drop(&mut self) {
        self.sum.zeroize();
    }
}

/// The length in bits.
pub(crate) fn bits(data: &[u8]) -> u128 {
    data.len() as u128 * 8
}

fn halves(block: &Block) -> [u64; 2] {
    let whole = u128::from_be_bytes(*block);
    [(whole >> 64) as u64, whole as u64]
}

/// The low 64 bits of the carry-less product.
fn multiply_low(x: u64, y: u64) -> u64 {
    const CLASS: u64 = 0x1111_1111_1111_1111;
    let x: [u64; 4] = core::array::from_fn(|i| x & CLASS << i);
    let y: [u64; 4] = core::array::from_fn(|i| y & CLASS << i);
    let mut z = 0;
    for class in 0..4 {
        let column = (0..4).fold(0, |sum, i| sum ^ x[i].wrapping_mul(y[(4 + class - i) % 4]));
        z |= column & CLASS << class;
    }
    z
}

/// The product in GF(2^128) with GHASH's bit order, halves high first.
fn multiply(a: &Operand, b: &Operand) -> [u64; 2] {
    let mut low: [u64; 3] = core::array::from_fn(|i| multiply_low(a.plain[i], b.plain[i]));
    let mut high: [u64; 3] = core::array::from_fn(|i| multiply_low(a.reversed[i], b.reversed[i]));
    low[2] ^= low[0] ^ low[1];
    high[2] ^= high[0] ^ high[1];
    let high = high.map(|z| z.reverse_bits() >> 1);
    // The 255-bit product, least significant word first, then shifted left once for the reversed bit order.
    let product = [low[0], high[0] ^ low[2], low[1] ^ high[2], high[1]];
    let mut v = [
        product[0] << 1,
        product[1] << 1 | product[0] >> 63,
        product[2] << 1 | product[1] >> 63,
        product[3] << 1 | product[2] >> 63,
    ];
    // Reduction modulo x^128 + x^7 + x^2 + x + 1, one word at a time from the low end.
    for i in 0..2 {
        let w = v[i];
        v[i + 2] ^= w ^ w >> 1 ^ w >> 2 ^ w >> 7;
        v[i + 1] ^= w << 63 ^ w << 62 ^ w << 57;
    }
    [v[3], v[2]]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    /// The multiplication as SP 800-38D section 6.3 writes it.
    fn slow(x: Block, y: Block) -> Block {
        let (x, mut v) = (u128::from_be_bytes(x), u128::from_be_bytes(y));
        let mut z = 0;
        for i in 0..128 {
            if x >> (127 - i) & 1 != 0 {
                z ^= v;
            }
            v = v >> 1 ^ if v & 1 != 0 { 0xe1 << 120 } else { 0 };
        }
        z.to_be_bytes()
    }

    proptest! {
        #[test]
        fn a_product_is_the_one_of_the_standard(h: Block, x: Block) {
            for features in [CpuFeatures::PORTABLE, CpuFeatures::detect()] {
                let key = Key::new(&h, features);
                let mut hash = Ghash::new(&key);
                hash.update_blocks(&[x]);
                prop_assert_eq!(hash.finish(), slow(x, h));
            }
        }

        #[test]
        fn both_backends_agree_on_any_number_of_blocks(h: Block, data in prop::collection::vec(any::<u8>(), 0..700)) {
            let keys = [CpuFeatures::PORTABLE, CpuFeatures::detect()].map(|features| Key::new(&h, features));
            let [mut portable, mut vector] = [Ghash::new(&keys[0]), Ghash::new(&keys[1])];
            portable.update_padded(&data);
            vector.update_padded(&data);
            prop_assert_eq!(portable.finish(), vector.finish());
            let (aad, rest) = data.split_at(data.len() / 3);
            prop_assert_eq!(keys[0].digest(aad, rest), keys[1].digest(aad, rest));
        }
    }
}
