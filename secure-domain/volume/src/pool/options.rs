//! What a caller chooses, and what a mount finds.

use alloc::{boxed::Box, vec::Vec};

/// When the freshness anchor advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At every flush, before it is answered: a disk that is put back is never older than the last flush.
    Strict,
    /// At most every `window_ms` milliseconds, and at every [`crate::Operation::Sync`]: a disk that is put back is never older
    /// than that.
    Bulk {
        /// The window in milliseconds.
        window_ms: u64,
    },
}

/// What a mount may choose.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When the anchor advances.
    pub policy: Policy,
    /// Tree blocks to keep in memory: 4 KiB each; a leaf is for 512 KiB of data.
    pub cache_blocks: usize,
    /// Versions that one advance of the anchor reserves; at least [`MIN_RESERVATION`].
    pub reservation: u64,
    /// Log entries whose data need not be durable yet: what a mount has to look at block by block; at least [`MIN_UNCOVERED`].
    pub uncovered_limit: u32,
    /// Tree blocks that one call of [`Pool::advance`](super::Pool::advance) stores before it returns to its caller; at least 1.
    pub tree_budget: u32,
    /// Mount without writing: writes, flushes and commands are refused, and the anchor is not advanced.
    pub read_only: bool,
    /// Mount though members are missing: mirrored volumes are served from their other copies, and what else lies on the missing
    /// ones is an I/O error. For writing only if nothing would be lost: see [`crate::Error::MemberNeeded`].
    pub degraded: bool,
}

/// Fewest versions that an advance of the anchor reserves.
pub const MIN_RESERVATION: u64 = 1 << 16;

/// Fewest log entries that may wait for their data to be durable: a few of the largest requests.
pub const MIN_UNCOVERED: u32 = 256;

impl Default for Options {
    /// 16 MiB of cache, bulk anchoring within 60 seconds.
    fn default() -> Options {
        let policy = Policy::Bulk { window_ms: 60_000 };
        Options {
            policy,
            cache_blocks: 4096,
            reservation: 1 << 32,
            uncovered_limit: 4096,
            tree_budget: 32,
            read_only: false,
            degraded: false,
        }
    }
}

/// What a new pool shall be.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatOptions {
    /// Blocks of the log; without it 1/320 of the smallest metadata member, 64 to 16,384.
    pub log_blocks: Option<u64>,
    /// The members promise no more than that 512-byte sectors are written whole: sealed blocks go through the log too.
    pub torn_sectors: bool,
}

/// A source of random bytes for keys and secrets.
pub type Random = Box<dyn FnMut(&mut [u8]) -> Result<(), RandomFailed> + Send>;

/// There are no random bytes to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomFailed;

/// Blocks that a [`Recovery`] names; more are counted.
pub const NAMED_BLOCKS: usize = 64;

/// What a mount found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Log records that were replayed; 0: the pool was left in order.
    pub records: u64,
    /// Statements in them.
    pub statements: u64,
    /// Blocks that were being written: looked at to tell old from new.
    pub examined: u64,
    /// Of those, blocks that hold their newest contents.
    pub new: u64,
    /// Blocks that hold older contents: the write had not happened.
    pub old: u64,
    /// Blocks that were torn, or differed between copies, and were repaired.
    pub repaired: u64,
    /// Blocks whose contents are none that they may have: how many.
    pub bad: u64,
    /// The first of them: volume and block.
    pub bad_blocks: Vec<(u32, u64)>,
}

impl core::fmt::Display for Recovery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.records == 0 {
            return write!(f, "pool: left in order");
        }
        write!(f, "pool: {} records of the log replayed; of {} blocks being written ", self.records, self.examined)?;
        write!(f, "{} are new, {} old, {} repaired, {} bad", self.new, self.old, self.repaired, self.bad)?;
        match self.bad_blocks.first() {
            Some((volume, block)) => write!(f, ", first volume {volume}, block {block}"),
            None => Ok(()),
        }
    }
}
