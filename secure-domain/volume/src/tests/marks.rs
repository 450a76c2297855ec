//! Marks: the superblock says that a member may be old, in time and for as long as it is, and for no more than that.

use std::{vec, vec::Vec};

use block::ram::RamDisk;
use crypto::Suite;

use super::{degraded::*, world::*};
use crate::{BLOCK_BYTES, Command, Event, FormatOptions, Layout, Operation, Status, mount};

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

/// Serves for a while in which no time passes: the walker waits.
fn quietly(world: &mut World, steps: usize) {
    for _ in 0..steps {
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
        quietly(&mut world, 50);
        world.pool.member_mut(new).held_flushes = 1;
        world.pool.member_mut(new).held_blocks.clear();
        quietly(&mut world, 50);
        // The walk goes through all of it, and ends.
        for _ in 0..500 {
            world.now_ms += 1;
            world.step();
        }
        let events = world.events();
        assert!(events.contains(&Event::Resynced { member: old }), "{events:?}");
        // The checkpoint's superblock reaches the old disk, and what was made equal does not.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_flushes = 100 * disk.abs_diff(new));
        quietly(&mut world, 50);
        let (mut both, anchor) = world.cut(|block| block < 8);
        both.remove(new);
        let Ok(mut alone) = mount_some(both, anchor) else { continue };
        let (status, data) = alone.read(MIRROR, 2, 1);
        assert!(status == Status::IoError || data == filled(9), "disk {old} alone");
    }
}

/// More is not written on a disk than can be kept in mind to be healed; then it can be written again.
fn misses_much(world: &mut World, disk: usize) {
    let at = copy_on(world, disk, 0);
    world.pool.member_mut(disk).bad_writes.extend(at..at + 256);
    let mut cookies: Vec<_> = (0..8).map(|run| world.post_write(MIRROR, 32 * run, filled(5).repeat(32))).collect();
    while !cookies.is_empty() {
        turn(world, 1, 1000);
        cookies.retain(|cookie| world.answer(MIRROR, *cookie).is_none_or(|(status, _)| status != Status::Ok));
    }
    world.pool.member_mut(disk).bad_writes.clear();
}

#[test]
fn what_a_disk_misses_behind_a_decided_checkpoint_is_marked_by_the_next() {
    for bad in [0, 1] {
        let mut world = two_disks();
        // A checkpoint that marks nobody is about to end.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(0..8));
        world.post(MIRROR, Operation::Sync);
        turn(&mut world, 50, 8);
        misses_much(&mut world, bad);
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
        let is_marked = |world: &World| world.pool.superblock().stale == 1 << bad;
        let marked = (0..200).any(|_| {
            turn(&mut world, 1, 8);
            is_marked(&world)
        });
        assert!(marked, "nobody flushes, and it is marked");
        turn(&mut world, 3000, 64);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0);
        let (mut both, anchor) = images(world);
        let mut alone = mount_some(vec![both.swap_remove(bad)], anchor).unwrap();
        assert_eq!(alone.read(MIRROR, 0, 256), (Status::Ok, filled(5).repeat(256)));
    }
}

#[test]
fn a_bad_block_that_is_written_often_does_not_have_the_disk_marked_or_read_through() {
    for bad in [0, 1] {
        let mut world = two_disks();
        let at = copy_on(&world, bad, 3);
        world.pool.member_mut(bad).bad_writes.insert(at);
        let before = world.pool.member(bad).requests;
        for value in 0..50 {
            assert_eq!(world.write(MIRROR, 2, filled(value).repeat(3)), Status::Ok);
            assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
            turn(&mut world, 100, 64);
            assert_eq!(world.pool.superblock().stale, 0);
        }
        let requests = world.pool.member(bad).requests - before;
        assert!(requests < 50 * 60, "{requests} requests");
    }
}

