//! What is refused, and that a refused disk is not written to.

use std::{vec, vec::Vec};

use anchor::{MonotonicStore, Record, ram::RamAnchor};
use crypto::Suite;

use super::world::*;
use crate::{BLOCK_BYTES, Error, Operation, Status};

fn state(world: &World) -> (Vec<u8>, RamAnchor) {
    let anchor = RamAnchor::with(world.pool.anchor().snapshot());
    (world.pool.member(0).cut(|_| true), anchor)
}

fn refused(image: Vec<u8>, anchor: RamAnchor) -> Error {
    match World::mount(vec![image], anchor) {
        Ok(_) => panic!("this must be refused"),
        Err(error) => error,
    }
}

#[test]
fn foreign_disks_are_refused() {
    let (image, anchor) = state(&World::small(100, Suite::Aes128Gcm));
    assert_eq!(refused(vec![0; 4096 * 5000], anchor.clone()), Error::NotHaechi { member: 0 });
    let mut old = vec![0; 4096 * 5000];
    old[..12].copy_from_slice(b"HAECHISV\0\0\x01\0");
    assert_eq!(refused(old, anchor.clone()), Error::Version { member: 0, major: 0, minor: 1 });
    let end = image.len() - 1200 * BLOCK_BYTES;
    assert!(matches!(refused(image[..end].to_vec(), anchor.clone()), Error::TooSmall { .. }));
    assert_eq!(refused(image.clone(), RamAnchor::new()), Error::AnchorForeign);
    let (_, other) = state(&World::small(100, Suite::Aes128Gcm));
    assert_eq!(refused(image.clone(), other), Error::AnchorForeign);
    let mut strange = RamAnchor::new();
    strange.start(0, &Record::new(b"something else").unwrap()).unwrap();
    strange.poll().unwrap().unwrap();
    assert_eq!(refused(image, strange), Error::AnchorRecord);
}

