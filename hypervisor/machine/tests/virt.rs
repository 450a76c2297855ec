//! QEMU's `virt` machine, from the trees that QEMU 10.0 itself writes (`-M virt,...,dumpdtb=FILE`, padding removed).

use dtoolkit::{
    Node as _, Property as _, ToPropertyValue,
    fdt::Fdt,
    model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty},
    standard::NodeStandard as _,
};
use machine::{
    Board, Conduit, Denied, Device, Error, Frames, Interrupt, KernelSize, Loaded, MAX_CPUS, Machine, Masters,
    MemoryPlan, PciHost, PlanError, Region, SharedHost, Stoppable, SystemMmu, Trigger,
    board::{
        AnchorFlash, Attachment, ChannelWindow, EarlyConsole, Function, Layout, MAX_DISKS, MAX_VOLUMES, Partition,
        PciBus, Pool, Reset, StorageController, Volume,
    },
    device_windows,
    general_tree::{self, General, VirtualDevice},
    secure_tree::{self, SecureTree, Storage, Window},
};
use pcie::Endpoint;
use proptest::prelude::*;

/// `gic-version=3 -smp 4 -m 1G` with kernel, initrd and command line.
const GIC3: &[u8] = include_bytes!("dtb/virt-gic3-cpu4.dtb");
/// `gic-version=2 -smp 8 -m 1G`.
const GIC2: &[u8] = include_bytes!("dtb/virt-gic2-cpu8.dtb");
/// `gic-version=3,iommu=smmuv3 -smp 2 -m 8G`.
const SMMU: &[u8] = include_bytes!("dtb/virt-gic3-smmu-8g.dtb");
/// `gic-version=3,highmem=off -smp 1 -m 256M`.
const LOW: &[u8] = include_bytes!("dtb/virt-gic3-lowmem-256m.dtb");
const ALL: [&[u8]; 4] = [GIC3, GIC2, SMMU, LOW];

const MIB: u64 = 1 << 20;

const ANCHOR: AnchorFlash =
    AnchorFlash { compatible: "cfi-flash", registers: Region::new(0x0400_0000, 0x0400_0000).unwrap() };
/// A range that only the board denies; nothing is there.
const DENIED_HOLE: Region = Region::new(0x0920_0000, 0x1000).unwrap();

/// The last two slots of virtio-mmio, which share a page.
const FIRST_BASE: u64 = 0x0A00_3E00;
const SECOND_BASE: u64 = 0x0A00_3C00;
const FIRST: StorageController = StorageController { at: registers_at(FIRST_BASE), partition: None };
const SECOND: StorageController = StorageController { at: registers_at(SECOND_BASE), partition: None };

const fn registers_at(base: u64) -> Attachment {
    Attachment::Registers { compatible: "virtio,mmio", base }
}
const DATA: Volume<'static> =
    Volume { name: "data", size_mib: 64, layout: Layout::Mirrored, suite: "seed-128-gcm", key_generation: 2 };

const BOARD: Board = Board {
    name: "qemu-virt",
    early_console: Some(EarlyConsole::Pl011(0x0900_0000)),
    storage: &[FIRST, SECOND],
    pool: Pool { window_ms: None, cache_mib: 16, degraded: false },
    volumes: &[DATA],
    secure_memory_bytes: 64 * MIB,
    el2_heap_bytes: 2 * MIB,
    channel: ChannelWindow { base: 0x0B00_0000, first_intid: 224, devices: 8, pci: None },
    window_bytes: None,
    anchor: Some(ANCHOR),
    denied: &[DENIED_HOLE],
    test_huk: Some([0x42; 32]),
    crypto_profile: "kcmvp",
    slice_us: 1000,
    secure_core: None,
    crash_drills: false,
    reset: Reset::Domain,
};

const KERNEL: KernelSize = KernelSize { text_offset: 0, image_size: 46 * MIB };

fn region(base: u64, size: u64) -> Region {
    Region::new(base, size).unwrap()
}

