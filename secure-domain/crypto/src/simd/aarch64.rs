//! The instructions of ARMv8-A: Advanced SIMD, and from the Cryptographic Extension AESE, AESD and PMULL (Arm ARM DDI 0487, section A2.3
//! "The Armv8 Cryptographic Extension").
// The kernels are inlined into functions that have the features; the emitted code is checked to hold no call.
#![allow(inline_always_mismatching_target_features)]
use core::arch::aarch64::*;
use core::arch::asm;
use core::mem::transmute;

use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;

use super::vector::{Aligned, Clmul, SECTOR_BLOCKS, Vector, each, four};
use super::{Sha256Proof, VectorProof, aes, aria, ghash, seed};
use crate::Block;
use crate::aead::{SECTOR_LEN, Sector};
use crate::features::CpuFeatures;

/// Reads ID_AA64ISAR0_EL1 (DDI 0487 section D24.2.61): AES in bits 7 to 4 (1: AESE and AESD, 2: also PMULL), SHA2 in bits 15 to 12.
#[cfg(any(target_os = "none", target_os = "linux", target_os = "android"))]
pub(super) fn ask() -> CpuFeatures {
    let isar0: u64;
    // SAFETY: the register only identifies. Firmware runs this at EL1 or above, where it can be read; at EL0 Linux answers for it.
    unsafe { asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) isar0, options(pure, nomem, nostack, preserves_flags)) };
    CpuFeatures { vector: isar0 >> 4 & 15 >= 2, sha256: isar0 >> 12 & 15 >= 1 }
}

/// Elsewhere the operating system may not answer, so nothing is claimed.
#[cfg(not(any(target_os = "none", target_os = "linux", target_os = "android")))]
pub(super) fn ask() -> CpuFeatures {
    CpuFeatures::PORTABLE
}

/// A vector register.
#[derive(Clone, Copy)]
struct V(uint8x16_t);

/// Calls intrinsics.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: a `V` is only handled inside the entry points below, which run only with a proof of these instructions.
        unsafe { $call }
    };
}

