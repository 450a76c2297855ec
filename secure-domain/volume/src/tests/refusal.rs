//! What is refused, and that refusing costs nothing else.

use std::{vec, vec::Vec};

use block::{BlockDevice, ram::RamDisk};
use crypto::Suite;
use keystore::RootKey;

use super::{audit, world::*};
use crate::{
    BLOCK_BYTES, Error, Event, Geometry,
    mount::{Options, mount},
};

const SUITE: Suite = Suite::Aes128Gcm;

/// Mounting `image` fails with this error and writes nothing.
fn refusal(image: Vec<u8>) -> Error {
    let disk = RamDisk::new(image.clone(), 8, 1);
    let error = match mounted(disk, 4) {
        Ok(_) => panic!("mounted"),
        Err(error) => error,
    };
    let text = std::format!("{error}");
    assert!(!text.is_empty());
    error
}

fn changed(image: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut image = image.to_vec();
    change(&mut image);
    image
}

#[test]
fn foreign_damaged_and_newer_disks_are_refused_by_name() {
    let image = sealed(vec![], 10, SUITE);
    let b = BLOCK_BYTES;
    assert_eq!(refusal(vec![0; 64 * b]), Error::NotHaechi);
    assert_eq!(refusal(vec![0; b]), Error::TooSmall { have: 1, need: 2 });
    let cut = Geometry::for_data(10).unwrap().disk_blocks() as usize - 1;
    assert_eq!(refusal(image[..cut * b].to_vec()), Error::TooSmall { have: cut as u64, need: cut as u64 + 1 });
    let both = |offset: usize, value: u8| {
        changed(&image, |image| {
            image[offset] = value;
            image[b + offset] = value;
        })
    };
    assert_eq!(refusal(both(0, b'X')), Error::NotHaechi);
    assert_eq!(refusal(both(8, 7)), Error::Version { block: 0, major: 7, minor: 1 });
    assert_eq!(refusal(both(12, 4)), Error::Features { block: 0, flags: 4 });
    assert_eq!(refusal(both(17, 9)), Error::Suite { block: 0, suite: 0x0905 });
    assert_eq!(refusal(both(48, 0)), Error::Mac { block: 0 });
    assert_eq!(refusal(both(32, 3)), Error::Layout { block: 0 });
    assert_eq!(refusal(both(4095, image[4095] ^ 1)), Error::Mac { block: 0 });
    // A newer superblock beside one of ours is no damage.
    assert_eq!(refusal(changed(&image, |image| image[b + 8] = 1)), Error::Version { block: 1, major: 1, minor: 1 });
}

#[test]
fn the_disk_of_another_device_is_refused() {
    let image = sealed(vec![], 10, SUITE);
    let disk = RamDisk::new(image, 8, 1);
    let other = RootKey::from_huk(&[1; 32]);
    let error = mount(disk, &other, Options::default(), || true).err();
    assert_eq!(error, Some(Error::Mac { block: 0 }));
}

#[test]
fn a_silent_disk_is_given_up_when_the_caller_says_so() {
    let mut disk = RamDisk::new(sealed(vec![], 10, SUITE), 8, 1);
    disk.credit = 0;
    let mut patience = 3;
    let error = mount(disk, &root(), Options::default(), || {
        patience -= 1;
        patience > 0
    });
    assert_eq!(error.err(), Some(Error::DiskSilent { block: 0 }));
}

#[test]
fn a_refused_disk_is_not_written_to() {
    // The borrowed disk shows what was done to it.
    struct Watched(RamDisk);
    impl BlockDevice for Watched {
        fn blocks(&self) -> u64 {
            self.0.blocks()
        }
        fn room(&self) -> usize {
            self.0.room()
        }
        fn allocate(&mut self, blocks: usize) -> Option<block::Buffer> {
            self.0.allocate(blocks)
        }
        fn release(&mut self, buffer: block::Buffer) {
            self.0.release(buffer);
        }
        fn bytes(&mut self, buffer: &block::Buffer) -> &mut [u8] {
            self.0.bytes(buffer)
        }
        fn read(&mut self, tag: u32, block: u64, buffer: block::Buffer) -> Result<(), block::Refused> {
            self.0.read(tag, block, buffer)
        }
        fn write(&mut self, _: u32, _: u64, _: block::Buffer) -> Result<(), block::Refused> {
            panic!("a refused disk is written to")
        }
        fn flush(&mut self, tag: u32) -> Result<(), block::Refused> {
            self.0.flush(tag)
        }
        fn kick(&mut self) {}
        fn acknowledge(&mut self) {}
        fn poll(&mut self) -> Option<block::Completion> {
            self.0.poll()
        }
    }
    let image = sealed(vec![], 10, SUITE);
    let small = image[..image.len() - BLOCK_BYTES].to_vec();
    let damaged = changed(&image, |image| {
        image[50] ^= 1;
        image[BLOCK_BYTES + 50] ^= 1;
    });
    for image in [vec![0; 64 * BLOCK_BYTES], small, damaged] {
        let disk = Watched(RamDisk::new(image, 8, 1));
        assert!(mount(disk, &root(), Options::default(), || true).is_err());
    }
}

#[test]
fn one_damaged_superblock_is_reported_and_survived() {
    let image = sealed(filled(7), 10, SUITE);
    for place in [0, 1] {
        let image = changed(&image, |image| image[place * BLOCK_BYTES + 100] ^= 1);
        let mut world = World::new(image, 8, 4, 1);
        assert_eq!(world.events(), [Event::SuperblockDamaged { block: place as u64 }]);
        assert_eq!(world.read(0, 1), (OK, filled(7)));
    }
}