#[test]
fn a_disk_that_is_put_back_is_refused() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let (old_disk, old_anchor) = state(&world);
    assert_eq!(world.write(1, 0, filled(2)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let (disk, anchor) = state(&world);
    // Old disk, new anchor: the same incarnation, but not as far.
    assert!(matches!(refused(old_disk.clone(), anchor.clone()), Error::RolledBack { .. }));
    let (world, _) = World::mount(vec![disk.clone()], anchor.clone()).unwrap();
    let (newer_disk, newer_anchor) = state(&world);
    // One incarnation later the disk before the mount is refused as well, since the mount anchored what it had found.
    assert!(matches!(refused(disk, newer_anchor.clone()), Error::RolledBack { .. }));
    assert!(matches!(refused(old_disk, newer_anchor), Error::RolledBack { .. }));
    // New disk, old anchor.
    assert!(matches!(refused(newer_disk, old_anchor), Error::AnchorOlder { .. }));
}

#[test]
fn a_branch_of_history_never_comes_back() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let (fork, anchor) = state(&world);
    // The window of the bulk policy: what follows is not anchored.
    assert_eq!(world.write(1, 0, filled(2)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (ahead, same_anchor) = state(&world);
    assert_eq!(anchor.snapshot(), same_anchor.snapshot());
    // The owner's device starts from the older disk (allowed within the window), and goes its own way.
    let (mut world, _) = World::mount(vec![fork], anchor).unwrap();
    assert_eq!(world.read(1, 0, 1), (Status::Ok, filled(0)));
    let (_, now) = state(&world);
    assert!(matches!(refused(ahead, now), Error::RolledBack { .. }));
}

#[test]
fn a_log_that_was_cut_off_or_changed_is_refused() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    world.now_ms = 5000;
    world.settle();
    assert_eq!(world.pool.anchor().snapshot().counter, world.pool.anchor().advances as u64);
    let (image, anchor) = state(&world);
    let position = world.pool.superblock().log_position as usize;
    for record in 0..2 {
        let mut changed = image.clone();
        changed[(8 + position + record) * BLOCK_BYTES + 40] ^= 1;
        assert!(matches!(refused(changed, anchor.clone()), Error::RolledBack { .. }));
    }
    assert!(World::mount(vec![image], anchor).is_ok());
}

#[test]
fn changed_blocks_are_refused_wherever_they_lie() {
    let mut world = World::small(3000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1).repeat(300)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let (image, anchor) = state(&world);
    let geometry = world.pool.superblock().geometry(0).unwrap();
    let mut changed_something = 0;
    for block in 72..geometry.data_start as usize {
        let mut changed = image.clone();
        changed[block * BLOCK_BYTES + 17] ^= 4;
        match World::mount(vec![changed], anchor.clone()) {
            Err(error) => {
                assert!(matches!(error, Error::TreeMac { .. }), "block {block}: {error}");
                changed_something += 1;
            }
            Ok((mut world, _)) => {
                // A leaf that the mount could do without: its blocks fail, the others are served. Without the leaf of the extent
                // table nobody knows whose the blocks are, so none is.
                let reads = (0..300).map(|at| world.read(1, at, 1));
                let failed = reads.filter(|read| read.0 != Status::Ok || read.1 != filled(1)).count();
                assert!(failed <= 128 || failed == 300, "block {block}: {failed}");
                assert!((0..3000).all(|at| world.read(1, at, 1).0 == Status::IoError) || failed < 300, "block {block}");
                changed_something += usize::from(failed != 0);
            }
        }
    }
    assert!(changed_something >= 5);
    let mut changed = image;
    changed[(geometry.data_start as usize + 5) * BLOCK_BYTES] ^= 1;
    let (mut world, _) = World::mount(vec![changed], anchor).unwrap();
    assert_eq!(world.read(1, 5, 1).0, Status::IoError);
    assert_eq!(world.read(1, 6, 1), (Status::Ok, filled(1)));
}

/// The image as version 1.0 wrote it. 1.1 only gave a meaning to zeros: what is stale, and the feature bit that says so.
fn as_version_1_0(mut image: Vec<u8>) -> Vec<u8> {
    for block in image.chunks_exact_mut(BLOCK_BYTES).take(8).filter(|block| block.starts_with(b"HAECHISV")) {
        assert!(block[10] == 1 && block[32..40] == [0; 8] && block[212..256] == [0; 44]);
        block[10] = 0;
        let keys = root().pool_keys(block[40..56].try_into().unwrap()).unwrap();
        let mac = keys.superblock().mac(&[&block[..BLOCK_BYTES - 32]]).unwrap();
        block[BLOCK_BYTES - 32..].copy_from_slice(&mac);
    }
    image
}

#[test]
fn an_image_of_version_1_0_is_served_and_becomes_one_of_today() {
    let mut world = World::small(100, Suite::Aria256Gcm);
    assert_eq!(world.write(1, 3, filled(5)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (image, anchor) = state(&world);
    let (mut world, _) = World::mount(vec![as_version_1_0(image)], anchor).unwrap();
    assert_eq!(world.read(1, 3, 1), (Status::Ok, filled(5)));
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let newest = world.pool.superblock().sequence % 8;
    assert_eq!(world.pool.member(0).image()[newest as usize * BLOCK_BYTES + 10], 1);
}

#[test]
fn a_stale_member_without_its_feature_bit_is_refused() {
    let (mut image, anchor) = state(&World::small(100, Suite::Aes128Gcm));
    for block in image.chunks_exact_mut(BLOCK_BYTES).take(8).filter(|block| block.starts_with(b"HAECHISV")) {
        block[212] = 1;
        let keys = root().pool_keys(block[40..56].try_into().unwrap()).unwrap();
        let mac = keys.superblock().mac(&[&block[..BLOCK_BYTES - 32]]).unwrap();
        block[BLOCK_BYTES - 32..].copy_from_slice(&mac);
    }
    assert_eq!(refused(image, anchor), Error::SuperblockLayout { member: 0 });
}
