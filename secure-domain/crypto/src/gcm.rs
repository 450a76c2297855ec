//! Galois/Counter Mode (SP 800-38D), with 12-byte nonces for the storage path and any nonce length for tests.
use cipher::inout::InOutBuf;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Block;
use crate::aead::{Nonce, Sector, Tag};
use crate::block::BlockCipher;
use crate::ccm::{LANES, Lanes};
use crate::ctr;
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::ghash::{self, Ghash};

/// The longest message under one nonce: 2^32 - 2 blocks (SP 800-38D section 5.2.1.1).
const MAX_MESSAGE: u64 = ((1 << 32) - 2) * 16;
/// The longest associated data: 2^61 - 1 bytes.
const MAX_AAD: u64 = (1 << 61) - 1;

/// A block cipher key with the hash key made from it.
pub struct Gcm {
    cipher: BlockCipher,
    hash: ghash::Key,
}

impl Gcm {
    /// Derives the hash key, for the fastest backend of this processor.
    #[must_use]
    pub fn new(cipher: BlockCipher) -> Self {
        Self::with_features(cipher, CpuFeatures::detect())
    }

    /// Derives the hash key, for a backend that needs no more than `features`.
    #[must_use]
    pub fn with_features(cipher: BlockCipher, features: CpuFeatures) -> Self {
        let mut h = cipher.encrypt_block([0; 16]);
        let hash = ghash::Key::new(&h, features);
        h.zeroize();
        Self { cipher, hash }
    }

    /// Enciphers `data` in place and writes the tag, of 12 to 16 bytes.
    ///
    /// # Errors
    /// [`Error::NonceLength`] for an empty nonce, [`Error::TagLength`], [`Error::InputLength`] for too much data; `data` is untouched
    /// then.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), Error> {
        check_tag(tag)?;
        let full = self.seal_inout(nonce, aad, data.into())?;
        tag.copy_from_slice(&full[..tag.len()]);
        Ok(())
    }

    /// Checks the tag, of 12 to 16 bytes, and only then deciphers `data` in place; on a mismatch `data` is zero.
    ///
    /// # Errors
    /// As [`Gcm::seal`], and [`Error::TagMismatch`].
    pub fn open(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Error> {
        self.open_inout(nonce, aad, data.into(), tag)
    }

    /// [`Gcm::seal`] from one buffer to another. Each source byte is read once.
    pub(crate) fn seal_inout(&self, nonce: &[u8], aad: &[u8], mut data: InOutBuf<'_, '_, u8>) -> Result<Block, Error> {
        check_lengths(aad, data.len())?;
        let first = self.first_counter(nonce)?;
        ctr::apply(&self.cipher, &next(&first), data.reborrow());
        Ok(self.tag(&first, aad, data.get_out()))
    }

    /// [`Gcm::open`] from one buffer to another.
    pub(crate) fn open_inout(
        &self,
        nonce: &[u8],
        aad: &[u8],
        mut data: InOutBuf<'_, '_, u8>,
        tag: &[u8],
    ) -> Result<(), Error> {
        check_tag(tag)?;
        check_lengths(aad, data.len())?;
        let first = self.first_counter(nonce)?;
        let expected = self.tag(&first, aad, data.get_in());
        if !bool::from(expected[..tag.len()].ct_eq(tag)) {
            data.get_out().fill(0);
            return Err(Error::TagMismatch);
        }
        ctr::apply(&self.cipher, &next(&first), data);
        Ok(())
    }

    /// The counter block J0 (SP 800-38D section 7.1 step 2).
    fn first_counter(&self, nonce: &[u8]) -> Result<Block, Error> {
        let mut first = [0; 16];
        if nonce.is_empty() {
            return Err(Error::NonceLength);
        } else if nonce.len() == 12 {
            first[..12].copy_from_slice(nonce);
            first[15] = 1;
        } else {
            let mut hash = Ghash::new(&self.hash);
            hash.update_padded(nonce);
            hash.update_blocks(&[ghash::bits(nonce).to_be_bytes()]);
            first = hash.finish();
        }
        Ok(first)
    }

    fn tag(&self, first: &Block, aad: &[u8], ciphertext: &[u8]) -> Block {
        crate::xor_block(&self.hash.digest(aad, ciphertext), &self.cipher.encrypt_block(*first))
    }
}

/// Many sectors: the blocks that mask their tags go through the cipher together. The caller has checked that the slices have one
/// length, at most [`LANES`].
impl Gcm {
    /// Enciphers sectors from one buffer to another. Each source byte is read once.
    pub(crate) fn seal_lanes<A: AsRef<[u8]>>(
        &self,
        lanes: &Lanes<'_, A>,
        plaintext: &[Sector],
        ciphertext: &mut [Sector],
        tags: &mut [Tag],
    ) {
        self.masks(lanes.nonces, tags);
        for (i, sector) in ciphertext.iter_mut().enumerate() {
            ctr::apply(&self.cipher, &counter(&lanes.nonces[i], 2), both(&plaintext[i], sector));
            tags[i] = crate::xor_block(&tags[i], &self.hash.digest(lanes.aads[i].as_ref(), sector));
        }
    }

    /// Judges sectors and deciphers the good ones from one buffer to another; the others come out zero.
    pub(crate) fn open_lanes<A: AsRef<[u8]>>(
        &self,
        lanes: &Lanes<'_, A>,
        ciphertext: &[Sector],
        plaintext: &mut [Sector],
        tags: &[Tag],
        results: &mut [Result<(), Error>],
    ) {
        let mut masks = [[0; 16]; LANES];
        self.masks(lanes.nonces, &mut masks[..tags.len()]);
        for (i, sector) in plaintext.iter_mut().enumerate() {
            let expected = crate::xor_block(&masks[i], &self.hash.digest(lanes.aads[i].as_ref(), &ciphertext[i]));
            results[i] = if bool::from(expected.ct_eq(&tags[i])) {
                ctr::apply(&self.cipher, &counter(&lanes.nonces[i], 2), both(&ciphertext[i], sector));
                Ok(())
            } else {
                sector.fill(0);
                Err(Error::TagMismatch)
            };
        }
    }

    /// The encipherments of the counter blocks J0.
    fn masks(&self, nonces: &[Nonce], masks: &mut [Block]) {
        for (mask, nonce) in masks.iter_mut().zip(nonces) {
            *mask = counter(nonce, 1);
        }
        self.cipher.encrypt_blocks(masks);
    }
}

fn both<'i, 'o>(input: &'i Sector, output: &'o mut Sector) -> InOutBuf<'i, 'o, u8> {
    InOutBuf::new(&input[..], &mut output[..]).expect("both are one sector long")
}

/// The counter block of a 12-byte nonce.
fn counter(nonce: &Nonce, count: u8) -> Block {
    let mut block = [0; 16];
    block[..12].copy_from_slice(nonce);
    block[15] = count;
    block
}

/// Tags shorter than 12 bytes need limits that nobody here keeps (SP 800-38D appendix C).
fn check_tag(tag: &[u8]) -> Result<(), Error> {
    if !(12..=16).contains(&tag.len()) {
        return Err(Error::TagLength);
    }
    Ok(())
}

fn check_lengths(aad: &[u8], message: usize) -> Result<(), Error> {
    if aad.len() as u64 > MAX_AAD || message as u64 > MAX_MESSAGE {
        return Err(Error::InputLength);
    }
    Ok(())
}

fn next(counter: &Block) -> Block {
    let mut counters = ctr::Counter::new(counter);
    counters.next();
    counters.next()
}
