//! Sixteen bytes in a vector register, as the kernels use them. The machine files beside this one implement it.
//!
//! The kernels use no closures over vectors and no iterators with them: a closure is a function without `#[target_feature]`, and one
//! that is not inlined turns every instruction in it into a call. The macros here unroll instead.
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOut;

use zeroize::Zeroize;

use crate::Block;
use crate::aead::{SECTOR_LEN, Sector};

/// 16 bytes where the whole-register loads want them. (The bare AArch64 targets forbid the compiler unaligned accesses, so it
/// would load anything less aligned byte by byte.)
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Aligned(pub(crate) Block);

impl Zeroize for Aligned {
    fn zeroize(&mut self) {
        // SAFETY: an exclusive reference is valid for a write. (Volatile, so that it happens; whole, because byte by byte is slow.)
        unsafe { core::ptr::write_volatile(self, Self([0; 16])) }
    }
}

/// Blocks where they can be wiped a block at a time, not a byte.
#[repr(align(16))]
pub(crate) struct AlignedBlocks<const N: usize>(pub(crate) [Block; N]);

impl<const N: usize> Zeroize for AlignedBlocks<N> {
    fn zeroize(&mut self) {
        for block in &mut self.0 {
            // SAFETY: an exclusive reference is valid for a write, and every block of an array that is aligned to 16 bytes is so too.
            unsafe { core::ptr::write_volatile(core::ptr::from_mut(block).cast(), Aligned([0; 16])) }
        }
    }
}

/// A vector of 16 byte lanes.
///
/// A value of this type exists only where the processor has the instructions: the kernels are entered through functions that
/// demand a [`crate::simd::Proof`].
pub(super) trait Vector: Copy {
    /// Whether 16 sectors side by side are taken in lines of four blocks; see [`SectorRows`].
    const IN_LINES: bool;
    /// The 16 bytes in memory order, of a table or a key of ours.
    fn load(bytes: &Aligned) -> Self;
    /// Four of them.
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4];
    /// Sixteen blocks in memory order.
    fn load16(blocks: &[Block; 16]) -> [Self; 16];
    /// The block with this number (below 256) of each of 16 sectors.
    fn gather16(sectors: &[Sector; 16], number: usize) -> [Self; 16];
    /// The inverse of [`Vector::gather16`].
    fn scatter16(x: [Self; 16], sectors: &mut [Sector; 16], number: usize);
    /// One block in memory order.
    fn load_block(block: &Block) -> Self;
    /// Writes one block in memory order.
    fn store_block(self, block: &mut Block);
    /// Four blocks dealt out byte by byte: vector `r` has byte `r` of all sixteen words, lane `4b + w` that of word `w` of block `b`.
    fn deal4(blocks: &[Block; 4]) -> [Self; 4];
    /// The inverse of [`Vector::deal4`].
    fn collect4(x: [Self; 4], blocks: &mut [Block; 4]);
    /// Writes four blocks in memory order.
    fn store4(x: [Self; 4], blocks: &mut [Block; 4]);
    /// Every lane the same.
    fn splat(byte: u8) -> Self;
    /// Lane `LANE` in every lane.
    fn splat_lane<const LANE: i32>(self) -> Self;
    /// Sum in GF(2).
    fn xor(self, other: Self) -> Self;
    /// `yes` where `self` has ones, `no` where it has zeros.
    fn select(self, yes: Self, no: Self) -> Self;
    /// One full AES round: MixColumns of [`Vector::sub_shift`].
    fn aes_round(self, key: Self) -> Self;
    /// One full round of the inverse: InvMixColumns of [`Vector::inv_sub_shift`].
    fn aes_inv_round(self, key: Self) -> Self;
    /// InvMixColumns (FIPS 197 section 5.3.3).
    fn inv_mix_columns(self) -> Self;
    /// The last 32-bit little-endian lane replaced.
    fn with_last_word(self, word: u32) -> Self;
    /// Writes the 16 bytes in memory order.
    fn to_block(self) -> Block;
    /// Sum of lanes modulo 256.
    fn add8(self, other: Self) -> Self;
    /// Sum of four 32-bit little-endian lanes.
    fn add32(self, other: Self) -> Self;
    /// The four low bits of every lane.
    fn low_nibbles(self) -> Self;
    /// The four high bits of every lane.
    fn high_nibbles(self) -> Self;
    /// `self[index]` in every lane, zero where the index is 128 or more; the others are below 16.
    fn lookup(self, index: Self) -> Self;
    /// `tables[0][index]` in even 32-bit lanes, `tables[1][index]` in odd ones; every index is below 16.
    fn lookup_by_word(tables: [Self; 2], index: Self) -> Self;
    /// The sum in GF(2) of the four 32-bit lanes, in each of them.
    fn sum_words(self) -> Self;
    /// The AES S-box of `self + key`, its lanes permuted by ShiftRows (FIPS 197 section 5.1.2).
    fn sub_shift(self, key: Self) -> Self;
    /// The inverse AES S-box of `self + key`, its lanes permuted by InvShiftRows.
    fn inv_sub_shift(self, key: Self) -> Self;
    /// Lanes permuted by ShiftRows twice, which is also InvShiftRows twice.
    fn shift_twice(self) -> Self;
    /// Lanes 0 to 7 of both, interleaved.
    fn zip_low(self, other: Self) -> Self;
    /// Lanes 8 to 15 of both, interleaved.
    fn zip_high(self, other: Self) -> Self;
    /// Swaps the bytes of each 32-bit lane.
    fn swap_words(self) -> Self;
    /// Transposes a 4 by 4 matrix of 32-bit lanes.
    fn transpose_words(rows: [Self; 4]) -> [Self; 4];
    /// Splits the bytes of two vectors into those with even and those with odd index.
    fn unzip(self, other: Self) -> (Self, Self);
    /// The inverse of [`Vector::unzip`] for lanes that ShiftRows permuted.
    fn zip_shifted(even: Self, odd: Self) -> [Self; 2];
}

