//! The instructions of x86-64: AES-NI, byte shuffles, PCLMULQDQ, in their AVX encodings. Simulators, provisioning tools and tests
//! run on it.
use core::arch::x86_64::*;
use core::mem::transmute;

use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;

use super::vector::{Aligned, Clmul, Vector, each, four, sixteen};
use super::{Sha256Proof, VectorProof, aes, aria, ghash, seed};
use crate::Block;
use crate::aead::Sector;
use crate::features::CpuFeatures;

/// Asks CPUID (Intel SDM volume 2A, leaf 1: ECX) and XGETBV whether the operating system saves the AVX registers.
pub(super) fn ask() -> CpuFeatures {
    const PCLMULQDQ: u32 = 1 << 1;
    const AES: u32 = 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    let ecx = __cpuid(1).ecx;
    let has = |bits: u32| ecx & bits == bits;
    let avx = has(OSXSAVE | AVX) && {
        // SAFETY: OSXSAVE says that XGETBV is there.
        let enabled = unsafe { _xgetbv(0) };
        enabled & 6 == 6
    };
    CpuFeatures { vector: avx && has(AES | PCLMULQDQ), sha256: false }
}

/// A vector register.
#[derive(Clone, Copy)]
struct X(__m128i);

/// Calls intrinsics.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: an `X` is only handled inside the entry points below, which run only with a proof of these instructions.
        unsafe { $call }
    };
}

/// AES's ShiftRows and its inverse as shuffles of lanes.
const UNSHIFT: Block = [0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3];
const SHIFT_TWICE: Block = [0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12, 5, 14, 7];
const SWAP_WORDS: Block = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
const BYTES_OF_WORDS: Block = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
const REVERSE_HALVES: Block = [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8];
const EVEN_THEN_ODD: Block = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];

impl X {
    #[inline(always)]
    fn from_block(bytes: &Block) -> Self {
        // SAFETY: both types are 16 bytes of which every value is allowed.
        Self(unsafe { transmute::<Block, __m128i>(*bytes) })
    }

    /// The sum with itself, its 32-bit lanes in another order.
    #[inline(always)]
    fn xor_shuffled<const ORDER: i32>(self) -> Self {
        Self(op!(_mm_xor_si128(self.0, _mm_shuffle_epi32::<ORDER>(self.0))))
    }
}

