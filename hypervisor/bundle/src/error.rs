//! Why a bundle is refused.

use core::fmt;

use crate::{ALIGNMENT, Kind, MAX_ENTRIES, VERSION};

/// Why a bundle is refused; each displays as a sentence about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file ends too early.
    Truncated {
        /// Bytes that are there.
        has: usize,
        /// Bytes that must be there.
        needs: usize,
    },
    /// The file does not begin with the magic; these bytes are there.
    Magic([u8; 8]),
    /// The format is another version.
    Version(u32),
    /// The header's own digest does not fit its bytes.
    HeaderDigest,
    /// The number of entries is 0 or more than fit.
    EntryCount(u32),
    /// The total length is not one that a bundle can have.
    TotalLength(u64),
    /// A byte that the format keeps zero is not.
    Reserved {
        /// Where, in bytes from the start of the file.
        offset: usize,
    },
    /// An entry of a kind that this version does not know.
    UnknownKind {
        /// Its place in the table, from 0.
        index: usize,
        /// The code of its kind.
        code: u32,
    },
    /// Two entries of one kind.
    Twice(Kind),
    /// An entry of length 0.
    Empty(Kind),
    /// An entry that is not aligned, or begins before the end of what stands before it.
    Misplaced {
        /// The entry.
        kind: Kind,
        /// Its offset in bytes.
        offset: u64,
    },
    /// An entry that ends behind the end of the bundle.
    Beyond {
        /// The entry.
        kind: Kind,
        /// Its offset in bytes.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// The total length of the bundle in bytes.
        total: usize,
    },
    /// The bundle has no entry of this kind.
    Missing(Kind),
    /// The bytes of the entry do not have the digest that the header states.
    EntryDigest(Kind),
}

impl Error {
    /// The entry that the error is about, if it is about one.
    pub fn kind(&self) -> Option<Kind> {
        match *self {
            Error::Twice(kind) | Error::Empty(kind) | Error::Missing(kind) | Error::EntryDigest(kind) => Some(kind),
            Error::Misplaced { kind, .. } | Error::Beyond { kind, .. } => Some(kind),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Truncated { has, needs } => {
                write!(f, "the bundle is cut short: it has {has} bytes and needs {needs}")
            }
            Error::Magic(found) => write!(f, "this is no Haechi bundle: it begins with {}", found.escape_ascii()),
            Error::Version(found) => {
                write!(f, "the bundle has format version {found}; this build reads version {VERSION}")
            }
            Error::HeaderDigest => write!(f, "the bundle's header is damaged: its SHA-256 does not fit"),
            Error::EntryCount(found) => write!(f, "the bundle names {found} entries; it must be 1 to {MAX_ENTRIES}"),
            Error::TotalLength(found) => write!(f, "the bundle's total length of {found} bytes is impossible"),
            Error::Reserved { offset } => write!(f, "the bundle's header has a byte at {offset} that must be zero"),
            Error::UnknownKind { index, code } => write!(f, "entry {index} of the bundle has the unknown kind {code}"),
            Error::Twice(kind) => write!(f, "the bundle has two entries for the {}", kind.name()),
            Error::Empty(kind) => write!(f, "the bundle's {} is empty", kind.name()),
            Error::Misplaced { kind, offset } => {
                let name = kind.name();
                write!(f, "the bundle's {name} is at offset {offset}, not at a free multiple of {ALIGNMENT}")
            }
            Error::Beyond { kind, offset, length, total } => {
                let name = kind.name();
                write!(f, "the bundle's {name} ({length} bytes at offset {offset}) leaves the bundle's {total} bytes")
            }
            Error::Missing(kind) => write!(f, "the bundle has no {}", kind.name()),
            Error::EntryDigest(kind) => write!(f, "the bundle's {} is damaged: its SHA-256 does not fit", kind.name()),
        }
    }
}

impl core::error::Error for Error {}
