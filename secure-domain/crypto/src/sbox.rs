//! The six S-boxes of ARIA and SEED as Boolean circuits over bit planes.
//!
//! Every one of them is an affine map of the inverse in GF(2^8), so all share the non-linear middle of Boyar and
//! Peralta's AES circuit ("A depth-16 circuit for the AES S-box", 2011) and differ only in the linear layer above it (8 bits to
//! its 22 inputs) and below it (its 18 products to 8 bits). The linear layers were found by solving for each S-box over
//! all 256 inputs and factoring common sums greedily; the tests hold every circuit against the published table.
//!
//! A bit plane `W` holds the same bit of many bytes; `x[0]` is the least significant bit. There is no branch and no
//! memory access that depends on data.
use core::ops::{BitAnd, BitXor, Not};

/// A word whose bits are handled side by side.
pub(crate) trait Plane: Copy + BitAnd<Output = Self> + BitXor<Output = Self> + Not<Output = Self> {}
impl<W: Copy + BitAnd<Output = W> + BitXor<Output = W> + Not<Output = W>> Plane for W {}

/// Eight bit planes: one byte (or many side by side), least significant bit first.
pub(crate) type Byte<W> = [W; 8];

/// Swaps bit `i` of byte `b` in word `j` with bit `j` of byte `b` in word `i`, for all eight bytes: from words to bit planes and back.
#[inline(always)]
pub(crate) fn transpose(words: &mut Byte<u64>) {
    swap_bits::<1>(words, 0x5555_5555_5555_5555);
    swap_bits::<2>(words, 0x3333_3333_3333_3333);
    swap_bits::<4>(words, 0x0f0f_0f0f_0f0f_0f0f);
}

/// One step: of every two words that lie `DISTANCE` apart, what `mask` has no ones for in the lower one, and ones for in the upper one.
#[inline(always)]
pub(crate) fn swap_bits<const DISTANCE: usize>(words: &mut [u64], mask: u64) {
    // The compiler unrolls a plain count; what it makes of a filter over eight numbers is a loop with branches.
    for pair in 0..words.len() / 2 {
        let i = pair / DISTANCE * 2 * DISTANCE + pair % DISTANCE;
        let (low, high) = (words[i], words[i + DISTANCE]);
        let swap = (low >> DISTANCE ^ high) & mask;
        words[i + DISTANCE] = high ^ swap;
        words[i] = low ^ swap << DISTANCE;
    }
}

