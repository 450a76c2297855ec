//! Tables that are right, and all the ways in which they are not.

use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::ram::RamDisk;

/// A disk of 1 MiB: partitions as (first, last) sector, names by index.
struct Disk {
    sector_bytes: usize,
    image: Vec<u8>,
}

const BLOCKS: usize = 256;

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

impl Disk {
    fn new(sector_bytes: usize, partitions: &[(u64, u64)]) -> Disk {
        let mut disk = Disk { sector_bytes, image: vec![0; BLOCKS * BLOCK_BYTES] };
        let sectors = disk.sectors();
        let array_sectors = (16 << 10) / sector_bytes as u64;
        let array = array_of(partitions);
        let usable = 2 + array_sectors..sectors - 1 - array_sectors;
        for (place, other, start) in [(1, sectors - 1, 2), (sectors - 1, 1, usable.end)] {
            disk.put(start * sector_bytes as u64, &array);
            let header = disk.header(place, other, start, &usable, &array);
            disk.put(place * sector_bytes as u64, &header);
        }
        disk
    }

    fn sectors(&self) -> u64 {
        (self.image.len() / self.sector_bytes) as u64
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.image, offset as usize, bytes);
    }

    fn header(&self, place: u64, other: u64, array_start: u64, usable: &Range<u64>, array: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 92];
        put(&mut header, 0, b"EFI PART");
        put(&mut header, 8, &0x0001_0000u32.to_le_bytes());
        put(&mut header, 12, &92u32.to_le_bytes());
        put(&mut header, 24, &place.to_le_bytes());
        put(&mut header, 32, &other.to_le_bytes());
        put(&mut header, 40, &usable.start.to_le_bytes());
        put(&mut header, 48, &(usable.end - 1).to_le_bytes());
        put(&mut header, 56, &[0xd1; 16]);
        put(&mut header, 72, &array_start.to_le_bytes());
        put(&mut header, 80, &128u32.to_le_bytes());
        put(&mut header, 84, &128u32.to_le_bytes());
        put(&mut header, 88, &crc32(array).to_le_bytes());
        sign(&mut header);
        header
    }

    /// Changes the header of the primary copy and signs it again; the backup is wiped.
    fn with(mut self, offset: usize, value: &[u8]) -> Disk {
        let (start, end) = (self.sector_bytes, self.image.len());
        put(&mut self.image[start..start + 92], offset, value);
        sign(&mut self.image[start..start + 92]);
        self.image[end - self.sector_bytes..].fill(0);
        self
    }

    fn read(&self) -> Result<Table, Error> {
        let mut disk = RamDisk::new(self.image.clone(), 4, 7);
        let table = super::read(&mut disk, || false);
        assert_eq!(disk.free_buffers(), 4, "buffers came back");
        assert!(disk.writes.is_empty());
        table
    }
}

fn array_of(partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut array = vec![0; 128 * 128];
    for (index, (first, last)) in partitions.iter().enumerate() {
        let entry = &mut array[index * 128..][..128];
        put(entry, 0, &HAECHI_MEMBER.0);
        put(entry, 16, &[index as u8 + 1; 16]);
        put(entry, 32, &first.to_le_bytes());
        put(entry, 40, &last.to_le_bytes());
        put(entry, 56, &[b'p', 0, b'0' + index as u8, 0]);
    }
    array
}

fn sign(header: &mut [u8]) {
    header[16..20].fill(0);
    let crc = crc32(header);
    put(header, 16, &crc.to_le_bytes());
}

