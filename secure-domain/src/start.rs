//! From EL2's entry to a volume that is offered, step by step. What cannot go on says why and gives up; the disk has not been
//! written to then.

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

use aarch64::heap::BootHeap;
use aarch64::image::{self, sections};
use aarch64::stage1::{El1Tables, Kind};
use aarch64::sysreg::data_independent_timing;
use abi::SharedPage;
use abi::hypercall::Failure;
use anchor::flash::DevelopmentAnchor;
use anchor::{MonotonicStore, Record, Snapshot};
use crypto::module::{Module, Profile};
use crypto::selftest::Image;
use el1::guest_memory::GuestWindow;
use el1::hypercall::{attach, fail, ready, version};
use el1::memory::{self, DeviceRegisters, DmaRegion};
use keystore::RootKey;
use machine::secure_tree::{self, SecureTree, Storage};
use machine::{Region, board};
use virtio::Ledger;
use volume::service::Server;
use volume::{Options, Policy, Random, RandomFailed, mount};

use crate::disks::{Controller, Disk, Disks, Lines};
use crate::log::log;

/// The anchor that this build drives.
pub type Anchor = DevelopmentAnchor<DeviceRegisters>;

/// What is served.
pub type Served = Server<Disk, Prompt<Anchor>>;

/// Bytes of the heap besides the cache of the hash tree: page tables, request slots, the maps of volumes and extents.
const HEAP_BYTES: usize = 8 << 20;
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
    /// Memory that the disks read and write.
    pub dma: DmaRegion,
    /// What the life of this domain before has left of each device's queue; all zeros in the first.
    pub ledgers: &'static [Ledger; abi::DEVICES],
    /// The registers of each storage controller.
    pub controllers: Vec<Controller>,
}

fn range(region: &Region) -> Range<usize> {
    region.base() as usize..region.end() as usize
}

/// The heap hands out blocks of powers of two, on boundaries of their size, so it takes twice the cache to be sure of it.
fn heap_bytes(pool: &board::Pool) -> usize {
    2 * ((pool.cache_mib as usize) << 20) + HEAP_BYTES
}

/// Divides the memory behind the image and replaces the boot mapping by one that is W^X.
pub fn memory(tree: &SecureTree<'static>, heap: &BootHeap) -> Memory {
    let image = sections();
    let own = range(&tree.memory);
    let heap_range = image.data.end..image.data.end + heap_bytes(&tree.pool);
    let dma = range(&tree.dma);
    if heap_range.end > dma.start {
        let needed = heap_range.end - own.start + dma.len();
        log!("memory of {} bytes is too small: image, heap and buffers need {needed}", own.len());
        fail(Failure::DeviceTree);
    }
    // SAFETY: behind the image, in this domain's own memory, which the boot code has mapped; used by nothing else.
    unsafe { heap.init(heap_range.start, heap_range.len()) };
    let mut tables = El1Tables::new(&image).expect("an image can be mapped");
    let shared = tree.shared_page as usize;
    // The kept page and the tree lie behind this domain's memory.
    let tree_end = tree.kept_page as usize + 4096 + secure_tree::PLACE_BYTES as usize;
    let data = [heap_range.start..tree_end, shared..shared + 4096];
    let general = tree.general.iter().map(range);
    tables.map(&el1::boot::guard_page(), Kind::Hole).expect("a page of the image can be unmapped");
    let mapped = data.into_iter().chain(general).try_for_each(|data| tables.map(&data, Kind::Data));
    let windows = tree.storage.iter().filter_map(|storage| storage.window.as_ref()).map(|window| &window.registers);
    let devices = tree.storage.iter().map(|storage| &storage.registers).chain(windows).chain(&tree.anchor);
    let mapped = mapped.and_then(|()| devices.map(range).try_for_each(|device| tables.map(&device, Kind::Device)));
    if let Err(error) = mapped {
        log!("stage 1: {error}");
        fail(Failure::DeviceTree);
    }
    // SAFETY: the image, its stack and its data are mapped, and all that the tree names.
    unsafe { tables.activate() };
    core::mem::forget(tables);
    // SAFETY: each is mapped just now as its constructor asks, and the ranges are disjoint; EL2 gives the controllers to no one else.
    unsafe {
        Memory {
            shared: memory::shared_page(tree.shared_page),
            general: GuestWindow::new(tree.general.iter().map(|bank| bank.base()..bank.end())),
            dma: DmaRegion::new(dma),
            ledgers: memory::kept_page(tree.kept_page),
            controllers: tree.storage.iter().map(|it| controller(it)).collect(),
        }
    }
}