/// Two halves of 64 bits that multiply without carries.
pub(super) trait Clmul: Copy {
    /// A register that [`Clmul::store`] wrote.
    fn load(bytes: &Aligned) -> Self;
    /// Four of them, loaded where this stands, for more powers than there are registers.
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4];
    /// Writes the register.
    fn store(self, bytes: &mut Aligned);
    /// The bytes of each half in the other order.
    fn reverse_halves(self) -> Self;
    /// A block in memory order.
    fn load_block(block: &Block) -> Self;
    /// Four blocks, the bytes of each half reversed.
    fn load4_reversed(blocks: &[Block; 4]) -> [Self; 4];
    /// Sum in GF(2).
    fn xor(self, other: Self) -> Self;
    /// The halves exchanged.
    fn swap_halves(self) -> Self;
    /// Product of the low halves.
    fn low(self, other: Self) -> Self;
    /// Product of the high halves.
    fn high(self, other: Self) -> Self;
    /// The low halves of both.
    fn join_low(self, other: Self) -> Self;
    /// The high halves of both.
    fn join_high(self, other: Self) -> Self;
    /// The two halves.
    fn from_halves(low: u64, high: u64) -> Self;
}

/// An array of `$body` for every `$i` listed.
macro_rules! each {
    ($($n:literal)*; |$i:ident| $body:expr) => {
        [$({
            const $i: usize = $n;
            $body
        }),*]
    };
}

/// An array of four, `$body` for `I` from 0.
macro_rules! four {
    (|$i:ident| $body:expr) => { each!(0 1 2 3; |$i| $body) };
}

/// An array of sixteen, `$body` for `I` from 0.
macro_rules! sixteen {
    (|$i:ident| $body:expr) => { each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; |$i| $body) };
}

pub(super) use {each, four, sixteen};

/// Runs `$crypt` over the slice `$blocks` filled up with zero blocks to `$count`, as `$whole`, and wipes the surplus. (What
/// [`crate::block::in_passes`] does, without a closure.)
macro_rules! filled_up {
    ($blocks:expr, $count:expr, |$whole:ident| $crypt:expr) => {{
        let mut aligned = crate::simd::AlignedBlocks([[0; 16]; $count]);
        aligned.0[..$blocks.len()].copy_from_slice($blocks);
        let $whole = &mut aligned.0;
        $crypt;
        $blocks.copy_from_slice(&aligned.0[..$blocks.len()]);
        aligned.zeroize();
    }};
}
pub(super) use filled_up;

/// Sixteen vectors into sixteen blocks.
#[inline(always)]
pub(super) fn store_blocks<V: Vector>(x: [V; 16], blocks: &mut [Block; 16]) {
    let (fours, _) = blocks.as_chunks_mut::<4>();
    let _: [(); 4] = four!(|I| V::store4([x[4 * I], x[4 * I + 1], x[4 * I + 2], x[4 * I + 3]], &mut fours[I]));
}

