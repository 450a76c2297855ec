//! Authenticated encryption of sectors: one key, one suite, a 12-byte nonce and a 16-byte tag per message.
//!
//! The caller keeps the promise that no nonce is ever used twice to seal under one key.
use core::ops::Range;

use cipher::inout::InOutBuf;

use crate::block::BlockCipher;
use crate::ccm::{Ccm, LANES, Lanes};
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::gcm::Gcm;
use crate::suite::{Mode, Suite};

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;
/// Length of a sector of the batch calls in bytes.
pub const SECTOR_LEN: usize = 4096;

/// A nonce.
pub type Nonce = [u8; NONCE_LEN];
/// A tag.
pub type Tag = [u8; TAG_LEN];
/// A sector of the batch calls.
pub type Sector = [u8; SECTOR_LEN];

/// A suite with an expanded key. The key is wiped when it is dropped.
pub struct Aead {
    suite: Suite,
    mode: Keyed,
}

// One key lives long and in place; boxing would need an allocator.
#[allow(clippy::large_enum_variant)]
enum Keyed {
    Gcm(Gcm),
    Ccm(Ccm),
}

impl Aead {
    /// Expands `key` for `suite` on the fastest backend of this processor.
    ///
    /// # Errors
    /// [`Error::KeyLength`] if `key` is not [`Suite::key_len`] bytes long.
    pub fn new(suite: Suite, key: &[u8]) -> Result<Self, Error> {
        Self::with_features(suite, key, CpuFeatures::detect())
    }

    /// Expands `key` for `suite` on a backend that needs no more than `features`.
    ///
    /// # Errors
    /// [`Error::KeyLength`] if `key` is not [`Suite::key_len`] bytes long.
    pub fn with_features(suite: Suite, key: &[u8], features: CpuFeatures) -> Result<Self, Error> {
        let cipher = BlockCipher::with_features(suite.algorithm(), key, features)?;
        let mode = match suite.mode() {
            Mode::Gcm => Keyed::Gcm(Gcm::with_features(cipher, features)),
            Mode::Ccm => Keyed::Ccm(Ccm::new(cipher, NONCE_LEN, TAG_LEN)?),
        };
        Ok(Self { suite, mode })
    }

