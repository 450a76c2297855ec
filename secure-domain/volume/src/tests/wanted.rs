//! The way to the volumes that are wanted: over a real pool, cut off anywhere, and what is never done.

use std::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crypto::Suite;
use proptest::prelude::*;

use super::world::*;
use crate::{
    FormatOptions, Layout, Name, Operation, Refusal, Status, VolumeInfo,
    wanted::{Note, Plan, Wanted},
};

const MIB: u64 = 256;

fn wanted(name: &str, blocks: u64, suite: Suite, epoch: u16) -> Wanted {
    Wanted { name: Name::new(name).unwrap(), layout: Layout::Linear, blocks, suite, epoch }
}

fn empty() -> World {
    World::format(vec![blank(DISK, 1)], &FormatOptions { log_blocks: Some(64), torn_sectors: false })
}

fn volumes(world: &World) -> Vec<VolumeInfo> {
    world.pool.volumes().collect()
}

/// Takes one step: creations first, as at a start. Whether there was one.
fn step(world: &mut World, plan: &mut Plan, in_use: bool) -> bool {
    let now = volumes(world);
    let Some(command) = plan.next_creation(&now).or_else(|| plan.next_change(&now, |_| in_use)) else { return false };
    let status = world.command(command);
    plan.ended(status, &volumes(world));
    true
}

/// Goes all the way; what was told.
fn reach(world: &mut World, plan: &mut Plan) -> Vec<String> {
    for _ in 0..100 {
        if !step(world, plan, true) {
            if plan.is_settled(&volumes(world)) {
                return notes(plan);
            }
            // A resealing goes on by itself.
            world.now_ms += 1000;
            world.settle();
        }
    }
    panic!("what is wanted is never reached");
}

fn notes(plan: &mut Plan) -> Vec<String> {
    core::iter::from_fn(|| plan.next_note()).map(|note| note.to_string()).collect()
}

#[test]
fn nothing_is_deleted_for_want_of_a_line() {
    let mut world = World::small(1000, Suite::Aes128Gcm);
    let before = volumes(&world);
    let mut plan = Plan::new([]);
    assert!(plan.is_settled(&before));
    assert_eq!((reach(&mut world, &mut plan), volumes(&world)), (vec![], before));
}

#[test]
fn a_larger_volume_and_another_layout_are_told_once_and_left_as_they_are() {
    let mut world = World::small(4 * MIB, Suite::Aes128Gcm);
    let before = volumes(&world);
    let mirrored = Wanted { layout: Layout::Mirrored, ..wanted("one", 2 * MIB, Suite::Aes128Gcm, 1) };
    let mut plan = Plan::new([mirrored]);
    assert_eq!(
        reach(&mut world, &mut plan),
        [
            "volume \"one\" is linear and not mirrored as wanted: it is served as it is",
            "volume \"one\" has 4 MiB, more than the 2 that are wanted: it is served as it is",
        ]
    );
    assert_eq!((reach(&mut world, &mut plan), volumes(&world)), (vec![], before));
}

#[test]
fn what_the_pool_refuses_is_told_and_not_tried_again() {
    let mut world = empty();
    let alone = Wanted { layout: Layout::Mirrored, ..wanted("pair", MIB, Suite::Aes128Gcm, 1) };
    let mut plan = Plan::new([alone, wanted("other", MIB, Suite::Aes128Gcm, 1)]);
    let told = reach(&mut world, &mut plan);
    assert_eq!(told[0], "volume \"pair\" cannot be created: the layout needs more disks");
    assert_eq!(told[1..], ["volume \"other\" is created: 1 MiB, linear, AES-128-GCM"]);
    assert!(!step(&mut world, &mut plan, true));
}

#[test]
fn a_pool_that_is_busy_is_asked_again() {
    let mut world = empty();
    let mut plan = Plan::new([wanted("one", MIB, Suite::Aes128Gcm, 1)]);
    assert!(plan.next_creation(&[]).is_some());
    assert_eq!(plan.next_creation(&[]), None, "one at a time");
    plan.ended(Status::Refused(Refusal::Busy), &[]);
    assert!(plan.next_creation(&[]).is_some());
    plan.put_off();
    assert_eq!(reach(&mut world, &mut plan).len(), 1);
}