/// Sums `x` into 256 bytes, from `get_in` to `get_out`.
#[inline(always)]
pub(super) fn xor_into<V: Vector>(x: [V; 16], mut pass: InOut<'_, '_, Array<u8, U256>>) {
    let data = V::load16(pass.get_in().0.as_chunks().0.first_chunk().expect("256 bytes are 16 blocks"));
    let sum = sixteen!(|I| x[I].xor(data[I]));
    store_blocks(sum, pass.get_out().0.as_chunks_mut().0.first_chunk_mut().expect("256 bytes are 16 blocks"));
}

/// The 16 counter blocks that begin with `prefix` and count on from `value` in their last word.
#[inline(always)]
pub(super) fn counter_blocks<V: Vector>(prefix: V, value: u32) -> [V; 16] {
    sixteen!(|I| prefix.with_last_word(value.wrapping_add(I as u32).swap_bytes()))
}

/// The count in a counter block.
pub(super) fn count_of(counter: &Block) -> u32 {
    u32::from_be_bytes([counter[12], counter[13], counter[14], counter[15]])
}

/// Blocks in a sector.
pub(super) const SECTOR_BLOCKS: usize = SECTOR_LEN / 16;

/// Sixteen sectors side by side, taken a row of blocks at a time.
///
/// Equal blocks of the sectors are 4 KiB apart, so in a first cache of 32 KiB they all meet in one set, and 16 sectors are more than it has ways:
/// read block by block, every line would come from the second cache four times, and as many would go there when the sectors are copied as
/// well. So where lines have 64 bytes and the registers are few, each is read, copied and laid aside once. (ARMv8 code takes the blocks
/// straight into registers, which saves instructions.)
pub(super) struct SectorRows<'a> {
    sectors: &'a [Sector; 16],
    copy: Option<&'a mut [Sector; 16]>,
    lines: [[Aligned; 4]; 16],
}

impl<'a> SectorRows<'a> {
    /// Copies the blocks to `copy` as they are taken, if there is one.
    #[inline(always)]
    pub(super) fn new(sectors: &'a [Sector; 16], copy: Option<&'a mut [Sector; 16]>) -> Self {
        Self { sectors, copy, lines: [[Aligned([0; 16]); 4]; 16] }
    }

    /// The block with this number (below 256) of each sector; the numbers count up from 0.
    #[inline(always)]
    pub(super) fn row<V: Vector>(&mut self, number: usize) -> [V; 16] {
        if V::IN_LINES {
            if number.is_multiple_of(4) {
                self.next_line(number);
            }
            return sixteen!(|I| V::load(&self.lines[I][number % 4]));
        }
        let blocks = V::gather16(self.sectors, number);
        if let Some(copy) = &mut self.copy {
            V::scatter16(blocks, copy, number);
        }
        blocks
    }

    #[inline(always)]
    fn next_line(&mut self, number: usize) {
        for (i, (sector, line)) in self.sectors.iter().zip(&mut self.lines).enumerate() {
            let blocks: [Block; 4] = sector.as_chunks().0.as_chunks().0[number / 4];
            *line = four!(|I| Aligned(blocks[I]));
            if let Some(copy) = &mut self.copy {
                copy[i].as_chunks_mut().0.as_chunks_mut().0[number / 4] = blocks;
            }
        }
    }

    /// Forgets what was laid aside.
    #[inline(always)]
    pub(super) fn wipe<V: Vector>(&mut self) {
        if V::IN_LINES {
            self.lines.zeroize();
        }
    }
}

/// Runs the CBC-MAC chains of 16 sectors over their blocks, and copies these to `$copy` if there is one; `$cipher` enciphers the 16 blocks
/// `$x` held in registers.
macro_rules! chain_blocks {
    ($sectors:expr, $copy:expr, $chains:expr, |$x:ident| $cipher:expr) => {{
        let mut rows = SectorRows::new($sectors, $copy);
        let mut state = V::load16($chains);
        for number in 0..SECTOR_BLOCKS {
            let data = rows.row::<V>(number);
            let $x = sixteen!(|I| state[I].xor(data[I]));
            state = $cipher;
        }
        rows.wipe::<V>();
        store_blocks(state, $chains);
    }};
}
pub(super) use chain_blocks;