impl Vector for X {
    const IN_LINES: bool = true;
    #[inline(always)]
    fn load(bytes: &Aligned) -> Self {
        Self::from_block(&bytes.0)
    }
    #[inline(always)]
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4] {
        four!(|I| Self::from_block(&bytes[I].0))
    }
    #[inline(always)]
    fn load16(blocks: &[Block; 16]) -> [Self; 16] {
        sixteen!(|I| Self::from_block(&blocks[I]))
    }
    #[inline(always)]
    fn gather16(sectors: &[Sector; 16], number: usize) -> [Self; 16] {
        sixteen!(|I| Self::from_block(&sectors[I].as_chunks::<16>().0[number]))
    }
    #[inline(always)]
    fn scatter16(x: [Self; 16], sectors: &mut [Sector; 16], number: usize) {
        let _: [(); 16] = sixteen!(|I| sectors[I].as_chunks_mut::<16>().0[number] = x[I].to_block());
    }
    #[inline(always)]
    fn load_block(block: &Block) -> Self {
        Self::from_block(block)
    }
    #[inline(always)]
    fn store_block(self, block: &mut Block) {
        *block = self.to_block();
    }
    #[inline(always)]
    fn deal4(blocks: &[Block; 4]) -> [Self; 4] {
        Self::transpose_words(four!(|I| Self::from_block(&blocks[I]).lookup(Self::from_block(&BYTES_OF_WORDS))))
    }
    #[inline(always)]
    fn collect4(x: [Self; 4], blocks: &mut [Block; 4]) {
        let x = Self::transpose_words(x);
        *blocks = four!(|I| x[I].lookup(Self::from_block(&BYTES_OF_WORDS)).to_block());
    }
    #[inline(always)]
    fn store4(x: [Self; 4], blocks: &mut [Block; 4]) {
        *blocks = four!(|I| x[I].to_block());
    }
    #[inline(always)]
    fn splat(byte: u8) -> Self {
        Self(op!(_mm_set1_epi8(byte as i8)))
    }
    #[inline(always)]
    fn splat_lane<const LANE: i32>(self) -> Self {
        self.lookup(Vector::splat(LANE as u8))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(op!(_mm_xor_si128(self.0, other.0)))
    }
    #[inline(always)]
    fn select(self, yes: Self, no: Self) -> Self {
        Self(op!(_mm_or_si128(_mm_and_si128(self.0, yes.0), _mm_andnot_si128(self.0, no.0))))
    }
    #[inline(always)]
    fn aes_round(self, key: Self) -> Self {
        Self(op!(_mm_aesenc_si128(_mm_xor_si128(self.0, key.0), _mm_setzero_si128())))
    }
    #[inline(always)]
    fn aes_inv_round(self, key: Self) -> Self {
        Self(op!(_mm_aesdec_si128(_mm_xor_si128(self.0, key.0), _mm_setzero_si128())))
    }
    #[inline(always)]
    fn inv_mix_columns(self) -> Self {
        Self(op!(_mm_aesimc_si128(self.0)))
    }
    #[inline(always)]
    fn with_last_word(self, word: u32) -> Self {
        Self(op!(_mm_insert_epi32::<3>(self.0, word as i32)))
    }
    #[inline(always)]
    fn to_block(self) -> Block {
        // SAFETY: both types are 16 bytes of which every value is allowed.
        unsafe { transmute::<__m128i, Block>(self.0) }
    }
    #[inline(always)]
    fn add8(self, other: Self) -> Self {
        Self(op!(_mm_add_epi8(self.0, other.0)))
    }
    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        Self(op!(_mm_add_epi32(self.0, other.0)))
    }
    #[inline(always)]
    fn low_nibbles(self) -> Self {
        Self(op!(_mm_and_si128(self.0, _mm_set1_epi8(15))))
    }
    #[inline(always)]
    fn high_nibbles(self) -> Self {
        Self(op!(_mm_and_si128(_mm_srli_epi16::<4>(self.0), _mm_set1_epi8(15))))
    }
    #[inline(always)]
    fn lookup(self, index: Self) -> Self {
        Self(op!(_mm_shuffle_epi8(self.0, index.0)))
    }
    #[inline(always)]
    fn lookup_by_word(tables: [Self; 2], index: Self) -> Self {
        let (even, odd) = (tables[0].lookup(index), tables[1].lookup(index));
        Self(op!(_mm_blend_epi16::<0b1100_1100>(even.0, odd.0)))
    }
    #[inline(always)]
    fn sum_words(self) -> Self {
        let pairs = self.xor_shuffled::<0x4e>();
        pairs.xor_shuffled::<0xb1>()
    }
    #[inline(always)]
    fn sub_shift(self, key: Self) -> Self {
        Self(op!(_mm_aesenclast_si128(_mm_xor_si128(self.0, key.0), _mm_setzero_si128())))
    }
    #[inline(always)]
    fn inv_sub_shift(self, key: Self) -> Self {
        Self(op!(_mm_aesdeclast_si128(_mm_xor_si128(self.0, key.0), _mm_setzero_si128())))
    }
    #[inline(always)]
    fn shift_twice(self) -> Self {
        self.lookup(Self::from_block(&SHIFT_TWICE))
    }
    #[inline(always)]
    fn zip_low(self, other: Self) -> Self {
        Self(op!(_mm_unpacklo_epi8(self.0, other.0)))
    }
    #[inline(always)]
    fn zip_high(self, other: Self) -> Self {
        Self(op!(_mm_unpackhi_epi8(self.0, other.0)))
    }
    #[inline(always)]
    fn swap_words(self) -> Self {
        self.lookup(Self::from_block(&SWAP_WORDS))
    }
    #[inline(always)]
    fn transpose_words([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let (ab_low, ab_high) = op!((_mm_unpacklo_epi32(a.0, b.0), _mm_unpackhi_epi32(a.0, b.0)));
        let (cd_low, cd_high) = op!((_mm_unpacklo_epi32(c.0, d.0), _mm_unpackhi_epi32(c.0, d.0)));
        [
            Self(op!(_mm_unpacklo_epi64(ab_low, cd_low))),
            Self(op!(_mm_unpackhi_epi64(ab_low, cd_low))),
            Self(op!(_mm_unpacklo_epi64(ab_high, cd_high))),
            Self(op!(_mm_unpackhi_epi64(ab_high, cd_high))),
        ]
    }
    #[inline(always)]
    fn unzip(self, other: Self) -> (Self, Self) {
        let order = Self::from_block(&EVEN_THEN_ODD);
        let (a, b) = (self.lookup(order), other.lookup(order));
        (Self(op!(_mm_unpacklo_epi64(a.0, b.0))), Self(op!(_mm_unpackhi_epi64(a.0, b.0))))
    }
    #[inline(always)]
    fn zip_shifted(even: Self, odd: Self) -> [Self; 2] {
        let unshift = Self::from_block(&UNSHIFT);
        let (even, odd) = (even.lookup(unshift), odd.lookup(unshift));
        [even.zip_low(odd), even.zip_high(odd)]
    }
}

