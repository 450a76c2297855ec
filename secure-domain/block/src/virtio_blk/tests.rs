//! The driver against a device made of this project's own device side, and against devices that lie.

use core::cell::RefCell;
use std::{boxed::Box, vec, vec::Vec};

use proptest::prelude::*;
use virtio::{Chain, GuestMemory, Ledger, OutOfRange, Queue, QueueConfig, QueueFeatures, Token};

use super::*;
use crate::model::{Function, FunctionRegisters, Memory, RegisterFile};
use crate::pci::{Refusal, Structure, Structures};

type Disk = VirtioBlk<Mmio<RegisterFile>, Memory>;
/// As the secure domain has it.
type PciDisk = VirtioBlk<Any<FunctionRegisters>, Memory>;

const BLOCKS: u64 = 128;

fn disk_with(registers: RegisterFile, blocks: usize) -> Result<Disk, Error> {
    VirtioBlk::new(Mmio(registers), Memory::new(Disk::OVERHEAD_BYTES + blocks * BLOCK_BYTES))
}

/// The same device as a PCI function, whose queue has notification register `notify_number`.
fn pci_disk_with(file: RegisterFile, notify_number: u16) -> Result<PciDisk, Error> {
    let structures = Structures::find(&Function::new(0x1000_0000), 0x1000_0000..0x1000_8000).expect("it is sound");
    let registers = FunctionRegisters { notify_number, ..FunctionRegisters::new(file) };
    VirtioBlk::new(Any::Pci(Pci::new(registers, structures)), Memory::new(PciDisk::OVERHEAD_BYTES + 64 * BLOCK_BYTES))
}

/// All that a PCI function must offer.
fn pci_file() -> RegisterFile {
    RegisterFile { features: 1 << 33 | 1 << 32 | 1 << 9 | 1 << 6, ..RegisterFile::new(BLOCKS * 8) }
}

/// A disk of either transport, and the device's registers behind it.
trait Machine: BlockDevice {
    fn sides(&mut self) -> (&mut RegisterFile, &mut Memory);
}

impl Machine for Disk {
    fn sides(&mut self) -> (&mut RegisterFile, &mut Memory) {
        let (transport, memory) = self.machine();
        (&mut transport.0, memory)
    }
}

impl Machine for PciDisk {
    fn sides(&mut self) -> (&mut RegisterFile, &mut Memory) {
        let (transport, memory) = self.machine();
        let Any::Pci(function) = transport else { panic!("it is one") };
        (&mut function.registers().file, memory)
    }
}

fn disk() -> Disk {
    disk_with(RegisterFile::new(BLOCKS * 8), 64).unwrap()
}

/// The device's view of the DMA region.
struct Bus<'a>(RefCell<&'a mut Memory>);

impl Bus<'_> {
    fn at(&self, address: u64, len: usize) -> Result<core::ops::Range<usize>, OutOfRange> {
        let start = address.checked_sub(Memory::BASE).ok_or(OutOfRange { address, len })? as usize;
        let range = start..start + len;
        if range.end <= self.0.borrow().bytes.len() { Ok(range) } else { Err(OutOfRange { address, len }) }
    }
}

impl GuestMemory for Bus<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
        out.copy_from_slice(&self.0.borrow().bytes[self.at(address, out.len())?]);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let range = self.at(address, data.len())?;
        self.0.borrow_mut().bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange> {
        self.write(address, &value.to_le_bytes())
    }

    fn fence(&self) {}
}

/// A device behind the registers: it takes chains when told and answers them in any order.
struct Device {
    queue: Queue,
    image: Vec<u8>,
    taken: Vec<(Token, Chain)>,
    flushes: usize,
}

impl Device {
    fn new(disk: &mut impl Machine) -> Device {
        let (registers, _) = disk.sides();
        assert_eq!(registers.status & 0xf, 0xf, "DRIVER_OK follows FEATURES_OK");
        assert_eq!(registers.last(0x44), Some(1));
        let area =
            |low: usize| u64::from(registers.last(low).unwrap()) | u64::from(registers.last(low + 4).unwrap()) << 32;
        let config = QueueConfig {
            size: registers.last(0x38).unwrap(),
            descriptor_table: area(0x80),
            available_ring: area(0x90),
            used_ring: area(0xa0),
        };
        let ledger = Box::leak(Box::new(Ledger::new()));
        let queue = Queue::new(config, QueueFeatures::default(), ledger).unwrap();
        Device { queue, image: vec![0; BLOCKS as usize * BLOCK_BYTES], taken: Vec::new(), flushes: 0 }
    }

