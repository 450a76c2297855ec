//! The two tables of "A member that fails, is missing, or comes back" in the format document, row by row, and what a member can miss
//! without being lost.

use std::{vec, vec::Vec};

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use crypto::Suite;

use super::{degraded::*, world::*};
use crate::{Command, Error, Event, FormatOptions, Layout, Operation, Options, Status, mount};

/// Three disks; a mirrored volume of three extents, and a striped one over all.
fn three_disks() -> World {
    let disks = (1..4).map(|seed| blank(DISK, seed)).collect();
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("mirror", Layout::Mirrored, 3000, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.create("striped", Layout::Striped(3), 96, Suite::Aes128Gcm), Status::Ok);
    for block in [0, 1030, 2050] {
        assert_eq!(world.write(MIRROR, block, filled(1).repeat(8)), Status::Ok);
    }
    assert_eq!(world.write(2, 0, filled(2).repeat(96)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    world
}

/// Where the copy of a block on `disk` lies: the block of the disk.
fn copy_on(world: &World, block: u64, disk: usize) -> u64 {
    (0..2).map(|copy| world.pool.locate(MIRROR, block, copy).unwrap()).find(|at| at.0 == disk).unwrap().1
}

/// `disk` alone holds `value` in `block`, and is not stale.
fn serves_alone(both: &[Vec<u8>], anchor: &RamAnchor, disk: usize, block: u64, value: u32) {
    let mut alone = mount_some(vec![both[disk].clone()], anchor.clone()).unwrap();
    assert_eq!(alone.read(MIRROR, block, 1), (Status::Ok, filled(value)), "disk {disk} alone");
}

#[test]
fn without_any_one_of_three_members_mirrors_are_whole_and_stripes_fail_block_by_block() {
    for missing in 0..3 {
        let (mut all, anchor) = images(three_disks());
        let away = all.remove(missing);
        let mut world = mount_some(all, anchor).unwrap();
        for block in [0, 1030, 2050] {
            assert_eq!(world.read(MIRROR, block, 8), (Status::Ok, filled(1).repeat(8)), "without {missing}");
            assert_eq!(world.write(MIRROR, block, filled(3)), Status::Ok);
        }
        for column in 0..3 {
            let expected = if column == missing { Status::IoError } else { Status::Ok };
            assert_eq!(world.read(2, column as u64 * 32, 32).0, expected, "column {column} without {missing}");
        }
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (mut all, anchor) = images(world);
        all.insert(missing, away);
        let mut world = mount_some(all, anchor).unwrap();
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
        assert_eq!(world.read(2, 0, 96), (Status::Ok, filled(2).repeat(96)));
        assert_eq!(world.read(MIRROR, 1030, 2), (Status::Ok, [filled(3), filled(1)].concat()));
    }
}

#[test]
fn without_both_metadata_members_a_pool_is_refused() {
    let (mut all, anchor) = images(three_disks());
    let third = all.remove(2);
    assert!(matches!(mount_some(vec![third], anchor), Err(Error::MembersMissing { .. })));
}

#[test]
fn what_only_a_damaged_leaf_of_an_extent_table_knows_is_an_error_and_mirrors_are_whole() {
    for member in [0, 1] {
        let world = two_disks();
        let geometry = world.pool.superblock().geometry(member).unwrap();
        let (lost, kept) = on_disk(&world, member);
        let (mut both, anchor) = images(world);
        for place in 0..2 {
            let block = geometry.tree_block(0, geometry.catalog_leaves, place) as usize;
            both[member][block * crate::BLOCK_BYTES + 9] ^= 1;
        }
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(1).repeat(8)));
        assert_eq!(world.write(MIRROR, 1, filled(4)), Status::Ok);
        assert_eq!(world.read(LINEAR, lost, 1).0, Status::IoError, "it is not known to be zeros");
        assert_eq!(world.read(LINEAR, kept, 1).0, Status::Ok);
    }
}

