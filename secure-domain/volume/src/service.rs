//! The service: one virtual disk, from the driver's ring to the volume and back.
//!
//! Three functions for three moves: *accept* (pop, parse, submit), *advance* (the volume works), *answer* (status byte, used
//! entry). The event loop calls [`Service::on_doorbell`], [`Service::on_disk_interrupt`] or [`Service::resume`] and does what the
//! [`Outcome`] says. When no slot is free the queue is left alone (its entries stay in the driver's memory, which is the
//! back pressure), and is looked at again after the next answer.

use alloc::{boxed::Box, vec::Vec};

use block::BlockDevice;
use virtio::{
    Chain, GuestMemory, Queue, QueueConfig, QueueFeatures, Token,
    blk::{self, ID_BYTES, Request, Status},
};

use crate::{
    BLOCK_BYTES, Event, Operation, Transfer, Volume,
    engine::{Fault, MAX_REQUESTS},
};

/// The cookie of the flush that quiescing ends with; slots are below it.
const QUIESCE: u32 = u32::MAX;
/// Rounds of accept, advance and answer that one event may cause.
const MAX_ROUNDS: usize = 4;

/// What the event loop has to do after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the driver waits for its interrupt"]
pub struct Outcome {
    /// Raise the used-buffer notification.
    pub interrupt: bool,
    /// The ring is malformed: mark the device as needing a reset. Nothing is served until [`Service::reset`].
    pub needs_reset: bool,
    /// There is more to do at once: call [`Service::resume`] after looking at other events.
    pub again: bool,
    /// Quiescing has ended: everything answered is durable (`Some(true)`), or the disk failed to make it so (`Some(false)`).
    pub quiesced: Option<bool>,
}

/// A request of the driver while it is being served.
struct Slot {
    chain: Chain,
    /// The popped chain and its parsed request; `None`: the slot is free.
    request: Option<(Token, Request)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new requests; waiting for those under way.
    Draining,
    /// Waiting for the last flush.
    Flushing,
    Quiet,
}

/// A virtual disk with one queue.
pub struct Service<D> {
    volume: Volume<D>,
    queue: Option<Queue>,
    slots: Box<[Slot]>,
    free: Vec<u32>,
    phase: Phase,
    /// The ring was malformed; only a reset helps.
    broken: bool,
    event: Option<Event>,
}

impl<D: BlockDevice> Service<D> {
    /// Serves `volume`.
    pub fn new(volume: Volume<D>) -> Service<D> {
        let slots = (0..MAX_REQUESTS).map(|_| Slot { chain: Chain::new(), request: None }).collect();
        let free = (0..MAX_REQUESTS as u32).rev().collect();
        Service { volume, queue: None, slots, free, phase: Phase::Serving, broken: false, event: None }
    }

    /// The feature bits to offer the driver.
    pub const fn features() -> u64 {
        blk::FEATURES
    }

    /// The device's configuration space, word by word.
    pub fn config(&self) -> [u32; blk::CONFIG_WORDS] {
        blk::config(self.volume.blocks())
    }

    /// The volume.
    pub fn volume(&self) -> &Volume<D> {
        &self.volume
    }

    /// The volume, for tests.
    pub fn volume_mut(&mut self) -> &mut Volume<D> {
        &mut self.volume
    }

    /// Gives the volume back.
    pub fn into_volume(self) -> Volume<D> {
        self.volume
    }

    /// The driver has set DRIVER_OK with its queue at `config` and these features. Looks at the ring at once, because the driver
    /// may have rung before. Called again for a queue that is being served (another status bit changed), or before the reset
    /// that a malformed ring asked for, it starts nothing.
    pub fn start(&mut self, memory: &impl GuestMemory, config: QueueConfig, driver_features: u64) -> Outcome {
        if self.broken || self.queue.as_ref().is_some_and(|queue| *queue.config() == config) {
            return self.run(memory);
        }
        self.forget();
        if self.phase == Phase::Quiet {
            self.phase = Phase::Serving;
        }
        match Queue::new(config, QueueFeatures::from_bits(driver_features)) {
            Ok(queue) => {
                self.queue = Some(queue);
                self.run(memory)
            }
            Err(error) => self.fail(error),
        }
    }

    /// The driver has reset the device. On return no memory of the driver will be touched: payloads were copied when they
    /// were taken, so nothing under way reaches it. If a quiesce is under way, call [`Service::resume`] afterwards.
    pub fn reset(&mut self) {
        self.forget();
        self.broken = false;
    }

    /// Forgets the queue and every request.
    fn forget(&mut self) {
        self.queue = None;
        self.volume.cancel_all();
        for index in 0..self.slots.len() as u32 {
            if let Some((token, _)) = self.slots[index as usize].request.take() {
                token.abandon();
                self.free.push(index);
            }
        }
        if self.phase == Phase::Flushing {
            // The last flush was forgotten with all else: it is asked for again.
            self.phase = Phase::Draining;
        }
    }

    /// The driver has rung.
    pub fn on_doorbell(&mut self, memory: &impl GuestMemory) -> Outcome {
        self.run(memory)
    }

    /// The disk has raised its interrupt.
    pub fn on_disk_interrupt(&mut self, memory: &impl GuestMemory) -> Outcome {
        self.volume.acknowledge();
        self.run(memory)
    }

    /// Goes on after an [`Outcome::again`].
    pub fn resume(&mut self, memory: &impl GuestMemory) -> Outcome {
        self.run(memory)
    }

    /// Takes no more requests, ends those under way, and makes everything durable; [`Outcome::quiesced`] reports the end.
    pub fn quiesce(&mut self, memory: &impl GuestMemory) -> Outcome {
        self.phase = Phase::Draining;
        self.run(memory)
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        self.event.take().or_else(|| self.volume.next_event())
    }

