//! The six claims of the sheet, each with the scene that shows it. What these scenes do not reach, `./x sim` looks for.

use crypto::Suite;
use sim::{
    config::{CACHE_BLOCKS, Config, VolumePlan},
    disk::Order,
    exhaustive,
    media::Image,
    model::View,
    step::{Ask, Command, Step},
    tamper::Part,
    world::{Mounted, World},
};
use volume::{Error, Layout, Policy, record::geometry::Geometry};

const BULK: Policy = Policy::Bulk { window_ms: 60_000 };

fn config(policy: Policy, suite: Suite) -> Config {
    Config {
        seed: 7,
        extents: vec![1],
        torn: false,
        policy,
        order: Order::Random,
        volumes: vec![VolumePlan { layout: Layout::Linear, blocks: 24, suite }],
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
    }
}

fn world(policy: Policy) -> World {
    World::new(config(policy, Suite::Aes128Gcm)).unwrap()
}

fn volume(world: &World) -> u32 {
    *world.volumes.keys().next().unwrap()
}

fn ask(world: &mut World, what: Ask) {
    let number = volume(world);
    world.submit(number, what);
    world.drain().unwrap();
}

fn images(world: &World) -> Vec<Image> {
    world.disks.iter().map(|disk| disk.media().durable().clone()).collect()
}

/// The power goes with nothing but flushed blocks kept; the pool is left unmounted.
fn power_off(world: &mut World) {
    world.lose_power_keeping(&mut |_, _, _| 0, false);
}

fn mount(world: &mut World) {
    assert_eq!(world.mount().unwrap(), Mounted::Served { bad: 0 });
}

fn geometry(world: &World) -> Geometry {
    let blocks = world.disks[0].media().blocks();
    Geometry::for_member(0, blocks, volume::record::geometry::MIN_LOG_BLOCKS).unwrap()
}

#[test]
fn confidentiality_no_plaintext_reaches_a_disk_under_any_suite() {
    for suite in Suite::ALL {
        let mut world = World::new(config(BULK, suite)).unwrap();
        for what in [Ask::Write(0, 24), Ask::Flush, Ask::Write(3, 5), Ask::Zero(4, 2), Ask::Sync, Ask::Read(0, 24)] {
            ask(&mut world, what);
        }
        assert!(!world.disks[0].saw_plaintext());
    }
}

#[test]
fn confidentiality_what_the_anchor_keeps_secret_is_not_on_the_disk() {
    let mut world = world(Policy::Strict);
    ask(&mut world, Ask::Write(0, 24));
    ask(&mut world, Ask::Sync);
    let record = volume::record::anchored::Anchored::parse(&world.store.snapshot().record).unwrap();
    let secret = &record.secret.bytes[..8];
    for content in images(&world).iter().flatten().flatten() {
        assert!(!content.bytes.windows(8).any(|window| window == secret));
    }
}

#[test]
fn integrity_a_changed_sealed_block_is_an_error_and_its_neighbours_are_not() {
    let mut world = world(Policy::Strict);
    ask(&mut world, Ask::Write(0, 8));
    ask(&mut world, Ask::Sync);
    power_off(&mut world);
    let sound = images(&world);
    let sealed: Vec<usize> = Part::Data.range(&geometry(&world)).filter(|block| sound[0][*block].is_some()).collect();
    assert_eq!(sealed.len(), 8);
    for block in sealed {
        let mut copy = world.copy();
        let mut images = sound.clone();
        let mut bytes = images[0][block].as_ref().unwrap().bytes;
        bytes[block % 4096] ^= 4;
        images[0][block] = sim::media::cell(&bytes);
        let anchor = copy.store.snapshot();
        copy.give(images, anchor);
        assert_eq!(copy.mount().unwrap(), Mounted::Served { bad: 1 });
        world.come_back(copy);
    }
}

#[test]
fn integrity_no_exchange_of_two_blocks_anywhere_shows_other_data() {
    let mut world = world(Policy::Strict);
    for what in [Ask::Write(0, 8), Ask::Sync, Ask::Write(2, 4), Ask::Sync] {
        ask(&mut world, what);
    }
    power_off(&mut world);
    let sound = images(&world);
    let used: Vec<usize> = (0..sound[0].len()).filter(|block| sound[0][*block].is_some()).collect();
    for (index, one) in used.iter().enumerate() {
        for two in &used[index + 1..] {
            let mut copy = world.copy();
            let mut images = sound.clone();
            images[0].swap(*one, *two);
            let anchor = copy.store.snapshot();
            copy.give(images, anchor);
            // The mount compares every block with the model.
            copy.mount().unwrap();
            world.come_back(copy);
        }
    }
}

/// A world whose disks were copied, then flushed once more; the copies, and the anchor at that time.
fn flushed_after_a_copy(policy: Policy) -> (World, Vec<Image>, anchor::Snapshot) {
    let mut world = world(policy);
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Flush);
    let (old, anchor) = (images(&world), world.store.snapshot());
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Flush);
    (world, old, anchor)
}

