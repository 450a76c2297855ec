//! Who gets which memory.

use super::*;
use crate::address_space::named;

#[test]
fn every_byte_of_memory_has_one_owner() {
    for dtb in ALL {
        let Booted { machine, plan, .. } = boot(dtb);
        let mut owners: Vec<Region> =
            plan.general.iter().copied().chain([plan.el2, plan.pristine, plan.secure]).collect();
        owners.sort();
        assert!(owners.windows(2).all(|pair| pair[0].end() <= pair[1].base()), "{owners:?}");
        assert_eq!(owners.iter().map(Region::size).sum::<u64>(), machine.memory_bytes());
        for cut in [plan.el2, plan.pristine, plan.secure] {
            assert!(cut.base() % (2 * MIB) == 0 && cut.size() % (2 * MIB) == 0);
        }
    }
}

#[test]
fn what_is_placed_lies_in_general_memory_and_on_nothing_else() {
    for dtb in ALL {
        let Booted { plan, .. } = boot(dtb);
        let loaded = loaded();
        let placed = [plan.kernel, plan.general_tree, loaded.dtb, loaded.bundle];
        for (index, place) in placed.iter().enumerate() {
            assert!(plan.general.iter().any(|bank| bank.contains(place)), "{place} in {:?}", plan.general);
            assert!(placed[..index].iter().all(|other| !other.overlaps(place)), "{place}");
        }
        assert_eq!(plan.kernel.base() % (2 * MIB), 0);
        assert_eq!(plan.kernel.size(), KERNEL.image_size);
        assert_eq!(plan.initrd, loaded.initrd);
        assert!(plan.secure.contains(&plan.secure_tree) && plan.secure_tree.end() == plan.secure.end());
        assert!(plan.secure.contains(&plan.secure_kept) && plan.secure_kept.end() == plan.secure_tree.base());
        assert!(plan.pristine.size() >= loaded.secure_image_bytes + plan.secure_tree.size());
    }
}

#[test]
fn a_bundle_that_is_kept_is_nobody_elses_and_its_initrd_finds_another_place() {
    for dtb in ALL {
        let machine = Machine::read(dtb).unwrap();
        let loaded = Loaded { keeps_bundle: true, ..loaded() };
        let plan = MemoryPlan::make(&machine, &loaded).unwrap();
        let kept = plan.kept.unwrap();
        assert_eq!(kept, loaded.bundle.hull(2 * MIB));
        let mut owners: Vec<Region> =
            plan.general.iter().copied().chain([plan.el2, kept, plan.pristine, plan.secure]).collect();
        owners.sort();
        assert!(owners.windows(2).all(|pair| pair[0].end() <= pair[1].base()), "{owners:?}");
        assert_eq!(owners.iter().map(Region::size).sum::<u64>(), machine.memory_bytes());
        let initrd = plan.initrd.unwrap();
        assert_eq!(initrd.size(), loaded.initrd.unwrap().size());
        let placed = [plan.kernel, plan.general_tree, loaded.dtb, initrd];
        for (index, place) in placed.iter().enumerate() {
            assert!(plan.general.iter().any(|bank| bank.contains(place)), "{place} in {:?}", plan.general);
            assert!(placed[..index].iter().all(|other| !other.overlaps(place)), "{place}");
        }
    }
}

#[test]
fn blocks_that_a_kept_bundle_shares_with_el2_are_el2s() {
    let machine = Machine::read(GIC3).unwrap();
    let bundle = region(0x4070_0000, 8 * MIB);
    let loaded = Loaded { keeps_bundle: true, bundle, initrd: None, ..loaded() };
    let plan = MemoryPlan::make(&machine, &loaded).unwrap();
    assert_eq!((plan.el2.end(), plan.kept.unwrap()), (0x4080_0000, region(0x4080_0000, 8 * MIB)));
}

