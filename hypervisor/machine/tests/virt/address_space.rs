//! The device address space, bus masters, and the system MMU.

use super::*;

#[test]
fn no_window_touches_what_is_denied_or_memory() {
    for dtb in ALL {
        let booted = boot(dtb);
        let windows = device_windows(&booted.machine, &booted.denied, 1 << 44);
        assert!(windows.windows(2).all(|pair| pair[0].end() < pair[1].base()));
        for window in &windows {
            assert!(window.base() % 4096 == 0 && window.size() % 4096 == 0);
            assert!(!booted.denied.touches(window), "{window}");
            assert!(booted.machine.memory.iter().all(|bank| !bank.overlaps(window)), "{window}");
        }
    }
}

#[test]
fn everything_that_could_break_the_partition_is_denied() {
    let check = |dtb: &[u8], addresses: &[u64]| {
        let booted = boot(dtb);
        for address in addresses {
            assert!(booted.denied.touches(&region(*address, 1)), "{address:#x}");
        }
    };
    // Distributor, ITS, redistributor, firmware configuration, storage and its neighbour, console, virtual devices, the anchor,
    // and what the board denies.
    let common = [
        0x0800_0000,
        0x0902_0008,
        0x0A00_3E00,
        0x0A00_3000,
        0x0900_0000,
        0x0B00_7FFF,
        0x0400_0000,
        0x07FF_FFFF,
        0x0920_0000,
    ];
    for dtb in ALL {
        check(dtb, &common);
    }
    check(GIC3, &[0x0808_0000, 0x080A_0000, 0x08FF_FFFF]);
    check(GIC2, &[0x0801_0000, 0x0802_0000, 0x0803_0000, 0x0804_0000]);
    check(SMMU, &[0x0905_0000, 0x0906_FFFF]);
}

#[test]
fn the_other_devices_are_within_reach() {
    let booted = boot(GIC3);
    let windows = device_windows(&booted.machine, &booted.denied, 1 << 44);
    // First flash bank, RTC, GPIO, a virtio-mmio page, PCI memory, I/O and configuration space, high PCI memory.
    for address in
        [0, 0x0901_0000, 0x0903_0000, 0x0A00_2000, 0x1000_0000, 0x3EFF_0000, 0x40_1000_0000, 0x80_0000_0000_u64]
    {
        assert!(windows.iter().any(|window| window.contains(&region(address, 4096))), "{address:#x}");
    }
    let clipped = device_windows(&booted.machine, &booted.denied, 1 << 39);
    assert!(clipped.iter().all(|window| window.end() <= 1 << 39));
}

#[test]
fn bus_masters_of_the_general_domain_are_named() {
    for dtb in ALL {
        let masters = machine::bus_masters(dtb, &boot(dtb).denied, None).unwrap();
        // The storage controller's page holds eight of the 32 transports; fw-cfg and the system MMU are denied.
        assert_eq!(named(&masters), [("virtio_mmio", 24), ("pcie", 1)]);
    }
}

pub(crate) fn named(masters: &[Masters]) -> Vec<(&str, usize)> {
    masters.iter().map(|it| (it.name.as_str(), it.count)).collect()
}

/// The system MMU of the tree `dtb`, which has one.
fn system_mmu(dtb: &[u8]) -> Result<Option<SystemMmu>, Error> {
    SystemMmu::find(dtb, &Machine::read(dtb)?, &boot(dtb).denied)
}

#[test]
fn a_machine_without_a_system_mmu_has_none() {
    assert_eq!(system_mmu(GIC3), Ok(None));
}

#[test]
fn the_system_mmu_has_the_streams_of_the_whole_pci_bus() {
    let found = system_mmu(SMMU).unwrap().unwrap();
    assert_eq!(found.registers, Region::new(0x0905_0000, 0x2_0000).unwrap());
    assert_eq!((found.streams.len(), &found.streams[0]), (1, &(0..0x1_0000)));
    // eventq, priq, cmdq-sync, gerror: SPIs 74 to 77.
    let interrupt = |intid| Interrupt { intid, trigger: Trigger::Edge };
    assert_eq!(found.interrupts, [interrupt(106), interrupt(109)]);
    let masters = machine::bus_masters(SMMU, &boot(SMMU).denied, Some(&found)).unwrap();
    assert_eq!(named(&masters), [("virtio_mmio", 24)]);
}