#[test]
fn a_disk_without_a_table_says_so() {
    for blocks in [0, 1, 2, 256] {
        let disk = Disk { sector_bytes: 512, image: vec![0; blocks * BLOCK_BYTES] };
        assert_eq!(disk.read(), Err(Error::NoTable));
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let disk = || Disk::new(512, &[(40, 47)]);
    let u32_at = |offset, value: u32| disk().with(offset, &value.to_le_bytes()).read();
    let u64_at = |offset, value: u64| disk().with(offset, &value.to_le_bytes()).read();
    assert_eq!(u32_at(8, 0x0002_0000), Err(Error::Revision(0x0002_0000)));
    for (offset, value) in [(12, 91), (12, 513), (12, u32::MAX), (80, 0), (80, 1025), (80, u32::MAX)] {
        assert_eq!(u32_at(offset, value), Err(Error::Size), "{offset} {value}");
    }
    for entry_bytes in [0, 1, 64, 127, 192, 8192, u32::MAX] {
        assert_eq!(u32_at(84, entry_bytes), Err(Error::Size));
    }
    assert_eq!(u64_at(24, 2), Err(Error::Misplaced));
    let sectors = disk().sectors();
    // First and last usable sector, then the array: outside the disk, in the header, in the way of each other.
    let bad = [(40, 0), (40, 1), (40, sectors), (48, sectors), (48, u64::MAX), (48, 33), (72, 0), (72, 1), (72, 34)];
    for (offset, value) in bad.into_iter().chain([(72, sectors - 1), (72, u64::MAX), (72, u64::MAX - 31)]) {
        assert_eq!(u64_at(offset, value), Err(Error::Bounds), "{offset} {value}");
    }
    assert_eq!(u32_at(88, 0), Err(Error::ArrayChecksum));
}

#[test]
fn a_damaged_copy_is_replaced_by_the_other() {
    for sector_bytes in [512, 4096] {
        let whole = Disk::new(sector_bytes, &[(40, 47)]);
        let table = whole.read().unwrap();
        assert_eq!((table.copy, table.sector_bytes), (Which::Primary, sector_bytes));
        for offset in [sector_bytes, sector_bytes + 60, 2 * sector_bytes + 3] {
            let mut disk = Disk { sector_bytes, image: whole.image.clone() };
            disk.image[offset] ^= 1;
            let other = disk.read().unwrap();
            assert_eq!(other, Table { copy: Which::Backup, ..table.clone() });
            let end = disk.image.len();
            disk.image[end - sector_bytes + 60] ^= 1;
            assert!(matches!(disk.read(), Err(Error::HeaderChecksum | Error::ArrayChecksum)));
        }
    }
}

#[test]
fn entries_that_do_not_fit_are_refused() {
    let sectors = Disk::new(512, &[]).sectors();
    for bad in [(33, 40), (0, 0), (50, 49), (40, sectors - 33), (40, u64::MAX), (u64::MAX, u64::MAX)] {
        assert_eq!(Disk::new(512, &[(48, 55), bad]).read(), Err(Error::EntryBounds { entry: 1 }));
    }
}

#[test]
fn entries_that_share_a_sector_are_refused() {
    for (a, b) in [((40, 47), (47, 50)), ((40, 100), (50, 60)), ((50, 60), (40, 100)), ((40, 47), (40, 47))] {
        assert!(matches!(Disk::new(512, &[a, (200, 207), b]).read(), Err(Error::Overlap { .. })));
    }
    assert!(Disk::new(512, &[(48, 55), (40, 47)]).read().is_ok());
}

#[test]
fn entries_of_one_guid_are_refused() {
    let mut disk = Disk::new(512, &[]);
    let mut array = array_of(&[(40, 47), (48, 55)]);
    put(&mut array, 128 + 16, &[1; 16]);
    disk.put(1024, &array);
    let disk = disk.with(88, &crc32(&array).to_le_bytes());
    assert_eq!(disk.read(), Err(Error::Duplicate { entry: 1 }));
}

#[test]
fn a_failing_or_silent_disk_is_reported() {
    let image = Disk::new(512, &[(40, 47)]).image;
    let mut disk = RamDisk::new(image, 4, 7);
    disk.bad_blocks.extend([0, 255]);
    assert_eq!(super::read(&mut disk, || false), Err(Error::Disk { block: 0, error: crate::Error::Io }));
    disk.credit = 0;
    assert_eq!(super::read(&mut disk, || false), Err(Error::Silent));
}

#[test]
fn partitions_are_given_in_blocks_where_they_are_aligned() {
    let table = Disk::new(512, &[(40, 47), (48, 1999), (2001, 2008), (1, 1)]).read();
    assert_eq!(table, Err(Error::EntryBounds { entry: 3 }));
    let table = Disk::new(512, &[(40, 47), (48, 1999), (2001, 2008)]).read().unwrap();
    let blocks: Vec<_> = table.entries.iter().map(|entry| entry.blocks.clone()).collect();
    assert_eq!(blocks, [Some(5..6), Some(6..250), None]);
    assert_eq!(table.entries[0].name.to_string(), "p0");
    assert_eq!(table.entries[1].kind, HAECHI_MEMBER);
    assert_eq!(table.entries[1].unique, Guid([2; 16]));
    let table = Disk::new(4096, &[(40, 47)]).read().unwrap();
    assert_eq!(table.entries[0].blocks, Some(40..48));
}

#[test]
fn guids_and_names_print_as_people_write_them() {
    assert_eq!(HAECHI_MEMBER.to_string(), "fe20907b-c4a0-42e6-aa46-77976e8f4fcc");
    // The EFI system partition's, whose bytes on disk are well known.
    let esp = Guid::new(0xc12a_7328, 0xf81f, 0x11d2, [0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
    assert_eq!(esp.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
    let mut name = Name([0; 36]);
    name.0[..4].copy_from_slice(&[0x1b, 0xd800, 0xd0c4, 0x41]);
    assert_eq!(name.to_string(), "\u{fffd}\u{fffd}\u{d0c4}A");
}

proptest! {
    /// Whatever is changed: an answer, without a panic, and never two partitions that share a block or leave the disk.
    #[test]
    fn any_change_gets_an_answer(
        partitions in prop::collection::vec((30u64..300, 0u64..60), 0..6),
        changes in prop::collection::vec((0usize..20000, any::<u8>()), 0..4),
        signed: bool,
    ) {
        let partitions: Vec<_> = partitions.into_iter().map(|(first, more)| (first, first + more)).collect();
        let mut disk = Disk::new(512, &partitions);
        for (offset, value) in changes {
            disk.image[offset] = value;
        }
        if signed {
            let crc = crc32(&disk.image[1024..1024 + 128 * 128]);
            disk = disk.with(88, &crc.to_le_bytes());
        }
        if let Ok(table) = disk.read() {
            for (index, entry) in table.entries.iter().enumerate() {
                prop_assert!(entry.sectors.start < entry.sectors.end && entry.sectors.end <= disk.sectors());
                for other in &table.entries[..index] {
                    prop_assert!(entry.sectors.end <= other.sectors.start || other.sectors.end <= entry.sectors.start);
                }
            }
        }
    }
}

/// The name that `array_of` gives, as a selector has it.
fn called(name: &str) -> Selector<'_> {
    Selector { kind: None, name: Some(name) }
}

const MEMBERS: Selector<'static> = Selector { kind: Some(HAECHI_MEMBER), name: None };

#[test]
fn a_partition_that_is_not_there_is_not_guessed() {
    let table = Disk::new(512, &[(40, 47), (48, 55)]).read().unwrap();
    assert_eq!(table.choose(&called("p2")), Err(Error::NoPartition));
    assert_eq!(table.choose(&called("p")), Err(Error::NoPartition));
    assert_eq!(table.choose(&called("p0 ")), Err(Error::NoPartition));
    assert_eq!(table.choose(&called("")), Err(Error::NoPartition));
    let other = Selector { kind: Some(Guid([7; 16])), name: Some("p0") };
    assert_eq!(table.choose(&other), Err(Error::NoPartition));
}

#[test]
fn of_two_partitions_that_fit_none_is_taken() {
    let table = Disk::new(512, &[(40, 47), (48, 55), (56, 63)]).read().unwrap();
    assert_eq!(table.choose(&MEMBERS), Err(Error::Ambiguous { entries: [0, 1] }));
}

#[test]
fn a_partition_without_whole_blocks_is_refused() {
    let table = Disk::new(512, &[(41, 48), (56, 62)]).read().unwrap();
    assert_eq!(table.choose(&called("p0")), Err(Error::Unaligned { entry: 0 }));
    assert_eq!(table.choose(&called("p1")), Err(Error::Unaligned { entry: 1 }));
}

#[test]
fn the_partition_that_fits_is_taken() {
    let table = Disk::new(512, &[(40, 47), (48, 63)]).read().unwrap();
    assert_eq!(table.choose(&called("p1")), Ok(6..8));
    assert_eq!(table.choose(&Selector { name: Some("p0"), ..MEMBERS }), Ok(5..6));
    let alone = Disk::new(4096, &[(20, 29)]).read().unwrap();
    assert_eq!(alone.choose(&MEMBERS), Ok(20..30));
}

#[test]
fn a_disk_is_opened_as_the_partition_that_is_named_or_as_a_whole() {
    let disk = Disk::new(512, &[(40, 47), (48, 63)]);
    let ram = |disk: &Disk| RamDisk::new(disk.image.clone(), 4, 7);
    assert_eq!(open(ram(&disk), Some(&called("p1")), || false).unwrap().blocks(), 2);
    assert_eq!(open(ram(&disk), None, || false).unwrap().blocks(), BLOCKS as u64);
    let damaged = disk.with(56, &[0; 16]).with(88, &[0; 4]);
    assert_eq!(open(ram(&damaged), Some(&called("p1")), || false).err(), Some(Error::ArrayChecksum));
    assert_eq!(open(RamDisk::new(Vec::new(), 4, 7), None, || false).err(), Some(Error::Empty));
}