/// What QEMU loads: EL2 at 2 MiB, the bundle at 128 MiB, the tree behind it.
fn loaded() -> Loaded {
    Loaded {
        el2: region(0x4020_0000, 5 * MIB),
        dtb: region(0x4C00_0000, MIB),
        bundle: region(0x4800_0000, 40 * MIB),
        initrd: Some(region(0x4A00_0000, 4 * MIB)),
        kernel: KERNEL,
        secure_bytes: BOARD.secure_memory_bytes,
        window_bytes: BOARD.window_bytes,
        secure_image_bytes: 700 << 10,
        keeps_bundle: false,
    }
}

struct Booted {
    machine: Machine,
    storage: Device,
    plan: MemoryPlan,
    denied: Denied,
}

fn boot(dtb: &[u8]) -> Booted {
    let machine = Machine::read(dtb).unwrap();
    let storage = machine.storage(dtb, "virtio,mmio", FIRST_BASE).unwrap();
    let plan = MemoryPlan::make(&machine, &loaded()).unwrap();
    let denied = Denied::new(&machine, &BOARD, [&storage], None);
    Booted { machine, storage, plan, denied }
}

const PARTITION: Partition<'static> = Partition { kind: Some([7; 16]), name: Some("pool") };

fn storage(base: u64) -> Storage<'static> {
    Storage { compatible: "virtio,mmio", registers: region(base, 0x200), window: None, irq_line: 0, partition: None }
}

fn virtual_device() -> VirtualDevice {
    VirtualDevice {
        registers: region(0x0B00_0000, 0x1000),
        interrupt: Interrupt { intid: 224, trigger: Trigger::Edge },
    }
}

fn general_of(dtb: &[u8], booted: &Booted) -> Vec<u8> {
    let general = General {
        plan: &booted.plan,
        exclusive_core: None,
        denied: &booted.denied,
        host: None,
        devices: &[virtual_device()],
        pci: None,
        bootargs: Some("quiet"),
    };
    general_tree::write(dtb, &booted.machine, &general).unwrap()
}

/// `dtb` with property `name` of the node at `path` set to `value`, or removed.
fn with<T: ToPropertyValue>(dtb: &[u8], path: &str, name: &str, value: impl Into<Option<T>>) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(dtb).unwrap());
    let node = tree.find_node_mut(path).expect("the tree has this node");
    node.remove_property(name).expect("the node has this property");
    if let Some(value) = value.into() {
        node.add_property(DeviceTreeProperty::new(name, value).unwrap());
    }
    tree.to_dtb()
}

/// `dtb` without the node `name` of the root.
fn without(dtb: &[u8], name: &str) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(dtb).unwrap());
    tree.root.remove_child(name).expect("the tree has this node");
    tree.to_dtb()
}

#[track_caller]
fn refuses(dtb: &[u8], because: &str) {
    let sentence = Machine::read(dtb).expect_err("must be refused").to_string();
    assert!(sentence.contains(because), "{sentence}");
}

// Refusals.

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

// What the trees say.

#[test]
fn gicv3_machine_is_read() {
    let machine = Machine::read(GIC3).unwrap();
    assert_eq!(machine.memory.as_slice(), [region(0x4000_0000, 1024 * MIB)]);
    assert_eq!(machine.cpus.as_slice(), [0, 1, 2, 3]);
    assert_eq!(machine.psci, Conduit::Smc);
    let Frames::V3 { distributor, redistributors, stride } = &machine.gic.frames else { panic!("GICv3") };
    assert_eq!(*distributor, region(0x0800_0000, 0x1_0000));
    assert_eq!(redistributors.as_slice(), [region(0x080A_0000, 0xF6_0000)]);
    assert_eq!(*stride, None);
    assert!(machine.gic.has_msi);
    assert_eq!(machine.gic.maintenance.unwrap().intid, 25);
    let timers = machine.timers;
    assert_eq!([timers.physical.intid, timers.virtual_.intid, timers.hypervisor.intid], [30, 27, 26]);
    let console = machine.console.unwrap();
    assert_eq!(console.path, "/pl011@9000000");
    assert_eq!(console.registers, region(0x0900_0000, 0x1000));
    assert_eq!(console.interrupt, Interrupt { intid: 33, trigger: Trigger::Level });
    assert_eq!(machine.initrd, Some(region(0x4800_0000, 2)));
    assert!(machine.seeds.is_some() && machine.reserved.is_empty() && machine.smmu.is_empty());
}

