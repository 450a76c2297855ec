//! SEED with four blocks in a register: a register holds one 32-bit word of four blocks, 16 registers hold 16 blocks.
//!
//! Both S-boxes are affine maps of the inverse in another representation of GF(2^8): an isomorphism (two nibble lookups) leads
//! into AES's field, where AESE has the S-box, and a map for each of the two (two lookups again) leads back. Registers go through G in
//! pairs, split into even bytes, which all take S1, and odd bytes, which all take S2. Putting them together again undoes ShiftRows
//! and turns the words by the four rotations that G sums.
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{Aligned, Vector, count_of, counter_blocks, each, four, sixteen, store_blocks, xor_into};
use crate::Block;
use crate::seed::{ROUNDS, Seed};

/// Blocks in one pass.
pub(crate) const PASS: usize = 16;

/// The field isomorphism from x^8+x^6+x^5+x+1 to AES's polynomial, by low and high nibble.
const PHI: [Aligned; 2] = [
    Aligned([0x00, 0x01, 0x19, 0x18, 0x5a, 0x5b, 0x43, 0x42, 0x6b, 0x6a, 0x72, 0x73, 0x31, 0x30, 0x28, 0x29]),
    Aligned([0x00, 0xf4, 0xcc, 0x38, 0x82, 0x76, 0x4e, 0xba, 0x06, 0xf2, 0xca, 0x3e, 0x84, 0x70, 0x48, 0xbc]),
];
/// From AES's S-box to S1.
const POST1: [Aligned; 2] = [
    Aligned([0xe7, 0x9b, 0x43, 0x3f, 0xfc, 0x80, 0x58, 0x24, 0x57, 0x2b, 0xf3, 0x8f, 0x4c, 0x30, 0xe8, 0x94]),
    Aligned([0x00, 0x5f, 0x69, 0x36, 0xff, 0xa0, 0x96, 0xc9, 0x8a, 0xd5, 0xe3, 0xbc, 0x75, 0x2a, 0x1c, 0x43]),
];
/// From AES's S-box to S2.
const POST2: [Aligned; 2] = [
    Aligned([0x2b, 0x27, 0x60, 0x6c, 0x6f, 0x63, 0x24, 0x28, 0xd6, 0xda, 0x9d, 0x91, 0x92, 0x9e, 0xd9, 0xd5]),
    Aligned([0x00, 0x2e, 0x2a, 0x04, 0x7e, 0x50, 0x54, 0x7a, 0x12, 0x3c, 0x38, 0x16, 0x6c, 0x42, 0x46, 0x68]),
];
/// What G leaves out of each byte: for rotation `k`, byte `i` of a word loses the bits of entry `2i + k`.
const CLEAR: [Aligned; 4] = [
    Aligned([0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30]),
    Aligned([0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0]),
    Aligned([0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03, 0x30, 0x03]),
    Aligned([0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c, 0xc0, 0x0c]),
];

/// Round keys as the kernels read them: each word four times over.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys([[Aligned; 2]; ROUNDS]);

impl Keys {
    /// Spreads the round keys of one direction.
    pub(crate) fn new(seed: &Seed, decrypt: bool) -> Self {
        let mut keys = [[Aligned([0; 16]); 2]; ROUNDS];
        for (vectors, words) in keys.iter_mut().zip(seed.schedule(decrypt)) {
            for (vector, word) in vectors.iter_mut().zip(words) {
                vector.0.as_chunks_mut::<4>().0.fill(word.to_le_bytes());
            }
        }
        Self(keys)
    }
}

/// One word of all 16 blocks.
type Words<V> = [V; 4];

#[derive(Clone, Copy)]
struct Tables<V> {
    phi: [V; 2],
    post1: [V; 2],
    post2: [V; 2],
    clear: [V; 4],
}

