//! QEMU's `virt` machine, from the trees that QEMU 10.0 itself writes (`-M virt,...,dumpdtb=FILE`, padding removed).

mod address_space;
mod damage;
mod general_domain;
mod memory_plan;
mod reading;
mod refusals;
mod secure_domain;
mod shared_bus;

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
const GIC3: &[u8] = include_bytes!("../dtb/virt-gic3-cpu4.dtb");
/// `gic-version=2 -smp 8 -m 1G`.
const GIC2: &[u8] = include_bytes!("../dtb/virt-gic2-cpu8.dtb");
/// `gic-version=3,iommu=smmuv3 -smp 2 -m 8G`.
const SMMU: &[u8] = include_bytes!("../dtb/virt-gic3-smmu-8g.dtb");
/// `gic-version=3,highmem=off -smp 1 -m 256M`.
const LOW: &[u8] = include_bytes!("../dtb/virt-gic3-lowmem-256m.dtb");
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
    let denied = Denied::new(&machine, &BOARD, &[storage.registers], None);
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
