//! What is served: reads return what was written, in every suite, through checkpoints and restarts.

use std::{vec, vec::Vec};

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use crypto::Suite;

use super::world::*;
use crate::{BLOCK_BYTES, Command, Error, FormatOptions, Layout, Name, Operation, Options, Refusal, Status, mount};

#[test]
fn every_suite_serves_what_was_written() {
    for suite in Suite::ALL {
        let mut world = World::small(2000, suite);
        assert_eq!(world.read(1, 0, 3), (Status::Ok, vec![0; 3 * BLOCK_BYTES]));
        let data: Vec<u8> = (0..40).flat_map(|at| filled(100 + at)).collect();
        assert_eq!(world.write(1, 1000, data.clone()), Status::Ok);
        assert_eq!(world.read(1, 1000, 40), (Status::Ok, data.clone()));
        assert_eq!(world.run(1, Operation::Flush), Status::Ok);
        let (mut world, recovery) = world.restart();
        assert!(recovery.records > 0 && recovery.bad == 0, "{recovery:?}");
        assert_eq!(world.read(1, 1000, 40), (Status::Ok, data.clone()));
        assert_eq!(world.run(1, Operation::Sync), Status::Ok);
        let (mut world, recovery) = world.restart();
        assert_eq!(recovery.records, 0, "nothing to replay after a sync");
        assert_eq!(world.read(1, 1000, 40), (Status::Ok, data));
        assert_eq!(world.events(), []);
    }
}

#[test]
fn no_plaintext_reaches_the_disk() {
    let mut world = World::small(100, Suite::Aria256Gcm);
    let data = b"planted pattern!".repeat(256);
    assert_eq!(world.write(1, 5, data), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let image = world.pool.member(0).image();
    assert!(!image.windows(16).any(|window| window == b"planted pattern!"));
}

#[test]
fn requests_outside_the_volume_are_io_errors() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    for operation in [
        Operation::Read { block: 100, blocks: 1 },
        Operation::Write { block: 99, blocks: 2 },
        Operation::Zero { block: u64::MAX, blocks: 2 },
        Operation::Read { block: 0, blocks: 0 },
    ] {
        assert_eq!(world.run(1, operation), Status::IoError);
    }
    assert_eq!(world.run(2, Operation::Flush), Status::IoError, "there is no volume 2");
}

#[test]
fn zeroed_blocks_read_as_zeros_and_stay_so() {
    let mut world = World::small(3000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 1000, filled(7).repeat(1500)), Status::Ok);
    // Block 1010 to the end of extent 1 and a bit of extent 2: extent 1 goes back as a whole.
    assert_eq!(world.run(1, Operation::Zero { block: 1010, blocks: 1100 }), Status::Ok);
    let check = |world: &mut World| {
        let (status, data) = world.read(1, 1000, 1500);
        assert_eq!(status, Status::Ok);
        for (at, block) in data.chunks_exact(BLOCK_BYTES).enumerate() {
            assert_eq!(value(block), if (10..1110).contains(&at) { 0 } else { 7 }, "block {at}");
        }
    };
    check(&mut world);
    assert_eq!(world.pool.volumes().next().unwrap().extents, 2);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    check(&mut world);
    // The extent is given out again, and what lies there does not show.
    assert_eq!(world.write(1, 1500, filled(9)), Status::Ok);
    assert_eq!(world.read(1, 1501, 1), (Status::Ok, filled(0)));
}

