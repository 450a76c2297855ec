//! The driver of an NVMe controller and one namespace of it (NVM Express Base Specification 1.4: "the specification" in this folder).
//!
//! One queue pair takes everything. Its interrupt is the wired one, which needs no acknowledgement: the line falls when the driver has shown the
//! controller the head of the completion queue (section 7.5.1.1), and the event loop ends the interrupt only after that.
//!
//! *Where data is.* A request has one contiguous buffer, so its physical region pages (section 4.3) follow each other. A table that is written
//! once, at start-up, holds the address of every page that can be in a buffer, in order; what a request of three pages or more calls its list is a
//! piece of it. A list must not leave a page of 4 KiB, of which 512 entries of 8 bytes are one, and no buffer goes over a multiple of
//! [`pool::GROUP`] = 64 blocks: so none does.
//!
//! *What is durable.* Without a flush nothing is, where the controller has a volatile write cache; so each [`BlockDevice::flush`] is a Flush
//! command, which covers what was complete before it was put in (section 6.8). No write asks to go round the cache (`FUA`), since nobody above asks
//! for that, and no feature is set: a cache that somebody has turned off stays off, and a flush is then answered at once. The controller is not told
//! of a power-off to come (`CC.SHN`): what must survive it has been flushed.
//!
//! *Order.* Entries and buffers are stored, then a full barrier, then the doorbell. Of a completion the phase tag is loaded first, acquire order,
//! then the rest; what was read is loaded before a barrier and the doorbell that allows the controller to write the entry anew.
//!
//! The controller is not trusted with our memory safety: an answer to what was not asked, one for the second time, or one that cannot be this
//! queue's make the disk [`Error::Broken`]. So does one that has failed: asked when something new is told to it though nothing has come back since
//! the last time. Identifiers carry a number that changes, so that an old answer is not taken for a new one. Nothing waits for an answer in service;
//! one that never comes is waited for as by any disk.

mod bring_up;
mod command;
mod controller;
pub mod function;
mod identity;
mod queue;
mod refusal;

#[cfg(test)]
mod tests;

use core::ops::Range;

use self::bring_up::{Up, bring_up};
use self::command::{Command, ENTRY_BYTES, opcode};
use self::controller::Controller;
use self::queue::{Pair, Posted};
use crate::pool::{self, Pool};
use crate::slots::{InFlight, Slots};
use crate::{BLOCK_BYTES, BlockDevice, Buffer, Clock, Completion, Dma, Error, Refused, Registers};

pub use self::refusal::Refusal;
pub use crate::slots::DEPTH;

/// Where things lie in the DMA region, in bytes; queues and the identity begin with a page.
mod layout {
    use super::{BLOCK_BYTES, ENTRY_BYTES, pool};

    /// Most entries of the I/O queues: more than requests in flight.
    pub(super) const ENTRIES: u16 = 128;

    pub(super) const ADMIN_SUBMISSIONS: usize = 0;
    pub(super) const ADMIN_COMPLETIONS: usize = BLOCK_BYTES;
    pub(super) const IDENTITY: usize = 2 * BLOCK_BYTES;
    pub(super) const COMPLETIONS: usize = 3 * BLOCK_BYTES;
    pub(super) const SUBMISSIONS: usize = 4 * BLOCK_BYTES;
    /// The address of each page of the buffers, 8 bytes each.
    pub(super) const TABLE: usize = SUBMISSIONS + ENTRY_BYTES * ENTRIES as usize;
    pub(super) const BUFFERS: usize = TABLE + 8 * pool::MAX_BLOCKS;
}
const _: () = assert!(layout::ENTRIES as usize > DEPTH && 16 * layout::ENTRIES as usize <= BLOCK_BYTES);
const _: () = assert!(layout::TABLE.is_multiple_of(BLOCK_BYTES) && layout::BUFFERS.is_multiple_of(BLOCK_BYTES));
const _: () = assert!((BLOCK_BYTES / 8).is_multiple_of(pool::GROUP));

/// Bits of an identifier that are the slot; those above count requests. Bit 15 stays clear: all ones is no command's (section 4.2).
const SLOT_BITS: u32 = DEPTH.trailing_zeros();
const IDENTIFIERS: u16 = 0x7fff;

/// The driver of one controller, with its first active namespace as the disk.
#[derive(Debug)]
pub struct Nvme<R, M> {
    controller: Controller<R>,
    dma: M,
    pair: Pair,
    pool: Pool,
    /// The namespace.
    namespace: u32,
    blocks: u64,
    /// Logical blocks in one of 4 KiB.
    per_block: u32,
    max_blocks: usize,
    has_cache: bool,
    atomic_bytes: u32,
    /// Each request with its identifier, as the controller has it.
    slots: Slots<u16>,
    /// Counts requests.
    sequence: u16,
    /// The tail that the controller was shown.
    kicked: u16,
    /// Nothing has come back since then.
    unanswered: bool,
    broken: bool,
}

impl<R: Registers, M: Dma> Nvme<R, M> {
    /// Bytes of the DMA region that queues and the table of pages take; the rest becomes buffers.
    pub const OVERHEAD_BYTES: usize = layout::BUFFERS;

