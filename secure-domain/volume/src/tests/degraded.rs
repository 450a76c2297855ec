//! A member that fails, is missing, or comes back: mirrors go on, nothing old is believed, and only what it alone holds is an error.

use std::{vec, vec::Vec};

use anchor::{Snapshot, ram::RamAnchor};
use block::ram::RamDisk;
use crypto::Suite;

use super::world::*;
use crate::{
    BLOCK_BYTES, Command, Error, Event, FormatOptions, Layout, Operation, Options, Status, mount,
    record::anchored::Anchored,
};

pub(super) const MIRROR: u32 = 1;
pub(super) const LINEAR: u32 = 2;

/// Two disks; a mirrored volume, and a linear one that lies on both: its extents 0 and 1 on different members.
pub(super) fn two_disks() -> World {
    two_disks_of([1, 2].map(|seed| blank(DISK, seed)), 64)
}

/// The same on these disks, with a log of `log_blocks` blocks.
pub(super) fn two_disks_of(disks: [RamDisk; 2], log_blocks: u64) -> World {
    let mut world = World::format(disks.into(), &FormatOptions { log_blocks: Some(log_blocks), torn_sectors: false });
    assert_eq!(world.create("mirror", Layout::Mirrored, 1500, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.create("linear", Layout::Linear, 4000, Suite::Aes128Gcm), Status::Ok);
    for volume in [MIRROR, LINEAR] {
        assert_eq!(world.write(volume, 0, filled(1).repeat(8)), Status::Ok);
        assert_eq!(world.write(volume, 1030, filled(2).repeat(8)), Status::Ok);
    }
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let [first, second] = [0, 1030].map(|block| world.pool.locate(LINEAR, block, 0).unwrap().0);
    assert_ne!(first, second, "the linear volume lies on both disks");
    world
}

/// The disk fails at everything from now on.
pub(super) fn kill(world: &mut World, disk: usize) {
    let member = world.pool.member_mut(disk);
    member.bad_blocks.extend(0..DISK);
    member.bad_flush = true;
}

/// What the disks hold after a power cut, and the anchor.
pub(super) fn images(world: World) -> (Vec<Vec<u8>>, RamAnchor) {
    world.cut(|_| false)
}

pub(super) fn mount_some(images: Vec<Vec<u8>>, anchor: RamAnchor) -> Result<World, Error> {
    let disks = images.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
    let degraded = Options { degraded: true, ..options() };
    mount(disks, anchor, &root(), random(), &degraded, || true).map(|(pool, _)| World::with(pool))
}

#[test]
fn a_missing_disk_that_the_log_needs_allows_reading_only() {
    for missing in [0, 1] {
        for operation in [Operation::Write { block: 0, blocks: 1 }, Operation::Zero { block: 0, blocks: 1024 }] {
            let mut world = two_disks();
            let (lost, kept) = on_disk(&world, missing);
            match operation {
                Operation::Write { .. } => assert_eq!(world.write(LINEAR, lost, filled(7)), Status::Ok),
                _ => {
                    let block = lost - lost % 1024;
                    assert_eq!(world.run(LINEAR, Operation::Zero { block, blocks: 1024 }), Status::Ok);
                }
            }
            assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
            assert_eq!(world.run(LINEAR, Operation::Flush), Status::Ok);
            let (mut both, anchor) = images(world);
            let away = both.remove(missing);
            let disks = || both.iter().map(|image| RamDisk::new(image.clone(), BUFFERS, 7)).collect();
            assert_eq!(mount_some(both.clone(), anchor.clone()).err(), Some(Error::MemberNeeded { member: missing }));
            let reading = Options { degraded: true, read_only: true, ..options() };
            let pool = mount(disks(), anchor.clone(), &root(), random(), &reading, || true).unwrap().0;
            let mut world = World::with(pool);
            assert_eq!(world.read(LINEAR, kept, 1).0, Status::Ok);
            assert_eq!(world.read(MIRROR, 3, 1), (Status::Ok, filled(7)));
            both.insert(missing, away);
            let mut world = mount_some(both, anchor).unwrap();
            let expected = if matches!(operation, Operation::Write { .. }) { 7 } else { 0 };
            assert_eq!(world.read(LINEAR, lost, 1), (Status::Ok, filled(expected)));
        }
    }
}

#[test]
fn a_mirror_that_was_written_last_can_be_mounted_without_either_disk() {
    for missing in [0, 1] {
        let mut world = two_disks();
        assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Zero { block: 1024, blocks: 476 }), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut both, anchor) = images(world);
        both.remove(missing);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 3, 1), (Status::Ok, filled(7)));
        assert_eq!(world.read(MIRROR, 1030, 1), (Status::Ok, filled(0)));
    }
}

