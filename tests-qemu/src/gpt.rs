//! Disks with a GUID partition table (UEFI 2.10, section 5.3), written by the tests, so that the reader does not share a mistake with its writer.
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use block::gpt::{Guid, HAECHI_MEMBER};

use crate::images::BLOCK_BYTES;

/// The name of the partition that [`around`] puts a disk into.
pub const MEMBER: &str = "haechi";
/// Where it begins, in blocks; as many lie behind it before the second copy of the table.
const MEMBER_BLOCK: u64 = 512;
/// Blocks of each of its neighbours, which touch it.
const NEIGHBOUR_BLOCKS: u64 = 256;
/// What the neighbours are filled with.
const NEIGHBOUR: u8 = 0xc3;
/// The type of the neighbours: a Linux filesystem, `0fc63daf-8483-4772-8e79-3d69d8477de4`.
const LINUX: Guid = Guid::new(0x0fc6_3daf, 0x8483, 0x4772, [0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);

const SECTOR_BYTES: usize = 512;
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / SECTOR_BYTES as u64;
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;
const ARRAY_SECTORS: u64 = (ENTRIES * ENTRY_BYTES / SECTOR_BYTES) as u64;

/// Writes a disk that has the bytes of `disk` as one of three partitions; gives the bytes of the new disk where they lie.
///
/// # Errors
/// When a file cannot be read or written.
pub fn around(disk: &Path, parted: &Path) -> Result<Range<u64>> {
    let from = File::open(disk).with_context(|| format!("{} cannot be read", disk.display()))?;
    let to = File::create(parted).with_context(|| format!("{} cannot be written", parted.display()))?;
    let member = MEMBER_BLOCK..MEMBER_BLOCK + from.metadata()?.len() / BLOCK_BYTES;
    to.set_len((member.end + MEMBER_BLOCK) * BLOCK_BYTES)?;
    let mut bytes = vec![0; 1 << 20];
    for at in (0..(member.end - member.start) * BLOCK_BYTES).step_by(bytes.len()) {
        let count = from.read_at(&mut bytes, at)?;
        if bytes[..count].iter().any(|byte| *byte != 0) {
            to.write_all_at(&bytes[..count], member.start * BLOCK_BYTES + at)?;
        }
    }
    let neighbours = neighbours(&member);
    for neighbour in &neighbours {
        to.write_all_at(&vec![NEIGHBOUR; bytes_of(neighbour).count()], neighbour.start * BLOCK_BYTES)?;
    }
    write_table(&to, &[&neighbours[0], &member, &neighbours[1]])?;
    Ok(bytes_of(&member))
}

/// Changes both copies of the table of such a disk, checksums included, so that the partition behind the member begins in its last block.
///
/// # Errors
/// When the file cannot be written.
pub fn overlap(parted: &Path) -> Result<()> {
    let disk = File::options().read(true).write(true).open(parted)?;
    let member = MEMBER_BLOCK..disk.metadata()?.len() / BLOCK_BYTES - MEMBER_BLOCK;
    let [before, behind] = neighbours(&member);
    write_table(&disk, &[&before, &member, &(behind.start - 1..behind.end)])
}

fn neighbours(member: &Range<u64>) -> [Range<u64>; 2] {
    [member.start - NEIGHBOUR_BLOCKS..member.start, member.end..member.end + NEIGHBOUR_BLOCKS]
}

fn bytes_of(blocks: &Range<u64>) -> Range<u64> {
    blocks.start * BLOCK_BYTES..blocks.end * BLOCK_BYTES
}

/// Both copies of the table: the member is the second of the partitions.
fn write_table(disk: &File, partitions: &[&Range<u64>; 3]) -> Result<()> {
    let sectors = disk.metadata()?.len() / SECTOR_BYTES as u64;
    let mut array = vec![0; ENTRIES * ENTRY_BYTES];
    for (index, (partition, entry)) in partitions.iter().zip(array.chunks_exact_mut(ENTRY_BYTES)).enumerate() {
        write_entry(entry, index, partition);
    }
    let copies = [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - ARRAY_SECTORS)];
    for (place, other, array_sector) in copies {
        disk.write_all_at(&array, array_sector * SECTOR_BYTES as u64)?;
        disk.write_all_at(&header(place, other, array_sector, sectors, &array), place * SECTOR_BYTES as u64)?;
    }
    Ok(())
}

/// Table 5.6.
fn write_entry(entry: &mut [u8], index: usize, blocks: &Range<u64>) {
    let (kind, name) = if index == 1 { (HAECHI_MEMBER, MEMBER) } else { (LINUX, "beside") };
    entry[..16].copy_from_slice(&kind.0);
    entry[16..32].fill(0x10 + index as u8);
    entry[32..40].copy_from_slice(&(blocks.start * SECTORS_PER_BLOCK).to_le_bytes());
    entry[40..48].copy_from_slice(&(blocks.end * SECTORS_PER_BLOCK - 1).to_le_bytes());
    for (unit, out) in name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
        out.copy_from_slice(&unit.to_le_bytes());
    }
}

/// Table 5.5.
fn header(place: u64, other: u64, array_sector: u64, sectors: u64, array: &[u8]) -> Vec<u8> {
    let usable = 2 + ARRAY_SECTORS..sectors - 1 - ARRAY_SECTORS;
    let mut header = b"EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    for place in [place, other, usable.start, usable.end - 1] {
        header.extend(place.to_le_bytes());
    }
    header.extend([0xd1; 16]);
    header.extend(array_sector.to_le_bytes());
    for word in [ENTRIES as u32, ENTRY_BYTES as u32, crc32(array)] {
        header.extend(word.to_le_bytes());
    }
    let checksum = crc32(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The CRC-32 of ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        let shift = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        (0..8).fold(crc ^ u32::from(*byte), shift)
    };
    !bytes.iter().fold(!0, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_header_has_the_length_that_it_states() {
        assert_eq!(header(1, 99, 2, 100, &[0; 128]).len(), 0x5c);
    }
}