#[test]
fn no_flush_is_answered_before_the_loss_of_a_member_is_durable_and_anchored() {
    for (dead, steps) in [0, 1].into_iter().flat_map(|dead| (0..40).map(move |steps| (dead, steps))) {
        let mut world = two_disks();
        // The write is under way when its disk begins to fail.
        let write = world.post_write(MIRROR, 2, filled(9));
        world.step();
        kill(&mut world, dead);
        let flush = world.post(MIRROR, Operation::Flush);
        for _ in 0..steps {
            world.step();
        }
        let written = world.answer(MIRROR, write).is_some_and(|(status, _)| status == Status::Ok);
        let flushed = world.answer(MIRROR, flush).is_some_and(|(status, _)| status == Status::Ok) && written;
        let (both, anchor) = images(world);
        // Both are there again after the power cut; then one is gone for good, whichever it is.
        let mut world = mount_some(both.clone(), anchor.clone()).unwrap();
        let (status, found) = world.read(MIRROR, 2, 1);
        assert!(status == Status::Ok && (found == filled(9) || found == filled(1) && !flushed), "after {steps}");
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
        let value = u32::from_le_bytes(found[..4].try_into().unwrap());
        let (after, anchor_after) = images(world);
        serves_alone(&after, &anchor_after, 0, 2, value);
        serves_alone(&after, &anchor_after, 1, 2, value);
        // Or the one that failed is mounted alone at once.
        if flushed && let Ok(mut old) = mount_some(vec![both[dead].clone()], anchor) {
            assert_ne!(old.read(MIRROR, 2, 1), (Status::Ok, filled(1)), "disk {dead} after {steps} steps");
        }
    }
}