#[test]
fn a_superblock_that_cannot_be_read_counts_as_damaged() {
    // The older one fails: what a mount has to write cannot be written.
    let mut disk = RamDisk::new(sealed(filled(7), 10, SUITE), 8, 1);
    disk.bad_blocks.insert(1);
    assert!(matches!(mounted(disk, 4), Err(Error::Disk { block: 1, .. })));
    // Both fail: the disk is named, not the format.
    let mut disk = RamDisk::new(sealed(filled(7), 10, SUITE), 8, 1);
    disk.bad_blocks.extend([0, 1]);
    assert!(matches!(mounted(disk, 4), Err(Error::Disk { block: 0, .. })));
}

#[test]
fn a_flipped_bit_costs_its_block_alone() {
    let plain: Vec<u8> = (1..=200).flat_map(filled).collect();
    let image = sealed(plain, 200, SUITE);
    let geometry = Geometry::for_data(200).unwrap();
    let data = |block: u64| (geometry.data_start + block) as usize * BLOCK_BYTES;
    let entry = |block: u64| geometry.table_start as usize * BLOCK_BYTES + block as usize * 32;
    let flips = [data(17), data(17) + 4095, entry(17), entry(17) + 8, entry(17) + 24, entry(17) + 31];
    for at in flips {
        audit::clear();
        let mut world = World::new(changed(&image, |image| image[at] ^= 1), 8, 4, at as u64);
        assert_eq!(world.read(17, 1).0, IO_ERROR);
        let event = world.events();
        assert!(matches!(event[..], [Event::TagMismatch { block: 17 } | Event::EntryDamaged { block: 17 }]));
        assert_eq!(world.read(0, 40).0, IO_ERROR);
        assert_eq!(world.read(0, 17), (OK, (1..=17).flat_map(filled).collect()));
        assert_eq!(world.read(18, 100), (OK, (19..=118).flat_map(filled).collect()));
        // A new write heals it.
        assert_eq!(world.write(17, &filled(99)), OK);
        assert_eq!(world.read(17, 1), (OK, filled(99)));
    }
}

#[test]
fn no_byte_of_an_unverified_block_reaches_the_guest() {
    let image = sealed(filled(0x5ec2e7), 10, SUITE);
    let at = Geometry::for_data(10).unwrap().data_start as usize * BLOCK_BYTES;
    let mut world = World::new(changed(&image, |image| image[at + 9] ^= 1), 8, 4, 1);
    let before = world.ram.get(virtio::model::Ram::BASE, 12 << 20);
    let secret = 0x5ec2e7u32.to_le_bytes().repeat(4);
    assert_eq!(world.read(0, 1).0, IO_ERROR);
    let after = world.ram.get(virtio::model::Ram::BASE, 12 << 20);
    assert!(before.len() == after.len() && !after.windows(16).any(|window| window == secret));
}

#[test]
fn swapped_blocks_are_noticed_even_with_their_entries() {
    let image = sealed((1..=4).flat_map(filled).collect(), 10, SUITE);
    let geometry = Geometry::for_data(10).unwrap();
    let (data, table) = (geometry.data_start as usize * BLOCK_BYTES, geometry.table_start as usize * BLOCK_BYTES);
    let image = changed(&image, |image| {
        for byte in 0..BLOCK_BYTES {
            image.swap(data + byte, data + BLOCK_BYTES + byte);
        }
        for byte in 0..32 {
            image.swap(table + byte, table + 32 + byte);
        }
    });
    let mut world = World::new(image, 8, 4, 1);
    assert_eq!(world.read(0, 1).0, IO_ERROR);
    assert_eq!(world.read(1, 1).0, IO_ERROR);
    assert_eq!(world.read(2, 2).0, OK);
}

#[test]
fn a_failing_disk_fails_requests_and_nothing_hangs() {
    let image = sealed((1..=300).flat_map(filled).collect(), 300, SUITE);
    let geometry = Geometry::for_data(300).unwrap();
    let mut world = World::new(image, 8, 1, 3);
    let table = geometry.table_start;
    world.disk().bad_blocks.extend([geometry.data_start + 5, table + 2]);
    assert_eq!(world.read(0, 10).0, IO_ERROR);
    assert_eq!(world.read(256, 1).0, IO_ERROR);
    assert_eq!(world.write(5, &filled(1)), IO_ERROR);
    assert_eq!(world.events().len(), 3);
    // The only cache slot is dirty and cannot be stored: who needs another fails, after a while all is well again.
    assert_eq!(world.write(6, &filled(66)), OK);
    world.disk().bad_blocks.insert(table);
    assert_eq!(world.read(130, 1).0, IO_ERROR);
    assert_eq!(world.flush(), IO_ERROR);
    world.disk().bad_blocks.clear();
    world.disk().bad_flush = true;
    assert_eq!(world.flush(), IO_ERROR);
    world.disk().bad_flush = false;
    assert_eq!(world.flush(), OK);
    assert_eq!(world.read(130, 1), (OK, filled(131)));
    assert_eq!(world.read(6, 1), (OK, filled(66)));
}

#[test]
fn without_reserved_versions_nothing_is_sealed() {
    let image = sealed(vec![], 300, SUITE);
    let mut world = World::new(image, 8, 4, 3);
    world.disk().bad_blocks.extend([0, 1]);
    let mut results: Vec<u8> = Vec::new();
    for block in 0..200 {
        results.push(world.write(block, &filled(block as u32 + 1)));
    }
    assert!(results[..128].iter().all(|&status| status == OK));
    assert!(results.contains(&IO_ERROR));
    world.disk().bad_blocks.clear();
    assert_eq!(world.flush(), OK);
    for block in 0..200 {
        assert_eq!(world.write(block, &filled(7)), OK, "block {block}");
    }
}
