//! ARIA in byte slices: register `i` holds byte `i` of 16 blocks, so the diffusion layer is sums of whole registers and needs no
//! shuffles.
//!
//! The S-boxes come from the AES instructions. S1 and its inverse *are* AES's pair; S2 is an affine map after S1 (two nibble
//! lookups); S2's inverse is AES's inverse after an affine map. The instructions add a key before the S-box, so key addition is free:
//! registers of the first three kinds carry the key byte in every lane, and those of S2's inverse carry a lookup table with the
//! mapped key byte already added.
//!
//! The instructions also permute the lanes (ShiftRows for S1 and S2, its inverse for the other two). All registers must agree before
//! the diffusion, so after every substitution the registers of bytes 2 and 3 of each word turn by ShiftRows twice: in odd rounds they
//! went through the inverse and then agree with ShiftRows, in even rounds the other way round. After two rounds the lanes are back.
//!
//! One more sum is saved in four registers of every round. The instruction sums two operands before the S-box; if the key there were zero,
//! the second could be the last summand of the diffusion. It is made zero: a constant in the low-nibble table of S2 costs nothing, and
//! the constants of a round's four S2 can be chosen so that the diffusion spreads exactly the next round's key to four
//! places, the "free" ones; the keys of the other places are corrected for what else arrives there.
//!
//! What a round costs in instructions, for 16 blocks: S1 and its inverse 1 each and S2 6, its inverse 5 (two nibbles cut out, two lookups, sums),
//! four of each: 52. Turning eight registers: 8. The diffusion: 48 sums less 4. 16 vectors of keys and tables, four to a load: 4. That is 108, or
//! 0.42 a byte, and the ARMv8 code for the inner rounds has exactly these (`aria_even.s`). Fewer turns would take more sums: with the
//! lanes left apart, the best two rounds that were found need 12 turns instead of 16 (by the ranks of the parts of A), but the
//! diffusion then falls into parts that share almost nothing.
//!
//! Counter blocks save most of the first two rounds ([`Run`]). A pass of ARIA-256 takes about 1,650 instructions then: 13 inner rounds and their
//! loop 1,416, the first two rounds 60, the last substitution 68, half a transposition 32, keys and data 40.
use core::mem::offset_of;

use cipher::Array;
use cipher::consts::U256;
use cipher::inout::{InOut, InOutBuf};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{
    Aligned, SECTOR_BLOCKS, SectorRows, Vector, count_of, counter_blocks, each, filled_up, four, sixteen, store_blocks,
};
use crate::aead::Sector;
use crate::aria::{RoundKeys, diffuse_block};
use crate::{Block, xor_block};

/// Blocks in one pass.
pub(crate) const PASS: usize = 16;

/// The affine map from AES's S-box to S2, by low and high nibble.
pub(super) const POST: [Aligned; 2] = [
    Aligned([0x88, 0x0d, 0x37, 0xb2, 0x00, 0x85, 0xbf, 0x3a, 0xa8, 0x2d, 0x17, 0x92, 0x20, 0xa5, 0x9f, 0x1a]),
    Aligned([0x00, 0x3e, 0xd4, 0xea, 0x84, 0xba, 0x50, 0x6e, 0xcd, 0xf3, 0x19, 0x27, 0x49, 0x77, 0x9d, 0xa3]),
];
/// The linear part of the map before AES's inverse S-box that makes it S2's inverse, by low and high nibble.
pub(super) const PRE: [Aligned; 2] = [
    Aligned([0x00, 0x41, 0xea, 0xab, 0x13, 0x52, 0xf9, 0xb8, 0x57, 0x16, 0xbd, 0xfc, 0x44, 0x05, 0xae, 0xef]),
    Aligned([0x00, 0xb6, 0x08, 0xbe, 0xd6, 0x60, 0xde, 0x68, 0x53, 0xe5, 0x5b, 0xed, 0x85, 0x33, 0x8d, 0x3b]),
];
/// The constant part of it.
const PRE_CONSTANT: u8 = 0x04;

/// The free places of odd rounds (with S1, S1, its inverse, its inverse) and of even rounds (its inverse, S1, its inverse, its inverse).
const FREE: [[usize; 4]; 2] = [[0, 4, 6, 10], [0, 2, 4, 8]];