/// One disk cannot write block 3, which is known.
fn beside_a_known_bad_block(bad: usize) -> World {
    let mut world = two_disks();
    let at = copy_on(&world, bad, 3);
    world.pool.member_mut(bad).bad_writes.insert(at);
    assert_eq!(world.write(MIRROR, 3, filled(2)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
    world
}

#[test]
fn a_flush_behind_a_write_of_a_bad_block_waits_until_a_checkpoint_holds_it() {
    for bad in [0, 1] {
        let mut world = beside_a_known_bad_block(bad);
        // A checkpoint has begun, and comes no further.
        let tree = 72..world.pool.superblock().geometry(0).unwrap().data_start;
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(tree.clone()));
        assert_eq!(world.write_some(MIRROR, 1030, 40), Status::Ok);
        world.post(LINEAR, Operation::Sync);
        quietly(&mut world, 50);
        assert_eq!(world.write_some(MIRROR, 3, 41), Status::Ok);
        let flushed = world.post(MIRROR, Operation::Flush);
        quietly(&mut world, 200);
        assert!(world.answer(MIRROR, flushed).is_none());
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
        world.settle();
        assert_eq!(world.answer(MIRROR, flushed).unwrap().0, Status::Ok);
        let (both, anchor) = images(world);
        assert_eq!(mount_some(both, anchor).unwrap().read(MIRROR, 3, 1), (Status::Ok, filled(41)));
    }
}

#[test]
fn flushes_end_though_a_bad_block_is_written_without_end() {
    for bad in [0, 1] {
        let mut world = beside_a_known_bad_block(bad);
        let mut flushes = Vec::new();
        let mut written = world.post_write(MIRROR, 3, filled(7));
        for step in 0..2000 {
            turn(&mut world, 1, 4);
            if world.answer(MIRROR, written).is_some() {
                written = world.post_write(MIRROR, 3, filled(step));
            }
            if step.is_multiple_of(100) && step < 1000 {
                flushes.push(world.post(LINEAR, Operation::Flush));
            }
            flushes.retain(|flush| world.answer(LINEAR, *flush).is_none());
        }
        assert!(flushes.is_empty(), "{} flushes wait", flushes.len());
    }
}

#[test]
fn a_disk_that_alone_got_what_is_to_be_flushed_is_not_given_up() {
    for (bad, steps) in [0, 1].into_iter().flat_map(|bad| (0..40).map(move |steps| (bad, steps))) {
        let mut world = two_disks();
        let at = copy_on(&world, bad, 3);
        world.pool.member_mut(bad).bad_writes.insert(at);
        let written = world.post_write(MIRROR, 3, filled(7));
        while world.answer(MIRROR, written).is_none() {
            turn(&mut world, 1, 1);
        }
        // The other disk fails to flush, sooner or later.
        let flushed = world.post(MIRROR, Operation::Flush);
        turn(&mut world, steps, 2);
        let early = world.answer(MIRROR, flushed);
        world.pool.member_mut(1 - bad).bad_flush = true;
        turn(&mut world, 300, 64);
        let late = world.answer(MIRROR, flushed).is_some_and(|(status, _)| status == Status::Ok);
        if early.is_some() {
            continue;
        }
        let (both, anchor) = world.cut(|_| true);
        let mut world = mount_some(both, anchor).unwrap();
        let (status, data) = world.read(MIRROR, 3, 1);
        assert!(status == Status::Ok && data == filled(7), "bad {bad}, after {steps}: {status:?}, flushed {late}");
    }
}

/// One disk was away and is back; the other one cannot write a block that the first one missed.
fn catching_up_beside_a_bad_block(old: usize) -> World {
    let mut world = two_disks();
    kill(&mut world, old);
    assert_eq!(world.write(MIRROR, 2, filled(9).repeat(4)), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
    let (both, anchor) = images(world);
    let mut world = mount_some(both, anchor).unwrap();
    let at = copy_on(&world, 1 - old, 3);
    world.pool.member_mut(1 - old).bad_writes.insert(at);
    world
}

#[test]
fn what_only_a_disk_that_catches_up_could_write_is_found_after_any_cut() {
    for (old, cut_at) in [0, 1].into_iter().flat_map(|old| (0..60).map(move |cut_at| (old, cut_at))) {
        let mut world = catching_up_beside_a_bad_block(old);
        turn(&mut world, cut_at, 4);
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 2, 4), (Status::Ok, filled(9).repeat(4)), "old {old}, cut at {cut_at}");
    }
    for old in [0, 1] {
        let mut world = catching_up_beside_a_bad_block(old);
        // No time passes: the walk has not begun. The second write finds the block known to be bad.
        for value in [3, 4] {
            let written = world.post_write(MIRROR, 3, filled(value));
            while world.answer(MIRROR, written).is_none() {
                quietly(&mut world, 1);
            }
            let flushed = world.post(MIRROR, Operation::Flush);
            while world.answer(MIRROR, flushed).is_none() {
                quietly(&mut world, 1);
            }
        }
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 2, 3), (Status::Ok, [9, 4, 9].map(filled).concat()), "old {old}");
    }
}

