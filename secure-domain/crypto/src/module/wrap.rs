//! A key that wraps keys, in service: it asks the module before every call.
use super::Module;
use crate::aead::{Nonce, Tag};
use crate::ccm_wrap::WrappingKey;
use crate::error::Error;

/// An ARIA-256-CCM wrapping key in service.
#[derive(Debug)]
pub struct WrapService {
    module: &'static Module,
    key: WrappingKey,
}

impl WrapService {
    pub(super) fn new(module: &'static Module, key: &[u8]) -> Result<Self, Error> {
        Ok(Self { module, key: WrappingKey::new(key)? })
    }

    /// Wraps `key` in place, bound to `aad`, and returns the tag. The caller never uses a nonce twice.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::InputLength`] unless `key` has 16 to 64 bytes. It is untouched then.
    pub fn wrap(&self, nonce: &Nonce, aad: &[u8], key: &mut [u8]) -> Result<Tag, Error> {
        self.module.permit()?;
        self.key.wrap(nonce, aad, key)
    }

    /// Unwraps `key` in place.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::InputLength`], with `key` untouched; [`Error::TagMismatch`], with `key` zero, if it was not wrapped
    /// under this key with this nonce, bound to `aad`.
    pub fn unwrap(&self, nonce: &Nonce, aad: &[u8], key: &mut [u8], tag: &Tag) -> Result<(), Error> {
        self.module.permit()?;
        self.key.unwrap(nonce, aad, key, tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::module::Profile;
    use crate::state::State;

    #[test]
    fn a_wrapped_key_unwraps_only_unchanged_and_while_the_module_serves() {
        let module = host::fresh(Profile::Kcmvp);
        assert_eq!(module.wrapping_key(&[1; 16]).unwrap_err(), Error::KeyLength);
        let service = module.wrapping_key(&[1; 32]).unwrap();
        let mut key = [5; 32];
        let tag = service.wrap(&[2; 12], b"volume", &mut key).unwrap();
        let mut copy = key;
        assert_eq!(service.unwrap(&[2; 12], b"other", &mut copy, &tag), Err(Error::TagMismatch));
        assert_eq!(copy, [0; 32]);
        copy = key;
        assert_eq!(service.unwrap(&[2; 12], b"volume", &mut key, &tag), Ok(()));
        assert_eq!(key, [5; 32]);
        module.conditional_failed().unwrap();
        let (wrapped, refused) = (copy, Error::State(State::SimpleError));
        assert_eq!(service.unwrap(&[2; 12], b"volume", &mut copy, &tag), Err(refused));
        assert_eq!(service.wrap(&[3; 12], b"volume", &mut copy), Err(refused));
        assert_eq!(copy, wrapped);
    }
}
