//! From EL2's entry to a volume that is offered, step by step. What cannot go on says why and gives up; the disk has not been
//! written to then.

use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;

use aarch64::heap::BootHeap;
use aarch64::image::{self, sections};
use aarch64::stage1::{El1Tables, Kind};
use aarch64::sysreg::data_independent_timing;
use aarch64::time;
use abi::hypercall::Failure;
use abi::{Event, SharedPage};
use anchor::flash::DevelopmentAnchor;
use anchor::{MonotonicStore, Record, Snapshot};
use block::BlockDevice as _;
use block::virtio_blk::VirtioBlk;
use crypto::module::{Module, Profile};
use crypto::selftest::Image;
use el1::guest_memory::GuestWindow;
use el1::hypercall::{attach, fail, irq_done, ready, version, wait};
use el1::memory::{self, DeviceRegisters, DmaRegion};
use keystore::RootKey;
use machine::Region;
use machine::secure_tree::{self, SecureTree};
use volume::service::Server;
use volume::{Options, Policy, Random, RandomFailed, mount};

use crate::log::log;

/// The disk that this build drives.
pub type Disk = VirtioBlk<DeviceRegisters, DmaRegion>;

/// The anchor that this build drives.
pub type Anchor = DevelopmentAnchor<DeviceRegisters>;

/// What is served.
pub type Served = Server<Disk, Prompt<Anchor>>;

/// How the pool is mounted: 16 MiB of its hash tree in memory, and nothing that was flushed may ever be rolled back.
const OPTIONS: Options = Options { policy: Policy::Strict, cache_blocks: 4096, reservation: 1 << 32, read_only: false, degraded: false };

/// Bytes of the heap: page tables, the cache of the hash tree, request slots. It hands out blocks of powers of two, on boundaries of their
/// size, so it takes twice the cache to be sure of it.
const HEAP_BYTES: usize = 36 << 20;
/// Bytes of the DMA region: rings and buffers.
const DMA_BYTES: usize = 16 << 20;
/// How long the disk may take for one request of the mount, in microseconds.
const DISK_PATIENCE_US: u64 = 10_000_000;
/// Largest queue that is offered.
const QUEUE_SIZE: u16 = 256;
/// `VIRTIO_F_ACCESS_PLATFORM` (virtio 1.2, section 6): the driver uses its platform's DMA interface, as a confined device needs.
const ACCESS_PLATFORM: u64 = 1 << 33;

/// Reads the tree that EL2 wrote for this domain.
pub fn device_tree(address: usize) -> SecureTree<'static> {
    let found = version();
    if found != abi::VERSION {
        log!("hypervisor speaks version {found} of the contract, this is {}", abi::VERSION);
        fail(Failure::DeviceTree);
    }
    // SAFETY: EL2 placed the tree there, in this domain's memory, and the boot code mapped it.
    let bytes = unsafe { memory::bytes(address..address + secure_tree::PLACE_BYTES as usize) };
    secure_tree::read(bytes).unwrap_or_else(|error| {
        log!("{error}");
        fail(Failure::DeviceTree)
    })
}

/// What this domain's memory is divided into.
pub struct Memory {
    /// The page that EL2 shares.
    pub shared: &'static SharedPage,
    /// The general domain's memory.
    pub general: GuestWindow,
    /// Memory that the disk reads and writes.
    pub dma: DmaRegion,
}

fn range(region: &Region) -> Range<usize> {
    region.base() as usize..region.end() as usize
}

/// Divides the memory behind the image and replaces the boot mapping by one that is W^X.
pub fn memory(tree: &SecureTree<'static>, heap: &BootHeap) -> Memory {
    let image = sections();
    let own = range(&tree.memory);
    let heap_range = image.data.end..image.data.end + HEAP_BYTES;
    let dma = heap_range.end..heap_range.end + DMA_BYTES;
    if dma.end > own.end {
        log!("memory of {} bytes is too small: image, heap and buffers need {}", own.len(), dma.end - own.start);
        fail(Failure::DeviceTree);
    }
    // SAFETY: behind the image, in this domain's own memory, which the boot code has mapped; used by nothing else.
    unsafe { heap.init(heap_range.start, heap_range.len()) };
    let mut tables = El1Tables::new(&image).expect("an image can be mapped");
    let shared = tree.shared_page as usize;
    let data = [heap_range.start..own.end + secure_tree::PLACE_BYTES as usize, shared..shared + 4096];
    let general = tree.general.iter().map(range);
    tables.map(&el1::boot::guard_page(), Kind::Hole).expect("a page of the image can be unmapped");
    let mapped = data.into_iter().chain(general).try_for_each(|data| tables.map(&data, Kind::Data));
    let devices = [&tree.storage.registers].into_iter().chain(&tree.anchor);
    let mapped = mapped.and_then(|()| devices.map(range).try_for_each(|device| tables.map(&device, Kind::Device)));
    if let Err(error) = mapped {
        log!("stage 1: {error}");
        fail(Failure::DeviceTree);
    }
    // SAFETY: the image, its stack and its data are mapped, and all that the tree names.
    unsafe { tables.activate() };
    core::mem::forget(tables);
    // SAFETY: each is mapped just now as its constructor asks, and the ranges are disjoint.
    unsafe {
        Memory {
            shared: memory::shared_page(tree.shared_page),
            general: GuestWindow::new(tree.general.iter().map(|bank| bank.base()..bank.end())),
            dma: DmaRegion::new(dma),
        }
    }
}