/// The blocks of the linear volume that are on `disk`, and those that are not.
pub(super) fn on_disk(world: &World, disk: usize) -> (u64, u64) {
    if world.pool.locate(LINEAR, 0, 0).unwrap().0 == disk { (0, 1030) } else { (1030, 0) }
}

#[test]
fn a_missing_member_is_refused_unless_asked_for() {
    let (mut images, anchor) = images(two_disks());
    images.truncate(1);
    assert!(matches!(World::mount(images.clone(), anchor.clone()), Err(Error::MembersMissing { .. })));
    assert_eq!(mount_some(images, anchor).err(), None);
}

#[test]
fn mirrors_go_on_without_either_disk_and_the_rest_fails_block_by_block() {
    for dead in [0, 1] {
        let mut world = two_disks();
        let (lost, kept) = on_disk(&world, dead);
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 4, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        assert!(!world.pool.is_read_only());
        assert!(world.events().contains(&Event::MemberLost { member: dead }), "disk {dead}");
        let expected = [filled(1).repeat(4), filled(9), filled(1).repeat(3)].concat();
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, expected.clone()));
        assert_eq!(world.write(MIRROR, 1033, filled(8)), Status::Ok);
        assert_eq!(world.read(LINEAR, lost, 1).0, Status::IoError);
        assert_eq!(world.write(LINEAR, lost, filled(7)), Status::IoError);
        assert_eq!(world.write(LINEAR, kept, filled(7)), Status::Ok);
        assert_eq!(world.read(LINEAR, kept, 1), (Status::Ok, filled(7)));
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, expected));
    }
}

#[test]
fn a_disk_that_comes_back_is_not_believed_and_catches_up() {
    for dead in [0, 1] {
        let mut world = two_disks();
        let (lost, _) = on_disk(&world, dead);
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 2, filled(9).repeat(3)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Zero { block: 6, blocks: 1 }), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let expected = [filled(1).repeat(2), filled(9).repeat(3), filled(1), filled(0), filled(1)].concat();
        let (mut world, _) = world.restart();
        assert_eq!(world.pool.superblock().stale, 1 << dead);
        let early = world.post_read(MIRROR, 0, 8);
        world.settle();
        assert_eq!(world.answer(MIRROR, early).unwrap(), (Status::Ok, expected.clone()), "disk {dead}");
        assert!(world.events().contains(&Event::Resynced { member: dead }));
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
        assert_eq!(world.read(LINEAR, lost, 8).0, Status::Ok, "what only it held is there again");
        // Now the other one fails.
        kill(&mut world, 1 - dead);
        assert_eq!(world.write(MIRROR, 1400, filled(5)), Status::Ok);
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, expected), "disk {dead}");
    }
}

#[test]
fn an_old_copy_alone_is_an_error_and_no_answer() {
    for dead in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 2, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let other = 1 - dead;
        let (disk, block) =
            (0..2).map(|copy| world.pool.locate(MIRROR, 2, copy).unwrap()).find(|at| at.0 == other).unwrap();
        let (mut images, anchor) = images(world);
        images[disk][block as usize * BLOCK_BYTES] ^= 1;
        let mut world = mount_some(images, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 2, 1).0, Status::IoError);
        assert_eq!(world.read(MIRROR, 3, 1), (Status::Ok, filled(1)));
        assert_ne!(world.pool.superblock().stale, 0, "a block that could not be compared keeps the mark");
    }
}

#[test]
fn a_disk_that_was_away_alone_is_refused_as_rolled_back() {
    let mut world = two_disks();
    kill(&mut world, 1);
    assert_eq!(world.write(MIRROR, 2, filled(9)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let (mut images, anchor) = images(world);
    let old = images.remove(1);
    assert!(matches!(mount_some(vec![old], anchor.clone()), Err(Error::RolledBack { .. } | Error::AnchorOlder { .. })));
    assert_eq!(mount_some(images, anchor).err(), None);
}

#[test]
fn what_was_discarded_while_a_disk_was_away_stays_discarded() {
    for dead in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, dead);
        assert_eq!(world.run(MIRROR, Operation::Zero { block: 0, blocks: 1024 }), Status::Ok);
        assert_eq!(world.write(MIRROR, 5, filled(6)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        for _ in 0..2 {
            let (images, anchor) = images(world);
            world = mount_some(images, anchor).unwrap();
            let expected = [filled(0).repeat(5), filled(6), filled(0).repeat(2)].concat();
            assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, expected));
            assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        }
        assert_eq!(world.pool.superblock().stale, 0, "disk {dead}");
    }
}

