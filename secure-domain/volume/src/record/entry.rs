//! The 32-byte entry of one physical block: what lies there, and under which nonce it was sealed.
//!
//! ```text
//! offset  size
//!      0     8  version
//!      8    16  tag; zero if the state is not 1
//!     24     2  epoch; zero if the state is not 1
//!     26     1  state: 0 never written, 1 sealed, 2 zeros
//!     27     5  zero
//! ```
//! Invariants: an entry of state 0 is zero throughout; any other has a version above zero. An entry is authenticated by the tree
//! or the log record that it lies in, so an impossible one is our own mistake, not an attack. An entry whose version is below
//! that of its extent's assignment belongs to an earlier owner of the extent and reads as never written.

use crypto::Tag;

use super::bytes::{Reader, put};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;
/// The bytes of an entry.
pub type EntryBytes = [u8; ENTRY_BYTES];
/// The bytes of the entry of a block that was never written.
pub const BLANK: EntryBytes = [0; ENTRY_BYTES];

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing was ever written there.
    Blank,
    /// Ciphertext.
    Sealed {
        /// The version that the nonce was made of.
        version: u64,
        /// The epoch whose key sealed it.
        epoch: u16,
        /// The tag.
        tag: Tag,
    },
    /// Zeros, whatever bytes lie on the disk.
    Zero {
        /// Orders this statement among the others.
        version: u64,
    },
}

impl Entry {
    /// Reads an entry; `None` if it breaks an invariant.
    pub fn parse(bytes: &EntryBytes) -> Option<Entry> {
        let reader = Reader(bytes);
        let version = reader.u64(0);
        if !reader.is_zero(27, 32) {
            return None;
        }
        match bytes[26] {
            0 if reader.is_zero(0, 26) => Some(Entry::Blank),
            1 if version != 0 => Some(Entry::Sealed { version, epoch: reader.u16(24), tag: reader.array(8) }),
            2 if version != 0 && reader.is_zero(8, 26) => Some(Entry::Zero { version }),
            _ => None,
        }
    }

    /// The bytes of the entry.
    pub fn encode(&self) -> EntryBytes {
        let mut bytes = BLANK;
        match self {
            Entry::Blank => {}
            Entry::Sealed { version, epoch, tag } => {
                put(&mut bytes, 0, &version.to_le_bytes());
                put(&mut bytes, 8, tag);
                put(&mut bytes, 24, &epoch.to_le_bytes());
                bytes[26] = 1;
            }
            Entry::Zero { version } => {
                put(&mut bytes, 0, &version.to_le_bytes());
                bytes[26] = 2;
            }
        }
        bytes
    }

    /// The version; 0 of a block that was never written.
    pub fn version(&self) -> u64 {
        match self {
            Entry::Blank => 0,
            Entry::Sealed { version, .. } | Entry::Zero { version } => *version,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn untidy_and_unknown_entries_are_refused() {
        let sealed = Entry::Sealed { version: 1, epoch: 1, tag: [7; 16] }.encode();
        let zero = Entry::Zero { version: 1 }.encode();
        for (entry, offset, value) in [
            (sealed, 0, 0),
            (sealed, 26, 0),
            (sealed, 26, 2),
            (sealed, 26, 3),
            (sealed, 27, 1),
            (sealed, 31, 1),
            (zero, 8, 1),
            (zero, 24, 1),
            (BLANK, 0, 1),
        ] {
            let mut bad = entry;
            bad[offset] = value;
            assert!(Entry::parse(&bad).is_none(), "offset {offset} = {value}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in any::<[u8; 32]>(), state in 0u8..4, blank: bool) {
            let mut bytes = bytes;
            bytes[27..].fill(0);
            bytes[26] = state;
            if blank {
                bytes[8..26].fill(0);
            }
            if let Some(entry) = Entry::parse(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }
}
