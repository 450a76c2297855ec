//! New epochs, the end of keys, scrubbing, and mirrors that heal.

use std::{vec, vec::Vec};

use crypto::Suite;

use super::world::*;
use crate::{BLOCK_BYTES, Command, Event, FormatOptions, Layout, Operation, Refusal, Status};

/// Flips a bit of every data block of a disk.
fn spoil(world: &mut World, disk: usize) {
    let start = world.pool.superblock().geometry(disk).unwrap().data_start as usize * BLOCK_BYTES;
    let image = world.pool.member_mut(disk).image_mut();
    image[start..].iter_mut().step_by(BLOCK_BYTES).for_each(|byte| *byte ^= 1);
}

#[test]
fn a_new_epoch_reseals_everything_and_the_old_key_is_gone() {
    let mut world = World::small(3000, Suite::Aes128Gcm);
    let data: Vec<u8> = (0..1500).flat_map(filled).collect();
    assert_eq!(world.write(1, 500, data.clone()), Status::Ok);
    let secret = world.pool.anchor().snapshot();
    assert_eq!(world.command(Command::Rekey { volume: 1, suite: Suite::Seed128Ccm }), Status::Ok);
    // Settled: the walker has come to its end.
    let info = world.pool.volumes().next().unwrap();
    assert_eq!((info.epoch, info.suite, info.resealing), (2, Suite::Seed128Ccm, None));
    assert_eq!(world.events(), [Event::Resealed { volume: 1 }]);
    assert_eq!(world.read(1, 500, 1500), (Status::Ok, data.clone()));
    let bytes = world.pool.anchor().snapshot().record.bytes().to_vec();
    assert!(
        !bytes.windows(32).any(|window| window == &secret.record.bytes()[124..156]),
        "the old secret is still there"
    );
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    let (mut world, _) = world.restart();
    assert_eq!(world.read(1, 500, 1500), (Status::Ok, data));
    assert_eq!(world.command(Command::Rekey { volume: 1, suite: Suite::Aria256Gcm }), Status::Ok);
}

#[test]
fn resealing_goes_on_after_any_cut() {
    for credit in (0..400).step_by(9) {
        let mut world = World::small(1200, Suite::Aes128Gcm);
        let data: Vec<u8> = (0..200).flat_map(filled).collect();
        assert_eq!(world.write(1, 900, data.clone()), Status::Ok);
        assert_eq!(world.run(1, Operation::Flush), Status::Ok);
        world.pool.command(1, Command::Rekey { volume: 1, suite: Suite::Aria128Gcm }).unwrap();
        world.pool.member_mut(0).credit = credit;
        for _ in 0..50 {
            world.step();
        }
        let nonces = core::mem::take(&mut world.guest.nonces);
        let mut at = credit as u64;
        let (images, anchor) = world.cut(|block| {
            at = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block;
            at >> 63 != 0
        });
        let (mut world, recovery) = World::mount(images, anchor).unwrap();
        world.guest.nonces = nonces;
        assert_eq!(recovery.bad, 0);
        assert_eq!(world.read(1, 900, 200), (Status::Ok, data.clone()));
        world.settle();
        assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
        assert_eq!(world.read(1, 900, 200), (Status::Ok, data));
    }
}

#[test]
fn writes_go_on_while_a_volume_is_resealed() {
    let mut world = World::small(3000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1).repeat(2000)), Status::Ok);
    world.pool.command(7, Command::Rekey { volume: 1, suite: Suite::Aria256Gcm }).unwrap();
    let mut posted = Vec::new();
    for round in 0..300u64 {
        world.pool.member_mut(0).credit = 20;
        let block = round * 37 % 2000;
        posted.push((block, world.post_write(1, block, filled(1000 + round as u32))));
        world.now_ms += 1;
        world.step();
    }
    assert_eq!(world.pool.command(8, Command::Rekey { volume: 1, suite: Suite::Aes128Gcm }), Ok(()));
    world.pool.member_mut(0).credit = usize::MAX;
    world.settle();
    let mut expected = vec![1; 2000];
    for (round, (block, cookie)) in posted.into_iter().enumerate() {
        assert_eq!(world.answer(1, cookie).unwrap().0, Status::Ok);
        expected[block as usize] = 1000 + round as u32;
    }
    let (status, data) = world.read(1, 0, 2000);
    assert_eq!(status, Status::Ok);
    let found: Vec<u32> = data.chunks_exact(BLOCK_BYTES).map(value).collect();
    assert!(found == expected);
}