/// Round keys as the kernels read them.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[repr(C)]
pub(crate) struct Keys {
    /// The first round's keys in its free places, which no round before it prepared.
    first: [Aligned; 4],
    /// For each round, in the order of the places, what each takes that is not free: its key, and S2 then its table.
    rounds: [[Aligned; 16]; 16],
    /// Each key as a block.
    whole: [Aligned; 17],
    /// The last key as LD4 would deal it out, four times over.
    last: [Aligned; 4],
    count: usize,
}

impl Keys {
    /// Where the number of rounds is, in bytes.
    pub(crate) const ROUNDS_AT: usize = offset_of!(Self, count);

    /// Spreads round keys of either direction.
    pub(crate) fn new(keys: &RoundKeys) -> Self {
        let keys = keys.as_slice();
        let count = keys.len() - 1;
        let none = Aligned([0; 16]);
        let mut spread =
            Self { first: [none; 4], rounds: [[none; 16]; 16], whole: [none; 17], last: dealt(&keys[count]), count };
        spread.whole.iter_mut().zip(keys).for_each(|(whole, key)| whole.0 = *key);
        spread.first = FREE[0].map(|i| Aligned([keys[0][i]; 16]));
        let mut arrived = [0; 16];
        for round in 0..count {
            let mut key = xor_block(&keys[round], &arrived);
            let mut constants = if round + 1 < count { constants(round, &keys[round + 1]) } else { [0; 16] };
            spread.rounds[round] = spread_round(round, &key, &constants);
            arrived = diffuse_block(&constants);
            key.zeroize();
            constants.zeroize();
        }
        arrived.zeroize();
        spread
    }
}

impl Keys {
    /// The inner rounds from `round` (counted from 0, odd) on in pairs.
    #[inline(always)]
    fn pairs_from(&self, round: usize) -> &[[[Aligned; 16]; 2]] {
        self.rounds[round..self.count - 1].as_chunks().0
    }
}

/// The constants for the S2 of a round (counted from 0) that bring the next round's `key` to its free places. They solve the four rows
/// of A (RFC 5794 section 2.4.3) for those places.
fn constants(round: usize, key: &Block) -> Block {
    let mut c = [0; 16];
    if round.is_multiple_of(2) {
        c[1] = key[2];
        c[5] = key[4];
        c[13] = key[8] ^ c[1];
        c[9] = key[0] ^ c[13];
    } else {
        c[3] = key[0];
        c[7] = key[6];
        c[15] = key[10] ^ c[3];
        c[11] = key[4] ^ c[15];
    }
    c
}

/// The vectors of one round.
fn spread_round(round: usize, key: &Block, constants: &Block) -> [Aligned; 16] {
    let mut vectors = [Aligned([0; 16]); 16];
    let mut next = vectors.iter_mut();
    let mut put = |vector| *next.next().expect("twelve keys and four tables are 16") = vector;
    for i in 0..16 {
        match (i + 2 * round) % 4 {
            _ if FREE[round % 2].contains(&i) => {}
            3 => put(pre_table(key[i])),
            _ => put(Aligned([key[i]; 16])),
        }
        if (i + 2 * round) % 4 == 1 {
            put(Aligned(POST[0].0.map(|entry| entry ^ constants[i])));
        }
    }
    vectors
}

/// The low-nibble table of S2's inverse with a key byte added. The map is linear, so no byte indexes memory.
fn pre_table(key: u8) -> Aligned {
    let column = |i: usize| if i < 4 { PRE[0].0[1 << i] } else { PRE[1].0[1 << (i - 4)] };
    let mapped = (0..8).fold(PRE_CONSTANT, |sum, i| sum ^ column(i) & (key >> i & 1).wrapping_neg());
    Aligned(PRE[0].0.map(|entry| entry ^ mapped))
}

/// The lookup tables in registers.
#[derive(Clone, Copy)]
struct Tables<V> {
    post_high: V,
    pre_high: V,
}

impl<V: Vector> Tables<V> {
    #[inline(always)]
    fn load() -> Self {
        Self { post_high: V::load(&POST[1]), pre_high: V::load(&PRE[1]) }
    }

    #[inline(always)]
    fn s2(self, x: V, key: V, post_low: V) -> V {
        let y = x.sub_shift(key);
        post_low.lookup(y.low_nibbles()).xor(self.post_high.lookup(y.high_nibbles()))
    }

