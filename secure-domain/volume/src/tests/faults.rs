//! Disks and anchors that fail: an error for whom it concerns, and nothing else lost.

use std::vec;

use crypto::Suite;

use super::world::*;
use crate::{Event, Operation, Policy, Status};

fn data_start(world: &World) -> u64 {
    world.pool.superblock().geometry(0).unwrap().data_start
}

#[test]
fn a_block_that_cannot_be_written_keeps_what_it_held() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1).repeat(10)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let bad = data_start(&world) + 4;
    world.pool.member_mut(0).bad_blocks.insert(bad);
    assert_eq!(world.write(1, 4, filled(2)), Status::IoError);
    assert_eq!(world.write(1, 5, filled(3)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    assert_eq!(world.read(1, 4, 1).0, Status::IoError);
    // The disk recovers: the log has taken the write back, so nothing looks tampered with.
    for _ in 0..2 {
        let (restarted, recovery) = world.restart();
        world = restarted;
        assert_eq!(recovery.bad, 0);
        assert_eq!(world.read(1, 4, 2), (Status::Ok, [filled(1), filled(3)].concat()));
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_writes_and_not_reads() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    world.pool.member_mut(0).bad_blocks.extend(8..72);
    assert_eq!(world.write(1, 0, filled(2)), Status::IoError);
    assert_eq!(world.run(1, Operation::Flush), Status::IoError);
    assert_eq!(world.write(1, 1, filled(2)), Status::IoError);
    assert_eq!(world.read(1, 0, 2), (Status::Ok, [filled(1), filled(0)].concat()));
    assert!(world.pool.is_read_only() && world.events().contains(&Event::WritesStopped));
    let (mut world, _) = world.restart();
    assert_eq!(world.read(1, 0, 1), (Status::Ok, filled(1)));
    assert_eq!(world.write(1, 0, filled(2)), Status::Ok);
}

#[test]
fn a_disk_that_cannot_flush_fails_the_flush() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    world.pool.member_mut(0).bad_flush = true;
    assert_eq!(world.run(1, Operation::Flush), Status::IoError);
    assert_eq!(world.write(1, 0, filled(2)), Status::IoError);
    assert_eq!(world.read(1, 0, 1), (Status::Ok, filled(1)));
}

#[test]
fn an_anchor_that_refuses_fails_strict_flushes_alone() {
    let (disks, anchor) = World::small(100, Suite::Aes128Gcm).pool.into_parts();
    let strict = crate::Options { policy: Policy::Strict, ..options() };
    let (pool, _) = crate::mount(disks, anchor, &root(), random(), &strict, || true).unwrap();
    let mut world = World::with(pool);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    let before = world.pool.anchor().advances;
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    assert_eq!(world.pool.anchor().advances, before + 1);
    assert_eq!(world.write(1, 0, filled(2)), Status::Ok);
    world.pool.anchor_mut().failure = Some(anchor::Error::Refused);
    assert_eq!(world.run(1, Operation::Flush), Status::IoError);
    assert_eq!(world.events(), vec![Event::AnchorFailed(anchor::Error::Refused)]);
    assert_eq!(world.write(1, 1, filled(3)), Status::Ok);
    world.pool.anchor_mut().failure = None;
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    assert_eq!(world.read(1, 0, 2), (Status::Ok, [filled(2), filled(3)].concat()));
}

#[test]
fn a_bulk_anchor_advances_once_a_window() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    world.now_ms = 10_000;
    world.settle();
    let before = world.pool.anchor().advances;
    for step in 0..40 {
        world.now_ms += 100;
        assert_eq!(world.write(1, step, filled(1)), Status::Ok);
        assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    }
    let advances = world.pool.anchor().advances - before;
    assert!((3..=5).contains(&advances), "{advances} advances in four windows");
}

#[test]
fn requests_that_are_cancelled_are_not_answered_and_hold_nothing() {
    let mut world = World::small(300, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1).repeat(100)), Status::Ok);
    let free = world.pool.member(0).free_buffers();
    world.pool.member_mut(0).credit = 2;
    for block in 0..40 {
        world.post_read(1, block, 2);
        world.post_write(1, 100 + block, filled(2));
    }
    world.post(1, Operation::Flush);
    world.step();
    world.pool.cancel(1);
    world.guest.payloads.clear();
    world.pool.member_mut(0).credit = usize::MAX;
    for _ in 0..1000 {
        world.pool.advance(0, &mut world.guest);
    }
    assert!(world.pool.is_idle());
    assert_eq!(world.pool.next_done(), None);
    assert_eq!(world.pool.member(0).free_buffers(), free);
    assert_eq!(world.read(1, 0, 1), (Status::Ok, filled(1)));
}