#[test]
fn gicv2_machine_is_read() {
    let machine = Machine::read(GIC2).unwrap();
    assert_eq!(machine.cpus.len(), MAX_CPUS);
    let frame = |base| region(base, 0x1_0000);
    assert_eq!(
        machine.gic.frames,
        Frames::V2 {
            distributor: frame(0x0800_0000),
            cpu_interface: frame(0x0801_0000),
            hypervisor_interface: frame(0x0803_0000),
            virtual_cpu_interface: frame(0x0804_0000),
        }
    );
    assert_eq!(machine.timers.virtual_.intid, 27);
    assert_eq!(machine.initrd, None);
}

#[test]
fn smmu_and_large_memory_are_read() {
    let machine = Machine::read(SMMU).unwrap();
    assert_eq!(machine.smmu, [region(0x0905_0000, 0x2_0000)]);
    assert_eq!(machine.memory_bytes(), 8 << 30);
}

#[test]
fn the_storage_controller_is_found_with_its_interrupt() {
    for dtb in ALL {
        let booted = boot(dtb);
        assert_eq!(booted.storage.path, "/virtio_mmio@a003e00");
        assert_eq!(booted.storage.registers, region(0x0A00_3E00, 0x200));
        assert_eq!(booted.storage.interrupt, Interrupt { intid: 79, trigger: Trigger::Edge });
    }
}

#[test]
fn bytes_behind_the_tree_are_ignored() {
    let mut padded = GIC3.to_vec();
    padded.resize(1 << 20, 0xA5);
    assert_eq!(machine::tree_length(&padded).unwrap(), GIC3.len());
    assert_eq!(Machine::read(&padded).unwrap().cpus.len(), 4);
}

// The plan.

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

// The device address space.

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

fn named(masters: &[Masters]) -> Vec<(&str, usize)> {
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
fn with_map(words: &[u32]) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(SMMU).unwrap());
    let host = tree.find_node_mut("/pcie@10000000").unwrap();
    let old = host.property("iommu-map").unwrap().value().to_vec();
    let phandle: [u8; 4] = *old[4..].first_chunk().unwrap();
    let value = words.iter().flat_map(|word| if *word == PHANDLE { phandle } else { word.to_be_bytes() });
    host.property_mut("iommu-map").unwrap().set_value(value.collect::<Vec<u8>>());
    tree.to_dtb()
}

const PHANDLE: u32 = 0xffff_fff0;

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
    let denied = Denied::new(&machine, &board, [], None);
    let found = SystemMmu::find(SMMU, &machine, &denied).unwrap().unwrap();
    assert_eq!(found.streams, []);
}

// A PCI host that is shared out.

const DISK: Function = Function::new(3, 0).unwrap();
/// Configuration space of the tree's host, and of the disk.
const CONFIGURATION: Region = Region::new(0x40_1000_0000, 0x1000_0000).unwrap();
const DISK_PAGE: Region = Region::new(0x40_1001_8000, 0x1000).unwrap();
/// The end of its 32-bit memory.
const PCI_WINDOW: Region = Region::between(0x3EC0_0000, 0x3EFF_0000).unwrap();

fn host(dtb: &[u8]) -> Result<SharedHost, Error> {
    SharedHost::find(dtb, &Machine::read(dtb)?, &[DISK])
}

fn boot_shared(dtb: &[u8]) -> (Booted, SharedHost) {
    let host = host(dtb).unwrap();
    let booted = boot(dtb);
    let denied = Denied::new(&booted.machine, &BOARD, [&host.device(DISK).unwrap()], Some(&host));
    (Booted { denied, ..booted }, host)
}