#[test]
fn under_bulk_a_disk_that_dropped_out_within_the_window_is_refused_alone() {
    for dead in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, dead);
        assert_eq!(world.write(MIRROR, 2, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let advances = world.pool.anchor().snapshot().counter;
        assert_eq!(world.write(MIRROR, 3, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        assert_eq!(world.pool.anchor().snapshot().counter, advances, "one advance for one loss");
        let (mut both, anchor) = images(world);
        let old = both.remove(dead);
        let refused = mount_some(vec![old], anchor.clone()).err();
        assert!(matches!(refused, Some(Error::RolledBack { .. } | Error::AnchorOlder { .. })), "{refused:?}");
        assert_eq!(mount_some(both, anchor).unwrap().read(MIRROR, 2, 2), (Status::Ok, filled(9).repeat(2)));
    }
}

#[test]
fn a_command_under_bulk_is_not_undone_by_the_disk_that_dropped_out_before_it() {
    let mut world = two_disks();
    kill(&mut world, 1);
    assert_eq!(world.create("late", Layout::Mirrored, 8, Suite::Aes128Gcm), Status::Ok);
    let (mut both, anchor) = images(world);
    let old = both.remove(1);
    assert!(mount_some(vec![old], anchor.clone()).is_err());
    assert_eq!(mount_some(both, anchor).unwrap().pool.volumes().count(), 3);
}

#[test]
fn a_copy_that_cannot_be_written_costs_its_block_and_no_more() {
    for missed in [0, 1] {
        let mut world = two_disks();
        let block = copy_on(&world, 3, missed);
        world.pool.member_mut(missed).bad_blocks.insert(block);
        assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (both, anchor) = images(world);
        // Either disk dies: what this one holds there is an error, and never old; all else is there.
        serves_alone(&both, &anchor, 1 - missed, 3, 7);
        let mut alone = mount_some(vec![both[missed].clone()], anchor.clone()).unwrap();
        assert_eq!(alone.read(MIRROR, 3, 1).0, Status::IoError);
        for other in [2, 4, 1030] {
            assert_eq!(alone.read(MIRROR, other, 1).0, Status::Ok);
        }
        // It can be written again: a scrub does it.
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.command(Command::Scrub), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (both, anchor) = images(world);
        serves_alone(&both, &anchor, missed, 3, 7);
    }
}

#[test]
fn a_flush_waits_until_a_copy_that_was_not_written_is_made_again() {
    for (missed, steps) in [0, 1].into_iter().flat_map(|missed| (0..16).map(move |steps| (missed, steps))) {
        let mut world = two_disks();
        let block = copy_on(&world, 3, missed);
        world.pool.member_mut(missed).bad_blocks.insert(block);
        let step = |world: &mut World| {
            (0..2).for_each(|disk| world.pool.member_mut(disk).credit = 1);
            world.step();
        };
        let written = world.post_write(MIRROR, 3, filled(7));
        while world.answer(MIRROR, written).is_none() {
            step(&mut world);
        }
        let flushed = world.post(MIRROR, Operation::Flush);
        (0..steps).for_each(|_| step(&mut world));
        world.pool.member_mut(missed).bad_blocks.clear();
        while world.answer(MIRROR, flushed).is_none() {
            step(&mut world);
        }
        let (both, anchor) = images(world);
        for disk in [missed, 1 - missed] {
            serves_alone(&both, &anchor, disk, 3, 7);
        }
    }
}

#[test]
fn a_write_that_fails_once_is_tried_again_and_nothing_is_marked() {
    let mut world = two_disks();
    let block = copy_on(&world, 3, 1);
    world.pool.member_mut(1).bad_answers.insert(block);
    let write = world.post_write(MIRROR, 3, filled(7));
    for _ in 0..100 {
        world.step();
        world.pool.member_mut(1).bad_answers.clear();
    }
    assert_eq!(world.answer(MIRROR, write).unwrap().0, Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
    assert_eq!(world.pool.superblock().stale, 0);
}

#[test]
fn data_that_only_the_missing_disk_got_is_found_when_it_is_back() {
    for away in [0, 1] {
        let mut world = two_disks();
        assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
        // The record is on both, the data on one: no flush came after it.
        let [first, second] = [0, 1].map(|disk| world.pool.member(disk).cut(|_| disk == away));
        let anchor = RamAnchor::with(world.pool.anchor().snapshot());
        let both = [first, second];
        let mut world = mount_some(vec![both[1 - away].clone()], anchor).unwrap();
        assert_eq!(world.read(MIRROR, 3, 1), (Status::Ok, filled(1)), "it was never flushed");
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (mut after, anchor) = images(world);
        after.insert(away, both[away].clone());
        let mut world = mount_some(after, anchor).unwrap();
        world.settle();
        assert!(world.events().contains(&Event::Resynced { member: away }));
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let (after, anchor) = images(world);
        serves_alone(&after, &anchor, away, 3, 1);
    }
}

#[test]
fn a_copy_that_cannot_be_repaired_costs_its_block_and_no_more() {
    let mut world = two_disks();
    assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
    let block = copy_on(&world, 3, 1);
    let [first, second] = [0, 1].map(|disk| world.pool.member(disk).cut(|_| disk == 1));
    let mut world = mount_some(vec![first], RamAnchor::with(world.pool.anchor().snapshot())).unwrap();
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let (mut after, anchor) = images(world);
    after.push(second);
    let mut disks: Vec<RamDisk> = after.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
    disks[1].bad_blocks.insert(block);
    let degraded = Options { degraded: true, ..options() };
    let mut world = World::with(mount(disks, anchor, &root(), random(), &degraded, || true).unwrap().0);
    world.settle();
    assert!(world.events().contains(&Event::Resynced { member: 1 }));
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    assert_eq!(world.pool.superblock().stale, 0);
    assert_eq!(world.read(MIRROR, 2, 3), (Status::Ok, filled(1).repeat(3)));
    let (mut after, anchor) = images(world);
    let mut alone = mount_some(after.split_off(1), anchor).unwrap();
    assert_eq!(alone.read(MIRROR, 3, 1).0, Status::IoError, "what it holds there is no answer");
    for block in [2, 4, 1030] {
        assert_eq!(alone.read(MIRROR, block, 1).0, Status::Ok, "everything else is there");
    }
}

#[test]
fn a_disk_that_never_answers_counts_as_missing_where_one_may_be() {
    for silent in [0, 1] {
        let (both, anchor) = images(two_disks());
        for degraded in [false, true] {
            let mut disks: Vec<RamDisk> = both.iter().map(|image| RamDisk::new(image.clone(), BUFFERS, 7)).collect();
            disks[silent].credit = 0;
            let mut patience = 0..1000;
            let options = Options { degraded, ..options() };
            let mounted = mount(disks, anchor.clone(), &root(), random(), &options, || patience.next().is_some());
            if !degraded {
                assert_eq!(mounted.err(), Some(Error::Silent));
                continue;
            }
            let mut world = World::with(mounted.unwrap().0);
            assert!(world.events().contains(&Event::MemberLost { member: silent }));
            assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(1).repeat(8)));
        }
    }
}

#[test]
fn a_discard_of_extents_of_which_one_cannot_be_seen_fails() {
    for missing in [0, 1] {
        let mut world = two_disks();
        assert_eq!(world.create("striped", Layout::Striped(2), 2048, Suite::Aes128Gcm), Status::Ok);
        assert_eq!(world.write(3, 0, filled(5).repeat(64)), Status::Ok);
        assert_eq!(world.run(3, Operation::Sync), Status::Ok);
        let (mut both, anchor) = images(world);
        let away = both.remove(missing);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.run(3, Operation::Zero { block: 0, blocks: 2048 }), Status::IoError);
        assert_eq!(world.run(3, Operation::Sync), Status::Ok);
        let (mut both, anchor) = images(world);
        both.insert(missing, away);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(3, missing as u64 * 32, 1), (Status::Ok, filled(5)), "what was not discarded is there");
    }
}

