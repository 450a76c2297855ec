//! ARIA (KS X 1213-1, RFC 5794): the key schedule and the portable backend.
//!
//! The portable backend enciphers 16 blocks at once as bit planes. A plane is a `u64` of four 16-bit lanes, one lane for each
//! 32-bit word of the block, one bit in a lane for each of the 16 blocks; the byte `c` of every word has eight such planes.
//! ARIA chooses its S-box by the position of the byte in its word, so each group of eight planes goes through one S-box
//! circuit without masks. The diffusion layer A factors into the same shape: with `N` = "each becomes the sum of the others",
//! `A = N over words . P . N over words . N over the bytes of a word`, where P reorders the bytes of a word by XOR of their
//! index with 3, 1, 2 and 0 in words 0 to 3. Over planes that is XORs, rotations by lanes and four masks. The lanes hold
//! the words in the order 0, 2, 1, 3, because then a block's two 64-bit halves spread into lanes by one shift.
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::block::in_passes;
use crate::error::Error;
use crate::sbox::{Byte, aria_s1, aria_s1_inv, aria_s2, aria_s2_inv, transpose};
use crate::{Block, xor_block};

mod one;

/// Blocks in one portable pass.
pub(crate) const PASS: usize = 16;
/// Round keys of the longest key: 16 rounds and the final addition.
const ROUND_KEYS: usize = 17;

/// The key-schedule constants C1, C2, C3 (RFC 5794 section 2.2).
const C: [u128; 3] =
    [0x517cc1b727220a94fe13abe8fa9a6ee0, 0x6db14acc9e21c820ff28b1d5ef5de2b0, 0xdb92371d2126e9700324977504e8c90e];

/// Round keys for one direction; the first `rounds + 1` are in use.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct RoundKeys {
    keys: [Block; ROUND_KEYS],
    rounds: usize,
}

impl RoundKeys {
    /// The keys in use, whitening key last.
    pub(crate) fn as_slice(&self) -> &[Block] {
        &self.keys[..=self.rounds]
    }
}

/// An ARIA key, expanded for both directions.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Aria {
    /// Round keys for encryption.
    pub(crate) encrypt: RoundKeys,
    /// Round keys for decryption.
    pub(crate) decrypt: RoundKeys,
}

impl Aria {
    /// Expands a key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`Error::KeyLength`] for any other length.
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(Error::KeyLength);
        }
        let encrypt = expand(key);
        let decrypt = reverse(&encrypt);
        Ok(Self { encrypt, decrypt })
    }
}

/// The key schedule of RFC 5794 section 2.2.
fn expand(key: &[u8]) -> RoundKeys {
    let first = key.len() / 8 - 2;
    let ck = |i: usize| C[(first + i) % 3].to_be_bytes();
    let mut halves = [[0; 16]; 2];
    halves.as_flattened_mut()[..key.len()].copy_from_slice(key);
    let mut w = [halves[0]; 4];
    w[1] = xor_block(&one::round::<false>(&w[0], &ck(0)), &halves[1]);
    w[2] = xor_block(&one::round::<true>(&w[1], &ck(1)), &w[0]);
    w[3] = xor_block(&one::round::<false>(&w[2], &ck(2)), &w[1]);
    let mut words = w.map(u128::from_be_bytes);
    let mut keys = [[0; 16]; ROUND_KEYS];
    for (i, round_key) in keys.iter_mut().enumerate() {
        let rotation = [19, 31, 67, 97, 109][i / 4];
        *round_key = (words[i % 4] ^ words[(i + 1) % 4].rotate_right(rotation)).to_be_bytes();
    }
    halves.zeroize();
    w.zeroize();
    words.zeroize();
    RoundKeys { keys, rounds: 8 + key.len() / 4 }
}

/// The decryption keys: the same in reverse, all but the outer two through A (RFC 5794 section 2.2).
fn reverse(encrypt: &RoundKeys) -> RoundKeys {
    let mut decrypt = encrypt.clone();
    let rounds = encrypt.rounds;
    for (i, key) in decrypt.keys[..=rounds].iter_mut().enumerate() {
        *key = encrypt.keys[rounds - i];
        if i != 0 && i != rounds {
            *key = diffuse_block(key);
        }
    }
    decrypt
}