/// The registers of a storage controller.
///
/// # Safety
/// They must be mapped as Device memory, and given to no one else.
unsafe fn controller(storage: &Storage<'_>) -> Controller {
    // SAFETY: the caller's contract.
    let registers = |region: &Region| unsafe { DeviceRegisters::new(&range(region)) };
    match &storage.window {
        None => Controller::Mapped(registers(&storage.registers)),
        Some(window) => Controller::Function {
            space: registers(&storage.registers),
            registers: registers(&window.registers),
            window: window.bus_address..window.bus_address + window.registers.size(),
        },
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
    let state = status.state;
    log!("{} {}: self-tests passed, state {state}, profile {}, {timing}", status.name, status.version, status.profile);
    module
}

/// What the crypto module gave; it has just passed its tests.
fn served<T>(result: Result<T, crypto::Error>) -> T {
    result.unwrap_or_else(|error| {
        log!("crypto module: {error}");
        fail(Failure::SelfTest)
    })
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
    match opened.and_then(|mut store| store.read().map(|snapshot| (store, snapshot.counter))) {
        Ok((store, counter)) => {
            log!("anchor: development flash, counter {counter}");
            Prompt { store, counter }
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
///
/// The nonce is the anchor's counter at this start, and the measurement. No generator that gives anything has the nonce of another one: the
/// mount takes no random bytes, and has advanced the anchor when it is done (SP 800-90A section 8.6.7: a sequence number).
fn random(tree: &SecureTree<'static>, module: &'static Module, counter: u64) -> Random {
    let mut nonce = [0; 40];
    nonce[..8].copy_from_slice(&counter.to_be_bytes());
    nonce[8..].copy_from_slice(&tree.measurement);
    let seeded = |seed: [u8; 32]| module.random_from_seed(&seed, &nonce, b"secure domain").ok();
    let mut generator = tree.rng_seed.and_then(seeded);
    Box::new(move |out| {
        let generator = generator.as_mut().ok_or(RandomFailed)?;
        generator.fill(out).map_err(|_| RandomFailed)
    })
}

/// How the pool is mounted.
fn options(pool: &board::Pool) -> Options {
    let policy = match pool.window_ms {
        None => Policy::Strict,
        Some(window_ms) => Policy::Bulk { window_ms: window_ms.into() },
    };
    let cache_blocks = (pool.cache_mib as usize) << 8;
    Options { policy, cache_blocks, reservation: 1 << 32, degraded: pool.degraded, ..Options::default() }
}

/// Mounts the pool on the disks.
pub fn pool(
    disks: Disks,
    anchor: Prompt<Anchor>,
    root: &RootKey,
    tree: &SecureTree<'static>,
    shared: &SharedPage,
) -> (Served, Lines) {
    let Disks { members, lines } = disks;
    let random = random(tree, root.module(), anchor.counter);
    match mount(members, anchor, root, random, &options(&tree.pool), lines.patience(shared)) {
        Ok((pool, recovery)) => {
            log!("{recovery}");
            (Server::new(pool), lines)
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

/// Offers the volumes with these numbers as virtual disks, as many as EL2 has devices for.
pub fn offer(server: &mut Served, order: &[u32], ledgers: &'static [Ledger; abi::DEVICES]) {
    for (number, ledger) in order.iter().zip(ledgers) {
        let Some(volume) = server.pool().volumes().find(|volume| volume.number == *number) else { continue };
        let Some(device) = server.offer(*number, ledger) else { break };
        log!("virtual disk {device}: `{}`, {} MiB, {}", volume.name, volume.blocks >> 8, volume.suite.name());
        let features = Served::features() | ACCESS_PLATFORM;
        attach(device, virtio::blk::DEVICE_ID, features, 1, QUEUE_SIZE, &server.config(device));
    }
    ready();
}

/// An anchor that is asked until it has answered. The flash of an emulator answers at once, and raises no interrupt.
pub struct Prompt<A> {
    store: A,
    /// Its counter at the start of this domain.
    counter: u64,
}

impl<A: MonotonicStore> MonotonicStore for Prompt<A> {
    fn read(&mut self) -> Result<Snapshot, anchor::Error> {
        self.store.read()
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), anchor::Error> {
        self.store.start(expected_counter, record)
    }

    fn poll(&mut self) -> Option<Result<u64, anchor::Error>> {
        // Bounded: the driver gives the flash up after a number of questions.
        loop {
            if let Some(answer) = self.store.poll() {
                return Some(answer);
            }
        }
    }
}
