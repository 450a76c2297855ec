//! Extents change hands while a checkpoint stores the tables that say whose they are; then the power goes.

use core::ops::Range;

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use crypto::Suite;

use super::world::*;
use crate::{Command, Event, FormatOptions, Layout, Operation, Options, Status, format, mount};

const EXTENT: u64 = 1024;
/// Where the log lies on a disk.
const LOG: Range<u64> = 8..520;
/// Leaves that the first checkpoint stores: more than it does in one look.
const LEAVES: u64 = 100;
/// Blocks of the volume that one of them describes.
const LEAF: u64 = 128;

/// A checkpoint stores `tree_budget` blocks in one look.
fn options_of(tree_budget: u32) -> Options {
    Options { cache_blocks: 400, tree_budget, ..options() }
}

/// A volume of `extents` on so many disks.
fn world(disks: u64, layout: Layout, extents: u64, options: &Options) -> World {
    let new = FormatOptions { log_blocks: Some(LOG.end - LOG.start), torn_sectors: false };
    let disks = (0..disks).map(|seed| blank((extents + 3) * EXTENT, seed + 1)).collect();
    let mut world = World::with(format(disks, RamAnchor::new(), &root(), random(), &new, options, || true).unwrap());
    assert_eq!(world.create("one", layout, extents * EXTENT, Suite::Aes128Gcm), Status::Ok);
    world
}

/// The power goes, and comes back; all that was written is still there.
fn after_a_cut(world: World, options: &Options, said: &str) -> World {
    let (images, anchor) = world.cut(|_| true);
    let disks = images.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
    match mount(disks, anchor, &root(), random(), options, || true) {
        Ok((pool, _)) => World::with(pool),
        Err(error) => panic!("{said}: {error:?}"),
    }
}

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

#[test]
fn a_table_is_stored_once_in_a_checkpoint() {
    let options = options_of(32);
    for looks in 0..12 {
        let said = std::format!("{looks} looks");
        let mut world = world(1, Layout::Linear, 16, &options);
        assert_eq!(world.write(1, 14 * EXTENT, filled(7)), Status::Ok);
        assert_eq!(world.run(1, Operation::Sync), Status::Ok);
        for leaf in 0..LEAVES {
            assert_eq!(world.write(1, LEAF * leaf, filled(200 + leaf as u32)), Status::Ok);
        }
        world.post(1, Operation::Sync);
        world.step();
        world.post_write(1, 15 * EXTENT, filled(8));
        steps(&mut world, looks);
        let mut world = after_a_cut(world, &options, &said);
        for leaf in 0..LEAVES {
            assert_eq!(world.read(1, LEAF * leaf, 1), (Status::Ok, filled(200 + leaf as u32)), "{said}");
        }
        assert_eq!(world.read(1, 14 * EXTENT, 1), (Status::Ok, filled(7)), "{said}");
    }
}

/// After a checkpoint began and `before` looks went by, all extents are given back and one of them has another place at once; the
/// log that says so does not reach the disks. Whatever a power cut `looks` looks later leaves, every block is what it was or what
/// it was to be, and all copies say the same.
fn moved_while_tables_are_stored(layout: Layout, before: usize, looks: usize) {
    let (options, said) = (options_of(1), std::format!("{layout:?}, {before} and {looks} looks"));
    let mut world = world(2, layout, 4, &options);
    for half in [0, 2] {
        assert_eq!(world.write(1, half * EXTENT, filled(7)), Status::Ok);
        assert_eq!(world.write(1, (half + 1) * EXTENT, filled(7)), Status::Ok);
        world.post(1, Operation::Sync);
        if half == 0 {
            world.settle();
        }
    }
    steps(&mut world, before);
    (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(LOG));
    world.post(1, Operation::Zero { block: 0, blocks: 4 * EXTENT as u32 });
    world.post_write(1, EXTENT + 1, filled(8));
    steps(&mut world, looks);
    let mut world = after_a_cut(world, &options, &said);
    for (block, may) in [(0, [7, 0]), (EXTENT, [7, 0]), (EXTENT + 1, [0, 8]), (2 * EXTENT, [7, 0])] {
        let found = [(); 2].map(|()| world.read(1, block, 1));
        let is_sound = may.iter().any(|value| found[0] == (Status::Ok, filled(*value)));
        assert!(is_sound && found[0] == found[1], "{said}: block {block}");
    }
    assert_eq!(world.command(Command::Scrub), Status::Ok, "{said}");
    let is_bad =
        |event: &Event| matches!(event, Event::TagMismatch { .. } | Event::Healed { .. } | Event::ReadFailed { .. });
    assert!(!world.events().iter().any(is_bad), "{said}");
}

