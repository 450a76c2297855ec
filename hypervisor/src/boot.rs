//! From the loader's image and device tree to a running system, step by step. Every refusal names what is wrong and where,
//! turns the machine off, and has written to no disk (see [`stop`]).

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use aarch64::image::sections;
use aarch64::mmio::Mmio;
use aarch64::pl011::Pl011;
use aarch64::stage1::MapError;
use abi::IRQ_LINES;
use abi::hypercall::Failure;
use bundle::image::ImageHeader;
use bundle::{Bundle, Kind as Entry};
use console::Speaker;
use el2::context::Confinement;
use el2::gic::{Hardware, Interrupts};
use el2::gic_v2::GicV2;
use el2::gic_v3::GicV3;
use el2::memory::{BootMemory, GeneralPlace, NoDeviceTree};
use el2::{context, firmware, pages, storage, tables};
use machine::board::{Attachment, Function, Reset, StorageController};
use machine::general_tree::{self, General, VirtualDevice};
use machine::secure_tree::{self, SecureTree, Storage};
use machine::{
    Cores, Denied, Device, Frames, KernelSize, Loaded, Machine, MemoryPlan, PAGE, PciHost, Region, SharedHost, Stoppable,
    SystemMmu, Trigger,
};

use psci::Psci;
use spin::Mutex;
use stage2::{Access, Attributes, Ipa, MemoryType, Owner, Ownership, PhysAddr, Shareability, Stage2, State};
use vcpu::control::Domain;
use vcpu::{El1State, Frame};
use vgic::{Config, Messages, Source, Version, Vgic};

use crate::board::BOARD;
use crate::dma::{self, Disks, Dma};
use crate::log::{CONSOLE, log, set_raw};
use crate::panic::stop;
use crate::pcie::Bus;
use crate::restart::{Origin, Restart};
use crate::system::{Core, System};
use crate::{cpu, exclusive, mmio, pci, reset, secure};

/// Bytes that the general domain must have beside kernel and initrd before the bundle is kept from it.
const ROOM: u64 = 96 << 20;
/// Claims that the ownership table has room for: EL2, the secure domain, the pieces of general memory, the shared pages.
const CLAIMS: usize = 32;

/// Connects a console, from here on or in place of an earlier one.
pub fn connect(registers: Mmio) {
    let uart = Pl011::new(registers);
    uart.enable_transmit();
    set_raw(uart);
    CONSOLE.lock().connect(uart);
}

/// The loader's device tree, or the reason why there is none.
pub fn device_tree(address: usize, read: Result<Vec<u8>, NoDeviceTree>) -> Vec<u8> {
    read.unwrap_or_else(|error| stop(format_args!("no device tree at {address:#x} (x0 of the boot loader): {error}")))
}

/// What the machine is.
pub struct Found {
    /// The machine as its tree tells it.
    pub machine: Machine,
    /// The storage controllers of the secure domain that the machine has, each with its place in the board file.
    pub storage: Vec<(usize, Device)>,
    /// The flash bank for the secure domain's anchor, if there is one.
    pub anchor: Option<Region>,
    /// The console's UART.
    pub console: Device,
    /// The cores, by whose they are.
    pub cores: Cores,
    /// Affinity of the core that boots.
    pub affinity: u64,
    /// Where the loader left the tree.
    pub tree: Region,
    /// What the general domain must never reach.
    pub denied: Denied,
    /// The system MMU that its devices are behind, if the machine has one.
    pub system_mmu: Option<SystemMmu>,
    /// Its bus masters, by how EL2 can stop them.
    pub masters: Stoppable,
    /// The PCI host that the secure domain's disks are on, if they are.
    pub host: Option<SharedHost>,
    /// Those disks, and their streams, as far as they are behind the system MMU.
    pub disk_streams: Vec<(Function, u32)>,
}

/// Reads the tree and checks that this build can serve the machine.
pub fn find_machine(tree: &[u8], address: usize) -> Found {
    let machine = Machine::read(tree).unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let host = find_host(&machine, tree);
    let storage = find_storage(&machine, tree, host.as_ref());
    let anchor = BOARD.anchor.and_then(|board| {
        machine.anchor(tree, &board).inspect_err(|error| log!("no anchor for the secure domain: {error}")).ok()
    });
    let Some(console) = machine.console.clone() else {
        stop(format_args!("device tree: /chosen/stdout-path names no PL011"));
    };
    if machine.psci != machine::Conduit::Smc {
        stop(format_args!(
            "device tree: firmware is called by HVC, which EL2 cannot do; start Haechi at EL2 under firmware at EL3"
        ));
    }
    let affinity = cpu::affinity();
    let cores = Cores::share(&machine.cpus, affinity, BOARD.secure_core);
    let cores = cores.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let denied = Denied::new(&machine, &BOARD, storage.iter().map(|(_, device)| device), host.as_ref());
    let system_mmu = SystemMmu::find(tree, &machine, &denied);
    let system_mmu = system_mmu.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let disk_streams = disk_streams(tree, host.as_ref(), system_mmu.as_ref());
    let masters = stoppable_masters(tree, &denied, host.as_ref());
    let tree = Region::new(address as u64, tree.len() as u64).expect("a tree that was read is not empty");
    Found { machine, storage, anchor, console, cores, affinity, tree, denied, system_mmu, masters, host, disk_streams }
}