/// `SMMU` with other words in the `iommu-map` of its PCI host, of which `SMMU` stands for the phandle.
pub(crate) fn with_map(words: &[u32]) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(SMMU).unwrap());
    let host = tree.find_node_mut("/pcie@10000000").unwrap();
    let old = host.property("iommu-map").unwrap().value().to_vec();
    let phandle: [u8; 4] = *old[4..].first_chunk().unwrap();
    let value = words.iter().flat_map(|word| if *word == PHANDLE { phandle } else { word.to_be_bytes() });
    host.property_mut("iommu-map").unwrap().set_value(value.collect::<Vec<u8>>());
    tree.to_dtb()
}

pub(crate) const PHANDLE: u32 = 0xffff_fff0;

#[test]
fn a_bus_that_is_mapped_in_part_is_not_confined() {
    let cases: [(&[u32], Option<core::ops::Range<u32>>); 3] = [
        (&[0, PHANDLE, 0x40, 0x100], Some(0x40..0x140)),
        (&[0, PHANDLE, 0, 0x8000, 0x9000, PHANDLE, 0x9000, 0x7000], Some(0..0x8000)),
        (&[0, 1, 0, 0x1_0000], None),
    ];
    for (words, streams) in cases {
        let dtb = with_map(words);
        let found = system_mmu(&dtb).unwrap().unwrap();
        assert_eq!(found.streams.first().cloned(), streams);
        let masters = machine::bus_masters(&dtb, &boot(&dtb).denied, Some(&found)).unwrap();
        assert_eq!(named(&masters), [("virtio_mmio", 24), ("pcie", 1)]);
    }
}

#[test]
fn a_map_that_makes_no_sense_gives_no_stream_and_confines_nothing() {
    // Too short; beyond 32 bits; an unknown system MMU; a hole that two entries for the same requesters seem to fill.
    let maps: [&[u32]; 4] = [
        &[0, PHANDLE, 0],
        &[0, PHANDLE, u32::MAX, 2],
        &[0, PHANDLE, 0, 0x8000, 0x8000, 0xdead, 0, 0x8000],
        &[0, PHANDLE, 0, 0x8000, 0, PHANDLE, 0, 0x8000],
    ];
    for words in maps {
        let dtb = with_map(words);
        let found = system_mmu(&dtb).unwrap().unwrap();
        assert!(found.streams.iter().all(|range| *range == (0..0x8000)), "{:?}", found.streams);
        let masters = machine::bus_masters(&dtb, &boot(&dtb).denied, Some(&found)).unwrap();
        assert_eq!(named(&masters), [("virtio_mmio", 24), ("pcie", 1)]);
    }
}

#[test]
fn a_system_mmu_with_too_few_registers_is_refused() {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(SMMU).unwrap());
    let registers = tree.find_node_mut("/smmuv3@9050000").unwrap().property_mut("reg").unwrap();
    registers.set_value([0, 0x0905_0000, 0, 0x1_0000_u32].map(u32::to_be_bytes).as_flattened());
    let error = system_mmu(&tree.to_dtb()).unwrap_err();
    assert!(error.to_string().contains("frames of an SMMUv3"), "{error}");
}

#[test]
fn a_device_that_is_denied_has_no_streams() {
    /// A page of the PCI host's configuration space.
    const CONFIGURATION: Region = Region::new(0x40_1000_0000, 0x1000).unwrap();
    let board = Board { denied: &[CONFIGURATION], ..BOARD };
    let machine = Machine::read(SMMU).unwrap();
    let denied = Denied::new(&machine, &board, &[], None);
    let found = SystemMmu::find(SMMU, &machine, &denied).unwrap().unwrap();
    assert_eq!(found.streams, []);
}
