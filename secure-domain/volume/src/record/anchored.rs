//! What SV1 keeps in the freshness anchor.
//!
//! ```text
//! offset  size
//!      0     4  magic "SVAR"
//!      4     2  version of this record, 1
//!      6     2  zero
//!      8    16  number of the pool
//!     24     8  incarnation
//!     32     8  base: sequence number of the log record with which the incarnation began
//!     40    32  base: its chain MAC
//!     72     8  head: sequence number of the log record anchored last
//!     80    32  head: its chain MAC
//!    112     8  version limit: versions from here on were never used
//!    120     4  generation of the current erase secret
//!    124    32  current erase secret
//!    156     4  generation of the next one; zero: there is none
//!    160    32  next erase secret, else zero
//! ```
//! Invariants: incarnation, head and limit only grow; the limit is anchored before a version below it is used.

use anchor::Record;
use keystore::ERASE_SECRET_BYTES;
use zeroize::Zeroizing;

use super::{
    LogPoint, Uuid,
    bytes::{Reader, put},
};

const MAGIC: [u8; 4] = *b"SVAR";
const VERSION: u16 = 1;
const BYTES: usize = 192;

/// An erase secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Counts the secrets of a pool, from 1.
    pub generation: u32,
    /// The secret.
    pub bytes: Zeroizing<[u8; ERASE_SECRET_BYTES]>,
}

/// The record. It holds secrets, and wipes them when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Anchored {
    /// Number of the pool.
    pub pool: Uuid,
    /// Counts mounts.
    pub incarnation: u64,
    /// Where this incarnation began.
    pub base: LogPoint,
    /// The log record anchored last.
    pub head: LogPoint,
    /// Versions from here on were never used.
    pub version_limit: u64,
    /// The secret that the keys are wrapped under.
    pub secret: Secret,
    /// The one that they are being wrapped under, during a rotation.
    pub next_secret: Option<Secret>,
}

impl Anchored {
    /// Reads a record; `None` if it is none of this version.
    pub fn parse(record: &Record) -> Option<Anchored> {
        let bytes = record.bytes();
        let reader = Reader(bytes);
        if bytes.len() != BYTES || bytes[..4] != MAGIC || reader.u16(4) != VERSION || reader.u16(6) != 0 {
            return None;
        }
        let point = |at: usize| LogPoint { seq: reader.u64(at), mac: reader.array(at + 8) };
        let secret = |at: usize| Secret { generation: reader.u32(at), bytes: Zeroizing::new(reader.array(at + 4)) };
        let (current, next) = (secret(120), secret(156));
        if current.generation == 0 {
            return None;
        }
        Some(Anchored {
            pool: reader.array(8),
            incarnation: reader.u64(24),
            base: point(32),
            head: point(72),
            version_limit: reader.u64(112),
            secret: current,
            next_secret: (next.generation != 0).then_some(next),
        })
    }

    /// The record's bytes.
    pub fn encode(&self) -> Record {
        let mut bytes = Zeroizing::new([0; BYTES]);
        put(&mut *bytes, 0, &MAGIC);
        put(&mut *bytes, 4, &VERSION.to_le_bytes());
        put(&mut *bytes, 8, &self.pool);
        put(&mut *bytes, 24, &self.incarnation.to_le_bytes());
        for (at, point) in [(32, &self.base), (72, &self.head)] {
            put(&mut *bytes, at, &point.seq.to_le_bytes());
            put(&mut *bytes, at + 8, &point.mac);
        }
        put(&mut *bytes, 112, &self.version_limit.to_le_bytes());
        for (at, secret) in [(120, Some(&self.secret)), (156, self.next_secret.as_ref())] {
            if let Some(secret) = secret {
                put(&mut *bytes, at, &secret.generation.to_le_bytes());
                put(&mut *bytes, at + 4, &*secret.bytes);
            }
        }
        Record::new(&*bytes).expect("192 bytes are fewer than an anchor holds")
    }
}

impl core::fmt::Debug for Anchored {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Anchored { incarnation, head, version_limit, .. } = self;
        write!(f, "Anchored {{ incarnation: {incarnation}, head: {}, version_limit: {version_limit}, .. }}", head.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Anchored {
        let secret = |generation: u32| Secret { generation, bytes: Zeroizing::new([generation as u8; 32]) };
        Anchored {
            pool: [1; 16],
            incarnation: 2,
            base: LogPoint { seq: 3, mac: [4; 32] },
            head: LogPoint { seq: 5, mac: [6; 32] },
            version_limit: 7,
            secret: secret(8),
            next_secret: Some(secret(9)),
        }
    }

    #[test]
    fn foreign_records_are_refused() {
        assert_eq!(Anchored::parse(&Record::EMPTY), None);
        for (offset, value) in [(0, 0), (4, 2), (6, 1), (120, 0)] {
            let mut bytes = sample().encode().bytes().to_vec();
            bytes[offset] = value;
            assert_eq!(Anchored::parse(&Record::new(&bytes).unwrap()), None, "offset {offset}");
        }
        assert_eq!(Anchored::parse(&Record::new(&sample().encode().bytes()[..191]).unwrap()), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for record in [sample(), Anchored { next_secret: None, ..sample() }] {
            assert_eq!(Anchored::parse(&record.encode()), Some(record));
        }
    }
}