    /// Stops the controller whose registers lie at `place` of `registers` ([`function::find`]), and starts it anew. Until it has stopped, nothing in
    /// `dma` is touched: a driver before this one may have left it at work there.
    ///
    /// # Errors
    /// What is no controller that can be driven, or has no such namespace; a DMA region that will not do.
    pub fn new(registers: R, place: Range<usize>, mut dma: M, clock: &mut impl Clock) -> Result<Self, Error> {
        if dma.len() < layout::BUFFERS + BLOCK_BYTES || !dma.address().is_multiple_of(BLOCK_BYTES as u64) {
            return Err(Error::DmaRegion(dma.len()));
        }
        let mut controller = Controller::new(registers, place).map_err(Error::Nvme)?;
        let Up { pair, number, namespace, controller: identity } = bring_up(&mut controller, &mut dma, clock)?;
        let mut disk = Nvme {
            pool: Pool::new((dma.len() - layout::BUFFERS) / BLOCK_BYTES),
            controller,
            dma,
            namespace: number,
            blocks: namespace.blocks,
            per_block: namespace.per_block,
            max_blocks: identity.max_blocks,
            has_cache: identity.has_cache,
            atomic_bytes: namespace.atomic_bytes,
            slots: Slots::new(usize::from(pair.entries) - 1),
            pair,
            sequence: 0,
            kicked: 0,
            unanswered: false,
            broken: false,
        };
        disk.write_table();
        disk.controller.unmask_interrupts();
        Ok(disk)
    }

    /// Whether the controller caches writes until a flush.
    pub fn has_cache(&self) -> bool {
        self.has_cache
    }

    /// Bytes that a write changes as a whole or not at all when power fails: 512 to 4096.
    pub fn atomic_bytes(&self) -> u32 {
        self.atomic_bytes
    }

    /// Whether the controller has failed or broken the protocol.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Registers and memory, for tests that play the device.
    #[cfg(any(test, feature = "ram"))]
    pub fn machine(&mut self) -> (&mut R, &mut M) {
        (self.controller.registers(), &mut self.dma)
    }

    fn write_table(&mut self) {
        let pages = (self.dma.len() - layout::BUFFERS) / BLOCK_BYTES;
        for page in 0..pages.min(pool::MAX_BLOCKS) {
            let address = self.page(page);
            self.dma.store64(layout::TABLE + 8 * page, address);
        }
    }

    /// The address of a page of the buffers.
    fn page(&self, page: usize) -> u64 {
        self.dma.address() + (layout::BUFFERS + page * BLOCK_BYTES) as u64
    }

    /// Where a buffer is, as physical region page entries: its first page; and none, its second one, or the list of all further ones.
    fn places(&self, buffer: &Buffer) -> [u64; 2] {
        let second = buffer.first() + 1;
        let more = match buffer.blocks() {
            0 | 1 => 0,
            2 => self.page(second),
            _ => self.dma.address() + (layout::TABLE + 8 * second) as u64,
        };
        [self.page(buffer.first()), more]
    }

    /// The command that reads or writes the whole buffer. What is behind the last block that can be named stays behind it, for the controller to
    /// refuse.
    fn transfer(&self, opcode: u8, block: u64, buffer: &Buffer) -> Command {
        let first = block.saturating_mul(self.per_block.into());
        let count = buffer.blocks() as u32 * self.per_block;
        Command::transfer(opcode, self.namespace, first, count, self.places(buffer))
    }

    /// Puts a command into a free slot and the submission queue.
    fn start(&mut self, tag: u32, command: &Command, buffer: Option<Buffer>) -> Result<(), Refused> {
        let Some(slot) = self.slots.next().filter(|_| !self.broken) else { return Err(Refused(buffer)) };
        self.sequence = self.sequence.wrapping_add(1);
        let identifier = (self.sequence << SLOT_BITS | slot as u16) & IDENTIFIERS;
        self.pair.put(&mut self.dma, command, identifier);
        self.slots.put(InFlight { tag, buffer, note: identifier });
        Ok(())
    }

    /// The request that `posted` answers; none if it answers nothing that was asked.
    fn finish(&mut self, posted: Posted) -> Option<Completion> {
        let slot = usize::from(posted.identifier) % DEPTH;
        self.slots.get(slot).filter(|request| request.note == posted.identifier)?;
        self.unanswered = false;
        let result = if posted.status == 0 { Ok(()) } else { Err(Error::Io) };
        Some(self.slots.take(slot)?.complete(result))
    }

    /// Uses the disk no more, and lets it raise no interrupt: nobody would end it.
    fn break_off(&mut self) {
        self.broken = true;
        self.controller.mask_interrupts();
    }

    /// Tells the controller what was taken of its completions, if it does not know.
    fn show_head(&mut self) {
        if let Some(head) = self.pair.head_to_show() {
            self.dma.fence();
            self.controller.ring_head(self.pair.number, head);
        }
    }
}

impl<R: Registers, M: Dma> BlockDevice for Nvme<R, M> {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn room(&self) -> usize {
        if self.broken { 0 } else { self.slots.room() }
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks.min(self.max_blocks))
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
        let command = self.transfer(opcode::READ, block, &buffer);
        self.start(tag, &command, Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let command = self.transfer(opcode::WRITE, block, &buffer);
        self.start(tag, &command, Some(buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.start(tag, &Command::flush(self.namespace), None)
    }

    fn kick(&mut self) {
        if self.kicked == self.pair.tail() || self.broken {
            return;
        }
        if self.unanswered && self.controller.is_dead() {
            return self.break_off();
        }
        self.kicked = self.pair.tail();
        self.unanswered = true;
        self.dma.fence();
        self.controller.ring_tail(self.pair.number, self.kicked);
    }

    /// There is nothing to write: [`BlockDevice::poll`] ends the interrupt when it has found everything.
    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        if self.broken {
            return self.slots.next_orphan();
        }
        let Some(posted) = self.pair.take(&self.dma) else {
            self.show_head();
            return None;
        };
        let finished = posted.ok().and_then(|posted| self.finish(posted));
        finished.or_else(|| {
            self.break_off();
            self.slots.next_orphan()
        })
    }
}
