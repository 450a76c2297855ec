//! AEAD keys in service: they ask the module before every call.
use super::Module;
use crate::aead::{Aead, Nonce, Tag};
use crate::block::BlockCipher;
use crate::ccm::Ccm;
use crate::error::Error;
use crate::gcm::Gcm;
use crate::suite::{Mode, Suite};

/// An AEAD key in service.
#[derive(Debug)]
pub struct AeadService<'m> {
    module: &'m Module,
    aead: Aead,
}

impl<'m> AeadService<'m> {
    pub(super) const fn new(module: &'m Module, aead: Aead) -> Self {
        Self { module, aead }
    }

    /// [`Aead::seal_in_place`] while the module serves.
    ///
    /// # Errors
    /// [`Error::State`], with `data` untouched, and those of [`Aead::seal_in_place`].
    pub fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], data: &mut [u8]) -> Result<Tag, Error> {
        self.module.permit()?;
        self.aead.seal_in_place(nonce, aad, data)
    }

    /// [`Aead::open_in_place`] while the module serves.
    ///
    /// # Errors
    /// [`Error::State`], with `data` untouched, and those of [`Aead::open_in_place`].
    pub fn open_in_place(&self, nonce: &Nonce, aad: &[u8], data: &mut [u8], tag: &Tag) -> Result<(), Error> {
        self.module.permit()?;
        self.aead.open_in_place(nonce, aad, data, tag)
    }

    /// The AEAD itself for one or many calls, if the module serves now: the way to the batch calls.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn aead(&self) -> Result<&Aead, Error> {
        self.module.permit().map(|()| &self.aead)
    }
}

/// An AEAD key in service for messages, with the lengths of nonces and tags fixed: 12 to 16 bytes of tag and any nonce in GCM; 4, 6, ...
/// 16 bytes of tag and nonces of 7 to 13 bytes in CCM.
pub struct MessageService<'m> {
    module: &'m Module,
    keyed: Keyed,
}

enum Keyed {
    Gcm { gcm: Gcm, nonce_len: usize, tag_len: usize },
    Ccm(Ccm),
}

impl<'m> MessageService<'m> {
    pub(super) fn new(
        module: &'m Module,
        suite: Suite,
        key: &[u8],
        nonce_len: usize,
        tag_len: usize,
    ) -> Result<Self, Error> {
        let cipher = BlockCipher::new(suite.algorithm(), key)?;
        let keyed = match suite.mode() {
            Mode::Ccm => Keyed::Ccm(Ccm::new(cipher, nonce_len, tag_len)?),
            Mode::Gcm if nonce_len == 0 => return Err(Error::NonceLength),
            Mode::Gcm if !(12..=16).contains(&tag_len) => return Err(Error::TagLength),
            Mode::Gcm => Keyed::Gcm { gcm: Gcm::new(cipher), nonce_len, tag_len },
        };
        Ok(Self { module, keyed })
    }

    /// Enciphers `data` in place and writes the tag.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::NonceLength`], [`Error::TagLength`] if a length is not the fixed one; [`Error::InputLength`]. `data` is
    /// untouched then.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), Error> {
        self.permit(nonce, tag)?;
        match &self.keyed {
            Keyed::Gcm { gcm, .. } => gcm.seal(nonce, aad, data, tag),
            Keyed::Ccm(ccm) => ccm.seal(nonce, aad, data, tag),
        }
    }

    /// Checks the tag and deciphers `data` in place; on a mismatch `data` is zero.
    ///
    /// # Errors
    /// As [`MessageService::seal`], and [`Error::TagMismatch`].
    pub fn open(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Error> {
        self.permit(nonce, tag)?;
        match &self.keyed {
            Keyed::Gcm { gcm, .. } => gcm.open(nonce, aad, data, tag),
            Keyed::Ccm(ccm) => ccm.open(nonce, aad, data, tag),
        }
    }

    /// Refuses unless the module serves and the lengths are those that the profile allowed. CCM checks its own.
    fn permit(&self, nonce: &[u8], tag: &[u8]) -> Result<(), Error> {
        self.module.permit()?;
        match &self.keyed {
            Keyed::Gcm { nonce_len, .. } if nonce.len() != *nonce_len => Err(Error::NonceLength),
            Keyed::Gcm { tag_len, .. } if tag.len() != *tag_len => Err(Error::TagLength),
            _ => Ok(()),
        }
    }
}

impl core::fmt::Debug for MessageService<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MessageService { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Profile;
    use crate::selftest::{Image, integrity_mac};

    const SUITES: [Suite; 2] = [Suite::Aria128Gcm, Suite::Seed128Ccm];

    fn approved() -> Module {
        let module = Module::power_on(Profile::Kcmvp);
        module.self_test(&Image { pieces: &[], mac: &integrity_mac(&[]) }).unwrap();
        module
    }

    #[test]
    fn a_tag_or_nonce_of_another_length_than_was_fixed_is_refused() {
        let module = approved();
        for suite in SUITES {
            let service = module.messages(suite, &[1; 16], 12, 16).unwrap();
            let mut data = [5; 20];
            assert_eq!(service.seal(&[0; 13], b"", &mut data, &mut [0; 16]), Err(Error::NonceLength));
            assert_eq!(service.seal(&[0; 12], b"", &mut data, &mut [0; 14]), Err(Error::TagLength));
            assert_eq!(service.open(&[0; 12], b"", &mut data, &[0; 14]), Err(Error::TagLength));
            assert_eq!(data, [5; 20]);
        }
        assert_eq!(module.messages(Suite::Aria128Gcm, &[1; 16], 0, 16).unwrap_err(), Error::NonceLength);
        assert_eq!(module.messages(Suite::Aria128Ccm, &[1; 16], 14, 16).unwrap_err(), Error::NonceLength);
    }

    #[test]
    fn a_message_opens_only_unchanged_and_while_the_module_serves() {
        for suite in SUITES {
            let module = approved();
            let service = module.messages(suite, &[1; 16], 13, 14).unwrap();
            let (mut data, mut tag) = ([5; 20], [0; 14]);
            service.seal(&[3; 13], b"header", &mut data, &mut tag).unwrap();
            let sealed = data;
            assert_eq!(service.open(&[3; 13], b"header", &mut data, &tag), Ok(()));
            assert_eq!(data, [5; 20]);
            data = sealed;
            assert_eq!(service.open(&[3; 13], b"reader", &mut data, &tag), Err(Error::TagMismatch));
            assert_eq!(data, [0; 20]);
            module.zeroise().unwrap();
            data = sealed;
            assert!(matches!(service.open(&[3; 13], b"header", &mut data, &tag), Err(Error::State(_))));
            assert_eq!(data, sealed);
        }
    }
}
