//! The superblock: what the pool is, and the last checkpoint.
//!
//! ```text
//! offset  size
//!      0     8  magic "HAECHISV"
//!      8     2  major version        a change that older code must not touch
//!     10     2  minor version
//!     12     4  zero
//!     16     8  compatible features: an unknown bit means nothing
//!     24     8  read-only compatible features; an unknown bit means: do not write
//!     32     8  incompatible features; an unknown bit means: refuse
//!     40    16  number of the pool
//!     56    16  number of this member
//!     72     1  index of this member
//!     73     1  members
//!     74     2  zero
//!     76     4  bytes that the members write atomically: 512 or 4096
//!     80     8  sequence: counts superblocks
//!     88     8  incarnation: counts mounts
//!     96     8  checkpoint: counts checkpoints
//!    104     8  blocks of the log
//!    112     8  log start: block of the log at which the next record after it lies
//!    120     8  log start: sequence number of the last record before it
//!    128    32  log start: chain MAC of that record
//!    160     8  required log point: sequence number
//!    168    32  required log point: chain MAC
//!    200     4  next volume number
//!    204     4  dirty limit: tree blocks that replaying the log may change
//!    208     4  entries that may be logged and not yet covered
//!    212     1  stale members, one bit each, one at most; not zero only with incompatible feature bit 0 (since 1.1)
//!    213    43  zero
//!    256   256  member table: 8 x (number 16, blocks 8, zero 8)
//!    512   256  roots: 8 x slot of the member's root node
//!    768  3296  zero
//!   4064    32  HMAC-SHA-256 over bytes 0 to 4063, with the pool's superblock key
//! ```
//! Integers are little-endian. Superblock number `s` lies in place `s % 8` of every member; a torn write leaves the others.
//! The authentic one with the highest (incarnation, sequence) is the current one. Invariants: the member table has no holes and no
//! two equal numbers; every member's geometry exists; log start and required point lie in the log; the required
//! point is not before the start.

use keystore::{PoolKeys, RootKey};

use super::{
    ChainMac, LogPoint, MAX_MEMBERS, Uuid,
    bytes::{Reader, put},
    geometry::Geometry,
    node::Slot,
};
use crate::{BLOCK_BYTES, Error};

/// Format version, major and minor.
pub const VERSION: (u16, u16) = (1, 1);

/// What every superblock begins with.
pub const MAGIC: [u8; 8] = *b"HAECHISV";
const MAC_OFFSET: usize = BLOCK_BYTES - 32;
/// Incompatible features that this code knows.
const KNOWN_INCOMPATIBLE: u64 = INCOMPATIBLE_STALE;
/// Some member is stale: code that does not know which would take old copies for new ones.
const INCOMPATIBLE_STALE: u64 = 1;
/// Read-only compatible features that this code knows.
const KNOWN_READ_ONLY: u64 = 0;
const MEMBERS_OFFSET: usize = 256;
const ROOTS_OFFSET: usize = 512;
const ROW_BYTES: usize = 32;

/// A member as the pool knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its number.
    pub uuid: Uuid,
    /// Blocks that belong to the pool.
    pub blocks: u64,
}

/// A superblock. What tells the copies on the members apart (number and index) is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Compatible features.
    pub compatible: u64,
    /// Read-only compatible features.
    pub read_only: u64,
    /// Number of the pool.
    pub pool: Uuid,
    /// Bytes that the members write atomically.
    pub atomic_bytes: u32,
    /// Counts superblocks.
    pub sequence: u64,
    /// Counts mounts.
    pub incarnation: u64,
    /// Counts checkpoints.
    pub checkpoint: u64,
    /// Blocks of the log.
    pub log_blocks: u64,
    /// Block of the log at which the first record after `log_start` lies.
    pub log_position: u64,
    /// The last record that the tree contains.
    pub log_start: LogPoint,
    /// The record that the log must reach.
    pub log_required: LogPoint,
    /// The number that the next volume gets.
    pub next_volume: u32,
    /// Tree blocks that replaying the log may change.
    pub dirty_limit: u32,
    /// Entries that may be logged and not yet covered.
    pub uncovered_limit: u32,
    /// Members that may have missed writes to mirrored volumes, one bit each; one at most.
    pub stale: u8,
    members: [MemberInfo; MAX_MEMBERS],
    member_count: usize,
    /// Root slot of each member's tree.
    pub roots: [Slot; MAX_MEMBERS],
}

