//! AEAD keys in service: they ask the module before every call.
use super::Module;
use crate::aead::{Aead, Keyed, Nonce, Sector, Tag};
use crate::block::BlockCipher;
use crate::ccm::Ccm;
use crate::error::Error;
use crate::gcm::Gcm;
use crate::suite::{Mode, Suite};

/// An AEAD key in service.
#[derive(Debug)]
pub struct AeadService {
    module: &'static Module,
    aead: Aead,
}

impl AeadService {
    pub(super) const fn new(module: &'static Module, aead: Aead) -> Self {
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

    /// Seals sectors from one buffer to another, each with its own nonce and associated data, and writes their tags. With CCM,
    /// associated data of one length up to 62 bytes lets up to 16 sectors run side by side. Each byte of `plaintext` is read once.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::BatchShape`] if the slices differ in length. Nothing is written then.
    pub fn seal_batch<A: AsRef<[u8]>>(
        &self,
        nonces: &[Nonce],
        aads: &[A],
        plaintext: &[Sector],
        ciphertext: &mut [Sector],
        tags: &mut [Tag],
    ) -> Result<(), Error> {
        self.module.permit()?;
        self.aead.seal_batch(nonces, aads, plaintext, ciphertext, tags)
    }

    /// Opens sectors from one buffer to another and writes one verdict for each to `results`: a sector whose tag is wrong comes
    /// out zero and does not disturb the others. With CCM `plaintext` must be memory that nobody else can read, since its tags are checked
    /// behind the deciphering. `ciphertext` must not change meanwhile.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::BatchShape`] if the slices differ in length. Nothing is written then.
    pub fn open_batch<A: AsRef<[u8]>>(
        &self,
        nonces: &[Nonce],
        aads: &[A],
        ciphertext: &[Sector],
        plaintext: &mut [Sector],
        tags: &[Tag],
        results: &mut [Result<(), Error>],
    ) -> Result<(), Error> {
        self.module.permit()?;
        self.aead.open_batch(nonces, aads, ciphertext, plaintext, tags, results)
    }
}

/// An AEAD key in service for messages, with the lengths of nonces and tags fixed: 12 to 16 bytes of tag and any nonce in GCM; 4, 6, ...
/// 16 bytes of tag and nonces of 7 to 13 bytes in CCM.
pub struct MessageService {
    module: &'static Module,
    keyed: Keyed,
    nonce_len: usize,
    tag_len: usize,
}

impl MessageService {
    pub(super) fn new(
        module: &'static Module,
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
            Mode::Gcm => Keyed::Gcm(Gcm::new(cipher)),
        };
        Ok(Self { module, keyed, nonce_len, tag_len })
    }

    /// Enciphers `data` in place and writes the tag.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::NonceLength`], [`Error::TagLength`] if a length is not the fixed one; [`Error::InputLength`]. `data` is
    /// untouched then.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), Error> {
        self.permit(nonce, tag)?;
        match &self.keyed {
            Keyed::Gcm(gcm) => gcm.seal(nonce, aad, data, tag),
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
            Keyed::Gcm(gcm) => gcm.open(nonce, aad, data, tag),
            Keyed::Ccm(ccm) => ccm.open(nonce, aad, data, tag),
        }
    }

    /// Refuses unless the module serves and the lengths are those that the profile allowed.
    fn permit(&self, nonce: &[u8], tag: &[u8]) -> Result<(), Error> {
        self.module.permit()?;
        if nonce.len() != self.nonce_len {
            return Err(Error::NonceLength);
        }
        if tag.len() != self.tag_len {
            return Err(Error::TagLength);
        }
        Ok(())
    }
}

impl core::fmt::Debug for MessageService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MessageService { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::SECTOR_LEN;
    use crate::host;
    use crate::module::Profile;
    use crate::state::State;

    const SUITES: [Suite; 2] = [Suite::Aria128Gcm, Suite::Seed128Ccm];

    #[test]
    fn a_module_in_error_seals_and_opens_no_batch() {
        for suite in [Suite::Aria256Gcm, Suite::Seed128Ccm] {
            let module = host::fresh(Profile::Kcmvp);
            let service = module.aead(suite, &[1; 32][..suite.key_len()]).unwrap();
            let (nonces, aads) = ([[1; 12], [2; 12]], [[0; 24]; 2]);
            let (mut sealed, mut tags) = ([[9; SECTOR_LEN]; 2], [[0; 16]; 2]);
            service.seal_batch(&nonces, &aads, &[[7; SECTOR_LEN]; 2], &mut sealed, &mut tags).unwrap();
            module.conditional_failed().unwrap();
            let refused = Err(Error::State(State::SimpleError));
            let (mut out, mut results) = ([[9; SECTOR_LEN]; 2], [Ok(()); 2]);
            assert_eq!(service.open_batch(&nonces, &aads, &sealed, &mut out, &tags, &mut results), refused);
            assert_eq!(service.seal_batch(&nonces, &aads, &[[7; SECTOR_LEN]; 2], &mut out, &mut tags), refused);
            assert_eq!(out, [[9; SECTOR_LEN]; 2]);
        }
    }

    #[test]
    fn a_tag_or_nonce_of_another_length_than_was_fixed_is_refused() {
        let module = host::fresh(Profile::Kcmvp);
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
            let module = host::fresh(Profile::Kcmvp);
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