    /// Takes what is available and answers up to `count` requests, chosen by `order`.
    fn serve(&mut self, disk: &mut impl Machine, count: usize, order: u64) {
        let (_, memory) = disk.sides();
        let bus = Bus(RefCell::new(memory));
        let mut chain = Chain::new();
        while let Some(token) = self.queue.pop(&bus, &mut chain).unwrap() {
            self.taken.push((token, core::mem::take(&mut chain)));
        }
        for turn in 0..count.min(self.taken.len()) as u64 {
            let index = (order.wrapping_add(turn * 7) % self.taken.len() as u64) as usize;
            let (token, chain) = self.taken.swap_remove(index);
            let written = self.answer(&bus, chain);
            self.queue.push_used(&bus, token, written).unwrap();
        }
        self.queue.publish(&bus).unwrap();
    }

    fn answer(&mut self, bus: &Bus<'_>, mut chain: Chain) -> u32 {
        let mut header = [0; 16];
        let status = chain.take_last_writable().unwrap();
        assert!(chain.take_front(bus, &mut header).unwrap());
        let at = u64::from_le_bytes(*header.last_chunk().unwrap()) as usize * 512;
        let data = at..at + chain.len_bytes() as usize;
        let (kind, writable) = (header[0], chain.writable_bytes());
        let known = match kind {
            0 => data.end <= self.image.len() && chain.scatter(bus, 0, &self.image[data]).is_ok(),
            1 => data.end <= self.image.len() && chain.gather(bus, 0, &mut self.image[data]).is_ok(),
            _ => {
                self.flushes += 1;
                kind == 4 && chain.len_bytes() == 0
            }
        };
        bus.write(status, &[u8::from(!known)]).unwrap();
        writable + 1
    }
}

#[test]
fn what_is_no_modern_block_device_is_refused_by_name() {
    let good = RegisterFile::new(8);
    let refused = |registers: RegisterFile| disk_with(registers, 1).err();
    assert_eq!(refused(RegisterFile { magic: 0, ..good.clone() }), Some(Error::NotVirtio(0)));
    assert_eq!(refused(RegisterFile { version: 1, ..good.clone() }), Some(Error::Version(1)));
    assert_eq!(refused(RegisterFile { device_id: 0, ..good.clone() }), Some(Error::DeviceId(0)));
    assert_eq!(refused(RegisterFile { device_id: 1, ..good.clone() }), Some(Error::DeviceId(1)));
    assert_eq!(refused(RegisterFile { features: 1 << 9, ..good.clone() }), Some(Error::Features(1 << 32)));
    assert_eq!(refused(RegisterFile { accepts: false, ..good.clone() }), Some(Error::FeaturesRejected));
    assert_eq!(refused(RegisterFile { queue_max: 128, ..good.clone() }), Some(Error::Queue(128)));
    assert_eq!(refused(RegisterFile { block_size: 8192, ..good.clone() }), Some(Error::BlockSize(8192)));
    assert_eq!(disk_with(good, 0).err(), Some(Error::DmaRegion(Disk::OVERHEAD_BYTES)));
}

#[test]
fn only_known_features_are_accepted() {
    let mut disk = disk_with(RegisterFile { features: u64::MAX, ..RegisterFile::new(8) }, 1).unwrap();
    assert_eq!(disk.sides().0.accepted, 1 << 33 | 1 << 32 | 1 << 9 | 1 << 6);
    assert!(disk.has_flush());
}

#[test]
fn a_function_that_may_go_round_the_system_mmu_is_refused() {
    assert_eq!(pci_disk_with(RegisterFile::new(8), 2).err(), Some(Error::Features(1 << 33)));
    let legacy = RegisterFile { features: 1 << 33, ..RegisterFile::new(8) };
    assert_eq!(pci_disk_with(legacy, 2).err(), Some(Error::Features(1 << 32)));
}

