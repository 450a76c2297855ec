//! The crash table of the format document, row by row: the power goes at every moment that the row is about, with nothing kept of what
//! was not flushed, with everything, and with some of it.

use crypto::Suite;
use sim::{
    config::{CACHE_BLOCKS, Config, VolumePlan},
    disk::Order,
    media::Image,
    model::View,
    rng::mix,
    step::Ask,
    tamper::Part,
    world::{Mounted, World},
};
use volume::{
    Command, Error, Layout, Policy,
    record::{anchored::Anchored, geometry::Geometry},
};

/// Blocks that each scene writes.
const BLOCKS: u64 = 2;

/// A pool in which the blocks were written and flushed; their plaintexts.
fn flushed(layout: Layout, torn: bool, policy: Policy) -> (World, Vec<u64>) {
    let config = Config {
        seed: 11,
        extents: vec![1; if layout == Layout::Mirrored { 2 } else { 1 }],
        torn,
        policy,
        order: Order::First,
        volumes: vec![VolumePlan { layout, blocks: 24, suite: Suite::Aes128Gcm }],
        cache_blocks: CACHE_BLOCKS,
        depth: 4,
        faults: Vec::new(),
        faulty_member: None,
        adversary: false,
        losses: false,
        degraded: true,
        spoils: false,
        uncovered_limit: 4096,
        tree_budget: 32,
    };
    let mut world = World::new(config).unwrap();
    for what in [Ask::Write(0, BLOCKS as u32), Ask::Sync] {
        world.submit(1, what);
        world.drain().unwrap();
    }
    let old = held(&world);
    (world, old)
}

/// What the blocks hold: after a mount has looked at them there is one answer.
fn held(world: &World) -> Vec<u64> {
    let block = |block| world.volumes[&1].model.block(block).allowed(View::Durable);
    (0..BLOCKS).flat_map(block).collect()
}

fn geometry(world: &World) -> Geometry {
    let blocks = world.disks[0].media().blocks();
    Geometry::for_member(0, blocks, volume::record::geometry::MIN_LOG_BLOCKS).unwrap()
}

/// How many blocks of a part of the first disk were written and not flushed, and are being written.
fn pending(world: &World, part: Part) -> (usize, usize) {
    let range = part.range(&geometry(world));
    let is_there = |block: u64| range.contains(&(block as usize));
    let unflushed = world.disks[0].media().unflushed().iter().filter(|write| is_there(write.block)).count();
    (unflushed, world.disks[0].under_way().iter().filter(|(block, _)| is_there(*block)).count())
}

fn is_quiet(world: &World, part: Part) -> bool {
    pending(world, part) == (0, 0)
}

/// What a mount finds when the power goes now, in every manner: nothing, everything, or some of what was not flushed is kept.
fn outcomes(world: &mut World) -> Vec<Vec<u64>> {
    let mut all = Vec::new();
    for manner in 0..12 {
        for happened in [false, true] {
            let mut copy = world.copy();
            let choose = |block: u64, sector: Option<usize>, candidates: usize| match manner {
                0 => 0,
                1 => candidates - 1,
                _ => (mix(manner << 40 | block << 4 | sector.unwrap_or(9) as u64) % candidates as u64) as usize,
            };
            copy.lose_power_keeping(&mut |(_, block), sector, candidates| choose(block, sector, candidates), happened);
            assert_eq!(copy.mount().unwrap(), Mounted::Served { bad: 0 });
            all.push(held(&copy));
            world.come_back(copy);
        }
    }
    all
}

/// Asks for something and looks at every moment, until it is answered, that `row` is about. There must be one.
fn at_moments(world: &mut World, what: Ask, row: impl Fn(&World) -> bool, mut look: impl FnMut(&mut World)) {
    world.submit(1, what);
    let mut moments = 0;
    while !world.is_quiet() {
        world.call(1).unwrap();
        if row(world) {
            moments += 1;
            look(world);
        }
    }
    assert!(moments > 0, "no moment is what this row is about");
}

const LAYOUTS: [(Layout, bool); 3] = [(Layout::Linear, false), (Layout::Linear, true), (Layout::Mirrored, false)];

fn rewrite() -> Ask {
    Ask::Write(0, BLOCKS as u32)
}

/// A pool in which the blocks were written again and that was answered; what they held and hold.
fn written(layout: Layout, torn: bool) -> (World, Vec<u64>, Vec<u64>) {
    written_under(layout, torn, Policy::Strict)
}

fn written_under(layout: Layout, torn: bool, policy: Policy) -> (World, Vec<u64>, Vec<u64>) {
    let (mut world, old) = flushed(layout, torn, policy);
    world.submit(1, rewrite());
    world.drain().unwrap();
    let new: Vec<u64> =
        (0..BLOCKS).flat_map(|block| world.volumes[&1].model.block(block).allowed(View::Live(u64::MAX))).collect();
    (world, old, new)
}

#[test]
fn row_1_before_the_group_is_flushed_the_blocks_are_old() {
    for (layout, torn) in LAYOUTS {
        let (mut world, old) = flushed(layout, torn, Policy::Strict);
        let row = |world: &World| !is_quiet(world, Part::Log) && is_quiet(world, Part::Data);
        at_moments(&mut world, rewrite(), row, |world| {
            // Where sectors tear, the log brings the data along: then a record that is there is as good as the write.
            assert!(outcomes(world).iter().all(|found| *found == old || torn), "{layout:?}");
        });
    }
}