    /// The suite the key belongs to.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Replaces the plaintext in `data` by ciphertext and returns the tag over it and `aad`.
    ///
    /// # Errors
    /// [`Error::InputLength`] if a length exceeds what the mode allows; `data` is untouched then.
    pub fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], data: &mut [u8]) -> Result<Tag, Error> {
        match &self.mode {
            Keyed::Gcm(gcm) => gcm.seal_inout(nonce, aad, data.into()),
            Keyed::Ccm(ccm) => ccm.seal_inout(nonce, aad, data.into()),
        }
    }

    /// Replaces the ciphertext in `data` by plaintext if `tag` is the one over it and `aad`.
    ///
    /// # Errors
    /// [`Error::TagMismatch`], with all of `data` zero; [`Error::InputLength`] as in [`Aead::seal_in_place`].
    pub fn open_in_place(&self, nonce: &Nonce, aad: &[u8], data: &mut [u8], tag: &Tag) -> Result<(), Error> {
        self.open_inout(nonce, aad, data.into(), tag)
    }

    /// Writes the ciphertext of `plaintext` to `ciphertext` and returns the tag. Each byte of `plaintext` is read once.
    ///
    /// # Errors
    /// [`Error::OutputLength`] if the buffers differ in length, [`Error::InputLength`] as in [`Aead::seal_in_place`].
    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plaintext: &[u8], ciphertext: &mut [u8]) -> Result<Tag, Error> {
        match &self.mode {
            Keyed::Gcm(gcm) => gcm.seal_inout(nonce, aad, pair(plaintext, ciphertext)?),
            Keyed::Ccm(ccm) => {
                // CCM goes over the plaintext twice; it does so in the copy.
                if plaintext.len() != ciphertext.len() {
                    return Err(Error::OutputLength);
                }
                ciphertext.copy_from_slice(plaintext);
                ccm.seal_inout(nonce, aad, (&mut *ciphertext).into()).inspect_err(|_| ciphertext.fill(0))
            }
        }
    }

    /// Writes the plaintext of `ciphertext` to `plaintext` if `tag` is right. GCM checks the tag before it writes anything; CCM
    /// has to decipher first, so with CCM `plaintext` must be memory that nobody else can read. `ciphertext` must not change
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::TagMismatch`], with all of `plaintext` zero; [`Error::OutputLength`] if the buffers differ in length;
    /// [`Error::InputLength`] as in [`Aead::seal_in_place`].
    pub fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        ciphertext: &[u8],
        plaintext: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Error> {
        self.open_inout(nonce, aad, pair(ciphertext, plaintext)?, tag)
    }

    fn open_inout(&self, nonce: &Nonce, aad: &[u8], data: InOutBuf<'_, '_, u8>, tag: &Tag) -> Result<(), Error> {
        match &self.mode {
            Keyed::Gcm(gcm) => gcm.open_inout(nonce, aad, data, tag),
            Keyed::Ccm(ccm) => ccm.open_inout(nonce, aad, data, tag),
        }
    }

    /// Seals sectors from one buffer to another, each with its own nonce and associated data, and writes their tags. With CCM,
    /// associated data of one length up to 62 bytes lets up to 16 sectors run side by side.
    ///
    /// # Errors
    /// [`Error::BatchShape`] if the slices differ in length; nothing is written then.
    pub fn seal_batch<A: AsRef<[u8]>>(
        &self,
        nonces: &[Nonce],
        aads: &[A],
        plaintext: &[Sector],
        ciphertext: &mut [Sector],
        tags: &mut [Tag],
    ) -> Result<(), Error> {
        check_shape(&[nonces.len(), aads.len(), plaintext.len(), ciphertext.len(), tags.len()])?;
        for group in groups(nonces.len()) {
            let lanes = Lanes { nonces: &nonces[group.clone()], aads: &aads[group.clone()] };
            match &self.mode {
                Keyed::Ccm(ccm) if lanes.fit() => {
                    let (source, target) = (&plaintext[group.clone()], &mut ciphertext[group.clone()]);
                    ccm.seal_lanes(&lanes, source, target, &mut tags[group]);
                }
                Keyed::Gcm(gcm) => {
                    let (source, target) = (&plaintext[group.clone()], &mut ciphertext[group.clone()]);
                    gcm.seal_lanes(&lanes, source, target, &mut tags[group]);
                }
                Keyed::Ccm(_) => {
                    for i in group {
                        tags[i] = self.seal(&nonces[i], aads[i].as_ref(), &plaintext[i], &mut ciphertext[i])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens sectors from one buffer to another and writes one verdict for each to `results`: a sector whose tag is wrong comes
    /// out zero and does not disturb the others. What [`Aead::open`] says about the two buffers holds here too.
    ///
    /// # Errors
    /// [`Error::BatchShape`] if the slices differ in length; nothing is written then.
    pub fn open_batch<A: AsRef<[u8]>>(
        &self,
        nonces: &[Nonce],
        aads: &[A],
        ciphertext: &[Sector],
        plaintext: &mut [Sector],
        tags: &[Tag],
        results: &mut [Result<(), Error>],
    ) -> Result<(), Error> {
        check_shape(&[nonces.len(), aads.len(), ciphertext.len(), plaintext.len(), tags.len(), results.len()])?;
        for group in groups(nonces.len()) {
            let lanes = Lanes { nonces: &nonces[group.clone()], aads: &aads[group.clone()] };
            match &self.mode {
                Keyed::Ccm(ccm) if lanes.fit() => {
                    let (source, target) = (&ciphertext[group.clone()], &mut plaintext[group.clone()]);
                    ccm.open_lanes(&lanes, source, target, &tags[group.clone()], &mut results[group]);
                }
                Keyed::Gcm(gcm) => {
                    let (source, target) = (&ciphertext[group.clone()], &mut plaintext[group.clone()]);
                    gcm.open_lanes(&lanes, source, target, &tags[group.clone()], &mut results[group]);
                }
                Keyed::Ccm(_) => {
                    for i in group {
                        let aad = aads[i].as_ref();
                        results[i] = self.open(&nonces[i], aad, &ciphertext[i], &mut plaintext[i], &tags[i]);
                    }
                }
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for Aead {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Aead {{ suite: {:?}, .. }}", self.suite)
    }
}

fn pair<'i, 'o>(input: &'i [u8], output: &'o mut [u8]) -> Result<InOutBuf<'i, 'o, u8>, Error> {
    InOutBuf::new(input, output).map_err(|_| Error::OutputLength)
}

/// The sectors of a batch in groups that fit the lanes of a cipher pass.
fn groups(sectors: usize) -> impl Iterator<Item = Range<usize>> {
    (0..sectors).step_by(LANES).map(move |start| start..sectors.min(start + LANES))
}

fn check_shape(lengths: &[usize]) -> Result<(), Error> {
    if lengths.iter().any(|length| *length != lengths[0]) {
        return Err(Error::BatchShape);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;

    const KEY: [u8; 32] = [0x5a; 32];

    fn aead(suite: Suite) -> Aead {
        Aead::new(suite, &KEY[..suite.key_len()]).unwrap()
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for suite in Suite::ALL {
            for length in (0..=32).filter(|length| *length != suite.key_len()) {
                assert_eq!(Aead::new(suite, &KEY[..length]).unwrap_err(), Error::KeyLength);
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused_and_leaves_no_plaintext() {
        for suite in Suite::ALL {
            let aead = aead(suite);
            let mut sealed = [7; 100];
            let tag = aead.seal_in_place(&[1; 12], b"here", &mut sealed).unwrap();
            let refuse = |nonce: &Nonce, aad: &[u8], data: &[u8], tag: &Tag| {
                let mut copy = data.to_vec();
                assert_eq!(aead.open_in_place(nonce, aad, &mut copy, tag), Err(Error::TagMismatch));
                assert!(copy.iter().all(|byte| *byte == 0));
                let mut out = vec![9; data.len()];
                assert_eq!(aead.open(nonce, aad, data, &mut out, tag), Err(Error::TagMismatch));
                assert!(out.iter().all(|byte| *byte == 0));
            };
            for bit in 0..128 {
                let mut wrong = tag;
                wrong[bit / 8] ^= 1 << (bit % 8);
                refuse(&[1; 12], b"here", &sealed, &wrong);
            }
            for byte in 0..100 {
                let mut wrong = sealed;
                wrong[byte] ^= 1 << (byte % 8);
                refuse(&[1; 12], b"here", &wrong, &tag);
            }
            refuse(&[2; 12], b"here", &sealed, &tag);
            refuse(&[1; 12], b"her", &sealed, &tag);
            refuse(&[1; 12], b"here", &sealed[..99], &tag);
        }
    }

    #[test]
    fn a_shorter_output_is_refused() {
        let aead = aead(Suite::Aria256Gcm);
        assert_eq!(aead.seal(&[0; 12], &[], &[0; 32], &mut [0; 31]), Err(Error::OutputLength));
        assert_eq!(aead.open(&[0; 12], &[], &[0; 32], &mut [0; 33], &[0; 16]), Err(Error::OutputLength));
    }

    #[test]
    fn a_message_too_long_for_the_ccm_length_field_is_refused() {
        let mut data = vec![0; 1 << 24];
        assert_eq!(aead(Suite::Aes128Ccm).seal_in_place(&[0; 12], &[], &mut data), Err(Error::InputLength));
        assert_eq!(aead(Suite::Aes128Ccm).open_in_place(&[0; 12], &[], &mut data, &[0; 16]), Err(Error::InputLength));
    }

    #[test]
    fn a_batch_is_the_same_as_its_sectors_alone_and_a_bad_one_stands_alone() {
        for suite in Suite::ALL {
            let aead = aead(suite);
            let nonces: [Nonce; 3] = [[1; 12], [2; 12], [3; 12]];
            let aads = [[4; 32], [5; 32], [6; 32]];
            let plaintext = vec![[7; SECTOR_LEN]; 3];
            let mut sealed = vec![[0; SECTOR_LEN]; 3];
            let mut tags = [[0; 16]; 3];
            assert_eq!(
                aead.seal_batch(&nonces[..2], &aads, &plaintext, &mut sealed, &mut tags),
                Err(Error::BatchShape)
            );
            aead.seal_batch(&nonces, &aads, &plaintext, &mut sealed, &mut tags).unwrap();
            for i in 0..3 {
                let mut alone = plaintext[i];
                assert_eq!(aead.seal_in_place(&nonces[i], &aads[i], &mut alone), Ok(tags[i]));
                assert_eq!(alone, sealed[i]);
            }
            tags[1][0] ^= 1;
            let mut opened = vec![[1; SECTOR_LEN]; 3];
            let mut results = [Ok(()); 3];
            aead.open_batch(&nonces, &aads, &sealed, &mut opened, &tags, &mut results).unwrap();
            assert_eq!(results, [Ok(()), Err(Error::TagMismatch), Ok(())]);
            assert_eq!(opened, [[7; SECTOR_LEN], [0; SECTOR_LEN], [7; SECTOR_LEN]]);
        }
    }
}
