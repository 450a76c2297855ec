//! The boot bundle: secure-domain image, kernel and initrd in one file, as the boot loader hands it over.
//!
//! Boot loaders know how to load one kernel and one initrd. Haechi is the kernel, so everything else travels as the initrd:
//! this file. Numbers are little-endian; every entry begins at a multiple of [`ALIGNMENT`], so that the initrd of the general
//! domain can stay where the loader put it.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "HAECHIBN"
//!      8      4  version, 1
//!     12      4  number of entries, 1 to 16
//!     16      8  total length of the bundle in bytes
//!     24      8  zero
//!     32     56  for each entry: kind (4), zero (4), offset (8), length (8), SHA-256 of the entry (32)
//!    ...         zero
//!   4064     32  SHA-256 of bytes 0 to 4063
//!   4096         entries, in the order of the table, each padded with zeros to 4096
//! ```
//!
//! What the header's digest gives is detection of damage, and a digest for each entry that can be measured without reading
//! the entry. It is not a signature: who can write the file can write the digests.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "write"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod header;
pub mod image;
#[cfg(any(test, feature = "write"))]
mod write;

use core::fmt;

use sha2::{Digest as _, Sha256};

pub use error::Error;
#[cfg(any(test, feature = "write"))]
pub use write::write;

/// Every entry begins at a multiple of this, in bytes; the header takes this much too.
pub const ALIGNMENT: usize = 4096;

/// The format that this crate reads and writes.
pub const VERSION: u32 = 1;

/// Entries that the header has room to describe.
pub const MAX_ENTRIES: usize = 16;

/// A SHA-256 digest (FIPS 180-4).
pub type Digest = [u8; 32];

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The flat image of the secure domain.
    SecureDomain = 1,
    /// The arm64 `Image` of the general domain, uncompressed.
    Kernel = 2,
    /// The initial RAM disk of the general domain.
    Initrd = 3,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::SecureDomain, Kind::Kernel, Kind::Initrd];

    /// The kind that `code` names in a header, if it is one.
    pub fn from_code(code: u32) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::SecureDomain => "secure domain",
            Kind::Kernel => "kernel",
            Kind::Initrd => "initrd",
        }
    }
}

/// Where an entry lies, and what its bytes must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Bytes from the start of the bundle; a multiple of [`ALIGNMENT`].
    pub offset: usize,
    /// Length in bytes, without padding; never 0.
    pub length: usize,
    /// SHA-256 of its bytes, as the header states it.
    pub digest: Digest,
}

/// A bundle whose header has been checked. The entries' bytes have not: see [`Bundle::verify`].
#[derive(Clone)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    entries: [Option<Entry>; Kind::ALL.len()],
}

impl<'a> Bundle<'a> {
    /// Reads the bundle that begins at the first of `bytes`; bytes behind its total length are ignored.
    ///
    /// # Errors
    /// Anything in the header that the format does not allow, and a file shorter than the header says.
    #[inline(never)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = header::Header::read(bytes)?;
        let bytes = bytes
            .get(..header.total_length)
            .ok_or(Error::Truncated { has: bytes.len(), needs: header.total_length })?;
        Ok(Self { bytes, entries: header.entries })
    }

    /// Length of the whole bundle in bytes, as its header states it and its bytes bear out.
    pub fn total_length(&self) -> usize {
        self.bytes.len()
    }

    /// The description of the entry of `kind`.
    ///
    /// # Errors
    /// [`Error::Missing`] if the bundle has none.
    pub fn describe(&self, kind: Kind) -> Result<&Entry, Error> {
        self.entries.iter().flatten().find(|entry| entry.kind == kind).ok_or(Error::Missing(kind))
    }

    /// The bytes of the entry of `kind`, unverified.
    ///
    /// # Errors
    /// [`Error::Missing`] if the bundle has none.
    pub fn entry(&self, kind: Kind) -> Result<&'a [u8], Error> {
        let entry = self.describe(kind)?;
        let needs = entry.offset + entry.length;
        self.bytes.get(entry.offset..needs).ok_or(Error::Truncated { has: self.bytes.len(), needs })
    }

    /// The digest that the header states for the entry of `kind`.
    ///
    /// # Errors
    /// [`Error::Missing`] if the bundle has none.
    pub fn digest(&self, kind: Kind) -> Result<&Digest, Error> {
        self.describe(kind).map(|entry| &entry.digest)
    }

    /// The bytes of the entry of `kind`, after comparing their SHA-256 with the header's.
    ///
    /// # Errors
    /// [`Error::Missing`] if the bundle has none, [`Error::EntryDigest`] if the bytes are not those that were written.
    pub fn verify(&self, kind: Kind) -> Result<&'a [u8], Error> {
        let bytes = self.entry(kind)?;
        if digest_of(bytes) == *self.digest(kind)? { Ok(bytes) } else { Err(Error::EntryDigest(kind)) }
    }
}

impl fmt::Debug for Bundle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("total_length", &self.bytes.len()).field("entries", &self.entries).finish()
    }
}

