//! Why a pool is not mounted, and what went wrong while it served.

use block::Error as DiskError;
use crypto::Suite;

/// Why a pool is not mounted. No member has been written to then, except where the variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A pool has 1 to 8 members.
    Members {
        /// How many were given.
        given: usize,
    },
    /// No superblock place of this member begins with the magic.
    NotHaechi {
        /// Index of the member as given.
        member: usize,
    },
    /// The superblock has a version that this code does not know.
    Version {
        /// Index of the member as given.
        member: usize,
        /// Major version found.
        major: u16,
        /// Minor version found.
        minor: u16,
    },
    /// The superblock has incompatible features that this code does not know: these bits.
    Features {
        /// Index of the member as given.
        member: usize,
        /// Unknown bits.
        bits: u64,
    },
    /// No superblock of this member is authentic: damaged, changed, or of another device.
    SuperblockMac {
        /// Index of the member as given.
        member: usize,
    },
    /// The superblock contradicts itself or the disk it lies on.
    SuperblockLayout {
        /// Index of the member as given.
        member: usize,
    },
    /// The members given are not those of one pool.
    MemberSet {
        /// Index of the member as given that does not belong, or is there twice.
        member: usize,
    },
    /// Members are missing, more than may be.
    MembersMissing {
        /// How many are there.
        found: usize,
        /// How many the pool has.
        members: usize,
    },
    /// The disk is smaller than its pool says, or too small for any pool.
    TooSmall {
        /// Index of the member as given.
        member: usize,
        /// Blocks that the disk has.
        have: u64,
        /// Blocks that it needs.
        need: u64,
    },
    /// The anchor cannot be read or advanced.
    Anchor(anchor::Error),
    /// The anchor is that of another pool, or of none.
    AnchorForeign,
    /// The anchor's record is none that this code writes.
    AnchorRecord,
    /// The disk is older than the anchor, or a branch that the anchor does not know: it was rolled back.
    RolledBack {
        /// Incarnation and log position of the disk.
        disk: (u64, u64),
        /// Incarnation and log position that the anchor demands.
        anchor: (u64, u64),
    },
    /// The disk is newer than the anchor: the anchor was rolled back, or is another one.
    AnchorOlder {
        /// Incarnation of the disk.
        disk: u64,
        /// Incarnation of the anchor.
        anchor: u64,
    },
    /// The log ends before the point that the superblock demands.
    LogTruncated {
        /// Last record found.
        found: u64,
        /// Record that it must reach.
        required: u64,
    },
    /// A member is missing that the log says something about which only it can keep. Without it the pool can be mounted for
    /// reading.
    MemberNeeded {
        /// Index of the member.
        member: usize,
    },
    /// More than one member is missing, or may have missed changes of mirrors: there may be blocks of which no copy is known to be
    /// the newest. The pool can be mounted for reading.
    MembersStale {
        /// The members, one bit each.
        stale: u8,
    },
    /// An authentic log record says something impossible.
    LogRecord {
        /// Sequence number of the record.
        record: u64,
    },
    /// A block of a hash tree is not what the tree says: damaged, changed or replayed.
    TreeMac {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// An authentic extent record or catalog record says something impossible.
    Catalog {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// A volume's key does not unwrap under the erase secret of the anchor: it was erased.
    KeyErased {
        /// Number of the volume.
        volume: u32,
    },
    /// A volume is sealed with a suite that the profile of the crypto module does not list.
    NotApproved {
        /// Number of the volume.
        volume: u32,
        /// The suite.
        suite: Suite,
    },
    /// The crypto module refuses.
    Module(crypto::Error),
    /// The cache that the options allow is smaller than the log of this pool needs: it was written with a larger one. A mount with
    /// `need` blocks serves it, and empties the log.
    CacheTooSmall {
        /// Blocks that the options allow.
        have: usize,
        /// Blocks that are needed.
        need: usize,
    },
    /// All versions of this pool are used up.
    VersionsExhausted,
    /// No random bytes could be had.
    NoRandom,
    /// The disk failed at this block. Recovery may have begun; it is begun again at the next mount.
    Disk {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
        /// What the driver says.
        error: DiskError,
    },
    /// The disk or the anchor did not answer in the time that the caller gave.
    Silent,
    /// The disk's buffers are all in use, or it has none.
    NoBuffer,
}

impl Error {
    /// What a MAC that could not be checked, or is another, means for what is then `otherwise`.
    pub(crate) fn of_mac(error: crypto::Error, otherwise: Error) -> Error {
        if error == crypto::Error::TagMismatch { otherwise } else { Error::Module(error) }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Error::Members { given } => write!(f, "a pool has 1 to 8 members, not {given}"),
            Error::NotHaechi { member } => write!(f, "disk {member} is not a Haechi disk: no superblock"),
            Error::Version { member, major, minor } => {
                let (ours, minor_ours) = crate::record::superblock::VERSION;
                write!(f, "disk {member} has format version {major}.{minor}, this is {ours}.{minor_ours}")
            }
            Error::Features { member, bits } => write!(f, "disk {member} has unknown incompatible features {bits:#x}"),
            Error::SuperblockMac { member } => {
                write!(f, "disk {member}: wrong MAC of the superblock (damaged, changed, or another device's disk)")
            }
            Error::SuperblockLayout { member } => {
                write!(f, "disk {member}: the superblock states an impossible layout")
            }
            Error::MemberSet { member } => write!(f, "disk {member} is not the member of the pool that is missing"),
            Error::MembersMissing { found, members } => {
                let are = if found == 1 { "is" } else { "are" };
                write!(f, "the pool has {members} disks, and only {found} of them {are} here")
            }
            Error::TooSmall { member, have, need } => {
                write!(f, "disk {member} of {have} blocks is too small: it needs {need}")
            }
            Error::Anchor(error) => write!(f, "{error}"),
            Error::AnchorForeign => write!(f, "the anchor belongs to another pool, or to none"),
            Error::AnchorRecord => write!(f, "the anchor's record is not one of this version"),
            Error::RolledBack { disk, anchor } => write!(
                f,
                "rolled back: the disk is at incarnation {}, record {}; the anchor demands {}, {}",
                disk.0, disk.1, anchor.0, anchor.1
            ),
            Error::AnchorOlder { disk, anchor } => {
                write!(f, "the anchor is older than the disk: incarnation {anchor}, the disk's is {disk}")
            }
            Error::LogTruncated { found, required } => {
                write!(f, "the log was cut off: it ends at record {found} and must reach {required}")
            }
            Error::MemberNeeded { member } => {
                write!(
                    f,
                    "member {member} is missing, and without it what was written last would be lost: read-only at most"
                )
            }
            Error::MembersStale { stale } => {
                write!(f, "of the members more than one is missing or behind (bits {stale:#x}): read-only at most")
            }
            Error::LogRecord { record } => write!(f, "log record {record} is impossible"),
            Error::TreeMac { member, block } => {
                write!(f, "disk {member}, block {block}: wrong MAC in the hash tree (damaged, changed or replayed)")
            }
            Error::Catalog { member, block } => write!(f, "disk {member}, block {block}: impossible catalog or extent"),
            Error::KeyErased { volume } => write!(f, "the key of volume {volume} was erased"),
            Error::NotApproved { volume, suite } => {
                write!(
                    f,
                    "volume {volume} is sealed with {}, which the profile of the crypto module does not list",
                    suite.name()
                )
            }
            Error::Module(error) => write!(f, "crypto module: {error}"),
            Error::CacheTooSmall { have, need } => {
                write!(f, "a cache of {have} blocks is too small for what the log says: {need} are enough")
            }
            Error::VersionsExhausted => write!(f, "all versions of this pool are used up"),
            Error::NoRandom => write!(f, "no random bytes could be had"),
            Error::Disk { member, block, error } => write!(f, "disk {member}, block {block}: {error}"),
            Error::Silent => write!(f, "the disk or the anchor does not answer"),
            Error::NoBuffer => write!(f, "the disk has no free buffer"),
        }
    }
}

