//! Data keys and their wrapping: ARIA-256-CCM under a key that dies with the anchor's erase secret.

use crypto::{
    Error, Nonce, Suite, Tag,
    module::{AeadService, Module, WrapService},
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
    ///
    /// # Errors
    /// [`Error::NotApproved`] if the module's profile does not list the suite, [`Error::State`] if it does not serve.
    pub fn aead(&self, module: &'static Module, suite: Suite) -> Result<AeadService, Error> {
        module.aead(suite, &self.0[..suite.key_len()])
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

/// A key-encryption key.
pub struct Kek(WrapService);

impl Kek {
    pub(crate) fn new(module: &'static Module, key: &[u8; ROOT_BYTES]) -> Result<Kek, Error> {
        module.wrapping_key(key).map(Kek)
    }

    /// Wraps `key`, bound to `purpose`. `nonce` must never have been used before with this key-encryption key.
    ///
    /// # Errors
    /// [`Error::State`] if the module does not serve.
    pub fn wrap(&self, nonce: &Nonce, purpose: &[u8], key: &DataKey) -> Result<WrappedKey, Error> {
        let mut wrapped = key.0.clone();
        let tag = self.0.wrap(nonce, purpose, &mut *wrapped)?;
        Ok(WrappedKey { key: *wrapped, tag })
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`Error::TagMismatch`] if anything of it differs from what was wrapped: key, nonce, purpose, erase secret, device.
    /// [`Error::State`] if the module does not serve.
    pub fn unwrap(&self, nonce: &Nonce, purpose: &[u8], wrapped: &WrappedKey) -> Result<DataKey, Error> {
        let mut key = Zeroizing::new(wrapped.key);
        self.0.unwrap(nonce, purpose, &mut *key, &wrapped.tag)?;
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
    use crypto::{host, module::Profile};

    use crate::RootKey;

    use super::*;

    const NONCE: Nonce = [3; 12];

    fn kek_of(module: &'static Module, secret: u8) -> Kek {
        let root = RootKey::from_huk(module, &[1; 32]).unwrap();
        root.pool_keys(&[2; 16]).unwrap().kek(&[secret; 32]).unwrap()
    }

    fn kek(secret: u8) -> Kek {
        kek_of(host::module(), secret)
    }

    #[test]
    fn a_module_in_error_wraps_and_unwraps_nothing() {
        let module = host::fresh(Profile::Kcmvp);
        let (kek, key) = (kek_of(module, 1), DataKey::new(&[9; 32]));
        let wrapped = kek.wrap(&NONCE, b"volume 1", &key).unwrap();
        module.conditional_failed().unwrap();
        assert!(matches!(kek.wrap(&NONCE, b"volume 2", &key), Err(Error::State(_))));
        assert!(matches!(kek.unwrap(&NONCE, b"volume 1", &wrapped), Err(Error::State(_))));
        assert!(matches!(key.aead(module, Suite::Aria256Gcm), Err(Error::State(_))));
    }

    #[test]
    fn a_profile_refuses_the_suites_that_it_does_not_list() {
        let (module, key) = (host::fresh(Profile::Kcmvp), DataKey::new(&[9; 32]));
        assert_eq!(key.aead(module, Suite::Aes256Gcm).unwrap_err(), Error::NotApproved);
        assert!(key.aead(module, Suite::Aria256Gcm).is_ok());
    }

    #[test]
    fn another_secret_nonce_purpose_or_byte_does_not_unwrap() {
        let wrapped = kek(1).wrap(&NONCE, b"volume 1", &DataKey::new(&[9; 32])).unwrap();
        let refused = |kek: Kek, nonce: &Nonce, purpose: &[u8], wrapped: &WrappedKey| {
            assert_eq!(kek.unwrap(nonce, purpose, wrapped).err(), Some(Error::TagMismatch));
        };
        refused(kek(2), &NONCE, b"volume 1", &wrapped);
        refused(kek(1), &[4; 12], b"volume 1", &wrapped);
        refused(kek(1), &NONCE, b"volume 2", &wrapped);
        for byte in 0..32 {
            let mut changed = wrapped;
            changed.key[byte] ^= 1;
            refused(kek(1), &NONCE, b"volume 1", &changed);
        }
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        let wrapped = kek(1).wrap(&NONCE, b"volume 1", &DataKey::new(&[9; 32])).unwrap();
        assert_ne!(wrapped.key, [9; 32]);
        assert_eq!(*kek(1).unwrap(&NONCE, b"volume 1", &wrapped).unwrap().0, [9; 32]);
    }
}
