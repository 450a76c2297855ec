//! The block cipher as the modes see it: any number of 16-byte blocks through one expanded key.
use aes::{Aes128, Aes192, Aes256};
use cipher::consts::U16;
use cipher::inout::{InOut, InOutBuf};
use cipher::{
    Array, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocksSizeUser,
};
use zeroize::Zeroize;

use crate::aead::Sector;
use crate::aria::{self, Aria};
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::seed::{self, Seed};
use crate::simd::{self, VectorProof};
use crate::suite::Algorithm;
use crate::{Block, xor_block};

/// An expanded key of one of the block ciphers. Its memory is wiped on drop.
///
/// It implements RustCrypto's `cipher` traits, so that generic modes can be built over it.
pub struct BlockCipher(Key);

// One key lives long and in place, so the size of the largest one costs nothing, and boxing would need an allocator.
#[allow(clippy::large_enum_variant)]
enum Key {
    Aria(Aria),
    AriaVector(VectorProof, Aria, simd::aria::Keys, simd::aria::ChainKeys),
    Seed(Seed),
    SeedVector(VectorProof, Seed, simd::seed::Keys),
    AesVector(VectorProof, simd::aes::Keys),
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl BlockCipher {
    /// Expands `key` for `algorithm` on the fastest backend of this processor.
    ///
    /// # Errors
    /// [`Error::KeyLength`] if `key` is not [`Algorithm::key_len`] bytes long.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        Self::with_features(algorithm, key, CpuFeatures::detect())
    }

    /// Expands `key` for `algorithm` on a backend that needs no more than `features`. (The portable AES is the crate `aes`, which on some systems finds
    /// and uses AES instructions by itself.)
    ///
    /// # Errors
    /// [`Error::KeyLength`] if `key` is not [`Algorithm::key_len`] bytes long.
    pub fn with_features(algorithm: Algorithm, key: &[u8], features: CpuFeatures) -> Result<Self, Error> {
        if key.len() != algorithm.key_len() {
            return Err(Error::KeyLength);
        }
        let vector = VectorProof::new(features);
        Ok(Self(match algorithm {
            Algorithm::Aria128 | Algorithm::Aria192 | Algorithm::Aria256 => Key::aria(Aria::new(key)?, vector),
            Algorithm::Seed128 => Key::seed(Seed::new(key)?, vector),
            Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => Key::aes(key, vector)?,
        }))
    }

    /// The number of blocks that the backend handles in one go; bringing multiples of it is cheapest.
    #[must_use]
    pub fn stride(&self) -> usize {
        match &self.0 {
            Key::Aria(_) => aria::PASS,
            Key::AriaVector(..) => simd::aria::PASS,
            Key::Seed(_) => seed::PASS,
            Key::SeedVector(..) => simd::seed::PASS,
            Key::AesVector(..) => simd::aes::PASS,
            Key::Aes128(_) | Key::Aes192(_) | Key::Aes256(_) => 8,
        }
    }

    /// Enciphers every block in place.
    pub fn encrypt_blocks(&self, blocks: &mut [Block]) {
        match &self.0 {
            Key::Aria(key) => aria::crypt(&key.encrypt, blocks),
            Key::AriaVector(proof, _, keys, _) => simd::aria_crypt(*proof, keys, blocks),
            Key::Seed(key) => seed::crypt(|| key.schedule(false), blocks),
            Key::SeedVector(proof, _, keys) => simd::seed_crypt(*proof, keys, blocks),
            Key::AesVector(proof, keys) => simd::aes_encrypt(*proof, keys, blocks),
            Key::Aes128(key) => key.encrypt_blocks(as_arrays(blocks)),
            Key::Aes192(key) => key.encrypt_blocks(as_arrays(blocks)),
            Key::Aes256(key) => key.encrypt_blocks(as_arrays(blocks)),
        }
    }

