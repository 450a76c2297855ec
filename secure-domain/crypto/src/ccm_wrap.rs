//! Wrapping of keys with ARIA-256-CCM: how the storage keys lie on the disk.
//!
//! SP 800-38F section 3.1 allows an approved AEAD mode for that. Unlike RFC 3394 (`crate::kw`), it takes keys of any length and binds
//! them to what they are for; the price is a nonce that never comes twice under one wrapping key. A key is wrapped once and
//! unwrapped at each start, so speed does not matter, and the mode is that of the crate `ccm` over our block cipher. The
//! bytes are those of [`crate::ccm::Ccm`].
use ccm::aead::AeadInOut;
use cipher::consts::{U12, U16};
use zeroize::Zeroize;

use crate::aead::{Nonce, Tag};
use crate::block::BlockCipher;
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::suite::Algorithm;

/// Length of a wrapping key in bytes.
pub const WRAPPING_KEY_LEN: usize = 32;
/// Length of the shortest key that is wrapped, in bytes.
pub const MIN_KEY_LEN: usize = 16;
/// Length of the longest key that is wrapped, in bytes.
pub const MAX_KEY_LEN: usize = 64;

/// A key that wraps keys. Its memory is wiped on drop.
pub struct WrappingKey(ccm::Ccm<BlockCipher, U16, U12>);

impl WrappingKey {
    /// Expands the key on the fastest backend of this processor.
    ///
    /// # Errors
    /// [`Error::KeyLength`] unless `key` is [`WRAPPING_KEY_LEN`] bytes long.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        Self::with_features(key, CpuFeatures::detect())
    }

    /// Expands the key on a backend that needs no more than `features`.
    ///
    /// # Errors
    /// [`Error::KeyLength`] unless `key` is [`WRAPPING_KEY_LEN`] bytes long.
    pub fn with_features(key: &[u8], features: CpuFeatures) -> Result<Self, Error> {
        Ok(Self(BlockCipher::with_features(Algorithm::Aria256, key, features)?.into()))
    }

    /// Wraps `key` in place, bound to `aad`, and returns the tag. The caller never uses a nonce twice.
    ///
    /// # Errors
    /// [`Error::InputLength`] unless `key` has 16 to 64 bytes; it is untouched then.
    pub fn wrap(&self, nonce: &Nonce, aad: &[u8], key: &mut [u8]) -> Result<Tag, Error> {
        check_length(key)?;
        let tag = self.0.encrypt_inout_detached(nonce.into(), aad, key.into());
        tag.map(Into::into).map_err(|_| Error::InputLength)
    }

    /// Unwraps `key` in place.
    ///
    /// # Errors
    /// [`Error::TagMismatch`], with `key` zero, if it was not wrapped under this key with this nonce, bound to `aad`;
    /// [`Error::InputLength`] unless it has 16 to 64 bytes, untouched.
    pub fn unwrap(&self, nonce: &Nonce, aad: &[u8], key: &mut [u8], tag: &Tag) -> Result<(), Error> {
        check_length(key)?;
        let result = self.0.decrypt_inout_detached(nonce.into(), aad, (&mut *key).into(), tag.into());
        result.map_err(|_| {
            key.zeroize();
            Error::TagMismatch
        })
    }
}

fn check_length(key: &[u8]) -> Result<(), Error> {
    if (MIN_KEY_LEN..=MAX_KEY_LEN).contains(&key.len()) { Ok(()) } else { Err(Error::InputLength) }
}

impl core::fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WrappingKey { .. }")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::Suite;
    use crate::aead::Aead;

    fn both() -> [CpuFeatures; 2] {
        [CpuFeatures::PORTABLE, CpuFeatures::detect()]
    }

    #[test]
    fn a_wrapping_key_of_another_length_is_refused() {
        for len in (0..=64).filter(|len| *len != 32) {
            assert_eq!(WrappingKey::new(&[0; 64][..len]).unwrap_err(), Error::KeyLength);
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused_and_untouched() {
        let wrapping = WrappingKey::new(&[1; 32]).unwrap();
        for len in [0, 1, 15, 65, 80] {
            let mut key = std::vec![7; len];
            assert_eq!(wrapping.wrap(&[0; 12], b"", &mut key), Err(Error::InputLength));
            assert_eq!(wrapping.unwrap(&[0; 12], b"", &mut key, &[0; 16]), Err(Error::InputLength));
            assert!(key.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn any_flipped_bit_another_nonce_or_purpose_is_refused_and_leaves_no_key() {
        for features in both() {
            let wrapping = WrappingKey::with_features(&[1; 32], features).unwrap();
            let mut wrapped = [9; 32];
            let tag = wrapping.wrap(&[2; 12], b"volume 1", &mut wrapped).unwrap();
            let refuse = |nonce: &Nonce, aad: &[u8], mut key: [u8; 32], tag: &Tag| {
                assert_eq!(wrapping.unwrap(nonce, aad, &mut key, tag), Err(Error::TagMismatch));
                assert_eq!(key, [0; 32]);
            };
            refuse(&[3; 12], b"volume 1", wrapped, &tag);
            refuse(&[2; 12], b"volume 2", wrapped, &tag);
            refuse(&[2; 12], b"", wrapped, &tag);
            for bit in 0..256 {
                let mut changed = wrapped;
                changed[bit / 8] ^= 1 << (bit % 8);
                refuse(&[2; 12], b"volume 1", changed, &tag);
            }
            for bit in 0..128 {
                let mut changed = tag;
                changed[bit / 8] ^= 1 << (bit % 8);
                refuse(&[2; 12], b"volume 1", wrapped, &changed);
            }
            assert_eq!(wrapping.unwrap(&[2; 12], b"volume 1", &mut wrapped, &tag), Ok(()));
            assert_eq!(wrapped, [9; 32]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gives_the_bytes_of_our_own_ccm(
            kek: [u8; 32], nonce: Nonce, aad in prop::collection::vec(any::<u8>(), 0..80),
            key in prop::collection::vec(any::<u8>(), MIN_KEY_LEN..=MAX_KEY_LEN),
        ) {
            for features in both() {
                let wrapping = WrappingKey::with_features(&kek, features).unwrap();
                let ours = Aead::with_features(Suite::Aria256Ccm, &kek, features).unwrap();
                let (mut wrapped, mut sealed) = (key.clone(), key.clone());
                let tag = wrapping.wrap(&nonce, &aad, &mut wrapped).unwrap();
                prop_assert_eq!(ours.seal_in_place(&nonce, &aad, &mut sealed), Ok(tag));
                prop_assert_eq!(&wrapped, &sealed);
                prop_assert_eq!(wrapping.unwrap(&nonce, &aad, &mut wrapped, &tag), Ok(()));
                prop_assert_eq!(&wrapped, &key);
            }
        }
    }
}