#[test]
fn a_pool_is_served_without_a_disk_from_the_mount_on() {
    for missing in [0, 1] {
        let world = two_disks();
        let (lost, kept) = on_disk(&world, missing);
        let (mut both, anchor) = images(world);
        let away = both.remove(missing);
        let mut world = mount_some(both, anchor).unwrap();
        assert!(world.events().contains(&Event::MemberLost { member: missing }));
        assert_eq!(world.read(MIRROR, 1030, 8), (Status::Ok, filled(2).repeat(8)));
        assert_eq!(world.write(MIRROR, 1031, filled(3)), Status::Ok);
        assert_eq!(world.read(LINEAR, kept, 8).0, Status::Ok);
        assert_eq!(world.write(LINEAR, kept, filled(4)), Status::Ok);
        // Nobody can tell what was never written from what lies on the missing disk.
        for block in [lost, 2500] {
            assert_eq!(world.read(LINEAR, block, 1).0, Status::IoError);
            assert_eq!(world.write(LINEAR, block, filled(4)), Status::IoError);
        }
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (mut both, anchor) = images(world);
        both.insert(missing, away);
        let (mut world, _) = World::mount(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 1030, 2), (Status::Ok, [filled(2), filled(3)].concat()));
        world.settle();
        assert_eq!(world.read(LINEAR, lost, 8), (Status::Ok, filled(if lost == 0 { 1 } else { 2 }).repeat(8)));
        assert_eq!(world.read(LINEAR, 2500, 1), (Status::Ok, filled(0)));
        assert!(world.events().contains(&Event::Resynced { member: missing }));
    }
}

#[test]
fn a_copy_that_was_never_made_is_made_when_there_is_room_again() {
    let mut world = two_disks();
    assert_eq!(world.create("late", Layout::Mirrored, 500, Suite::Aes128Gcm), Status::Ok);
    kill(&mut world, 0);
    assert_eq!(world.write(MIRROR, 0, filled(9)), Status::Ok);
    assert_eq!(world.write(3, 7, filled(5).repeat(40)), Status::Ok);
    assert_eq!(world.run(3, Operation::Sync), Status::Ok);
    let (mut world, _) = world.restart();
    world.settle();
    assert_eq!(world.run(3, Operation::Sync), Status::Ok);
    assert_eq!(world.pool.superblock().stale, 0);
    kill(&mut world, 1);
    assert_eq!(world.write(3, 400, filled(5)), Status::Ok);
    assert_eq!(world.read(3, 7, 40), (Status::Ok, filled(5).repeat(40)));
}

#[test]
fn a_disk_whose_newest_entries_only_it_would_have_stops_writes_and_loses_nothing() {
    let mut world = two_disks();
    let (lost, _) = on_disk(&world, 1);
    assert_eq!(world.write(LINEAR, lost, filled(7)), Status::Ok);
    assert_eq!(world.run(LINEAR, Operation::Flush), Status::Ok);
    kill(&mut world, 1);
    assert_eq!(world.write(MIRROR, 4, filled(9)), Status::IoError);
    assert!(world.pool.is_read_only());
    let (mut world, _) = world.restart();
    assert_eq!(world.read(LINEAR, lost, 1), (Status::Ok, filled(7)));
}

#[test]
fn a_mirrored_block_whose_leaf_is_damaged_is_written_and_read_on_the_other_disk() {
    for member in [0, 1] {
        let world = two_disks();
        let geometry = world.pool.superblock().geometry(member).unwrap();
        let (disk, block) =
            (0..2).map(|copy| world.pool.locate(MIRROR, 0, copy).unwrap()).find(|at| at.0 == member).unwrap();
        let leaf = geometry.entry_leaf(block - geometry.data_start);
        let (mut images, anchor) = images(world);
        for place in 0..2 {
            let at = geometry.tree_block(0, leaf, place) as usize * BLOCK_BYTES;
            images[disk][at + 9] ^= 1;
        }
        let mut world = mount_some(images, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(1).repeat(8)));
        assert_eq!(world.write(MIRROR, 1, filled(4)), Status::Ok);
        assert_eq!(world.read(MIRROR, 0, 2), (Status::Ok, [filled(1), filled(4)].concat()));
        assert_eq!(world.write(MIRROR, 200, filled(4)), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 1 << member);
    }
}

