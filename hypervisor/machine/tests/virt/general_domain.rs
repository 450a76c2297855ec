//! The general domain's tree.

use super::*;

/// Every node of a tree with its path.
fn nodes<'a>(dtb: &'a [u8]) -> Vec<(String, dtoolkit::fdt::FdtNode<'a>)> {
    fn collect<'a>(path: &str, node: dtoolkit::fdt::FdtNode<'a>, all: &mut Vec<(String, dtoolkit::fdt::FdtNode<'a>)>) {
        for child in node.children() {
            let path = format!("{path}/{}", child.name());
            collect(&path, child, all);
            all.push((path, child));
        }
    }
    let mut all = Vec::new();
    collect("", Fdt::new(dtb).unwrap().root(), &mut all);
    all
}

#[test]
fn the_general_domain_is_told_nothing_that_it_does_not_have() {
    for dtb in ALL {
        let booted = boot(dtb);
        let tree = general_of(dtb, &booted);
        let all = nodes(&tree);
        let compatible = |name: &str| all.iter().filter(|(_, node)| node.is_compatible(name)).count();
        for name in ["arm,gic-v3-its", "arm,gic-v2m-frame", "arm,smmu-v3", "qemu,fw-cfg-mmio"] {
            assert_eq!(compatible(name), 0, "{name}");
        }
        // Slots 24 to 31 share the storage controller's page; one virtual device is added.
        assert_eq!(compatible("virtio,mmio"), 32 - 8 + 1);
        for (path, node) in &all {
            for property in node.properties() {
                assert!(!["msi-map", "msi-parent", "iommu-map", "iommus"].contains(&property.name()), "{path}");
            }
        }
        for (path, node) in all.iter().filter(|(path, _)| path.matches('/').count() == 1) {
            let emulated = path.starts_with("/intc@") || path.starts_with("/pl011@") || path == "/virtio_mmio@b000000";
            for reg in node.reg().unwrap().into_iter().flatten() {
                let Some(region) = Region::new(reg.address().unwrap_or(0), reg.size().unwrap_or(0)) else { continue };
                assert!(emulated || !booted.denied.touches(&region), "{path}");
            }
        }
    }
}

#[test]
fn the_general_domain_is_told_all_that_it_has() {
    // A GICv2 guest's tree is none that a hypervisor could start from: see the next test.
    for dtb in [GIC3, SMMU, LOW] {
        let booted = boot(dtb);
        let tree = general_of(dtb, &booted);
        let machine = Machine::read(&tree).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(machine.memory.as_slice(), booted.plan.general.as_slice());
        assert_eq!(machine.cpus, booted.machine.cpus);
        assert_eq!(machine.console, booted.machine.console);
        assert_eq!(machine.timers, booted.machine.timers);
        assert_eq!((booted.machine.psci, machine.psci), (Conduit::Smc, Conduit::Hvc));
        assert_eq!(machine.initrd, booted.plan.initrd);
        assert!(!machine.gic.has_msi);
        let channel = machine.storage(&tree, "virtio,mmio", 0x0B00_0000).unwrap();
        assert_eq!(channel.interrupt, virtual_device().interrupt);
        let fdt = Fdt::new(&tree).unwrap();
        for path in ["/pcie@10000000", "/pl031@9010000", "/pl061@9030000", "/cpus/cpu-map", "/timer", "/apb-pclk"] {
            assert!(fdt.find_node(path).is_some(), "{path}");
        }
        let chosen = fdt.find_node("/chosen").unwrap();
        assert_eq!(chosen.property("bootargs").unwrap().value_as::<&str>(), Ok("quiet"));
        assert_eq!(chosen.property("stdout-path").unwrap().value_as::<&str>(), Ok("/pl011@9000000"));
        assert!(fdt.find_node("/hypervisor").is_none());
    }
}

#[test]
fn the_general_domain_is_told_of_four_timers_even_where_el2_has_two() {
    let entries = |dtb: &[u8]| {
        Fdt::new(dtb).unwrap().find_node("/timer").unwrap().property("interrupts").unwrap().value().len() / 12
    };
    assert_eq!([GIC3, GIC2, SMMU, LOW].map(entries), [4, 4, 4, 5]);
    for dtb in ALL {
        assert_eq!(entries(&general_of(dtb, &boot(dtb))), 4);
    }
}

#[test]
fn the_general_domain_is_not_told_of_a_core_that_is_the_secure_domains() {
    for (dtb, own) in [(GIC3, 1), (GIC2, 7)] {
        let Booted { machine, plan, denied, .. } = &boot(dtb);
        let general = General {
            plan,
            exclusive_core: Some(own),
            denied,
            host: None,
            devices: &[virtual_device()],
            pci: None,
            bootargs: None,
        };
        let tree = general_tree::write(dtb, machine, &general).unwrap();
        let told: Vec<String> = nodes(&tree).into_iter().map(|(path, _)| path).collect();
        assert!(!told.contains(&format!("/cpus/cpu@{own}")), "{told:?}");
        for affinity in machine.cpus.iter().filter(|affinity| **affinity != own) {
            assert!(told.contains(&format!("/cpus/cpu@{affinity}")), "{affinity}");
        }
        // Its references would lead nowhere.
        assert!(!told.iter().any(|path| path.starts_with("/cpus/cpu-map")), "{told:?}");
    }
}

