//! XTS (IEEE 1619, SP 800-38E): length-preserving encipherment of sectors, without integrity and outside the approved profile.
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::block::BlockCipher;
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::suite::Algorithm;
use crate::{Block, xor_block};

/// The longest data unit: 2^20 blocks (SP 800-38E section 4).
const MAX_UNIT: usize = 1 << 24;
/// Blocks in one pass.
const BATCH: usize = 64;

/// The two keys: one for the data, one for the tweak.
pub struct Xts {
    data: BlockCipher,
    tweak: BlockCipher,
}

impl Xts {
    /// Expands `key`, the data key followed by the tweak key.
    ///
    /// # Errors
    /// [`Error::KeyLength`] unless `key` is two keys of `algorithm`; [`Error::EqualKeys`] unless the two differ.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        Self::with_features(algorithm, key, CpuFeatures::detect())
    }

    /// [`Xts::new`] on a backend that needs no more than `features`.
    ///
    /// # Errors
    /// As [`Xts::new`].
    pub fn with_features(algorithm: Algorithm, key: &[u8], features: CpuFeatures) -> Result<Self, Error> {
        if key.len() != 2 * algorithm.key_len() {
            return Err(Error::KeyLength);
        }
        let (data, tweak) = key.split_at(algorithm.key_len());
        if bool::from(data.ct_eq(tweak)) {
            return Err(Error::EqualKeys);
        }
        let cipher = |key| BlockCipher::with_features(algorithm, key, features);
        Ok(Self { data: cipher(data)?, tweak: cipher(tweak)? })
    }

    /// Enciphers one data unit in place; `tweak` is its number, little-endian.
    ///
    /// # Errors
    /// [`Error::InputLength`] unless `data` has 16 to 2^24 bytes.
    pub fn encrypt(&self, tweak: Block, data: &mut [u8]) -> Result<(), Error> {
        self.crypt(tweak, data, BlockCipher::encrypt_blocks, |last, stolen| (last, stolen))
    }

    /// Deciphers one data unit in place.
    ///
    /// # Errors
    /// As [`Xts::encrypt`].
    pub fn decrypt(&self, tweak: Block, data: &mut [u8]) -> Result<(), Error> {
        self.crypt(tweak, data, BlockCipher::decrypt_blocks, |last, stolen| (stolen, last))
    }

    /// Both directions. If the last block is short, it takes the place of the leading bytes of the one before it ("ciphertext
    /// stealing", IEEE 1619 section 5.3.2); `order` says which tweak of the two serves first.
    fn crypt(
        &self,
        tweak: Block,
        data: &mut [u8],
        cipher: fn(&BlockCipher, &mut [Block]),
        order: fn(Block, Block) -> (Block, Block),
    ) -> Result<(), Error> {
        if !(16..=MAX_UNIT).contains(&data.len()) {
            return Err(Error::InputLength);
        }
        let mut tweak = self.tweak.encrypt_block(tweak);
        let short = data.len() % 16;
        let whole = data.len() / 16 - usize::from(short != 0);
        let (body, tail) = data.split_at_mut(16 * whole);
        for pass in body.as_chunks_mut::<16>().0.chunks_mut(BATCH) {
            let mut tweaks = [[0; 16]; BATCH];
            for (slot, block) in tweaks.iter_mut().zip(pass.iter_mut()) {
                *slot = tweak;
                *block = xor_block(block, &tweak);
                tweak = double(tweak);
            }
            cipher(&self.data, pass);
            for (slot, block) in tweaks.iter().zip(pass) {
                *block = xor_block(block, slot);
            }
        }
        if let Some((last, rest)) = tail.split_first_chunk_mut::<16>() {
            let one = |block: Block, tweak: Block| {
                let mut blocks = [xor_block(&block, &tweak)];
                cipher(&self.data, &mut blocks);
                xor_block(&blocks[0], &tweak)
            };
            let (first, second) = order(tweak, double(tweak));
            let mut stolen = one(*last, first);
            rest.swap_with_slice(&mut stolen[..short]);
            *last = one(stolen, second);
            stolen.zeroize();
        }
        tweak.zeroize();
        Ok(())
    }
}

/// Multiplication by x in GF(2^128), least significant byte first, without a branch.
fn double(block: Block) -> Block {
    let x = u128::from_le_bytes(block);
    (x << 1 ^ 0x87 & (x >> 127).wrapping_neg()).to_le_bytes()
}