impl core::error::Error for Error {}

/// What went wrong while serving, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bytes of this block are not what was sealed there.
    TagMismatch {
        /// Number of the volume.
        volume: u32,
        /// Block of the volume.
        block: u64,
    },
    /// A copy of this block was bad, and was rewritten from the good one.
    Healed {
        /// Number of the volume.
        volume: u32,
        /// Block of the volume.
        block: u64,
    },
    /// Reading this block failed.
    ReadFailed {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// Writing this block failed.
    WriteFailed {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// A block of a hash tree is not what the tree says.
    TreeMac {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// An authentic entry of this block is none that this code writes.
    EntryImpossible {
        /// Number of the volume.
        volume: u32,
        /// Block of the volume.
        block: u64,
    },
    /// Metadata could not be written: the pool may only be read from here on.
    WritesStopped,
    /// A disk could not make writes durable.
    FlushFailed {
        /// Index of the member.
        member: usize,
    },
    /// The anchor could not be advanced.
    AnchorFailed(anchor::Error),
    /// A superblock place is damaged; another serves.
    SuperblockDamaged {
        /// Index of the member.
        member: usize,
        /// Block of the disk.
        block: u64,
    },
    /// The pool has no free extent.
    NoSpace {
        /// Number of the volume that wanted one.
        volume: u32,
    },
    /// A volume is sealed in its new epoch throughout, and the old key is destroyed.
    Resealed {
        /// Number of the volume.
        volume: u32,
    },
    /// A disk that was given is no member of the pool, or none any more: it is not used.
    NoMember {
        /// Index of the disk as given.
        disk: usize,
    },
    /// A member failed and is not used any more; what only it holds is an I/O error.
    MemberLost {
        /// Index of the member.
        member: usize,
    },
    /// A member that had missed writes to mirrored volumes has caught up.
    Resynced {
        /// Index of the member.
        member: usize,
    },
    /// A member that had missed writes to mirrored volumes has not caught up: a block could not be compared, or there is no room for a
    /// copy. It is tried again at the next mount.
    Behind {
        /// Index of the member.
        member: usize,
    },
    /// The disks take no requests any more.
    DiskGone,
    /// The crypto module refused: nothing is read or written any more.
    ModuleRefused(crypto::Error),
    /// The ring of the driver of this virtual device is malformed.
    Ring {
        /// The device.
        device: usize,
        /// What is wrong.
        error: virtio::Error,
    },
}

impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Event::TagMismatch { volume, block } => write!(f, "volume {volume}, block {block}: wrong tag, I/O error"),
            Event::Healed { volume, block } => write!(f, "volume {volume}, block {block}: a bad copy was rewritten"),
            Event::ReadFailed { member, block } => write!(f, "disk {member}, block {block}: reading failed"),
            Event::WriteFailed { member, block } => write!(f, "disk {member}, block {block}: writing failed"),
            Event::TreeMac { member, block } => write!(f, "disk {member}, block {block}: wrong MAC in the hash tree"),
            Event::EntryImpossible { volume, block } => write!(f, "volume {volume}, block {block}: impossible entry"),
            Event::WritesStopped => write!(f, "metadata could not be written: nothing is written any more"),
            Event::FlushFailed { member } => write!(f, "disk {member} failed to flush"),
            Event::AnchorFailed(error) => write!(f, "{error}"),
            Event::SuperblockDamaged { member, block } => {
                write!(f, "disk {member}: the superblock in block {block} is damaged, another serves")
            }
            Event::NoSpace { volume } => write!(f, "volume {volume}: the pool is full"),
            Event::Resealed { volume } => write!(f, "volume {volume} is resealed, its old key is destroyed"),
            Event::NoMember { disk } => write!(f, "disk {disk} is no member of the pool and is not used"),
            Event::MemberLost { member } => write!(f, "disk {member} failed and is not used any more"),
            Event::Behind { member } => write!(f, "disk {member} could not catch up with its mirrors yet"),
            Event::Resynced { member } => write!(f, "disk {member} has caught up with its mirrors"),
            Event::ModuleRefused(error) => {
                write!(f, "crypto module: {error}: every request fails until the pool is mounted again")
            }
            Event::DiskGone => write!(f, "the disks take no requests any more"),
            Event::Ring { device, error } => write!(f, "virtual disk {device}: malformed ring: {error}"),
        }
    }
}