fn mounted_with(world: &mut World, images: Vec<Image>, anchor: anchor::Snapshot) -> Mounted {
    let mut copy = world.copy();
    copy.lose_power_keeping(&mut |_, _, _| 0, false);
    copy.give(images, anchor);
    let mounted = copy.mount().unwrap();
    world.come_back(copy);
    mounted
}

#[test]
fn freshness_strict_refuses_a_disk_from_before_the_last_flush() {
    let (mut world, old, _) = flushed_after_a_copy(Policy::Strict);
    let anchor = world.store.snapshot();
    let mounted = mounted_with(&mut world, old, anchor);
    assert!(matches!(mounted, Mounted::Refused(Error::RolledBack { .. })), "{mounted:?}");
}

#[test]
fn freshness_bulk_refuses_a_disk_from_before_the_last_synchronisation() {
    let (mut world, old, _) = flushed_after_a_copy(BULK);
    ask(&mut world, Ask::Sync);
    let anchor = world.store.snapshot();
    let mounted = mounted_with(&mut world, old, anchor);
    assert!(matches!(mounted, Mounted::Refused(Error::RolledBack { .. })), "{mounted:?}");
}

#[test]
fn freshness_bulk_refuses_a_disk_from_before_the_window() {
    let (mut world, old, _) = flushed_after_a_copy(BULK);
    world.step(&Step::Wait { ms: 61_000 }).unwrap();
    for _ in 0..100 {
        world.call(4).unwrap();
    }
    let anchor = world.store.snapshot();
    let mounted = mounted_with(&mut world, old, anchor);
    assert!(matches!(mounted, Mounted::Refused(Error::RolledBack { .. })), "{mounted:?}");
}

#[test]
fn freshness_every_policy_refuses_a_disk_from_before_the_last_mount_and_what_it_found() {
    for policy in [Policy::Strict, BULK] {
        let mut world = world(policy);
        ask(&mut world, Ask::Write(0, 4));
        ask(&mut world, Ask::Flush);
        let old = images(&world);
        ask(&mut world, Ask::Write(0, 4));
        ask(&mut world, Ask::Flush);
        power_off(&mut world);
        mount(&mut world);
        let anchor = world.store.snapshot();
        let mounted = mounted_with(&mut world, old, anchor);
        assert!(matches!(mounted, Mounted::Refused(Error::RolledBack { .. })), "{policy:?}: {mounted:?}");
    }
}

#[test]
fn freshness_an_anchor_from_before_the_last_mount_is_refused() {
    let mut world = world(Policy::Strict);
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Flush);
    let old = world.store.snapshot();
    power_off(&mut world);
    mount(&mut world);
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Sync);
    let now = images(&world);
    let mounted = mounted_with(&mut world, now, old);
    assert!(matches!(mounted, Mounted::Refused(Error::AnchorOlder { .. })), "{mounted:?}");
}

#[test]
fn freshness_no_single_block_put_back_shows_old_data() {
    let (mut world, old, _) = flushed_after_a_copy(Policy::Strict);
    ask(&mut world, Ask::Sync);
    power_off(&mut world);
    let sound = images(&world);
    let changed: Vec<usize> = (0..sound[0].len()).filter(|block| sound[0][*block] != old[0][*block]).collect();
    assert!(changed.len() > 8, "only {} blocks differ", changed.len());
    for block in changed {
        let mut images = sound.clone();
        images[0][block].clone_from(&old[0][block]);
        let anchor = world.store.snapshot();
        // The mount compares every block with the model.
        mounted_with(&mut world, images, anchor);
    }
}

#[test]
fn consistency_and_atomicity_of_flush_every_short_history_recovers_from_every_cut() {
    let found = exhaustive::run(2, 1).unwrap();
    assert!(found.outcomes > 1000, "{found}");
}

#[test]
fn consistency_a_half_done_command_leaves_the_pool_before_or_after_it() {
    let commands = [
        Command::Create(9, Suite::Aria128Gcm),
        Command::Grow(0, 5),
        Command::Rename(0),
        Command::Rekey(0, Suite::Seed128Gcm),
        Command::Delete(0),
    ];
    for command in commands {
        for ahead in 0..60 {
            let mut world = world(BULK);
            ask(&mut world, Ask::Write(0, 4));
            ask(&mut world, Ask::Flush);
            for step in [Step::CutIn { ahead }, Step::Command(command), Step::Drain, Step::Restart] {
                world.step(&step).unwrap_or_else(|what| panic!("{command:?} cut after {ahead} boundaries: {what}"));
            }
        }
    }
}