/// ARIA S-box S1 (RFC 5794 section 2.4.2), the AES S-box.
#[inline(always)]
pub(crate) fn aria_s1<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = x[0];
    let a1 = x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = x[5];
    let a6 = x[6];
    let a7 = x[7];
    let a8 = a1 ^ a3;
    let a9 = a4 ^ a7;
    let a10 = a5 ^ a6;
    let a11 = a2 ^ a8;
    let a12 = a0 ^ a10;
    let a13 = a8 ^ a9;
    let a14 = a6 ^ a11;
    let a15 = a2 ^ a7;
    let a16 = a5 ^ a11;
    let a17 = a2 ^ a9;
    let a18 = a1 ^ a12;
    let a19 = a0 ^ a13;
    let a20 = a3 ^ a15;
    let a21 = a7 ^ a12;
    let a22 = a5 ^ a20;
    let a23 = a2 ^ a4;
    let a24 = a5 ^ a17;
    let a25 = a10 ^ a11;
    let a26 = a15 ^ a18;
    let a27 = a9 ^ a14;
    let a28 = a10 ^ a13;
    let a29 = a4 ^ a25;
    let a30 = a0 ^ a14;
    let a31 = a4 ^ a12;
    let a32 = a1 ^ a7;
    let a33 = a1 ^ a17;
    let a34 = a7 ^ a16;
    let z = inverse_products([
        a0, a12, a21, a26, a31, a18, a19, a30, a15, a9, a28, a14, a33, a32, a23, a13, a16, a24, a34, a29, a27, a22,
    ]);
    let b18 = z[15] ^ z[16];
    let b19 = z[10] ^ b18;
    let b20 = z[9] ^ b19;
    let b21 = z[0] ^ z[2];
    let b22 = z[12] ^ b21;
    let b23 = z[3] ^ z[4];
    let b24 = z[1] ^ b20;
    let b25 = z[7] ^ b23;
    let b26 = z[8] ^ b22;
    let b27 = z[5] ^ z[13];
    let b28 = z[14] ^ b26;
    let b29 = z[0] ^ b24;
    let b30 = b18 ^ b27;
    let b31 = z[6] ^ z[15];
    let b32 = b20 ^ b25;
    let b33 = z[4] ^ b30;
    let b34 = z[8] ^ z[12];
    let b35 = b23 ^ b29;
    let b36 = z[5] ^ b24;
    let b37 = z[11] ^ b28;
    let b38 = b22 ^ b30;
    let b39 = z[6] ^ z[7];
    let b40 = b19 ^ b37;
    let b41 = z[7] ^ b33;
    let b42 = z[4] ^ b36;
    let b43 = b28 ^ b31;
    let b44 = z[6] ^ b32;
    let b45 = b25 ^ b40;
    let b46 = z[17] ^ b43;
    let b47 = z[3] ^ b38;
    let b48 = b34 ^ b41;
    let b49 = b29 ^ b39;
    let b50 = z[2] ^ b42;
    [!b47, !b48, b45, b50, b35, !b46, !b49, b44]
}

/// ARIA S-box S2 (RFC 5794 section 2.4.2).
#[inline(always)]
pub(crate) fn aria_s2<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = x[0];
    let a1 = x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = x[5];
    let a6 = x[6];
    let a7 = x[7];
    let a8 = a1 ^ a3;
    let a9 = a4 ^ a7;
    let a10 = a5 ^ a6;
    let a11 = a2 ^ a8;
    let a12 = a0 ^ a10;
    let a13 = a8 ^ a9;
    let a14 = a6 ^ a11;
    let a15 = a2 ^ a7;
    let a16 = a5 ^ a11;
    let a17 = a2 ^ a9;
    let a18 = a1 ^ a12;
    let a19 = a0 ^ a13;
    let a20 = a3 ^ a15;
    let a21 = a7 ^ a12;
    let a22 = a5 ^ a20;
    let a23 = a2 ^ a4;
    let a24 = a5 ^ a17;
    let a25 = a10 ^ a11;
    let a26 = a15 ^ a18;
    let a27 = a9 ^ a14;
    let a28 = a10 ^ a13;
    let a29 = a4 ^ a25;
    let a30 = a0 ^ a14;
    let a31 = a4 ^ a12;
    let a32 = a1 ^ a7;
    let a33 = a1 ^ a17;
    let a34 = a7 ^ a16;
    let z = inverse_products([
        a0, a12, a21, a26, a31, a18, a19, a30, a15, a9, a28, a14, a33, a32, a23, a13, a16, a24, a34, a29, a27, a22,
    ]);
    let b18 = z[3] ^ z[7];
    let b19 = z[9] ^ z[10];
    let b20 = z[0] ^ z[8];
    let b21 = z[13] ^ b18;
    let b22 = z[2] ^ z[6];
    let b23 = z[4] ^ z[16];
    let b24 = z[12] ^ b23;
    let b25 = z[14] ^ z[17];
    let b26 = z[1] ^ b21;
    let b27 = z[5] ^ b26;
    let b28 = b19 ^ b25;
    let b29 = z[15] ^ b22;
    let b30 = b18 ^ b24;
    let b31 = b19 ^ b20;
    let b32 = z[2] ^ b20;
    let b33 = z[11] ^ b22;
    let b34 = z[10] ^ b33;
    let b35 = b28 ^ b30;
    let b36 = z[14] ^ b27;
    let b37 = b21 ^ b32;
    let b38 = b27 ^ b28;
    let b39 = z[17] ^ b34;
    let b40 = z[16] ^ b31;
    let b41 = b32 ^ b35;
    let b42 = z[1] ^ b23;
    let b43 = b29 ^ b38;
    let b44 = b24 ^ b37;
    let b45 = z[3] ^ z[8];
    let b46 = b42 ^ b45;
    let b47 = z[12] ^ b27;
    let b48 = b31 ^ b47;
    let b49 = b29 ^ b40;
    let b50 = b34 ^ b36;
    let b51 = b39 ^ b46;
    let b52 = z[6] ^ b35;
    let b53 = z[15] ^ b44;
    [b49, !b48, b52, b50, b43, !b53, !b41, !b51]
}

