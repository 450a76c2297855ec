//! Data keys and their wrapping: ARIA-256-CCM under a key that dies with the anchor's erase secret.

use crypto::{
    Aead, Suite,
    aead::{Nonce, Tag},
};
use zeroize::Zeroizing;

use crate::ROOT_BYTES;

/// Bytes of the longest data key.
pub const MAX_DATA_KEY_BYTES: usize = 32;

/// A key that seals the blocks of one volume in one epoch: random bytes, as many as any suite needs.
pub struct DataKey(Zeroizing<[u8; MAX_DATA_KEY_BYTES]>);

impl DataKey {
    /// A key of random bytes. The caller wipes its own copy.
    pub fn new(random: &[u8; MAX_DATA_KEY_BYTES]) -> DataKey {
        DataKey(Zeroizing::new(*random))
    }

    /// The cipher of `suite` under this key.
    pub fn aead(&self, suite: Suite) -> Aead {
        Aead::new(suite, &self.0[..suite.key_len()]).expect("no suite's key is longer than the data key")
    }
}

/// A data key as it lies on the disk. It always has the longest key's length, so it does not tell the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The enciphered key.
    pub key: [u8; MAX_DATA_KEY_BYTES],
    /// The tag over it and what it is bound to.
    pub tag: Tag,
}

/// The wrapped key is not one that this key-encryption key wrapped for this purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWrappedHere;

/// A key-encryption key.
pub struct Kek(Aead);

impl Kek {
    pub(crate) fn new(key: &[u8; ROOT_BYTES]) -> Kek {
        Kek(Aead::new(Suite::Aria256Ccm, key).expect("ARIA-256 takes 32 bytes"))
    }

    /// Wraps `key`, bound to `purpose`. `nonce` must never have been used before with this key-encryption key.
    pub fn wrap(&self, nonce: &Nonce, purpose: &[u8], key: &DataKey) -> WrappedKey {
        let mut wrapped = *key.0;
        let tag = self.0.seal_in_place(nonce, purpose, &mut wrapped).expect("32 bytes are within every limit");
        WrappedKey { key: wrapped, tag }
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`NotWrappedHere`] if anything of it differs from what was wrapped: key, nonce, purpose, erase secret, device.
    pub fn unwrap(&self, nonce: &Nonce, purpose: &[u8], wrapped: &WrappedKey) -> Result<DataKey, NotWrappedHere> {
        let mut key = Zeroizing::new(wrapped.key);
        self.0.open_in_place(nonce, purpose, &mut *key, &wrapped.tag).map_err(|_| NotWrappedHere)?;
        Ok(DataKey(key))
    }
}

impl core::fmt::Debug for Kek {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Kek { .. }")
    }
}

impl core::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DataKey { .. }")
    }
}

#[cfg(test)]
mod tests {
    use crate::RootKey;

    use super::*;

    const NONCE: Nonce = [3; 12];

    fn kek(secret: u8) -> Kek {
        RootKey::from_huk(&[1; 32]).pool_keys(&[2; 16]).kek(&[secret; 32])
    }

    #[test]
    fn another_secret_nonce_purpose_or_byte_does_not_unwrap() {
        let wrapped = kek(1).wrap(&NONCE, b"volume 1", &DataKey::new(&[9; 32]));
        assert!(kek(2).unwrap(&NONCE, b"volume 1", &wrapped).is_err());
        assert!(kek(1).unwrap(&[4; 12], b"volume 1", &wrapped).is_err());
        assert!(kek(1).unwrap(&NONCE, b"volume 2", &wrapped).is_err());
        for byte in 0..32 {
            let mut changed = wrapped;
            changed.key[byte] ^= 1;
            assert!(kek(1).unwrap(&NONCE, b"volume 1", &changed).is_err());
        }
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        let wrapped = kek(1).wrap(&NONCE, b"volume 1", &DataKey::new(&[9; 32]));
        assert_ne!(wrapped.key, [9; 32]);
        assert_eq!(*kek(1).unwrap(&NONCE, b"volume 1", &wrapped).unwrap().0, [9; 32]);
    }
}