/// The general domain's bus masters. The functions of a host that is shared out are stopped one by one ([`Bus::stop_general`]).
fn stoppable_masters(tree: &[u8], denied: &Denied, host: Option<&SharedHost>) -> Stoppable {
    let found = Stoppable::find(tree, denied);
    let mut masters = found.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    masters.ecam.retain(|space| host.is_none_or(|host| host.configuration != *space));
    masters
}

/// The PCI host, if a disk of the board is one of its functions.
fn find_host(machine: &Machine, tree: &[u8]) -> Option<SharedHost> {
    let functions: Vec<_> = BOARD.functions().collect();
    let find = |functions: Vec<_>| {
        SharedHost::find(tree, machine, &functions)
            .unwrap_or_else(|error| stop(format_args!("no PCI bus for the secure domain's disk: {error}")))
    };
    (!functions.is_empty()).then(|| find(functions))
}

/// The streams of the disks that are PCI functions behind `mmu`.
fn disk_streams(tree: &[u8], host: Option<&SharedHost>, mmu: Option<&SystemMmu>) -> Vec<(Function, u32)> {
    let (Some(host), Some(mmu)) = (host, mmu) else { return Vec::new() };
    let stream = |function| {
        mmu.stream(tree, host, function).unwrap_or_else(|error| stop(format_args!("device tree: {error}")))
    };
    host.functions().iter().filter_map(|function| Some((*function, stream(*function)?))).collect()
}

/// The storage controllers; without one that the board names the others go on.
fn find_storage(machine: &Machine, tree: &[u8], host: Option<&SharedHost>) -> Vec<(usize, Device)> {
    let mut found = Vec::with_capacity(BOARD.storage.len());
    for (place, controller) in BOARD.storage.iter().enumerate() {
        let device = match (controller.at, host) {
            (Attachment::Function(function, _), Some(host)) => host.device(function),
            (Attachment::Function(..), None) => continue,
            (Attachment::Registers { compatible, base }, _) => machine.storage(tree, compatible, base),
        };
        match device {
            Ok(device) => found.push((place, device)),
            Err(error) if BOARD.storage.len() == 1 => stop(format_args!("no storage for the secure domain: {error}")),
            Err(error) => log!("disk {place} is missing: {error}"),
        }
    }
    if found.is_empty() {
        stop(format_args!("no storage for the secure domain: none of its disks is there"));
    }
    found
}

/// Memory of the machine.
pub fn memory_ranges(found: &Found) -> Vec<Range<usize>> {
    found.machine.memory.iter().map(range).collect()
}

/// Devices that EL2 drives.
pub fn device_ranges(found: &Found) -> Vec<Range<usize>> {
    let mut regions = match &found.machine.gic.frames {
        Frames::V2 { distributor, cpu_interface, hypervisor_interface, .. } => {
            vec![*distributor, *cpu_interface, *hypervisor_interface]
        }
        Frames::V3 { distributor, redistributors, .. } => {
            redistributors.iter().copied().chain([*distributor]).collect()
        }
    };
    regions.push(found.console.registers);
    regions.extend(found.storage_pages());
    regions.extend(found.system_mmu.iter().map(|mmu| mmu.registers));
    regions.extend(found.host.iter().map(SharedHost::bus));
    regions.into_iter().map(|region| range(&region.hull(PAGE))).collect()
}

/// The outcome of replacing the boot mapping.
pub fn own_memory(mapped: Result<BootMemory, MapError>) -> BootMemory {
    mapped.unwrap_or_else(|error| stop(format_args!("stage 1 of EL2: {error}")))
}

fn range(region: &Region) -> Range<usize> {
    region.base() as usize..region.end() as usize
}

/// What the loader left in memory.
pub struct Modules {
    bundle: Region,
    secure_domain: Module,
    kernel: Module,
    initrd: Option<Region>,
    /// SHA-256 of the secure domain's image, as it will run.
    measurement: [u8; 32],
}

/// One image of the bundle.
struct Module {
    bytes: Region,
    header: ImageHeader,
}

/// Finds the boot bundle, checks the image of the secure domain against its digest, and the kernel for being whole.
pub fn modules(found: &Found, memory: &BootMemory) -> Modules {
    let Some(region) = found.machine.initrd else {
        stop(format_args!("device tree: no boot bundle (/chosen/linux,initrd-start); pass it as the initrd"));
    };
    if !memory.contains(&range(&region)) {
        stop(format_args!("boot bundle at {region}: not in memory"));
    }
    read_bundle(region, memory.bytes(&range(&region))).unwrap_or_else(|error| match error {
        BundleError::Bundle(error) => stop(format_args!("boot bundle at {region}: {error}")),
        BundleError::Image(kind, error) => stop(format_args!("boot bundle at {region}: {}: {error}", kind.name())),
    })
}