impl aria::Rounds for X {}

/// These instructions add the key after the other steps, where those of ARMv8 add it before. Eight blocks at a time leave registers for
/// the keys.
impl aes::Rounds for X {
    #[inline(always)]
    fn rounds<const INVERSE: bool, const N: usize>(keys: &aes::Keys, mut x: [Self; N]) -> [Self; N] {
        let (eights, rest) = x.as_chunks_mut::<8>();
        for eight in eights {
            *eight = aes_rounds::<INVERSE, 8>(keys, *eight);
        }
        for one in rest {
            [*one] = aes_rounds::<INVERSE, 1>(keys, [*one]);
        }
        x
    }
}

#[inline(always)]
fn aes_rounds<const INVERSE: bool, const N: usize>(keys: &aes::Keys, mut x: [X; N]) -> [X; N] {
    let (first, keys) = keys.as_slice().split_first().expect("a key has at least 11 round keys");
    let (last, inner) = keys.split_last().expect("a key has at least 11 round keys");
    let (first, last) = (X::from_block(&first.0), X::from_block(&last.0));
    let mut i = 0;
    while i < N {
        x[i] = Vector::xor(x[i], first);
        i += 1;
    }
    for key in inner {
        let key = X::from_block(&key.0);
        let mut i = 0;
        while i < N {
            x[i] = X(op!(if INVERSE { _mm_aesdec_si128(x[i].0, key.0) } else { _mm_aesenc_si128(x[i].0, key.0) }));
            i += 1;
        }
    }
    let mut i = 0;
    while i < N {
        x[i] =
            X(op!(if INVERSE { _mm_aesdeclast_si128(x[i].0, last.0) } else { _mm_aesenclast_si128(x[i].0, last.0) }));
        i += 1;
    }
    x
}

impl Clmul for X {
    #[inline(always)]
    fn load(bytes: &Aligned) -> Self {
        Self::from_block(&bytes.0)
    }
    #[inline(always)]
    fn load4(bytes: &[Aligned; 4]) -> [Self; 4] {
        <Self as Vector>::load4(bytes)
    }
    #[inline(always)]
    fn store(self, bytes: &mut Aligned) {
        bytes.0 = self.to_block();
    }
    #[inline(always)]
    fn reverse_halves(self) -> Self {
        self.lookup(Self::from_block(&REVERSE_HALVES))
    }
    #[inline(always)]
    fn load_block(block: &Block) -> Self {
        Self::from_block(block)
    }
    #[inline(always)]
    fn load4_reversed(blocks: &[Block; 4]) -> [Self; 4] {
        four!(|I| Self::from_block(&blocks[I]).reverse_halves())
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(op!(_mm_xor_si128(self.0, other.0)))
    }
    #[inline(always)]
    fn swap_halves(self) -> Self {
        Self(op!(_mm_shuffle_epi32::<0x4e>(self.0)))
    }
    #[inline(always)]
    fn low(self, other: Self) -> Self {
        Self(op!(_mm_clmulepi64_si128::<0x00>(self.0, other.0)))
    }
    #[inline(always)]
    fn high(self, other: Self) -> Self {
        Self(op!(_mm_clmulepi64_si128::<0x11>(self.0, other.0)))
    }
    #[inline(always)]
    fn join_low(self, other: Self) -> Self {
        Self(op!(_mm_unpacklo_epi64(self.0, other.0)))
    }
    #[inline(always)]
    fn join_high(self, other: Self) -> Self {
        Self(op!(_mm_unpackhi_epi64(self.0, other.0)))
    }
    #[inline(always)]
    fn from_halves(low: u64, high: u64) -> Self {
        Self(op!(_mm_set_epi64x(high as i64, low as i64)))
    }
}

