//! The records of the format: what lies on a member and in the anchor. Each file draws its record and lists its invariants.

pub mod anchored;
mod bytes;
pub mod catalog;
pub mod entry;
pub mod extent;
pub mod geometry;
pub mod log;
pub mod node;
pub mod superblock;

/// Number of a pool or of a member: random bytes, drawn when it is made.
pub type Uuid = [u8; 16];
/// A MAC of the log's chain: HMAC-SHA-256.
pub type ChainMac = [u8; 32];

/// Most members of a pool.
pub const MAX_MEMBERS: usize = 8;
/// Blocks of an extent: 4 MiB.
pub const EXTENT_BLOCKS: u64 = 1024;
/// Volume numbers are below this.
pub const MAX_VOLUME: u32 = 1 << 24;

/// A point of the log: the record with this sequence number, whose chain MAC is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPoint {
    /// Sequence number of the record; 0: before the first.
    pub seq: u64,
    /// The chain's MAC after it.
    pub mac: ChainMac,
}

impl LogPoint {
    /// Before the first record of a pool.
    pub const ORIGIN: LogPoint = LogPoint { seq: 0, mac: [0; 32] };
}