enum BundleError {
    Bundle(bundle::Error),
    Image(Entry, bundle::image::Error),
}

fn read_bundle(region: Region, bytes: &[u8]) -> Result<Modules, BundleError> {
    let bundle = Bundle::parse(bytes).map_err(BundleError::Bundle)?;
    bundle.verify(Entry::SecureDomain).map_err(BundleError::Bundle)?;
    let place = |kind| -> Result<Region, BundleError> {
        let entry = bundle.describe(kind).map_err(BundleError::Bundle)?;
        let place = Region::new(region.base() + entry.offset as u64, entry.length as u64);
        Ok(place.expect("an entry of a parsed bundle is not empty and lies in it"))
    };
    let module = |kind| -> Result<Module, BundleError> {
        let bytes = bundle.entry(kind).map_err(BundleError::Bundle)?;
        let refused = |error| BundleError::Image(kind, error);
        if kind == Entry::Kernel {
            bundle::image::check_whole(bytes).map_err(refused)?;
        }
        Ok(Module { bytes: place(kind)?, header: ImageHeader::parse(bytes).map_err(refused)? })
    };
    Ok(Modules {
        bundle: region,
        secure_domain: module(Entry::SecureDomain)?,
        kernel: module(Entry::Kernel)?,
        initrd: place(Entry::Initrd).ok(),
        measurement: *bundle.digest(Entry::SecureDomain).map_err(BundleError::Bundle)?,
    })
}

/// Shares out the memory.
pub fn plan(found: &Found, modules: &Modules) -> MemoryPlan {
    let image = sections();
    let kernel = &modules.kernel.header;
    let loaded = Loaded {
        el2: Region::between(image.text.start as u64, image.data.end as u64).expect("the image is not empty"),
        dtb: found.tree,
        bundle: modules.bundle,
        initrd: modules.initrd,
        kernel: KernelSize { text_offset: kernel.text_offset, image_size: kernel.image_size },
        secure_bytes: BOARD.secure_memory_bytes,
        window_bytes: BOARD.window_bytes,
        secure_image_bytes: modules.secure_domain.bytes.size(),
        keeps_bundle: found.resets_alone(),
    };
    let plan = MemoryPlan::make(&found.machine, &loaded);
    // Where memory is short, the general domain needs it more.
    let plan = plan.ok().filter(|plan| plan.kept.is_none() || plan.room() >= ROOM);
    let plan = plan.map_or_else(|| MemoryPlan::make(&found.machine, &Loaded { keeps_bundle: false, ..loaded }), Ok);
    plan.unwrap_or_else(|error| stop(format_args!("memory: {error}")))
}

/// Puts the secure domain's image and tree and the general domain's kernel where the plan says. The rest of their places is
/// zeroed: memory changes its owner here. Returns what the secure domain can be started again from.
pub fn load(found: &Found, bus: Option<&Bus>, modules: &Modules, plan: &MemoryPlan, memory: &mut BootMemory) -> Origin {
    let needed = modules.secure_domain.header.image_size;
    if needed > plan.secure_kept.base() - plan.secure.base() {
        stop(format_args!("secure domain: its image needs {needed} bytes and has {}", plan.secure.size()));
    }
    memory.fill_from(&range(&plan.kernel), &range(&modules.kernel.bytes));
    if let (Some(source), Some(place), Some(_)) = (modules.initrd, plan.initrd, plan.kept) {
        memory.fill_from(&range(&place), &range(&source));
    }
    memory.fill_from(&range(&plan.secure), &range(&modules.secure_domain.bytes));
    let tree = secure_tree::write(&SecureTree {
        memory: Region::between(plan.secure.base(), plan.secure_kept.base()).expect("room for the image"),
        general: plan.lent().iter().copied().collect(),
        shared_page: pages::shared_address() as u64,
        kept_page: plan.secure_kept.base(),
        dma: plan.secure_dma,
        storage: found.storage.iter().map(|storage| told(storage, bus)).collect(),
        pool: BOARD.pool,
        volumes: BOARD.volumes.iter().copied().collect(),
        anchor: found.anchor,
        rng_seed: found.machine.seeds.as_ref().map(|seeds| seeds.secure),
        measurement: modules.measurement,
        test_huk: BOARD.test_huk,
        crypto_profile: BOARD.crypto_profile,
    });
    if tree.len() as u64 > plan.secure_tree.size() {
        stop(format_args!("secure domain: its device tree of {} bytes does not fit", tree.len()));
    }
    memory.fill(&range(&plan.secure_tree), &tree);
    aarch64::cache::invalidate_instructions();
    keep_pristine(found, modules, plan, memory, &tree)
}