/// SHA-256 of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        write(&[(Kind::SecureDomain, &[1; 5000]), (Kind::Kernel, &[2; 4096]), (Kind::Initrd, b"cpio")]).unwrap()
    }

    /// Changes a header and makes its digest fit again: what a careless or hostile writer would produce.
    fn forged(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = sample();
        change(&mut bytes[..header::LENGTH]);
        header::seal(&mut bytes[..header::LENGTH]);
        bytes
    }

    fn refusal(bytes: &[u8]) -> Error {
        Bundle::parse(bytes).expect_err("must be refused")
    }

    #[test]
    fn refuses_a_file_shorter_than_the_header() {
        assert_eq!(refusal(&[]), Error::Truncated { has: 0, needs: 4096 });
        assert_eq!(refusal(&sample()[..4095]), Error::Truncated { has: 4095, needs: 4096 });
    }

    #[test]
    fn refuses_a_file_cut_behind_the_header_and_says_by_how_much() {
        let bytes = sample();
        let needs = bytes.len();
        assert_eq!(refusal(&bytes[..needs - 1]), Error::Truncated { has: needs - 1, needs });
    }

    #[test]
    fn refuses_a_file_that_is_no_bundle() {
        assert_eq!(refusal(&[0x1F; 8192]), Error::Magic([0x1F; 8]));
    }

    #[test]
    fn refuses_another_version_before_it_judges_the_rest() {
        let mut bytes = sample();
        bytes[8] = 2;
        assert_eq!(refusal(&bytes), Error::Version(2));
    }

    #[test]
    fn refuses_any_changed_bit_of_the_header() {
        for position in 0..header::LENGTH {
            let mut bytes = sample();
            bytes[position] ^= 1 << (position % 8);
            assert!(Bundle::parse(&bytes).is_err(), "byte {position}");
        }
    }

    #[test]
    fn refuses_counts_out_of_range() {
        assert_eq!(refusal(&forged(|h| h[12] = 0)), Error::EntryCount(0));
        assert_eq!(refusal(&forged(|h| h[12] = 17)), Error::EntryCount(17));
    }

    #[test]
    fn refuses_an_unknown_kind_and_a_kind_twice() {
        assert_eq!(refusal(&forged(|h| h[32] = 9)), Error::UnknownKind { index: 0, code: 9 });
        assert_eq!(refusal(&forged(|h| h[32 + 56] = 1)), Error::Twice(Kind::SecureDomain));
    }

    #[test]
    fn refuses_entries_out_of_place() {
        assert_eq!(refusal(&forged(|h| h[40] = 1)), Error::Misplaced { kind: Kind::SecureDomain, offset: 4097 });
        // An entry over the header.
        assert_eq!(refusal(&forged(|h| h[41] = 0)), Error::Misplaced { kind: Kind::SecureDomain, offset: 0 });
        // The second entry inside the first.
        assert_eq!(refusal(&forged(|h| h[32 + 56 + 9] = 0x20)), Error::Misplaced { kind: Kind::Kernel, offset: 8192 });
    }

    #[test]
    fn refuses_lengths_that_leave_the_bundle() {
        assert_eq!(refusal(&forged(|h| h[32 + 112 + 17] = 0x20)).kind(), Some(Kind::Initrd));
        assert_eq!(refusal(&forged(|h| h[32 + 112 + 23] = 0xFF)).kind(), Some(Kind::Initrd));
        assert_eq!(refusal(&forged(|h| h[48..56].fill(0))), Error::Empty(Kind::SecureDomain));
        assert_eq!(refusal(&forged(|h| h[23] = 0x80)).kind(), None);
    }

    #[test]
    fn refuses_bytes_that_are_not_zero_where_the_format_has_none() {
        assert_eq!(refusal(&forged(|h| h[24] = 1)), Error::Reserved { offset: 24 });
        assert_eq!(refusal(&forged(|h| h[36] = 1)), Error::Reserved { offset: 36 });
        assert_eq!(refusal(&forged(|h| h[4000] = 1)), Error::Reserved { offset: 4000 });
    }

    #[test]
    fn verify_refuses_one_changed_bit_and_entry_does_not_look() {
        let mut bytes = sample();
        bytes[4096 + 4999] ^= 0x10;
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.verify(Kind::SecureDomain), Err(Error::EntryDigest(Kind::SecureDomain)));
        assert_eq!(bundle.entry(Kind::SecureDomain).unwrap().len(), 5000);
        assert!(bundle.verify(Kind::Kernel).is_ok());
    }

    #[test]
    fn a_kind_that_is_not_there_is_missing() {
        let bytes = write(&[(Kind::Kernel, b"k")]).unwrap();
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.entry(Kind::Initrd), Err(Error::Missing(Kind::Initrd)));
        assert_eq!(bundle.digest(Kind::Initrd), Err(Error::Missing(Kind::Initrd)));
    }

    #[test]
    fn what_was_written_is_read_and_what_follows_is_ignored() {
        let mut bytes = sample();
        let length = bytes.len();
        bytes.extend_from_slice(&[0xEE; 100]);
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.total_length(), length);
        assert_eq!(bundle.verify(Kind::SecureDomain).unwrap(), [1; 5000]);
        assert_eq!(bundle.verify(Kind::Kernel).unwrap(), [2; 4096]);
        assert_eq!(bundle.verify(Kind::Initrd).unwrap(), b"cpio");
        assert_eq!(bundle.digest(Kind::Initrd).unwrap(), &digest_of(b"cpio"));
    }

    proptest! {
        #[test]
        fn any_contents_come_back(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..10_000), 1..=3)) {
            let parts: Vec<_> = Kind::ALL.into_iter().zip(contents.iter().map(Vec::as_slice)).collect();
            let bytes = write(&parts).unwrap();
            let bundle = Bundle::parse(&bytes).unwrap();
            for (kind, content) in parts {
                prop_assert_eq!(bundle.verify(kind).unwrap(), content);
                prop_assert_eq!(bundle.describe(kind).unwrap().offset % ALIGNMENT, 0);
            }
        }

        #[test]
        fn a_forged_header_never_panics(position in 0..header::LENGTH, value in any::<u8>(), second in 0..200_usize, other in any::<u8>()) {
            let bytes = forged(|h| { h[position] = value; h[second] = other; });
            if let Ok(bundle) = Bundle::parse(&bytes) {
                for kind in Kind::ALL {
                    let _ = bundle.verify(kind);
                }
            }
        }
    }
}
