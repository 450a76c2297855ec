//! The partition table of a disk that anybody has written.

use block::BlockDevice;
use block::gpt::{Table, read};
use block::ram::RamDisk;

const BLOCKS: usize = 64;
/// The array of the table that is made right: 16 entries of 128 bytes from sector 2 on.
const ARRAY: core::ops::Range<usize> = 1024..3072;
const HEADER: usize = 512;
const FIRST_USABLE: u64 = 8;

/// The first byte says what is made right after the input has written: checksums, and the fields that a change makes useless.
/// Then each three bytes write one: where in the first 4 KiB, and what.
pub fn run(data: &[u8]) {
    let Some((&mode, changes)) = data.split_first() else { return };
    let mut image = vec![0; BLOCKS * 4096];
    build(&mut image);
    for &[low, high, value] in changes.as_chunks().0 {
        image[usize::from(u16::from_le_bytes([low, high])) % 4096] = value;
    }
    if mode & 1 == 0 {
        let crc = crc32(&image[ARRAY]);
        image[HEADER + 88..HEADER + 92].copy_from_slice(&crc.to_le_bytes());
    }
    if mode & 2 == 0 {
        image[HEADER + 16..HEADER + 20].fill(0);
        let crc = crc32(&image[HEADER..HEADER + 92]);
        image[HEADER + 16..HEADER + 20].copy_from_slice(&crc.to_le_bytes());
    }
    let mut disk = RamDisk::new(image, 2, 1);
    let table = read(&mut disk, || false);
    assert!(disk.writes.is_empty() && disk.free_buffers() == 2);
    if let Ok(table) = table {
        check(&table, disk.blocks());
    }
}

fn check(table: &Table, blocks: u64) {
    let mut ranges: Vec<_> = table.entries.iter().map(|entry| entry.sectors.clone()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(
        ranges.iter().all(|range| range.start < range.end && range.end <= blocks * 4096 / table.sector_bytes as u64)
    );
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "no two share a sector");
    for entry in &table.entries {
        assert!(entry.blocks.as_ref().is_none_or(|range| range.start < range.end && range.end <= blocks));
        assert!(!entry.name.to_string().chars().any(char::is_control));
    }
}

/// A table with three partitions of 16 sectors.
fn build(image: &mut [u8]) {
    let sectors = (image.len() / 512) as u64;
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(HEADER, b"EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00");
    for (offset, value) in [(24, 1), (32, sectors - 1), (40, FIRST_USABLE), (48, sectors - 8), (72, 2)] {
        put(HEADER + offset, &value.to_le_bytes());
    }
    put(HEADER + 80, &[16, 0, 0, 0, 128, 0, 0, 0]);
    for entry in 0..3 {
        let start = ARRAY.start + entry * 128;
        put(start, &block::gpt::HAECHI_MEMBER.0);
        put(start + 16, &[entry as u8 + 1; 16]);
        let first = FIRST_USABLE + entry as u64 * 16;
        put(start + 32, &first.to_le_bytes());
        put(start + 40, &(first + 15).to_le_bytes());
    }
}

/// CRC-32, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