impl<V: Vector> Tables<V> {
    #[inline(always)]
    fn load() -> Self {
        Self {
            phi: [V::load(&PHI[0]), V::load(&PHI[1])],
            post1: [V::load(&POST1[0]), V::load(&POST1[1])],
            post2: [V::load(&POST2[0]), V::load(&POST2[1])],
            clear: [V::load(&CLEAR[0]), V::load(&CLEAR[1]), V::load(&CLEAR[2]), V::load(&CLEAR[3])],
        }
    }

    /// An S-box in every lane, lanes permuted by ShiftRows.
    #[inline(always)]
    fn substitute(self, x: V, post: [V; 2]) -> V {
        let y = self.phi[0].lookup(x.low_nibbles()).sub_shift(self.phi[1].lookup(x.high_nibbles()));
        post[0].lookup(y.low_nibbles()).xor(post[1].lookup(y.high_nibbles()))
    }

    #[inline(always)]
    fn g_pair(self, a: V, b: V) -> [V; 2] {
        let (even, odd) = a.unzip(b);
        let rotations = V::zip_shifted_rotations(self.substitute(even, self.post1), self.substitute(odd, self.post2));
        each!(0 1; |I| {
            let parts: [V; 4] = four!(|K| rotations[K][I].clear(self.clear[K]));
            parts[0].xor(parts[1]).xor(parts[2].xor(parts[3]))
        })
    }

    #[inline(always)]
    fn g(self, x: Words<V>) -> Words<V> {
        let [a, b] = self.g_pair(x[0], x[1]);
        let [c, d] = self.g_pair(x[2], x[3]);
        [a, b, c, d]
    }
}

/// The Feistel network on `[L0, L1, R0, R1]`; returns the words in output order.
#[inline(always)]
fn rounds<V: Vector>(keys: &Keys, x: [Words<V>; 4]) -> [Words<V>; 4] {
    let t = Tables::load();
    let [mut l0, mut l1, mut r0, mut r1] = x;
    for key in &keys.0 {
        let key = [V::load(&key[0]), V::load(&key[1])];
        let t0: Words<V> = four!(|I| r0[I].xor(key[0]));
        let t1 = t.g(four!(|I| t0[I].xor(r1[I]).xor(key[1])));
        let t0 = t.g(four!(|I| t0[I].add32(t1[I])));
        let t1 = t.g(four!(|I| t1[I].add32(t0[I])));
        let t0: Words<V> = four!(|I| t0[I].add32(t1[I]));
        (l0, r0) = (r0, four!(|I| l0[I].xor(t0[I])));
        (l1, r1) = (r1, four!(|I| l1[I].xor(t1[I])));
    }
    [r0, r1, l0, l1]
}

/// Enciphers 16 blocks held in registers.
#[inline(always)]
fn pass<V: Vector>(keys: &Keys, blocks: [V; 16]) -> [V; 16] {
    let groups = four!(|I| V::transpose_words(four!(|J| blocks[4 * I + J].swap_words())));
    let y = rounds(keys, four!(|J| four!(|I| groups[I][J])));
    let groups = four!(|I| V::transpose_words(four!(|J| y[J][I])));
    sixteen!(|I| groups[I / 4][I % 4].swap_words())
}

/// Enciphers blocks in place.
#[inline(always)]
pub(super) fn crypt<V: Vector>(keys: &Keys, blocks: &mut [Block]) {
    crate::block::in_passes(blocks, |blocks: &mut [Block; PASS]| store_blocks(pass(keys, V::load16(blocks)), blocks));
}

/// XORs key stream into whole passes of 256 bytes; `counter` is the first block and its last word counts on.
#[inline(always)]
pub(super) fn ctr<V: Vector>(keys: &Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>) {
    let prefix = V::load(&Aligned(*counter));
    let mut value = count_of(counter);
    for chunk in data {
        xor_into(pass(keys, counter_blocks(prefix, value)), chunk);
        value = value.wrapping_add(PASS as u32);
    }
}
