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
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::vector::{Aligned, Vector, each, four, sixteen, store_blocks, xor_into};
use crate::Block;
use crate::aria::RoundKeys;

/// Blocks in one pass.
pub(crate) const PASS: usize = 16;

/// The affine map from AES's S-box to S2, by low and high nibble.
const POST: [Aligned; 2] = [
    Aligned([0x88, 0x0d, 0x37, 0xb2, 0x00, 0x85, 0xbf, 0x3a, 0xa8, 0x2d, 0x17, 0x92, 0x20, 0xa5, 0x9f, 0x1a]),
    Aligned([0x00, 0x3e, 0xd4, 0xea, 0x84, 0xba, 0x50, 0x6e, 0xcd, 0xf3, 0x19, 0x27, 0x49, 0x77, 0x9d, 0xa3]),
];
/// The linear part of the map before AES's inverse S-box that makes it S2's inverse, by low and high nibble.
const PRE: [Aligned; 2] = [
    Aligned([0x00, 0x41, 0xea, 0xab, 0x13, 0x52, 0xf9, 0xb8, 0x57, 0x16, 0xbd, 0xfc, 0x44, 0x05, 0xae, 0xef]),
    Aligned([0x00, 0xb6, 0x08, 0xbe, 0xd6, 0x60, 0xde, 0x68, 0x53, 0xe5, 0x5b, 0xed, 0x85, 0x33, 0x8d, 0x3b]),
];
/// The constant part of it.
const PRE_CONSTANT: u8 = 0x04;

/// Round keys as the kernels read them: one vector for each byte of each round, and the last key as a block.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys {
    rounds: [[Aligned; 16]; 16],
    last: Aligned,
    count: usize,
}

impl Keys {
    /// Spreads round keys of either direction.
    pub(crate) fn new(keys: &RoundKeys) -> Self {
        let keys = keys.as_slice();
        let count = keys.len() - 1;
        let mut rounds = [[Aligned([0; 16]); 16]; 16];
        for (round, (vectors, key)) in rounds.iter_mut().zip(&keys[..count]).enumerate() {
            for (i, (vector, byte)) in vectors.iter_mut().zip(key).enumerate() {
                *vector = if (i + 2 * round) % 4 == 3 { pre_table(*byte) } else { Aligned([*byte; 16]) };
            }
        }
        Self { rounds, last: Aligned(keys[count]), count }
    }
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
    post_low: V,
    post_high: V,
    pre_high: V,
}

impl<V: Vector> Tables<V> {
    #[inline(always)]
    fn load() -> Self {
        Self { post_low: V::load(&POST[0]), post_high: V::load(&POST[1]), pre_high: V::load(&PRE[1]) }
    }

    #[inline(always)]
    fn s1(self, x: V, key: V) -> V {
        x.sub_shift(key)
    }

    #[inline(always)]
    fn s2(self, x: V, key: V) -> V {
        let y = x.sub_shift(key);
        self.post_low.lookup(y.low_nibbles()).xor(self.post_high.lookup(y.high_nibbles()))
    }

    #[inline(always)]
    fn s1_inv(self, x: V, key: V) -> V {
        x.inv_sub_shift(key)
    }

    #[inline(always)]
    fn s2_inv(self, x: V, key_table: V) -> V {
        key_table.lookup(x.low_nibbles()).inv_sub_shift(self.pre_high.lookup(x.high_nibbles()))
    }
}

/// The substitution layer of odd rounds on one word.
#[inline(always)]
fn substitute_odd<V: Vector>(t: Tables<V>, x: [V; 4], key: &[Aligned; 4]) -> [V; 4] {
    let key: [V; 4] = four!(|I| V::load(&key[I]));
    [t.s1(x[0], key[0]), t.s2(x[1], key[1]), t.s1_inv(x[2], key[2]).shift_twice(), t.s2_inv(x[3], key[3]).shift_twice()]
}

/// The substitution layer of even rounds on one word.
#[inline(always)]
fn substitute_even<V: Vector>(t: Tables<V>, x: [V; 4], key: &[Aligned; 4]) -> [V; 4] {
    let key: [V; 4] = four!(|I| V::load(&key[I]));
    [t.s1_inv(x[0], key[0]), t.s2_inv(x[1], key[1]), t.s1(x[2], key[2]).shift_twice(), t.s2(x[3], key[3]).shift_twice()]
}