/// Loads four blocks of any alignment into four neighbouring registers, by LD1 or by LD4, which deals out the bytes. The compiler would load them byte by byte, because the bare
/// targets forbid it unaligned accesses; both take bytes of any alignment (DDI 0487 section B2.8).
macro_rules! load4 {
    ($instruction:literal, $blocks:expr, $a:tt, $b:tt, $c:tt, $d:tt) => {{
        let blocks: &[Block; 4] = $blocks;
        let (a, b, c, d): (uint8x16_t, uint8x16_t, uint8x16_t, uint8x16_t);
        // SAFETY: a reference to 64 bytes is valid for the load of 64 bytes.
        unsafe {
            asm!(
                concat!($instruction, " {{", $a, ".16b, ", $b, ".16b, ", $c, ".16b, ", $d, ".16b}}, [{}]"),
                in(reg) blocks.as_ptr(), out($a) a, out($b) b, out($c) c, out($d) d,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        [V(a), V(b), V(c), V(d)]
    }};
}

const SHIFT_TWICE: Aligned = Aligned([0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12, 5, 14, 7]);

/// What leads an index in an odd word to the second of two tables.
const SECOND_TABLE: Aligned = Aligned([0, 0, 0, 0, 16, 16, 16, 16, 0, 0, 0, 0, 16, 16, 16, 16]);

/// Where in a pair of registers (even bytes, then odd bytes, each permuted by ShiftRows) the bytes of two registers are.
const ZIP_SHIFTED: [Aligned; 2] = {
    let mut table = [Aligned([0; 16]); 2];
    let mut byte = 0;
    while byte < 32 {
        // After the split it is lane `byte / 2` of its half; ShiftRows put lane `l + 4 (l mod 4) mod 16` at `l`.
        let lane = byte / 2;
        let shifted = (lane + 16 - 4 * (lane % 4)) % 16;
        table[byte / 16].0[byte % 16] = (16 * (byte % 2) + shifted) as u8;
        byte += 1;
    }
    table
};

impl Vector for V {
    const IN_LINES: bool = false;
    #[inline(always)]
    fn load(bytes: &Aligned) -> Self {
        // SAFETY: both types are 16 bytes of which every value is allowed, at the same alignment.
        Self(unsafe { transmute::<Aligned, uint8x16_t>(*bytes) })
    }
    #[inline(always)]
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4] {
        four!(|I| <Self as Vector>::load(&bytes[I]))
    }
    #[inline(always)]
    fn load16(blocks: &[Block; 16]) -> [Self; 16] {
        let (fours, _) = blocks.as_chunks::<4>();
        let [a, b, c, d] = load4!("ld1", &fours[0], "v0", "v1", "v2", "v3");
        let [e, f, g, h] = load4!("ld1", &fours[1], "v4", "v5", "v6", "v7");
        let [i, j, k, l] = load4!("ld1", &fours[2], "v16", "v17", "v18", "v19");
        let [m, n, o, p] = load4!("ld1", &fours[3], "v20", "v21", "v22", "v23");
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
    #[inline(always)]
    fn gather16(sectors: &[Sector; 16], number: usize) -> [Self; 16] {
        assert!(number < SECTOR_BLOCKS, "the sector has 256 blocks");
        let first = sectors.as_ptr().cast::<Block>().wrapping_add(number);
        let mut x = [Self(op!(vdupq_n_u8(0))); 16];
        // SAFETY: the number is below the blocks of a sector, so each load stays in its sector. LD1 of bytes takes any alignment.
        unsafe {
            asm!(
                "ld1 {{{x0:v}.16b}}, [{p}], {s}",
                "ld1 {{{x1:v}.16b}}, [{p}], {s}",
                "ld1 {{{x2:v}.16b}}, [{p}], {s}",
                "ld1 {{{x3:v}.16b}}, [{p}], {s}",
                "ld1 {{{x4:v}.16b}}, [{p}], {s}",
                "ld1 {{{x5:v}.16b}}, [{p}], {s}",
                "ld1 {{{x6:v}.16b}}, [{p}], {s}",
                "ld1 {{{x7:v}.16b}}, [{p}], {s}",
                "ld1 {{{x8:v}.16b}}, [{p}], {s}",
                "ld1 {{{x9:v}.16b}}, [{p}], {s}",
                "ld1 {{{x10:v}.16b}}, [{p}], {s}",
                "ld1 {{{x11:v}.16b}}, [{p}], {s}",
                "ld1 {{{x12:v}.16b}}, [{p}], {s}",
                "ld1 {{{x13:v}.16b}}, [{p}], {s}",
                "ld1 {{{x14:v}.16b}}, [{p}], {s}",
                "ld1 {{{x15:v}.16b}}, [{p}], {s}",
                p = inout(reg) first => _, s = in(reg) SECTOR_LEN, x0 = out(vreg) x[0].0, x1 = out(vreg) x[1].0, x2 = out(vreg) x[2].0, x3 = out(vreg) x[3].0, x4 = out(vreg) x[4].0, x5 = out(vreg) x[5].0, x6 = out(vreg) x[6].0, x7 = out(vreg) x[7].0, x8 = out(vreg) x[8].0, x9 = out(vreg) x[9].0, x10 = out(vreg) x[10].0, x11 = out(vreg) x[11].0, x12 = out(vreg) x[12].0, x13 = out(vreg) x[13].0, x14 = out(vreg) x[14].0, x15 = out(vreg) x[15].0,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        x
    }
    #[inline(always)]
    fn scatter16(x: [Self; 16], sectors: &mut [Sector; 16], number: usize) {
        assert!(number < SECTOR_BLOCKS, "the sector has 256 blocks");
        let first = sectors.as_mut_ptr().cast::<Block>().wrapping_add(number);
        // SAFETY: the number is below the blocks of a sector, so each store stays in its sector. ST1 of bytes takes any alignment.
        unsafe {
            asm!(
                "st1 {{{x0:v}.16b}}, [{p}], {s}",
                "st1 {{{x1:v}.16b}}, [{p}], {s}",
                "st1 {{{x2:v}.16b}}, [{p}], {s}",
                "st1 {{{x3:v}.16b}}, [{p}], {s}",
                "st1 {{{x4:v}.16b}}, [{p}], {s}",
                "st1 {{{x5:v}.16b}}, [{p}], {s}",
                "st1 {{{x6:v}.16b}}, [{p}], {s}",
                "st1 {{{x7:v}.16b}}, [{p}], {s}",
                "st1 {{{x8:v}.16b}}, [{p}], {s}",
                "st1 {{{x9:v}.16b}}, [{p}], {s}",
                "st1 {{{x10:v}.16b}}, [{p}], {s}",
                "st1 {{{x11:v}.16b}}, [{p}], {s}",
                "st1 {{{x12:v}.16b}}, [{p}], {s}",
                "st1 {{{x13:v}.16b}}, [{p}], {s}",
                "st1 {{{x14:v}.16b}}, [{p}], {s}",
                "st1 {{{x15:v}.16b}}, [{p}], {s}",
                p = inout(reg) first => _, s = in(reg) SECTOR_LEN, x0 = in(vreg) x[0].0, x1 = in(vreg) x[1].0, x2 = in(vreg) x[2].0, x3 = in(vreg) x[3].0, x4 = in(vreg) x[4].0, x5 = in(vreg) x[5].0, x6 = in(vreg) x[6].0, x7 = in(vreg) x[7].0, x8 = in(vreg) x[8].0, x9 = in(vreg) x[9].0, x10 = in(vreg) x[10].0, x11 = in(vreg) x[11].0, x12 = in(vreg) x[12].0, x13 = in(vreg) x[13].0, x14 = in(vreg) x[14].0, x15 = in(vreg) x[15].0,
                options(nostack, preserves_flags)
            );
        }
    }
    #[inline(always)]
    fn load_block(block: &Block) -> Self {
        let x: uint8x16_t;
        // SAFETY: a reference to 16 bytes is valid for the load of 16 bytes; LD1 of bytes takes any alignment.
        unsafe {
            asm!("ld1 {{{:v}.16b}}, [{}]", out(vreg) x, in(reg) block, options(pure, readonly, nostack, preserves_flags));
        }
        Self(x)
    }
    #[inline(always)]
    fn store_block(self, block: &mut Block) {
        // SAFETY: an exclusive reference to 16 bytes is valid for the store of 16 bytes; ST1 of bytes takes any alignment.
        unsafe {
            asm!("st1 {{{:v}.16b}}, [{}]", in(vreg) self.0, in(reg) block, options(nostack, preserves_flags));
        }
    }
    #[inline(always)]
    fn deal4(blocks: &[Block; 4]) -> [Self; 4] {
        load4!("ld4", blocks, "v0", "v1", "v2", "v3")
    }
    #[inline(always)]
    fn collect4(x: [Self; 4], blocks: &mut [Block; 4]) {
        let x = uint8x16x4_t(x[0].0, x[1].0, x[2].0, x[3].0);
        // SAFETY: an exclusive reference to 64 bytes is valid for the store of 64 bytes; ST4 of bytes takes any alignment.
        unsafe { vst4q_u8(blocks.as_flattened_mut().as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn store4(x: [Self; 4], blocks: &mut [Block; 4]) {
        let x = uint8x16x4_t(x[0].0, x[1].0, x[2].0, x[3].0);
        // SAFETY: an exclusive reference to 64 bytes is valid for the store of 64 bytes; ST1 of bytes takes any alignment.
        unsafe { vst1q_u8_x4(blocks.as_flattened_mut().as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn splat(byte: u8) -> Self {
        Self(op!(vdupq_n_u8(byte)))
    }
    #[inline(always)]
    fn splat_lane<const LANE: i32>(self) -> Self {
        Self(op!(vdupq_laneq_u8::<LANE>(self.0)))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(op!(veorq_u8(self.0, other.0)))
    }
    #[inline(always)]
    fn select(self, yes: Self, no: Self) -> Self {
        Self(op!(vbslq_u8(self.0, yes.0, no.0)))
    }
    #[inline(always)]
    fn aes_round(self, key: Self) -> Self {
        Self(op!(vaesmcq_u8(vaeseq_u8(self.0, key.0))))
    }
    #[inline(always)]
    fn aes_inv_round(self, key: Self) -> Self {
        Self(op!(vaesimcq_u8(vaesdq_u8(self.0, key.0))))
    }
    #[inline(always)]
    fn inv_mix_columns(self) -> Self {
        Self(op!(vaesimcq_u8(self.0)))
    }
    #[inline(always)]
    fn with_last_word(self, word: u32) -> Self {
        let x = op!(vreinterpretq_u32_u8(self.0));
        Self(op!(vreinterpretq_u8_u32(vsetq_lane_u32::<3>(word, x))))
    }
    #[inline(always)]
    fn to_block(self) -> Block {
        // SAFETY: both types are 16 bytes of which every value is allowed.
        unsafe { transmute::<uint8x16_t, Block>(self.0) }
    }
    #[inline(always)]
    fn add8(self, other: Self) -> Self {
        Self(op!(vaddq_u8(self.0, other.0)))
    }
    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        let sum = op!(vaddq_u32(vreinterpretq_u32_u8(self.0), vreinterpretq_u32_u8(other.0)));
        Self(op!(vreinterpretq_u8_u32(sum)))
    }
    #[inline(always)]
    fn low_nibbles(self) -> Self {
        Self(op!(vandq_u8(self.0, vdupq_n_u8(15))))
    }
    #[inline(always)]
    fn high_nibbles(self) -> Self {
        Self(op!(vshrq_n_u8::<4>(self.0)))
    }
    #[inline(always)]
    fn lookup(self, index: Self) -> Self {
        Self(op!(vqtbl1q_u8(self.0, index.0)))
    }
    #[inline(always)]
    fn lookup_by_word(tables: [Self; 2], index: Self) -> Self {
        let index = op!(vorrq_u8(index.0, <Self as Vector>::load(&SECOND_TABLE).0));
        Self(op!(vqtbl2q_u8(uint8x16x2_t(tables[0].0, tables[1].0), index)))
    }
    #[inline(always)]
    fn sum_words(self) -> Self {
        let pairs = op!(veorq_u8(self.0, vextq_u8::<8>(self.0, self.0)));
        Self(op!(veorq_u8(pairs, vextq_u8::<4>(pairs, pairs))))
    }
    #[inline(always)]
    fn sub_shift(self, key: Self) -> Self {
        Self(op!(vaeseq_u8(self.0, key.0)))
    }
    #[inline(always)]
    fn inv_sub_shift(self, key: Self) -> Self {
        Self(op!(vaesdq_u8(self.0, key.0)))
    }
    #[inline(always)]
    fn shift_twice(self) -> Self {
        self.lookup(<Self as Vector>::load(&SHIFT_TWICE))
    }
    #[inline(always)]
    fn zip_low(self, other: Self) -> Self {
        Self(op!(vzip1q_u8(self.0, other.0)))
    }
    #[inline(always)]
    fn zip_high(self, other: Self) -> Self {
        Self(op!(vzip2q_u8(self.0, other.0)))
    }
    #[inline(always)]
    fn swap_words(self) -> Self {
        Self(op!(vrev32q_u8(self.0)))
    }
    #[inline(always)]
    fn transpose_words(rows: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = four!(|I| op!(vreinterpretq_u32_u8(rows[I].0)));
        let pairs = op!([vtrn1q_u32(a, b), vtrn2q_u32(a, b), vtrn1q_u32(c, d), vtrn2q_u32(c, d)]);
        let [p, q, r, s] = four!(|I| op!(vreinterpretq_u64_u32(pairs[I])));
        let columns = op!([vtrn1q_u64(p, r), vtrn1q_u64(q, s), vtrn2q_u64(p, r), vtrn2q_u64(q, s)]);
        four!(|I| Self(op!(vreinterpretq_u8_u64(columns[I]))))
    }
    #[inline(always)]
    fn unzip(self, other: Self) -> (Self, Self) {
        (Self(op!(vuzp1q_u8(self.0, other.0))), Self(op!(vuzp2q_u8(self.0, other.0))))
    }
    #[inline(always)]
    fn zip_shifted(even: Self, odd: Self) -> [Self; 2] {
        let pair = uint8x16x2_t(even.0, odd.0);
        each!(0 1; |I| Self(op!(vqtbl2q_u8(pair, <Self as Vector>::load(&ZIP_SHIFTED[I]).0))))
    }
}

impl aes::Rounds for V {}

#[rustfmt::skip]
impl aria::Rounds for V {
    #[inline(always)]
    fn round_pairs(mut s: aria::Summands<Self>, keys: &[[[Aligned; 16]; 2]]) -> aria::Summands<Self> {
        let keys = keys.as_ptr_range();
        assert!(keys.start != keys.end, "the shortest key has four pairs of inner rounds after the third");
        // SAFETY: each turn loads the 512 bytes of one pair, from the begin of the slice to its end, which are not the same; all
        // registers written are declared.
        unsafe {
            asm!(
                    "2:",
                    include_str!("aria_even.s"),
                    include_str!("aria_odd.s"),
                    "cmp {key}, {end}",
                    "b.ne 2b",
                    key = inout(reg) keys.start => _, end = in(reg) keys.end,
                    inlateout("v0") s.x[0].0,
                    inlateout("v1") s.x[1].0,
                    inlateout("v2") s.x[2].0,
                    inlateout("v3") s.x[3].0,
                    inlateout("v4") s.x[4].0,
                    inlateout("v5") s.x[5].0,
                    inlateout("v6") s.x[6].0,
                    inlateout("v7") s.x[7].0,
                    inlateout("v8") s.x[8].0,
                    inlateout("v9") s.x[9].0,
                    inlateout("v10") s.x[10].0,
                    inlateout("v11") s.x[11].0,
                    inlateout("v12") s.x[12].0,
                    inlateout("v13") s.x[13].0,
                    inlateout("v14") s.x[14].0,
                    inlateout("v15") s.x[15].0,
                    inlateout("v16") s.free[0].0,
                    inlateout("v17") s.free[1].0,
                    inlateout("v18") s.free[2].0,
                    inlateout("v19") s.free[3].0,
                    out("v20") _,
                    out("v21") _,
                    out("v22") _,
                    out("v23") _,
                    out("v24") _,
                    out("v25") _,
                    out("v26") _,
                    out("v27") _,
                    in("v28") vdupq_n_u8(15),
                    in("v29") <Self as Vector>::load(&aria::POST[1]).0,
                    in("v30") <Self as Vector>::load(&aria::PRE[1]).0,
                    in("v31") <Self as Vector>::load(&SHIFT_TWICE).0,
                    options(pure, readonly, nostack)
            );
        }
        s
    }

    #[inline(always)]
    fn odd_round(s: aria::Summands<Self>, keys: &[Aligned; 16]) -> aria::Summands<Self> {
        let aria::Summands { x, free } = s;
        let mut y = aria::Summands { x, free };
        // SAFETY: the round loads the 256 bytes of its keys; all registers written are declared.
        unsafe {
            asm!(
                    include_str!("aria_odd.s"),
                    key = inout(reg) keys.as_ptr() => _,
                    inlateout("v0") x[10].0 => y.x[0].0,
                    lateout("v1") y.x[1].0,
                    inlateout("v2") x[13].0 => y.x[2].0,
                    inlateout("v3") x[7].0 => y.x[3].0,
                    inlateout("v4") x[8].0 => y.x[4].0,
                    inlateout("v5") x[1].0 => y.x[5].0,
                    inlateout("v6") x[12].0 => y.x[6].0,
                    inlateout("v7") x[2].0 => y.x[7].0,
                    inlateout("v8") x[0].0 => y.x[8].0,
                    lateout("v9") y.x[9].0,
                    inlateout("v10") x[5].0 => y.x[10].0,
                    inlateout("v11") x[9].0 => y.x[11].0,
                    lateout("v12") y.x[12].0,
                    inlateout("v13") x[4].0 => y.x[13].0,
                    inlateout("v14") x[15].0 => y.x[14].0,
                    inlateout("v15") x[11].0 => y.x[15].0,
                    inlateout("v16") free[0].0 => y.free[0].0,
                    lateout("v17") y.free[1].0,
                    inlateout("v18") free[1].0 => y.free[2].0,
                    inlateout("v19") free[2].0 => y.free[3].0,
                    inlateout("v20") x[6].0 => _,
                    inlateout("v21") x[3].0 => _,
                    inlateout("v22") free[3].0 => _,
                    inlateout("v23") x[14].0 => _,
                    out("v24") _,
                    out("v25") _,
                    out("v26") _,
                    out("v27") _,
                    in("v28") vdupq_n_u8(15),
                    in("v29") <Self as Vector>::load(&aria::POST[1]).0,
                    in("v30") <Self as Vector>::load(&aria::PRE[1]).0,
                    in("v31") <Self as Vector>::load(&SHIFT_TWICE).0,
                    options(pure, readonly, nostack, preserves_flags)
            );
        }
        y
    }
}

impl Clmul for V {
    #[inline(always)]
    fn load(bytes: &Aligned) -> Self {
        <Self as Vector>::load(bytes)
    }
    #[inline(always)]
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4] {
        let (a, b, c, d): (uint8x16_t, uint8x16_t, uint8x16_t, uint8x16_t);
        // SAFETY: a reference to 64 bytes is valid for the load of 64 bytes. (Not `pure`, or the compiler would load once before a loop
        // and keep the powers on the stack.)
        unsafe {
            asm!("ld1 {{v4.16b, v5.16b, v6.16b, v7.16b}}, [{}]", in(reg) bytes.as_ptr(), out("v4") a, out("v5") b, out("v6") c,
                out("v7") d, options(readonly, nostack, preserves_flags));
        }
        [Self(a), Self(b), Self(c), Self(d)]
    }
    #[inline(always)]
    fn store(self, bytes: &mut Aligned) {
        // SAFETY: both types are 16 bytes of which every value is allowed, at the same alignment.
        *bytes = unsafe { transmute::<uint8x16_t, Aligned>(self.0) };
    }
    #[inline(always)]
    fn reverse_halves(self) -> Self {
        Self(op!(vrev64q_u8(self.0)))
    }
    #[inline(always)]
    fn load_block(block: &Block) -> Self {
        <Self as Vector>::load_block(block)
    }
    #[inline(always)]
    fn load4_reversed(blocks: &[Block; 4]) -> [Self; 4] {
        let x = load4!("ld1", blocks, "v0", "v1", "v2", "v3");
        four!(|I| x[I].reverse_halves())
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(op!(veorq_u8(self.0, other.0)))
    }
    #[inline(always)]
    fn swap_halves(self) -> Self {
        Self(op!(vextq_u8::<8>(self.0, self.0)))
    }
    #[inline(always)]
    fn low(self, other: Self) -> Self {
        let product: uint8x16_t;
        // SAFETY: PMULL of 64-bit polynomials only computes; the proof says that it is there. (The intrinsic takes its operands through
        // general registers.)
        unsafe {
            asm!(".arch_extension aes", "pmull {:v}.1q, {:v}.1d, {:v}.1d", lateout(vreg) product, in(vreg) self.0,
                in(vreg) other.0, options(pure, nomem, nostack, preserves_flags));
        }
        Self(product)
    }
    #[inline(always)]
    fn high(self, other: Self) -> Self {
        let product: uint8x16_t;
        // SAFETY: as for `low`.
        unsafe {
            asm!(".arch_extension aes", "pmull2 {:v}.1q, {:v}.2d, {:v}.2d", lateout(vreg) product, in(vreg) self.0,
                in(vreg) other.0, options(pure, nomem, nostack, preserves_flags));
        }
        Self(product)
    }
    #[inline(always)]
    fn join_low(self, other: Self) -> Self {
        let joined: uint8x16_t;
        // SAFETY: TRN1 only moves lanes. (The compiler would take an INS, which overwrites its operand, and a copy of that.)
        unsafe {
            asm!("trn1 {:v}.2d, {:v}.2d, {:v}.2d", lateout(vreg) joined, in(vreg) self.0, in(vreg) other.0,
                options(pure, nomem, nostack, preserves_flags));
        }
        Self(joined)
    }
    #[inline(always)]
    fn join_high(self, other: Self) -> Self {
        let [a, b] = op!([vreinterpretq_u64_u8(self.0), vreinterpretq_u64_u8(other.0)]);
        Self(op!(vreinterpretq_u8_u64(vtrn2q_u64(a, b))))
    }
    #[inline(always)]
    fn from_halves(low: u64, high: u64) -> Self {
        Self(op!(vreinterpretq_u8_u64(vcombine_u64(vdup_n_u64(low), vdup_n_u64(high)))))
    }
}

/// Makes a safe entry point that takes a proof of the instructions which the kernel inside is compiled for.
macro_rules! entry {
    ($features:literal, $proof:ty, $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $kernel:path) => {
        pub(crate) fn $name(_: $proof, $($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn inner($($arg: $type),*) $(-> $result)? {
                $kernel($($arg),*)
            }
            // SAFETY: the proof says that this processor has these instructions.
            let result = unsafe { inner($($arg),*) };
            wipe_registers();
            result
        }
    };
}

/// Clears the vector registers that a function may leave behind (AAPCS64 section 6.1.2). The low halves of `v8` to `v15` belong to the caller,
/// and restoring them clears their high halves.
#[inline(always)]
fn wipe_registers() {
    macro_rules! clear {
        ($($register:tt)*) => {
            // SAFETY: the registers are declared as overwritten.
            unsafe {
                asm!(
                    $(concat!("movi ", $register, ".2d, #0"),)*
                    $(out($register) _,)*
                    options(nomem, nostack, preserves_flags)
                );
            }
        };
    }
    clear!("v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23");
    clear!("v24" "v25" "v26" "v27" "v28" "v29" "v30" "v31");
}

entry!("neon,aes", VectorProof, aes_reverse(keys: &aes::Keys) -> aes::Keys, aes::reverse::<V>);
entry!("neon,aes", VectorProof, aes_encrypt(keys: &aes::Keys, blocks: &mut [Block]), aes::encrypt::<V>);
entry!("neon,aes", VectorProof, aes_decrypt(keys: &aes::Keys, blocks: &mut [Block]), aes::decrypt::<V>);
entry!("neon,aes", VectorProof,
    aes_ctr(keys: &aes::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), aes::ctr::<V>);
entry!("neon,aes", VectorProof, aria_crypt(keys: &aria::Keys, blocks: &mut [Block]), aria::crypt::<V>);
entry!("neon,aes", VectorProof,
    aria_ctr(keys: &aria::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), aria::ctr::<V>);
entry!("neon,aes", VectorProof, seed_crypt(keys: &seed::Keys, blocks: &mut [Block]), seed::crypt::<V>);
entry!("neon,aes", VectorProof,
    seed_ctr(keys: &seed::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), seed::ctr::<V>);
entry!("neon,aes", VectorProof,
    aes_chain(keys: &aes::Keys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>, chains: &mut [Block; 16]), aes::chain::<V>);
entry!("neon,aes", VectorProof,
    aria_chain(keys: &aria::Keys, first: &aria::ChainKeys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>,
        chains: &mut [Block; 16]), aria::chain::<V>);
entry!("neon,aes", VectorProof,
    seed_chain(keys: &seed::Keys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>, chains: &mut [Block; 16]), seed::chain::<V>);
entry!("neon,aes", VectorProof, aes_chain_one(keys: &aes::Keys, state: &mut Block, blocks: &[Block]), aes::chain_one::<V>);
entry!("neon,aes", VectorProof, aria_chain_one(keys: &aria::Keys, state: &mut Block, blocks: &[Block]), aria::chain_one::<V>);
entry!("neon,aes", VectorProof, seed_chain_one(keys: &seed::Keys, state: &mut Block, blocks: &[Block]), seed::chain_one::<V>);
entry!("neon,aes", VectorProof, ghash_powers(h: &Block) -> ghash::Powers, ghash::powers::<V>);
entry!("neon,aes", VectorProof,
    ghash_update(powers: &ghash::Powers, sum: &mut Block, blocks: &[Block]), ghash::update::<V>);
entry!("neon,aes", VectorProof,
    ghash_digest(powers: &ghash::Powers, aad: &[u8], data: &[u8]) -> Aligned, ghash::digest::<V>);

/// The SHA-256 compression of whole blocks (FIPS 180-4 section 6.2.2).
pub(crate) fn sha256_compress(_: Sha256Proof, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    // SAFETY: the proof says that this processor has these instructions.
    unsafe { sha256_blocks(state, blocks) };
    wipe_registers();
}

#[target_feature(enable = "neon,sha2")]
fn sha256_blocks(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    let half = |i: usize| -> uint32x4_t {
        let words: [u32; 4] = [state[i], state[i + 1], state[i + 2], state[i + 3]];
        // SAFETY: both types are 16 bytes of which every value is allowed.
        unsafe { transmute(words) }
    };
    let (mut abcd, mut efgh) = (half(0), half(4));
    for block in blocks {
        let [a, b, c, d] = {
            let (fours, _) = block.as_chunks::<16>();
            let fours: &[Block; 4] = fours.try_into().expect("64 bytes are four times 16");
            load4!("ld1", fours, "v0", "v1", "v2", "v3")
        };
        let mut w = [a, b, c, d].map(|x| vreinterpretq_u32_u8(vrev32q_u8(x.0)));
        let (first, second) = (abcd, efgh);
        for (i, constants) in SHA256_K.iter().enumerate() {
            // SAFETY: both types are 16 bytes of which every value is allowed.
            let k: uint32x4_t = unsafe { transmute(*constants) };
            let sum = vaddq_u32(w[0], k);
            let before = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, before, sum);
            let next = if i < 12 { vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]) } else { w[0] };
            w = [w[1], w[2], w[3], next];
        }
        abcd = vaddq_u32(abcd, first);
        efgh = vaddq_u32(efgh, second);
    }
    // SAFETY: both types are 16 bytes of which every value is allowed.
    let words: [[u32; 4]; 2] =
        unsafe { [transmute::<uint32x4_t, [u32; 4]>(abcd), transmute::<uint32x4_t, [u32; 4]>(efgh)] };
    state[..4].copy_from_slice(&words[0]);
    state[4..].copy_from_slice(&words[1]);
}

/// The round constants (FIPS 180-4 section 4.2.2), four to a step.
#[rustfmt::skip]
const SHA256_K: [[u32; 4]; 16] = [
    [0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5], [0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5],
    [0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3], [0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174],
    [0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc], [0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da],
    [0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7], [0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967],
    [0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13], [0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85],
    [0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3], [0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070],
    [0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5], [0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3],
    [0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208], [0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2],
];
