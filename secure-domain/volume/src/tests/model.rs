//! Random requests against a model that knows which values a block may have.

use std::{collections::BTreeMap, vec, vec::Vec};

use crypto::Suite;
use proptest::prelude::*;

use super::world::*;
use crate::{BLOCK_BYTES, FormatOptions, Layout, Operation, Status};

const BLOCKS: u64 = 2300;

#[derive(Clone, Debug)]
enum Act {
    Read(u32, u64, u32),
    Write(u32, u64, u32),
    Zero(u32, u64, u32),
    Flush(u32),
    Sync(u32),
    Step(usize),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let place = || {
        let place = (1..=3u32, 0..BLOCKS, 1..=100u32);
        place.prop_map(|(volume, block, blocks)| (volume, block, blocks.min((BLOCKS - block) as u32)))
    };
    prop_oneof![
        6 => place().prop_map(|(v, b, n)| Act::Read(v, b, n)),
        8 => place().prop_map(|(v, b, n)| Act::Write(v, b, n)),
        2 => place().prop_map(|(v, b, n)| Act::Zero(v, b, n)),
        1 => (1..=3u32).prop_map(|v| Act::Zero(v, 0, BLOCKS as u32)),
        2 => (1..=3u32).prop_map(Act::Flush),
        1 => (1..=3u32).prop_map(Act::Sync),
        8 => (0usize..20).prop_map(Act::Step),
        1 => Just(Act::Restart),
    ]
}

enum Wait {
    Read(u64, Vec<Vec<u32>>),
    Write(u64, u32),
    Flush,
}

/// Each block: values it may have, and the values being written.
#[derive(Default)]
struct Model {
    settled: BTreeMap<(u32, u64), Vec<u32>>,
    group: BTreeMap<(u32, u64), Vec<u32>>,
    writers: BTreeMap<(u32, u64), usize>,
    waiting: BTreeMap<(u32, u32), Wait>,
    next: u32,
}

impl Model {
    fn candidates(&self, at: (u32, u64)) -> Vec<u32> {
        let mut all = self.settled.get(&at).cloned().unwrap_or_else(|| vec![0]);
        all.extend(self.group.get(&at).into_iter().flatten());
        all
    }

    fn begin_write(&mut self, volume: u32, cookie: u32, first: u64, blocks: u32, value: u32) {
        for block in first..first + u64::from(blocks) {
            *self.writers.entry((volume, block)).or_default() += 1;
            self.group.entry((volume, block)).or_default().push(value);
        }
        for ((of, _), wait) in &mut self.waiting {
            let Wait::Read(start, allowed) = wait else { continue };
            for (index, values) in allowed.iter_mut().enumerate().filter(|_| *of == volume) {
                if (first..first + u64::from(blocks)).contains(&(*start + index as u64)) {
                    values.push(value);
                }
            }
        }
        self.waiting.insert((volume, cookie), Wait::Write(first, blocks));
    }

    fn check(&mut self, world: &mut World) {
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        for (volume, cookie) in waiting {
            let Some((status, data)) = world.answer(volume, cookie) else { continue };
            assert_eq!(status, Status::Ok);
            match self.waiting.remove(&(volume, cookie)).unwrap() {
                Wait::Read(_, allowed) => {
                    for (block, allowed) in data.chunks_exact(BLOCK_BYTES).zip(allowed) {
                        assert!(allowed.contains(&value(block)), "{} is none of {allowed:?}", value(block));
                    }
                }
                Wait::Write(first, blocks) => {
                    for block in first..first + u64::from(blocks) {
                        let writers = self.writers.get_mut(&(volume, block)).unwrap();
                        *writers -= 1;
                        if *writers == 0 {
                            let group = self.group.remove(&(volume, block)).unwrap();
                            self.settled.insert((volume, block), group);
                        }
                    }
                }
                Wait::Flush => {}
            }
        }
    }

    fn perform(&mut self, world: &mut World, act: &Act) {
        match *act {
            Act::Read(volume, block, blocks) => {
                let allowed =
                    (block..block + u64::from(blocks)).map(|block| self.candidates((volume, block))).collect();
                let cookie = world.post_read(volume, block, blocks);
                self.waiting.insert((volume, cookie), Wait::Read(block, allowed));
            }
            Act::Write(volume, block, blocks) => {
                self.next += 1;
                let cookie = world.post_write(volume, block, filled(self.next).repeat(blocks as usize));
                self.begin_write(volume, cookie, block, blocks, self.next);
            }
            Act::Zero(volume, block, blocks) => {
                let cookie = world.post(volume, Operation::Zero { block, blocks });
                self.begin_write(volume, cookie, block, blocks, 0);
            }
            Act::Flush(volume) => {
                let cookie = world.post(volume, Operation::Flush);
                self.waiting.insert((volume, cookie), Wait::Flush);
            }
            Act::Sync(volume) => {
                let cookie = world.post(volume, Operation::Sync);
                self.waiting.insert((volume, cookie), Wait::Flush);
            }
            Act::Step(credit) => (0..2).for_each(|member| world.pool.member_mut(member).credit = credit),
            Act::Restart => {}
        }
        world.step();
        self.check(world);
    }
}

fn settle(world: &mut World, model: &mut Model) {
    (0..2).for_each(|member| world.pool.member_mut(member).credit = usize::MAX);
    world.settle();
    model.check(world);
    assert!(model.waiting.is_empty(), "a request was never answered");
}

fn run(acts: &[Act], torn: bool) {
    let mut model = Model::default();
    let new = FormatOptions { log_blocks: Some(160), torn_sectors: torn };
    let mut world = World::format(vec![blank(16_000, 3), blank(18_000, 4)], &new);
    for (name, layout) in [("l", Layout::Linear), ("s", Layout::Striped(2)), ("m", Layout::Mirrored)] {
        assert_eq!(world.create(name, layout, BLOCKS, Suite::Aes128Gcm), Status::Ok);
    }
    let free = (0..2).map(|member| world.pool.member(member).free_buffers()).collect::<Vec<_>>();
    for act in acts {
        if matches!(act, Act::Restart) {
            settle(&mut world, &mut model);
            assert_eq!(world.run(1, Operation::Flush), Status::Ok);
            let (restarted, recovery) = world.restart();
            assert_eq!((recovery.bad, recovery.old), (0, 0));
            world = restarted;
            continue;
        }
        model.perform(&mut world, act);
    }
    settle(&mut world, &mut model);
    let now = (0..2).map(|member| world.pool.member(member).free_buffers()).collect::<Vec<_>>();
    assert_eq!(now, free, "buffers were lost");
    for volume in 1..=3 {
        for block in (0..BLOCKS).step_by(100) {
            model.perform(&mut world, &Act::Read(volume, block, 100));
        }
    }
    settle(&mut world, &mut model);
    assert_eq!(world.events(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(32), ..ProptestConfig::default() })]

    #[test]
    fn every_read_returns_what_was_written(acts in prop::collection::vec(act(), 1..80), torn: bool) {
        run(&acts, torn);
    }
}