#[test]
fn atomicity_of_flush_what_a_flush_covered_survives_any_cut_afterwards() {
    for policy in [Policy::Strict, BULK] {
        for seed in 0..20 {
            let mut world = world(policy);
            ask(&mut world, Ask::Write(0, 8));
            ask(&mut world, Ask::Flush);
            let flushed: Vec<Vec<u64>> =
                (0..8).map(|block| world.volumes[&volume(&world)].model.block(block).allowed(View::Durable)).collect();
            assert!(flushed.iter().all(|allowed| allowed.len() == 1));
            ask(&mut world, Ask::Write(8, 4));
            world.step(&Step::Cut { seed, again: vec![seed] }).unwrap();
            let number = volume(&world);
            let after = (0..8).map(|block| world.volumes[&number].model.block(block).allowed(View::Durable));
            assert_eq!(after.collect::<Vec<_>>(), flushed);
        }
    }
}

/// Calls the engine until it has nothing to do in the background.
fn settle(world: &mut World) {
    for _ in 0..20_000 {
        if world.is_idle() {
            return;
        }
        world.call(4).unwrap();
    }
    panic!("the background does not come to an end");
}

#[test]
fn irreversibility_after_a_new_key_the_old_ones_wrapping_opens_nothing() {
    let mut world = world(BULK);
    ask(&mut world, Ask::Write(0, 8));
    ask(&mut world, Ask::Sync);
    let (old, before) = (images(&world), world.store.snapshot());
    world.step(&Step::Command(Command::Rekey(0, Suite::Aes256Gcm))).unwrap();
    world.drain().unwrap();
    settle(&mut world);
    ask(&mut world, Ask::Sync);
    // Whoever has the old disk and even a record that admits it lacks the secret that its keys are wrapped under.
    let now = volume::record::anchored::Anchored::parse(&world.store.snapshot().record).unwrap();
    let then = volume::record::anchored::Anchored::parse(&before.record).unwrap();
    assert_ne!(now.secret.bytes, then.secret.bytes);
    let mut forged = then.clone();
    (forged.secret, forged.next_secret) = (now.secret.clone(), now.next_secret.clone());
    let anchor = anchor::Snapshot { counter: before.counter, record: forged.encode() };
    let mounted = mounted_with(&mut world, old, anchor);
    assert!(matches!(mounted, Mounted::Refused(Error::KeyErased { .. })), "{mounted:?}");
    // And nothing that is served now needs it.
    power_off(&mut world);
    mount(&mut world);
}

#[test]
fn irreversibility_a_deleted_volumes_key_opens_nothing() {
    let mut world = world(BULK);
    ask(&mut world, Ask::Write(0, 8));
    ask(&mut world, Ask::Sync);
    let (old, before) = (images(&world), world.store.snapshot());
    world.step(&Step::Command(Command::Delete(0))).unwrap();
    world.drain().unwrap();
    settle(&mut world);
    let now = volume::record::anchored::Anchored::parse(&world.store.snapshot().record).unwrap();
    let mut forged = volume::record::anchored::Anchored::parse(&before.record).unwrap();
    (forged.secret, forged.next_secret) = (now.secret.clone(), now.next_secret.clone());
    let anchor = anchor::Snapshot { counter: before.counter, record: forged.encode() };
    let mounted = mounted_with(&mut world, old, anchor);
    assert!(matches!(mounted, Mounted::Refused(Error::KeyErased { .. })), "{mounted:?}");
}

#[test]
fn irreversibility_the_key_of_the_last_volume_goes_with_it_even_if_power_goes_meanwhile() {
    let mut gone = 0;
    for ahead in 0..80 {
        let mut world = world(BULK);
        ask(&mut world, Ask::Write(0, 8));
        ask(&mut world, Ask::Sync);
        let secret = |world: &World| {
            volume::record::anchored::Anchored::parse(&world.store.snapshot().record).unwrap().secret.bytes.clone()
        };
        let before = secret(&world);
        for step in [Step::CutIn { ahead }, Step::Command(Command::Delete(0)), Step::Drain, Step::Restart] {
            world.step(&step).unwrap();
        }
        if world.volumes.values().all(sim::world::Known::is_gone) {
            gone += 1;
            assert_ne!(secret(&world), before, "the power went after {ahead} boundaries");
        }
    }
    assert!(gone > 10, "the deletion came through {gone} times");
}

#[test]
fn consistency_a_rotation_that_the_anchor_refuses_half_way_loses_no_key() {
    for calls in 0..60 {
        let mut world = world(BULK);
        ask(&mut world, Ask::Write(0, 8));
        ask(&mut world, Ask::Sync);
        world.step(&Step::Command(Command::Rekey(0, Suite::Aes256Gcm))).unwrap();
        world.drain().unwrap();
        for _ in 0..calls {
            world.call(1).unwrap();
        }
        let then = [
            Step::Refuse(true),
            Step::Idle,
            Step::Command(Command::Create(4, Suite::Aes128Gcm)),
            Step::Drain,
            Step::Refuse(false),
            Step::Command(Command::Rekey(0, Suite::Aes128Gcm)),
            Step::Drain,
            Step::Cut { seed: calls, again: Vec::new() },
            Step::Wait { ms: 2000 },
            Step::Idle,
            Step::Restart,
        ];
        for step in then {
            world.step(&step).unwrap_or_else(|what| panic!("refused after {calls} calls: {step}: {what}"));
        }
    }
}
