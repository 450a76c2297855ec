//! What is refused, and what is said of it.

use super::*;

#[test]
fn a_tree_that_is_cut_short_is_refused_with_the_bytes_it_needs() {
    refuses(&GIC3[..7], "it has 7 bytes and needs 8");
    refuses(&GIC3[..GIC3.len() - 1], &format!("it has {} bytes and needs {}", GIC3.len() - 1, GIC3.len()));
}

#[test]
fn what_is_no_tree_is_refused() {
    refuses(&[0; 4096], "this is no device tree: it begins with 0x00000000");
    let mut huge = GIC3.to_vec();
    huge[4] = 1;
    refuses(&huge, "are not allowed");
    let mut broken = GIC3.to_vec();
    broken[11] ^= 4;
    refuses(&broken, "the device tree is damaged");
}

#[test]
fn a_tree_without_a_needed_node_is_refused_by_its_name() {
    refuses(&without(GIC3, "intc@8000000"), "no interrupt controller of the GIC family");
    refuses(&without(GIC3, "memory@40000000"), "no memory (a node with device_type \"memory\"");
    refuses(&without(GIC3, "cpus"), "no enabled core");
    refuses(&without(GIC3, "psci"), "no node compatible with 'arm,psci-0.2' or later");
    refuses(&without(GIC3, "timer"), "no node compatible with 'arm,armv8-timer'");
}

#[test]
fn a_tree_without_a_needed_property_is_refused_by_node_and_name() {
    let lacks = |path: &str, name: &str, because| refuses(&with::<u32>(GIC3, path, name, None), because);
    lacks("/memory@40000000", "reg", "node /memory@40000000 of the device tree has no 'reg'");
    lacks("/cpus/cpu@2", "reg", "node /cpus/cpu@2 of the device tree has no 'reg'");
    lacks("/cpus/cpu@2", "enable-method", "node /cpus/cpu@2 of the device tree has no 'enable-method'");
    lacks("/psci", "method", "node /psci of the device tree has no 'method'");
    lacks("/timer", "interrupts", "node /timer of the device tree has no 'interrupts'");
    lacks("/intc@8000000", "#interrupt-cells", "'#interrupt-cells' of node /intc@8000000");
    lacks("/intc@8000000", "reg", "lacks the distributor or a redistributor region");
}

#[test]
fn a_property_that_makes_no_sense_is_refused_with_its_node() {
    fn says<T: ToPropertyValue>(path: &str, name: &str, value: T, because: &str) {
        refuses(&with(GIC3, path, name, value), because);
    }
    says("/psci", "method", "abc", "'method' of node /psci of the device tree is neither \"smc\" nor \"hvc\"");
    says("/cpus/cpu@0", "enable-method", "spin-table", "'enable-method' of node /cpus/cpu@0 of the device tree is not");
    says("/cpus/cpu@1", "reg", 0_u32, "'reg' of node /cpus/cpu@1 of the device tree names the same core as another");
    says("/cpus/cpu@1", "reg", 0x8000_0001_u32, "is no MPIDR affinity");
    says(
        "/cpus",
        "#address-cells",
        9_u32,
        "'#address-cells' of node /cpus of the device tree is no number from 0 to 4",
    );
    says("/chosen", "linux,initrd-end", 0_u64, "'linux,initrd-end' of node /chosen of the device tree is not above");
    says(
        "/chosen",
        "linux,initrd-start",
        "x",
        "'linux,initrd-start' of node /chosen of the device tree is neither 4 nor",
    );
    says("/memory@40000000", "reg", 1_u32, "'reg' of node /memory@40000000 of the device tree has a broken length");
    says("/memory@40000000", "reg", [0_u32, 0x4000_0000, 0, 0x800], "has no memory");
    says("/timer", "interrupts", [1_u32, 13, 4, 1, 14, 4], "does not name the four timers");
    says("/timer", "interrupts", [1_u32, 16, 4], "names no SPI and no PPI");
    says(
        "/pl011@9000000",
        "interrupts",
        [0_u32, 1],
        "'interrupts' of node /pl011@9000000 of the device tree has a length",
    );
    says("/intc@8000000", "#interrupt-cells", 2_u32, "is neither 3 nor 4");
    says("/intc@8000000", "#redistributor-regions", 2_u32, "lacks the distributor or a redistributor region");
    says("/intc@8000000", "phandle", 1_u32, "are for another controller than the GIC");
}

#[test]
fn more_cores_than_can_be_driven_are_refused() {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(GIC2).unwrap());
    let cpus = tree.find_node_mut("/cpus").unwrap();
    let copy = cpus.child_mut("cpu@7").unwrap().clone();
    let mut ninth = DeviceTreeNode::new("cpu@8").unwrap();
    copy.properties().for_each(|property| ninth.add_property(property.clone()));
    ninth.add_property(DeviceTreeProperty::new("reg", 0x100_u32).unwrap());
    cpus.add_child(ninth);
    refuses(&tree.to_dtb(), "names more than 8 enabled cores");
}