#[test]
fn a_block_that_one_disk_can_never_write_again_costs_no_more_than_itself() {
    for bad in [0, 1] {
        let mut world = two_disks();
        let at = copy_on(&world, bad, 3);
        world.pool.member_mut(bad).bad_blocks.insert(at);
        assert_eq!(world.write(MIRROR, 2, filled(5).repeat(4)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        assert_eq!(world.command(Command::Scrub), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert_eq!(world.pool.superblock().stale, 0, "the mark goes though the block stays bad");
        // A new key: the walk does not go round and round.
        assert_eq!(world.command(Command::Rekey { volume: MIRROR, suite: Suite::Aria128Gcm }), Status::Ok);
        let before = world.pool.member(bad).requests;
        for _ in 0..200 {
            world.now_ms += 500;
            world.settle();
        }
        assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
        let requests = world.pool.member(bad).requests - before;
        assert!(requests < 1000, "{requests} requests for a few dozen blocks");
        assert_eq!(world.read(MIRROR, 1, 6), (Status::Ok, [filled(1), filled(5).repeat(4), filled(1)].concat()));
        // The other disk dies: of what was flushed that block alone is gone.
        let (mut both, anchor) = images(world);
        let mut alone = mount_some(vec![both.swap_remove(bad)], anchor).unwrap();
        assert_eq!(alone.read(MIRROR, 3, 1).0, Status::IoError);
        assert_eq!(alone.read(MIRROR, 2, 1), (Status::Ok, filled(5)));
        assert_eq!(alone.read(MIRROR, 4, 3), (Status::Ok, [filled(5).repeat(2), filled(1)].concat()));
    }
}

#[test]
fn a_bad_block_of_the_newer_copy_does_not_stop_writes_while_the_other_catches_up() {
    for old in [0, 1] {
        let mut world = two_disks();
        kill(&mut world, old);
        assert_eq!(world.write(MIRROR, 2, filled(9).repeat(4)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
        let (both, anchor) = images(world);
        let mut world = mount_some(both, anchor).unwrap();
        // It can be read, and not written again.
        let at = copy_on(&world, 1 - old, 3);
        world.pool.member_mut(1 - old).bad_writes.insert(at);
        world.settle();
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        assert!(!world.pool.is_read_only());
        assert_eq!(world.pool.superblock().stale, 0);
        let (both, anchor) = images(world);
        for (disk, image) in both.into_iter().enumerate() {
            let mut alone = mount_some(vec![image], anchor.clone()).unwrap();
            let (status, data) = alone.read(MIRROR, 3, 1);
            assert!(data == filled(9) && status == Status::Ok || disk != old && status == Status::IoError);
            assert_eq!(alone.read(MIRROR, 2, 1), (Status::Ok, filled(9)), "disk {disk} alone");
            assert_eq!(alone.read(MIRROR, 4, 3), (Status::Ok, [filled(9).repeat(2), filled(1)].concat()));
        }
    }
}

#[test]
fn a_disk_whose_data_is_bad_throughout_does_not_fill_the_memory_with_what_is_to_be_healed() {
    for bad in [0, 1] {
        let mut world = two_disks();
        assert_eq!(world.write(MIRROR, 0, filled(4).repeat(250)), Status::Ok);
        assert_eq!(world.write(MIRROR, 250, filled(4).repeat(250)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
        let start = world.pool.superblock().geometry(bad).unwrap().data_start;
        world.pool.member_mut(bad).bad_blocks.extend(start..DISK);
        world.pool.command(1000, Command::Scrub).unwrap();
        for _ in 0..3 {
            turn(&mut world, 20, 3);
            let early = world.post_read(MIRROR, 1030, 1);
            turn(&mut world, 100, 64);
            assert!(world.answer(MIRROR, early).is_some(), "requests find room beside it");
        }
    }
}

#[test]
fn a_mount_goes_on_where_one_copy_of_what_was_being_written_cannot_be_repaired() {
    for bad in [0, 1] {
        let mut world = two_disks();
        assert_eq!(world.write(MIRROR, 3, filled(7)), Status::Ok);
        let at = copy_on(&world, bad, 3);
        // The data reached one disk; the other one cannot be written there any more, and is the only one that is not behind.
        let (both, anchor) = ([0, 1].map(|disk| world.pool.member(disk).cut(|_| disk != bad)), world.cut(|_| true).1);
        let mut disks = both.map(|image| RamDisk::new(image, BUFFERS, 7));
        disks[bad].bad_writes.insert(at);
        let (pool, _) = mount(disks.into(), anchor, &root(), random(), &options(), || true).unwrap();
        let mut world = World::with(pool);
        assert_eq!(world.read(MIRROR, 2, 3), (Status::Ok, [filled(1), filled(7), filled(1)].concat()));
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

#[test]
fn a_disk_that_takes_requests_and_never_answers_is_given_up() {
    for silent in [0, 1] {
        for held in [3, 0] {
            let mut world = two_disks();
            let cookies = [
                world.post_write(MIRROR, 3, filled(7)),
                world.post(MIRROR, Operation::Flush),
                world.post_read(MIRROR, 3, 2),
                world.post(MIRROR, Operation::Sync),
            ];
            for disk in 0..2 {
                world.pool.member_mut(disk).credit = if disk == silent { held } else { usize::MAX };
            }
            quietly(&mut world, 100);
            assert!(world.answer(MIRROR, cookies[3]).is_none());
            // Time alone moves it on.
            for _ in 0..100 {
                world.now_ms = world.now_ms.max(world.pool.next_deadline().unwrap_or_default());
                quietly(&mut world, 10);
            }
            assert!(world.now_ms >= 30_000);
            world.settle();
            assert!(world.events().contains(&Event::MemberLost { member: silent }));
            let answers: Vec<_> = cookies.iter().filter_map(|cookie| world.answer(MIRROR, *cookie)).collect();
            assert!(answers.iter().all(|(status, _)| *status == Status::Ok) && !answers.is_empty());
            // What it says later is not listened to.
            world.pool.member_mut(silent).credit = usize::MAX;
            assert_eq!(world.write(MIRROR, 4, filled(8)), Status::Ok);
            assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
            assert_eq!(world.pool.superblock().stale, 1 << silent);
            let (mut world, _) = world.restart();
            assert_eq!(world.read(MIRROR, 2, 4), (Status::Ok, [1, 7, 8, 1].map(filled).concat()));
            world.settle();
            assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
            assert_eq!(world.pool.superblock().stale, 0);
        }
    }
}

#[test]
fn a_machine_that_slept_gives_up_no_disk() {
    let mut world = two_disks();
    let written = world.post_write(MIRROR, 3, filled(7));
    (0..2).for_each(|disk| world.pool.member_mut(disk).credit = 0);
    quietly(&mut world, 10);
    // The clock goes on, and the disks need a moment.
    world.now_ms += 60_000;
    quietly(&mut world, 10);
    (0..2).for_each(|disk| world.pool.member_mut(disk).credit = usize::MAX);
    world.now_ms += 60_000;
    world.settle();
    assert_eq!(world.answer(MIRROR, written).unwrap().0, Status::Ok);
    assert!(!world.events().iter().any(|event| matches!(event, Event::MemberLost { .. })));
}

#[test]
fn a_mirrored_extent_of_which_the_log_gave_one_copy_back_is_zeros_in_both() {
    let mut world = two_disks();
    assert_eq!(world.write(LINEAR, 0, filled(1).repeat(125)), Status::Ok);
    assert_eq!(world.run(LINEAR, Operation::Sync), Status::Ok);
    // 125 statements, then those that give both copies back: they lie in two records, and the cut leaves the first.
    world.post(LINEAR, Operation::Zero { block: 0, blocks: 125 });
    world.post(MIRROR, Operation::Zero { block: 0, blocks: 1024 });
    world.settle();
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
    assert!((0..2).all(|copy| world.pool.locate(MIRROR, 0, copy).is_none()), "both are given back");
    assert_eq!(world.read(MIRROR, 0, 8), (Status::Ok, filled(0).repeat(8)));
}

/// A mirror of which one extent was first written while disk `old` was away, and disk `old` has no room for its other copy until the
/// first extent is given back.
fn lacks_a_copy(old: usize) -> World {
    let disks = [1, 2].map(|seed| blank(DISK, seed)).into();
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("mirror", Layout::Mirrored, 3072, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.create("linear", Layout::Linear, 5000, Suite::Aes128Gcm), Status::Ok);
    for (volume, block) in [(MIRROR, 0), (MIRROR, 1024), (LINEAR, 0), (LINEAR, 1024), (LINEAR, 2048), (LINEAR, 3072)] {
        assert_eq!(world.write(volume, block, filled(1).repeat(8)), Status::Ok);
    }
    // Of the linear volume one extent goes, on the disk that has room then.
    let given = [0, 1024, 2048, 3072].into_iter().find(|block| world.pool.locate(LINEAR, *block, 0).unwrap().0 != old);
    assert_eq!(world.run(LINEAR, Operation::Zero { block: given.unwrap(), blocks: 1024 }), Status::Ok);
    assert_eq!(world.run(MIRROR, Operation::Sync), Status::Ok);
    kill(&mut world, old);
    for block in [0, 2048] {
        assert_eq!(world.write(MIRROR, block, filled(9).repeat(8)), Status::Ok);
        assert_eq!(world.run(MIRROR, Operation::Flush), Status::Ok);
    }
    assert_eq!(world.pool.locate(MIRROR, 2048, 1), None);
    let (both, anchor) = images(world);
    mount_some(both, anchor).unwrap()
}

#[test]
fn what_the_log_gives_back_is_not_taken_from_who_has_the_place_now() {
    for (old, cut_at) in [0, 1].into_iter().flat_map(|old| (0..12).map(move |cut_at| (old, cut_at))) {
        let mut world = lacks_a_copy(old);
        // The log does not come on, and so neither does a checkpoint, whose tables say already what the log will.
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(8..72));
        world.post(MIRROR, Operation::Zero { block: 0, blocks: 1024 });
        quietly(&mut world, 20);
        turn(&mut world, 200, 64);
        assert!(world.pool.locate(MIRROR, 2048, 1).is_some(), "the copy has got the place");
        let before = world.pool.superblock().checkpoint;
        let new = Command::Create {
            name: crate::Name::new("new").unwrap(),
            layout: Layout::Linear,
            blocks: 1,
            suite: Suite::Aes128Gcm,
        };
        world.pool.command(1000, new).unwrap();
        turn(&mut world, 200, 64);
        assert_eq!(world.pool.superblock().checkpoint, before);
        (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
        turn(&mut world, cut_at, 1);
        let (both, anchor) = world.cut(|_| true);
        let mut world = mount_some(both, anchor).unwrap();
        assert_eq!(world.read(MIRROR, 2048, 8), (Status::Ok, filled(9).repeat(8)), "old {old}, cut at {cut_at}");
    }
}
