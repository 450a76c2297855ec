//! The engine.
pub mod mount;

use alloc::boxed::Box;
use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;

use crate::{Command, Done, Event, Full, Operation, Transfer, VolumeInfo};

/// When the freshness anchor advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At every flush, before it is answered: a disk that is put back is never older than the last flush.
    Strict,
    /// At most every `window_ms` milliseconds, and at every [`Operation::Sync`]: a disk that is put back is never older than that.
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
    /// Mount without writing: writes, flushes and commands are refused, and the anchor is not advanced.
    pub read_only: bool,
}

/// Fewest versions that an advance of the anchor reserves.
pub const MIN_RESERVATION: u64 = 1 << 16;

impl Default for Options {
    /// 16 MiB of cache, bulk anchoring within 60 seconds.
    fn default() -> Options {
        Options { policy: Policy::Bulk { window_ms: 60_000 }, cache_blocks: 4096, reservation: 1 << 32, read_only: false }
    }
}

/// What a new pool shall be.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatOptions {
    /// Blocks of the log; without it 1/256 of the smallest metadata member, 64 to 16,384.
    pub log_blocks: Option<u64>,
    /// The members promise no more than that 512-byte sectors are written whole: sealed blocks go through the log too.
    pub torn_sectors: bool,
}

/// A source of random bytes for keys and secrets.
pub type Random = Box<dyn FnMut(&mut [u8]) -> Result<(), RandomFailed>>;

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
    /// Blocks that were torn and repaired from the log.
    pub repaired: u64,
    /// Blocks whose contents are none that were ever written: how many.
    pub bad: u64,
    /// The first of them: volume and block.
    pub bad_blocks: Vec<(u32, u64)>,
}

/// A mounted pool.
pub struct Pool<D, A> {
    members: Vec<D>,
    anchor: A,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// The volumes, in the order of their numbers.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeInfo> {
        core::iter::empty()
    }

    /// Size of a volume in blocks.
    pub fn blocks(&self, volume: u32) -> Option<u64> {
        todo!("{volume}")
    }

    /// Whether a request can be submitted.
    pub fn has_room(&self) -> bool {
        todo!()
    }

    /// Whether nothing is waiting or under way, the background included.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Takes a request; its answer carries `volume` and `cookie`. It starts at the next [`advance`](Self::advance).
    ///
    /// # Errors
    /// [`Full`] while [`has_room`](Self::has_room) is false.
    pub fn submit(&mut self, volume: u32, cookie: u32, operation: Operation) -> Result<(), Full> {
        todo!("{volume} {cookie} {operation:?}")
    }

    /// Takes a command; its answer carries [`crate::POOL`] and `cookie`.
    ///
    /// # Errors
    /// [`Full`] while another command is under way.
    pub fn command(&mut self, cookie: u32, command: Command) -> Result<(), Full> {
        todo!("{cookie} {command:?}")
    }

    /// Forgets the requests to `volume`: no payload is touched and no answer given from here on.
    pub fn cancel(&mut self, volume: u32) {
        todo!("{volume}")
    }

    /// Acknowledges the interrupt of member `member`; [`advance`](Self::advance) then takes its completions.
    pub fn acknowledge(&mut self, member: usize) {
        self.members[member].acknowledge();
    }

    /// Takes the disks' completions, moves everything that can move, and notifies the disks. Returns whether there is more to do
    /// at once: the caller comes back after it has looked at its other events.
    pub fn advance(&mut self, now_ms: u64, transfer: &mut impl Transfer) -> bool {
        let _ = transfer;
        todo!("{now_ms}")
    }

    /// The next answer.
    pub fn next_done(&mut self) -> Option<Done> {
        todo!()
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Member `index`.
    pub fn member(&self, index: usize) -> &D {
        &self.members[index]
    }

    /// Member `index`, for tests that change it behind the pool's back.
    pub fn member_mut(&mut self, index: usize) -> &mut D {
        &mut self.members[index]
    }

    /// The anchor.
    pub fn anchor(&self) -> &A {
        &self.anchor
    }

    /// The anchor, for tests.
    pub fn anchor_mut(&mut self) -> &mut A {
        &mut self.anchor
    }

    /// Gives members and anchor back; requests under way are lost.
    pub fn into_parts(self) -> (Vec<D>, A) {
        (self.members, self.anchor)
    }
}