/// ARIA S-box S1^-1 (called SB3 in RFC 5794), the inverse AES S-box.
#[inline(always)]
pub(crate) fn aria_s1_inv<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = !x[0];
    let a1 = !x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = !x[5];
    let a6 = !x[6];
    let a7 = x[7];
    let a8 = a4 ^ a6;
    let a9 = a0 ^ a1;
    let a10 = a3 ^ a4;
    let a11 = a3 ^ a6;
    let a12 = a2 ^ a7;
    let a13 = a8 ^ a9;
    let a14 = a6 ^ a7;
    let a15 = a5 ^ a8;
    let a16 = a9 ^ a11;
    let a17 = a7 ^ a8;
    let a18 = a0 ^ a10;
    let a19 = a5 ^ a13;
    let a20 = a1 ^ a2;
    let a21 = a10 ^ a20;
    let a22 = a0 ^ a7;
    let a23 = a12 ^ a13;
    let a24 = a4 ^ a7;
    let a25 = a5 ^ a11;
    let a26 = a1 ^ a25;
    let a27 = a5 ^ a12;
    let a28 = a9 ^ a14;
    let a29 = a2 ^ a15;
    let a30 = a12 ^ a16;
    let a31 = a0 ^ a15;
    let a32 = a0 ^ a3;
    let a33 = a11 ^ a22;
    let a34 = a5 ^ a10;
    let a35 = a3 ^ a17;
    let a36 = a9 ^ a10;
    let z = inverse_products([
        a27, a18, a16, a24, a13, a8, a17, a19, a14, a10, a33, a23, a28, a36, a35, a29, a26, a21, a34, a32, a30, a31,
    ]);
    let b18 = z[6] ^ z[15];
    let b19 = z[13] ^ b18;
    let b20 = z[12] ^ b19;
    let b21 = z[16] ^ b20;
    let b22 = z[3] ^ z[4];
    let b23 = z[8] ^ b21;
    let b24 = z[2] ^ z[10];
    let b25 = z[1] ^ b22;
    let b26 = z[4] ^ z[5];
    let b27 = z[9] ^ z[17];
    let b28 = z[8] ^ b24;
    let b29 = z[14] ^ b28;
    let b30 = z[0] ^ b23;
    let b31 = b25 ^ b29;
    let b32 = z[11] ^ b31;
    let b33 = z[16] ^ b18;
    let b34 = z[1] ^ b26;
    let b35 = z[0] ^ b26;
    let b36 = z[17] ^ b20;
    let b37 = b19 ^ b27;
    let b38 = z[12] ^ b33;
    let b39 = z[3] ^ b23;
    let b40 = z[15] ^ b27;
    let b41 = b24 ^ b36;
    let b42 = z[7] ^ z[11];
    let b43 = z[7] ^ b21;
    let b44 = b41 ^ b42;
    let b45 = b31 ^ b37;
    let b46 = z[5] ^ b39;
    let b47 = b30 ^ b34;
    let b48 = z[2] ^ b30;
    let b49 = z[11] ^ b40;
    let b50 = b22 ^ b43;
    let b51 = b32 ^ b38;
    let b52 = b35 ^ b44;
    [b49, b50, b47, b52, b48, b51, b45, b46]
}