#[test]
fn a_function_that_is_no_device_is_refused_by_name() {
    let refused = |file: RegisterFile| pci_disk_with(file, 2).err();
    assert_eq!(refused(RegisterFile { accepts: false, ..pci_file() }), Some(Error::FeaturesRejected));
    assert_eq!(refused(RegisterFile { queue_max: 128, ..pci_file() }), Some(Error::Queue(128)));
    assert_eq!(refused(RegisterFile { block_size: 8192, ..pci_file() }), Some(Error::BlockSize(8192)));
}

#[test]
fn a_doorbell_outside_its_structure_is_refused() {
    let refused = Some(Error::Pci(Refusal::Misplaced(Structure::Notify)));
    for number in [0x400, 0x401, u16::MAX] {
        assert_eq!(pci_disk_with(pci_file(), number).err(), refused, "{number:#x}");
    }
    for number in [0, 0x3ff] {
        let mut disk = pci_disk_with(pci_file(), number).expect("it is sound");
        disk.flush(1).expect("there is room");
        disk.kick();
        assert_eq!(disk.sides().0.notifications(), 1, "{number:#x}");
    }
}

#[test]
fn a_full_queue_refuses_and_gives_the_buffer_back() {
    let mut disk = disk_with(RegisterFile::new(BLOCKS * 8), 100).unwrap();
    for tag in 0..DEPTH as u32 {
        let buffer = disk.allocate(1).unwrap();
        disk.read(tag, 0, buffer).unwrap();
    }
    assert_eq!(disk.room(), 0);
    let buffer = disk.allocate(1).unwrap();
    let Err(Refused(Some(buffer))) = disk.read(99, 0, buffer) else { panic!("taken") };
    disk.release(buffer);
    assert!(disk.flush(99).is_err());
}

#[test]
fn many_requests_cost_one_notification() {
    let mut disk = disk();
    for tag in 0..10 {
        let buffer = disk.allocate(4).unwrap();
        disk.read(tag, 0, buffer).unwrap();
    }
    disk.kick();
    disk.kick();
    assert_eq!(disk.sides().0.notifications(), 1);
    // A device at work says that it needs none.
    let buffer = disk.allocate(1).unwrap();
    disk.read(10, 0, buffer).unwrap();
    disk.sides().1.store16(layout::USED, 1);
    disk.kick();
    assert_eq!(disk.sides().0.notifications(), 1);
}

#[test]
fn the_interrupt_is_acknowledged_as_read() {
    let mut disk = disk();
    disk.acknowledge();
    assert_eq!(disk.sides().0.last(0x64), None);
    disk.sides().0.interrupt = 3;
    disk.acknowledge();
    assert_eq!(disk.sides().0.last(0x64), Some(3));
}

/// Starts one read and lets a liar fill the used ring; returns what the driver makes of it.
fn lie(index: u16, id: u32, len: u32, status: u8) -> (Option<Result<(), Error>>, bool) {
    let mut disk = disk();
    let buffer = disk.allocate(2).unwrap();
    disk.read(5, 0, buffer).unwrap();
    disk.kick();
    let (_, memory) = disk.sides();
    // The slot that is taken first is the last of the free list.
    memory.store8(layout::STATUSES + DEPTH - 1, status);
    memory.store32(layout::USED + 4, id);
    memory.store32(layout::USED + 8, len);
    memory.store16(layout::USED + 2, index);
    let result = disk.poll().map(|completion| completion.result);
    (result, disk.is_broken())
}

#[test]
fn a_device_that_lies_breaks_or_fails_but_never_panics() {
    let head = (DEPTH as u32 - 1) * 3;
    let broken = (Some(Err(Error::Broken)), true);
    for id in [0, 1, head + 1, head + 3, 255, 256, u32::MAX] {
        assert_eq!(lie(1, id, 8193, 0), broken, "id {id}");
    }
    assert_eq!(lie(65, head, 8193, 0), broken);
    assert_eq!(lie(u16::MAX, head, 8193, 0), broken);
    assert_eq!(lie(1, head, 8191, 0), (Some(Err(Error::Io)), false), "a short read");
    assert_eq!(lie(1, head, 8193, 1), (Some(Err(Error::Io)), false));
    assert_eq!(lie(1, head, 8193, 0xff), (Some(Err(Error::Io)), false), "a status that was not written");
    assert_eq!(lie(1, head, 8193, 0), (Some(Ok(())), false));
}