#[test]
fn rows_2_and_3_while_data_goes_in_place_each_block_is_old_or_new() {
    for (layout, torn) in LAYOUTS {
        let (mut world, old) = flushed(layout, torn, Policy::Strict);
        let row = |world: &World| is_quiet(world, Part::Log) && pending(world, Part::Data).1 > 0;
        let (mut saw_old, mut saw_new) = (false, false);
        at_moments(&mut world, rewrite(), row, |world| {
            // That each block is one or the other, and that nothing is bad, the mount's own check has seen.
            for found in outcomes(world) {
                saw_old |= found == old;
                saw_new |= found.iter().zip(&old).all(|(found, old)| found != old);
            }
        });
        assert!((saw_old || torn) && saw_new, "{layout:?} {torn}");
    }
}

#[test]
fn row_4_after_the_data_and_before_a_flush_new_where_it_landed() {
    for (layout, torn) in LAYOUTS {
        let (mut world, old, new) = written(layout, torn);
        assert!(is_quiet(&world, Part::Log) && pending(&world, Part::Data).0 > 0);
        let found = outcomes(&mut world);
        assert!(
            found[0] == if torn { new.clone() } else { old.clone() },
            "nothing was kept of it, but by a log with data"
        );
        assert!(found[2] == new, "everything was kept");
    }
}

#[test]
fn row_5_after_the_disk_was_flushed_only_the_new_is_found_marker_or_not() {
    for (layout, torn) in LAYOUTS {
        let (mut world, _, new) = written(layout, torn);
        let row = |world: &World| is_quiet(world, Part::Data) && !is_quiet(world, Part::Log);
        at_moments(&mut world, Ask::Flush, row, |world| assert!(outcomes(world).iter().all(|found| *found == new)));
    }
}

#[test]
fn row_6_after_the_marker_only_the_new_counts_and_once_it_is_anchored_an_older_disk_is_refused() {
    for (layout, torn) in LAYOUTS {
        // Under the bulk policy the anchor's advance does not follow.
        for policy in [Policy::Bulk { window_ms: 60_000 }, Policy::Strict] {
            let (mut world, _, new) = written_under(layout, torn, policy);
            world.submit(1, Ask::Flush);
            world.drain().unwrap();
            assert!(outcomes(&mut world).iter().all(|found| *found == new));
        }
        let (mut world, ..) = written(layout, torn);
        let before: Vec<Image> = world.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        world.submit(1, Ask::Flush);
        world.drain().unwrap();
        let mut copy = world.copy();
        copy.lose_power_keeping(&mut |_, _, _| 0, false);
        let anchor = copy.store.snapshot();
        copy.give(before, anchor);
        assert!(matches!(copy.mount().unwrap(), Mounted::Refused(Error::RolledBack { .. })));
        world.come_back(copy);
    }
}

#[test]
fn rows_7_and_8_a_checkpoint_is_there_or_not() {
    for part in [Part::Leaves, Part::Nodes, Part::Ring] {
        for (layout, torn) in LAYOUTS {
            let (mut world, _, new) = written(layout, torn);
            world.submit(1, Ask::Flush);
            world.drain().unwrap();
            at_moments(
                &mut world,
                Ask::Sync,
                |world| !is_quiet(world, part),
                |world| {
                    assert!(outcomes(world).iter().all(|found| *found == new), "{part:?}");
                },
            );
        }
    }
}

#[test]
fn row_9_a_mount_that_is_cut_anywhere_is_followed_by_one_that_finds_the_same_again() {
    for (layout, torn) in LAYOUTS {
        let (mut world, _, new) = written(layout, torn);
        world.submit(1, Ask::Flush);
        world.drain().unwrap();
        world.lose_power_keeping(&mut |_, _, _| 0, false);
        let mut cuts = 0;
        for ahead in 0..200 {
            let mut copy = world.copy();
            copy.power.cut_in(ahead);
            let mounted = copy.mount().unwrap();
            if mounted == Mounted::Cut {
                cuts += 1;
                copy.lose_power_keeping(
                    &mut |(_, block), _, all| (mix(block ^ ahead) % all as u64) as usize,
                    ahead % 2 == 0,
                );
                assert_eq!(copy.mount().unwrap(), Mounted::Served { bad: 0 });
            }
            assert_eq!(held(&copy), new);
            world.come_back(copy);
        }
        assert!(cuts > 20);
    }
}

/// Which erase secret the anchor holds.
fn generation(world: &World) -> u32 {
    Anchored::parse(&world.store.snapshot().record).unwrap().secret.generation
}

#[test]
fn row_10_between_the_steps_of_a_key_rotation_every_key_opens() {
    for (layout, torn) in LAYOUTS {
        let (mut world, _, new) = written(layout, torn);
        world.submit(1, Ask::Flush);
        world.drain().unwrap();
        world.command(Command::Rekey { volume: 1, suite: Suite::Aria128Gcm });
        let (mut moments, before) = (0, generation(&world));
        while !world.is_quiet() || !world.is_idle() {
            world.call(1).unwrap();
            moments += 1;
            if moments % 3 == 0 {
                assert!(outcomes(&mut world).iter().all(|found| *found == new));
            }
        }
        assert_eq!(generation(&world), before + 1, "the old key was destroyed meanwhile");
    }
}
