//! Idle: the engine says when it is to be called though nothing happens, and what it does then.

use std::vec;

use crypto::Suite;

use super::world::*;
use crate::{Command, Operation, Policy, Status};

#[test]
fn a_window_that_nothing_is_left_in_asks_for_no_timer() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    assert_eq!(world.pool.next_deadline(), None);
}

#[test]
fn the_bulk_window_ends_while_nobody_asks_for_anything() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    world.now_ms = 5_000;
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    world.now_ms += 1;
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let writes = world.pool.anchor().advances;
    assert_eq!(world.pool.next_deadline(), Some(6_000), "a second after the last advance");
    world.now_ms = 5_999;
    world.settle();
    assert_eq!(world.pool.anchor().advances, writes);
    world.now_ms = 6_000;
    world.settle();
    assert_eq!((world.pool.anchor().advances, world.pool.next_deadline()), (writes + 1, None));
}

#[test]
fn an_anchor_that_refused_is_asked_again_a_second_later() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    world.now_ms = 10_000;
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    world.pool.anchor_mut().failure = Some(anchor::Error::Silent);
    assert_eq!(world.run(1, Operation::Sync), Status::IoError);
    assert_eq!(world.pool.next_deadline(), Some(11_000));
    world.pool.anchor_mut().failure = None;
    world.now_ms = 11_000;
    world.settle();
    assert_eq!(world.pool.next_deadline(), None);
}

#[test]
fn a_strict_pool_asks_for_no_timer() {
    let disks = vec![blank(DISK, 1)];
    let strict = crate::Options { policy: Policy::Strict, ..options() };
    let new = crate::FormatOptions { log_blocks: Some(64), torn_sectors: false };
    let pool = crate::format(disks, anchor::ram::RamAnchor::new(), &root(), random(), &new, &strict, || true).unwrap();
    let mut world = World::with(pool);
    assert_eq!(world.create("one", crate::Layout::Linear, 100, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.pool.next_deadline(), None);
}

#[test]
fn resealing_that_had_to_stop_says_when_it_goes_on() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    world.now_ms = 2_000;
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let data_start = world.pool.superblock().geometry(0).unwrap().data_start;
    world.pool.member_mut(0).bad_blocks.insert(data_start);
    assert_eq!(world.command(Command::Rekey { volume: 1, suite: Suite::Aes128Gcm }), Status::Ok);
    let again_ms = world.pool.next_deadline().expect("there is a block to seal anew");
    assert!((2_001..=3_000).contains(&again_ms), "{again_ms}");
    world.pool.member_mut(0).bad_blocks.clear();
    world.now_ms = 3_000;
    world.settle();
    assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
}
