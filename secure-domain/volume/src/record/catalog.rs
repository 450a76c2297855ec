//! The 256-byte record of one volume.
//!
//! ```text
//! offset  size
//!      0     4  volume number; zero throughout: no volume
//!      4     1  layout: 1 linear, 2 striped, 3 mirrored
//!      5     1  columns: members of a striped volume, else 1
//!      6     1  bytes of the name, 1 to 63
//!      7     1  zero
//!      8     8  blocks
//!     16    64  name in UTF-8, zeros behind it
//!     80    64  current epoch
//!    144    64  old epoch while resealing, else zero
//!    208     8  cursor: blocks below it have no entry of the old epoch (while resealing)
//!    216    40  zero
//! ```
//! An epoch:
//!
//! ```text
//!      0     2  epoch, above zero
//!      2     2  suite
//!      4     4  generation of the erase secret that the key is wrapped under
//!      8     8  version: the nonce of the wrapping is made of it
//!     16    32  wrapped key
//!     48    16  tag
//! ```
//! Invariants: the number is below 2^24 and above zero, and no other volume's; the current epoch is one above the old one; the size
//! is above zero and at most 2^42 blocks.

use crypto::Suite;
use keystore::{DataKey, Kek, WrappedKey};

use super::{
    MAX_MEMBERS, MAX_VOLUME,
    bytes::{Reader, put},
};
use crate::{
    operation::{Layout, MAX_NAME_BYTES, Name},
    seal::{DOMAIN_WRAP, nonce},
};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 256;
/// Records of a leaf.
pub const RECORDS_PER_LEAF: usize = 16;
/// Most blocks of a volume: what [`super::geometry::MAX_EXTENTS`] on eight members come to.
pub const MAX_BLOCKS: u64 = 1 << 35;
const NAME_OFFSET: usize = 16;
const EPOCH_OFFSETS: [usize; 2] = [80, 144];
const EPOCH_BYTES: usize = 64;

/// An epoch of a volume: a key and what it is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number: 1 is the first.
    pub number: u16,
    /// The suite.
    pub suite: Suite,
    /// Generation of the erase secret that wraps the key.
    pub generation: u32,
    /// The version that the wrapping's nonce was made of.
    pub version: u64,
    /// The key.
    pub key: WrappedKey,
}

/// A volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its number.
    pub number: u32,
    /// How it lies on the members.
    pub layout: Layout,
    /// Its name.
    pub name: Name,
    /// Its size in blocks.
    pub blocks: u64,
    /// The epoch of new blocks.
    pub epoch: Epoch,
    /// The epoch before, while blocks of it may exist.
    pub old: Option<Epoch>,
    /// Blocks below this one are of the current epoch, while there is an old one.
    pub cursor: u64,
}

impl Epoch {
    /// Wraps `key` for `volume` under `kek`. `version` must be fresh.
    ///
    /// # Errors
    /// [`crypto::Error::State`] if the crypto module does not serve.
    pub fn wrap(
        volume: u32,
        number: u16,
        suite: Suite,
        generation: u32,
        version: u64,
        kek: &Kek,
        key: &DataKey,
    ) -> Result<Epoch, crypto::Error> {
        let key = kek.wrap(&nonce(version, volume, DOMAIN_WRAP), &purpose(volume, number, suite), key)?;
        Ok(Epoch { number, suite, generation, version, key })
    }

    /// Unwraps the key of this epoch of `volume`.
    ///
    /// # Errors
    /// [`crypto::Error::TagMismatch`] if it was not wrapped under `kek`, [`crypto::Error::State`] if the crypto module does not serve.
    pub fn unwrap(&self, volume: u32, kek: &Kek) -> Result<DataKey, crypto::Error> {
        let nonce = nonce(self.version, volume, DOMAIN_WRAP);
        kek.unwrap(&nonce, &purpose(volume, self.number, self.suite), &self.key)
    }

    fn parse(bytes: &[u8]) -> Option<Epoch> {
        let reader = Reader(bytes);
        let (number, version) = (reader.u16(0), reader.u64(8));
        if number == 0 || version == 0 {
            return None;
        }
        let suite = Suite::from_id(reader.u16(2)).ok()?;
        let key = WrappedKey { key: reader.array(16), tag: reader.array(48) };
        Some(Epoch { number, suite, generation: reader.u32(4), version, key })
    }

    fn encode(&self, bytes: &mut [u8]) {
        put(bytes, 0, &self.number.to_le_bytes());
        put(bytes, 2, &self.suite.id().to_le_bytes());
        put(bytes, 4, &self.generation.to_le_bytes());
        put(bytes, 8, &self.version.to_le_bytes());
        put(bytes, 16, &self.key.key);
        put(bytes, 48, &self.key.tag);
    }
}

/// What a wrapped key is bound to: volume, epoch and suite.
fn purpose(volume: u32, epoch: u16, suite: Suite) -> [u8; 16] {
    let mut purpose = *b"SV1 key\0........";
    put(&mut purpose, 8, &volume.to_le_bytes());
    put(&mut purpose, 12, &epoch.to_le_bytes());
    put(&mut purpose, 14, &suite.id().to_le_bytes());
    purpose
}

impl VolumeRecord {
    /// Reads a record: `Ok(None)` is no volume.
    pub fn parse(bytes: &[u8]) -> Result<Option<VolumeRecord>, Impossible> {
        let reader = Reader(bytes);
        if reader.is_zero(0, RECORD_BYTES) {
            return Ok(None);
        }
        VolumeRecord::parse_some(bytes).filter(VolumeRecord::is_sound).map(Some).ok_or(Impossible)
    }

