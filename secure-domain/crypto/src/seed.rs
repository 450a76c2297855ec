//! SEED (TTAS.KO-12.0004, RFC 4269): the key schedule and the portable backend.
//!
//! The portable backend enciphers 64 blocks at once, fully bit-sliced: bit `j` of a 32-bit word of all blocks is one `u64`. The
//! S-boxes are circuits, the additions modulo 2^32 ripple through the 32 planes. Fewer blocks go in groups of 16 (`group.rs`) and one by
//! one (`one.rs`): a block takes a seventh of a pass, a group a third.
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Block;
use crate::block::in_passes;
use crate::error::Error;
use crate::sbox::{Byte, seed_s1, seed_s2, swap_bits};

mod group;
mod one;

/// Blocks in one portable pass.
pub(crate) const PASS: usize = 64;
/// Rounds of the Feistel network.
pub(crate) const ROUNDS: usize = 16;

/// The two 32-bit keys of every round, in the order of encryption.
pub(crate) type RoundKeys = [[u32; 2]; ROUNDS];

/// A SEED key, expanded.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Seed {
    /// Round keys in the order of encryption; decryption uses them backwards.
    pub(crate) keys: RoundKeys,
}

impl Seed {
    /// Expands a key of 16 bytes.
    ///
    /// # Errors
    /// [`Error::KeyLength`] for any other length.
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        let key: &Block = key.try_into().map_err(|_| Error::KeyLength)?;
        Ok(Self { keys: expand(key) })
    }

    /// The round keys of one direction, first round first.
    pub(crate) fn schedule(&self, decrypt: bool) -> impl Iterator<Item = &[u32; 2]> {
        (0..ROUNDS).map(move |i| &self.keys[if decrypt { ROUNDS - 1 - i } else { i }])
    }
}

/// The key schedule of RFC 4269 section 2.3. The inputs of all 32 G functions follow from the key by rotations, so they
/// go through G together.
fn expand(key: &Block) -> RoundKeys {
    let mut k = words(key);
    let mut inputs = [0; PASS];
    for (round, pair) in inputs.chunks_exact_mut(2).take(ROUNDS).enumerate() {
        let constant = 0x9e37_79b9_u32.rotate_left(round as u32);
        pair[0] = k[0].wrapping_add(k[2]).wrapping_sub(constant);
        pair[1] = k[1].wrapping_sub(k[3]).wrapping_add(constant);
        let (first, turn) = if round % 2 == 0 { (0, 56) } else { (2, 8) };
        let rotated = (u64::from(k[first]) << 32 | u64::from(k[first + 1])).rotate_left(turn);
        k[first] = (rotated >> 32) as u32;
        k[first + 1] = rotated as u32;
    }
    let mut planes = spread(&inputs);
    planes = g(&planes);
    gather(&planes, &mut inputs);
    let keys = core::array::from_fn(|round| [inputs[2 * round], inputs[2 * round + 1]]);
    inputs.zeroize();
    planes.zeroize();
    k.zeroize();
    keys
}

/// One 32-bit word of all blocks: `planes[j]` is bit `j`.
type Word = [u64; 32];

/// Blocks up to which groups are cheaper than a pass.
const SOME: usize = 2 * group::BLOCKS;
/// Blocks up to which one after the other is cheaper than a group.
const FEW: usize = 2;

/// Enciphers blocks in place with the keys of either direction.
pub(crate) fn crypt<'k, K: Iterator<Item = &'k [u32; 2]>>(keys: impl Fn() -> K, blocks: &mut [Block]) {
    let (passes, rest) = blocks.as_chunks_mut();
    passes.iter_mut().for_each(|pass| crypt_pass(keys(), pass));
    if rest.len() > SOME {
        return in_passes(rest, |pass| crypt_pass(keys(), pass));
    }
    let (groups, rest) = rest.as_chunks_mut();
    groups.iter_mut().for_each(|blocks| group::crypt(keys(), blocks));
    if rest.len() <= FEW {
        rest.iter_mut().for_each(|block| *block = one::crypt(keys(), block));
    } else {
        in_passes(rest, |blocks| group::crypt(keys(), blocks));
    }
}