#[test]
fn zeros_that_caught_up_need_no_disk_to_be_read() {
    for dead in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, dead);
        assert_eq!(world.run(MIRROR, Operation::Zero { block: 3, blocks: 2 }), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut world, _) = world.restart();
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
        let expected = [filled(1).repeat(3), filled(0).repeat(2), filled(1).repeat(3)].concat();
        for copy in 0..2 {
            let (disk, block) = world.pool.locate(MIRROR, 0, copy).unwrap();
            world.pool.member_mut(disk).bad_blocks.extend(block..block + 8);
            assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, expected.clone()), "disk {dead} was away");
            world.pool.member_mut(disk).bad_blocks.clear();
        }
    }
}

#[test]
fn a_blank_or_foreign_disk_in_the_place_of_a_member_counts_as_missing() {
    let (sound, anchor) = images(two_disks());
    let (foreign, _) = images(two_disks());
    for place in [0, 1] {
        for stranger in [vec![0; sound[0].len()], vec![0xa5; 3 * BLOCK_BYTES], foreign[place].clone()] {
            let mut given = sound.clone();
            given[place] = stranger.clone();
            assert!(World::mount(given.clone(), anchor.clone()).is_err(), "strictly, it is refused");
            let mut world = mount_some(given, anchor.clone()).unwrap();
            let events = world.events();
            assert!(
                events.contains(&Event::NoMember { disk: place })
                    && events.contains(&Event::MemberLost { member: place })
            );
            assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(1).repeat(8)));
            assert_eq!(world.write(MIRROR, 0, filled(6)), Status::Ok);
            assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
            // What is no member is not written to, and is given back where it was given.
            let (mut after, anchor) = images(world);
            assert!(after[place] == stranger);
            after[place] = sound[place].clone();
            let (mut world, _) = World::mount(after, anchor).unwrap();
            assert_eq!(world.read(MIRROR, 0, 2), (Status::Ok, [filled(6), filled(1)].concat()));
        }
    }
}

#[test]
fn an_older_image_of_a_member_is_never_the_answer() {
    for older in [0, 1] {
        let mut world = two_disks();
        let before = world.pool.member(older).cut(|_| true);
        assert_eq!(world.write(MIRROR, 0, filled(7).repeat(8)), Status::Ok);
        assert_eq!(world.write(LINEAR, on_disk(&world, older).0, filled(7)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (lost, _) = on_disk(&world, older);
        let (mut both, anchor) = images(world);
        both[older] = before;
        let mut world = mount_some(both, anchor).unwrap();
        for _ in 0..2 {
            assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(7).repeat(8)), "disk {older}");
            assert_eq!(world.read(LINEAR, lost, 1).0, Status::IoError);
            world.settle();
        }
        kill(&mut world, 1 - older);
        let (status, data) = world.read(MIRROR, 0, 8);
        assert!(status == Status::IoError || data == filled(7).repeat(8), "the old copy alone is no answer");
    }
}

#[test]
fn the_second_disk_that_fails_while_the_first_catches_up_stops_writes_and_loses_nothing() {
    for first in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, first);
        assert_eq!(world.write(MIRROR, 0, filled(9).repeat(8)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut world, _) = world.restart();
        // The walk has not begun: what this disk missed only the other one has.
        kill(&mut world, 1 - first);
        assert_eq!(world.write(MIRROR, 4, filled(5)), Status::IoError);
        assert!(world.pool.is_read_only());
        let (status, data) = world.read(MIRROR, 0, 1);
        assert!(status == Status::IoError || data == filled(9));
        let (mut world, _) = world.restart();
        assert_eq!(world.read(MIRROR, 0, 4), (Status::Ok, filled(9).repeat(4)));
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
    }
}

#[test]
fn two_members_that_went_their_own_ways_are_never_both_believed() {
    for first in [0, 1] {
        let (both, anchor) = images(two_disks());
        let mut world = mount_some(vec![both[first].clone()], anchor).unwrap();
        assert_eq!(world.write(MIRROR, 0, filled(8)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut after, anchor) = images(world);
        let other = both[1 - first].clone();
        assert!(matches!(mount_some(vec![other.clone()], anchor.clone()), Err(Error::RolledBack { .. })));
        after.insert(1 - first, other);
        let mut world = mount_some(after, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 0, 2), (Status::Ok, [filled(8), filled(1)].concat()));
    }
}

