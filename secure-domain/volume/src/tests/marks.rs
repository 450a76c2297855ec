//! Marks: the superblock says that a member may be old, in time and for as long as it is, and for no more than that.

use std::vec;

use block::ram::RamDisk;
use crypto::Suite;

use super::{degraded::*, world::*};
use crate::{BLOCK_BYTES, Event, FormatOptions, Layout, Operation, Status};

/// Serves for a while, with so many completions of each disk at each step.
fn turn(world: &mut World, steps: usize, credit: usize) {
    for _ in 0..steps {
        for disk in 0..2 {
            world.pool.member_mut(disk).credit = credit;
        }
        world.now_ms += 1;
        world.step();
    }
}

/// A disk with memory for groups of many records.
fn roomy(seed: u64) -> RamDisk {
    RamDisk::new(vec![0; DISK as usize * BLOCK_BYTES], 2000, seed)
}

/// Where the copy of a mirrored block on `disk` lies.
fn copy_on(world: &World, disk: usize, block: u64) -> u64 {
    (0..2).map(|copy| world.pool.locate(MIRROR, block, copy).unwrap()).find(|at| at.0 == disk).unwrap().1
}

#[test]
fn a_mark_is_not_cleared_by_a_checkpoint_that_began_before_all_was_equal() {
    for old in [0, 1] {
        let new = 1 - old;
        let mut world = two_disks();
        kill(&mut world, old);
        assert_eq!(world.write(MIRROR, 2, filled(9)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        // A checkpoint begins before the walk. The old disk is flushed for it, the other one not yet.
        let geometry = world.pool.superblock().geometry(new).unwrap();
        world.pool.member_mut(new).held_blocks.extend(72..geometry.data_start);
        world.post_write(MIRROR, 1030, filled(3));
        world.post(MIRROR, Operation::Sync);
        (0..50).for_each(|_| drop(world.step()));
        world.pool.member_mut(new).held_flushes = 1;
        world.pool.member_mut(new).held_blocks.clear();
        (0..50).for_each(|_| drop(world.step()));
        // The walk goes through all of it, and ends.
        for _ in 0..500 {
            world.now_ms += 1;
            world.step();
        }
        let events = world.events();
        assert!(events.contains(&Event::Resynced { member: old }), "{events:?}");
        // The checkpoint's superblock reaches the old disk, and what was made equal does not.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_flushes = 100 * disk.abs_diff(new));
        for _ in 0..50 {
            world.step();
        }
        let (mut both, anchor) = world.cut(|block| block < 8);
        both.remove(new);
        let Ok(mut alone) = mount_some(both, anchor) else { continue };
        let (status, data) = alone.read(MIRROR, 2, 1);
        assert!(status == Status::IoError || data == filled(9), "disk {old} alone");
    }
}

#[test]
fn what_a_copy_misses_behind_a_decided_checkpoint_is_marked_by_the_next() {
    for bad in [0, 1] {
        let mut world = two_disks();
        // A checkpoint that marks nobody is about to end.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(0..8));
        world.post(MIRROR, Operation::Sync);
        turn(&mut world, 50, 8);
        let at = copy_on(&world, bad, 3);
        world.pool.member_mut(bad).bad_blocks.insert(at);
        let cookie = world.post_write(MIRROR, 3, filled(5));
        turn(&mut world, 50, 8);
        assert_eq!(world.answer(MIRROR, cookie).unwrap().0, Status::Ok);
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
        turn(&mut world, 200, 8);
        assert_eq!(world.pool.superblock().stale, 1 << bad, "nobody flushes, and it is marked");
    }
}

#[test]
fn what_is_logged_while_a_mark_is_on_its_way_is_as_much_as_a_mount_takes() {
    for (bad, cut_at) in [0, 1].into_iter().flat_map(|bad| (0..10).map(move |cut_at| (bad, cut_at))) {
        let mut world = two_disks_of([1, 2].map(roomy), 512);
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(0..8));
        let at = copy_on(&world, bad, 3);
        world.pool.member_mut(bad).bad_blocks.insert(at);
        world.post_write(MIRROR, 3, filled(5));
        turn(&mut world, 50, 8);
        for block in 0..40 {
            world.post_write(MIRROR, 100 + 32 * block, filled(6).repeat(32));
        }
        turn(&mut world, 200, 64);
        // The mark becomes durable, and the log goes on; its last group is there in part.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
        turn(&mut world, cut_at, 16);
        let (both, anchor) = world.cut(|block| block % 3 != cut_at as u64 % 3);
        let mut world = mount_some(both, anchor).unwrap_or_else(|error| panic!("{error}, cut at {cut_at}"));
        assert!(matches!(world.read(MIRROR, 3, 1), (Status::Ok, data) if [filled(1), filled(5)].contains(&data)));
    }
}

#[test]
fn a_group_of_which_a_cut_left_a_part_leaves_no_more_than_a_mount_takes() {
    for cut_at in 0..60 {
        // With three members no group covers anything by itself.
        let disks = (1..=3).map(roomy).collect();
        let mut world = World::format(disks, &FormatOptions { log_blocks: Some(512), torn_sectors: false });
        assert_eq!(world.create("one", Layout::Linear, 2000, Suite::Aes128Gcm), Status::Ok);
        assert_eq!(world.write(1, 0, filled(1).repeat(780)), Status::Ok);
        // What is written is covered first. Then one large group says so, and states zeros.
        world.post(1, Operation::Zero { block: 0, blocks: 780 });
        for _ in 0..cut_at {
            (0..3).for_each(|disk| world.pool.member_mut(disk).credit = 1);
            world.step();
        }
        let last = world.pool.member(0).writes.iter().copied().rfind(|block| (8..520).contains(block));
        let (images, anchor) = world.cut(|block| Some(block) != last);
        let (mut world, _) = World::mount(images, anchor).unwrap_or_else(|error| panic!("{error}, cut at {cut_at}"));
        assert!(matches!(world.read(1, 8, 1), (Status::Ok, data) if [filled(0), filled(1)].contains(&data)));
    }
}
