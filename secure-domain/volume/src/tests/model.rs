//! Random requests through the ring, against a model that knows which values a block may have.

use std::{collections::BTreeMap, vec, vec::Vec};

use crypto::Suite;
use proptest::prelude::*;

use super::{audit, world::*};
use crate::BLOCK_BYTES;

const BLOCKS: u64 = 300;

#[derive(Clone, Debug)]
enum Act {
    Read(u64, u32, u32),
    Write(u64, u32, u32),
    Zero(bool, u64, u32),
    Flush,
    Step(usize),
    Reset,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let place = || (0..BLOCKS, 1..=MAX_BLOCKS, 100u32..20_000);
    let range = |(block, blocks): (u64, u32)| (block, blocks.min((BLOCKS - block) as u32));
    prop_oneof![
        6 => place().prop_map(move |(b, n, p)| { let (b, n) = range((b, n)); Act::Read(b, n, p) }),
        8 => place().prop_map(move |(b, n, p)| { let (b, n) = range((b, n)); Act::Write(b, n, p) }),
        3 => (any::<bool>(), place()).prop_map(move |(d, (b, n, _))| { let (b, n) = range((b, n)); Act::Zero(d, b, n) }),
        2 => Just(Act::Flush),
        8 => (0usize..12).prop_map(Act::Step),
        1 => Just(Act::Reset),
        1 => Just(Act::Restart),
    ]
}

/// What the driver waits for.
enum Wait {
    /// Values that each block may have.
    Read(u64, Vec<Vec<u32>>),
    Write(u64, u32),
    Flush,
}

/// Each block: values it may have, and the values being written.
#[derive(Default)]
struct Model {
    settled: BTreeMap<u64, Vec<u32>>,
    group: BTreeMap<u64, Vec<u32>>,
    writers: BTreeMap<u64, usize>,
    waiting: BTreeMap<u16, Wait>,
    next: u32,
}

impl Model {
    fn candidates(&self, block: u64) -> Vec<u32> {
        let mut all = self.settled.get(&block).cloned().unwrap_or_else(|| vec![0]);
        all.extend(self.group.get(&block).into_iter().flatten());
        all
    }

    fn begin_write(&mut self, head: u16, first: u64, blocks: u32, value: u32) {
        for block in first..first + u64::from(blocks) {
            *self.writers.entry(block).or_default() += 1;
            self.group.entry(block).or_default().push(value);
        }
        for wait in self.waiting.values_mut() {
            if let Wait::Read(start, allowed) = wait {
                for (index, values) in allowed.iter_mut().enumerate() {
                    let block = *start + index as u64;
                    if (first..first + u64::from(blocks)).contains(&block) {
                        values.push(value);
                    }
                }
            }
        }
        self.waiting.insert(head, Wait::Write(first, blocks));
    }

    fn end_write(&mut self, first: u64, blocks: u32) {
        for block in first..first + u64::from(blocks) {
            let writers = self.writers.get_mut(&block).unwrap();
            *writers -= 1;
            if *writers == 0 {
                self.settled.insert(block, self.group.remove(&block).unwrap());
            }
        }
    }

    /// After a reset, writes that were not answered have happened or not, block by block.
    fn forget(&mut self) {
        self.waiting.clear();
        self.writers.clear();
        for (block, group) in core::mem::take(&mut self.group) {
            self.settled.entry(block).or_insert_with(|| vec![0]).extend(group);
        }
    }

    fn check(&mut self, world: &mut World) {
        while let Some((head, status, data)) = world.answer() {
            assert_eq!(status, OK);
            match self.waiting.remove(&head).unwrap() {
                Wait::Read(_, allowed) => {
                    assert_eq!(data.len(), allowed.len() * BLOCK_BYTES);
                    for (block, allowed) in data.chunks_exact(BLOCK_BYTES).zip(allowed) {
                        assert!(allowed.contains(&value(block)), "{} is none of {allowed:?}", value(block));
                    }
                }
                Wait::Write(first, blocks) => self.end_write(first, blocks),
                Wait::Flush => {}
            }
        }
    }