#[test]
fn a_log_that_goes_on_behind_the_base_of_a_mount_without_its_disk_ends_there() {
    let mut world = two_disks();
    world.pool.member_mut(1).credit = 0;
    let cookie = world.post_write(MIRROR, 0, filled(9));
    for _ in 0..20 {
        world.step();
    }
    assert!(world.answer(MIRROR, cookie).is_none(), "the record is on one disk only");
    let (both, anchor) = world.cut(|_| true);
    // A mount without the first disk is cut off behind its first advance of the anchor.
    let alone = mount_some(vec![both[1].clone()], anchor.clone()).unwrap();
    let snapshot = alone.pool.anchor().snapshot();
    let mut held = Anchored::parse(&snapshot.record).unwrap();
    held.head = held.base;
    let anchor = RamAnchor::with(Snapshot { counter: snapshot.counter, record: held.encode() });
    let mut world = mount_some(both, anchor).unwrap();
    assert_eq!(world.read(MIRROR, 0, 1), (Status::Ok, filled(1)), "what was given up does not come back");
    assert_eq!(world.write(MIRROR, 0, filled(3)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    assert_eq!(world.read(MIRROR, 0, 1), (Status::Ok, filled(3)));
}

#[test]
fn a_write_that_passes_a_copy_by_while_its_disk_catches_up_keeps_the_mark() {
    for dead in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 1400, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        let geometry = world.pool.superblock().geometry(dead).unwrap();
        let at = (0..2).map(|copy| world.pool.locate(MIRROR, 200, copy).unwrap()).find(|at| at.0 == dead).unwrap();
        let leaf = geometry.entry_leaf(at.1 - geometry.data_start);
        let places = [0, 1].map(|place| geometry.tree_block(0, leaf, place));
        // Its leaf cannot be read for a moment, and in that moment the block is written.
        world.pool.member_mut(dead).bad_blocks.extend(places);
        assert_eq!(world.write(MIRROR, 200, filled(4)), Status::Ok);
        world.pool.member_mut(dead).bad_blocks.clear();
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.read(MIRROR, 200, 1), (Status::Ok, filled(4)), "disk {dead}");
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 200, 1), (Status::Ok, filled(4)), "disk {dead}");
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
    }
}