/// Clears the vector registers.
#[target_feature(enable = "avx")]
fn wipe_registers() {
    _mm256_zeroall();
}

/// Makes a safe entry point that takes a proof of the instructions which the kernel inside is compiled for.
macro_rules! entry {
    ($features:literal, $proof:ty, $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $kernel:path) => {
        pub(crate) fn $name(_: $proof, $($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn inner($($arg: $type),*) $(-> $result)? {
                $kernel($($arg),*)
            }
            // SAFETY: the proof says that this processor has these instructions; `detect` checked all of them together.
            let result = unsafe { inner($($arg),*) };
            // SAFETY: the proof says that AVX is there.
            unsafe { wipe_registers() };
            result
        }
    };
}

entry!("avx,aes,pclmulqdq", VectorProof, aes_reverse(keys: &aes::Keys) -> aes::Keys, aes::reverse::<X>);
entry!("avx,aes,pclmulqdq", VectorProof, aes_encrypt(keys: &aes::Keys, blocks: &mut [Block]), aes::encrypt::<X>);
entry!("avx,aes,pclmulqdq", VectorProof, aes_decrypt(keys: &aes::Keys, blocks: &mut [Block]), aes::decrypt::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aes_ctr(keys: &aes::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), aes::ctr::<X>);
entry!("avx,aes,pclmulqdq", VectorProof, aria_crypt(keys: &aria::Keys, blocks: &mut [Block]), aria::crypt::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aria_ctr(keys: &aria::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), aria::ctr::<X>);
entry!("avx,aes,pclmulqdq", VectorProof, seed_crypt(keys: &seed::Keys, blocks: &mut [Block]), seed::crypt::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    seed_ctr(keys: &seed::Keys, counter: &Block, data: InOutBuf<'_, '_, Array<u8, U256>>), seed::ctr::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aes_chain(keys: &aes::Keys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>, chains: &mut [Block; 16]), aes::chain::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aria_chain(keys: &aria::Keys, first: &aria::ChainKeys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>,
        chains: &mut [Block; 16]), aria::chain::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    seed_chain(keys: &seed::Keys, sectors: &[Sector; 16], copy: Option<&mut [Sector; 16]>, chains: &mut [Block; 16]), seed::chain::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aes_chain_one(keys: &aes::Keys, state: &mut Block, blocks: &[Block]), aes::chain_one::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    aria_chain_one(keys: &aria::Keys, state: &mut Block, blocks: &[Block]), aria::chain_one::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    seed_chain_one(keys: &seed::Keys, state: &mut Block, blocks: &[Block]), seed::chain_one::<X>);
entry!("avx,aes,pclmulqdq", VectorProof, ghash_powers(h: &Block) -> ghash::Powers, ghash::powers::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    ghash_update(powers: &ghash::Powers, sum: &mut Block, blocks: &[Block]), ghash::update::<X>);
entry!("avx,aes,pclmulqdq", VectorProof,
    ghash_digest(powers: &ghash::Powers, aad: &[u8], data: &[u8]) -> Aligned, ghash::digest::<X>);

/// The `sha2` crate finds the x86 instructions itself, so `ask` never makes this proof.
pub(crate) fn sha256_compress(_: Sha256Proof, _: &mut [u32; 8], _: &[[u8; 64]]) {
    unreachable!("no proof exists here")
}