/// ARIA S-box S2^-1 (called SB4 in RFC 5794).
#[inline(always)]
pub(crate) fn aria_s2_inv<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = x[0];
    let a1 = !x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = !x[5];
    let a6 = !x[6];
    let a7 = !x[7];
    let a8 = a3 ^ a7;
    let a9 = a2 ^ a6;
    let a10 = a4 ^ a5;
    let a11 = a1 ^ a8;
    let a12 = a0 ^ a5;
    let a13 = a2 ^ a12;
    let a14 = a0 ^ a4;
    let a15 = a1 ^ a9;
    let a16 = a1 ^ a2;
    let a17 = a10 ^ a11;
    let a18 = a6 ^ a10;
    let a19 = a1 ^ a18;
    let a20 = a0 ^ a9;
    let a21 = a8 ^ a13;
    let a22 = a5 ^ a8;
    let a23 = a3 ^ a18;
    let a24 = a9 ^ a14;
    let a25 = a14 ^ a16;
    let a26 = a4 ^ a15;
    let a27 = a10 ^ a16;
    let a28 = a11 ^ a13;
    let a29 = a7 ^ a10;
    let a30 = a3 ^ a15;
    let a31 = a6 ^ a11;
    let a32 = a3 ^ a24;
    let a33 = a3 ^ a4;
    let a34 = a9 ^ a22;
    let a35 = a12 ^ a15;
    let a36 = a9 ^ a17;
    let a37 = a2 ^ a11;
    let a38 = a0 ^ a19;
    let a39 = a8 ^ a14;
    let z = inverse_products([
        a33, a38, a17, a37, a9, a25, a20, a26, a39, a36, a27, a30, a31, a21, a35, a32, a13, a23, a34, a28, a29, a8,
    ]);
    let b18 = z[6] ^ z[15];
    let b19 = z[13] ^ b18;
    let b20 = z[12] ^ b19;
    let b21 = z[16] ^ b20;
    let b22 = z[3] ^ z[4];
    let b23 = z[8] ^ b21;
    let b24 = z[2] ^ z[10];
    let b25 = z[1] ^ b22;
    let b26 = z[4] ^ z[5];
    let b27 = z[9] ^ z[17];
    let b28 = z[8] ^ b24;
    let b29 = z[14] ^ b28;
    let b30 = z[0] ^ b23;
    let b31 = b25 ^ b29;
    let b32 = z[11] ^ b31;
    let b33 = z[16] ^ b18;
    let b34 = z[1] ^ b26;
    let b35 = z[0] ^ b26;
    let b36 = z[17] ^ b20;
    let b37 = b19 ^ b27;
    let b38 = z[12] ^ b33;
    let b39 = z[3] ^ b23;
    let b40 = z[15] ^ b27;
    let b41 = b24 ^ b36;
    let b42 = z[7] ^ z[11];
    let b43 = z[7] ^ b21;
    let b44 = b41 ^ b42;
    let b45 = b31 ^ b37;
    let b46 = z[5] ^ b39;
    let b47 = b30 ^ b34;
    let b48 = z[2] ^ b30;
    let b49 = z[11] ^ b40;
    let b50 = b22 ^ b43;
    let b51 = b32 ^ b38;
    let b52 = b35 ^ b44;
    [b49, b50, b47, b52, b48, b51, b45, b46]
}