    #[inline(always)]
    fn s2_inv(self, x: V, key_table: V) -> V {
        key_table.lookup(x.low_nibbles()).inv_sub_shift(self.pre_high.lookup(x.high_nibbles()))
    }
}

/// A state before a substitution layer; the free places are sums of two that the S-box instruction adds up.
pub(super) struct Summands<V> {
    pub(super) x: [V; 16],
    pub(super) free: [V; 4],
}

/// The substitution layer of odd rounds.
#[inline(always)]
fn substitute_odd<V: Vector>(t: Tables<V>, s: Summands<V>, keys: &[Aligned; 16]) -> [V; 16] {
    let (x, free) = (s.x, s.free);
    let [a, b, c, d] = load_round(keys);
    [
        x[0].sub_shift(free[0]),
        t.s2(x[1], a[0], a[1]),
        x[2].inv_sub_shift(a[2]).shift_twice(),
        t.s2_inv(x[3], a[3]).shift_twice(),
        x[4].sub_shift(free[1]),
        t.s2(x[5], b[0], b[1]),
        x[6].inv_sub_shift(free[2]).shift_twice(),
        t.s2_inv(x[7], b[2]).shift_twice(),
        x[8].sub_shift(b[3]),
        t.s2(x[9], c[0], c[1]),
        x[10].inv_sub_shift(free[3]).shift_twice(),
        t.s2_inv(x[11], c[2]).shift_twice(),
        x[12].sub_shift(c[3]),
        t.s2(x[13], d[0], d[1]),
        x[14].inv_sub_shift(d[2]).shift_twice(),
        t.s2_inv(x[15], d[3]).shift_twice(),
    ]
}

/// The substitution layer of even rounds.
#[inline(always)]
fn substitute_even<V: Vector>(t: Tables<V>, s: Summands<V>, keys: &[Aligned; 16]) -> [V; 16] {
    let (x, free) = (s.x, s.free);
    let [a, b, c, d] = load_round(keys);
    [
        x[0].inv_sub_shift(free[0]),
        t.s2_inv(x[1], a[0]),
        x[2].sub_shift(free[1]).shift_twice(),
        t.s2(x[3], a[1], a[2]).shift_twice(),
        x[4].inv_sub_shift(free[2]),
        t.s2_inv(x[5], a[3]),
        x[6].sub_shift(b[0]).shift_twice(),
        t.s2(x[7], b[1], b[2]).shift_twice(),
        x[8].inv_sub_shift(free[3]),
        t.s2_inv(x[9], b[3]),
        x[10].sub_shift(c[0]).shift_twice(),
        t.s2(x[11], c[1], c[2]).shift_twice(),
        x[12].inv_sub_shift(c[3]),
        t.s2_inv(x[13], d[0]),
        x[14].sub_shift(d[1]).shift_twice(),
        t.s2(x[15], d[2], d[3]).shift_twice(),
    ]
}

/// The vectors of a round, four to a load.
#[inline(always)]
fn load_round<V: Vector>(keys: &[Aligned; 16]) -> [[V; 4]; 4] {
    let (fours, _) = keys.as_chunks::<4>();
    four!(|I| V::load4(&fours[I]))
}

/// The state before the first round.
#[inline(always)]
fn first_summands<V: Vector>(keys: &Keys, x: [V; 16]) -> Summands<V> {
    Summands { x, free: four!(|I| V::load(&keys.first[I])) }
}

/// All rounds but the last addition.
#[inline(always)]
fn rounds<V: Rounds>(keys: &Keys, x: [V; 16]) -> [V; 16] {
    let first = substitute_odd(Tables::load(), first_summands(keys, x), &keys.rounds[0]);
    rounds_after_first(keys, diffuse(first).before_even())
}

/// All rounds but the first and the last addition.
#[inline(always)]
fn rounds_after_first<V: Rounds>(keys: &Keys, s: Summands<V>) -> [V; 16] {
    let t = Tables::load();
    substitute_even(t, V::round_pairs(s, keys.pairs_from(1)), &keys.rounds[keys.count - 1])
}

