//! What the loader left in memory: checked, and put where the plan says, with what a later restart or reset needs of it.

use alloc::vec::Vec;
use core::ops::Range;

use aarch64::image::sections;
use aarch64::mmio::Mmio;
use bundle::image::ImageHeader;
use bundle::{Bundle, Kind as Entry};
use el2::memory::{BootMemory, GeneralPlace};
use el2::{pages, storage};
use machine::board::{Attachment, StorageController};
use machine::secure_tree::{self, SecureTree, Storage};
use machine::{Device, KernelSize, Loaded, MemoryPlan, Region};

use super::found::Found;
use super::range;
use crate::board::BOARD;
use crate::panic::stop;
use crate::pcie::Bus;
use crate::reset;
use crate::restart::Origin;

/// Bytes that the general domain must have beside kernel and initrd before the bundle is kept from it.
const ROOM: u64 = 96 << 20;

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
        general: plan.lent().try_into().expect("a plan lends no more than the tree can tell"),
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
fn keep_pristine(found: &Found, modules: &Modules, plan: &MemoryPlan, memory: &mut BootMemory, tree: &[u8]) -> Origin {
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
        scrubbed: [secure.start..plan.secure_kept.base() as usize, plan.secure_tree.base() as usize..secure.end],
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
