//! What is asked of a pool, and what it answers.

use alloc::string::String;

use crypto::Suite;

/// In [`Done::volume`]: a command to the pool, not a request to a volume.
pub const POOL: u32 = u32::MAX;
/// Bytes of the longest name of a volume.
pub const MAX_NAME_BYTES: usize = 63;

/// What a request asks of a volume. Blocks beyond its end are refused with [`Status::IoError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open `blocks` blocks from `block` on and scatter them.
    Read {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Gather `blocks` blocks and seal them from `block` on.
    Write {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Make `blocks` blocks from `block` on zeros (discard and write-zeroes).
    Zero {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Make durable what has been completed. Under [`crate::Policy::Strict`] it is anchored too.
    Flush,
    /// As `Flush`, then a checkpoint, and anchored under every policy: before a shutdown, a suspend or a lock.
    Sync,
}

/// What is asked of the pool as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a volume of `blocks` blocks. No space is taken before it is written.
    Create {
        /// Its name, unlike any other's.
        name: Name,
        /// How it lies on the members.
        layout: Layout,
        /// Its size in blocks.
        blocks: u64,
        /// The suite that seals it.
        suite: Suite,
    },
    /// Drop a volume that nobody uses, with its keys.
    Delete {
        /// Its number.
        volume: u32,
    },
    /// Make a volume longer.
    Grow {
        /// Its number.
        volume: u32,
        /// Its new size in blocks, not below the old one.
        blocks: u64,
    },
    /// Give a volume another name.
    Rename {
        /// Its number.
        volume: u32,
        /// The new name, unlike any other's.
        name: Name,
    },
    /// Begin a new epoch: a new key and this suite for all that is written from here on. What lies there is sealed anew in the
    /// background; the command is done when the new epoch is durable.
    Rekey {
        /// Its number.
        volume: u32,
        /// The suite of the new epoch.
        suite: Suite,
    },
    /// Read and verify everything in the background, and heal mirrors. Done when all was seen.
    Scrub,
}

/// How a volume lies on the members of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Extent after extent, wherever there is room.
    Linear,
    /// Rows of 128 KiB over this many members.
    Striped(u8),
    /// Two copies on two members.
    Mirrored,
}

/// The name of a volume: 1 to 63 bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; MAX_NAME_BYTES],
}

impl Name {
    /// The name, if it is neither empty nor too long.
    pub fn new(name: &str) -> Option<Name> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return None;
        }
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Name { len: name.len() as u8, bytes })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("a name is made from text")
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The other end of the data path.
pub trait Transfer {
    /// Copies `out.len()` bytes of the payload of request `cookie` of `volume`, from byte `offset` on, into `out`. Called once for
    /// each byte.
    ///
    /// # Errors
    /// [`Fault`] if the payload lies outside the memory that the other end may lend.
    fn gather(&mut self, volume: u32, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault>;

    /// Copies verified plaintext to byte `offset` of the payload of request `cookie` of `volume`.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    fn scatter(&mut self, volume: u32, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault>;

    /// A block of `volume` was sealed under the key of `epoch` with the nonce of `version`: for audits.
    fn sealed(&mut self, volume: u32, epoch: u16, version: u64) {
        let _ = (volume, epoch, version);
    }
}

/// The payload lies outside the memory that the other end may lend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A finished request or command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The volume it was submitted to, or [`POOL`].
    pub volume: u32,
    /// The cookie it was submitted with.
    pub cookie: u32,
    /// What became of it.
    pub status: Status,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All of it succeeded.
    Ok,
    /// A block of it could not be read, verified, written or made durable.
    IoError,
    /// The pool has no free extent for it.
    NoSpace,
    /// The command asks for something impossible; nothing was changed.
    Refused(Refusal),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no volume of that number.
    NoVolume,
    /// Another volume has that name.
    NameTaken,
    /// The catalog is full.
    CatalogFull,
    /// The size is zero, above what a pool can ever hold, or smaller than before.
    Size,
    /// The layout needs more members than there are.
    Layout,
    /// The volume is in use, or is being resealed.
    Busy,
    /// The pool may only be read.
    ReadOnly,
    /// No random bytes could be had for a key.
    NoRandom,
    /// The profile of the crypto module does not list the suite.
    NotApproved,
    /// The crypto module does not serve.
    Module,
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Status::Ok => write!(f, "done"),
            Status::IoError => write!(f, "a block could not be read, verified or written"),
            Status::NoSpace => write!(f, "the pool is full"),
            Status::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Refusal::NoVolume => "there is no such volume",
            Refusal::NameTaken => "another volume has that name",
            Refusal::CatalogFull => "the catalog is full",
            Refusal::Size => "a volume cannot have that size",
            Refusal::Layout => "the layout needs more disks",
            Refusal::Busy => "the volume is in use, or is being resealed",
            Refusal::ReadOnly => "the pool may only be read",
            Refusal::NoRandom => "no random bytes could be had",
            Refusal::NotApproved => "the profile of the crypto module does not list the suite",
            Refusal::Module => "the crypto module does not serve",
        })
    }
}

/// No more requests are taken until one is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A volume of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its number: below 2^24, never used again.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How it lies on the members.
    pub layout: Layout,
    /// Its size in blocks.
    pub blocks: u64,
    /// The epoch that new blocks are sealed in.
    pub epoch: u16,
    /// The suite of that epoch.
    pub suite: Suite,
    /// Blocks that were looked at since resealing began; `None` if everything is of the current epoch.
    pub resealing: Option<u64>,
    /// Extents of 4 MiB that it takes, all copies counted.
    pub extents: u64,
}