#[test]
fn a_gicv2_guest_is_told_of_distributor_and_cpu_interface_only() {
    let tree = general_of(GIC2, &boot(GIC2));
    let fdt = Fdt::new(&tree).unwrap();
    let gic = fdt.find_node("/intc@8000000").unwrap();
    assert_eq!(gic.reg().unwrap().unwrap().count(), 2);
    assert!(gic.property("interrupts").is_none() && gic.children().next().is_none());
}

/// A machine whose secure domain is to reach 32 MiB of the general domain's memory.
fn boot_with_window(dtb: &[u8]) -> Booted {
    let booted = boot(dtb);
    let loaded = Loaded { window_bytes: Some(32 * MIB), ..loaded() };
    let plan = MemoryPlan::make(&booted.machine, &loaded).unwrap();
    Booted { plan, ..booted }
}

/// The bus of the virtual devices.
pub(crate) const HOST: PciHost = PciHost {
    bus: PciBus {
        configuration: Region::new(0x0B10_0000, MIB).unwrap(),
        registers: Region::new(0x0B20_0000, 8 << 14).unwrap(),
        first_message: 232,
        messages: 56,
    },
    first_line: 224,
    devices: 8,
    frame: 0x0B00_0000,
};

fn with_bus(dtb: &[u8]) -> Result<Vec<u8>, Error> {
    let booted = boot(dtb);
    let general = General {
        plan: &booted.plan,
        exclusive_core: None,
        denied: &booted.denied,
        host: None,
        devices: &[],
        pci: Some(HOST),
        bootargs: None,
    };
    general_tree::write(dtb, &booted.machine, &general)
}

fn words(node: &impl dtoolkit::Node, name: &str) -> Vec<u32> {
    let value = node.property(name).unwrap_or_else(|| panic!("it has no {name}")).value().to_vec();
    value.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn a_gicv2_without_a_place_for_a_frame_takes_no_bus() {
    let error = with_bus(&with::<u32>(GIC2, "/intc@8000000", "ranges", None)).unwrap_err().to_string();
    assert!(error.contains("leaves no place for a frame of messages"), "{error}");
}

#[test]
fn the_virtual_devices_are_on_a_bus_of_their_own_if_the_board_says_so() {
    for dtb in ALL {
        let tree = with_bus(dtb).unwrap();
        let fdt = Fdt::new(&tree).unwrap();
        let host = fdt.find_node("/pcie@b100000").unwrap();
        assert!(fdt.find_node("/virtio_mmio@b000000").is_none());
        assert_eq!(words(&host, "reg"), [0, 0x0B10_0000, 0, 0x10_0000]);
        assert_eq!(words(&host, "ranges"), [0x0200_0000, 0, 0x0B20_0000, 0, 0x0B20_0000, 0, 0x2_0000]);
        let domains: Vec<_> =
            fdt.root().children().filter(|node| node.property("linux,pci-domain").is_some()).collect();
        assert!(domains.len() == 2 && words(&domains[0], "linux,pci-domain") != words(&domains[1], "linux,pci-domain"));
        let gic = words(&fdt.find_node("/intc@8000000").unwrap(), "phandle")[0];
        let map = words(&host, "interrupt-map");
        assert_eq!(map.len(), 8 * 10);
        assert_eq!(map[10..20], [1 << 11, 0, 0, 1, gic, 0, 0, 0, 224 + 1 - 32, 4]);
    }
}

#[test]
fn messages_go_to_the_gicv3_itself_or_to_a_frame_inside_the_gicv2() {
    for dtb in ALL {
        let tree = with_bus(dtb).unwrap();
        let fdt = Fdt::new(&tree).unwrap();
        let (host, gic) = (fdt.find_node("/pcie@b100000").unwrap(), fdt.find_node("/intc@8000000").unwrap());
        let taker = words(&host, "msi-parent");
        if dtb == GIC2 {
            let frame = fdt.find_node("/intc@8000000/v2m@b000000").unwrap();
            assert_eq!(words(&frame, "phandle"), taker);
            assert_eq!(words(&frame, "reg"), [0, 0x0B00_0000, 0, 0x1000]);
            assert_eq!((words(&frame, "arm,msi-base-spi"), words(&frame, "arm,msi-num-spis")), (vec![232], vec![56]));
            assert!(gic.property("msi-controller").is_none() && frame.property("msi-controller").is_some());
        } else {
            assert_eq!(words(&gic, "phandle"), taker);
            assert_eq!(words(&gic, "mbi-ranges"), [232, 56]);
            assert!(gic.property("msi-controller").is_some());
        }
    }
}

#[test]
fn a_window_is_general_memory_in_which_nothing_lies() {
    for dtb in ALL {
        let plan = boot_with_window(dtb).plan;
        let window = plan.window.unwrap();
        assert_eq!((window.size(), plan.lent()), (32 * MIB, &[window][..]));
        assert!(plan.general.iter().any(|bank| bank.contains(&window)));
        let taken = [plan.kernel, plan.general_tree, loaded().dtb, loaded().bundle];
        assert!(!taken.iter().any(|taken| taken.overlaps(&window)));
        assert_eq!(boot(dtb).plan.lent(), plan.general.as_slice(), "without a window all is lent");
    }
}

#[test]
fn reserved_memory_with_cells_of_its_own_takes_no_window() {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(GIC3).unwrap());
    let mut reserved = DeviceTreeNode::new("reserved-memory").unwrap();
    reserved.add_property(DeviceTreeProperty::new("#address-cells", 1_u32).unwrap());
    tree.root.add_child(reserved);
    let dtb = tree.to_dtb();
    let Booted { machine, plan, denied, .. } = boot_with_window(&dtb);
    let general = General {
        plan: &plan,
        exclusive_core: None,
        denied: &denied,
        host: None,
        devices: &[],
        pci: None,
        bootargs: None,
    };
    let error = general_tree::write(&dtb, &machine, &general).unwrap_err();
    assert!(error.to_string().contains("/reserved-memory"), "{error}");
}