    /// Deciphers every block in place.
    pub fn decrypt_blocks(&self, blocks: &mut [Block]) {
        match &self.0 {
            Key::Aria(key) => aria::crypt(&key.decrypt, blocks),
            Key::AriaVector(proof, key, ..) => {
                let keys = simd::aria::Keys::new(&key.decrypt);
                simd::aria_crypt(*proof, &keys, blocks);
            }
            Key::Seed(key) => seed::crypt(|| key.schedule(true), blocks),
            Key::SeedVector(proof, key, _) => {
                let keys = simd::seed::Keys::new(key, true);
                simd::seed_crypt(*proof, &keys, blocks);
            }
            Key::AesVector(proof, keys) => {
                let keys = simd::aes_reverse(*proof, keys);
                simd::aes_decrypt(*proof, &keys, blocks);
            }
            Key::Aes128(key) => key.decrypt_blocks(as_arrays(blocks)),
            Key::Aes192(key) => key.decrypt_blocks(as_arrays(blocks)),
            Key::Aes256(key) => key.decrypt_blocks(as_arrays(blocks)),
        }
    }

    /// XORs key stream into the leading part of `data` that a fused kernel handles, and returns its length: all whole passes if there
    /// is such a kernel, nothing otherwise. `first` is the first counter block; its last word counts modulo 2^32.
    pub(crate) fn xor_keystream_prefix<'i, 'o>(
        &self,
        first: &Block,
        data: InOutBuf<'i, 'o, u8>,
    ) -> (usize, InOutBuf<'i, 'o, u8>) {
        let length = data.len();
        let rest = match &self.0 {
            Key::AriaVector(proof, _, keys, _) => {
                let (passes, rest) = data.into_chunks();
                simd::aria_ctr(*proof, keys, first, passes);
                rest
            }
            Key::AesVector(proof, keys) => {
                let (passes, rest) = data.into_chunks();
                simd::aes_ctr(*proof, keys, first, passes);
                rest
            }
            Key::SeedVector(proof, _, keys) => {
                let (passes, rest) = data.into_chunks();
                simd::seed_ctr(*proof, keys, first, passes);
                rest
            }
            _ => data,
        };
        (length - rest.len(), rest)
    }

    /// Runs the CBC-MAC chains of 16 sectors over all their blocks, and copies these to `copy` if there is one, if a kernel keeps the
    /// chains in registers; says whether it did.
    pub(crate) fn chain_sectors(
        &self,
        sectors: &[Sector; 16],
        copy: Option<&mut [Sector; 16]>,
        chains: &mut [Block; 16],
    ) -> bool {
        match &self.0 {
            Key::AriaVector(proof, _, keys, first) => simd::aria_chain(*proof, keys, first, sectors, copy, chains),
            Key::SeedVector(proof, _, keys) => simd::seed_chain(*proof, keys, sectors, copy, chains),
            Key::AesVector(proof, keys) => simd::aes_chain(*proof, keys, sectors, copy, chains),
            _ => return false,
        }
        true
    }

    /// Runs one CBC-MAC chain on: adds each block to `state` and enciphers that.
    pub(crate) fn chain(&self, state: &mut Block, blocks: &[Block]) {
        match &self.0 {
            Key::AriaVector(proof, _, keys, _) => simd::aria_chain_one(*proof, keys, state, blocks),
            Key::SeedVector(proof, _, keys) => simd::seed_chain_one(*proof, keys, state, blocks),
            Key::AesVector(proof, keys) => simd::aes_chain_one(*proof, keys, state, blocks),
            _ => blocks.iter().for_each(|block| *state = self.encrypt_block(xor_block(state, block))),
        }
    }

    /// The encipherment of one block.
    #[must_use]
    pub fn encrypt_block(&self, block: Block) -> Block {
        let mut blocks = [block];
        self.encrypt_blocks(&mut blocks);
        blocks[0]
    }

    /// The decipherment of one block.
    #[must_use]
    pub fn decrypt_block(&self, block: Block) -> Block {
        let mut blocks = [block];
        self.decrypt_blocks(&mut blocks);
        blocks[0]
    }
}