/// The inner rounds, which a machine may have its own code for.
pub(super) trait Rounds: Vector {
    /// Pairs of an even round and an odd one.
    #[inline(always)]
    fn round_pairs(mut s: Summands<Self>, keys: &[[[Aligned; 16]; 2]]) -> Summands<Self> {
        for [even, odd] in keys {
            s = diffuse(substitute_even(Tables::load(), s, even)).before_odd();
            s = Self::odd_round(s, odd);
        }
        s
    }

    /// One odd round.
    #[inline(always)]
    fn odd_round(s: Summands<Self>, keys: &[Aligned; 16]) -> Summands<Self> {
        diffuse(substitute_odd(Tables::load(), s, keys)).before_even()
    }
}

/// What the diffusion makes: 16 sums, of which six, in places 0, 2, 4, 6, 8 and 10, still lack their last summand.
struct Diffused<V> {
    x: [V; 16],
    rest: [V; 6],
}

impl<V: Vector> Diffused<V> {
    #[inline(always)]
    fn before_odd(self) -> Summands<V> {
        let (mut x, rest) = (self.x, self.rest);
        (x[2], x[8]) = (x[2].xor(rest[1]), x[8].xor(rest[4]));
        Summands { x, free: [rest[0], rest[2], rest[3], rest[5]] }
    }

    #[inline(always)]
    fn before_even(self) -> Summands<V> {
        let (mut x, rest) = (self.x, self.rest);
        (x[6], x[10]) = (x[6].xor(rest[3]), x[10].xor(rest[5]));
        Summands { x, free: [rest[0], rest[1], rest[2], rest[4]] }
    }
}

/// The diffusion layer A (RFC 5794 section 2.4.3) in 48 sums of two, six of which are left to the caller.
#[inline(always)]
fn diffuse<V: Vector>(x: [V; 16]) -> Diffused<V> {
    let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15] = x;
    let t16 = t6.xor(t8);
    let t17 = t7.xor(t13);
    let t18 = t5.xor(t11);
    let t19 = t3.xor(t14);
    let t20 = t1.xor(t10);
    let t21 = t4.xor(t19);
    let t22 = t0.xor(t18);
    let t23 = t2.xor(t15);
    let t24 = t9.xor(t12);
    let t25 = t2.xor(t24);
    let t26 = t10.xor(t17);
    let t27 = t8.xor(t23);
    let t28 = t9.xor(t21);
    let t29 = t14.xor(t22);
    let t30 = t13.xor(t16);
    let t31 = t15.xor(t20);
    let t32 = t1.xor(t11);
    let t33 = t3.xor(t30);
    let t34 = t5.xor(t27);
    let t35 = t7.xor(t25);
    let t36 = t6.xor(t12);
    let t37 = t4.xor(t31);
    let t38 = t0.xor(t26);
    let t39 = t5.xor(t23);
    let t40 = t7.xor(t24);
    let t42 = t34.xor(t40);
    let t43 = t32.xor(t35);
    let t44 = t21.xor(t35);
    let t45 = t11.xor(t36);
    let t46 = t1.xor(t36);
    let t47 = t12.xor(t33);
    let t48 = t3.xor(t38);
    let t50 = t17.xor(t37);
    let t51 = t4.xor(t34);
    let t53 = t6.xor(t43);
    let t54 = t22.xor(t28);
    let t56 = t29.xor(t46);
    let t58 = t20.xor(t51);
    let t59 = t28.xor(t31);
    let t60 = t16.xor(t48);
    let t61 = t32.xor(t47);
    let t62 = t26.xor(t29);
    Diffused {
        x: [t28, t42, t37, t62, t27, t59, t25, t61, t0, t56, t33, t44, t53, t60, t54, t58],
        rest: [t30, t45, t29, t38, t50, t39],
    }
}

/// Transposes a 16 by 16 matrix of bytes. Each step turns the eight address bits (register, lane) by one place.
#[inline(always)]
fn transpose<V: Vector>(x: [V; 16]) -> [V; 16] {
    turn_address(turn_address(turn_address(turn_address(x))))
}

#[inline(always)]
fn turn_address<V: Vector>(x: [V; 16]) -> [V; 16] {
    sixteen!(|I| if I & 1 == 0 { x[I / 2].zip_low(x[I / 2 + 8]) } else { x[I / 2].zip_high(x[I / 2 + 8]) })
}