/// Makes the copy from which the secure domain is started again.
fn keep_pristine(
    found: &Found,
    modules: &Modules,
    plan: &MemoryPlan,
    memory: &mut BootMemory,
    tree: &[u8],
) -> Origin {
    let image = &modules.secure_domain.bytes;
    let pristine = range(&plan.pristine);
    let copy = pristine.start..pristine.start + image.size() as usize;
    let tree_place = pristine.end - secure_tree::PLACE_BYTES as usize..pristine.end;
    memory.fill_from(&copy, &range(image));
    memory.fill(&tree_place, tree);
    let secure = range(&plan.secure);
    Origin {
        image: copy,
        tree: tree_place.start..tree_place.start + tree.len(),
        seed: found.machine.seeds.as_ref().and_then(|seeds| {
            let offset = tree.windows(seeds.secure.len()).position(|bytes| bytes == seeds.secure)?;
            Some((offset, seeds.restart.clone()))
        }),
        measurement: modules.measurement,
        scrubbed: [
            secure.start..plan.secure_kept.base() as usize,
            plan.secure_tree.base() as usize..secure.end,
        ],
        disks: stoppable(found, memory),
    }
}

/// The registers of the secure domain's disks that are no PCI functions, if EL2 knows how to stop each of them.
fn stoppable(found: &Found, memory: &BootMemory) -> Option<Vec<Mmio>> {
    let stoppable = |(place, device): &(usize, Device)| match BOARD.storage[*place].at {
        Attachment::Registers { compatible, .. } => {
            Some((compatible == storage::COMPATIBLE).then(|| memory.device(&range(&device.registers))))
        }
        Attachment::Function(..) => None,
    };
    found.storage.iter().filter_map(stoppable).collect()
}

/// What a restart of the secure domain needs of memory: its pristine copy, and where it runs.
pub fn restart_memory(plan: &MemoryPlan) -> (Range<usize>, Range<usize>) {
    (range(&plan.pristine), range(&plan.secure))
}

/// The outcome of a change of EL2's mapping.
pub fn mapped<T>(outcome: Result<T, MapError>) -> T {
    outcome.unwrap_or_else(|error| stop(format_args!("stage 1 of EL2: {error}")))
}

/// What a reset of the general domain needs, if the plan is made for it; its device tree is `tree`.
pub fn next_life(
    found: &Found,
    modules: &Modules,
    plan: &MemoryPlan,
    tree: Vec<u8>,
) -> Option<(GeneralPlace, reset::Origin)> {
    plan.kept?;
    let ranges = |regions: &[Region]| regions.iter().map(range).collect::<Vec<_>>();
    let initrd = modules.initrd.zip(plan.initrd).map(|(source, place)| (range(&source), place.base() as usize));
    let kernel = (range(&modules.kernel.bytes), plan.kernel.base() as usize);
    let origin = reset::Origin {
        parts: [kernel].into_iter().chain(initrd).collect(),
        entry: plan.kernel.base(),
        seeds: found.machine.seeds.iter().flat_map(|seeds| seeds.places_in(&tree)).collect(),
        seed: found.machine.seeds.as_ref().map(|seeds| seeds.reset.clone()),
        tree,
        tree_place: plan.general_tree.base() as usize,
        cleared: ranges(&plan.outlived_by(&found.machine.reserved)),
        virtio: ranges(&found.masters.virtio),
        ecam: ranges(&found.masters.ecam),
        first: found.boot_index(),
    };
    let devices = found.masters.virtio.iter().chain(&found.masters.ecam).map(range).collect();
    Some((GeneralPlace { memory: ranges(&plan.general), kept: range(&modules.bundle), devices }, origin))
}

/// What the secure domain is told of a storage controller.
fn told((place, device): &(usize, Device), bus: Option<&Bus>) -> Storage<'static> {
    let StorageController { at, partition } = BOARD.storage[*place];
    let (compatible, window) = match at {
        Attachment::Registers { compatible, .. } => (compatible, None),
        Attachment::Function(function, kind) => (kind.compatible(), bus.and_then(|bus| bus.window(function))),
    };
    Storage { compatible, registers: device.registers, window, irq_line: *place as u32, partition }
}

/// Stage 2 of both domains, made through the ownership table.
pub struct Domains {
    general: Confinement,
    secure: Confinement,
    /// What the secure domain's disks reach that are behind the system MMU.
    disks: Option<Confinement>,
}

