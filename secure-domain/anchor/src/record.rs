//! The bytes that an anchor keeps.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Error;

/// Bytes of the longest record: a block of RPMB is 256 bytes, and the store keeps 32 for itself.
pub const RECORD_BYTES: usize = 224;

/// Up to [`RECORD_BYTES`] bytes. They may hold secrets: they are wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Invariant: zero from `len` on.
    bytes: [u8; RECORD_BYTES],
    /// Invariant: at most `RECORD_BYTES`.
    len: u8,
}

impl Record {
    /// The record of an anchor that was never advanced.
    pub const EMPTY: Record = Record { bytes: [0; RECORD_BYTES], len: 0 };

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`Error::RecordTooLong`] beyond [`RECORD_BYTES`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Record, Error> {
        let mut record = Record::EMPTY;
        let place = record.bytes.get_mut(..bytes.len()).ok_or(Error::RecordTooLong(bytes.len()))?;
        place.copy_from_slice(bytes);
        record.len = bytes.len() as u8; // At most 224.
        Ok(record)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Zeroize for Record {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
        self.len = 0;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Record {}

impl core::fmt::Debug for Record {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Record({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_longer_record_is_refused() {
        assert_eq!(Record::new(&[1; 225]), Err(Error::RecordTooLong(225)));
        assert_eq!(Record::new(&[1; 224]).unwrap().bytes(), [1; 224]);
        assert_eq!(Record::new(&[]).unwrap(), Record::EMPTY);
    }

    #[test]
    fn a_record_does_not_print_its_bytes() {
        assert_eq!(format!("{:?}", Record::new(&[0xab; 3]).unwrap()), "Record(3 bytes)");
    }
}
