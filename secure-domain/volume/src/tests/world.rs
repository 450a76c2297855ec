//! A small world: guest memory, a driver, the service, and a disk in memory.

use std::{collections::BTreeMap, vec, vec::Vec};

use block::ram::RamDisk;
use crypto::Suite;
use keystore::RootKey;
use virtio::{
    QueueFeatures,
    model::{Driver, Ram},
};

use super::audit;
use crate::{
    BLOCK_BYTES, Error, Event, Geometry, Outcome, Service, Volume,
    mount::{Options, mount},
    provision::{self, Store, provision},
};

pub(crate) const TYPE_IN: u32 = 0;
pub(crate) const TYPE_OUT: u32 = 1;
pub(crate) const TYPE_FLUSH: u32 = 4;
pub(crate) const TYPE_DISCARD: u32 = 11;
pub(crate) const TYPE_WRITE_ZEROES: u32 = 13;
pub(crate) const OK: u8 = 0;
pub(crate) const IO_ERROR: u8 = 1;

/// Entries of the driver's queue.
const QUEUE: u32 = 64;
/// Guest memory for one request: header, status, indirect table, data.
const AREA: u64 = 512 << 10;
const AREAS: u64 = 24;
/// Blocks of the largest request.
pub(crate) const MAX_BLOCKS: u32 = 100;

/// Cases of a model test: `usual`, or what PROPTEST_CASES says.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

pub(crate) fn root() -> RootKey {
    RootKey::from_huk(&[0x48; 32])
}

