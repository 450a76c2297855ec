//! The secure domain's tree.

use super::*;

fn secure<'a>(booted: &Booted) -> SecureTree<'a> {
    SecureTree {
        memory: booted.plan.secure,
        general: booted.plan.general.iter().copied().collect(),
        shared_page: 0x0B10_0000,
        kept_page: booted.plan.secure_kept.base(),
        dma: booted.plan.secure_dma,
        storage: [storage(booted.storage.registers.base())].into_iter().collect(),
        pool: BOARD.pool,
        volumes: BOARD.volumes.iter().copied().collect(),
        anchor: Some(ANCHOR.registers),
        rng_seed: booted.machine.seeds.as_ref().map(|seeds| seeds.secure),
        measurement: [0x5A; 32],
        test_huk: BOARD.test_huk,
        crypto_profile: BOARD.crypto_profile,
    }
}

#[test]
fn a_tree_for_another_is_refused_by_the_secure_domain() {
    assert_eq!(secure_tree::read(GIC3), Err(secure_tree::Error::Format));
    assert_eq!(secure_tree::read(&[0; 64]), Err(secure_tree::Error::Format));
}

#[test]
fn the_secure_domain_reads_what_el2_wrote() {
    for dtb in ALL {
        let booted = boot(dtb);
        let told = secure(&booted);
        let mut bytes = secure_tree::write(&told);
        assert!(bytes.len() as u64 <= booted.plan.secure_tree.size());
        bytes.resize(booted.plan.secure_tree.size() as usize, 0);
        assert_eq!(secure_tree::read(&bytes), Ok(told));
    }
}

#[test]
fn the_secure_domain_may_have_no_anchor_no_seed_and_no_test_key() {
    let told = SecureTree { anchor: None, rng_seed: None, test_huk: None, ..secure(&boot(LOW)) };
    assert_eq!(secure_tree::read(&secure_tree::write(&told)), Ok(told));
}

#[test]
fn the_secure_domain_reads_every_disk_and_volume() {
    let mut told = secure(&boot(GIC3));
    told.storage.push(Storage { irq_line: 1, partition: Some(PARTITION), ..storage(SECOND_BASE) });
    let by_name = Partition { kind: None, ..PARTITION };
    told.storage.push(Storage { irq_line: 3, partition: Some(by_name), ..storage(0x0A00_0000) });
    told.storage[1].window = Some(Window { registers: region(0x3EC0_0000, 0x8000), bus_address: 0x1_0000_0000 });
    told.pool = Pool { window_ms: Some(60_000), cache_mib: 4, degraded: true };
    for (name, layout) in [("one", Layout::Linear), ("two words", Layout::Striped)] {
        told.volumes.push(Volume { name, layout, size_mib: 1 << 40, key_generation: u16::MAX, ..DATA });
    }
    assert_eq!(secure_tree::read(&secure_tree::write(&told)), Ok(told));
}

#[test]
fn a_tree_without_a_disk_is_refused_by_the_secure_domain() {
    let told = SecureTree { storage: Default::default(), ..secure(&boot(LOW)) };
    let refusal = secure_tree::read(&secure_tree::write(&told)).unwrap_err().to_string();
    assert!(refusal.contains("has no node storage"), "{refusal}");
}

#[test]
fn the_largest_secure_tree_fits_its_place() {
    let name = "n".repeat(63);
    let mut told = secure(&boot(GIC3));
    let partition = Some(Partition { kind: PARTITION.kind, name: Some(&name[..36]) });
    let window = Some(Window { registers: region(0x3EC0_0000, 0x8000), bus_address: 0x3EC0_0000 });
    told.storage = (0..MAX_DISKS as u64).map(|disk| Storage { partition, window, ..storage(disk << 12) }).collect();
    told.volumes = (0..MAX_VOLUMES).map(|_| Volume { name: &name, ..DATA }).collect();
    told.general = (0..secure_tree::MAX_WINDOWS as u64).map(|index| region(index << 32, 4096)).collect();
    let bytes = secure_tree::write(&told);
    assert!(bytes.len() as u64 <= boot(GIC3).plan.secure_tree.size());
    assert_eq!(secure_tree::read(&bytes), Ok(told));
}
