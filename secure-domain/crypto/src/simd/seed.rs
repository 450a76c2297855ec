//! SEED with four blocks in a register: a register holds one 32-bit word of four blocks, eight registers hold eight blocks.
//!
//! Both S-boxes are affine maps of the inverse in another representation of GF(2^8): an isomorphism (two nibble lookups) leads
//! into AES's field, where AESE has the S-box, and a map for each of the two (two lookups again) leads back. Registers go through G in
//! pairs, split into even bytes, which all take S1, and odd bytes, which all take S2. What G sums of them is made in that
//! form too; putting the bytes together again undoes ShiftRows.
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{
    Aligned, SECTOR_BLOCKS, SectorRows, Vector, chain_blocks, count_of, counter_blocks, each, filled_up, four, sixteen,
    store_blocks, xor_into,
};
use crate::Block;
use crate::aead::Sector;
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
/// Where the neighbour (lane index with bit 0 flipped) of every lane is, when ShiftRows has permuted them all.
const NEIGHBOURS: Aligned = {
    let mut index = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        let neighbour = ((lane + 4 * (lane % 4)) % 16) ^ 1;
        index[lane] = ((neighbour + 16 - 4 * (neighbour % 4)) % 16) as u8;
        lane += 1;
    }
    Aligned(index)
};

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

/// One word of eight blocks.
type Pair<V> = [V; 2];

#[derive(Clone, Copy)]
struct Tables<V> {
    phi: [V; 2],
    post1: [V; 2],
    post2: [V; 2],
    neighbours: V,
}

impl<V: Vector> Tables<V> {
    #[inline(always)]
    fn load() -> Self {
        Self {
            phi: [V::load(&PHI[0]), V::load(&PHI[1])],
            post1: [V::load(&POST1[0]), V::load(&POST1[1])],
            post2: [V::load(&POST2[0]), V::load(&POST2[1])],
            neighbours: V::load(&NEIGHBOURS),
        }
    }

    /// An S-box in every lane, lanes permuted by ShiftRows.
    #[inline(always)]
    fn substitute(self, x: V, post: [V; 2]) -> V {
        let y = self.phi[0].lookup(x.low_nibbles()).sub_shift(self.phi[1].lookup(x.high_nibbles()));
        post[0].lookup(y.low_nibbles()).xor(post[1].lookup(y.high_nibbles()))
    }

    /// The function G (RFC 4269 section 2.2). Byte `i` of its sum takes bits `2b` and `2b + 1` from three of the four bytes: from all but
    /// byte `b - i`. So it is the sum of all four, the same for every `i`, plus a byte put together from what is left out; and
    /// that needs one exchange between neighbours for the two bytes with even `i`, and one for those with odd `i`.
    #[inline(always)]
    fn g(self, x: Pair<V>) -> Pair<V> {
        let (even, odd) = x[0].unzip(x[1]);
        let (even, odd) = (self.substitute(even, self.post1), self.substitute(odd, self.post2));
        let pairs = even.xor(odd);
        let sum = pairs.xor(pairs.lookup(self.neighbours));
        let (a, b) = (V::splat(0xcc).select(odd, even), V::splat(0xcc).select(even, odd));
        let left_out_even = V::splat(0xf0).select(a.lookup(self.neighbours), a);
        let left_out_odd = V::splat(0x3c).select(b, b.lookup(self.neighbours));
        V::zip_shifted(sum.xor(left_out_even), sum.xor(left_out_odd))
    }
}

#[inline(always)]
fn xor<V: Vector>(a: Pair<V>, b: Pair<V>) -> Pair<V> {
    each!(0 1; |I| a[I].xor(b[I]))
}

#[inline(always)]
fn add<V: Vector>(a: Pair<V>, b: Pair<V>) -> Pair<V> {
    each!(0 1; |I| a[I].add32(b[I]))
}

