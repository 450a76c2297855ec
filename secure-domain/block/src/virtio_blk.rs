//! The driver of a modern virtio block device (virtio 1.2, sections 3.1.1 and 5.2), on either [`Transport`].
//!
//! Every request slot has three fixed descriptors (header, data, status), linked once at start-up; a request stores its
//! header, the address and length of its data, and one ring entry. The buffer pool hands out contiguous runs, so one data
//! descriptor is always enough.
//!
//! The device is not trusted with our memory safety: an identifier that is not in flight, an index that jumps, a read that
//! claims fewer bytes than it owes make the disk [`Error::Broken`] or the request [`Error::Io`], never a panic.

mod any;
mod mmio;
mod pci;
mod transport;

#[cfg(test)]
mod tests;

use crate::slots::{InFlight, Slots};
use crate::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Dma, Error, Refused, pool::Pool};

pub use self::{any::Any, mmio::Mmio, pci::Pci, transport::Transport};
pub use crate::slots::DEPTH;

/// Device status bits (virtio 1.2, section 2.1).
mod status {
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
    pub(super) const FAILED: u32 = 128;
}

const FEATURE_BLK_SIZE: u64 = 1 << 6;
const FEATURE_FLUSH: u64 = 1 << 9;
const FEATURE_VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_ACCESS_PLATFORM`: what the device reads and writes goes through whatever confines it.
const FEATURE_ACCESS_PLATFORM: u64 = 1 << 33;
const WANTED: u64 = FEATURE_VERSION_1 | FEATURE_ACCESS_PLATFORM | FEATURE_FLUSH | FEATURE_BLK_SIZE;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const STATUS_OK: u8 = 0;
/// What a status byte holds until the device has written it.
const STATUS_UNWRITTEN: u8 = 0xff;

const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const USED_NO_NOTIFY: u16 = 1;

const PER_REQUEST: usize = 3;
/// Queue entries: a power of two that holds three descriptors a request.
const QUEUE_SIZE: usize = 256;

/// Where things lie in the DMA region, in bytes.
mod layout {
    use super::{BLOCK_BYTES, DEPTH, QUEUE_SIZE};

    pub(super) const TABLE: usize = 0;
    pub(super) const AVAILABLE: usize = TABLE + 16 * QUEUE_SIZE;
    pub(super) const USED: usize = AVAILABLE + 1024;
    pub(super) const HEADERS: usize = AVAILABLE + BLOCK_BYTES;
    pub(super) const STATUSES: usize = HEADERS + 16 * DEPTH;
    pub(super) const BUFFERS: usize = HEADERS + BLOCK_BYTES;
}
const _: () = assert!(QUEUE_SIZE >= DEPTH * PER_REQUEST);
const _: () = assert!(layout::USED + 6 + 8 * QUEUE_SIZE <= layout::HEADERS);
const _: () = assert!(layout::STATUSES + DEPTH <= layout::BUFFERS);

/// Polls of a status register that should change at once (reset).
const RESET_POLLS: usize = 1_000_000;
/// Reads of the configuration until it holds still (virtio 1.2, section 2.5.1).
const CONFIG_READS: usize = 1_000;

/// Configuration space (virtio 1.2, section 5.2.4).
mod config {
    pub(super) const CAPACITY: usize = 0;
    pub(super) const BLK_SIZE: usize = 20;
}
/// Bytes of it that the driver reads.
pub(crate) const CONFIG_BYTES: usize = config::BLK_SIZE + 4;

/// The driver of one disk.
#[derive(Debug)]
pub struct VirtioBlk<T, M> {
    transport: T,
    dma: M,
    pool: Pool,
    blocks: u64,
    has_flush: bool,
    /// Each request with the blocks that it reads.
    slots: Slots<u16>,
    next_available: u16,
    kicked: u16,
    next_used: u16,
    broken: bool,
}

impl<T: Transport, M: Dma> VirtioBlk<T, M> {
    /// Bytes of the DMA region that rings and headers take; the rest becomes buffers.
    pub const OVERHEAD_BYTES: usize = layout::BUFFERS;

    /// Brings the device up (virtio 1.2, section 3.1.1). On an error the device is left marked as failed.
    pub fn new(mut transport: T, dma: M) -> Result<Self, Error> {
        if dma.len() < layout::BUFFERS + BLOCK_BYTES || !dma.address().is_multiple_of(BLOCK_BYTES as u64) {
            return Err(Error::DmaRegion(dma.len()));
        }
        transport.identify()?;
        let features = negotiate(&mut transport).inspect_err(|_| fail(&mut transport))?;
        let blocks = capacity(&transport, features).inspect_err(|_| fail(&mut transport))?;
        let mut disk = VirtioBlk {
            pool: Pool::new((dma.len() - layout::BUFFERS) / BLOCK_BYTES),
            transport,
            dma,
            blocks,
            has_flush: features & FEATURE_FLUSH != 0,
            slots: Slots::new(DEPTH),
            next_available: 0,
            kicked: 0,
            next_used: 0,
            broken: false,
        };
        disk.link_descriptors();
        disk.start_queue().inspect_err(|_| fail(&mut disk.transport))?;
        let ready = disk.transport.status() | status::DRIVER_OK;
        disk.transport.set_status(ready);
        Ok(disk)
    }

    /// Whether the device caches writes and knows FLUSH; without it every completed write is durable.
    pub fn has_flush(&self) -> bool {
        self.has_flush
    }

    /// Whether the device has broken the protocol.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Transport and memory, for tests that play the device.
    #[cfg(any(test, feature = "ram"))]
    pub fn machine(&mut self) -> (&mut T, &mut M) {
        (&mut self.transport, &mut self.dma)
    }

    /// Links each slot's three descriptors; only the middle one changes later.
    fn link_descriptors(&mut self) {
        self.dma.bytes(0..layout::BUFFERS).fill(0);
        for slot in 0..DEPTH {
            let head = slot * PER_REQUEST;
            let header = self.dma.address() + (layout::HEADERS + 16 * slot) as u64;
            let status = self.dma.address() + (layout::STATUSES + slot) as u64;
            self.store_descriptor(head, header, 16, DESC_NEXT, head as u16 + 1);
            self.store_descriptor(head + 1, 0, 0, DESC_NEXT, head as u16 + 2);
            self.store_descriptor(head + 2, status, 1, DESC_WRITE, 0);
        }
    }

    fn store_descriptor(&mut self, index: usize, address: u64, len: u32, flags: u16, next: u16) {
        let at = layout::TABLE + 16 * index;
        self.dma.store64(at, address);
        self.dma.store64(at + 8, u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48);
    }

    fn start_queue(&mut self) -> Result<(), Error> {
        let areas = [layout::TABLE, layout::AVAILABLE, layout::USED];
        let areas = areas.map(|offset| self.dma.address() + offset as u64);
        self.dma.fence();
        self.transport.start_queue(QUEUE_SIZE as u16, areas)
    }

    /// Puts a request into a free slot and the available ring.
    fn start(&mut self, tag: u32, kind: u32, block: u64, buffer: Option<Buffer>) -> Result<(), Refused> {
        let Some(slot) = self.slots.next().filter(|_| !self.broken) else { return Err(Refused(buffer)) };
        self.store_request(slot, kind, block, buffer.as_ref());
        let reads = buffer.as_ref().filter(|_| kind == TYPE_IN).map_or(0, Buffer::blocks);
        self.slots.put(InFlight { tag, buffer, note: reads as u16 });
        let at = layout::AVAILABLE + 4 + 2 * (usize::from(self.next_available) % QUEUE_SIZE);
        self.dma.store16(at, (slot * PER_REQUEST) as u16);
        self.next_available = self.next_available.wrapping_add(1);
        Ok(())
    }

    fn store_request(&mut self, slot: usize, kind: u32, block: u64, buffer: Option<&Buffer>) {
        let header = layout::HEADERS + 16 * slot;
        self.dma.store64(header, u64::from(kind));
        self.dma.store64(header + 8, block * (BLOCK_BYTES as u64 / 512));
        self.dma.store8(layout::STATUSES + slot, STATUS_UNWRITTEN);
        let head = slot * PER_REQUEST;
        let Some(buffer) = buffer else {
            return self.store_next(head, head + 2);
        };
        self.store_next(head, head + 1);
        let address = self.dma.address() + (layout::BUFFERS + buffer.first() * BLOCK_BYTES) as u64;
        let flags = if kind == TYPE_IN { DESC_NEXT | DESC_WRITE } else { DESC_NEXT };
        self.store_descriptor(head + 1, address, (buffer.blocks() * BLOCK_BYTES) as u32, flags, head as u16 + 2);
    }

    /// Sets the successor of a header descriptor.
    fn store_next(&mut self, index: usize, next: usize) {
        self.dma.store16(layout::TABLE + 16 * index + 14, next as u16);
    }

    /// The slot that the next used entry names and the bytes it claims, or `None` if there is none (or the device lies).
    fn next_used(&mut self) -> Option<(usize, u32)> {
        let index = self.dma.load16(layout::USED + 2);
        let waiting = usize::from(index.wrapping_sub(self.next_used));
        if waiting == 0 {
            return None;
        }
        let at = layout::USED + 4 + 8 * (usize::from(self.next_used) % QUEUE_SIZE);
        let (id, len) = (self.dma.load32(at) as usize, self.dma.load32(at + 4));
        let slot = id / PER_REQUEST;
        let known = id.is_multiple_of(PER_REQUEST) && self.slots.get(slot).is_some();
        if waiting > DEPTH || !known {
            self.broken = true;
            return None;
        }
        self.next_used = self.next_used.wrapping_add(1);
        Some((slot, len))
    }

    /// The result that the device reports for `slot`, checked against what it owes.
    fn verdict(&self, slot: usize, len: u32, owed: u32) -> Result<(), Error> {
        let answered = self.dma.load8(layout::STATUSES + slot) == STATUS_OK;
        if answered && len >= owed { Ok(()) } else { Err(Error::Io) }
    }
}

impl<T: Transport, M: Dma> BlockDevice for VirtioBlk<T, M> {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn room(&self) -> usize {
        if self.broken { 0 } else { self.slots.room() }
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        self.dma.bytes(buffer.range(layout::BUFFERS, buffer.blocks()))
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        Some(self.dma.bytes(buffer.range(layout::BUFFERS, blocks)))
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.start(tag, TYPE_IN, block, Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.start(tag, TYPE_OUT, block, Some(buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.start(tag, TYPE_FLUSH, 0, None)
    }

    fn kick(&mut self) {
        if self.kicked == self.next_available || self.broken {
            return;
        }
        self.kicked = self.next_available;
        // Section 2.7.13.3: entries before the index; the index before the device's wish is read.
        self.dma.store16(layout::AVAILABLE + 2, self.next_available);
        self.dma.fence();
        if self.dma.load16(layout::USED) & USED_NO_NOTIFY == 0 {
            self.transport.notify();
        }
    }

    fn acknowledge(&mut self) {
        self.transport.acknowledge();
    }

    fn poll(&mut self) -> Option<Completion> {
        let Some((slot, len)) = self.next_used() else {
            return if self.broken { self.slots.next_orphan() } else { None };
        };
        let request = self.slots.take(slot)?;
        let result = self.verdict(slot, len, u32::from(request.note) * BLOCK_BYTES as u32);
        Some(request.complete(result))
    }
}

/// Resets the device and agrees on features (virtio 1.2, section 3.1.1, steps 1 to 6); returns the accepted ones.
fn negotiate(transport: &mut impl Transport) -> Result<u64, Error> {
    transport.set_status(0);
    if !(0..RESET_POLLS).any(|_| transport.status() == 0) {
        return Err(Error::Broken);
    }
    transport.set_status(status::ACKNOWLEDGE);
    transport.set_status(status::ACKNOWLEDGE | status::DRIVER);
    let offered = u64::from(transport.features(0)) | u64::from(transport.features(1)) << 32;
    let missing = (FEATURE_VERSION_1 | transport.needs()) & !offered;
    if missing != 0 {
        return Err(Error::Features(missing));
    }
    let accepted = offered & WANTED;
    for half in 0..2 {
        transport.accept(half, (accepted >> (32 * half)) as u32);
    }
    transport.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
    if transport.status() & status::FEATURES_OK == 0 {
        return Err(Error::FeaturesRejected);
    }
    Ok(accepted)
}

/// Capacity in blocks, read until the configuration holds still (virtio 1.2, section 2.5.1).
fn capacity(transport: &impl Transport, features: u64) -> Result<u64, Error> {
    for _ in 0..CONFIG_READS {
        let before = transport.generation();
        let low = transport.config(config::CAPACITY);
        let high = transport.config(config::CAPACITY + 4);
        let block_size = transport.config(config::BLK_SIZE);
        if transport.generation() != before {
            continue;
        }
        if features & FEATURE_BLK_SIZE != 0 && block_size as usize > BLOCK_BYTES {
            return Err(Error::BlockSize(block_size));
        }
        return Ok((u64::from(low) | u64::from(high) << 32) / (BLOCK_BYTES as u64 / 512));
    }
    Err(Error::Broken)
}

/// Gives up on the device (virtio 1.2, section 2.1: FAILED).
fn fail(transport: &mut impl Transport) {
    let now = transport.status();
    transport.set_status(now | status::FAILED);
}