#[test]
fn a_host_that_cannot_be_shared_out_is_refused() {
    fn says<T: ToPropertyValue>(name: &str, value: T, because: &str) {
        let error = host(&with(SMMU, "/pcie@10000000", name, value)).unwrap_err().to_string();
        assert!(error.contains("/pcie@10000000") && error.contains(because), "{error}");
    }
    says("reg", [0x40_u32, 0x1000_0000, 0, 0x8_0000], "shorter than a bus' configuration space");
    says("bus-range", [1_u32, 0xff], "does not begin with bus 0");
    says("ranges", [0x0100_0000_u32, 0, 0, 0, 0x3EFF_0000, 0, 0x1_0000], "has no 32-bit memory");
    says("ranges", [0x0200_0000_u32, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x10_0000], "has no room for");
    says(
        "ranges",
        [0x0200_0000_u32, 0xFFFF_FFFF, 0xF000_0000, 0, 0x1000_0000, 0, 0x1000_0000],
        "leaves the address space",
    );
    says("interrupt-map-mask", [0x1800_u32, 0, 7], "does not have four cells");
    says("interrupt-map", [0_u32, 0, 0, 1, 0xdead, 0, 0, 0, 3, 4], "not made of wired interrupts");
    says("interrupt-map", [0_u32, 0, 0, 1, 0x8002, 0, 0, 0, 3], "not made of wired interrupts");
    let error = host(&without(SMMU, "pcie@10000000")).unwrap_err().to_string();
    assert!(error.contains("pci-host-ecam-generic"), "{error}");
}

#[test]
fn a_function_without_a_line_is_no_disk() {
    let fdt = Fdt::new(SMMU).unwrap();
    let map = fdt.find_node("/pcie@10000000").unwrap().property("interrupt-map").unwrap().value()[..40].to_vec();
    let one = with(SMMU, "/pcie@10000000", "interrupt-map", map);
    let error = host(&one).unwrap().device(DISK).unwrap_err().to_string();
    assert!(error.contains("interrupt of PCI function 00:03.0"), "{error}");
}

#[test]
fn the_disk_is_its_page_its_line_and_its_stream() {
    for dtb in [GIC3, GIC2, SMMU] {
        let (booted, host) = boot_shared(dtb);
        let disk = host.device(DISK).unwrap();
        assert_eq!((disk.registers, disk.interrupt), (DISK_PAGE, Interrupt { intid: 38, trigger: Trigger::Level }));
        assert_eq!((host.window, host.bus_window()), (PCI_WINDOW, PCI_WINDOW.base()..PCI_WINDOW.end()));
        let one = PCI_WINDOW.base() + 0x4000..PCI_WINDOW.base() + 0x5000;
        assert_eq!(host.to_cpu(&one), Some(region(one.start, 0x1000)));
        let driven = SystemMmu::find(dtb, &booted.machine, &booted.denied).unwrap();
        assert_eq!(driven.map(|driven| driven.stream(dtb, &host, DISK).unwrap()), (dtb == SMMU).then_some(Some(0x18)));
    }
}

#[test]
fn a_function_that_no_system_mmu_names_has_no_stream() {
    let dtb = with_map(&[0, PHANDLE, 0x40, 0x18, 0x19, PHANDLE, 0x59, 0x8000]);
    let (booted, host) = boot_shared(&dtb);
    let driven = SystemMmu::find(&dtb, &booted.machine, &booted.denied).unwrap().unwrap();
    assert_eq!(driven.stream(&dtb, &host, DISK), Ok(None));
    assert_eq!(driven.stream(&dtb, &host, Function::new(2, 0).unwrap()), Ok(Some(0x50)));
}

#[test]
fn what_the_disk_has_is_denied_and_the_host_is_not() {
    let (booted, _) = boot_shared(SMMU);
    for taken in [CONFIGURATION, PCI_WINDOW] {
        assert!(booted.denied.touches(&taken));
        assert!(!device_windows(&booted.machine, &booted.denied, 1 << 44).iter().any(|window| window.overlaps(&taken)));
    }
    let driven = SystemMmu::find(SMMU, &booted.machine, &booted.denied).unwrap().unwrap();
    assert_eq!(driven.streams.first(), Some(&(0..0x1_0000)), "its other functions have theirs");
    let masters = machine::bus_masters(SMMU, &booted.denied, None).unwrap();
    assert_eq!(named(&masters), [("virtio_mmio", 24), ("pcie", 1)]);
}

