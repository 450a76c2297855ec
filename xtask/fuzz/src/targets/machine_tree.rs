//! A machine's device tree through the whole boot flow: read, plan, deny, write both domains' trees.

use machine::{
    Denied, KernelSize, Loaded, Machine, MemoryPlan, PciHost, Region, SharedHost, SystemMmu,
    board::{
        Attachment, Board, ChannelWindow, Function, Layout, Partition, PciBus, Pool, Reset, StorageController, Volume,
    },
    device_windows,
    general_tree::{self, General},
    secure_tree::{self, SecureTree, Storage},
};

const VOLUME: Volume<'static> =
    Volume { name: "data", size_mib: 1 << 40, layout: Layout::Striped, suite: "aria-256-gcm", key_generation: 3 };
const PARTITION: Partition<'static> = Partition { kind: Some([7; 16]), name: Some("pool") };

/// The disk's registers.
const BASE: u64 = 0x0A00_3E00;

const HOST: PciHost = PciHost {
    bus: PciBus {
        configuration: Region::new(0x0B10_0000, 1 << 20).unwrap(),
        registers: Region::new(0x0B20_0000, 8 << 14).unwrap(),
        first_message: 232,
        messages: 56,
    },
    first_line: 224,
    devices: 8,
    frame: 0x0B00_0000,
};

const BOARD: Board = Board {
    name: "fuzz",
    early_console: None,
    storage: &[StorageController {
        at: Attachment::Registers { compatible: "virtio,mmio", base: BASE },
        partition: None,
    }],
    pool: Pool { window_ms: Some(1000), cache_mib: 16, degraded: true },
    volumes: &[VOLUME],
    secure_memory_bytes: 32 << 20,
    el2_heap_bytes: 1 << 20,
    channel: ChannelWindow { base: 0x0B00_0000, first_intid: 224, devices: 8, pci: None },
    reset: Reset::Domain,
    window_bytes: Some(64 << 20),
    denied: &[],
    test_huk: None,
    crypto_profile: "open",
    slice_us: 1000,
    secure_core: None,
    crash_drills: false,
    anchor: None,
};

/// Boots from `data` as far as it goes.
pub fn run(data: &[u8]) {
    let Ok(machine) = Machine::read(data) else { return };
    let Ok(storage) = machine.storage(data, "virtio,mmio", BASE) else { return };
    let Some(plan) = plan(&machine) else { return };
    let denied = Denied::new(&machine, &BOARD, &[storage.registers], None);
    check(&machine, &plan, &denied);
    let driven = SystemMmu::find(data, &machine, &denied).ok().flatten();
    let _ = machine::bus_masters(data, &denied, driven.as_ref());
    let general = General {
        plan: &plan,
        exclusive_core: machine.cpus.last().copied(),
        denied: &denied,
        host: None,
        devices: &[],
        pci: Some(HOST),
        bootargs: None,
    };
    if let Ok(tree) = general_tree::write(data, &machine, &general) {
        assert_eq!(machine::tree_length(&tree), Ok(tree.len()));
    }
    share(data, &machine, &plan);
    let told = SecureTree {
        memory: plan.secure,
        general: plan.general.iter().copied().collect(),
        shared_page: 0x1000,
        kept_page: plan.secure_kept.base(),
        dma: plan.secure_dma,
        storage: [Storage {
            compatible: "virtio,mmio",
            registers: storage.registers,
            window: None,
            irq_line: 0,
            partition: Some(PARTITION),
        }]
        .into_iter()
        .collect(),
        pool: BOARD.pool,
        volumes: BOARD.volumes.iter().copied().collect(),
        rng_seed: machine.seeds.as_ref().map(|seeds| seeds.secure),
        measurement: [0; 32],
        test_huk: None,
        crypto_profile: BOARD.crypto_profile,
        anchor: None,
    };
    assert_eq!(secure_tree::read(&secure_tree::write(&told)), Ok(told));
}

/// Shares the PCI host out, if there is one that can be.
fn share(data: &[u8], machine: &Machine, plan: &MemoryPlan) {
    let disk = Function::new(3, 0).expect("there is such a function");
    let Ok(host) = SharedHost::find(data, machine, &[disk]) else { return };
    let Ok(device) = host.device(disk) else { return };
    let denied = Denied::new(machine, &BOARD, &[device.registers], Some(&host));
    check(machine, plan, &denied);
    assert!(denied.touches(&host.window) && denied.touches(&device.registers));
    let driven = SystemMmu::find(data, machine, &denied).ok().flatten();
    let _ = driven.map(|driven| driven.stream(data, &host, disk));
    let general = General {
        plan,
        exclusive_core: None,
        denied: &denied,
        host: Some(&host),
        devices: &[],
        pci: None,
        bootargs: None,
    };
    if let Ok(tree) = general_tree::write(data, machine, &general) {
        assert_eq!(machine::tree_length(&tree), Ok(tree.len()));
    }
}

fn plan(machine: &Machine) -> Option<MemoryPlan> {
    let base = machine.memory.first()?.base();
    let at = |offset: u64, size| Region::new(base.checked_add(offset)?, size);
    let loaded = Loaded {
        el2: at(0x20_0000, 0x20_0000)?,
        dtb: at(0xC00_0000, 0x10_0000)?,
        bundle: at(0x800_0000, 0x400_0000)?,
        initrd: at(0x900_0000, 0x100_0000),
        kernel: KernelSize { text_offset: 0, image_size: 32 << 20 },
        secure_bytes: BOARD.secure_memory_bytes,
        window_bytes: BOARD.window_bytes,
        secure_image_bytes: 700 << 10,
        keeps_bundle: true,
    };
    MemoryPlan::make(machine, &loaded).ok()
}

/// Nothing has two owners.
fn check(machine: &Machine, plan: &MemoryPlan, denied: &Denied) {
    for bank in &plan.general {
        assert!([plan.secure, plan.pristine, plan.el2].iter().all(|taken| !bank.overlaps(taken)));
        assert!(machine.memory.iter().any(|memory| memory.contains(bank)));
    }
    assert!(!plan.secure.overlaps(&plan.el2) && !plan.pristine.overlaps(&plan.el2));
    assert!(!plan.secure.overlaps(&plan.pristine));
    let window = plan.window.expect("the board has one");
    assert!(plan.general.iter().any(|bank| bank.contains(&window)));
    assert!(![plan.kernel, plan.general_tree].iter().any(|taken| taken.overlaps(&window)));
    for window in device_windows(machine, denied, 1 << 48) {
        assert!(!denied.touches(&window) && !window.overlaps(&plan.secure) && !window.overlaps(&plan.el2));
    }
}