/// The diffusion layer A on one block of bytes (RFC 5794 section 2.4.3), by the factors in the module's head.
pub(crate) fn diffuse_block(block: &Block) -> Block {
    let word = |i: usize| u32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]);
    let mut words =
        [word(0), word(1), word(2), word(3)].map(|x| x.rotate_left(8) ^ x.rotate_left(16) ^ x.rotate_left(24));
    let mix = |w: &mut [u32; 4]| {
        let sum = w[0] ^ w[1] ^ w[2] ^ w[3];
        w.iter_mut().for_each(|x| *x ^= sum);
    };
    mix(&mut words);
    words[0] = words[0].swap_bytes();
    words[1] = words[1].swap_bytes().rotate_left(16);
    words[2] = words[2].rotate_left(16);
    mix(&mut words);
    let mut out = [0; 16];
    for (bytes, word) in out.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// 16 blocks as planes: `state[c][i]` is bit `i` of the bytes `c` of all words.
type State = [Byte<u64>; 4];

/// Blocks up to which one after the other is cheaper than a pass. (Four together in one circuit, their bytes turned into planes and back every
/// round, take as long as a pass.)
const FEW: usize = 3;

/// Enciphers blocks in place with the round keys of either direction.
pub(crate) fn crypt(keys: &RoundKeys, blocks: &mut [Block]) {
    let (passes, rest) = blocks.as_chunks_mut();
    passes.iter_mut().for_each(|pass| crypt_pass(keys, pass));
    if rest.len() <= FEW {
        rest.iter_mut().for_each(|block| *block = one::crypt(keys, block));
    } else {
        in_passes(rest, |pass| crypt_pass(keys, pass));
    }
}

/// Enciphers 16 blocks in place.
fn crypt_pass(keys: &RoundKeys, blocks: &mut [Block; PASS]) {
    let (last, rest) = keys.as_slice().split_last().expect("a key has at least 13 round keys");
    let (last_round, rest) = rest.split_last().expect("a key has at least 13 round keys");
    let mut state = spread(blocks);
    for (i, key) in rest.iter().enumerate() {
        add_key(&mut state, key);
        if i % 2 == 0 {
            substitute::<false>(&mut state);
        } else {
            substitute::<true>(&mut state);
        }
        diffuse(&mut state);
    }
    add_key(&mut state, last_round);
    substitute::<true>(&mut state);
    add_key(&mut state, last);
    gather(&state, blocks);
}

/// One bit in each of the four lanes.
const LANES: u64 = 0x0001_0001_0001_0001;
/// Lanes of word 0, 2, 1 and 3.
const WORD: [u64; 4] = [0xffff, 0xffff_0000, 0xffff_0000_0000, 0xffff_0000_0000_0000];

fn add_key(state: &mut State, key: &Block) {
    for (c, planes) in state.iter_mut().enumerate() {
        let lanes = u64::from(key[c])
            | u64::from(key[8 + c]) << 16
            | u64::from(key[4 + c]) << 32
            | u64::from(key[12 + c]) << 48;
        for (i, plane) in planes.iter_mut().enumerate() {
            *plane ^= (lanes >> i & LANES) * 0xffff;
        }
    }
}

/// The substitution layer: type 1 for odd rounds, type 2 (`EVEN`) for even ones (RFC 5794 section 2.4.2).
#[inline(always)]
fn substitute<const EVEN: bool>(state: &mut State) {
    let [a, b, c, d] = *state;
    *state = if EVEN {
        [aria_s1_inv(a), aria_s2_inv(b), aria_s1(c), aria_s2(d)]
    } else {
        [aria_s1(a), aria_s2(b), aria_s1_inv(c), aria_s2_inv(d)]
    };
}