#[test]
fn the_tables_of_a_checkpoint_are_of_one_moment() {
    for layout in [Layout::Linear, Layout::Mirrored] {
        for before in 0..6 {
            for looks in [1, 4, 16] {
                moved_while_tables_are_stored(layout, before, looks);
            }
        }
    }
}

#[test]
fn a_superblock_waits_for_the_log_that_says_what_its_tables_say() {
    let options = options_of(32);
    let mut world = world(2, Layout::Linear, 4, &options);
    assert_eq!(world.write(1, 0, filled(7)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    assert_eq!(world.write(1, EXTENT, filled(8)), Status::Ok);
    (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(LOG));
    world.post(1, Operation::Zero { block: 0, blocks: 4 * EXTENT as u32 });
    world.post_write(1, EXTENT + 1, filled(9));
    world.step();
    world.pool.command(1000, Command::Grow { volume: 1, blocks: 5 * EXTENT }).unwrap();
    let before = world.pool.superblock().checkpoint;
    steps(&mut world, 50);
    assert_eq!(world.pool.superblock().checkpoint, before);
    (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
    while world.pool.superblock().checkpoint == before {
        world.step();
    }
    // Twice, since what the first mount makes of it is in the tables of the second.
    for said in ["first mount", "second mount"] {
        world = after_a_cut(world, &options, said);
        assert_eq!(world.read(1, EXTENT, 1), (Status::Ok, filled(0)), "{said}");
        assert_eq!(world.run(1, Operation::Sync), Status::Ok, "{said}");
    }
}

/// A write has got its extent and waits for a buffer, its guest is reset, and the volume deleted: all before the log comes on.
#[test]
fn a_volume_goes_when_the_log_has_said_all_of_it() {
    let options = options_of(32);
    let mut world = world(2, Layout::Linear, 4, &options);
    assert_eq!(world.create("two", Layout::Linear, EXTENT, Suite::Aes128Gcm), Status::Ok);
    assert_eq!(world.write(1, 0, filled(7)), Status::Ok);
    assert_eq!(world.write(1, EXTENT, filled(7)), Status::Ok);
    assert_eq!(world.run(1, Operation::Sync), Status::Ok);
    (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.extend(LOG));
    for (disk, extent) in [0, 1].map(|extent| (world.pool.locate(1, extent * EXTENT, 0).unwrap().0, extent)) {
        let mut block = extent * EXTENT + LEAF;
        while world.pool.member(disk).free_buffers() != 0 {
            let blocks = world.pool.member(disk).free_buffers().min(8);
            world.post_write(1, block, filled(5).repeat(blocks));
            block += blocks as u64;
            world.step();
        }
    }
    world.post_write(2, 0, filled(6));
    world.step();
    assert!(world.pool.locate(2, 0, 0).is_some(), "the write has its extent");
    world.pool.cancel(2);
    world.step();
    world.pool.command(1000, Command::Delete { volume: 2 }).unwrap();
    steps(&mut world, 10);
    (0..2).for_each(|disk| world.pool.member_mut(disk).held_blocks.clear());
    while world.pool.volumes().count() != 1 {
        world.step();
    }
    let mut world = after_a_cut(world, &options, "deleted");
    assert_eq!(world.read(1, 0, 1), (Status::Ok, filled(7)));
}