    fn perform(&mut self, world: &mut World, act: &Act) {
        match *act {
            Act::Read(block, blocks, piece) => {
                let allowed = (block..block + u64::from(blocks)).map(|block| self.candidates(block)).collect();
                if let Some(head) = world.post_data(TYPE_IN, block, blocks, piece, &[]) {
                    self.waiting.insert(head, Wait::Read(block, allowed));
                }
            }
            Act::Write(block, blocks, piece) => {
                self.next += 1;
                let data = filled(self.next).repeat(blocks as usize);
                if let Some(head) = world.post_data(TYPE_OUT, block, blocks, piece, &data) {
                    self.begin_write(head, block, blocks, self.next);
                }
            }
            Act::Zero(discard, block, blocks) => {
                let kind = if discard { TYPE_DISCARD } else { TYPE_WRITE_ZEROES };
                if let Some(head) = world.post_zero(kind, block, blocks) {
                    self.begin_write(head, block, blocks, 0);
                }
            }
            Act::Flush => {
                if let Some(head) = world.post_flush() {
                    self.waiting.insert(head, Wait::Flush);
                }
            }
            Act::Step(credit) => world.step(credit),
            Act::Reset => {
                world.reset();
                self.forget();
            }
            Act::Restart => {}
        }
        world.kick();
        self.check(world);
    }
}

fn run(acts: &[Act], buffers: usize, slots: usize, seed: u64) {
    let mut model = Model::default();
    let mut world = World::new(sealed(vec![], BLOCKS, Suite::Aes128Gcm), buffers, slots, seed);
    for act in acts {
        if matches!(act, Act::Restart) {
            world.settle();
            model.check(&mut world);
            assert!(model.waiting.is_empty(), "a request was never answered");
            world = World::new(world.shut_down(), buffers, slots, seed);
            continue;
        }
        model.perform(&mut world, act);
    }
    world.settle();
    model.check(&mut world);
    assert!(model.waiting.is_empty(), "a request was never answered");
    assert_eq!(world.disk().free_buffers(), buffers, "buffers were lost");
    for block in (0..BLOCKS).step_by(50) {
        model.perform(&mut world, &Act::Read(block, 50, 4096));
    }
    world.settle();
    model.check(&mut world);
    assert!(model.waiting.is_empty());
    assert!(audit::used() >= BLOCKS as usize);
    assert_eq!(world.events(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn every_read_returns_what_was_written(
        acts in prop::collection::vec(act(), 1..80),
        buffers in 1usize..70,
        slots in 1usize..5,
        seed: u64,
    ) {
        run(&acts, buffers, slots, seed);
    }
}

#[test]
fn many_small_requests_share_interrupts_and_disk_flushes() {
    let mut world = World::new(sealed(vec![], BLOCKS, Suite::Aes128Gcm), 64, 4, 1);
    for block in 0..16 {
        world.post_data(TYPE_OUT, block * 8, 1, 4096, &filled(1)).unwrap();
    }
    world.disk().credit = 0;
    world.kick();
    let before = world.interrupts;
    world.settle();
    assert!(world.interrupts - before <= 2, "{} interrupts", world.interrupts - before);
    while world.answer().is_some() {}
    let flushes = world.disk().flushes;
    for _ in 0..8 {
        world.post_flush().unwrap();
    }
    world.settle();
    assert_eq!(world.disk().flushes, flushes + 1);
}

#[test]
fn contiguous_blocks_go_to_the_disk_in_one_request() {
    let mut world = World::new(sealed(vec![], BLOCKS, Suite::Aes128Gcm), 64, 4, 1);
    world.write(0, &filled(1));
    let before = world.disk().requests;
    assert_eq!(world.write(32, &filled(2).repeat(32)), OK);
    assert_eq!(world.disk().requests - before, 1);
    assert_eq!(world.read(32, 32), (OK, filled(2).repeat(32)));
    assert_eq!(world.disk().requests - before, 2);
}