/// Draws the border: who owns which page, and what each domain's stage 2 maps.
pub fn domains(found: &Found, bus: Option<&Bus>, plan: &MemoryPlan) -> Domains {
    let ownership = ownership(plan).unwrap_or_else(|error| stop(format_args!("memory ownership: {error:?}")));
    let pa_range = cpu::pa_range();
    let bits = stage2::vtcr::ipa_bits(pa_range);
    tables::invalidate_all();

    let new_tables = |index: usize| {
        let memory = tables::Memory::new(index);
        Stage2::new(bits, index as u8 + 1, memory.root(), memory, tables::Tlb::default())
            .unwrap_or_else(|error| stop(format_args!("stage 2: {error:?}")))
    };
    let mut general = Border { tables: new_tables(0), owner: Owner::General, ownership: &ownership };
    for bank in &plan.general {
        general.memory(bank, Attributes::RAM);
    }
    for window in machine::device_windows(&found.machine, &found.denied, 1 << bits) {
        general.device(&window, window.base(), Attributes::DEVICE);
    }
    if let Frames::V2 { cpu_interface, virtual_cpu_interface, .. } = &found.machine.gic.frames {
        // The general domain's CPU interface is the hardware's virtual one, at the address of the physical one.
        general.device(virtual_cpu_interface, cpu_interface.base(), Attributes::DEVICE);
    }
    let stolen = Region::new(pages::stolen_times() as u64, PAGE).expect("a page");
    general.memory(&stolen, Attributes::READ_ONLY_RAM);
    if !pci::IS_THERE {
        let register_pages = pages::register_pages();
        let registers = Region::between(register_pages.start as u64, register_pages.end as u64).expect("not empty");
        general.device(&registers, BOARD.channel.base, READ_ONLY_DEVICE);
    }
    if let (Some(host), Some(bus)) = (&found.host, bus) {
        let pages = bus.general().filter_map(|function| host.page(function));
        pages.for_each(|page| general.device(&page, page.base(), READ_ONLY_DEVICE));
    }

    let mut secure = Border { tables: new_tables(1), owner: Owner::Secure, ownership: &ownership };
    secure.memory(&plan.secure, Attributes::RAM);
    for bank in plan.lent() {
        secure.memory(bank, Attributes::SHARED_RAM);
    }
    let shared = Region::new(pages::shared_address() as u64, PAGE).expect("a page");
    secure.memory(&shared, Attributes::SHARED_RAM);
    for page in found.storage_pages() {
        secure.device(&page, page.base(), Attributes::DEVICE);
    }
    for (page, window) in found.function_pages(bus) {
        secure.device(&page, page.base(), READ_ONLY_DEVICE);
        secure.device(&window, window.base(), Attributes::DEVICE);
    }
    if let Some(bank) = &found.anchor {
        secure.device(bank, bank.base(), Attributes::DEVICE);
    }
    let disks = (!found.disk_streams.is_empty()).then(|| {
        let mut disks = Border { tables: new_tables(2), owner: Owner::Secure, ownership: &ownership };
        disks.memory(&plan.secure_dma, Attributes::SHARED_RAM);
        disks
    });

    let confine = |border: &Border<'_>, domain| Confinement {
        control: cpu::control(domain),
        vtcr_el2: border.tables.vtcr(pa_range),
        vttbr_el2: border.tables.vttbr(),
    };
    Domains {
        general: confine(&general, Domain::General),
        secure: confine(&secure, Domain::Secure),
        disks: disks.map(|disks| confine(&disks, Domain::Secure)),
    }
}

/// Stops the devices behind the system MMU, which an earlier stage of boot may have left at work.
pub fn stop_devices(found: &Found, memory: &BootMemory) {
    if let Some(mmu) = &found.system_mmu {
        dma::stop_devices(mmu, memory.device(&range(&mmu.registers)));
    }
}

/// Shares the PCI bus out that the secure domain's disks are on, if they are.
pub fn share_bus(found: &Found, memory: &BootMemory) -> Option<Bus> {
    let host = found.host.as_ref()?;
    let shared = Bus::share(host, memory.device(&range(&host.bus())));
    Some(shared.unwrap_or_else(|refusal| stop(format_args!("no storage for the secure domain: {refusal}"))))
}

/// Confines the devices of the general domain as its cores are and the secure domain's disks to what is kept for them, and says which are not
/// confined.
pub fn confine_devices(found: &Found, tree: &[u8], memory: &BootMemory, domains: &Domains) -> Option<Dma> {
    let mmu = found.system_mmu.as_ref();
    let streams: Vec<_> = found.disk_streams.iter().map(|(_, stream)| *stream..*stream + 1).collect();
    let disks = Disks { streams: &streams, confinement: domains.disks.as_ref() };
    let dma = mmu.map(|mmu| Dma::confine(mmu, memory.device(&range(&mmu.registers)), &domains.general, &disks));
    dma::report(tree, &found.denied, mmu, found.unconfined_disks());
    dma
}

/// A device that a domain can only read: register pages, and configuration space.
const READ_ONLY_DEVICE: Attributes = Attributes {
    memory: MemoryType::DeviceNGnRE,
    access: Access::ReadOnly,
    executable: false,
    shareability: Shareability::Outer,
};

/// One domain's stage 2 while it is made.
struct Border<'a> {
    tables: Stage2<tables::Memory, tables::Tlb>,
    owner: Owner,
    ownership: &'a Ownership<CLAIMS>,
}