#[test]
fn a_broken_disk_ends_every_request_and_keeps_its_buffers() {
    let mut disk = disk();
    for tag in 0..3 {
        let buffer = disk.allocate(1).unwrap();
        disk.read(tag, 0, buffer).unwrap();
    }
    disk.sides().1.store16(layout::USED + 2, 999);
    let mut tags: Vec<_> = core::iter::from_fn(|| disk.poll())
        .map(|completion| {
            assert_eq!((completion.result, completion.buffer), (Err(Error::Broken), None));
            completion.tag
        })
        .collect();
    tags.sort();
    assert_eq!(tags, [0, 1, 2]);
    assert_eq!(disk.room(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64, usize),
    Read(u64, usize),
    Flush,
    Serve(usize, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let place = || (0..BLOCKS, 1usize..40);
    prop_oneof![
        place().prop_map(|(block, blocks)| Act::Write(block, blocks)),
        place().prop_map(|(block, blocks)| Act::Read(block, blocks)),
        Just(Act::Flush),
        (0usize..20, any::<u64>()).prop_map(|(count, order)| Act::Serve(count, order)),
    ]
}

/// A request that waits: its blocks, and what was written (`None`: a read or a flush).
type Waiting = Vec<Option<(u64, usize, Option<u8>)>>;

fn collect(disk: &mut impl Machine, image: &[u8], waiting: &mut Waiting) {
    while let Some(completion) = disk.poll() {
        assert_eq!(completion.result, Ok(()));
        let (block, blocks, written) = waiting[completion.tag as usize].take().expect("each tag comes back once");
        let Some(buffer) = completion.buffer else {
            assert_eq!(blocks, 0);
            continue;
        };
        assert_eq!(buffer.blocks(), blocks);
        let at = block as usize * BLOCK_BYTES;
        if written.is_none() {
            // Nothing is written while reads are under way, so the image is what was read.
            assert_eq!(disk.bytes(&buffer), &image[at..at + blocks * BLOCK_BYTES]);
        }
        disk.release(buffer);
    }
}

fn run(mut disk: impl Machine, acts: &[Act]) {
    let mut device = Device::new(&mut disk);
    let mut waiting: Waiting = Vec::new();
    let mut model = device.image.clone();
    for (number, act) in acts.iter().enumerate() {
        let tag = waiting.len() as u32;
        let busy = waiting.iter().flatten().count() > 0;
        match *act {
            Act::Serve(count, order) => {
                disk.kick();
                device.serve(&mut disk, count, order);
            }
            Act::Flush if disk.room() > 0 => {
                disk.flush(tag).unwrap();
                waiting.push(Some((0, 0, None)));
            }
            Act::Write(block, blocks) | Act::Read(block, blocks) if disk.room() > 0 => {
                let writes = matches!(act, Act::Write(..));
                let left = (BLOCKS - block) as usize;
                // Writes go alone, so that the order of completion does not matter to the model.
                if busy && (writes || waiting.iter().flatten().any(|entry| entry.2.is_some())) {
                    continue;
                }
                let Some(buffer) = disk.allocate(blocks.min(left)) else { continue };
                let blocks = buffer.blocks();
                let fill = number as u8;
                let entry = Some((block, blocks, writes.then_some(fill)));
                if writes {
                    disk.bytes(&buffer).fill(fill);
                    let at = block as usize * BLOCK_BYTES;
                    model[at..at + blocks * BLOCK_BYTES].fill(fill);
                    disk.write(tag, block, buffer).unwrap();
                } else {
                    disk.read(tag, block, buffer).unwrap();
                }
                waiting.push(entry);
            }
            _ => {}
        }
        collect(&mut disk, &device.image, &mut waiting);
    }
    disk.kick();
    device.serve(&mut disk, usize::MAX, 0);
    collect(&mut disk, &device.image, &mut waiting);
    assert!(waiting.iter().all(Option::is_none), "a request never ended");
    assert!(device.image == model, "the disk holds what was written");
    assert_eq!(disk.room(), DEPTH);
}

proptest! {
    #[test]
    fn requests_do_what_they_say_and_each_ends_once(acts in prop::collection::vec(act(), 0..120)) {
        run(disk(), &acts);
        run(pci_disk_with(pci_file(), 2).expect("it is sound"), &acts);
    }
}