/// Enciphers blocks in place: up to three in a register each, more in passes.
#[inline(always)]
pub(super) fn crypt<V: Rounds>(keys: &Keys, blocks: &mut [Block]) {
    let (passes, rest) = blocks.as_chunks_mut::<PASS>();
    for pass in passes {
        crypt_pass::<V>(keys, pass);
    }
    match rest {
        [] => {}
        [a] => [*a] = crypt_few::<V, 1>(keys, [*a]),
        [a, b] => [*a, *b] = crypt_few::<V, 2>(keys, [*a, *b]),
        [a, b, c] => [*a, *b, *c] = crypt_few::<V, 3>(keys, [*a, *b, *c]),
        _ => filled_up!(rest, PASS, |pass| crypt_pass::<V>(keys, pass)),
    }
}

#[inline(always)]
fn crypt_pass<V: Rounds>(keys: &Keys, blocks: &mut [Block; PASS]) {
    let x = transpose(rounds(keys, transpose(V::load16(blocks))));
    let last = V::load(&keys.whole[keys.count]);
    store_blocks(sixteen!(|I| x[I].xor(last)), blocks);
}

/// Enciphers a few blocks side by side. Each is a chain of dependent instructions that leaves most of a processor idle; with a fourth, a pass
/// would be cheaper.
#[inline(always)]
fn crypt_few<V: Vector, const N: usize>(keys: &Keys, mut blocks: [Block; N]) -> [Block; N] {
    let mut x = [V::splat(0); N];
    for (x, block) in x.iter_mut().zip(&blocks) {
        *x = V::load_block(block);
    }
    for (x, block) in rounds_of_few(keys, x).into_iter().zip(&mut blocks) {
        x.store_block(block);
    }
    blocks
}

/// All rounds on blocks in one register each: each S-box on all lanes, then the lanes that want it.
#[inline(always)]
fn rounds_of_few<V: Vector, const N: usize>(keys: &Keys, mut x: [V; N]) -> [V; N] {
    let (last, whole) = keys.whole[..=keys.count].split_last().expect("a key has at least 13 round keys");
    let (pairs, _) = whole.as_chunks::<2>();
    let (last_pair, pairs) = pairs.split_last().expect("a key has at least 12 rounds");
    for [odd, even] in pairs {
        x = round_of_few(x, odd, &ODD);
        x = round_of_few(x, even, &EVEN);
    }
    x = round_of_few(x, &last_pair[0], &ODD);
    let mut i = 0;
    while i < N {
        x[i] = substitute_one(x[i].xor(V::load(&last_pair[1])), &EVEN).xor(V::load(last));
        i += 1;
    }
    x
}

#[inline(always)]
fn round_of_few<V: Vector, const N: usize>(mut x: [V; N], key: &Aligned, lanes: &Lanes) -> [V; N] {
    let mut i = 0;
    while i < N {
        x[i] = diffuse_one(substitute_one(x[i].xor(V::load(key)), lanes));
        i += 1;
    }
    x
}

/// Which lanes take which S-box in one kind of round.
struct Lanes {
    /// Ones in the lanes of S2's inverse.
    s2_inv: Aligned,
    /// Ones in the lanes of S2.
    s2: Aligned,
    /// Where the lanes of S1 and S2 are after ShiftRows; 255 in the others.
    forward: Aligned,
    /// Where the lanes of the inverses are after InvShiftRows; 255 in the others.
    inverse: Aligned,
}

const ODD: Lanes = lanes(0);
const EVEN: Lanes = lanes(2);

const fn lanes(shift: usize) -> Lanes {
    let none = Aligned([0; 16]);
    let mut lanes = Lanes { s2_inv: none, s2: none, forward: Aligned([0xff; 16]), inverse: Aligned([0xff; 16]) };
    let mut i = 0;
    while i < 16 {
        let kind = (i + shift) % 4;
        // ShiftRows moves lane i to i - 4 (i mod 4), its inverse to i + 4 (i mod 4).
        match kind {
            0 | 1 => lanes.forward.0[i] = ((i + 16 - 4 * (i % 4)) % 16) as u8,
            _ => lanes.inverse.0[i] = ((i + 4 * (i % 4)) % 16) as u8,
        }
        if kind == 1 {
            lanes.s2.0[i] = 0xff;
        } else if kind == 3 {
            lanes.s2_inv.0[i] = 0xff;
        }
        i += 1;
    }
    lanes
}

