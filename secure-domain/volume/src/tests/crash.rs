//! Power cuts: flushed data survives; unflushed data is old, new, or an I/O error, never something else.

use std::{vec, vec::Vec};

use crypto::Suite;
use proptest::prelude::*;

use super::world::*;
use crate::BLOCK_BYTES;

const BLOCKS: u64 = 260;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(32), ..ProptestConfig::default() })]

    #[test]
    fn a_cut_never_shows_what_was_not_written(
        rounds in prop::collection::vec(
            (prop::collection::vec((0..BLOCKS, any::<bool>()), 1..12), any::<bool>(), 0usize..30, any::<u64>()),
            1..4,
        ),
        seed: u64,
    ) {
        // Values that each block may have; `true`: the last flush covered it, so it must be there.
        let mut model: Vec<(Vec<u32>, bool)> = vec![(vec![0], true); BLOCKS as usize];
        let mut image = sealed(vec![], BLOCKS, Suite::Aes128Gcm);
        let mut next = 0;
        for (writes, flush, credit, keep) in rounds {
            let mut world = World::new(image, 16, 2, seed);
            for &(block, zero) in &writes {
                next += 1;
                let value = if zero { 0 } else { next };
                let head = if zero {
                    world.post_zero(TYPE_WRITE_ZEROES, block, 1)
                } else {
                    world.post_data(TYPE_OUT, block, 1, 4096, &filled(value))
                };
                prop_assert!(head.is_some());
                let (allowed, certain) = &mut model[block as usize];
                allowed.push(value);
                *certain = false;
            }
            if flush {
                // All answered, then flushed: from here on the blocks are certain.
                world.settle();
                while world.answer().is_some() {}
                prop_assert_eq!(world.flush(), OK);
                for &(block, _) in &writes {
                    let (_, data) = world.read(block, 1);
                    model[block as usize] = (vec![value(&data)], true);
                }
            } else {
                world.step(0);
                world.kick();
                world.step(credit);
                world.post_flush();
                world.kick();
                world.step(credit / 2);
            }
            let mut bits = keep | 1;
            image = world.disk().cut(|block| {
                bits = bits.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block;
                bits >> 63 != 0
            });
        }
        let mut world = World::new(image, 16, 2, seed);
        for block in 0..BLOCKS {
            let (allowed, certain) = &model[block as usize];
            let (status, data) = world.read(block, 1);
            if status == OK {
                prop_assert_eq!(data.len(), BLOCK_BYTES);
                prop_assert!(allowed.contains(&value(&data)), "block {} is {}", block, value(&data));
            } else {
                prop_assert!(!certain, "flushed block {} is lost", block);
            }
        }
    }
}

#[test]
fn a_restart_never_reuses_a_version_whatever_was_lost() {
    let mut image = sealed(vec![], BLOCKS, Suite::Aes128Gcm);
    for restart in 0..6 {
        let mut world = World::new(image, 16, 4, restart);
        for block in 0..200 {
            assert_eq!(world.write(block, &filled(1)), OK);
        }
        // The audit stops the test at the first repetition.
        image = world.disk().cut(|block| restart % 2 == 0 && block > 1);
    }
}