impl Key {
    fn aria(key: Aria, vector: Option<VectorProof>) -> Self {
        let Some(proof) = vector else { return Self::Aria(key) };
        let keys = simd::aria::Keys::new(&key.encrypt);
        let first = simd::aria::ChainKeys::new(&keys);
        Self::AriaVector(proof, key, keys, first)
    }

    fn seed(key: Seed, vector: Option<VectorProof>) -> Self {
        let Some(proof) = vector else { return Self::Seed(key) };
        let keys = simd::seed::Keys::new(&key, false);
        Self::SeedVector(proof, key, keys)
    }

    fn aes(key: &[u8], vector: Option<VectorProof>) -> Result<Self, Error> {
        let refused = |_| Error::KeyLength;
        Ok(match (vector, key.len()) {
            (Some(proof), _) => Self::AesVector(proof, simd::aes::Keys::new(key)),
            (None, 16) => Self::Aes128(Aes128::new_from_slice(key).map_err(refused)?),
            (None, 24) => Self::Aes192(Aes192::new_from_slice(key).map_err(refused)?),
            (None, _) => Self::Aes256(Aes256::new_from_slice(key).map_err(refused)?),
        })
    }
}

impl core::fmt::Debug for BlockCipher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BlockCipher { .. }")
    }
}

/// Splits `blocks` into passes of `N`; the last one is filled up with zero blocks and its surplus wiped.
#[inline(always)]
pub(crate) fn in_passes<const N: usize>(blocks: &mut [Block], crypt: impl Fn(&mut [Block; N])) {
    let (passes, rest) = blocks.as_chunks_mut::<N>();
    passes.iter_mut().for_each(&crypt);
    if !rest.is_empty() {
        let mut pass = simd::AlignedBlocks([[0; 16]; N]);
        pass.0[..rest.len()].copy_from_slice(rest);
        crypt(&mut pass.0);
        rest.copy_from_slice(&pass.0[..rest.len()]);
        pass.zeroize();
    }
}

fn as_arrays(blocks: &mut [Block]) -> &mut [Array<u8, U16>] {
    Array::cast_slice_from_core_mut(blocks)
}

impl BlockSizeUser for BlockCipher {
    type BlockSize = U16;
}

impl ParBlocksSizeUser for BlockCipher {
    type ParBlocksSize = U16;
}

impl BlockCipherEncrypt for BlockCipher {
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        f.call(self);
    }
}

impl BlockCipherDecrypt for BlockCipher {
    fn decrypt_with_backend(&self, f: impl BlockCipherDecClosure<BlockSize = U16>) {
        f.call(self);
    }
}

type OneBlock<'i, 'o> = InOut<'i, 'o, Array<u8, U16>>;
type ManyBlocks<'i, 'o> = InOut<'i, 'o, Array<Array<u8, U16>, U16>>;

impl BlockCipherEncBackend for BlockCipher {
    fn encrypt_block(&self, mut block: OneBlock<'_, '_>) {
        *block.get_out() = block.clone_in();
        Self::encrypt_blocks(self, core::slice::from_mut(&mut block.get_out().0));
    }

    fn encrypt_par_blocks(&self, mut blocks: ManyBlocks<'_, '_>) {
        let mut pass = blocks.clone_in().0.map(|block| block.0);
        Self::encrypt_blocks(self, &mut pass);
        *blocks.get_out() = Array(pass.map(Array));
    }
}

impl BlockCipherDecBackend for BlockCipher {
    fn decrypt_block(&self, mut block: OneBlock<'_, '_>) {
        *block.get_out() = Array(Self::decrypt_block(self, block.clone_in().0));
    }

    fn decrypt_par_blocks(&self, mut blocks: ManyBlocks<'_, '_>) {
        let mut pass = blocks.clone_in().0.map(|block| block.0);
        Self::decrypt_blocks(self, &mut pass);
        *blocks.get_out() = Array(pass.map(Array));
    }
}
