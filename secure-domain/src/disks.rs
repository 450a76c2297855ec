//! The physical disks: brought up one by one, each with its own part of the DMA memory. One that does not come up is left out; whether
//! the pool can do without it is for the mount to say.

use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::Range;

use aarch64::time;
use abi::hypercall::Failure;
use abi::{Event, SharedPage};
use block::gpt::{self, Guid, Selector};
use block::pci::Structures;
use block::virtio_blk::{Any, Mmio, Pci, VirtioBlk};
use block::{BlockDevice as _, Error, Partition};
use el1::hypercall::{fail, irq_done, wait};
use el1::memory::{DeviceRegisters, DmaRegion};
use machine::secure_tree::{SecureTree, Storage};

use crate::log::log;

/// The pool's member on a disk: a partition, or all of it.
pub type Disk = Partition<VirtioBlk<Any<DeviceRegisters>, DmaRegion>>;

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
    /// interrupt, and once it has said that there is none, the next disk is given as much.
    pub fn patience(&self, shared: &SharedPage) -> impl FnMut() -> bool {
        let later = || time::counter() + time::ticks(PATIENCE_US);
        let mut deadline = later();
        move || {
            wait(Some(deadline), false);
            let fired = self.fired(shared.take()).map(|(_, line)| irq_done(line)).count() != 0;
            let left = fired || time::counter() < deadline;
            if fired || !left {
                deadline = later();
            }
            left
        }
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
    let memory = dma.divide(tree.storage.len());
    for ((storage, controller), dma) in tree.storage.iter().zip(controllers).zip(memory) {
        let Some(disk) = bring_up_one(storage, controller, dma, shared) else { continue };
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
    shared: &SharedPage,
) -> Option<Disk> {
    let (number, base) = (storage.irq_line, storage.registers.base());
    let refused = |error: &dyn Display| log!("disk {number} at {base:#x}: {error}");
    let transport = transport(controller).inspect_err(|error| refused(error)).ok()?;
    let disk = VirtioBlk::new(transport, dma).inspect_err(|error| refused(error)).ok()?;
    let selector = storage.partition.map(|it| Selector { kind: it.kind.map(Guid), name: it.name });
    let line = Lines([number as usize].into());
    gpt::open(disk, selector.as_ref(), line.patience(shared)).inspect_err(|error| refused(error)).ok()
}

/// What speaks to the disk through these registers.
fn transport(controller: Controller) -> Result<Any<DeviceRegisters>, Error> {
    match controller {
        Controller::Mapped(registers) => Ok(Any::Mmio(Mmio(registers))),
        Controller::Function { space, registers, window } => {
            let structures = Structures::find(&space, window).map_err(Error::Pci)?;
            Ok(Any::Pci(Pci::new(registers, structures)))
        }
    }
}
