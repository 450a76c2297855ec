//! SHA-256, HMAC-SHA-256 and the two key derivations built on it.
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::error::Error;

/// Length of a SHA-256 digest and of an HMAC-SHA-256 in bytes.
pub const DIGEST_LEN: usize = 32;

/// A SHA-256 digest or an HMAC-SHA-256.
pub type Digest32 = [u8; DIGEST_LEN];

/// The SHA-256 digest (FIPS 180-4) of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Digest32 {
    Sha256::digest(data).into()
}

/// SHA-256 over data that comes in pieces.
#[derive(Clone, Default)]
pub struct Hash(Sha256);

impl Hash {
    /// Starts a digest.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Absorbs `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all that was absorbed.
    #[must_use]
    pub fn finish(self) -> Digest32 {
        self.0.finalize().into()
    }
}

/// HMAC-SHA-256 (FIPS 198-1) over data that comes in pieces. A clone of a fresh one saves expanding the key again. Wiped on drop.
#[derive(Clone)]
pub struct HmacSha256(Hmac<Sha256>);

impl HmacSha256 {
    /// Starts a MAC under `key` of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
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
        self.0.update(data);
    }

    /// The MAC of all that was absorbed.
    #[must_use]
    pub fn finish(self) -> Digest32 {
        self.0.finalize().into_bytes().into()
    }

    /// Compares the MAC with the whole of `expected` in constant time.
    ///
    /// # Errors
    /// [`Error::TagMismatch`] if it differs.
    pub fn verify(self, expected: &Digest32) -> Result<(), Error> {
        self.0.verify_slice(expected).map_err(|_| Error::TagMismatch)
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
    use super::*;

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