/// SEED S-box S1 (RFC 4269 section 2.2).
#[inline(always)]
pub(crate) fn seed_s1<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = x[0];
    let a1 = x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = x[5];
    let a6 = x[6];
    let a7 = x[7];
    let a8 = a1 ^ a3;
    let a9 = a2 ^ a5;
    let a10 = a6 ^ a8;
    let a11 = a6 ^ a7;
    let a12 = a1 ^ a9;
    let a13 = a0 ^ a8;
    let a14 = a2 ^ a7;
    let a15 = a0 ^ a5;
    let a16 = a3 ^ a4;
    let a17 = a4 ^ a8;
    let a18 = a1 ^ a15;
    let a19 = a9 ^ a16;
    let a20 = a0 ^ a10;
    let a21 = a4 ^ a11;
    let a22 = a13 ^ a14;
    let a23 = a5 ^ a6;
    let a24 = a5 ^ a7;
    let a25 = a11 ^ a18;
    let a26 = a6 ^ a12;
    let a27 = a0 ^ a6;
    let a28 = a7 ^ a12;
    let a29 = a7 ^ a19;
    let a30 = a5 ^ a17;
    let a31 = a2 ^ a4;
    let a32 = a12 ^ a21;
    let a33 = a10 ^ a14;
    let a34 = a9 ^ a13;
    let a35 = a9 ^ a27;
    let a36 = a15 ^ a16;
    let a37 = a9 ^ a10;
    let a38 = a20 ^ a31;
    let z = inverse_products([
        a13, a34, a38, a18, a36, a25, a22, a35, a11, a26, a24, a37, a17, a29, a28, a14, a10, a33, a30, a23, a3, a32,
    ]);
    let b18 = z[0] ^ z[2];
    let b19 = z[4] ^ z[7];
    let b20 = z[12] ^ b18;
    let b21 = z[9] ^ z[13];
    let b22 = z[8] ^ b19;
    let b23 = z[3] ^ z[14];
    let b24 = z[5] ^ z[17];
    let b25 = z[11] ^ z[16];
    let b26 = b21 ^ b25;
    let b27 = b20 ^ b24;
    let b28 = z[6] ^ b26;
    let b29 = b20 ^ b22;
    let b30 = z[15] ^ b23;
    let b31 = z[3] ^ b21;
    let b32 = z[8] ^ b18;
    let b33 = z[2] ^ z[4];
    let b34 = z[17] ^ b25;
    let b35 = b27 ^ b28;
    let b36 = z[16] ^ b24;
    let b37 = z[11] ^ b29;
    let b38 = b23 ^ b37;
    let b39 = z[10] ^ b29;
    let b40 = b19 ^ b35;
    let b41 = z[13] ^ b22;
    let b42 = z[8] ^ b33;
    let b43 = z[1] ^ b28;
    let b44 = b27 ^ b30;
    let b45 = b31 ^ b39;
    let b46 = z[10] ^ b34;
    let b47 = z[14] ^ b41;
    let b48 = b36 ^ b47;
    let b49 = b42 ^ b43;
    let b50 = b30 ^ b49;
    let b51 = z[9] ^ b38;
    let b52 = z[6] ^ b32;
    [!b46, b51, b52, !b40, b50, !b44, b48, !b45]
}