#[test]
fn a_mirrored_extent_of_which_the_log_kept_one_copy_gets_the_other() {
    let mut world = two_disks();
    assert_eq!(world.create("new", Layout::Mirrored, 100, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.write(LINEAR, 0, filled(1).repeat(125)), Status::Ok);
    assert_eq!(world.run(LINEAR, Operation::Sync), Status::Ok);
    // 125 statements, then the assignments of both copies: they lie in two records.
    world.post(LINEAR, Operation::Zero { block: 0, blocks: 125 });
    assert_eq!(world.write(3, 0, filled(5)), Status::Ok);
    let (mut both, anchor) = images(world);
    let record = |image: &[u8], block: usize| {
        let bytes = &image[block * BLOCK_BYTES..][..BLOCK_BYTES];
        (bytes.starts_with(b"SVLG") && bytes[4] == 126).then(|| u64::from_le_bytes(bytes[8..16].try_into().unwrap()))
    };
    let full = (8..72).filter_map(|block| Some((record(&both[0], block)?, block))).max().unwrap().1;
    for image in &mut both {
        image[(full + 1) * BLOCK_BYTES..][..BLOCK_BYTES].fill(0);
    }
    let mut world = mount_some(both, anchor).unwrap();
    assert!(world.pool.locate(3, 0, 0).is_some() && world.pool.locate(3, 0, 1).is_none(), "the scene is set");
    assert_eq!(world.write(3, 1, filled(6)), Status::Ok);
    world.settle();
    assert!(world.pool.locate(3, 0, 1).is_some());
    assert_eq!(world.run(3, Operation::Sync), Status::Ok);
    assert_eq!(world.pool.superblock().stale, 0);
    for dead in [0, 1] {
        let (both, anchor) = (world.pool.member(0).cut(|_| true), world.pool.member(1).cut(|_| true));
        let snapshot = RamAnchor::with(world.pool.anchor().snapshot());
        let alone = if dead == 0 { anchor } else { both };
        let mut alone = mount_some(vec![alone], snapshot).unwrap();
        assert_eq!(alone.read(3, 0, 2), (Status::Ok, [filled(0), filled(6)].concat()), "without disk {dead}");
    }
}

#[test]
fn a_disk_that_fails_to_be_written_during_the_mount_is_given_up() {
    for dying in [0, 1] {
        let (both, anchor) = images(two_disks());
        let mut disks: Vec<RamDisk> = both.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
        disks[dying].bad_flush = true;
        let options = Options { degraded: true, ..options() };
        let pool = mount(disks, anchor, &root(), random(), &options, || true).unwrap().0;
        let mut world = World::with(pool);
        assert!(world.events().contains(&Event::MemberLost { member: dying }));
        assert_eq!(world.write(MIRROR, 0, filled(3)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut world, _) = world.restart();
        assert_eq!(world.read(MIRROR, 0, 2), (Status::Ok, [filled(3), filled(1)].concat()));
    }
}

#[test]
fn a_disk_that_is_lost_while_a_superblock_is_on_its_way_keeps_the_tree_that_it_has() {
    for credit in 0..60 {
        let mut world = two_disks();
        assert_eq!(world.write(MIRROR, 0, filled(9).repeat(8)), Status::Ok);
        let disk = world.pool.member_mut(1);
        disk.bad_blocks.extend(0..8);
        disk.credit = credit;
        let sync = world.post(MIRROR, Operation::Sync);
        for _ in 0..30 {
            world.step();
        }
        let disk = world.pool.member_mut(1);
        (disk.bad_flush, disk.credit) = (true, usize::MAX);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        assert_eq!(world.answer(MIRROR, sync).unwrap().0, Status::Ok);
        let (mut world, _) = world.restart();
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(9).repeat(8)), "after {credit} requests");
        world.settle();
        kill(&mut world, 0);
        let (status, data) = world.read(MIRROR, 0, 8);
        assert!(status == Status::IoError || data == filled(9).repeat(8), "after {credit} requests");
    }
}

#[test]
fn where_no_member_may_miss_anything_what_one_would_miss_fails() {
    for dead in [0, 1] {
        let (both, anchor) = images(two_disks());
        let (mut world, _) = World::mount(both, anchor).unwrap();
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 4, filled(9)), Status::IoError);
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(1).repeat(8)));
        assert_eq!(world.pool.superblock().stale, 0);
    }
}

#[test]
fn an_old_copy_is_not_sealed_anew_as_the_newest() {
    for older in [0, 1] {
        let (both, anchor) = images(two_disks());
        let mut world = mount_some(both, anchor).unwrap();
        let geometry = world.pool.superblock().geometry(older).unwrap();
        let at = (0..2).map(|copy| world.pool.locate(MIRROR, 0, copy).unwrap()).find(|at| at.0 == older).unwrap();
        let leaf = geometry.entry_leaf(at.1 - geometry.data_start);
        let places = [0, 1].map(|place| geometry.tree_block(0, leaf, place));
        // Its leaf cannot be read for a moment, and in that moment a block is written; then a new key is made.
        world.pool.member_mut(older).bad_blocks.extend(places);
        assert_eq!(world.write(MIRROR, 3, filled(4)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        world.pool.member_mut(older).bad_blocks.clear();
        assert_eq!(world.command(Command::Rekey { volume: MIRROR, suite: Suite::Aria128Gcm }), Status::Ok);
        for _ in 0..50 {
            world.now_ms += 1500;
            world.settle();
        }
        assert_eq!(world.read(MIRROR, 2, 3), (Status::Ok, [filled(1), filled(4), filled(1)].concat()), "disk {older}");
        assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
    }
}

#[test]
fn extents_given_back_together_are_not_taken_for_twins() {
    for missing in [0, 1] {
        let mut world = two_disks();
        let (lost, _) = on_disk(&world, missing);
        assert_eq!(world.run(LINEAR, Operation::Zero { block: 0, blocks: 2048 }), Status::Ok);
        assert_eq!(world.run(LINEAR, Operation::Flush), Status::Ok);
        let (mut both, anchor) = images(world);
        let away = both.remove(missing);
        assert_eq!(mount_some(both.clone(), anchor.clone()).err(), Some(Error::MemberNeeded { member: missing }));
        both.insert(missing, away);
        assert_eq!(mount_some(both, anchor).unwrap().read(LINEAR, lost, 1), (Status::Ok, filled(0)));
    }
}