    fn run(&mut self, memory: &impl GuestMemory) -> Outcome {
        self.rounds(memory).unwrap_or_else(|error| self.fail(error))
    }

    /// The driver's ring cannot be served any more.
    fn fail(&mut self, error: virtio::Error) -> Outcome {
        self.forget();
        self.broken = true;
        self.event = Some(Event::Ring(error));
        Outcome { needs_reset: true, again: self.phase == Phase::Draining, ..Outcome::default() }
    }

    fn rounds(&mut self, memory: &impl GuestMemory) -> Result<Outcome, virtio::Error> {
        let mut outcome = Outcome::default();
        for round in 1..=MAX_ROUNDS {
            let parked = self.accept(memory)?;
            let mut window = Window { memory, slots: &self.slots };
            outcome.again = self.volume.advance(&mut window);
            let answered = self.answer(memory, &mut outcome)?;
            // Another round is worth it only if answers made room for what is parked.
            let more = parked && answered || self.drain();
            if !more {
                break;
            }
            outcome.again |= round == MAX_ROUNDS;
        }
        if let Some(queue) = &mut self.queue {
            outcome.interrupt = queue.publish(memory)?;
        }
        Ok(outcome)
    }

    /// Takes what the ring holds while slots are free. Returns whether it left the ring because none was.
    fn accept(&mut self, memory: &impl GuestMemory) -> Result<bool, virtio::Error> {
        let Some(queue) = &mut self.queue else { return Ok(false) };
        if self.phase != Phase::Serving {
            return Ok(false);
        }
        queue.disable_notifications(memory)?;
        // Bounded: every turn but the last fills a slot.
        while let Some(&index) = self.free.last() {
            if !self.volume.has_room() {
                return Ok(true);
            }
            let slot = &mut self.slots[index as usize];
            let Some(token) = queue.pop(memory, &mut slot.chain)? else {
                if queue.enable_notifications(memory)? {
                    continue;
                }
                return Ok(false);
            };
            let request = blk::parse(memory, &mut slot.chain, self.volume.blocks())?;
            match operation(&request) {
                Some(operation) if self.volume.submit(index, operation).is_ok() => {
                    slot.request = Some((token, request));
                    self.free.pop();
                }
                _ => {
                    let (status, bytes) = immediate(memory, &request, &slot.chain);
                    queue.push_used(memory, token, request.answer(memory, status, bytes))?;
                }
            }
        }
        Ok(true)
    }

    /// Answers what the volume has finished. Returns whether it was anything.
    fn answer(&mut self, memory: &impl GuestMemory, outcome: &mut Outcome) -> Result<bool, virtio::Error> {
        let mut answered = false;
        while let Some(done) = self.volume.next_done() {
            answered = true;
            if done.cookie == QUIESCE {
                self.phase = Phase::Quiet;
                outcome.quiesced = Some(done.ok);
                continue;
            }
            let slot = &mut self.slots[done.cookie as usize];
            let Some((token, request)) = slot.request.take() else { continue };
            self.free.push(done.cookie);
            let status = if done.ok { Status::Ok } else { Status::IoError };
            let written = request.answer(memory, status, slot.chain.writable_bytes());
            match &mut self.queue {
                Some(queue) => queue.push_used(memory, token, written)?,
                None => token.abandon(),
            }
        }
        Ok(answered)
    }

    /// Moves quiescing on; returns whether something was started.
    fn drain(&mut self) -> bool {
        if self.phase != Phase::Draining || self.free.len() < self.slots.len() {
            return false;
        }
        let started = self.volume.submit(QUIESCE, Operation::Flush).is_ok();
        if started {
            self.phase = Phase::Flushing;
        }
        started
    }
}

/// What the volume has to do for a request, if it is the volume's business.
fn operation(request: &Request) -> Option<Operation> {
    match request.operation.ok()? {
        blk::Operation::Read { block, blocks } => Some(Operation::Read { block, blocks }),
        blk::Operation::Write { block, blocks } => Some(Operation::Write { block, blocks }),
        blk::Operation::Discard { block, blocks } => Some(Operation::Zero { block, blocks, lazily: true }),
        blk::Operation::WriteZeroes { block, blocks } => Some(Operation::Zero { block, blocks, lazily: false }),
        blk::Operation::Flush => Some(Operation::Flush),
        blk::Operation::GetId => None,
    }
}

/// The answer of a request that needs no volume: status, and bytes written before it.
fn immediate(memory: &impl GuestMemory, request: &Request, chain: &Chain) -> (Status, u32) {
    const ID: [u8; ID_BYTES] = *b"haechi\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    match request.operation {
        Err(status) => (status, chain.writable_bytes()),
        Ok(blk::Operation::GetId) if chain.scatter(memory, 0, &ID).is_ok() => (Status::Ok, ID_BYTES as u32),
        Ok(_) => (Status::IoError, chain.writable_bytes()),
    }
}

/// The payloads of the requests under way.
struct Window<'a, M> {
    memory: &'a M,
    slots: &'a [Slot],
}

impl<M: GuestMemory> Transfer for Window<'_, M> {
    fn gather(&mut self, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        self.slots[cookie as usize].chain.gather(self.memory, offset, out).map_err(|_| Fault)
    }

    fn scatter(&mut self, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        self.slots[cookie as usize].chain.scatter(self.memory, offset, data).map_err(|_| Fault)
    }
}

const _: () = assert!(BLOCK_BYTES == blk::BLOCK_BYTES as usize);