/// Powers the crypto module on, for as long as this domain runs, and tests it: its image against the MAC that was written after linking,
/// then every algorithm. It serves nothing before. Never inlined: the tests want much of the stack, and `main`, which never returns,
/// would keep that for good.
#[inline(never)]
pub fn crypto_module(tree: &SecureTree<'static>) -> &'static Module {
    let Some(profile) = Profile::named(tree.crypto_profile) else {
        log!("the crypto module has no profile \"{}\"", tree.crypto_profile);
        fail(Failure::DeviceTree);
    };
    let module: &Module = Box::leak(Box::new(Module::power_on(profile)));
    let pieces: Vec<_> = image::linked().collect();
    if let Err(error) = module.self_test(&Image { pieces: &pieces, mac: image::integrity_mac() }) {
        log!("crypto module: {error}");
        fail(Failure::SelfTest);
    }
    let status = module.status();
    let timing = match data_independent_timing() {
        Some(true) => "PSTATE.DIT is set",
        Some(false) => "PSTATE.DIT is clear",
        None => "no PSTATE.DIT on this core",
    };
    log!("{} {}: self-tests passed, profile {}, {timing}", status.name, status.version, status.profile);
    module
}

/// What the crypto module gave; it has just passed its tests.
fn served<T>(result: Result<T, crypto::Error>) -> T {
    result.unwrap_or_else(|error| {
        log!("crypto module: {error}");
        fail(Failure::SelfTest)
    })
}

/// Brings the disk up.
pub fn disk(tree: &SecureTree<'static>, dma: DmaRegion) -> Disk {
    // SAFETY: mapped as Device memory; EL2 gives the controller to no one else.
    let registers = unsafe { DeviceRegisters::new(&range(&tree.storage.registers)) };
    let disk = VirtioBlk::new(registers, dma).unwrap_or_else(|error| {
        log!("disk at {:#x}: {error}", tree.storage.registers.base());
        fail(Failure::Disk)
    });
    log!("disk: {} MiB", disk.blocks() >> 8);
    disk
}

/// Brings the anchor up.
pub fn anchor(tree: &SecureTree<'static>, root: &RootKey) -> Prompt<Anchor> {
    let Some(bank) = &tree.anchor else {
        log!("this board has no place for a freshness anchor");
        fail(Failure::DeviceTree);
    };
    // SAFETY: mapped as Device memory; EL2 gives the bank to no one else.
    let registers = unsafe { DeviceRegisters::new(&range(bank)) };
    let opened = Anchor::new(registers, served(root.anchor_key()));
    match opened.and_then(|mut anchor| anchor.read().map(|snapshot| (anchor, snapshot.counter))) {
        Ok((anchor, counter)) => {
            log!("anchor: development flash, counter {counter}");
            Prompt(anchor)
        }
        Err(error) => {
            log!("anchor at {:#x}: {error}", bank.base());
            fail(Failure::Volume)
        }
    }
}

/// The key that all others come from.
pub fn root_key(tree: &SecureTree<'static>, module: &'static Module) -> RootKey {
    let Some(huk) = &tree.test_huk else {
        log!("this board has no hardware unique key");
        fail(Failure::DeviceTree);
    };
    served(RootKey::from_huk(module, huk))
}

/// Random bytes for keys: HMAC-DRBG on the seed that the boot loader gave. Without a seed no key can be made.
fn random(tree: &SecureTree<'static>, module: &'static Module) -> Random {
    let seeded = |seed: [u8; 32]| module.random_from_seed(&seed, &tree.measurement[..16], b"secure domain").ok();
    let mut generator = tree.rng_seed.and_then(seeded);
    Box::new(move |out| {
        let generator = generator.as_mut().ok_or(RandomFailed)?;
        generator.fill(out).map_err(|_| RandomFailed)
    })
}

/// Mounts the pool on the disk.
pub fn pool(disk: Disk, anchor: Prompt<Anchor>, root: &RootKey, tree: &SecureTree<'static>, shared: &SharedPage) -> Served {
    let deadline = time::counter() + time::ticks(DISK_PATIENCE_US);
    let line = tree.storage.irq_line as usize;
    let idle = || {
        wait();
        if shared.take().contains(Event::irq(line)) {
            irq_done(line);
        }
        time::counter() < deadline
    };
    match mount(vec![disk], anchor, root, random(tree, root.module()), &OPTIONS, idle) {
        Ok((pool, recovery)) => {
            log!("{recovery}");
            Server::new(pool)
        }
        Err(error) => {
            log!("{error}");
            fail(if matches!(error, volume::Error::Disk { .. } | volume::Error::Silent) {
                Failure::Disk
            } else {
                Failure::Volume
            })
        }
    }
}

/// Offers each volume as a virtual disk, in the order of the catalog, as many as EL2 has devices for.
pub fn offer(server: &mut Served) {
    let volumes: Vec<_> = server.pool().volumes().take(abi::DEVICES).collect();
    for volume in volumes {
        let Some(device) = server.offer(volume.number) else { break };
        log!("virtual disk {device}: `{}`, {} MiB, {}", volume.name, volume.blocks >> 8, volume.suite.name());
        let features = Served::features() | ACCESS_PLATFORM;
        attach(device, virtio::blk::DEVICE_ID, features, 1, QUEUE_SIZE, &server.config(device));
    }
    ready();
}

/// An anchor that is asked until it has answered. The flash of an emulator answers at once, and raises no interrupt.
pub struct Prompt<A>(A);

impl<A: MonotonicStore> MonotonicStore for Prompt<A> {
    fn read(&mut self) -> Result<Snapshot, anchor::Error> {
        self.0.read()
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), anchor::Error> {
        self.0.start(expected_counter, record)
    }

    fn poll(&mut self) -> Option<Result<u64, anchor::Error>> {
        // Bounded: the driver gives the flash up after a number of questions.
        loop {
            if let Some(answer) = self.0.poll() {
                return Some(answer);
            }
        }
    }
}