/// A superblock as found on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it says about the pool.
    pub superblock: Superblock,
    /// Index of the member it was written to.
    pub member: usize,
}

impl Superblock {
    /// The superblock of a pool that was never mounted.
    pub fn new(pool: Uuid, members: &[MemberInfo], log_blocks: u64, atomic_bytes: u32) -> Superblock {
        let mut table = [MemberInfo { uuid: [0; 16], blocks: 0 }; MAX_MEMBERS];
        table[..members.len()].copy_from_slice(members);
        Superblock {
            compatible: 0,
            read_only: 0,
            pool,
            atomic_bytes,
            sequence: 0,
            incarnation: 0,
            checkpoint: 0,
            log_blocks,
            log_position: 0,
            log_start: LogPoint::ORIGIN,
            log_required: LogPoint::ORIGIN,
            next_volume: 1,
            dirty_limit: 0,
            uncovered_limit: 0,
            stale: 0,
            members: table,
            member_count: members.len(),
            roots: [Slot::BLANK; MAX_MEMBERS],
        }
    }

    /// The members.
    pub fn members(&self) -> &[MemberInfo] {
        &self.members[..self.member_count]
    }

    /// The layout of member `index`.
    pub fn geometry(&self, index: usize) -> Option<Geometry> {
        Geometry::for_member(index, self.members().get(index)?.blocks, self.log_blocks)
    }

    /// Whether this code must not write to the pool.
    pub fn is_read_only(&self) -> bool {
        self.read_only & !KNOWN_READ_ONLY != 0
    }

    /// Whether `self` is newer than `other`, another superblock of the same pool.
    pub fn is_newer(&self, other: &Superblock) -> bool {
        (self.incarnation, self.sequence) > (other.incarnation, other.sequence)
    }

    /// The block to write to member `member`. `bytes` is one block long.
    ///
    /// # Errors
    /// [`crypto::Error::State`] if the crypto module does not serve.
    pub fn encode(&self, member: usize, keys: &PoolKeys, bytes: &mut [u8]) -> Result<(), crypto::Error> {
        bytes.fill(0);
        put(bytes, 0, &MAGIC);
        put(bytes, 8, &VERSION.0.to_le_bytes());
        put(bytes, 10, &VERSION.1.to_le_bytes());
        put(bytes, 16, &self.compatible.to_le_bytes());
        put(bytes, 24, &self.read_only.to_le_bytes());
        put(bytes, 32, &(if self.stale == 0 { 0 } else { INCOMPATIBLE_STALE }).to_le_bytes());
        put(bytes, 40, &self.pool);
        put(bytes, 56, &self.members()[member].uuid);
        (bytes[72], bytes[73]) = (member as u8, self.member_count as u8);
        put(bytes, 76, &self.atomic_bytes.to_le_bytes());
        let words = [self.sequence, self.incarnation, self.checkpoint, self.log_blocks, self.log_position];
        for (index, word) in words.into_iter().enumerate() {
            put(bytes, 80 + 8 * index, &word.to_le_bytes());
        }
        put(bytes, 120, &self.log_start.seq.to_le_bytes());
        put(bytes, 128, &self.log_start.mac);
        put(bytes, 160, &self.log_required.seq.to_le_bytes());
        put(bytes, 168, &self.log_required.mac);
        put(bytes, 200, &self.next_volume.to_le_bytes());
        put(bytes, 204, &self.dirty_limit.to_le_bytes());
        put(bytes, 208, &self.uncovered_limit.to_le_bytes());
        bytes[212] = self.stale;
        for (index, info) in self.members().iter().enumerate() {
            put(bytes, MEMBERS_OFFSET + index * ROW_BYTES, &info.uuid);
            put(bytes, MEMBERS_OFFSET + index * ROW_BYTES + 16, &info.blocks.to_le_bytes());
            put(bytes, ROOTS_OFFSET + index * ROW_BYTES, &self.roots[index].encode());
        }
        let mac = keys.superblock().mac(&[&bytes[..MAC_OFFSET]])?;
        put(bytes, MAC_OFFSET, &mac);
        Ok(())
    }

