//! The 32-byte entry that authenticates one data block.
//!
//! ```text
//! offset  size
//!      0     8  version, little-endian, not zero
//!      8    16  tag
//!     24     1  state: 1 sealed, 2 zero
//!     25     7  zero
//! ```
//! Invariants: the version was reserved before use and never sealed anything else; the tag is over the block's ciphertext
//! (sealed) or over no bytes (zero), bound to volume, block, suite and state; the last seven bytes are zero.

use crypto::aead::Tag;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Ciphertext.
    Sealed = 1,
    /// Zeros, whatever bytes lie on the disk.
    Zero = 2,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The version that the nonce was made of.
    pub version: u64,
    /// The tag.
    pub tag: Tag,
    /// What the block holds.
    pub state: State,
}

impl Entry {
    /// Reads an entry; `None` if it breaks an invariant that can be seen without the key.
    pub fn parse(bytes: &[u8; ENTRY_BYTES]) -> Option<Entry> {
        let (version, rest) = bytes.split_first_chunk::<8>()?;
        let (tag, rest) = rest.split_first_chunk::<16>()?;
        let state = match u64::from_le_bytes(*rest.first_chunk::<8>()?) {
            1 => State::Sealed,
            2 => State::Zero,
            _ => return None,
        };
        let version = u64::from_le_bytes(*version);
        (version != 0).then_some(Entry { version, tag: *tag, state })
    }

    /// The bytes of the entry.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        assert_ne!(self.version, 0, "version 0 is never given out");
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.tag);
        bytes[24] = self.state as u8;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blank_unknown_and_untidy_entries_are_refused() {
        let good = Entry { version: 1, tag: [7; 16], state: State::Zero }.encode();
        assert!(Entry::parse(&[0; 32]).is_none());
        for (offset, value) in [(0, 0), (24, 0), (24, 3), (25, 1), (31, 1)] {
            let mut bad = good;
            bad[offset] = value;
            assert!(Entry::parse(&bad).is_none(), "offset {offset} = {value}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in any::<[u8; 32]>(), state in 0u8..4) {
            let mut bytes = bytes;
            bytes[24..].fill(0);
            bytes[24] = state;
            if let Some(entry) = Entry::parse(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }
}