impl Border<'_> {
    /// Maps memory at its own address, if the domain may have it.
    fn memory(&mut self, region: &Region, attributes: Attributes) {
        let at = (Ipa(region.base()), PhysAddr(region.base()), region.size());
        stage2::map(self.ownership, self.owner, &mut self.tables, at, attributes)
            .unwrap_or_else(|error| stop(format_args!("stage 2 of {:?}, {region}: {error:?}", self.owner)));
    }

    /// Maps device registers, or a page that stands for them, at `ipa`. No one owns them: what a domain must not have has been
    /// left out of `region` by [`Denied`].
    fn device(&mut self, region: &Region, ipa: u64, attributes: Attributes) {
        self.tables
            .map(Ipa(ipa), PhysAddr(region.base()), region.size(), attributes)
            .unwrap_or_else(|error| stop(format_args!("stage 2 of {:?}, {region}: {error:?}", self.owner)));
    }
}

/// Every page of memory with its owner: EL2's, the secure domain's, the general domain's, of which the secure domain may read and
/// write what is lent to it; and EL2's page that the secure domain shares and the one that the general domain reads.
fn ownership(plan: &MemoryPlan) -> Result<Ownership<CLAIMS>, stage2::OwnershipError> {
    let mut ownership = Ownership::new();
    ownership.assign(PhysAddr(plan.el2.base()), plan.el2.size(), Owner::Hypervisor)?;
    ownership.assign(PhysAddr(plan.pristine.base()), plan.pristine.size(), Owner::Hypervisor)?;
    if let Some(kept) = plan.kept {
        ownership.assign(PhysAddr(kept.base()), kept.size(), Owner::Hypervisor)?;
    }
    ownership.assign(PhysAddr(plan.secure.base()), plan.secure.size(), Owner::Secure)?;
    for bank in &plan.general {
        ownership.assign(PhysAddr(bank.base()), bank.size(), Owner::General)?;
    }
    for bank in plan.lent() {
        ownership.share(PhysAddr(bank.base()), bank.size(), Owner::General, State::SharedRw(Owner::Secure))?;
    }
    let shared = PhysAddr(pages::shared_address() as u64);
    ownership.share(shared, PAGE, Owner::Hypervisor, State::SharedRw(Owner::Secure))?;
    let stolen = PhysAddr(pages::stolen_times() as u64);
    ownership.share(stolen, PAGE, Owner::Hypervisor, State::SharedRo(Owner::General))?;
    Ok(ownership)
}

/// The physical GIC, its distributor in a known state.
pub fn interrupts(found: &Found, memory: &BootMemory) -> Interrupts {
    let frame = |region: &Region| memory.device(&range(region));
    let hardware = match &found.machine.gic.frames {
        Frames::V2 { distributor, cpu_interface, hypervisor_interface, .. } => {
            Hardware::V2(GicV2::new(frame(distributor), frame(cpu_interface), frame(hypervisor_interface)))
        }
        Frames::V3 { distributor, redistributors, .. } => match redistributors.first() {
            Some(first) => Hardware::V3(GicV3::new(frame(distributor), frame(first))),
            None => stop(format_args!("device tree: the interrupt controller has no redistributors")),
        },
    };
    Interrupts::new(hardware, found.cores.all(), found.boot_index())
        .unwrap_or_else(|error| stop(format_args!("interrupt controller: {error:?}")))
}

/// Everything that runs shares, put together.
pub fn system(
    found: &Found,
    plan: &MemoryPlan,
    domains: Domains,
    dma: Option<Dma>,
    bus: Option<Bus>,
    interrupts: Interrupts,
    origin: Origin,
) -> System {
    let cores = found.cores.general().len();
    let (version, distributor, redistributors) = match &found.machine.gic.frames {
        Frames::V2 { distributor, .. } => (Version::V2, *distributor, None),
        Frames::V3 { distributor, redistributors, .. } => (Version::V3, *distributor, redistributors.first().copied()),
    };
    let vgic = Vgic::new(Config {
        version,
        cpus: cores,
        affinities: interrupts.affinities(),
        spis: interrupts.lines().saturating_sub(32) as usize,
        messages: pci::BUS.map(|bus| Messages { first: bus.first_message, count: bus.messages }),
    });
    assign_sources(found, &vgic, interrupts.lines());
    let mut lines = [None; IRQ_LINES];
    found.storage.iter().for_each(|(place, device)| lines[*place] = Some(device.interrupt.intid));
    System {
        cores,
        vgic,
        psci: psci(&interrupts, cores, found.boot_index(), plan.kept.is_some()),
        general_memory: plan.general.to_vec(),

        features: cpu::features(),
        map: mmio::Map {
            distributor,
            redistributors,
            console: found.console.registers.base(),
            channel: BOARD.channel.base,
            configuration: bus.as_ref().map(Bus::region),
            first_channel_intid: BOARD.channel.first_intid,
        },
        console_intid: found.console.interrupt.intid,
        lines,
        devices: core::array::from_fn(|index| Mutex::new(crate::devices::VirtualDevice::new(index))),
        pci: pci::State::default(),
        shared: pages::shared(),
        secure: Mutex::new(secure::SecureDomain::new(
            plan.secure.base(),
            plan.secure_tree.base(),
            domains.secure,
            Restart::new(origin),
        )),
        secure_state: secure::State::default(),
        exclusive: exclusive::State::default(),
        reset: reset::State::default(),
        slice_ticks: aarch64::time::ticks(BOARD.slice_us.into()),
        general: domains.general,
        dma,
        shared_bus: bus,
        interrupts,
    }
}