/// Runs all 64 blocks through the cipher.
fn crypt_pass<'k>(keys: impl Iterator<Item = &'k [u32; 2]>, blocks: &mut [Block; PASS]) {
    let mut columns = [[0u32; PASS]; 4];
    for (i, block) in blocks.iter().enumerate() {
        for (column, word) in columns.iter_mut().zip(words(block)) {
            column[i] = word;
        }
    }
    let [mut l0, mut l1, mut r0, mut r1] = columns.map(|column| spread(&column));
    for key in keys {
        let [c, d] = f(&r0, &r1, *key);
        let next = [xor(&l0, &c), xor(&l1, &d)];
        (l0, l1) = (r0, r1);
        [r0, r1] = next;
    }
    for (column, planes) in columns.iter_mut().zip([r0, r1, l0, l1]) {
        gather(&planes, column);
    }
    for (i, block) in blocks.iter_mut().enumerate() {
        for (bytes, column) in block.chunks_exact_mut(4).zip(&columns) {
            bytes.copy_from_slice(&column[i].to_be_bytes());
        }
    }
}

/// The round function F (RFC 4269 section 2.1).
fn f(c: &Word, d: &Word, key: [u32; 2]) -> [Word; 2] {
    let t0 = add_key(c, key[0]);
    let t1 = g(&xor(&t0, &add_key(d, key[1])));
    let t0 = g(&add(&t0, &t1));
    let t1 = g(&add(&t1, &t0));
    [add(&t0, &t1), t1]
}

/// The function G: four S-boxes, then a sum of masked bytes (RFC 4269 section 2.2).
fn g(x: &Word) -> Word {
    const MASKS: [u8; 4] = [0xfc, 0xf3, 0xcf, 0x3f];
    let byte = |i: usize| -> Byte<u64> { core::array::from_fn(|j| x[8 * i + j]) };
    let y = [seed_s1(byte(0)), seed_s2(byte(1)), seed_s1(byte(2)), seed_s2(byte(3))];
    core::array::from_fn(|bit| {
        let (i, j) = (bit / 8, bit % 8);
        (0..4).filter(|k| MASKS[(i + k) % 4] >> j & 1 != 0).fold(0, |z, k| z ^ y[k][j])
    })
}

/// Sum modulo 2^32 in every block.
fn add(a: &Word, b: &Word) -> Word {
    let mut carry = 0;
    core::array::from_fn(|j| {
        let half = a[j] ^ b[j];
        let sum = half ^ carry;
        carry = a[j] & b[j] | half & carry;
        sum
    })
}

fn xor(a: &Word, b: &Word) -> Word {
    core::array::from_fn(|j| a[j] ^ b[j])
}

fn add_key(a: &Word, key: u32) -> Word {
    core::array::from_fn(|j| a[j] ^ u64::from(key >> j & 1).wrapping_neg())
}

/// The four big-endian words of a block.
pub(crate) fn words(block: &Block) -> [u32; 4] {
    core::array::from_fn(|i| u32::from_be_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]))
}

fn spread(column: &[u32; PASS]) -> Word {
    let mut planes = core::array::from_fn(|i| u64::from(column[i]) | u64::from(column[i + 32]) << 32);
    transpose(&mut planes);
    planes
}

fn gather(planes: &Word, column: &mut [u32; PASS]) {
    let mut rows = *planes;
    transpose(&mut rows);
    for (i, row) in rows.into_iter().enumerate() {
        column[i] = row as u32;
        column[i + 32] = (row >> 32) as u32;
    }
}

/// Transposes the two 32 by 32 bit matrices in the halves of the words.
fn transpose(words: &mut Word) {
    swap_bits::<1>(words, 0x5555_5555_5555_5555);
    swap_bits::<2>(words, 0x3333_3333_3333_3333);
    swap_bits::<4>(words, 0x0f0f_0f0f_0f0f_0f0f);
    swap_bits::<8>(words, 0x00ff_00ff_00ff_00ff);
    swap_bits::<16>(words, 0x0000_ffff_0000_ffff);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    #[test]
    fn other_key_lengths_are_refused() {
        for length in [0, 15, 17, 24, 32] {
            assert!(matches!(Seed::new(&[0; 64][..length]), Err(Error::KeyLength)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_the_slow_model_for_any_number_of_blocks(key: Block, seed: Block) {
            let blocks: [Block; PASS + FEW] = core::array::from_fn(|i| seed.map(|b| b.rotate_left(i as u32 % 8) ^ i as u8));
            let cipher = Seed::new(&key).unwrap();
            let expected = blocks.map(|block| reference::seed_encrypt(&key, block));
            for count in [1, FEW, FEW + 1, group::BLOCKS, group::BLOCKS + FEW, SOME - 1, SOME + 1, PASS, PASS + FEW] {
                let mut sealed = blocks;
                crypt(|| cipher.schedule(false), &mut sealed[..count]);
                prop_assert_eq!(&sealed[..count], &expected[..count]);
                crypt(|| cipher.schedule(true), &mut sealed[..count]);
                prop_assert_eq!(sealed, blocks);
            }
        }
    }
}