/// Makes the Feistel network over a number of pairs side by side. Each pair is one long chain of dependent instructions; two of them fill
/// the waits of each other, one alone suits a few blocks.
macro_rules! network {
    ($name:ident, $pairs:literal: $($n:literal)*) => {
        mod $name {
            use super::*;

            /// The round function F on words C and D (RFC 4269 section 2.1).
            #[inline(always)]
            fn f<V: Vector>(t: Tables<V>, c: [Pair<V>; $pairs], d: [Pair<V>; $pairs], key: &[Aligned; 2]) -> [[Pair<V>; $pairs]; 2] {
                let key = [[V::load(&key[0]); 2], [V::load(&key[1]); 2]];
                let t0 = each!($($n)*; |I| xor(c[I], key[0]));
                let t1 = each!($($n)*; |I| t.g(xor(t0[I], xor(d[I], key[1]))));
                let t0 = each!($($n)*; |I| t.g(add(t0[I], t1[I])));
                let t1 = each!($($n)*; |I| t.g(add(t1[I], t0[I])));
                [each!($($n)*; |I| add(t0[I], t1[I])), t1]
            }

            /// The network on words L0, L1, R0, R1; returns them in output order.
            #[inline(always)]
            pub(super) fn rounds<V: Vector>(keys: &Keys, x: [[Pair<V>; $pairs]; 4]) -> [[Pair<V>; $pairs]; 4] {
                let t = Tables::load();
                let [mut l0, mut l1, mut r0, mut r1] = x;
                // Two rounds a turn, so that the halves need not change places.
                for [first, second] in keys.0.as_chunks::<2>().0 {
                    let [c, d] = f(t, r0, r1, first);
                    l0 = each!($($n)*; |I| xor(l0[I], c[I]));
                    l1 = each!($($n)*; |I| xor(l1[I], d[I]));
                    let [c, d] = f(t, l0, l1, second);
                    r0 = each!($($n)*; |I| xor(r0[I], c[I]));
                    r1 = each!($($n)*; |I| xor(r1[I], d[I]));
                }
                [r0, r1, l0, l1]
            }
        }
    };
}

network!(one_pair, 1: 0);
network!(two_pairs, 2: 0 1);

/// The words of four blocks, one word to a register.
#[inline(always)]
fn words_of<V: Vector>(blocks: [V; 4]) -> [V; 4] {
    V::transpose_words(four!(|J| blocks[J].swap_words()))
}

/// The inverse of [`words_of`].
#[inline(always)]
fn blocks_of<V: Vector>(words: [V; 4]) -> [V; 4] {
    let blocks = V::transpose_words(words);
    four!(|J| blocks[J].swap_words())
}

/// Enciphers eight blocks held in registers.
#[inline(always)]
fn eight<V: Vector>(keys: &Keys, blocks: [V; 8]) -> [V; 8] {
    let groups = each!(0 1; |I| words_of(four!(|J| blocks[4 * I + J])));
    let y = one_pair::rounds(keys, four!(|J| [[groups[0][J], groups[1][J]]]));
    let groups = each!(0 1; |I| blocks_of(four!(|J| y[J][0][I])));
    each!(0 1 2 3 4 5 6 7; |I| groups[I / 4][I % 4])
}

/// Enciphers 16 blocks held in registers.
#[inline(always)]
fn pass<V: Vector>(keys: &Keys, blocks: [V; 16]) -> [V; 16] {
    let groups = four!(|I| words_of(four!(|J| blocks[4 * I + J])));
    let y = two_pairs::rounds(keys, four!(|J| each!(0 1; |P| each!(0 1; |I| groups[2 * P + I][J]))));
    let groups = four!(|I| blocks_of(four!(|J| y[J][I / 2][I % 2])));
    sixteen!(|I| groups[I / 4][I % 4])
}

/// Where in a block the bytes of each of its words are, least significant first, four times over.
const WORDS: [Aligned; 4] = [word_index(0), word_index(4), word_index(8), word_index(12)];

const fn word_index(first: u8) -> Aligned {
    let mut index = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        index[lane] = first + 3 - lane as u8 % 4;
        lane += 1;
    }
    Aligned(index)
}