    /// Reads the superblock that was found on the disk given as number `given`. `Ok(None)`: no magic. Nothing in it is believed
    /// before its MAC was checked, except the version and the pool's number, from which the key that checks it is derived.
    ///
    /// # Errors
    /// Why it cannot be used: version, features, MAC or layout; [`Error::Module`].
    pub fn parse(given: usize, bytes: &[u8], root: &RootKey) -> Result<Option<Found>, Error> {
        if bytes.len() != BLOCK_BYTES || bytes[..8] != MAGIC {
            return Ok(None);
        }
        let reader = Reader(bytes);
        let (major, minor) = (reader.u16(8), reader.u16(10));
        if major != VERSION.0 {
            return Err(Error::Version { member: given, major, minor });
        }
        let keys = root.pool_keys(&reader.array(40)).map_err(Error::Module)?;
        let verified = keys.superblock().verify(&[&bytes[..MAC_OFFSET]], &bytes[MAC_OFFSET..]);
        verified.map_err(|error| Error::of_mac(error, Error::SuperblockMac { member: given }))?;
        let unknown = reader.u64(32) & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(Error::Features { member: given, bits: unknown });
        }
        Superblock::parse_claims(bytes).map(Some).ok_or(Error::SuperblockLayout { member: given })
    }

    /// What the superblock claims, its MAC not checked: for display, and for who has checked it. `None` if it contradicts itself.
    pub fn parse_claims(bytes: &[u8]) -> Option<Found> {
        if bytes.len() != BLOCK_BYTES || bytes[..8] != MAGIC {
            return None;
        }
        let reader = Reader(bytes);
        let (member, member_count) = (usize::from(bytes[72]), usize::from(bytes[73]));
        if !(1..=MAX_MEMBERS).contains(&member_count) || member >= member_count {
            return None;
        }
        let row = |index: usize| Reader(&bytes[MEMBERS_OFFSET + index * ROW_BYTES..]);
        let info = |index| MemberInfo { uuid: row(index).array(0), blocks: row(index).u64(16) };
        let point = |at: usize| LogPoint { seq: reader.u64(at), mac: reader.array::<32>(at + 8) as ChainMac };
        let superblock = Superblock {
            compatible: reader.u64(16),
            read_only: reader.u64(24),
            pool: reader.array(40),
            atomic_bytes: reader.u32(76),
            sequence: reader.u64(80),
            incarnation: reader.u64(88),
            checkpoint: reader.u64(96),
            log_blocks: reader.u64(104),
            log_position: reader.u64(112),
            log_start: point(120),
            log_required: point(160),
            next_volume: reader.u32(200),
            dirty_limit: reader.u32(204),
            uncovered_limit: reader.u32(208),
            stale: bytes[212],
            members: core::array::from_fn(info),
            member_count,
            roots: core::array::from_fn(|index| Slot::parse(&Reader(bytes).array(ROOTS_OFFSET + index * ROW_BYTES))),
        };
        let uuid: Uuid = reader.array(56);
        let says_stale = reader.u64(32) & INCOMPATIBLE_STALE != 0;
        (superblock.is_sound() && says_stale == (superblock.stale != 0) && superblock.members()[member].uuid == uuid)
            .then_some(Found { superblock, member })
    }

    fn is_sound(&self) -> bool {
        let distinct = |index: usize| {
            let (here, rest) = (self.members[index], &self.members[index + 1..self.member_count]);
            rest.iter().all(|other| other.uuid != here.uuid)
        };
        let unused = &self.members[self.member_count..];
        matches!(self.atomic_bytes, 512 | 4096)
            && self.log_position < self.log_blocks
            && self.log_required.seq >= self.log_start.seq
            && self.checkpoint < 1 << 62
            && u16::from(self.stale) < 1 << self.member_count
            && self.stale.count_ones() <= 1
            && unused.iter().all(|info| *info == MemberInfo { uuid: [0; 16], blocks: 0 })
            && (0..self.member_count).all(|index| distinct(index) && self.geometry(index).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> RootKey {
        RootKey::from_huk(crypto::host::module(), &[1; 32]).unwrap()
    }

    fn sample() -> Superblock {
        let members = [MemberInfo { uuid: [1; 16], blocks: 4096 }, MemberInfo { uuid: [2; 16], blocks: 8192 }];
        Superblock { sequence: 7, incarnation: 2, checkpoint: 3, ..Superblock::new([9; 16], &members, 64, 4096) }
    }

    fn encoded(superblock: &Superblock) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        superblock.encode(1, &root().pool_keys(&superblock.pool).unwrap(), &mut bytes).unwrap();
        bytes
    }

    /// The block with a change that its writer made on purpose.
    fn signed(mut bytes: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
        let keys = root().pool_keys(&Reader(&bytes).array(40)).unwrap();
        let mac = keys.superblock().mac(&[&bytes[..MAC_OFFSET]]).unwrap();
        put(&mut bytes, MAC_OFFSET, &mac);
        bytes
    }

    #[test]
    fn the_first_cut_format_is_refused_by_its_version() {
        let mut bytes = [0; BLOCK_BYTES];
        put(&mut bytes, 0, &MAGIC);
        bytes[10] = 1;
        assert_eq!(Superblock::parse(3, &bytes, &root()), Err(Error::Version { member: 3, major: 0, minor: 1 }));
    }

    #[test]
    fn any_changed_bit_and_any_other_device_are_refused() {
        let bytes = encoded(&sample());
        for byte in (12..BLOCK_BYTES).step_by(7) {
            let mut changed = bytes;
            changed[byte] ^= 0x10;
            assert_eq!(Superblock::parse(0, &changed, &root()), Err(Error::SuperblockMac { member: 0 }), "byte {byte}");
        }
        let other = RootKey::from_huk(crypto::host::module(), &[2; 32]).unwrap();
        assert_eq!(Superblock::parse(0, &bytes, &other), Err(Error::SuperblockMac { member: 0 }));
    }

    #[test]
    fn unknown_incompatible_features_refuse_and_unknown_read_only_ones_forbid_writing() {
        let mut bytes = encoded(&sample());
        bytes[39] = 0x80;
        assert_eq!(Superblock::parse(0, &signed(bytes), &root()), Err(Error::Features { member: 0, bits: 1 << 63 }));
        let mut bytes = encoded(&sample());
        bytes[24] = 1;
        assert!(Superblock::parse(0, &signed(bytes), &root()).unwrap().unwrap().superblock.is_read_only());
        let mut bytes = encoded(&sample());
        (bytes[16], bytes[10]) = (1, 9);
        let newer = Superblock::parse(0, &signed(bytes), &root()).unwrap().unwrap().superblock;
        assert!(!newer.is_read_only(), "a newer minor version with compatible features is served");
    }

    #[test]
    fn authentic_contradictions_are_refused() {
        for (offset, value) in
            [(72, 2), (73, 0), (73, 9), (73, 1), (76, 1), (104, 1), (112, 64), (120, 9), (272, 0), (320, 1), (56, 7)]
        {
            let mut bytes = encoded(&sample());
            bytes[offset] = value;
            if offset == 272 {
                bytes[273] = 0;
            }
            let found = Superblock::parse(0, &signed(bytes), &root());
            assert_eq!(found, Err(Error::SuperblockLayout { member: 0 }), "offset {offset} = {value}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let found = Superblock::parse(0, &encoded(&sample()), &root()).unwrap().unwrap();
        assert_eq!(found, Found { superblock: sample(), member: 1 });
        assert_eq!(Superblock::parse(0, &[0; BLOCK_BYTES], &root()), Ok(None));
    }
}
