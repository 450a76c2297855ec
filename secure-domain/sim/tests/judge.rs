//! Who judges the judge: things that must not happen are made to happen, and the simulator must say so.

use sim::{
    campaign,
    config::{CACHE_BLOCKS, Config, Limits, VolumePlan},
    content,
    disk::Order,
    fault::Fault,
    media,
    step::{self, Ask, Step},
    world::World,
};
use volume::{Layout, Policy};

fn config(seed: u64) -> Config {
    Config {
        seed,
        extents: vec![1],
        torn: false,
        policy: Policy::Strict,
        order: Order::Random,
        volumes: vec![VolumePlan { layout: Layout::Linear, blocks: 24, suite: crypto::Suite::Aes128Gcm }],
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

fn world() -> World {
    World::new(config(1)).unwrap()
}

fn ask(world: &mut World, what: Ask) {
    let volume = *world.volumes.keys().next().unwrap();
    world.submit(volume, what);
    world.drain().unwrap();
}

/// What a world that believes its disks says about one with this fault.
fn believed(fault: Fault) -> Vec<String> {
    let complaints = (0..20).filter_map(|seed| {
        let config = Config { faults: vec![fault], ..config(seed) };
        let mut world = World::new(config.clone()).unwrap();
        world.gullible = true;
        world.step(&Step::Faults { permille: 1000 }).unwrap();
        let steps =
            step::draw(&config, 200).into_iter().filter(|step| !matches!(step, Step::Faults { .. } | Step::Heal));
        steps.into_iter().try_for_each(|step| world.step(&step)).err()
    });
    complaints.collect()
}

#[test]
fn a_lying_flush_is_noticed() {
    let complaints = believed(Fault::LyingFlush);
    assert!(complaints.len() > 4, "{complaints:?}");
}

#[test]
fn lost_and_misdirected_writes_are_noticed() {
    for fault in [Fault::LostWrite, Fault::MisdirectedWrite] {
        let complaints = believed(fault);
        assert!(complaints.len() > 10, "{fault:?}: {complaints:?}");
    }
}

#[test]
fn a_block_that_cannot_be_read_is_noticed() {
    let mut world = world();
    ask(&mut world, Ask::Write(0, 1));
    ask(&mut world, Ask::Sync);
    world.lose_power_keeping(&mut |_, _, _| 0, false);
    let last = world.disks[0].media().durable().iter().rposition(Option::is_some).unwrap();
    world.disks[0].media_mut().tamper(last as u64, media::cell(&[9; 4096]));
    let verdict = world.mount().unwrap_err();
    assert!(verdict.starts_with("false integrity error"), "{verdict}");
}

#[test]
fn an_old_disk_with_its_old_anchor_is_noticed_and_so_are_the_nonces_that_it_repeats() {
    let mut world = world();
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Flush);
    world.lose_power_keeping(&mut |_, _, _| 0, false);
    let then = world.volumes.clone();
    let (old, anchor) = (world.disks[0].media().durable().clone(), world.store.snapshot());
    world.mount().unwrap();
    ask(&mut world, Ask::Write(0, 4));
    ask(&mut world, Ask::Flush);
    // No engine can tell: all that it knows is as it was. So the judge must.
    let mut copy = world.copy();
    copy.lose_power_keeping(&mut |_, _, _| 0, false);
    copy.give(vec![old.clone()], anchor.clone());
    let verdict = copy.mount().unwrap_err();
    assert!(verdict.starts_with("freshness"), "{verdict}");
    world.come_back(copy);
    // Who does not remember what came after sees nothing wrong; but what is sealed next repeats versions.
    let mut copy = world.copy();
    copy.lose_power_keeping(&mut |_, _, _| 0, false);
    copy.give(vec![old], anchor);
    copy.volumes = then;
    copy.mount().unwrap();
    let volume = *world.volumes.keys().next().unwrap();
    copy.submit(volume, Ask::Write(10, 4));
    let verdict = copy.drain().unwrap_err();
    assert!(verdict.starts_with("nonce audit"), "{verdict}");
}

#[test]
fn plaintext_on_a_disk_is_noticed() {
    use block::BlockDevice;
    let world = world();
    let mut disk = world.disks[0].copy(&world.power).attach();
    let buffer = disk.allocate(1).unwrap();
    content::write_plaintext(5, disk.bytes(&buffer));
    disk.write(1, 0, buffer).unwrap();
    assert!(disk.disk().saw_plaintext());
}

#[test]
fn a_seed_makes_the_same_world_again() {
    for seed in 0..5 {
        let config = Config::draw(seed, &Limits::default());
        let steps = step::draw(&config, 100);
        let (one, first) = campaign::run_world(&config, &steps, true);
        let (two, second) = campaign::run_world(&config, &steps, true);
        assert_eq!((one.is_ok(), first), (two.is_ok(), second));
    }
}

#[test]
fn some_thousand_operations_in_mixed_worlds_pass() {
    let campaign = campaign::Campaign { seed: 1, operations: 3000, faults: None, losses: false, threads: 1 };
    let tally = campaign::run(&campaign, &|_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(tally.cuts > 10 && tally.recoveries > 10, "{tally}");
}