#[test]
fn a_window_that_does_not_fit_is_refused() {
    let loaded = Loaded { window_bytes: Some(1 << 40), ..loaded() };
    let error = MemoryPlan::make(&Machine::read(GIC3).unwrap(), &loaded).unwrap_err();
    assert!(error.to_string().contains("the window of the secure domain"), "{error}");
}

#[test]
fn the_general_domain_is_told_to_use_the_window_for_its_virtual_devices() {
    for dtb in ALL {
        let booted = boot_with_window(dtb);
        let window = booted.plan.window.unwrap();
        let tree = general_of(dtb, &booted);
        let tree = Fdt::new(&tree).unwrap();
        let pool = tree.find_node(&format!("/reserved-memory/restricted-dma-pool@{:x}", window.base())).unwrap();
        assert!(pool.is_compatible("restricted-dma-pool"));
        let reg: Vec<u8> = [window.base(), window.size()].iter().flat_map(|number| number.to_be_bytes()).collect();
        assert_eq!(pool.property("reg").unwrap().value(), reg);
        let phandle = pool.property("phandle").unwrap().value_as::<u32>().unwrap();
        let device = tree.find_node("/virtio_mmio@b000000").unwrap();
        assert_eq!(device.property("memory-region").unwrap().value_as::<u32>().unwrap(), phandle);
        let same = |node: &dtoolkit::fdt::FdtNode<'_>| {
            node.property("phandle").is_some_and(|property| property.value_as::<u32>() == Ok(phandle))
        };
        let bytes = general_of(dtb, &booted);
        assert_eq!(nodes(&bytes).iter().filter(|(_, node)| same(node)).count(), 1, "nobody else has its phandle");
        assert!(!nodes(&general_of(dtb, &boot(dtb))).iter().any(|(path, _)| path.contains("restricted-dma-pool")));
    }
}

#[test]
fn the_denied_flash_bank_is_gone_and_the_other_is_there() {
    let tree = general_of(GIC3, &boot(GIC3));
    let fdt = Fdt::new(&tree).unwrap();
    let banks: Vec<u64> =
        fdt.find_node("/flash@0").unwrap().reg().unwrap().unwrap().map(|reg| reg.address().unwrap()).collect();
    assert_eq!(banks, [0]);
}

#[test]
fn the_machines_seed_reaches_no_domain() {
    let fdt = Fdt::new(GIC3).unwrap();
    let seed = fdt.find_node("/chosen").unwrap().property("rng-seed").unwrap().value().to_vec();
    let booted = boot(GIC3);
    let tree = general_of(GIC3, &booted);
    assert!(!tree.windows(seed.len()).any(|window| window == seed));
    let given = Fdt::new(&tree).unwrap().find_node("/chosen").unwrap().property("rng-seed").unwrap().value().to_vec();
    let seeds = booted.machine.seeds.unwrap();
    assert_eq!(given, seeds.general);
    assert_ne!(given, seeds.secure);
}

#[test]
fn without_an_initrd_the_tree_names_none() {
    let mut booted = boot(GIC3);
    booted.plan.initrd = None;
    assert_eq!(Machine::read(&general_of(GIC3, &booted)).unwrap().initrd, None);
}
