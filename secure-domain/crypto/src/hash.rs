//! SHA-256, HMAC-SHA-256 and the two key derivations built on it; SHA-512 and HMAC-SHA-512, which are the crates' own.
//!
//! The compression function is the `sha2` crate's, or on ARMv8 processors with the SHA-256 instructions our own: on a bare machine the
//! crate cannot find them. Padding and buffering are here so that both serve the same type.
use hmac::{Hmac, KeyInit, Mac};
use sha2::block_api::compress256;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;
use crate::features::CpuFeatures;
use crate::simd::{self, Sha256Proof};

/// Length of a SHA-256 digest and of an HMAC-SHA-256 in bytes.
pub const DIGEST_LEN: usize = 32;
/// Length of a block of the compression function in bytes.
const BLOCK_LEN: usize = 64;

/// A SHA-256 digest or an HMAC-SHA-256.
pub type Digest32 = [u8; DIGEST_LEN];

/// A SHA-512 digest or an HMAC-SHA-512.
pub type Digest64 = [u8; 64];

/// The SHA-512 digest (FIPS 180-4) of `data`.
#[must_use]
pub fn sha512(data: &[u8]) -> Digest64 {
    Sha512::digest(data).into()
}

/// The HMAC-SHA-512 (FIPS 198-1) of `data` under a `key` of any length.
#[must_use]
pub fn hmac_sha512(key: &[u8], data: &[u8]) -> Digest64 {
    let mut hmac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(data);
    hmac.finalize().into_bytes().into()
}

/// The SHA-256 digest (FIPS 180-4) of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Digest32 {
    let mut hash = Hash::new();
    hash.update(data);
    hash.finish()
}