/// The substitution layer on one register; the key is already added.
#[inline(always)]
fn substitute_one<V: Vector>(x: V, lanes: &Lanes) -> V {
    let t = Tables::<V>::load();
    let zero = V::splat(0);
    let inverse =
        V::load(&lanes.s2_inv).select(before_s2_inv(x), x).inv_sub_shift(zero).lookup(V::load(&lanes.inverse));
    let y = x.sub_shift(zero).lookup(V::load(&lanes.forward)).xor(inverse);
    let post = V::load(&POST[0]).lookup(y.low_nibbles()).xor(t.post_high.lookup(y.high_nibbles()));
    V::load(&lanes.s2).select(post, y)
}

/// The map before AES's inverse S-box that makes it S2's inverse.
#[inline(always)]
fn before_s2_inv<V: Vector>(x: V) -> V {
    V::load(&PRE_WITH_CONSTANT).lookup(x.low_nibbles()).xor(V::load(&PRE[1]).lookup(x.high_nibbles()))
}

/// The low-nibble table before S2's inverse with the constant part added.
const PRE_WITH_CONSTANT: Aligned = {
    let mut table = PRE[0];
    let mut i = 0;
    while i < 16 {
        table.0[i] ^= PRE_CONSTANT;
        i += 1;
    }
    table
};

/// Lane indices with their bits 0 and 1 (byte in word) or 2 and 3 (word) flipped, and the reordering P.
const FLIP: [Aligned; 4] = [flip(1), flip(2), flip(4), flip(8)];
const REORDER: Aligned = Aligned([3, 2, 1, 0, 5, 4, 7, 6, 10, 11, 8, 9, 12, 13, 14, 15]);

const fn flip(bit: usize) -> Aligned {
    let mut index = [0; 16];
    let mut i = 0;
    while i < 16 {
        index[i] = (i ^ bit) as u8;
        i += 1;
    }
    Aligned(index)
}

/// The diffusion layer on one register, by the factors that `crate::aria` explains.
#[inline(always)]
fn diffuse_one<V: Vector>(x: V) -> V {
    let x = sum_of_others(x, 0);
    let x = sum_of_others(x, 2).lookup(V::load(&REORDER));
    sum_of_others(x, 2)
}

/// Each lane becomes the sum of the three others whose index differs in the two bits from `bit` on.
#[inline(always)]
fn sum_of_others<V: Vector>(x: V, bit: usize) -> V {
    let pairs = x.xor(x.lookup(V::load(&FLIP[bit])));
    x.xor(pairs).xor(pairs.lookup(V::load(&FLIP[bit + 1])))
}

/// XORs key stream into whole passes of 256 bytes; `counter` is the first block and its last word counts on.
#[inline(always)]
pub(super) fn ctr<V: Rounds>(keys: &Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>) {
    let prefix = V::load_block(counter);
    let mut value = count_of(counter);
    let mut run: Option<Run> = None;
    // The count above its low byte that the run is for; at first one that no count has.
    let mut upper = u32::MAX;
    for pass in data {
        let x = if value as u8 > LAST_LOW {
            rounds(keys, sliced_counters(prefix, value))
        } else {
            let run = match &mut run {
                Some(run) if upper == value >> 8 => run,
                run => {
                    upper = value >> 8;
                    run.insert(Run::new(keys, prefix.with_last_word(value.swap_bytes())))
                }
            };
            let s = V::round_pairs(run.after_three(keys, value as u8), keys.pairs_from(3));
            substitute_even(Tables::load(), s, &keys.rounds[keys.count - 1])
        };
        add_to(pass, x, &keys.last);
        value = value.wrapping_add(PASS as u32);
    }
    if let Some(run) = &mut run {
        run.zeroize();
    }
}