/// The general domain's cores: the one that boots is on.
fn psci(interrupts: &Interrupts, cores: usize, boot: usize, resets_alone: bool) -> Psci {
    let psci = Psci::new(psci::Config {
        cores,
        affinities: interrupts.affinities(),
        stolen_time: pages::stolen_times() as u64,
        system_suspend: true,
        warm_reset: resets_alone || firmware::has_warm_reset(),
    });
    let nowhere = psci::Start { entry: 0, context: 0 };
    let started = psci.claim(boot, nowhere).is_ok() && psci.begin(boot).is_some();
    assert!(started, "a core that nobody has claimed can be started");
    psci
}

/// Which interrupts are the general domain's: every SPI but those of EL2 and the secure domain, and the PPIs of the EL1 timers
/// and the performance monitors.
fn assign_sources(found: &Found, vgic: &Vgic, lines: u32) {
    /// Performance monitors (BSA, Arm DEN 0094, section 3.6).
    const PMU: u32 = 23;
    for intid in 32..lines {
        vgic.assign(intid, Source::Hardware);
    }
    let timers = &found.machine.timers;
    for intid in [timers.virtual_.intid, timers.physical.intid, PMU] {
        vgic.assign(intid, Source::Hardware);
    }
    for (_, device) in &found.storage {
        vgic.assign(device.interrupt.intid, Source::None);
    }
    for interrupt in found.system_mmu.iter().flat_map(|mmu| &mmu.interrupts) {
        vgic.assign(interrupt.intid, Source::None);
    }
    vgic.assign(found.console.interrupt.intid, Source::Virtual);
    for index in 0..abi::DEVICES as u32 {
        vgic.assign(BOARD.channel.first_intid + index, Source::Virtual);
    }
    if let Some(bus) = pci::BUS {
        for intid in bus.first_message..bus.first_message + bus.messages {
            if !vgic.assign(intid, Source::Virtual) {
                stop(format_args!("board file: the machine has no interrupt {intid} for a message"));
            }
        }
    }
}

impl Found {
    /// The pages of the storage controllers, each once: they may share one.
    fn storage_pages(&self) -> Vec<Region> {
        let mapped = self.storage.iter().filter(|(place, _)| {
            matches!(BOARD.storage[*place].at, Attachment::Registers { .. })
        });
        let mut pages = Vec::with_capacity(self.storage.len());
        for page in mapped.map(|(_, device)| device.registers.hull(PAGE)) {
            if !pages.contains(&page) {
                pages.push(page);
            }
        }
        pages
    }

    /// How many disks reach all memory.
    fn unconfined_disks(&self) -> usize {
        let confined = |place: usize| match BOARD.storage[place].at {
            Attachment::Function(function, _) => self.disk_streams.iter().any(|(disk, _)| *disk == function),
            Attachment::Registers { .. } => false,
        };
        self.storage.iter().filter(|(place, _)| !confined(*place)).count()
    }

    /// Configuration space of each disk that is a PCI function, and its registers.
    fn function_pages(&self, bus: Option<&Bus>) -> Vec<(Region, Region)> {
        let (Some(host), Some(bus)) = (&self.host, bus) else { return Vec::new() };
        let pages = |function| host.page(function).zip(bus.window(function).map(|window| window.registers));
        host.functions().iter().filter_map(|function| pages(*function)).collect()
    }

    /// Whether a reset of the general domain can be its own: the board wants it, and EL2 can stop its bus masters.
    fn resets_alone(&self) -> bool {
        BOARD.reset == Reset::Domain && self.masters.others.is_empty()
    }

    /// Index of the core that boots.
    pub fn boot_index(&self) -> usize {
        let position = self.cores.general().iter().position(|affinity| *affinity == self.affinity);
        position.expect("checked when the cores were shared out")
    }
}

/// The interrupts that EL2 and the secure domain have, routed to this core.
pub fn claim_interrupts(core: &Core, found: &Found) {
    let disks = found.storage.iter().map(|(_, device)| device.interrupt);
    for interrupt in disks.chain([found.console.interrupt]) {
        core.interrupts.set_edge(core.index, interrupt.intid, interrupt.trigger == Trigger::Edge);
        core.interrupts.claim(interrupt.intid, core.index);
    }
    if let Some(uart) = CONSOLE.lock().uart() {
        uart.enable_receive_interrupt();
    }
}

