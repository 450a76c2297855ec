//! The physical disks: brought up one by one, each with its own part of the DMA memory. One that does not come up is left out; whether
//! the pool can do without it is for the mount to say.

use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::Range;

use aarch64::time;
use abi::hypercall::Failure;
use abi::{Event, SharedPage};
use block::gpt::{self, Guid, Selector};
use block::nvme::{self, Nvme};
use block::pci::Structures;
use block::virtio_blk::{Any, Mmio, Pci, VirtioBlk};
use block::{BlockDevice as _, Clock, Driver, Error, Partition};
use el1::hypercall::{fail, irq_done, wait};
use el1::memory::{DeviceRegisters, DmaRegion};
use machine::board::FunctionKind;
use machine::secure_tree::{SecureTree, Storage};

use crate::event_loop::now_ms;
use crate::log::log;

/// The pool's member on a disk: a partition, or all of it.
pub type Disk = Partition<Driver<DeviceRegisters, DmaRegion>>;

/// The registers of a storage controller.
pub enum Controller {
    /// In memory.
    Mapped(DeviceRegisters),
    /// A PCI function's.
    Function {
        /// Its configuration space, which is only read.
        space: DeviceRegisters,
        /// Its registers.
        registers: DeviceRegisters,
        /// Where the bus has these.
        window: Range<u64>,
    },
}

/// How long the disks may take before the pool serves, in microseconds.
const PATIENCE_US: u64 = 10_000_000;
/// How many times as long one that interrupts may take.
const MAX_PATIENCE: u64 = 12;
/// How long a driver sleeps before it asks its controller again, in microseconds.
const PAUSE_US: u64 = 100;

/// The disks that came up.
pub struct Disks {
    /// As they are given to the mount.
    pub members: Vec<Disk>,
    /// Their interrupt lines.
    pub lines: Lines,
}

/// The interrupt line of each disk, in the order in which the disks were given to the mount.
pub struct Lines(Vec<usize>);

impl Lines {
    /// The disks, as the mount counts them.
    pub fn disks(&self) -> Range<usize> {
        0..self.0.len()
    }

    /// The disks, as the mount counts them, whose interrupts are among `events`, with their lines.
    pub fn fired(&self, events: Event) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().copied().enumerate().filter(move |(_, line)| events.contains(Event::irq(*line)))
    }

    /// A function that sleeps until an event, takes the disks' interrupts, and says whether there is time left: counted from the last
    /// interrupt, though not for ever, and once it has said that there is none, the next disk is given as much.
    pub fn patience(&self, shared: &SharedPage) -> impl FnMut() -> bool {
        let later = |times: u64| time::counter() + times * time::ticks(PATIENCE_US);
        let (mut deadline, mut end) = (later(1), later(MAX_PATIENCE));
        move || {
            if self.sleep(Some(deadline), shared) {
                deadline = later(1).min(end);
            }
            let left = time::counter() < deadline;
            if !left {
                (deadline, end) = (later(1), later(MAX_PATIENCE));
            }
            left
        }
    }

    /// Sleeps until an event or the counter's `deadline`, and takes the disks' interrupts. Returns whether there was one.
    fn sleep(&self, deadline: Option<u64>, shared: &SharedPage) -> bool {
        wait(deadline, false);
        self.fired(shared.take()).map(|(_, line)| irq_done(line)).count() != 0
    }
}

/// Time for a driver that waits for its controller. It sleeps meanwhile: a domain that never does is taken for one that hangs.
struct Sleep<'a> {
    lines: &'a Lines,
    shared: &'a SharedPage,
}

impl Clock for Sleep<'_> {
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn pause(&mut self) {
        let _ = self.lines.sleep(Some(time::counter() + time::ticks(PAUSE_US)), self.shared);
    }
}

/// Brings the disks of `tree` up, each behind its `controllers`; without any there is nothing to serve.
pub fn bring_up(
    tree: &SecureTree<'static>,
    controllers: Vec<Controller>,
    dma: DmaRegion,
    shared: &SharedPage,
) -> Disks {
    let mut disks = Disks { members: Vec::new(), lines: Lines(Vec::new()) };
    // Those of all, whichever comes up: nobody else ends what the life before has left.
    let lines = Lines(tree.storage.iter().map(|storage| storage.irq_line as usize).collect());
    let memory = dma.divide(tree.storage.len());
    for ((storage, controller), dma) in tree.storage.iter().zip(controllers).zip(memory) {
        let Some(disk) = bring_up_one(storage, controller, dma, &lines, shared) else { continue };
        log!("disk {}: {} MiB", storage.irq_line, disk.blocks() >> 8);
        disks.members.push(disk);
        disks.lines.0.push(storage.irq_line as usize);
    }
    if disks.members.is_empty() {
        log!("no disk can be driven");
        fail(Failure::Disk);
    }
    disks
}

/// One disk, or why not on the console.
fn bring_up_one(
    storage: &Storage<'static>,
    controller: Controller,
    dma: DmaRegion,
    lines: &Lines,
    shared: &SharedPage,
) -> Option<Disk> {
    let (number, base) = (storage.irq_line, storage.registers.base());
    let refused = |error: &dyn Display| log!("disk {number} at {base:#x}: {error}");
    let mut clock = Sleep { lines, shared };
    let disk = driver(storage, controller, dma, &mut clock).inspect_err(|error| refused(error)).ok()?;
    if let Driver::Nvme(disk) = &disk {
        let cache = if disk.has_cache() { "a" } else { "no" };
        log!("disk {number}: NVMe, {cache} volatile cache, power failures leave {} bytes whole", disk.atomic_bytes());
    }
    let selector = storage.partition.map(|it| Selector { kind: it.kind.map(Guid), name: it.name });
    gpt::open(disk, selector.as_ref(), lines.patience(shared)).inspect_err(|error| refused(error)).ok()
}

/// The driver of what is behind these registers.
fn driver(
    storage: &Storage<'_>,
    controller: Controller,
    dma: DmaRegion,
    clock: &mut impl Clock,
) -> Result<Driver<DeviceRegisters, DmaRegion>, Error> {
    let (space, registers, window) = match controller {
        Controller::Mapped(registers) => {
            return VirtioBlk::new(Any::Mmio(Mmio(registers)), dma).map(Driver::Virtio);
        }
        Controller::Function { space, registers, window } => (space, registers, window),
    };
    if storage.compatible == FunctionKind::Nvme.compatible() {
        let place = nvme::function::find(&space, &window).map_err(Error::Pci)?;
        return Nvme::new(registers, place, dma, clock).map(Driver::Nvme);
    }
    let structures = Structures::find(&space, window).map_err(Error::Pci)?;
    VirtioBlk::new(Any::Pci(Pci::new(registers, structures)), dma).map(Driver::Virtio)
}
