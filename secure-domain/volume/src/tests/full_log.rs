//! A log that is full while a checkpoint does not end: nothing is written over what a mount begins with.

use std::{vec, vec::Vec};

use crypto::Suite;

use super::world::*;
use crate::{BLOCK_BYTES, FormatOptions, Layout, Operation, Options, Policy, Status};

const POLICIES: [Policy; 2] = [Policy::Strict, Policy::Bulk { window_ms: 1000 }];
/// Flushes: more than the blocks that are kept free for their markers.
const FLUSHES: u32 = 20;
/// A block that was flushed last, and that only the log knows.
const FLUSHED: u64 = 300;

/// Serves for a while, whatever waits.
fn turn(world: &mut World) {
    for _ in 0..60 {
        world.step();
    }
}

/// A volume whose disk holds superblocks back, so that its checkpoint does not end, and that was asked for `writes` writes; those
/// cookies. Each fills a block of the log.
fn filled_log(policy: Policy, writes: u64, hold_data: bool) -> (World, Vec<u32>) {
    let new = FormatOptions { log_blocks: Some(64), torn_sectors: false };
    let (disks, anchor) = World::format(vec![blank(DISK, 1)], &new).pool.into_parts();
    let options = Options { policy, ..options() };
    let mut world = World::with(crate::mount(disks, anchor, &root(), random(), &options, || true).unwrap().0);
    assert_eq!(world.create("one", Layout::Linear, 400, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.write(1, 0, filled(1).repeat(128)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    assert_eq!(world.write(1, FLUSHED, filled(9)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    world.pool.member_mut(0).held_blocks.extend(0..8);
    let mut written = Vec::new();
    for block in 0..writes {
        let (_, at) = world.pool.locate(1, block, 0).unwrap();
        world.pool.member_mut(0).held_blocks.extend(hold_data.then_some(at));
        written.push(world.post_write(1, block, filled(100 + block as u32)));
        turn(&mut world);
    }
    (world, written)
}

/// How many writes fill the log: the next one would wait for the checkpoint.
fn writes_that_fit(policy: Policy) -> u64 {
    let (mut world, written) = filled_log(policy, 64, false);
    let answered = written.iter().take_while(|cookie| world.answer(1, **cookie).is_some()).count();
    assert!((32..64).contains(&answered), "the log is full after {answered} writes");
    answered as u64
}

/// Asks for one flush after the other.
fn post_flushes(world: &mut World) -> Vec<u32> {
    let post = |_| {
        let cookie = world.post(1, Operation::Flush);
        turn(world);
        cookie
    };
    (0..FLUSHES).map(post).collect()
}

#[test]
fn flushes_while_the_log_is_full_do_not_overwrite_where_it_begins() {
    for policy in POLICIES {
        let writes = writes_that_fit(policy);
        let (mut world, _) = filled_log(policy, writes, false);
        let flushes = post_flushes(&mut world);
        let answered = flushes.iter().filter_map(|cookie| world.answer(1, *cookie)).count();
        let (mut world, recovery) = world.restart();
        assert_eq!(recovery.bad, 0);
        assert_eq!(world.read(1, FLUSHED, 1), (Status::Ok, filled(9)));
        for block in 0..writes {
            assert_eq!(world.read(1, block, 1), (Status::Ok, filled(100 + block as u32)), "{policy:?}");
        }
        assert!((1..FLUSHES as usize).contains(&answered), "{answered} flushes found room for their markers");
    }
}

#[test]
fn flushes_that_found_no_room_for_their_markers_are_answered_when_the_checkpoint_ends() {
    for policy in POLICIES {
        for more in [0, 5] {
            let writes = writes_that_fit(policy);
            let (mut world, mut posted) = filled_log(policy, writes, false);
            posted.extend(post_flushes(&mut world));
            for block in writes..writes + more {
                posted.push(world.post_write(1, block, filled(100 + block as u32)));
                posted.push(world.post(1, Operation::Flush));
            }
            posted.push(world.post(1, Operation::Sync));
            turn(&mut world);
            world.pool.member_mut(0).held_blocks.clear();
            world.settle();
            for cookie in posted {
                assert_eq!(world.answer(1, cookie).unwrap().0, Status::Ok, "{policy:?}");
            }
            let (mut world, _) = world.restart();
            let last = writes + more - 1;
            assert_eq!(world.read(1, last, 1), (Status::Ok, filled(100 + last as u32)));
        }
    }
}

#[test]
fn writes_that_fail_one_by_one_while_the_log_is_full_do_not_overwrite_where_it_begins() {
    for policy in POLICIES {
        // Every data write stays under way, so that none is covered; then they fail, each for itself, and are taken back.
        let (mut world, _) = filled_log(policy, 64, true);
        let data: Vec<u64> = world.pool.member(0).held_blocks.iter().copied().filter(|block| *block >= 8).collect();
        for block in data {
            let disk = world.pool.member_mut(0);
            disk.bad_blocks.insert(block);
            disk.held_blocks.remove(&block);
            turn(&mut world);
        }
        let (mut world, recovery) = world.restart();
        assert_eq!(recovery.bad, 0);
        assert_eq!(world.read(1, FLUSHED, 1), (Status::Ok, filled(9)), "{policy:?}");
        let (status, data) = world.read(1, 0, 128);
        assert!(status == Status::Ok && data.chunks(BLOCK_BYTES).all(|block| value(block) == 1), "none was answered");
    }
}