/// SEED S-box S2 (RFC 4269 section 2.2).
#[inline(always)]
pub(crate) fn seed_s2<W: Plane>(x: Byte<W>) -> Byte<W> {
    let a0 = x[0];
    let a1 = x[1];
    let a2 = x[2];
    let a3 = x[3];
    let a4 = x[4];
    let a5 = x[5];
    let a6 = x[6];
    let a7 = x[7];
    let a8 = a1 ^ a3;
    let a9 = a2 ^ a5;
    let a10 = a6 ^ a8;
    let a11 = a6 ^ a7;
    let a12 = a1 ^ a9;
    let a13 = a0 ^ a8;
    let a14 = a2 ^ a7;
    let a15 = a0 ^ a5;
    let a16 = a3 ^ a4;
    let a17 = a4 ^ a8;
    let a18 = a1 ^ a15;
    let a19 = a9 ^ a16;
    let a20 = a0 ^ a10;
    let a21 = a4 ^ a11;
    let a22 = a13 ^ a14;
    let a23 = a5 ^ a6;
    let a24 = a5 ^ a7;
    let a25 = a11 ^ a18;
    let a26 = a6 ^ a12;
    let a27 = a0 ^ a6;
    let a28 = a7 ^ a12;
    let a29 = a7 ^ a19;
    let a30 = a5 ^ a17;
    let a31 = a2 ^ a4;
    let a32 = a12 ^ a21;
    let a33 = a10 ^ a14;
    let a34 = a9 ^ a13;
    let a35 = a9 ^ a27;
    let a36 = a15 ^ a16;
    let a37 = a9 ^ a10;
    let a38 = a20 ^ a31;
    let z = inverse_products([
        a13, a34, a38, a18, a36, a25, a22, a35, a11, a26, a24, a37, a17, a29, a28, a14, a10, a33, a30, a23, a3, a32,
    ]);
    let b18 = z[2] ^ z[9];
    let b19 = z[5] ^ z[10];
    let b20 = z[16] ^ b18;
    let b21 = z[4] ^ z[14];
    let b22 = z[6] ^ b21;
    let b23 = z[15] ^ b20;
    let b24 = z[13] ^ b22;
    let b25 = z[1] ^ z[8];
    let b26 = z[0] ^ b19;
    let b27 = z[17] ^ b26;
    let b28 = z[7] ^ b18;
    let b29 = z[3] ^ z[7];
    let b30 = z[12] ^ b25;
    let b31 = z[1] ^ b19;
    let b32 = z[3] ^ b23;
    let b33 = z[11] ^ b24;
    let b34 = z[16] ^ b29;
    let b35 = b20 ^ b31;
    let b36 = z[9] ^ b34;
    let b37 = z[10] ^ b28;
    let b38 = b24 ^ b28;
    let b39 = z[10] ^ b33;
    let b40 = z[15] ^ b38;
    let b41 = b27 ^ b40;
    let b42 = z[14] ^ b27;
    let b43 = b26 ^ b32;
    let b44 = z[17] ^ b35;
    let b45 = b36 ^ b42;
    let b46 = b25 ^ b33;
    let b47 = z[4] ^ b31;
    let b48 = b21 ^ b44;
    let b49 = z[13] ^ b30;
    let b50 = b23 ^ b47;
    let b51 = b30 ^ b45;
    let b52 = b32 ^ b46;
    let b53 = b29 ^ b39;
    let b54 = b37 ^ b49;
    let b55 = z[12] ^ b48;
    [b54, b41, b52, !b55, !b43, !b51, b53, b50]
}

/// Ones where the bytes of two kinds are; zeros in both where those of a third are.
type Kinds<W> = [W; 2];

/// All four S-boxes of ARIA in one run of one circuit, for bytes of all kinds in one plane: `s2`, `s1_inv` and `s2_inv` have ones where
/// the bytes of that kind are, all others take S1. It is S1 between two linear layers that change only some of the bytes, because all four
/// are affine maps of the same inverse. The constants of these maps are left out: [`ARIA_MIXED_BEFORE`] has to be added before,
/// [`ARIA_MIXED_AFTER`] after.
#[inline(always)]
pub(crate) fn aria_mixed<W: Plane>(x: Byte<W>, s2: W, s1_inv: W, s2_inv: W) -> Byte<W> {
    mixed_after(aria_s1(mixed_before(x, [s1_inv, s2_inv])), [s1_inv ^ s2_inv, s2])
}

/// What [`aria_mixed`] leaves out before itself, for bytes of S1, S2, S1's inverse and S2's inverse.
pub(crate) const ARIA_MIXED_BEFORE: [u8; 4] = [0, 0, 0x63, 0xe2];
/// What [`aria_mixed`] leaves out after itself.
pub(crate) const ARIA_MIXED_AFTER: [u8; 4] = [0, 0x88, 0x05, 0x05];