#[test]
fn what_was_discarded_without_a_checkpoint_while_a_disk_was_away_stays_discarded() {
    for away in [0, 1] {
        let (mut both, anchor) = images(two_disks());
        let old = both.remove(away);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.run(MIRROR, Operation::Zero { block: 0, blocks: 1024 }), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (mut both, anchor) = images(world);
        both.insert(away, old);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(0).repeat(8)), "disk {away} was away");
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
    }
}

#[test]
fn a_volume_that_is_being_deleted_holds_the_mark() {
    let mut world = two_disks();
    kill(&mut world, 1);
    assert_eq!(world.write(MIRROR, 2, filled(9)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let (mut world, _) = world.restart();
    world.pool.command(77, Command::Delete { volume: MIRROR }).unwrap();
    // Until the volume is gone, or is not, its copies are not equal.
    for _ in 0..200 {
        let there = world.pool.volumes().any(|volume| volume.number == MIRROR);
        assert!(!there || world.pool.superblock().stale == 2, "the mark goes after the volume");
        world.step();
    }
    world.settle();
    assert!(world.pool.volumes().all(|volume| volume.number != MIRROR));
    assert_eq!(world.run(LINEAR, Operation::Sync), Status::Ok);
    assert_eq!(world.pool.superblock().stale, 0);
}

#[test]
fn a_copy_that_finds_no_room_marks_nobody() {
    let disks = vec![blank(DISK, 1), blank(DISK, 2)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("mirror", Layout::Mirrored, 100, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.create("wide", Layout::Striped(2), 8192, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let (mut both, anchor) = images(world);
    let away = both.pop().unwrap();
    let mut world = mount_some(both, anchor).unwrap();
    assert_eq!(world.write(MIRROR, 0, filled(5)), Status::Ok, "one copy, while there is one disk");
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let (mut both, anchor) = images(world);
    both.push(away);
    let mut world = mount_some(both, anchor).unwrap();
    // All of the second disk is taken before the walk comes by.
    let extents = |world: &World| (0..4).filter(|set| world.pool.locate(2, set * 2048 + 32, 0).is_some()).count();
    for set in 0..4 {
        world.post_write(2, set * 2048 + 32, filled(6));
    }
    world.settle();
    assert!(extents(&world) >= 3);
    assert_eq!(world.read(MIRROR, 0, 1), (Status::Ok, filled(5)));
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    let made = world.pool.locate(MIRROR, 0, 1).is_some() && world.pool.locate(MIRROR, 0, 0).is_some();
    assert_eq!(world.pool.superblock().stale, if made { 0 } else { 2 }, "a copy that lacks keeps the old mark alone");
}

#[test]
fn a_linear_write_under_way_on_a_disk_that_fails_to_flush_stops_writes_and_loses_nothing() {
    for dead in [0, 1] {
        for credit in 0..30 {
            let mut world = two_disks();
            let (lost, _) = on_disk(&world, dead);
            let value = if lost == 0 { 1 } else { 2 };
            world.pool.member_mut(dead).credit = credit;
            world.post_write(LINEAR, lost, filled(7));
            world.post_write(MIRROR, 3, filled(7));
            world.post(MIRROR, Operation::Flush);
            for _ in 0..30 {
                world.step();
            }
            let disk = world.pool.member_mut(dead);
            (disk.bad_flush, disk.credit) = (true, usize::MAX);
            world.settle();
            let (both, anchor) = (
                vec![world.pool.member(0).cut(|_| true), world.pool.member(1).cut(|_| true)],
                RamAnchor::with(world.pool.anchor().snapshot()),
            );
            let mut world = mount_some(both, anchor).unwrap();
            let (status, found) = world.read(LINEAR, lost, 1);
            assert!(
                status == Status::Ok && (found == filled(7) || found == filled(value)),
                "disk {dead} after {credit} requests: {status:?}"
            );
        }
    }
}