/// Sums the byte slices `x`, the last key and the data of a pass. The transposition is done in halves: interleaving the slices of the
/// same byte of the four words gives what LD4 makes of the data, and ST4 puts the bytes together.
#[inline(always)]
fn add_to<V: Vector>(mut pass: InOut<'_, '_, Array<u8, U256>>, x: [V; 16], last: &[Aligned; 4]) {
    let x = turn_address(turn_address(x));
    let _: [(); 4] = four!(|I| {
        let (blocks, _) = pass.get_in().0.as_chunks().0.as_chunks::<4>();
        let data = V::deal4(&blocks[I]);
        let sum = four!(|J| x[4 * J + I].xor(V::load(&last[J])).xor(data[J]));
        let (blocks, _) = pass.get_out().0.as_chunks_mut().0.as_chunks_mut::<4>();
        V::collect4(sum, &mut blocks[I]);
    });
}

/// Where in a block the bytes of an interleaving of four equal bytes of its words are.
fn dealt(key: &Block) -> [Aligned; 4] {
    core::array::from_fn(|byte| Aligned(core::array::from_fn(|lane| key[4 * (lane % 4) + byte])))
}

/// The byte slices of 16 counter blocks.
#[inline(always)]
fn sliced_counters<V: Vector>(prefix: V, value: u32) -> [V; 16] {
    const STEP: [u8; 32] =
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    if value as u16 > 0xfff0 {
        return transpose(counter_blocks(prefix, value));
    }
    let bytes = prefix.with_last_word(value.swap_bytes()).to_block();
    let mut x = sixteen!(|I| V::splat(bytes[I]));
    // A lane carries into the last byte but one from where the last byte overflows.
    let carries = STEP[usize::from(value as u8 & 15)..].first_chunk().expect("a step of 32 has 16 after the first 15");
    if value as u8 > LAST_LOW {
        x[14] = x[14].add8(V::load_block(carries));
    }
    x[15] = x[15].add8(V::load(&IOTA));
    x
}

