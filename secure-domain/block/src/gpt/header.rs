//! The header of a table (UEFI 2.10, section 5.3.2, table 5.5).

use core::ops::Range;

use super::{Error, Guid, MAX_ARRAY_BYTES, crc::crc32};

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// Bytes of the fields that are defined.
const MIN_BYTES: usize = 92;
/// Bytes of the smallest entry.
const MIN_ENTRY_BYTES: usize = 128;
/// Bytes of the largest entry that is read.
const MAX_ENTRY_BYTES: usize = 4096;

/// What a header says, once it contradicts neither itself nor the disk. Places are in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub disk: Guid,
    /// What partitions may use.
    pub usable: Range<u64>,
    /// Where the array of entries begins.
    pub array: u64,
    /// Number of entries.
    pub entries: usize,
    /// Bytes of an entry.
    pub entry_bytes: usize,
    /// Checksum of the array.
    pub array_crc: u32,
}

impl Header {
    /// Reads the header in `sector`, which is number `place` of a disk of `sectors`.
    pub(super) fn parse(sector: &[u8], place: u64, sectors: u64) -> Result<Header, Error> {
        let field = Fields(sector);
        if !sector.starts_with(SIGNATURE) {
            return Err(Error::NoTable);
        }
        if field.u32(8) != REVISION {
            return Err(Error::Revision(field.u32(8)));
        }
        check_crc(sector, field.u32(12) as usize, field.u32(16))?;
        if field.u64(24) != place {
            return Err(Error::Misplaced);
        }
        let header = Header {
            disk: field.guid(56),
            usable: field.u64(40)..field.u64(48).checked_add(1).ok_or(Error::Bounds)?,
            array: field.u64(72),
            entries: field.u32(80) as usize,
            entry_bytes: field.u32(84) as usize,
            array_crc: field.u32(88),
        };
        header.check_sizes()?;
        header.check_places(place, sectors, sector.len())?;
        Ok(header)
    }

    /// Bytes of the array of entries: at most [`MAX_ARRAY_BYTES`].
    pub(super) fn array_bytes(&self) -> usize {
        self.entries * self.entry_bytes
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let entry =
            self.entry_bytes.is_power_of_two() && (MIN_ENTRY_BYTES..=MAX_ENTRY_BYTES).contains(&self.entry_bytes);
        let array = self.entries.checked_mul(self.entry_bytes).is_some_and(|bytes| bytes <= MAX_ARRAY_BYTES);
        if entry && array && self.entries > 0 { Ok(()) } else { Err(Error::Size) }
    }

    /// The usable part, the array and the header lie on the disk and apart from each other.
    fn check_places(&self, place: u64, sectors: u64, sector_bytes: usize) -> Result<(), Error> {
        let array_sectors = self.array_bytes().div_ceil(sector_bytes) as u64;
        let array = self.array..self.array.checked_add(array_sectors).ok_or(Error::Bounds)?;
        let apart = |a: &Range<u64>, b: &Range<u64>| a.end <= b.start || b.end <= a.start;
        let header = place..place + 1;
        let fits = self.usable.start < self.usable.end
            && self.usable.end <= sectors
            && array.end <= sectors
            // Sector 0 belongs to the protective boot record.
            && self.usable.start > 0
            && array.start > 0
            && apart(&self.usable, &array)
            && apart(&self.usable, &header)
            && apart(&array, &header);
        if fits { Ok(()) } else { Err(Error::Bounds) }
    }
}

/// Checks the checksum of the first `len` bytes, in which its own field counts as zero.
fn check_crc(sector: &[u8], len: usize, expected: u32) -> Result<(), Error> {
    if len < MIN_BYTES {
        return Err(Error::Size);
    }
    let mut bytes = sector.get(..len).ok_or(Error::Size)?.to_vec();
    bytes[16..20].fill(0);
    if crc32(&bytes) == expected { Ok(()) } else { Err(Error::HeaderChecksum) }
}

/// Little-endian fields at fixed offsets of bytes that are long enough.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub(super) fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    pub(super) fn guid(&self, offset: usize) -> Guid {
        Guid(self.array(offset))
    }

    fn array<const LEN: usize>(&self, offset: usize) -> [u8; LEN] {
        core::array::from_fn(|index| self.0[offset + index])
    }
}
