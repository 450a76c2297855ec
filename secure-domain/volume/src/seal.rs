//! Sealing and opening of one block.
//!
//! ```text
//! nonce, 12 bytes   version u64 | volume, 24 bits | domain, 8 bits                  (all big-endian)
//! associated data   "HSV0" | major u16 | minor u16 | suite u16 | state u8 | 0 | volume u32 | block u64
//! ```
//! The associated data is integers little-endian, 24 bytes. A version is used once per volume, whatever it seals, so the nonce
//! needs no more than it has; the associated data pins the ciphertext to its place, its format and its meaning.

use crypto::{
    Aead,
    aead::{Nonce, Tag},
};
use keystore::VolumeKeys;

use crate::{
    entry::{Entry, State},
    superblock::{Superblock, VERSION},
};

/// The domain byte of nonces that seal data blocks. Others are for later kinds of record.
const DOMAIN_DATA: u8 = 0;
/// Volume numbers are below this.
pub const MAX_VOLUME: u32 = 1 << 24;

const AAD_BYTES: usize = 24;
const AAD_MAGIC: [u8; 4] = *b"HSV0";

/// The block was not sealed by this volume at this place with this entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch;

/// Seals and opens the blocks of one volume.
#[derive(Debug)]
pub struct Sealer {
    aead: Aead,
    volume: u32,
}

impl Sealer {
    /// The sealer of the volume that `superblock` describes. The keys must be the volume's.
    pub fn new(superblock: &Superblock, keys: &VolumeKeys) -> Sealer {
        let aead = Aead::new(superblock.suite, keys.data()).expect("the keystore derives keys of the suite's length");
        Sealer { aead, volume: superblock.volume }
    }

    /// Seals `data`, the contents of `block`, in place. `version` must never have been used before.
    pub fn seal(&self, block: u64, version: u64, data: &mut [u8]) -> Entry {
        self.seal_as(State::Sealed, block, version, data)
    }

    /// Seals the statement that `block` holds zeros.
    pub fn seal_zero(&self, block: u64, version: u64) -> Entry {
        self.seal_as(State::Zero, block, version, &mut [])
    }

    /// Opens `data`, the ciphertext of `block`, in place; on a mismatch no plaintext is left in it. An entry that states zeros
    /// is verified, and `data` becomes zeros.
    pub fn open(&self, block: u64, entry: &Entry, data: &mut [u8]) -> Result<(), Mismatch> {
        match entry.state {
            State::Sealed => self.open_as(block, entry, data),
            State::Zero => {
                data.fill(0);
                self.open_as(block, entry, &mut [])
            }
        }
    }

    fn seal_as(&self, state: State, block: u64, version: u64, data: &mut [u8]) -> Entry {
        #[cfg(test)]
        crate::tests::audit::record(self.volume, version);
        let (nonce, aad) = (self.nonce(version), self.associated_data(state, block));
        let sealed: Result<Tag, _> = self.aead.seal_in_place(&nonce, &aad, data);
        let tag = sealed.expect("one block is shorter than the limit of every mode");
        Entry { version, tag, state }
    }

    fn open_as(&self, block: u64, entry: &Entry, data: &mut [u8]) -> Result<(), Mismatch> {
        let (nonce, aad) = (self.nonce(entry.version), self.associated_data(entry.state, block));
        self.aead.open_in_place(&nonce, &aad, data, &entry.tag).map_err(|_| Mismatch)
    }

    fn nonce(&self, version: u64) -> Nonce {
        let word = u128::from(version) << 32 | u128::from(self.volume) << 8 | u128::from(DOMAIN_DATA);
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&word.to_be_bytes()[4..]);
        nonce
    }

    fn associated_data(&self, state: State, block: u64) -> [u8; AAD_BYTES] {
        let mut aad = [0; AAD_BYTES];
        aad[..4].copy_from_slice(&AAD_MAGIC);
        aad[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
        aad[6..8].copy_from_slice(&VERSION.1.to_le_bytes());
        aad[8..10].copy_from_slice(&self.aead.suite().id().to_le_bytes());
        aad[10] = state as u8;
        aad[12..16].copy_from_slice(&self.volume.to_le_bytes());
        aad[16..].copy_from_slice(&block.to_le_bytes());
        aad
    }
}