    fn parse_some(bytes: &[u8]) -> Option<VolumeRecord> {
        let reader = Reader(bytes);
        let layout = match (bytes[4], bytes[5]) {
            (1, 1) => Layout::Linear,
            (2, columns) => Layout::Striped(columns),
            (3, 1) => Layout::Mirrored,
            _ => return None,
        };
        let len = usize::from(bytes[6]);
        if len > MAX_NAME_BYTES || bytes[7] != 0 || !reader.is_zero(NAME_OFFSET + len, 80) || !reader.is_zero(216, 256)
        {
            return None;
        }
        let name = Name::new(core::str::from_utf8(&bytes[NAME_OFFSET..NAME_OFFSET + len]).ok()?)?;
        let [current, old] = EPOCH_OFFSETS.map(|at| &bytes[at..at + EPOCH_BYTES]);
        let old = if reader.is_zero(EPOCH_OFFSETS[1], EPOCH_OFFSETS[1] + EPOCH_BYTES) {
            None
        } else {
            Some(Epoch::parse(old)?)
        };
        Some(VolumeRecord {
            number: reader.u32(0),
            layout,
            name,
            blocks: reader.u64(8),
            epoch: Epoch::parse(current)?,
            old,
            cursor: reader.u64(208),
        })
    }

    fn is_sound(&self) -> bool {
        let columns = match self.layout {
            Layout::Striped(columns) => usize::from(columns),
            _ => 2,
        };
        let old = self.old.is_none_or(|old| old.number.checked_add(1) == Some(self.epoch.number));
        (1..MAX_VOLUME).contains(&self.number)
            && (2..=MAX_MEMBERS).contains(&columns)
            && (1..=MAX_BLOCKS).contains(&self.blocks)
            && old
            && (self.old.is_some() || self.cursor == 0)
    }

    /// Writes the record to `bytes`, which are 256.
    pub fn encode(&self, bytes: &mut [u8]) {
        assert!(self.is_sound(), "volume {} breaks an invariant", self.number);
        bytes.fill(0);
        put(bytes, 0, &self.number.to_le_bytes());
        (bytes[4], bytes[5]) = match self.layout {
            Layout::Linear => (1, 1),
            Layout::Striped(columns) => (2, columns),
            Layout::Mirrored => (3, 1),
        };
        bytes[6] = self.name.as_str().len() as u8;
        put(bytes, 8, &self.blocks.to_le_bytes());
        put(bytes, NAME_OFFSET, self.name.as_str().as_bytes());
        self.epoch.encode(&mut bytes[EPOCH_OFFSETS[0]..]);
        if let Some(old) = &self.old {
            old.encode(&mut bytes[EPOCH_OFFSETS[1]..]);
        }
        put(bytes, 208, &self.cursor.to_le_bytes());
    }
}

/// The record breaks an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> VolumeRecord {
        let key = WrappedKey { key: [1; 32], tag: [2; 16] };
        let epoch = Epoch { number: 2, suite: Suite::Aria256Gcm, generation: 1, version: 9, key };
        VolumeRecord {
            number: 5,
            layout: Layout::Striped(2),
            name: Name::new("데이터").unwrap(),
            blocks: 100,
            epoch,
            old: Some(Epoch { number: 1, ..epoch }),
            cursor: 3,
        }
    }

    #[test]
    fn impossible_volumes_are_refused() {
        let mut good = [0; RECORD_BYTES];
        sample().encode(&mut good);
        for (offset, value) in [
            (3, 1),
            (4, 0),
            (4, 4),
            (4, 1),
            (5, 1),
            (5, 9),
            (6, 0),
            (6, 64),
            (6, 8),
            (7, 1),
            (8, 0),
            (15, 1),
            (16, 0xff),
            (79, 1),
            (80, 1),
            (80, 3),
            (82, 9),
            (88, 0),
            (144, 0),
            (147, 7),
            (255, 1),
        ] {
            let mut bad = good;
            bad[offset] = value;
            assert_eq!(VolumeRecord::parse(&bad), Err(Impossible), "offset {offset} = {value}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xee; RECORD_BYTES];
        for record in [sample(), VolumeRecord { old: None, cursor: 0, layout: Layout::Mirrored, ..sample() }] {
            record.encode(&mut bytes);
            assert_eq!(VolumeRecord::parse(&bytes), Ok(Some(record)));
        }
        assert_eq!(VolumeRecord::parse(&[0; RECORD_BYTES]), Ok(None));
    }

    #[test]
    fn a_key_unwraps_for_its_volume_epoch_and_suite_only() {
        let root = keystore::RootKey::from_huk(crypto::host::module(), &[1; 32]).unwrap();
        let kek = root.pool_keys(&[2; 16]).unwrap().kek(&[3; 32]).unwrap();
        let epoch = Epoch::wrap(5, 1, Suite::Seed128Ccm, 1, 77, &kek, &DataKey::new(&[9; 32])).unwrap();
        let refused = |epoch: &Epoch, volume| epoch.unwrap(volume, &kek).err() == Some(crypto::Error::TagMismatch);
        assert!(refused(&epoch, 6));
        assert!(refused(&Epoch { number: 2, ..epoch }, 5));
        assert!(refused(&Epoch { suite: Suite::Aes128Gcm, ..epoch }, 5));
        assert!(refused(&Epoch { version: 78, ..epoch }, 5));
        assert!(epoch.unwrap(5, &kek).is_ok());
    }
}