#[test]
fn nodes_without_end_are_refused() {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(GIC3).unwrap());
    let mut node = DeviceTreeNode::new("deep").unwrap();
    for _ in 0..100 {
        let mut parent = DeviceTreeNode::new("deep").unwrap();
        parent.add_child(node);
        node = parent;
    }
    tree.root.add_child(node);
    refuses(&tree.to_dtb(), "lies more than 16 levels deep");
}

#[test]
fn a_storage_controller_that_is_not_there_is_named() {
    let machine = Machine::read(GIC3).unwrap();
    let find = |compatible, base| machine.storage(GIC3, compatible, base).unwrap_err().to_string();
    assert!(find("virtio,mmio", 0x0A00_4000).contains("'virtio,mmio' at 0xa004000"));
    assert!(find("generic-sdhci", 0x0A00_3E00).contains("'generic-sdhci' at 0xa003e00"));
}

#[test]
fn the_place_of_a_disk_that_is_not_there_is_denied_all_the_same() {
    const MISSING: StorageController = StorageController { at: registers_at(0x0A10_0E00), partition: None };
    let machine = Machine::read(GIC3).unwrap();
    let denied = Denied::new(&machine, &Board { storage: &[FIRST, MISSING], ..BOARD }, &[], None);
    assert!([FIRST_BASE, 0x0A10_0E00].iter().all(|base| denied.touches(&region(*base, 0x200))));
}

#[test]
fn an_anchor_that_is_not_there_is_named() {
    let find = |compatible, base, size| {
        let machine = Machine::read(GIC3).unwrap();
        machine.anchor(GIC3, &AnchorFlash { compatible, registers: region(base, size) })
    };
    for (base, size) in [(0x0400_1000, 0x1000), (0x0400_0000, 0x0400_1000), (0x0800_0000, 0x1000)] {
        let error = find("cfi-flash", base, size).unwrap_err().to_string();
        assert!(error.contains("'cfi-flash' at "), "{error}");
    }
    assert!(find("jedec-flash", 0x0400_0000, 0x1000).is_err());
    assert_eq!(find("cfi-flash", 0x0400_0000, 0x10_0000), Ok(region(0x0400_0000, 0x10_0000)));
    for dtb in ALL {
        assert_eq!(Machine::read(dtb).unwrap().anchor(dtb, &ANCHOR), Ok(ANCHOR.registers));
    }
}

#[test]
fn too_little_memory_is_said_in_mib() {
    let machine = Machine::read(LOW).unwrap();
    let plan = |change: fn(&mut Loaded)| {
        let mut loaded = loaded();
        change(&mut loaded);
        MemoryPlan::make(&machine, &loaded).unwrap_err()
    };
    let secure = plan(|loaded| loaded.secure_bytes = 512 * MIB).to_string();
    assert!(secure.starts_with("too little memory: the secure domain needs 514 MiB in one piece"), "{secure}");
    assert!(secure.contains("256 MiB has 1"), "{secure}");
    let kernel = plan(|loaded| loaded.kernel.image_size = 200 * MIB).to_string();
    assert!(kernel.starts_with("too little memory: the general domain's kernel needs 200 MiB"), "{kernel}");
}

#[test]
fn things_that_cannot_lie_where_they_are_said_to_lie_are_refused() {
    let machine = Machine::read(GIC3).unwrap();
    let plan = |change: fn(&mut Loaded)| {
        let mut loaded = loaded();
        change(&mut loaded);
        MemoryPlan::make(&machine, &loaded).unwrap_err()
    };
    assert!(matches!(
        plan(|it| it.bundle = region(0x8000_0000, 4096)),
        PlanError::NotInMemory { what: "the bundle", .. }
    ));
    assert!(matches!(
        plan(|it| it.dtb = region(0x3FFF_0000, MIB)),
        PlanError::NotInMemory { what: "the device tree", .. }
    ));
    assert!(matches!(plan(|it| it.dtb = region(0x4900_0000, MIB)), PlanError::Overlap { .. }));
    assert!(matches!(
        plan(|it| it.initrd = Some(region(0x4000_0000, MIB))),
        PlanError::NotInMemory { what: "the initrd", .. }
    ));
    assert!(matches!(plan(|it| it.secure_bytes = MIB), PlanError::Size { .. }));
    assert!(matches!(plan(|it| it.secure_image_bytes = u64::MAX), PlanError::Size { .. }));
    assert!(matches!(plan(|it| it.kernel.image_size = u64::MAX), PlanError::Size { .. }));
    assert!(matches!(plan(|it| it.kernel.image_size = 0), PlanError::Size { .. }));
}
