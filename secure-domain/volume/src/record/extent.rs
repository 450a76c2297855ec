//! The 32-byte record of one physical extent: whose it is.
//!
//! ```text
//! offset  size
//!      0     4  volume number
//!      4     4  extent of the volume
//!      8     8  version of the assignment
//!     16     1  copy: 0, or 1 for the second of a mirror
//!     17     1  state: 0 free, 1 assigned
//!     18    14  zero
//! ```
//! Invariants: a free extent's record is zero throughout; an assigned one has a version above zero and a volume below 2^24.
//! No two assigned extents of a pool have the same volume, extent and copy.

use super::{
    MAX_VOLUME,
    bytes::{Reader, put},
};

/// Bytes of a record.
pub const EXTENT_BYTES: usize = 32;

/// Whose an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Number of the volume.
    pub volume: u32,
    /// Extent of the volume.
    pub index: u32,
    /// Copy.
    pub copy: u8,
    /// Entries of this extent with a version below this one are of an earlier owner.
    pub version: u64,
}

/// Reads a record: `Ok(None)` is a free extent.
pub fn parse(bytes: &[u8; EXTENT_BYTES]) -> Result<Option<Assignment>, Impossible> {
    let reader = Reader(bytes);
    match bytes[17] {
        0 if reader.is_zero(0, EXTENT_BYTES) => Ok(None),
        1 => {
            let (volume, version, copy) = (reader.u32(0), reader.u64(8), bytes[16]);
            if volume >= MAX_VOLUME || version == 0 || copy > 1 || !reader.is_zero(18, EXTENT_BYTES) {
                return Err(Impossible);
            }
            Ok(Some(Assignment { volume, index: reader.u32(4), copy, version }))
        }
        _ => Err(Impossible),
    }
}

/// The bytes of a record.
pub fn encode(extent: Option<&Assignment>) -> [u8; EXTENT_BYTES] {
    let mut bytes = [0; EXTENT_BYTES];
    if let Some(extent) = extent {
        put(&mut bytes, 0, &extent.volume.to_le_bytes());
        put(&mut bytes, 4, &extent.index.to_le_bytes());
        put(&mut bytes, 8, &extent.version.to_le_bytes());
        (bytes[16], bytes[17]) = (extent.copy, 1);
    }
    bytes
}

/// The record breaks an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn untidy_and_unknown_records_are_refused() {
        let good = encode(Some(&Assignment { volume: 1, index: 2, copy: 0, version: 3 }));
        for (offset, value) in [(3, 1), (8, 0), (16, 2), (17, 0), (17, 2), (18, 1), (31, 1)] {
            let mut bad = good;
            bad[offset] = value;
            assert_eq!(parse(&bad), Err(Impossible), "offset {offset} = {value}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in any::<[u8; 32]>(), state in 0u8..3) {
            let mut bytes = bytes;
            bytes[18..].fill(0);
            (bytes[16], bytes[17]) = (bytes[16] & 1, state);
            bytes[3] = 0;
            if let Ok(found) = parse(&bytes) {
                prop_assert_eq!(encode(found.as_ref()), bytes);
            }
        }
    }
}
