//! Power cuts: flushed data survives, unflushed data is old or new, and nothing is ever a false alarm.

use std::{vec, vec::Vec};

use crypto::Suite;
use proptest::prelude::*;

use super::world::*;
use crate::{Operation, Status};

const BLOCKS: u64 = 2100;

/// Distributes writes over a few leaves and two extents.
fn spread(block: u64) -> u64 {
    (block * 131) % BLOCKS
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn flushed_data_survives_any_cut(
        rounds in prop::collection::vec(
            (prop::collection::vec((0..40u64, any::<bool>()), 1..40), 0u8..3, 0usize..60, any::<u64>()),
            1..6,
        ),
        torn: bool,
    ) {
        let new = crate::FormatOptions { log_blocks: Some(64), torn_sectors: torn };
        let mut world = World::format(vec![blank(DISK, 1)], &new);
        prop_assert_eq!(world.create("one", crate::Layout::Linear, BLOCKS, Suite::Aes128Gcm), Status::Ok);
        let mut model: Vec<Vec<u32>> = vec![vec![0]; 40];
        let mut next = 0;
        for (writes, end, credit, keep) in rounds {
            for &(block, zero) in &writes {
                next += 1;
                let value = if zero { 0 } else { next };
                if zero {
                    world.post(1, Operation::Zero { block: spread(block), blocks: 1 });
                } else {
                    world.post_write(1, spread(block), filled(value));
                }
                model[block as usize].push(value);
            }
            if end == 0 {
                world.settle();
                prop_assert_eq!(world.run(1, Operation::Flush), Status::Ok);
                for &(block, _) in &writes {
                    let (status, data) = world.read(1, spread(block), 1);
                    prop_assert_eq!(status, Status::Ok);
                    prop_assert!(model[block as usize].contains(&value(&data)));
                    model[block as usize] = vec![value(&data)];
                }
            } else if end == 1 {
                world.post(1, Operation::Sync);
            }
            world.pool.member_mut(0).credit = credit;
            for _ in 0..20 {
                world.step();
            }
            let nonces = core::mem::take(&mut world.guest.nonces);
            let mut bits = keep | 1;
            let (images, anchor) = world.cut(|block| {
                bits = bits.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block;
                bits >> 63 != 0
            });
            let (mounted, recovery) = World::mount(images, anchor).unwrap();
            prop_assert_eq!(recovery.bad, 0);
            world = mounted;
            world.guest.nonces = nonces;
            for block in 0..40 {
                let (status, data) = world.read(1, spread(block), 1);
                prop_assert_eq!(status, Status::Ok, "block {}", block);
                prop_assert!(model[block as usize].contains(&value(&data)), "block {} is {}", block, value(&data));
                // What a mount has found is what it stays.
                model[block as usize] = vec![value(&data)];
            }
        }
    }
}