/// An image in memory.
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Store for Image {
    type Error = ();

    fn blocks(&self) -> u64 {
        (self.0.len() / BLOCK_BYTES) as u64
    }

    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), ()> {
        let at = block as usize * BLOCK_BYTES;
        out.copy_from_slice(&self.0[at..at + out.len()]);
        Ok(())
    }

    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), ()> {
        let at = block as usize * BLOCK_BYTES;
        self.0[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

/// A freshly provisioned disk of `data_blocks` blocks whose first ones hold `plain`.
pub(crate) fn sealed(plain: Vec<u8>, data_blocks: u64, suite: Suite) -> Vec<u8> {
    audit::clear();
    let blocks = Geometry::for_data(data_blocks).unwrap().disk_blocks();
    let mut disk = Image(vec![0xee; blocks as usize * BLOCK_BYTES]);
    let options = provision::Options { suite, volume: 3, data_blocks, salt: [5; 32] };
    provision(&mut disk, &mut Image(plain), &root(), &options, |_, _| ()).unwrap();
    disk.0
}

/// Mounts with a small cache and small reservations.
pub(crate) fn mounted(disk: RamDisk, cache_slots: usize) -> Result<Volume<RamDisk>, Error> {
    mount(disk, &root(), Options { cache_slots, reservation: 128 }, || true)
}

pub(crate) struct World {
    pub(crate) ram: Ram,
    pub(crate) driver: Driver,
    pub(crate) service: Service<RamDisk>,
    areas: Vec<u64>,
    posted: BTreeMap<u16, u64>,
    pub(crate) interrupts: usize,
    pub(crate) quiesced: Option<bool>,
}

impl World {
    pub(crate) fn new(image: Vec<u8>, buffers: usize, cache_slots: usize, seed: u64) -> World {
        let volume = mounted(RamDisk::new(image, buffers, seed), cache_slots).unwrap();
        let mut world = World {
            ram: Ram::new(((AREAS + 1) * AREA) as usize),
            driver: Driver::new(Ram::BASE, QUEUE, true),
            service: Service::new(volume),
            areas: (1..=AREAS).map(|area| Ram::BASE + area * AREA).collect(),
            posted: BTreeMap::new(),
            interrupts: 0,
            quiesced: None,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let features = Service::<RamDisk>::features() & (QueueFeatures::INDIRECT | QueueFeatures::EVENT_IDX);
        let outcome = self.service.start(&self.ram, self.driver.config, features);
        self.handle(outcome);
    }

    /// The driver resets the device and starts anew; what was posted is forgotten.
    pub(crate) fn reset(&mut self) {
        self.service.reset();
        self.areas.extend(core::mem::take(&mut self.posted).into_values());
        self.ram.put(Ram::BASE, &vec![0; Driver::ring_bytes(QUEUE) as usize]);
        self.driver = Driver::new(Ram::BASE, QUEUE, true);
        self.start();
    }

    pub(crate) fn disk(&mut self) -> &mut RamDisk {
        self.service.volume_mut().disk_mut()
    }

    /// Posts a read or write whose data is cut into segments of `piece` bytes; returns its head, `None` without room.
    pub(crate) fn post_data(&mut self, kind: u32, block: u64, blocks: u32, piece: u32, data: &[u8]) -> Option<u16> {
        let len = blocks * BLOCK_BYTES as u32;
        self.post(kind, block * 8, len, piece.max(len.div_ceil(126)), data)
    }

    /// Posts a discard or write-zeroes.
    pub(crate) fn post_zero(&mut self, kind: u32, block: u64, blocks: u32) -> Option<u16> {
        let mut range = [0; 16];
        range[..8].copy_from_slice(&(block * 8).to_le_bytes());
        range[8..12].copy_from_slice(&(blocks * 8).to_le_bytes());
        self.post(kind, 0, 16, 16, &range)
    }

    pub(crate) fn post_flush(&mut self) -> Option<u16> {
        self.post(TYPE_FLUSH, 0, 0, 1, &[])
    }

    fn post(&mut self, kind: u32, sector: u64, len: u32, piece: u32, data: &[u8]) -> Option<u16> {
        let area = self.areas.pop()?;
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.ram.put(area, &header);
        self.ram.put(area + 16, &[0xff]);
        let start = area + 4096;
        self.ram.put(start, data);
        let mut buffers = vec![(area, 16, false)];
        let pieces = (0..len).step_by(piece as usize);
        buffers.extend(pieces.map(|at| (start + u64::from(at), piece.min(len - at), kind == TYPE_IN)));
        buffers.push((area + 16, 1, true));
        let head = if piece.is_multiple_of(3) && buffers.len() < 8 {
            self.driver.post(&self.ram, &buffers)
        } else {
            self.driver.post_indirect(&self.ram, area + 64, &buffers)
        };
        match head {
            Some(head) => assert!(self.posted.insert(head, area).is_none()),
            None => self.areas.push(area),
        }
        head
    }

    /// Rings if the device asked for it.
    pub(crate) fn kick(&mut self) {
        if self.driver.kick(&self.ram) {
            let outcome = self.service.on_doorbell(&self.ram);
            self.handle(outcome);
        }
    }

    /// The disk completes up to `credit` requests and raises its interrupt.
    pub(crate) fn step(&mut self, credit: usize) {
        self.disk().credit = credit;
        let outcome = self.service.on_disk_interrupt(&self.ram);
        self.handle(outcome);
    }

    pub(crate) fn handle(&mut self, mut outcome: Outcome) {
        for _ in 0..1000 {
            assert!(!outcome.needs_reset, "the driver is sound");
            self.interrupts += usize::from(outcome.interrupt);
            self.quiesced = outcome.quiesced.or(self.quiesced);
            if !outcome.again {
                return;
            }
            outcome = self.service.resume(&self.ram);
        }
        panic!("the service never comes to rest");
    }

    /// The next answer: head, status, data of a read.
    pub(crate) fn answer(&mut self) -> Option<(u16, u8, Vec<u8>)> {
        let (head, written) = self.driver.take_used(&self.ram)?;
        let area = self.posted.remove(&head).expect("only what was posted is answered");
        self.areas.push(area);
        let data = self.ram.get(area + 4096, written.saturating_sub(1) as usize);
        Some((head, self.ram.get(area + 16, 1)[0], data))
    }

    /// Serves until nothing is under way.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.kick();
            self.step(usize::MAX);
            if self.service.volume().is_idle() {
                return;
            }
        }
        panic!("requests hang: {} in flight on the disk", self.disk().in_flight());
    }

    /// Posts, settles, and returns status and data. Nothing else may be under way.
    pub(crate) fn run(&mut self, post: impl FnOnce(&mut World) -> Option<u16>) -> (u8, Vec<u8>) {
        let head = post(self).unwrap();
        self.settle();
        let (answered, status, data) = self.answer().expect("a settled request is answered");
        assert_eq!(answered, head);
        (status, data)
    }

    pub(crate) fn read(&mut self, block: u64, blocks: u32) -> (u8, Vec<u8>) {
        self.run(|world| world.post_data(TYPE_IN, block, blocks, 8192, &[]))
    }

    pub(crate) fn write(&mut self, block: u64, data: &[u8]) -> u8 {
        let blocks = (data.len() / BLOCK_BYTES) as u32;
        self.run(|world| world.post_data(TYPE_OUT, block, blocks, 12_288, data)).0
    }

    pub(crate) fn flush(&mut self) -> u8 {
        self.run(World::post_flush).0
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.service.next_event()).collect()
    }

    /// Ends serving in order; returns the disk's image.
    pub(crate) fn shut_down(mut self) -> Vec<u8> {
        let outcome = self.service.quiesce(&self.ram);
        self.handle(outcome);
        for _ in 0..1000 {
            if self.quiesced.is_some() {
                break;
            }
            self.step(usize::MAX);
        }
        assert_eq!(self.quiesced, Some(true));
        self.disk().cut(|_| false)
    }
}

/// A block full of `value`.
pub(crate) fn filled(value: u32) -> Vec<u8> {
    value.to_le_bytes().repeat(BLOCK_BYTES / 4)
}

/// The value that a block is full of; panics on a mixed block.
pub(crate) fn value(block: &[u8]) -> u32 {
    let (first, _) = block.split_first_chunk::<4>().unwrap();
    assert!(block.chunks_exact(4).all(|word| word == first), "a block mixes two writes");
    u32::from_le_bytes(*first)
}