/// Before S1: what makes bytes of its inverse, and of S2's, of it.
#[inline(always)]
fn mixed_before<W: Plane>(x: Byte<W>, kinds: Kinds<W>) -> Byte<W> {
    let a8 = x[0] ^ x[3];
    let a9 = x[2] ^ x[5];
    let a10 = x[1] ^ x[6];
    let a11 = x[4] ^ x[7];
    let a12 = x[6] ^ a8;
    let a13 = a9 ^ a11;
    let a14 = x[0] ^ a9;
    let a15 = a8 ^ a10;
    let a16 = x[1] ^ x[2];
    let a17 = x[1] ^ a14;
    let a18 = x[2] ^ x[4];
    let a19 = x[2] ^ x[7];
    let a20 = x[3] ^ x[4];
    let a21 = x[4] ^ a8;
    let a22 = x[5] ^ a12;
    let a23 = x[6] ^ a18;
    let a24 = x[7] ^ a14;
    let a25 = a8 ^ a9;
    let a26 = a9 ^ a10;
    let a27 = a10 ^ a11;
    let a28 = a10 ^ a13;
    let a29 = a10 ^ a20;
    let a30 = a11 ^ a16;
    let a31 = a12 ^ a13;
    let a32 = a15 ^ a19;
    let first = [a24, a15, a30, a25, a29, a13, a22, a27];
    let second = [a21, a26, a23, a32, a17, a28, a31, a12];
    add_where(x, kinds, first, second)
}

/// After S1: what makes both inverses, and S2, of it.
#[inline(always)]
fn mixed_after<W: Plane>(x: Byte<W>, kinds: Kinds<W>) -> Byte<W> {
    let a8 = x[1] ^ x[4];
    let a9 = x[0] ^ x[5];
    let a10 = x[2] ^ x[7];
    let a11 = x[3] ^ x[6];
    let a12 = a8 ^ a10;
    let a13 = x[2] ^ a9;
    let a14 = x[6] ^ x[7];
    let a15 = x[0] ^ x[1];
    let a16 = x[1] ^ x[5];
    let a17 = x[1] ^ x[6];
    let a18 = x[1] ^ x[7];
    let a19 = x[3] ^ x[5];
    let a20 = x[3] ^ a12;
    let a21 = x[3] ^ a13;
    let a22 = x[4] ^ x[5];
    let a23 = x[5] ^ a14;
    let a24 = x[6] ^ a9;
    let a25 = a8 ^ a11;
    let a26 = a8 ^ a14;
    let a27 = a8 ^ a19;
    let a28 = a9 ^ a10;
    let a29 = a9 ^ a11;
    let a30 = a10 ^ a22;
    let a31 = a11 ^ a15;
    let a32 = a12 ^ a24;
    let a33 = a13 ^ a17;
    let first = [a28, a31, a12, a21, a25, a30, a29, a26];
    let second = [a18, x[4], a32, a20, a16, a27, a23, a33];
    add_where(x, kinds, first, second)
}

/// Adds `first` and `second`, each to its kind of bytes.
#[inline(always)]
fn add_where<W: Plane>(x: Byte<W>, kinds: Kinds<W>, first: Byte<W>, second: Byte<W>) -> Byte<W> {
    core::array::from_fn(|i| x[i] ^ kinds[0] & first[i] ^ kinds[1] & second[i])
}

