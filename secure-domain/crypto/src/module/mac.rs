//! An HMAC key in service: it asks the module before every MAC.
use subtle::ConstantTimeEq;

use super::Module;
use crate::error::Error;
use crate::hash::{DIGEST_LEN, Digest32, HmacSha256};

/// The shortest tag that is compared, in bytes: 128 bits.
pub const MIN_MAC_LEN: usize = 16;

/// An HMAC-SHA-256 key in service, expanded once for many MACs.
pub struct MacKey {
    module: &'static Module,
    keyed: HmacSha256,
}

impl MacKey {
    pub(super) fn new(module: &'static Module, key: &[u8]) -> Self {
        Self { module, keyed: HmacSha256::new(key) }
    }

    /// The module that the key is in service of.
    #[must_use]
    pub fn module(&self) -> &'static Module {
        self.module
    }

    /// The MAC of the concatenated `parts`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn mac(&self, parts: &[&[u8]]) -> Result<Digest32, Error> {
        self.module.permit()?;
        let mut hmac = self.keyed.clone();
        parts.iter().for_each(|part| hmac.update(part));
        Ok(hmac.finish())
    }

    /// Compares the MAC of the concatenated `parts` in constant time with `expected`, which is all of it or its first bytes, 16 at least.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::TagLength`], [`Error::TagMismatch`].
    pub fn verify(&self, parts: &[&[u8]], expected: &[u8]) -> Result<(), Error> {
        self.module.permit()?;
        if !(MIN_MAC_LEN..=DIGEST_LEN).contains(&expected.len()) {
            return Err(Error::TagLength);
        }
        let mac = self.mac(parts)?;
        if bool::from(mac[..expected.len()].ct_eq(expected)) { Ok(()) } else { Err(Error::TagMismatch) }
    }
}

impl core::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MacKey { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::module::Profile;
    use crate::state::State;

    #[test]
    fn a_mac_of_another_message_key_or_length_is_refused() {
        let key = host::module().mac_key(b"key").unwrap();
        let mac = key.mac(&[b"one ", b"message"]).unwrap();
        for len in (0..MIN_MAC_LEN).chain([33]) {
            let tag = [&mac[..], &[0]].concat();
            assert_eq!(key.verify(&[b"one message"], &tag[..len]), Err(Error::TagLength));
        }
        for len in MIN_MAC_LEN..=DIGEST_LEN {
            assert_eq!(key.verify(&[b"one messagf"], &mac[..len]), Err(Error::TagMismatch));
            let other = host::module().mac_key(b"kez").unwrap();
            assert_eq!(other.verify(&[b"one message"], &mac[..len]), Err(Error::TagMismatch));
            assert_eq!(key.verify(&[b"one", b" message"], &mac[..len]), Ok(()));
        }
        assert_eq!(host::module().hmac(b"key", b"one message"), Ok(mac));
    }

    #[test]
    fn a_key_gives_and_checks_no_mac_when_the_module_stops() {
        let module = host::fresh(Profile::Kcmvp);
        let key = module.mac_key(b"a key of 17 byte").unwrap();
        let mac = key.mac(&[]).unwrap();
        module.conditional_failed().unwrap();
        let refused = Error::State(State::SimpleError);
        assert_eq!(key.mac(&[]), Err(refused));
        assert_eq!(key.verify(&[], &mac), Err(refused));
        assert_eq!(key.verify(&[], &[]), Err(refused), "the state comes before the length");
        assert_eq!(module.mac_key(b"a key of 17 byte").unwrap_err(), refused);
    }
}