#[test]
fn a_bad_copy_of_a_mirror_is_served_from_the_good_one_and_healed() {
    let disks = vec![blank(DISK, 1), blank(DISK, 2)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("m", Layout::Mirrored, 1000, Suite::Aes128Gcm), Status::Ok);
    let data: Vec<u8> = (0..300).flat_map(|at| filled(at + 1)).collect();
    assert_eq!(world.write(1, 10, data.clone()), Status::Ok);
    // The first copy went to the disk that was asked last.
    for disk in [1, 0] {
        spoil(&mut world, disk);
        if disk == 0 {
            // Nobody reads the second copy by himself: a scrub finds it.
            assert_eq!(world.command(Command::Scrub), Status::Ok);
        }
        assert_eq!(world.read(1, 10, 300), (Status::Ok, data.clone()), "disk {disk}");
        let events = world.events();
        assert!(events.iter().all(|event| matches!(event, Event::Healed { volume: 1, .. })), "{events:?}");
        assert_eq!(events.len() as u64 + world.pool.take_lost_events(), 300);
    }
    // Both bad: no copy is made up.
    spoil(&mut world, 0);
    spoil(&mut world, 1);
    assert_eq!(world.read(1, 10, 1).0, Status::IoError);
    assert_eq!(world.write(1, 10, filled(5)), Status::Ok);
    assert_eq!(world.read(1, 10, 1), (Status::Ok, filled(5)));
}

#[test]
fn a_disk_of_a_mirror_that_fails_to_read_costs_nothing() {
    let disks = vec![blank(DISK, 1), blank(DISK, 2)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("m", Layout::Mirrored, 1000, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.write(1, 0, filled(3).repeat(40)), Status::Ok);
    let start = world.pool.superblock().geometry(0).unwrap().data_start;
    world.pool.member_mut(0).bad_blocks.extend(start..start + 4096);
    assert_eq!(world.read(1, 0, 40), (Status::Ok, filled(3).repeat(40)));
    assert_eq!(world.write(1, 5, filled(4)), Status::Ok);
    assert_eq!(world.read(1, 5, 1), (Status::Ok, filled(4)));
    assert!(!world.pool.is_read_only());
}

#[test]
fn a_scrub_names_what_is_bad() {
    let mut world = World::small(3000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1).repeat(2100)), Status::Ok);
    assert_eq!(world.command(Command::Scrub), Status::Ok);
    assert_eq!(world.events(), []);
    let at = (world.pool.superblock().geometry(0).unwrap().data_start as usize + 1234) * BLOCK_BYTES;
    world.pool.member_mut(0).image_mut()[at] ^= 1;
    assert_eq!(world.command(Command::Scrub), Status::Ok);
    assert!(matches!(world.events()[..], [Event::TagMismatch { volume: 1, .. }]));
}

#[test]
fn a_volume_that_is_being_resealed_gets_no_third_epoch() {
    let mut world = World::small(100, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 0, filled(1)), Status::Ok);
    assert_eq!(
        world.command(Command::Rekey { volume: 9, suite: Suite::Aes128Gcm }),
        Status::Refused(Refusal::NoVolume)
    );
    world.pool.anchor_mut().credit = 0;
    world.pool.command(1, Command::Rekey { volume: 1, suite: Suite::Aes256Gcm }).unwrap();
    for _ in 0..50 {
        world.step();
    }
    assert_eq!(world.pool.volumes().next().unwrap().epoch, 2);
    assert!(
        world.pool.command(2, Command::Rekey { volume: 1, suite: Suite::Aes256Gcm }).is_err(),
        "the end is under way"
    );
    world.pool.anchor_mut().credit = usize::MAX;
    world.settle();
    assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
}

#[test]
fn a_block_that_cannot_be_sealed_anew_is_not_lost() {
    for happened in [false, true] {
        let mut world = World::small(100, Suite::Aes128Gcm);
        assert_eq!(world.write(1, 0, filled(1).repeat(40)), Status::Ok);
        assert_eq!(world.run(1, Operation::Sync), Status::Ok);
        let block = world.pool.locate(1, 5, 0).unwrap().1;
        world.pool.member_mut(0).bad_answers.insert(block);
        assert_eq!(world.command(Command::Rekey { volume: 1, suite: Suite::Aria128Gcm }), Status::Ok);
        // Either key may open the block now, and nobody asked for it who could be told: the next mount looks.
        assert!(world.pool.is_read_only() && world.events().contains(&Event::WritesStopped));
        let (images, anchor) = world.cut(|_| happened);
        let (mut world, recovery) = World::mount(images, anchor).unwrap();
        assert_eq!(recovery.bad, 0);
        assert_eq!(world.read(1, 0, 40), (Status::Ok, filled(1).repeat(40)));
        world.settle();
        assert_eq!(world.read(1, 0, 40), (Status::Ok, filled(1).repeat(40)));
        assert_eq!(world.pool.volumes().next().unwrap().resealing, None);
    }
}