#[test]
fn a_full_pool_fails_the_request_that_needs_space_and_no_other() {
    let mut world = World::small(10_000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    for extent in 1..4 {
        assert_eq!(world.write(1, extent * 1024, filled(1)), Status::Ok);
    }
    assert_eq!(world.write(1, 4096, filled(1)), Status::NoSpace);
    assert_eq!(world.write(1, 1, filled(2)), Status::Ok);
    assert_eq!(world.read(1, 4096, 1), (Status::Ok, filled(0)));
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    assert_eq!(world.run(1, Operation::Zero { block: 1024, blocks: 1024 }), Status::Ok);
    assert_eq!(world.write(1, 4096, filled(3)), Status::Ok);
    let (mut world, _) = world.restart();
    assert_eq!(world.read(1, 0, 2), (Status::Ok, [filled(1), filled(2)].concat()));
}

#[test]
fn many_checkpoints_lose_nothing() {
    let mut world = World::small(4000, Suite::Aes128Gcm);
    let before = world.pool.superblock().checkpoint;
    for round in 1..=100 {
        for at in 0..40 {
            world.post_write(1, (at * 97 + u64::from(round) * 13) % 4000, filled(round));
        }
        world.settle();
    }
    assert!(world.pool.superblock().checkpoint > before, "a log of 64 blocks must have been emptied");
    let mut last = vec![0; 4000];
    for round in 1..=100u32 {
        (0..40).for_each(|at| last[(at * 97 + round as usize * 13) % 4000] = round);
    }
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    for block in 0..4000 {
        assert_eq!(world.read(1, block, 1), (Status::Ok, filled(last[block as usize])), "block {block}");
    }
}

#[test]
fn volumes_are_made_renamed_grown_and_dropped_online() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.create("one", Layout::Linear, 5, Suite::Aes128Gcm), Status::Refused(Refusal::NameTaken));
    assert_eq!(world.create("two", Layout::Linear, 0, Suite::Aes128Gcm), Status::Refused(Refusal::Size));
    assert_eq!(world.create("two", Layout::Mirrored, 5, Suite::Aes128Gcm), Status::Refused(Refusal::Layout));
    assert_eq!(world.create("two", Layout::Linear, 50, Suite::Seed128Ccm), Status::Ok);
    assert_eq!(world.write(2, 3, filled(8)), Status::Ok);
    assert_eq!(world.write(1, 3, filled(9)), Status::Ok);
    assert_eq!(world.command(Command::Grow { volume: 2, blocks: 40 }), Status::Refused(Refusal::Size));
    assert_eq!(world.command(Command::Grow { volume: 2, blocks: 2000 }), Status::Ok);
    assert_eq!(world.write(2, 1999, filled(10)), Status::Ok);
    assert_eq!(world.command(Command::Rename { volume: 2, name: Name::new("zwei").unwrap() }), Status::Ok);
    assert_eq!(world.command(Command::Delete { volume: 1 }), Status::Ok);
    assert_eq!(world.command(Command::Delete { volume: 1 }), Status::Refused(Refusal::NoVolume));
    assert_eq!(world.create("three", Layout::Linear, 9, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.run(2, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    let found: Vec<_> = world.pool.volumes().map(|volume| (volume.number, volume.name, volume.blocks)).collect();
    assert_eq!(found, [(3, "three".into(), 9), (2, "zwei".into(), 2000)]);
    assert_eq!(world.read(2, 3, 1), (Status::Ok, filled(8)));
    assert_eq!(world.read(2, 1999, 1), (Status::Ok, filled(10)));
    assert_eq!(world.read(3, 3, 1), (Status::Ok, filled(0)), "a new volume shows nothing of a dropped one");
}

#[test]
fn striped_and_mirrored_volumes_serve_what_was_written() {
    let disks = vec![blank(DISK, 1), blank(DISK + 700, 2), blank(DISK, 3)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("s", Layout::Striped(3), 3000, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.create("m", Layout::Mirrored, 1000, Suite::Aes128Gcm), Status::Ok);
    let data: Vec<u8> = (0..500).flat_map(|at| filled(1000 + at)).collect();
    assert_eq!(world.write(1, 77, data.clone()), Status::Ok);
    assert_eq!(world.write(2, 10, data.clone()), Status::Ok);
    for _ in 0..2 {
        assert_eq!(world.read(1, 77, 500), (Status::Ok, data.clone()));
        assert_eq!(world.read(2, 10, 500), (Status::Ok, data.clone()));
        assert_eq!(world.run(1, Operation::Flush), Status::Ok);
        world = world.restart().0;
    }
    assert_eq!(world.events(), []);
}

#[test]
fn a_discarded_set_of_a_striped_volume_gives_its_extents_back() {
    let disks = vec![blank(DISK, 1), blank(DISK, 2)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("striped", Layout::Striped(2), 5000, Suite::Aes128Gcm), Status::Ok);
    let extents = |world: &World| world.pool.volumes().next().unwrap().extents;
    for block in [0, 40, 2048, 2100, 4096] {
        assert_eq!(world.write(1, block, filled(7)), Status::Ok);
    }
    assert_eq!(extents(&world), 5);
    // Not quite a set, then the second set of 2,048 blocks and something beyond.
    assert_eq!(world.run(1, Operation::Zero { block: 1, blocks: 2047 }), Status::Ok);
    assert_eq!(extents(&world), 5);
    assert_eq!(world.run(1, Operation::Zero { block: 1500, blocks: 2597 }), Status::Ok);
    assert_eq!(extents(&world), 3);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    assert_eq!(extents(&world), 3);
    for (block, value) in [(0, 7), (40, 0), (2048, 0), (2100, 0), (4096, 0)] {
        assert_eq!(world.read(1, block, 1), (Status::Ok, filled(value)), "block {block}");
    }
    assert_eq!(world.run(1, Operation::Zero { block: 0, blocks: 5000 }), Status::Ok);
    assert_eq!(extents(&world), 1, "the last set is not covered as a whole");
}

#[test]
fn a_smaller_cache_than_before_is_refused_only_while_the_log_needs_more() {
    let mut world = World::small(4000, Suite::Aes128Gcm);
    let larger = world.pool.superblock().dirty_limit;
    let mount_with = |world: &World, cache_blocks: usize| {
        let disk = RamDisk::new(world.pool.member(0).cut(|_| true), BUFFERS, 7);
        let anchor = RamAnchor::with(world.pool.anchor().snapshot());
        let options = Options { cache_blocks, ..options() };
        mount(vec![disk], anchor, &root(), random(), &options, || true).map(|(pool, _)| World::with(pool))
    };
    // More leaves than a small cache may hold, all of them in the log only.
    for leaf in 0..30 {
        assert_eq!(world.write(1, leaf * 128, filled(leaf as u32)), Status::Ok);
    }
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let Err(Error::CacheTooSmall { have: 90, need }) = mount_with(&world, 90) else { panic!("this log needs more") };
    assert!(mount_with(&world, need).is_ok(), "what is asked for is enough");
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    let mut world = mount_with(&world, 90).unwrap();
    assert!(world.pool.superblock().dirty_limit < larger);
    assert!((0..30).all(|leaf| world.read(1, leaf * 128, 1) == (Status::Ok, filled(leaf as u32))));
}