/// The non-linear middle: from 22 linear forms of the input (`y[0]` is Boyar-Peralta's `x7`, `y[i]` its `y_i`) to the 18
/// products whose sums are the bits of the inverse.
#[inline(always)]
fn inverse_products<W: Plane>(y: [W; 22]) -> [W; 18] {
    let [x7, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15, y16, y17, y18, y19, y20, y21] = y;
    let t2 = y12 & y15;
    let t3 = y3 & y6;
    let t4 = t3 ^ t2;
    let t5 = y4 & x7;
    let t6 = t5 ^ t2;
    let t7 = y13 & y16;
    let t8 = y5 & y1;
    let t9 = t8 ^ t7;
    let t10 = y2 & y7;
    let t11 = t10 ^ t7;
    let t12 = y9 & y11;
    let t13 = y14 & y17;
    let t14 = t13 ^ t12;
    let t15 = y8 & y10;
    let t16 = t15 ^ t12;
    let t17 = t4 ^ t14;
    let t18 = t6 ^ t16;
    let t19 = t9 ^ t14;
    let t20 = t11 ^ t16;
    let t21 = t17 ^ y20;
    let t22 = t18 ^ y19;
    let t23 = t19 ^ y21;
    let t24 = t20 ^ y18;
    let t25 = t21 ^ t22;
    let t26 = t21 & t23;
    let t27 = t24 ^ t26;
    let t28 = t25 & t27;
    let t29 = t28 ^ t22;
    let t30 = t23 ^ t24;
    let t31 = t22 ^ t26;
    let t32 = t31 & t30;
    let t33 = t32 ^ t24;
    let t34 = t23 ^ t33;
    let t35 = t27 ^ t33;
    let t36 = t24 & t35;
    let t37 = t36 ^ t34;
    let t38 = t27 ^ t36;
    let t39 = t29 & t38;
    let t40 = t25 ^ t39;
    let t41 = t40 ^ t37;
    let t42 = t29 ^ t33;
    let t43 = t29 ^ t40;
    let t44 = t33 ^ t37;
    let t45 = t42 ^ t41;
    [
        t44 & y15,
        t37 & y6,
        t33 & x7,
        t43 & y16,
        t40 & y1,
        t29 & y7,
        t42 & y11,
        t45 & y17,
        t41 & y10,
        t44 & y12,
        t37 & y3,
        t33 & y4,
        t43 & y13,
        t40 & y5,
        t29 & y2,
        t42 & y9,
        t45 & y14,
        t41 & y8,
    ]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::reference;

    fn apply(circuit: fn(Byte<u8>) -> Byte<u8>, x: u8) -> u8 {
        let planes = core::array::from_fn(|i| x >> i & 1);
        circuit(planes).iter().enumerate().fold(0, |y, (i, bit)| y | (bit & 1) << i)
    }

    #[test]
    fn the_mixed_circuit_is_each_of_arias() {
        let circuits = [aria_s1, aria_s2, aria_s1_inv, aria_s2_inv];
        for (kind, circuit) in circuits.into_iter().enumerate() {
            let [_, s2, s1_inv, s2_inv] = core::array::from_fn(|i| if i == kind { !0 } else { 0 });
            for x in 0..=255u8 {
                let planes = core::array::from_fn(|i| (x ^ ARIA_MIXED_BEFORE[kind]) >> i & 1);
                let bits = aria_mixed(planes, s2, s1_inv, s2_inv);
                let y = bits.iter().enumerate().fold(0, |y, (i, bit)| y | (bit & 1) << i);
                assert_eq!(y ^ ARIA_MIXED_AFTER[kind], apply(circuit, x), "{kind} {x:#x}");
            }
        }
    }

    #[test]
    fn every_circuit_is_its_published_table() {
        for x in 0..=255u8 {
            let i = usize::from(x);
            assert_eq!(apply(aria_s1, x), reference::aes_s(x));
            assert_eq!(apply(aria_s1_inv, reference::aes_s(x)), x);
            assert_eq!(apply(aria_s2, x), reference::ARIA_S2[i]);
            assert_eq!(apply(aria_s2_inv, reference::ARIA_S2[i]), x);
            assert_eq!(apply(seed_s1, x), reference::SEED_S1[i]);
            assert_eq!(apply(seed_s2, x), reference::SEED_S2[i]);
        }
    }
}