#[inline(always)]
fn substitute<V: Vector, const EVEN: bool>(t: Tables<V>, x: [V; 16], key: &[Aligned; 16]) -> [V; 16] {
    let (key, _) = key.as_chunks::<4>();
    let words = four!(|I| {
        let x = [x[4 * I], x[4 * I + 1], x[4 * I + 2], x[4 * I + 3]];
        if EVEN { substitute_even(t, x, &key[I]) } else { substitute_odd(t, x, &key[I]) }
    });
    sixteen!(|I| words[I / 4][I % 4])
}

/// All rounds but the last addition.
#[inline(always)]
fn rounds<V: Vector>(keys: &Keys, mut x: [V; 16]) -> [V; 16] {
    let t = Tables::load();
    let (last, pairs) =
        keys.rounds[..keys.count].as_chunks::<2>().0.split_last().expect("a key has at least 12 rounds");
    for [odd, even] in pairs {
        x = diffuse(substitute::<V, false>(t, x, odd));
        x = diffuse(substitute::<V, true>(t, x, even));
    }
    x = diffuse(substitute::<V, false>(t, x, &last[0]));
    substitute::<V, true>(t, x, &last[1])
}

/// The diffusion layer A (RFC 5794 section 2.4.3) in 48 sums of two.
#[inline(always)]
fn diffuse<V: Vector>(x: [V; 16]) -> [V; 16] {
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
    let t41 = t28.xor(t30);
    let t42 = t34.xor(t40);
    let t43 = t32.xor(t35);
    let t44 = t21.xor(t35);
    let t45 = t11.xor(t36);
    let t46 = t1.xor(t36);
    let t47 = t12.xor(t33);
    let t48 = t3.xor(t38);
    let t49 = t37.xor(t45);
    let t50 = t17.xor(t37);
    let t51 = t4.xor(t34);
    let t52 = t33.xor(t39);
    let t53 = t6.xor(t43);
    let t54 = t22.xor(t28);
    let t55 = t25.xor(t38);
    let t56 = t29.xor(t46);
    let t57 = t27.xor(t29);
    let t58 = t20.xor(t51);
    let t59 = t28.xor(t31);
    let t60 = t16.xor(t48);
    let t61 = t32.xor(t47);
    let t62 = t26.xor(t29);
    let t63 = t0.xor(t50);
    [t41, t42, t49, t62, t57, t59, t55, t61, t63, t56, t52, t44, t53, t60, t54, t58]
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

/// Enciphers 16 blocks in place.
#[inline(always)]
pub(super) fn crypt<V: Vector>(keys: &Keys, blocks: &mut [Block; PASS]) {
    let x = transpose(rounds(keys, transpose(V::load16(blocks))));
    let last = V::load(&keys.last);
    store_blocks(sixteen!(|I| x[I].xor(last)), blocks);
}

/// XORs key stream into whole passes of 256 bytes; `counter` is the first block and its last word counts on.
#[inline(always)]
pub(super) fn ctr<V: Vector>(keys: &Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>) {
    let mut value = u32::from_be_bytes([counter[12], counter[13], counter[14], counter[15]]);
    for pass in data {
        let x = transpose(rounds(keys, counters::<V>(counter, value)));
        let last = V::load(&keys.last);
        xor_into(sixteen!(|I| x[I].xor(last)), pass);
        value = value.wrapping_add(PASS as u32);
    }
}

/// The 16 counter blocks from `value` on, in byte slices.
#[inline(always)]
fn counters<V: Vector>(prefix: &Block, value: u32) -> [V; 16] {
    const IOTA: Aligned = Aligned([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let mut bytes = *prefix;
    bytes[12..].copy_from_slice(&value.to_be_bytes());
    let mut x: [V; 16] = sixteen!(|I| V::splat(bytes[I]));
    x[15] = x[15].add8(V::load(&IOTA));
    if bytes[15] > 0xf0 {
        let carried = carry_slowly(value);
        [x[12], x[13], x[14]] = each!(0 1 2; |I| V::load(&carried[I]));
    }
    x
}

/// The upper three bytes of the count, in byte slices, when it carries out of its low byte within the pass.
#[cold]
#[inline(never)]
fn carry_slowly(value: u32) -> [Aligned; 3] {
    [24, 16, 8].map(|shift| Aligned(core::array::from_fn(|i| (value.wrapping_add(i as u32) >> shift) as u8)))
}