/// Byte `k` of a word in all of lane `k` of four.
const BYTES: Aligned = Aligned([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
/// What byte `i` of G's sum takes of byte `k`, in lane `4 k + i` (RFC 4269 section 2.2).
const TAKEN: Aligned = {
    const MASKS: [u8; 4] = [0xfc, 0xf3, 0xcf, 0x3f];
    let mut taken = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        taken[lane] = MASKS[(lane % 4 + lane / 4) % 4];
        lane += 1;
    }
    Aligned(taken)
};
/// Ones in the even, and in the first two words.
const EVEN_WORDS: Aligned = Aligned([!0, !0, !0, !0, 0, 0, 0, 0, !0, !0, !0, !0, 0, 0, 0, 0]);
const FIRST_WORDS: Aligned = Aligned([!0, !0, !0, !0, !0, !0, !0, !0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// The function G on one word, which every 32-bit lane holds. ShiftRows does nothing to such a register. Each of the 16 pairs of a byte
/// that goes in and a byte that comes out has its lane.
#[inline(always)]
fn g_one<V: Vector>(t: Tables<V>, x: V) -> V {
    let y = t.phi[0].lookup(x.low_nibbles()).sub_shift(t.phi[1].lookup(x.high_nibbles()));
    let y = y.lookup(V::load(&BYTES));
    let low = V::lookup_by_word([t.post1[0], t.post2[0]], y.low_nibbles());
    let high = V::lookup_by_word([t.post1[1], t.post2[1]], y.high_nibbles());
    V::load(&TAKEN).select(low.xor(high), V::splat(0)).sum_words()
}

/// Enciphers one block held in a register.
#[inline(always)]
fn crypt_one<V: Vector>(keys: &Keys, block: V) -> V {
    let t = Tables::load();
    let [mut l0, mut l1, mut r0, mut r1] = four!(|I| block.lookup(V::load(&WORDS[I])));
    for key in &keys.0 {
        let t0 = r0.xor(V::load(&key[0]));
        let t1 = g_one(t, t0.xor(r1.xor(V::load(&key[1]))));
        let t0 = g_one(t, t0.add32(t1));
        let t1 = g_one(t, t1.add32(t0));
        (l0, l1, r0, r1) = (r0, r1, l0.xor(t0.add32(t1)), l1.xor(t1));
    }
    let even = V::load(&EVEN_WORDS);
    V::load(&FIRST_WORDS).select(even.select(r0, r1), even.select(l0, l1)).swap_words()
}

/// Runs one CBC-MAC chain.
#[inline(always)]
pub(super) fn chain_one<V: Vector>(keys: &Keys, state: &mut Block, blocks: &[Block]) {
    let mut x = V::load_block(state);
    for block in blocks {
        x = crypt_one(keys, x.xor(V::load_block(block)));
    }
    x.store_block(state);
}

/// Enciphers blocks in place: one in a register, up to eight in half a pass, more in passes.
#[inline(always)]
pub(super) fn crypt<V: Vector>(keys: &Keys, blocks: &mut [Block]) {
    let (passes, rest) = blocks.as_chunks_mut::<PASS>();
    for blocks in passes {
        crypt_pass::<V>(keys, blocks);
    }
    match rest {
        [] => {}
        [block] => crypt_one(keys, V::load_block(block)).store_block(block),
        rest if rest.len() <= HALF => filled_up!(rest, HALF, |half| crypt_half::<V>(keys, half)),
        rest => filled_up!(rest, PASS, |blocks| crypt_pass::<V>(keys, blocks)),
    }
}

/// Blocks in half a pass.
const HALF: usize = 8;

#[inline(always)]
fn crypt_pass<V: Vector>(keys: &Keys, blocks: &mut [Block; PASS]) {
    store_blocks(pass(keys, V::load16(blocks)), blocks);
}

#[inline(always)]
fn crypt_half<V: Vector>(keys: &Keys, blocks: &mut [Block; HALF]) {
    let x = eight(keys, each!(0 1 2 3 4 5 6 7; |I| V::load_block(&blocks[I])));
    let (fours, _) = blocks.as_chunks_mut::<4>();
    let _: [(); 2] = each!(0 1; |I| V::store4([x[4 * I], x[4 * I + 1], x[4 * I + 2], x[4 * I + 3]], &mut fours[I]));
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

/// Runs the CBC-MAC chains of 16 sectors.
#[inline(always)]
pub(super) fn chain<V: Vector>(
    keys: &Keys,
    sectors: &[Sector; 16],
    copy: Option<&mut [Sector; 16]>,
    chains: &mut [Block; 16],
) {
    chain_blocks!(sectors, copy, chains, |x| pass(keys, x));
}
