//! The header of a bundle, in bytes and in terms.

use crate::{ALIGNMENT, Entry, Error, Kind, MAX_ENTRIES, VERSION, digest_of};

/// Length of the header in bytes.
pub(crate) const LENGTH: usize = ALIGNMENT;
const MAGIC: [u8; 8] = *b"HAECHIBN";
const TABLE: usize = 32;
const RECORD: usize = 56;
const DIGEST: usize = LENGTH - 32;

/// A header whose every field has been checked against the format.
pub(crate) struct Header {
    pub(crate) total_length: usize,
    pub(crate) entries: [Option<Entry>; Kind::ALL.len()],
}

impl Header {
    /// Reads the header at the start of `bytes`, in the order magic, version, digest, fields.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let (header, _) =
            bytes.split_first_chunk::<LENGTH>().ok_or(Error::Truncated { has: bytes.len(), needs: LENGTH })?;
        check_origin(header)?;
        let count = entry_count(header)?;
        check_reserved(header, count)?;
        let total_length = total_length(header)?;
        Ok(Self { total_length, entries: read_table(header, count, total_length)? })
    }
}

fn check_origin(header: &[u8; LENGTH]) -> Result<(), Error> {
    let magic: [u8; 8] = field(header, 0);
    if magic != MAGIC {
        return Err(Error::Magic(magic));
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(Error::Version(version));
    }
    if digest_of(&header[..DIGEST]) != field::<32>(header, DIGEST) {
        return Err(Error::HeaderDigest);
    }
    Ok(())
}

fn entry_count(header: &[u8; LENGTH]) -> Result<usize, Error> {
    let count = u32_at(header, 12);
    if count == 0 || count as usize > MAX_ENTRIES { Err(Error::EntryCount(count)) } else { Ok(count as usize) }
}

fn check_reserved(header: &[u8; LENGTH], count: usize) -> Result<(), Error> {
    let in_records = (0..count).map(|index| TABLE + index * RECORD + 4).flat_map(|at| at..at + 4);
    let reserved = (24..TABLE).chain(in_records).chain(TABLE + count * RECORD..DIGEST);
    match reserved.into_iter().find(|&offset| header[offset] != 0) {
        Some(offset) => Err(Error::Reserved { offset }),
        None => Ok(()),
    }
}

fn total_length(header: &[u8; LENGTH]) -> Result<usize, Error> {
    let total = u64_at(header, 16);
    match usize::try_from(total) {
        Ok(length) if length > LENGTH && total <= i64::MAX as u64 => Ok(length),
        _ => Err(Error::TotalLength(total)),
    }
}

fn read_table(header: &[u8; LENGTH], count: usize, total: usize) -> Result<[Option<Entry>; Kind::ALL.len()], Error> {
    let mut entries = [None; Kind::ALL.len()];
    let mut free = LENGTH;
    for index in 0..count {
        let entry = read_record(header, index, free, total)?;
        // A kind is known and stands once, so there are at most as many entries as slots.
        let slot = Kind::ALL.iter().position(|kind| *kind == entry.kind).unwrap_or(0);
        if entries[slot].is_some() {
            return Err(Error::Twice(entry.kind));
        }
        free = (entry.offset + entry.length).next_multiple_of(ALIGNMENT);
        entries[slot] = Some(entry);
    }
    Ok(entries)
}

/// Reads record `index`, which must describe bytes between `free` and `total`.
fn read_record(header: &[u8; LENGTH], index: usize, free: usize, total: usize) -> Result<Entry, Error> {
    let at = TABLE + index * RECORD;
    let code = u32_at(header, at);
    let kind = Kind::from_code(code).ok_or(Error::UnknownKind { index, code })?;
    let (offset, length) = (u64_at(header, at + 8), u64_at(header, at + 16));
    if length == 0 {
        return Err(Error::Empty(kind));
    }
    let beyond = Error::Beyond { kind, offset, length, total };
    let end = offset.checked_add(length).ok_or(beyond)?;
    if end > total as u64 {
        return Err(beyond);
    }
    if offset < free as u64 || !offset.is_multiple_of(ALIGNMENT as u64) {
        return Err(Error::Misplaced { kind, offset });
    }
    // Both are at most `total`, a `usize`.
    Ok(Entry { kind, offset: offset as usize, length: length as usize, digest: field(header, at + 24) })
}

/// Writes a header for `entries` and `total_length`; the caller has kept the rules that [`Header::read`] checks.
#[cfg(any(test, feature = "write"))]
pub(crate) fn write(header: &mut [u8], total_length: usize, entries: &[Entry]) {
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    header[16..24].copy_from_slice(&(total_length as u64).to_le_bytes());
    for (entry, record) in entries.iter().zip(header[TABLE..DIGEST].chunks_exact_mut(RECORD)) {
        record[0..4].copy_from_slice(&(entry.kind as u32).to_le_bytes());
        record[8..16].copy_from_slice(&(entry.offset as u64).to_le_bytes());
        record[16..24].copy_from_slice(&(entry.length as u64).to_le_bytes());
        record[24..56].copy_from_slice(&entry.digest);
    }
    seal(header);
}

/// Puts the header's own digest in place.
#[cfg(any(test, feature = "write"))]
pub(crate) fn seal(header: &mut [u8]) {
    let digest = digest_of(&header[..DIGEST]);
    header[DIGEST..LENGTH].copy_from_slice(&digest);
}

/// `N` bytes at `offset`, which every caller keeps inside the header.
fn field<const N: usize>(header: &[u8; LENGTH], offset: usize) -> [u8; N] {
    core::array::from_fn(|index| header[offset + index])
}

fn u32_at(header: &[u8; LENGTH], offset: usize) -> u32 {
    u32::from_le_bytes(field(header, offset))
}

fn u64_at(header: &[u8; LENGTH], offset: usize) -> u64 {
    u64::from_le_bytes(field(header, offset))
}