const IOTA: Aligned = Aligned([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

/// The greatest low byte of a count from which a pass counts on without a carry.
const LAST_LOW: u8 = 0xf0;

/// Counter blocks of which only the last byte differs, up to 256 of them. In the first round that byte alone needs an S-box, and the
/// diffusion brings it to seven places; in the second round only these seven need one, and what the diffusion makes of them takes 16 sums
/// (the rows of A, RFC 5794 section 2.4.3, have only ten different parts in these columns). All else is the same throughout
/// the run. It is computed once and enters as keys, so it costs no sums either: in the second round as the keys of the seven
/// places, in the third as the keys of all.
#[derive(Zeroize)]
struct Run {
    /// The second round's vectors for places 1, 2, 4, 5, 8, 10 and 15.
    second: [Aligned; 7],
    /// The third round's vectors.
    third: [Aligned; 16],
    /// The third round's keys in its free places.
    free: [Aligned; 4],
}

/// Ones in the places that are the same throughout a run before the first round's diffusion, and before the second's.
const SAME: [Aligned; 2] = [
    Aligned([!0, !0, !0, !0, !0, !0, !0, !0, !0, !0, !0, !0, !0, !0, !0, 0]),
    Aligned([!0, 0, 0, !0, 0, 0, !0, !0, 0, !0, 0, !0, !0, !0, !0, 0]),
];

impl Run {
    /// The run in which `block` is. What stays the same goes through two rounds as one block.
    #[inline(always)]
    fn new<V: Vector>(keys: &Keys, block: V) -> Self {
        let [k0, k1, k2] = each!(0 1 2; |I| V::load(&keys.whole[I]));
        let zero = V::splat(0);
        let second = V::load(&SAME[0]).select(substitute_one(block.xor(k0), &ODD), zero);
        let second = diffuse_one(second).xor(k1);
        let third = V::load(&SAME[1]).select(substitute_one(second, &EVEN), zero);
        let third = diffuse_one(third).xor(k2);
        let (s, t) = (before_s2_inv(second), before_s2_inv(third));
        let table = |place: usize| keys.rounds[2][place];
        macro_rules! key {
            ($x:ident, $place:literal) => {
                Aligned($x.splat_lane::<$place>().to_block())
            };
        }
        macro_rules! s2_inv {
            ($x:ident, $place:literal) => {
                Aligned($x.splat_lane::<$place>().xor(V::load(&PRE[0])).to_block())
            };
        }
        Self {
            second: [
                s2_inv!(s, 1),
                key!(second, 2),
                key!(second, 4),
                s2_inv!(s, 5),
                key!(second, 8),
                key!(second, 10),
                key!(second, 15),
            ],
            third: [
                key!(third, 1),
                table(1),
                key!(third, 2),
                s2_inv!(t, 3),
                key!(third, 5),
                table(5),
                s2_inv!(t, 7),
                key!(third, 8),
                key!(third, 9),
                table(9),
                s2_inv!(t, 11),
                key!(third, 12),
                key!(third, 13),
                table(13),
                key!(third, 14),
                s2_inv!(t, 15),
            ],
            free: [key!(third, 0), key!(third, 4), key!(third, 6), key!(third, 10)],
        }
    }

    /// The state after three rounds for the pass whose count begins with `low`.
    #[inline(always)]
    fn after_three<V: Rounds>(&self, keys: &Keys, low: u8) -> Summands<V> {
        let t = Tables::load();
        let counts = V::splat(low).add8(V::load(&IOTA));
        let new = t.s2_inv(counts, V::load(&keys.rounds[0][15])).shift_twice();
        let k: [V; 7] = each!(0 1 2 3 4 5 6; |I| V::load(&self.second[I]));
        // Where a sum is used more than once, the key is what the instruction overwrites.
        let x1 = t.s2_inv(new, k[0]);
        let x2 = k[1].sub_shift(new).shift_twice();
        let x4 = k[2].inv_sub_shift(new);
        let x5 = t.s2_inv(new, k[3]);
        let x8 = k[4].inv_sub_shift(new);
        let x10 = k[5].sub_shift(new).shift_twice();
        let x15 = t.s2(k[6], new, V::load(&POST[0])).shift_twice();
        let first = x2.xor(x5).xor(x8);
        let second = x1.xor(x4).xor(x10);
        let (a, b) = (first.xor(x15), second.xor(x15));
        let x = [
            x4.xor(x8),
            a,
            b,
            x5.xor(x10),
            a,
            b,
            x2.xor(x10),
            x1.xor(x8),
            b,
            x1.xor(x5),
            a,
            x2.xor(x4),
            x1.xor(x2),
            x8.xor(x10),
            x4.xor(x5),
            a.xor(second),
        ];
        V::odd_round(Summands { x, free: four!(|I| V::load(&self.free[I])) }, &self.third)
    }
}

/// The first round's keys of a chain's step: the last key of the step before is added in.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct ChainKeys {
    round: [Aligned; 16],
    free: [Aligned; 4],
}

impl ChainKeys {
    /// Spreads the joint key of two steps.
    pub(crate) fn new(keys: &Keys) -> Self {
        let mut joint = xor_block(&keys.whole[0].0, &keys.whole[keys.count].0);
        let mut constants = constants(0, &keys.whole[1].0);
        let spread =
            Self { round: spread_round(0, &joint, &constants), free: FREE[0].map(|i| Aligned([joint[i]; 16])) };
        joint.zeroize();
        constants.zeroize();
        spread
    }
}

/// Runs the CBC-MAC chains of 16 sectors. The chains stay in byte slices, and the last key of one step is added with the first key of
/// the next.
#[inline(always)]
pub(super) fn chain<V: Rounds>(
    keys: &Keys,
    first: &ChainKeys,
    sectors: &[Sector; 16],
    copy: Option<&mut [Sector; 16]>,
    chains: &mut [Block; 16],
) {
    let last = V::load(&keys.whole[keys.count]);
    let x = V::load16(chains);
    let mut state = transpose(sixteen!(|I| x[I].xor(last)));
    let mut rows = SectorRows::new(sectors, copy);
    for number in 0..SECTOR_BLOCKS {
        let data = transpose(rows.row::<V>(number));
        let x = sixteen!(|I| state[I].xor(data[I]));
        let s = Summands { x, free: four!(|I| V::load(&first.free[I])) };
        state = rounds_after_first(keys, diffuse(substitute_odd(Tables::load(), s, &first.round)).before_even());
    }
    rows.wipe::<V>();
    let x = transpose(state);
    store_blocks(sixteen!(|I| x[I].xor(last)), chains);
}

/// Runs one CBC-MAC chain.
#[inline(always)]
pub(super) fn chain_one<V: Vector>(keys: &Keys, state: &mut Block, blocks: &[Block]) {
    let mut x = V::load_block(state);
    for block in blocks {
        [x] = rounds_of_few(keys, [x.xor(V::load_block(block))]);
    }
    x.store_block(state);
}