#[test]
fn the_general_domain_is_told_of_the_rest_of_the_host() {
    for dtb in [GIC3, GIC2, SMMU] {
        let (booted, host) = boot_shared(dtb);
        let general = General {
            plan: &booted.plan,
            exclusive_core: None,
            denied: &booted.denied,
            host: Some(&host),
            devices: &[virtual_device()],
            pci: None,
            bootargs: None,
        };
        let tree = general_tree::write(dtb, &booted.machine, &general).unwrap();
        let fdt = Fdt::new(&tree).unwrap();
        let node = fdt.find_node("/pcie@10000000").unwrap();
        let words = |name: &str| -> Vec<u32> {
            node.property(name)
                .unwrap()
                .value()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| u32::from_be_bytes(*word))
                .collect()
        };
        assert_eq!(words("reg"), [0x40, 0x1000_0000, 0, 0x10_0000]);
        assert_eq!(words("bus-range"), [0, 0]);
        let memory: Vec<u32> = words("ranges")[7..14].to_vec();
        assert_eq!(memory, [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2EC0_0000]);
        assert_eq!(words("ranges").len(), 21);
        let lines: Vec<u32> = words("interrupt-map").chunks(10).map(|entry| entry[8]).collect();
        assert_eq!((lines.len(), lines.contains(&6)), (12, false), "SPI 6 is the disk's");
    }
}

#[test]
fn a_pin_on_the_disks_line_is_known() {
    let (_, host) = boot_shared(SMMU);
    // By the swizzle of QEMU's tree the line is that of (device + pin - 1) modulo 4.
    for page in 0..=255 {
        let function = Function::of_page(page);
        for pin in 0..=4 {
            let shared = pin > 0 && (function.device() + pin - 1) % 4 == 3;
            assert_eq!(host.shares_line(&Endpoint::with_pin(function, pin)), shared, "{function} {pin}");
        }
    }
}

// The general domain's tree.

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
const HOST: PciHost = PciHost {
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

// The secure domain's tree.

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

// Damage.

/// The whole boot flow on bytes that may be anything.
fn boot_anyhow(dtb: &[u8]) -> Result<(), Error> {
    let machine = Machine::read(dtb)?;
    let storage = machine.storage(dtb, "virtio,mmio", FIRST_BASE)?;
    let Ok(plan) = MemoryPlan::make(&machine, &loaded()) else { return Ok(()) };
    let denied = Denied::new(&machine, &BOARD, [&storage], None);
    assert!(device_windows(&machine, &denied, 1 << 44).iter().all(|window| !denied.touches(window)));
    let general = General {
        plan: &plan,
        exclusive_core: None,
        denied: &denied,
        host: None,
        devices: &[virtual_device()],
        pci: None,
        bootargs: None,
    };
    let tree = general_tree::write(dtb, &machine, &general)?;
    Fdt::new(&tree)?;
    let tree = general_tree::write(dtb, &machine, &General { devices: &[], pci: Some(HOST), ..general })?;
    Fdt::new(&tree)?;
    let host = SharedHost::find(dtb, &machine, &[DISK])?;
    let disk = host.device(DISK)?;
    let denied = Denied::new(&machine, &BOARD, [&disk], Some(&host));
    assert!([host.configuration, host.window].iter().all(|region| denied.touches(region)));
    if let Some(driven) = SystemMmu::find(dtb, &machine, &denied)? {
        driven.stream(dtb, &host, DISK)?;
    }
    let general = General { denied: &denied, host: Some(&host), ..general };
    Fdt::new(&general_tree::write(dtb, &machine, &general)?)?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_damaged_tree_never_panics(
        which in 0..ALL.len(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..20),
    ) {
        let mut dtb = ALL[which].to_vec();
        for (position, bit) in flips {
            let position = position.index(dtb.len());
            dtb[position] ^= 1 << bit;
        }
        let _ = boot_anyhow(&dtb);
    }

    #[test]
    fn one_changed_cell_never_panics(
        which in 0..ALL.len(),
        position in any::<prop::sample::Index>(),
        value in prop_oneof![Just(0_u32), Just(u32::MAX), Just(0x8000_0000), any::<u32>(), 0..64_u32],
    ) {
        let mut dtb = ALL[which].to_vec();
        let position = position.index(dtb.len() / 4) * 4;
        dtb[position..position + 4].copy_from_slice(&value.to_be_bytes());
        let _ = boot_anyhow(&dtb);
    }
}