/// SHA-256 over data that comes in pieces. Wiped on drop.
#[derive(Clone)]
pub struct Hash {
    state: [u32; 8],
    buffer: [u8; BLOCK_LEN],
    /// Bytes absorbed so far; the last `len % 64` wait in the buffer.
    len: u64,
    vector: Option<Sha256Proof>,
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash {
    /// Starts a digest on the fastest backend of this processor.
    #[must_use]
    pub fn new() -> Self {
        Self::with_features(CpuFeatures::detect())
    }

    /// Starts a digest on a backend that needs no more than `features`.
    #[must_use]
    pub fn with_features(features: CpuFeatures) -> Self {
        // The first 32 bits of the fractional parts of the square roots of the first eight primes (FIPS 180-4 section 5.3.3).
        let state =
            [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
        Self { state, buffer: [0; BLOCK_LEN], len: 0, vector: Sha256Proof::new(features) }
    }

    /// Absorbs `data`.
    pub fn update(&mut self, mut data: &[u8]) {
        let waiting = self.waiting();
        self.len = self.len.wrapping_add(data.len() as u64);
        if waiting != 0 {
            let (now, later) = data.split_at(data.len().min(BLOCK_LEN - waiting));
            self.buffer[waiting..waiting + now.len()].copy_from_slice(now);
            if waiting + now.len() < BLOCK_LEN {
                return;
            }
            let block = self.buffer;
            self.compress(&[block]);
            data = later;
        }
        let (blocks, rest) = data.as_chunks();
        self.compress(blocks);
        self.buffer[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of all that was absorbed.
    #[must_use]
    pub fn finish(mut self) -> Digest32 {
        let bits = self.len.wrapping_mul(8);
        let waiting = self.waiting();
        let mut last = [[0; BLOCK_LEN]; 2];
        last[0][..waiting].copy_from_slice(&self.buffer[..waiting]);
        last[0][waiting] = 0x80;
        let blocks = if waiting < BLOCK_LEN - 8 { 1 } else { 2 };
        last[blocks - 1][BLOCK_LEN - 8..].copy_from_slice(&bits.to_be_bytes());
        self.compress(&last[..blocks]);
        last.as_flattened_mut().zeroize();
        let mut digest = [0; DIGEST_LEN];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    fn waiting(&self) -> usize {
        (self.len % BLOCK_LEN as u64) as usize
    }

    fn compress(&mut self, blocks: &[[u8; BLOCK_LEN]]) {
        match self.vector {
            Some(proof) => simd::sha256_compress(proof, &mut self.state, blocks),
            None => compress256(&mut self.state, blocks),
        }
    }
}

impl Zeroize for Hash {
    fn zeroize(&mut self) {
        self.state.zeroize();
        self.buffer.zeroize();
        self.len = 0;
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Hash {}

impl core::fmt::Debug for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hash { .. }")
    }
}

/// HMAC-SHA-256 (FIPS 198-1) over data that comes in pieces. A clone of a fresh one saves expanding the key again. Wiped on drop.
#[derive(Clone)]
pub struct HmacSha256 {
    inner: Hash,
    outer: Hash,
}

impl HmacSha256 {
    /// Starts a MAC under `key` of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self::with_features(key, CpuFeatures::detect())
    }

    /// Starts a MAC on a backend that needs no more than `features`.
    #[must_use]
    pub fn with_features(key: &[u8], features: CpuFeatures) -> Self {
        let mut padded = [0; BLOCK_LEN];
        if key.len() > BLOCK_LEN {
            padded[..DIGEST_LEN].copy_from_slice(&sha256(key));
        } else {
            padded[..key.len()].copy_from_slice(key);
        }
        let mut start = |pad: u8| {
            let mut hash = Hash::with_features(features);
            padded.iter_mut().for_each(|byte| *byte ^= pad);
            hash.update(&padded);
            padded.iter_mut().for_each(|byte| *byte ^= pad);
            hash
        };
        let hmac = Self { inner: start(0x36), outer: start(0x5c) };
        padded.zeroize();
        hmac
    }

    /// The MAC of `data` in one call.
    #[must_use]
    pub fn mac(key: &[u8], data: &[u8]) -> Digest32 {
        let mut hmac = Self::new(key);
        hmac.update(data);
        hmac.finish()
    }

    /// Absorbs `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
    }

    /// The MAC of all that was absorbed.
    #[must_use]
    pub fn finish(self) -> Digest32 {
        let Self { inner, mut outer } = self;
        outer.update(&inner.finish());
        outer.finish()
    }

    /// Compares the MAC with the whole of `expected` in constant time.
    ///
    /// # Errors
    /// [`Error::TagMismatch`] if it differs.
    pub fn verify(self, expected: &Digest32) -> Result<(), Error> {
        if bool::from(self.finish().ct_eq(expected)) { Ok(()) } else { Err(Error::TagMismatch) }
    }
}

impl core::fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HmacSha256 { .. }")
    }
}

/// Derives key material from `key` in counter mode with HMAC-SHA-256 (SP 800-108r1 section 4.1). Each block's input is a 32-bit
/// counter, `label`, a zero byte, `context`, and the output length in bits as 32 bits.
///
/// # Errors
/// [`Error::InputLength`] if `out` is empty or longer than 2^32 - 1 bits.
pub fn kbkdf(key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let bits = u32::try_from(out.len() as u64 * 8).map_err(|_| Error::InputLength)?;
    kbkdf_fixed_input::<4>(key, &[label, &[0], context, &bits.to_be_bytes()], out)
}

/// Counter-mode derivation where the caller gives the whole fixed input, in `parts`, and `R` is the length of the counter
/// in bytes. [`kbkdf`] is the form to use; this one exists because the published vectors leave the fixed input free.
///
/// # Errors
/// [`Error::InputLength`] if `out` is empty, if the counter cannot number its blocks, or if `R` is not 1 to 4.
pub fn kbkdf_fixed_input<const R: usize>(key: &[u8], parts: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    let blocks = out.len().div_ceil(DIGEST_LEN) as u64;
    if out.is_empty() || !(1..=4).contains(&R) || blocks >= 1 << (8 * R) {
        return Err(Error::InputLength);
    }
    let keyed = HmacSha256::new(key);
    for (block, counter) in out.chunks_mut(DIGEST_LEN).zip(1u32..) {
        let mut hmac = keyed.clone();
        hmac.update(&counter.to_be_bytes()[4 - R..]);
        parts.iter().for_each(|part| hmac.update(part));
        let mut digest = hmac.finish();
        block.copy_from_slice(&digest[..block.len()]);
        digest.zeroize();
    }
    Ok(())
}

/// Derives key material from a password with PBKDF2-HMAC-SHA-256 (SP 800-132, RFC 8018 section 5.2). The time grows with
/// `iterations` times the number of 32-byte blocks in `out`.
///
/// # Errors
/// [`Error::InputLength`] if `out` is empty or `iterations` is zero.
pub fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) -> Result<(), Error> {
    if out.is_empty() || iterations == 0 || out.len().div_ceil(DIGEST_LEN) as u64 > u64::from(u32::MAX) {
        return Err(Error::InputLength);
    }
    let keyed = HmacSha256::new(password);
    for (block, index) in out.chunks_mut(DIGEST_LEN).zip(1u32..) {
        let mut hmac = keyed.clone();
        hmac.update(salt);
        hmac.update(&index.to_be_bytes());
        let mut link = hmac.finish();
        let mut sum = link;
        for _ in 1..iterations {
            let mut hmac = keyed.clone();
            hmac.update(&link);
            link = hmac.finish();
            sum.iter_mut().zip(&link).for_each(|(sum, byte)| *sum ^= byte);
        }
        block.copy_from_slice(&sum[..block.len()]);
        link.zeroize();
        sum.zeroize();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;

    proptest! {
        #[test]
        fn digests_and_macs_in_any_pieces_are_those_of_the_crates(
            key in prop::collection::vec(any::<u8>(), 0..200),
            data in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0..400usize,
        ) {
            let (first, second) = data.split_at(cut.min(data.len()));
            for features in [CpuFeatures::PORTABLE, CpuFeatures::detect()] {
                let mut hash = Hash::with_features(features);
                let mut hmac = HmacSha256::with_features(&key, features);
                for piece in [first, second] {
                    hash.update(piece);
                    hmac.update(piece);
                }
                prop_assert_eq!(hash.finish(), <Digest32>::from(Sha256::digest(&data)));
                let mut theirs = Hmac::<Sha256>::new_from_slice(&key).unwrap();
                theirs.update(&data);
                prop_assert_eq!(hmac.finish(), <Digest32>::from(theirs.finalize().into_bytes()));
            }
        }
    }

    #[test]
    fn empty_outputs_zero_iterations_and_short_counters_are_refused() {
        assert_eq!(kbkdf(&[0; 32], b"l", b"c", &mut []), Err(Error::InputLength));
        assert_eq!(pbkdf2(b"p", b"s", 0, &mut [0; 32]), Err(Error::InputLength));
        assert_eq!(pbkdf2(b"p", b"s", 1, &mut []), Err(Error::InputLength));
        assert_eq!(kbkdf_fixed_input::<1>(&[0; 32], &[], &mut [0; 256 * 32]), Err(Error::InputLength));
        assert_eq!(kbkdf_fixed_input::<1>(&[0; 32], &[], &mut [0; 255 * 32]), Ok(()));
    }

    #[test]
    fn a_mac_with_a_flipped_bit_is_refused() {
        let mut mac = HmacSha256::mac(b"key", b"data");
        let keyed = || {
            let mut hmac = HmacSha256::new(b"key");
            hmac.update(b"da");
            hmac.update(b"ta");
            hmac
        };
        assert_eq!(keyed().verify(&mac), Ok(()));
        mac[31] ^= 0x80;
        assert_eq!(keyed().verify(&mac), Err(Error::TagMismatch));
    }
}
