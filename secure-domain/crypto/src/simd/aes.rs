//! AES (FIPS 197) by its instructions, for machines where the `aes` crate cannot find them itself.
use core::mem::offset_of;

use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{
    Aligned, SECTOR_BLOCKS, SectorRows, Vector, chain_blocks, count_of, counter_blocks, each, sixteen, store_blocks,
    xor_into,
};
use crate::Block;
use crate::aead::Sector;
use crate::sbox::aria_s1;

/// Blocks in one pass.
pub(crate) const PASS: usize = 16;
/// Round keys of AES-256.
const ROUND_KEYS: usize = 15;

/// Round keys of one direction.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[repr(C)]
pub(crate) struct Keys {
    keys: [Aligned; ROUND_KEYS],
    rounds: usize,
}

impl Keys {
    /// Where the number of rounds is, in bytes.
    pub(crate) const ROUNDS_AT: usize = offset_of!(Self, rounds);

    /// The keys in use.
    pub(super) fn as_slice(&self) -> &[Aligned] {
        &self.keys[..=self.rounds]
    }

    /// Expands a key of 16, 24 or 32 bytes (FIPS 197 section 5.2).
    pub(crate) fn new(key: &[u8]) -> Self {
        let given = key.len() / 4;
        let rounds = given + 6;
        let mut words = [[0u8; 4]; 4 * ROUND_KEYS];
        words.as_flattened_mut()[..key.len()].copy_from_slice(key);
        let mut constant = 1u8;
        for i in given..4 * (rounds + 1) {
            let mut word = words[i - 1];
            if i % given == 0 {
                word.rotate_left(1);
                word = substitute(word);
                word[0] ^= constant;
                constant = constant << 1 ^ 0x1b & (constant >> 7).wrapping_neg();
            } else if given == 8 && i % given == 4 {
                word = substitute(word);
            }
            words[i] = core::array::from_fn(|j| words[i - given][j] ^ word[j]);
        }
        let mut keys = [Aligned([0; 16]); ROUND_KEYS];
        for (key, words) in keys.iter_mut().zip(words.as_chunks::<4>().0) {
            key.0.copy_from_slice(words.as_flattened());
        }
        words.zeroize();
        Self { keys, rounds }
    }
}

/// The S-box on four bytes, as a circuit, so that no byte of the key indexes memory.
fn substitute(word: [u8; 4]) -> [u8; 4] {
    let planes = core::array::from_fn(|bit| (0..4).fold(0u8, |plane, i| plane | (word[i] >> bit & 1) << i));
    let out = aria_s1(planes);
    core::array::from_fn(|i| out.iter().enumerate().fold(0, |byte, (bit, plane)| byte | (plane >> i & 1) << bit))
}

/// The keys of the equivalent inverse cipher (FIPS 197 section 5.3.5).
#[inline(always)]
pub(super) fn reverse<V: Vector>(keys: &Keys) -> Keys {
    let mut reversed = keys.clone();
    for i in 0..=keys.rounds {
        let key = keys.keys[keys.rounds - i];
        let inner = i != 0 && i != keys.rounds;
        reversed.keys[i] = if inner { Aligned(V::load(&key).inv_mix_columns().to_block()) } else { key };
    }
    reversed
}

/// The rounds on blocks held in registers, which a machine may have its own code for.
pub(super) trait Rounds: Vector {
    /// Runs all rounds, or those of the inverse with the keys that [`reverse`] made.
    #[inline(always)]
    fn rounds<const INVERSE: bool, const N: usize>(keys: &Keys, mut x: [Self; N]) -> [Self; N] {
        let (last, inner) = keys.as_slice().split_last().expect("a key has at least 11 round keys");
        let (before, inner) = inner.split_last().expect("a key has at least 11 round keys");
        for key in inner {
            let key = Self::load(key);
            let mut i = 0;
            while i < N {
                x[i] = if INVERSE { x[i].aes_inv_round(key) } else { x[i].aes_round(key) };
                i += 1;
            }
        }
        let (before, last) = (Self::load(before), Self::load(last));
        let mut i = 0;
        while i < N {
            x[i] = if INVERSE { x[i].inv_sub_shift(before) } else { x[i].sub_shift(before) }.xor(last);
            i += 1;
        }
        x
    }
}

#[inline(always)]
pub(super) fn crypt<V: Rounds, const INVERSE: bool>(keys: &Keys, blocks: &mut [Block]) {
    let (passes, rest) = blocks.as_chunks_mut::<PASS>();
    for pass in passes {
        store_blocks(V::rounds::<INVERSE, PASS>(keys, V::load16(pass)), pass);
    }
    for block in rest {
        let [x] = V::rounds::<INVERSE, 1>(keys, [V::load_block(block)]);
        x.store_block(block);
    }
}

/// Enciphers blocks in place.
#[inline(always)]
pub(super) fn encrypt<V: Rounds>(keys: &Keys, blocks: &mut [Block]) {
    crypt::<V, false>(keys, blocks);
}

/// Deciphers blocks in place with the keys that [`reverse`] made.
#[inline(always)]
pub(super) fn decrypt<V: Rounds>(keys: &Keys, blocks: &mut [Block]) {
    crypt::<V, true>(keys, blocks);
}

/// XORs key stream into whole passes of 256 bytes; `counter` is the first block and its last word counts on.
#[inline(always)]
pub(super) fn ctr<V: Rounds>(keys: &Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>) {
    let prefix = V::load(&Aligned(*counter));
    let mut value = count_of(counter);
    for pass in data {
        xor_into(V::rounds::<false, PASS>(keys, counter_blocks(prefix, value)), pass);
        value = value.wrapping_add(PASS as u32);
    }
}

/// Runs the CBC-MAC chains of 16 sectors.
#[inline(always)]
pub(super) fn chain<V: Rounds>(
    keys: &Keys,
    sectors: &[Sector; 16],
    copy: Option<&mut [Sector; 16]>,
    chains: &mut [Block; 16],
) {
    chain_blocks!(sectors, copy, chains, |x| V::rounds::<false, PASS>(keys, x));
}

/// Runs one CBC-MAC chain.
#[inline(always)]
pub(super) fn chain_one<V: Rounds>(keys: &Keys, state: &mut Block, blocks: &[Block]) {
    let mut x = V::load_block(state);
    for block in blocks {
        [x] = V::rounds::<false, 1>(keys, [x.xor(V::load_block(block))]);
    }
    x.store_block(state);
}