#[test]
fn a_volume_is_grown_only_once_a_driver_has_it() {
    let mut world = World::small(MIB, Suite::Aes128Gcm);
    let mut plan = Plan::new([wanted("one", 3 * MIB, Suite::Aes128Gcm, 1)]);
    assert!(!step(&mut world, &mut plan, false));
    assert!(!plan.is_settled(&volumes(&world)));
    assert_eq!(reach(&mut world, &mut plan), ["volume \"one\" is grown to 3 MiB"]);
    assert_eq!(world.pool.blocks(1), Some(3 * MIB));
}

#[test]
fn another_suite_and_every_generation_of_the_key_is_a_resealing_of_its_own() {
    let mut world = World::small(MIB, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 7, filled(7)), Status::Ok);
    let mut plan = Plan::new([wanted("one", MIB, Suite::Seed128Gcm, 3)]);
    let told = reach(&mut world, &mut plan);
    let keys: Vec<_> = told.iter().filter(|told| told.contains("new key")).collect();
    assert_eq!(
        keys,
        [
            "volume \"one\" has a new key, epoch 2, SEED-128-GCM: it is being resealed",
            "volume \"one\" has a new key, epoch 3, SEED-128-GCM: it is being resealed"
        ]
    );
    assert_eq!(world.read(1, 7, 1), (Status::Ok, filled(7)));
    // The epoch is what it is at least: nothing more is done for a smaller number.
    let mut plan = Plan::new([wanted("one", MIB, Suite::Seed128Gcm, 2)]);
    assert_eq!(reach(&mut world, &mut plan), Vec::<String>::new());
}

#[test]
fn the_progress_of_a_resealing_is_told_in_quarters() {
    let mut plan = Plan::new([wanted("one", 1000, Suite::Aes128Gcm, 1)]);
    let mut told = Vec::new();
    for seen in [0, 100, 249, 250, 600, 601, 999, 1000, 5000] {
        let info = VolumeInfo {
            number: 1,
            name: "one".to_string(),
            layout: Layout::Linear,
            blocks: 1000,
            epoch: 2,
            suite: Suite::Aes128Gcm,
            resealing: Some(seen),
            extents: 0,
        };
        assert_eq!(plan.next_change(core::slice::from_ref(&info), |_| true), None);
        assert!(!plan.is_settled(&[info]));
        told.extend(core::iter::from_fn(|| plan.next_note()));
    }
    let percents = told.iter().map(|note| match note {
        Note::Progress { percent, .. } => *percent,
        other => panic!("{other}"),
    });
    assert_eq!(percents.collect::<Vec<_>>(), [25, 50, 75, 100]);
}

#[test]
fn volumes_are_offered_in_the_order_of_the_list_then_in_that_of_the_pool() {
    let mut world = empty();
    for name in ["one", "two", "three", "four"] {
        assert_eq!(world.create(name, Layout::Linear, 100, Suite::Aes128Gcm), Status::Ok);
    }
    let plan = Plan::new(["three", "five", "two"].map(|name| wanted(name, 100, Suite::Aes128Gcm, 1)));
    assert_eq!(plan.order(&volumes(&world)), [3, 2, 1, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(24)))]

    /// Wherever the way is cut off, a new start with the same list ends where it would have.
    #[test]
    fn a_way_that_is_cut_off_is_gone_to_its_end(sizes in proptest::collection::vec(1..2000_u64, 1..4), cut in 0..12_usize) {
        let list: Vec<_> = sizes.iter().enumerate().map(|(index, blocks)| {
            wanted(&index.to_string(), *blocks, Suite::ALL[index], index as u16 + 1)
        }).collect();
        let mut world = empty();
        prop_assert_eq!(world.create("0", Layout::Linear, 50, Suite::Aria256Ccm), Status::Ok);
        prop_assert_eq!(world.write(1, 3, filled(3)), Status::Ok);
        prop_assert_eq!(world.run(1, Operation::Flush), Status::Ok);
        let mut plan = Plan::new(list.clone());
        for _ in 0..cut {
            step(&mut world, &mut plan, true);
        }
        let (mut world, _) = world.restart();
        reach(&mut world, &mut Plan::new(list.clone()));
        for (info, wanted) in volumes(&world).iter().zip(&list) {
            prop_assert_eq!(&info.name, wanted.name.as_str());
            let least = if info.number == 1 { 50 } else { 0 };
            prop_assert_eq!(info.blocks, wanted.blocks.max(least));
            prop_assert!(info.suite == wanted.suite && info.epoch >= wanted.epoch && info.resealing.is_none());
        }
        if sizes[0] > 3 {
            prop_assert_eq!(world.read(1, 3, 1), (Status::Ok, filled(3)));
        }
    }
}