#[inline(always)]
fn diffuse(state: &mut State) {
    let mix_words = |x: u64| {
        let pairs = x ^ x.rotate_left(16);
        x ^ pairs ^ pairs.rotate_left(32)
    };
    let [a, b, c, d] = state;
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let sum = *a ^ *b ^ *c ^ *d;
        let x = [*a, *b, *c, *d].map(|plane| mix_words(plane ^ sum));
        let moved = |i: usize| x[i ^ 3] & WORD[0] | x[i ^ 2] & WORD[1] | x[i ^ 1] & WORD[2] | x[i] & WORD[3];
        [*a, *b, *c, *d] = [moved(0), moved(1), moved(2), moved(3)].map(mix_words);
    }
}

/// The bytes at offsets 0 and 4 of half a block.
const BYTES: u64 = 0x0000_00ff_0000_00ff;

/// From blocks to planes.
fn spread(blocks: &[Block; PASS]) -> State {
    let mut state = [[0; 8]; 4];
    for j in 0..8 {
        let [low_a, low_b] = halves(&blocks[j]);
        let [high_a, high_b] = halves(&blocks[j + 8]);
        for (c, planes) in state.iter_mut().enumerate() {
            let lanes = |a: u64, b: u64| a >> (8 * c) & BYTES | (b >> (8 * c) & BYTES) << 16;
            planes[j] = lanes(low_a, low_b) | lanes(high_a, high_b) << 8;
        }
    }
    state.iter_mut().for_each(transpose);
    state
}

/// From planes back to blocks.
fn gather(state: &State, blocks: &mut [Block; PASS]) {
    let mut state = *state;
    state.iter_mut().for_each(transpose);
    for j in 0..8 {
        let mut bytes = [0u64; 4];
        for (c, planes) in state.iter().enumerate() {
            let x = planes[j];
            for (half, part) in bytes.iter_mut().zip([x, x >> 16, x >> 8, x >> 24]) {
                *half |= (part & BYTES) << (8 * c);
            }
        }
        put_halves(&mut blocks[j], [bytes[0], bytes[1]]);
        put_halves(&mut blocks[j + 8], [bytes[2], bytes[3]]);
    }
}

fn halves(block: &Block) -> [u64; 2] {
    let whole = u128::from_le_bytes(*block);
    [whole as u64, (whole >> 64) as u64]
}

fn put_halves(block: &mut Block, halves: [u64; 2]) {
    *block = (u128::from(halves[0]) | u128::from(halves[1]) << 64).to_le_bytes();
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    #[test]
    fn other_key_lengths_are_refused() {
        for length in [0, 1, 15, 17, 20, 31, 33, 64] {
            assert!(matches!(Aria::new(&[0; 64][..length]), Err(Error::KeyLength)));
        }
    }

    /// A whole pass and one block.
    fn crypt_first(keys: &RoundKeys, block: Block) -> Block {
        let mut blocks = [block; PASS + 1];
        crypt(keys, &mut blocks);
        assert!(blocks.iter().all(|other| *other == blocks[0]));
        blocks[0]
    }

    proptest! {
        #[test]
        fn diffusion_of_a_block_is_the_matrix_of_the_standard(block: Block) {
            prop_assert_eq!(diffuse_block(&block), reference::aria_diffuse(block));
        }

        #[test]
        fn planes_return_the_blocks_they_came_from(blocks: [Block; PASS]) {
            let mut copy = [[0; 16]; PASS];
            gather(&spread(&blocks), &mut copy);
            prop_assert_eq!(copy, blocks);
        }

        #[test]
        fn diffusion_of_planes_is_the_matrix_of_the_standard(blocks: [Block; PASS]) {
            let mut state = spread(&blocks);
            diffuse(&mut state);
            let mut copy = blocks;
            gather(&state, &mut copy);
            prop_assert_eq!(copy, blocks.map(reference::aria_diffuse));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn is_the_slow_model_for_all_key_lengths(key: [u8; 32], block: Block, length in 2..5usize) {
            let key = &key[..8 * length];
            let aria = Aria::new(key).unwrap();
            let sealed = crypt_first(&aria.encrypt, block);
            prop_assert_eq!(sealed, reference::aria_encrypt(key, block));
            prop_assert_eq!(crypt_first(&aria.decrypt, sealed), block);
        }
    }
}