#[test]
fn what_is_reserved_outlives_a_reset() {
    let machine = Machine::read(GIC3).unwrap();
    let plan = MemoryPlan::make(&machine, &loaded()).unwrap();
    let reserved = region(0x7000_0000, MIB);
    let cleared = plan.outlived_by(&[reserved]);
    assert!(cleared.iter().all(|region| !region.overlaps(&reserved)));
    let size = |regions: &[Region]| regions.iter().map(Region::size).sum::<u64>();
    assert_eq!(size(&cleared) + reserved.size(), size(&plan.general));
    assert_eq!(plan.room() + plan.kernel.size() + plan.initrd.unwrap().size(), size(&plan.general));
}

#[test]
fn both_seeds_of_the_general_domain_are_its_own_and_found_again() {
    for dtb in ALL {
        let booted = boot(dtb);
        let made = general_of(dtb, &booted);
        let seeds = booted.machine.seeds.as_ref().unwrap();
        let places = seeds.places_in(&made);
        assert_eq!(places.iter().map(|place| place.len()).collect::<Vec<_>>(), [32, 8]);
        let fdt = Fdt::new(&made).unwrap();
        let chosen = fdt.find_node("/chosen").unwrap();
        for (name, place) in ["rng-seed", "kaslr-seed"].into_iter().zip(places) {
            let told = chosen.property(name).unwrap();
            assert_eq!(told.value(), &made[place]);
            let machines = Fdt::new(dtb).unwrap();
            assert_ne!(
                Some(told.value()),
                machines.find_node("/chosen").unwrap().property(name).map(|it| it.value().to_vec()).as_deref()
            );
        }
    }
}

#[test]
fn every_master_of_the_general_domain_is_known_to_be_stopped_or_named() {
    let booted = boot(GIC3);
    let found = Stoppable::find(GIC3, &booted.denied).unwrap();
    // Eight slots share the page of the secure domain's disks.
    assert_eq!((found.virtio.len(), found.ecam.len()), (24, 1));
    assert!(found.virtio.iter().chain(&found.ecam).all(|device| !booted.denied.touches(device)));
    assert_eq!(found.others, []);
    let mut master = DeviceTree::from_fdt(&Fdt::new(GIC3).unwrap());
    let node = master.find_node_mut("/pl061@9030000").unwrap();
    node.add_property(DeviceTreeProperty::new_unchecked("dma-coherent", [0_u8; 0]));
    let master = master.to_dtb();
    let found = Stoppable::find(&master, &booted.denied).unwrap();
    assert_eq!(named(&found.others), [("pl061", 1)]);
}

#[test]
fn the_secure_domain_lies_at_the_top_and_below_4_gib_if_it_can() {
    assert_eq!(boot(GIC3).plan.secure.end(), 0x8000_0000);
    assert_eq!(boot(SMMU).plan.secure.end(), 1 << 32);
    // The tree leaves 63 MiB at the top; below the bundle there is more.
    assert_eq!(boot(LOW).plan.secure.end(), 0x4800_0000);
}

#[test]
fn reserved_memory_is_left_alone() {
    let mut machine = Machine::read(GIC3).unwrap();
    machine.reserved.extend([region(0x7F00_0000, MIB), region(0x4080_0000, MIB)]);
    let plan = MemoryPlan::make(&machine, &loaded()).unwrap();
    assert_eq!(plan.secure.end(), 0x7F00_0000);
    for reserved in &machine.reserved {
        assert!(!plan.kernel.overlaps(reserved) && !plan.general_tree.overlaps(reserved));
    }
}

#[test]
fn a_text_offset_moves_the_kernel_behind_its_base() {
    let machine = Machine::read(GIC3).unwrap();
    let kernel = KernelSize { text_offset: 0x8_0000, image_size: 32 * MIB };
    let plan = MemoryPlan::make(&machine, &Loaded { kernel, ..loaded() }).unwrap();
    assert_eq!(plan.kernel.base() % (2 * MIB), 0x8_0000);
    assert_eq!(plan.kernel.size(), 32 * MIB);
}
