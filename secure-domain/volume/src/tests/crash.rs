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

#[test]
fn any_cut_of_writes_over_two_disks_is_survived() {
    for torn in [false, true] {
        for credit in 0..120 {
            let new = crate::FormatOptions { log_blocks: Some(64), torn_sectors: torn };
            let mut world = World::format(vec![blank(DISK, 1), blank(DISK + 2048, 5)], &new);
            assert_eq!(world.create("s", crate::Layout::Striped(2), 64, Suite::Aes128Gcm), Status::Ok);
            assert_eq!(world.create("m", crate::Layout::Mirrored, 64, Suite::Aes128Gcm), Status::Ok);
            assert_eq!(world.write(2, 20, filled(1).repeat(3)), Status::Ok);
            world.post_write(2, 6, filled(2).repeat(33));
            (0..2).for_each(|disk| world.pool.member_mut(disk).credit = credit);
            for _ in 0..40 {
                world.step();
            }
            for keep in [false, true] {
                let mut at = credit as u64;
                let mut chooses = |block: u64| {
                    at = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block;
                    keep && at >> 63 != 0
                };
                let images = (0..2).map(|disk| world.pool.member(disk).cut(&mut chooses)).collect();
                let anchor = anchor::ram::RamAnchor::with(world.pool.anchor().snapshot());
                let mounted = World::mount(images, anchor);
                let (mut mounted, recovery) = mounted.unwrap_or_else(|error| {
                    panic!("torn {torn}, {credit}, {keep}: {error} {:?}", world.pool.superblock())
                });
                assert_eq!(recovery.bad, 0, "{credit}");
                for block in 0..64 {
                    let (status, data) = mounted.read(2, block, 1);
                    assert_eq!(status, Status::Ok, "torn {torn}, credit {credit}, block {block}");
                    assert!([0, 1, 2].contains(&value(&data)));
                }
            }
        }
    }
}
