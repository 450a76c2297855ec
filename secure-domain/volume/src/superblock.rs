//! The superblock: what the volume is, and how many versions may have been used.
//!
//! ```text
//! offset  size
//!      0     8  magic "HAECHISV"
//!      8     2  major version        a change that older code must not touch
//!     10     2  minor version
//!     12     4  incompatible features; an unknown bit means: refuse
//!     16     2  suite
//!     18     2  zero
//!     20     4  volume number, below 2^24
//!     24     8  data blocks
//!     32     8  first block of the entry table
//!     40     8  first data block
//!     48     8  version limit: versions from here on were never used
//!     56     8  sequence: the valid superblock with the higher one is the current one
//!     64    32  salt of the volume's keys
//!     96  3968  zero
//!   4064    32  HMAC-SHA-256 over bytes 0 to 4063
//! ```
//! Integers are little-endian. Two superblocks, A in block 0 and B in block 1, are written in turn, so a torn write leaves the
//! other. Invariants: the layout is what [`Geometry::for_data`] makes of the data blocks; the version limit and the
//! sequence only grow; the limit is durable before a version below it is used.

use crypto::{Suite, hash::HmacSha256};
use keystore::{RootKey, SALT_BYTES, VolumeIdentity, VolumeKeys};

use crate::{BLOCK_BYTES, Error, Geometry, seal::MAX_VOLUME};

/// Format version, major and minor.
pub const VERSION: (u16, u16) = (0, 1);
/// Blocks that hold the superblocks.
pub const PLACES: [u64; 2] = [0, 1];

const MAGIC: [u8; 8] = *b"HAECHISV";
const MAC_OFFSET: usize = BLOCK_BYTES - 32;
/// Incompatible features that this code knows.
const KNOWN_FEATURES: u32 = 0;

/// A superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The suite that seals every block.
    pub suite: Suite,
    /// Number of the volume, below 2^24.
    pub volume: u32,
    /// Where its parts lie.
    pub geometry: Geometry,
    /// Versions from here on were never used.
    pub version_limit: u64,
    /// Counts superblock writes.
    pub sequence: u64,
    /// Salt of the volume's keys.
    pub salt: [u8; SALT_BYTES],
}

impl Superblock {
    /// The keys of the volume that this superblock describes, on the device with this root key.
    pub fn keys(&self, root: &RootKey) -> VolumeKeys {
        root.volume_keys(&VolumeIdentity { volume: self.volume, suite: self.suite, salt: self.salt })
    }

    /// The block to write. `bytes` is one block long.
    pub fn encode(&self, keys: &VolumeKeys, bytes: &mut [u8]) {
        assert!(self.volume < MAX_VOLUME && Geometry::for_data(self.geometry.data_blocks) == Some(self.geometry));
        bytes.fill(0);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.0.to_le_bytes());
        bytes[10..12].copy_from_slice(&VERSION.1.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.suite.id().to_le_bytes());
        bytes[20..24].copy_from_slice(&self.volume.to_le_bytes());
        let words = [
            self.geometry.data_blocks,
            self.geometry.table_start,
            self.geometry.data_start,
            self.version_limit,
            self.sequence,
        ];
        for (index, word) in words.into_iter().enumerate() {
            bytes[24 + 8 * index..32 + 8 * index].copy_from_slice(&word.to_le_bytes());
        }
        bytes[64..96].copy_from_slice(&self.salt);
        let mac = HmacSha256::mac(keys.mac(), &bytes[..MAC_OFFSET]);
        bytes[MAC_OFFSET..].copy_from_slice(&mac);
    }

    /// Reads the superblock that was found in `block`. `Ok(None)`: no magic. Nothing in it is believed before the MAC was
    /// checked, except what is needed to derive the key that checks it.
    pub fn parse(block: u64, bytes: &[u8], root: &RootKey) -> Result<Option<Superblock>, Error> {
        let Some(superblock) = Superblock::parse_unverified(block, bytes)? else {
            return Ok(None);
        };
        let mut mac = HmacSha256::new(superblock.keys(root).mac());
        mac.update(&bytes[..MAC_OFFSET]);
        let stored = bytes[MAC_OFFSET..].first_chunk().ok_or(Error::Layout { block })?;
        mac.verify(stored).map_err(|_| Error::Mac { block })?;
        Ok(Some(superblock))
    }

    /// As [`parse`](Self::parse) without a key: what the superblock claims, for display only.
    pub fn parse_unverified(block: u64, bytes: &[u8]) -> Result<Option<Superblock>, Error> {
        if bytes.len() != BLOCK_BYTES || bytes[..8] != MAGIC {
            return Ok(None);
        }
        let half = |offset: usize| u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
        let word = |offset: usize| u64::from(half(offset)) | u64::from(half(offset + 2)) << 16;
        let long = |offset: usize| word(offset) | word(offset + 4) << 32;
        let (major, minor) = (half(8), half(10));
        if (major, minor) != VERSION {
            return Err(Error::Version { block, major, minor });
        }
        let flags = word(12) as u32 & !KNOWN_FEATURES;
        if flags != 0 {
            return Err(Error::Features { block, flags });
        }
        let suite = Suite::from_id(half(16)).map_err(|_| Error::Suite { block, suite: half(16) })?;
        let geometry = Geometry::for_data(long(24)).ok_or(Error::Layout { block })?;
        let volume = word(20) as u32;
        if (geometry.table_start, geometry.data_start) != (long(32), long(40)) || volume >= MAX_VOLUME {
            return Err(Error::Layout { block });
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&bytes[64..96]);
        Ok(Some(Superblock { suite, volume, geometry, version_limit: long(48), sequence: long(56), salt }))
    }

    /// The current superblock of the two that were found in [`PLACES`], its index there, and whether the other is damaged. An
    /// error names what is wrong with the one that looks most like a superblock.
    pub fn choose(found: [Result<Option<Superblock>, Error>; 2]) -> Result<(Superblock, usize, Option<usize>), Error> {
        match found {
            [Ok(Some(a)), Ok(Some(b))] if b.sequence > a.sequence => Ok((b, 1, None)),
            [Ok(Some(a)), Ok(Some(_))] => Ok((a, 0, None)),
            // A newer version beside an older one is not damage but a disk of newer code.
            [Err(error @ (Error::Version { .. } | Error::Features { .. })), _]
            | [_, Err(error @ (Error::Version { .. } | Error::Features { .. }))] => Err(error),
            [Ok(Some(a)), _] => Ok((a, 0, Some(1))),
            [_, Ok(Some(b))] => Ok((b, 1, Some(0))),
            [Err(error), _] | [_, Err(error)] => Err(error),
            [Ok(None), Ok(None)] => Err(Error::NotHaechi),
        }
    }
}