/// The console's registers, in place of the board's early ones.
pub fn console(found: &Found, memory: &BootMemory) {
    connect(memory.device(&range(&found.console.registers)));
}

/// Writes the general domain's tree, with the devices that the secure domain offers, and returns it; erases the loader's, whose seeds
/// are no domain's to know.
pub fn general_tree(
    core: &Core,
    found: &Found,
    tree: &[u8],
    plan: &MemoryPlan,
    memory: &mut BootMemory,
) -> Vec<u8> {
    let attached: Vec<usize> =
        (0..abi::DEVICES).filter(|index| core.system.devices[*index].lock().is_attached()).collect();
    let devices: Vec<VirtualDevice> = match pci::BUS {
        Some(_) => Vec::new(),
        None => attached.iter().copied().filter_map(virtual_device).collect(),
    };
    let pci = pci::BUS.map(|bus| PciHost {
        bus,
        first_line: BOARD.channel.first_intid,
        devices: abi::DEVICES as u32,
        frame: BOARD.channel.base,
    });
    let host = found.host.as_ref();
    let (denied, exclusive_core) = (&found.denied, found.cores.exclusive());
    let general = General { plan, exclusive_core, denied, host, devices: &devices, pci, bootargs: None };
    let made = general_tree::write(tree, &found.machine, &general)
        .unwrap_or_else(|error| stop(format_args!("device tree of the general domain: {error}")));
    if made.len() as u64 > plan.general_tree.size() {
        stop(format_args!("device tree of the general domain: {} bytes do not fit", made.len()));
    }
    memory.fill(&range(&found.tree), &[]);
    memory.fill(&range(&plan.general_tree), &made);
    log!(
        "general domain: {} virtual disk(s){}, kernel at {:#x}, device tree at {:#x}",
        attached.len(),
        if pci.is_some() { " as PCI functions" } else { "" },
        plan.kernel.base(),
        plan.general_tree.base()
    );
    made
}

fn virtual_device(index: usize) -> Option<VirtualDevice> {
    let page = Region::new(BOARD.channel.base + index as u64 * PAGE, PAGE)?;
    let intid = BOARD.channel.first_intid + index as u32;
    Some(VirtualDevice { registers: page, interrupt: machine::Interrupt { intid, trigger: Trigger::Level } })
}

/// Loads a vCPU of the general domain onto this core: at `entry` with `argument` in `x0`, everything else as after a reset.
pub fn load_vcpu(core: &mut Core, entry: u64, argument: u64) {
    core.interrupts.reset_virtual();
    core.frame = Frame::reset(entry, argument);
    core.el1 = El1State::reset();
    context::load(&core.el1, &core.system.general);
    context::load_timers(&core.el1);
    context::reset_monitors(core.has_pmu);
    core.os_lock = true;
    let kicks = core.system.vgic.cpu_on(core.index, &mut core.interrupts);
    core.kick(kicks);
}

/// Stops before the general domain has run: there is nothing to serve it with.
pub fn stop_for(failure: Failure) -> ! {
    CONSOLE.lock().flush(Speaker::Secure);
    stop(format_args!("the secure domain cannot serve: {}", describe(failure)))
}

/// What a failure of the secure domain means.
pub fn describe(failure: Failure) -> &'static str {
    match failure {
        Failure::Disk => "no disk that it can drive",
        Failure::Volume => "no volume on its disk that it can serve",
        Failure::Panic => "a defect of its own",
        Failure::SelfTest => "a self-test of its crypto engine failed",
        Failure::DeviceTree => "its device tree lacks something",
    }
}

/// Says what has been found.
pub fn report(found: &Found, plan: &MemoryPlan) {
    log!("{} core(s), {} MiB of memory", found.machine.cpus.len(), found.machine.memory_bytes() >> 20);
    if let Some(affinity) = found.cores.exclusive() {
        log!("core {affinity:#x} is the secure domain's alone; the general domain has {}", found.cores.general().len());
    }
    log!("memory: hypervisor {}, secure domain {}", plan.el2, plan.secure);
    if let Some(window) = &plan.window {
        log!("the secure domain reaches {window} of the general domain's memory, and nothing else of it");
    }
    match &plan.kept {
        Some(kept) => log!("a reset of the general domain is its own; the boot bundle is kept in {kept}"),
        None if BOARD.reset == Reset::Machine => {}
        None if found.resets_alone() => log!("a reset resets the machine: there is too little memory to keep the boot bundle"),
        None => log!("a reset resets the machine: EL2 cannot stop {}", dma::names(&found.masters.others)),
    }
    for (place, device) in &found.storage {
        log!("disk {place}: {} at {}", device.path, device.registers);
    }
    if let Some(bank) = &found.anchor {
        log!("anchor: flash at {bank}");
    }
}
