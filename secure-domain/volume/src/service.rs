//! The service: virtual disks over one pool, from the drivers' rings to the volumes and back.
//!
//! Three functions for three moves: *accept* (pop, parse, submit), *advance* (the pool works), *answer* (status byte, used entry).
//! The event loop calls a [`Server`] when something happened and does what the [`Outcome`] says. When a device has no slot free, or
//! the pool no room, the queue is left alone (its entries stay in the driver's memory, which is the back pressure), and is
//! looked at again after the next answer.
//!
//! Where a driver makes many small requests, its doorbell is put off until there are several (`company.rs`): they are sealed, logged and
//! answered together. None waits long: the rings are looked at whenever a disk has answered, and who sees
//! [`Server::puts_off`] calls [`Server::hurry`] when the driver's processor has nothing to do, or after [`COMPANY_US`].

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;
use virtio::{
    Chain, GuestMemory, Ledger, Queue, QueueConfig, QueueFeatures, Token,
    blk::{self, ID_BYTES, Request, Status},
};

use crate::{BLOCK_BYTES, Done, Event, Fault, Operation, Pool, Transfer, company::Company, operation};

/// Virtual disks of a server at most: they are bits of a word.
pub const MAX_DEVICES: usize = 32;
/// Requests of one device under way.
const SLOTS: usize = 128;
/// The cookie of the request that quiescing ends with; slots are below it.
const QUIESCE: u32 = u32::MAX;
/// How long a request may wait in its ring for others to be served with, in microseconds.
pub const COMPANY_US: u64 = 250;
/// Rounds of accept, advance and answer that one event may cause.
const MAX_ROUNDS: usize = 4;

/// What the event loop has to do after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the drivers wait for their interrupts"]
pub struct Outcome {
    /// Devices whose used-buffer notification is to be raised, one bit each.
    pub interrupts: u32,
    /// Devices whose ring is malformed, one bit each: mark them as needing a reset. They serve nothing until [`Server::reset`].
    pub needs_reset: u32,
    /// There is more to do at once: call [`Server::resume`] after looking at other events.
    pub again: bool,
    /// Quiescing has ended: everything answered is durable and anchored (`Some(true)`), or could not be made so (`Some(false)`).
    pub quiesced: Option<bool>,
}

/// How a driver has set its device up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Where its queue is.
    pub queue: QueueConfig,
    /// The feature bits that it has accepted.
    pub features: u64,
    /// Resets of the device before.
    pub generation: u32,
}

/// A request of a driver while it is being served.
struct Slot {
    chain: Chain,
    /// The popped chain and its parsed request; `None`: the slot is free.
    request: Option<(Token, Request)>,
}

/// A virtual disk with one queue.
struct Device {
    volume: u32,
    blocks: u64,
    id: [u8; ID_BYTES],
    queue: Option<Queue>,
    /// What is to be remembered of the queue if this program dies.
    ledger: &'static Ledger,
    slots: Box<[Slot]>,
    free: Vec<u32>,
    company: Company,
    /// The ring was malformed; only a reset helps.
    broken: bool,
    /// What is to be told to the log.
    event: Option<virtio::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new requests; waiting for those under way.
    Draining,
    /// Waiting for the pool to be durable.
    Syncing,
    Quiet,
}

/// Virtual disks, each a volume of one pool.
pub struct Server<D, A> {
    pool: Pool<D, A>,
    devices: Vec<Device>,
    phase: Phase,
    /// Answers to commands.
    commands: VecDeque<Done>,
    /// No request is to wait for company.
    hurry: bool,
}

impl Device {
    fn new(volume: u32, blocks: u64, name: &str, ledger: &'static Ledger) -> Device {
        let mut id = [0; ID_BYTES];
        let len = name.len().min(ID_BYTES);
        id[..len].copy_from_slice(&name.as_bytes()[..len]);
        let slots = (0..SLOTS).map(|_| Slot { chain: Chain::new(), request: None }).collect();
        let free = (0..SLOTS as u32).rev().collect();
        Device {
            volume,
            blocks,
            id,
            queue: None,
            ledger,
            slots,
            free,
            company: Company::default(),
            broken: false,
            event: None,
        }
    }

    /// Takes the driver's queue up: where another life of this program has left it, or from its beginning.
    fn set_up(&mut self, memory: &impl GuestMemory, setup: &Setup) -> Result<(), virtio::Error> {
        let features = QueueFeatures::from_bits(setup.features);
        let queue = if self.ledger.continues(setup.generation) {
            Queue::resume(setup.queue, features, self.ledger, memory)
        } else {
            self.ledger.begin(setup.generation);
            Queue::new(setup.queue, features, self.ledger)
        };
        self.queue = Some(queue?);
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Whether a request may lie in the ring without a doorbell.
    fn puts_off(&self) -> bool {
        self.queue.as_ref().is_some_and(Queue::puts_off)
    }

    /// Takes what the ring holds while there is room. Returns whether it left the ring because there was none.
    fn accept<D: BlockDevice, A: MonotonicStore>(
        &mut self,
        pool: &mut Pool<D, A>,
        memory: &impl GuestMemory,
        hurry: bool,
    ) -> Result<bool, virtio::Error> {
        let Some(queue) = &mut self.queue else { return Ok(false) };
        queue.disable_notifications(memory)?;
        // Bounded: every turn but the last fills a slot or answers at once, and the ring has no more than it has.
        while let Some(&index) = self.free.last() {
            if !pool.has_room() {
                return Ok(true);
            }
            let slot = &mut self.slots[index as usize];
            let Some(token) = queue.pop(memory, &mut slot.chain)? else {
                let under_way = self.slots.len() - self.free.len();
                let put_off = self.company.put_off(under_way, hurry);
                if queue.enable_notifications(memory, put_off)? {
                    continue;
                }
                return Ok(false);
            };
            let request = blk::parse(memory, &mut slot.chain, self.blocks)?;
            match operation_of(&request) {
                Some(operation) if pool.submit(self.volume, index, operation).is_ok() => {
                    self.company.took(payload(&operation));
                    slot.request = Some((token, request));
                    self.free.pop();
                }
                _ => {
                    let (status, bytes) = immediate(memory, &request, &slot.chain, &self.id);
                    queue.push_used(memory, token, request.answer(memory, status, bytes))?;
                }
            }
        }
        Ok(true)
    }

    /// Answers one request.
    fn answer(&mut self, memory: &impl GuestMemory, done: &Done) -> Result<(), virtio::Error> {
        let Some(slot) = self.slots.get_mut(done.cookie as usize) else { return Ok(()) };
        let Some((token, request)) = slot.request.take() else { return Ok(()) };
        self.free.push(done.cookie);
        let status = if done.status == operation::Status::Ok { Status::Ok } else { Status::IoError };
        let written = request.answer(memory, status, slot.chain.writable_bytes());
        match &mut self.queue {
            Some(queue) => queue.push_used(memory, token, written),
            None => {
                token.abandon();
                Ok(())
            }
        }
    }

    /// Forgets the queue and every request.
    fn forget(&mut self) {
        self.queue = None;
        for (index, slot) in (0..).zip(&mut self.slots) {
            if let Some((token, _)) = slot.request.take() {
                token.abandon();
                self.free.push(index);
            }
        }
    }
}

impl<D: BlockDevice, A: MonotonicStore> Server<D, A> {
    /// Serves volumes of `pool`; none is offered yet.
    pub fn new(pool: Pool<D, A>) -> Server<D, A> {
        Server { pool, devices: Vec::new(), phase: Phase::Serving, commands: VecDeque::new(), hurry: false }
    }

    /// Offers a volume as the next virtual disk, and returns its number: 0, 1, ... `None`: there is no such volume, or there are
    /// [`MAX_DEVICES`]. `ledger` is that device's in every life of this program.
    pub fn offer(&mut self, volume: u32, ledger: &'static Ledger) -> Option<usize> {
        if self.devices.len() == MAX_DEVICES {
            return None;
        }
        let info = self.pool.volumes().find(|info| info.number == volume)?;
        self.devices.push(Device::new(volume, info.blocks, &info.name, ledger));
        Some(self.devices.len() - 1)
    }

    /// Virtual disks that are offered.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// The feature bits to offer a driver.
    pub const fn features() -> u64 {
        blk::FEATURES
    }

    /// The configuration space of a device, word by word.
    pub fn config(&self, device: usize) -> [u32; blk::CONFIG_WORDS] {
        blk::config(self.devices[device].blocks)
    }

    /// Whether a driver serves itself of the virtual disk of `volume`.
    pub fn has_driver(&self, volume: u32) -> bool {
        self.devices.iter().any(|device| device.volume == volume && device.queue.is_some())
    }

    /// Virtual disks whose volume has grown, one bit each, once: set their [`config`](Self::config) and notify their drivers.
    pub fn take_grown(&mut self) -> u32 {
        let mut grown = 0;
        for (index, device) in self.devices.iter_mut().enumerate() {
            let Some(blocks) = self.pool.blocks(device.volume) else { continue };
            grown |= u32::from(blocks != device.blocks) << index;
            device.blocks = blocks;
        }
        grown
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<D, A> {
        &self.pool
    }

    /// The pool, for commands and tests.
    pub fn pool_mut(&mut self) -> &mut Pool<D, A> {
        &mut self.pool
    }

    /// Gives the pool back.
    pub fn into_pool(self) -> Pool<D, A> {
        self.pool
    }

    /// The driver of `device` has set DRIVER_OK. Looks at the ring at once, because the driver may have rung before. Called again
    /// for a queue that is being served (another status bit changed), or before the reset that a malformed ring asked for, it
    /// starts nothing. A queue that another life of this program has left is gone on with: what was under way is served again.
    pub fn start(&mut self, device: usize, now_ms: u64, memory: &impl GuestMemory, setup: &Setup) -> Outcome {
        let state = &self.devices[device];
        if state.broken || state.queue.as_ref().is_some_and(|queue| *queue.config() == setup.queue) {
            return self.resume(now_ms, memory);
        }
        self.forget(device);
        if self.phase == Phase::Quiet {
            self.phase = Phase::Serving;
        }
        match self.devices[device].set_up(memory, setup) {
            Ok(()) => self.resume(now_ms, memory),
            Err(error) => self.fail(device, error),
        }
    }

    /// The driver has reset the device. On return no memory of the driver will be touched for it: payloads were copied when they
    /// were taken, so nothing under way reaches it. If a quiesce is under way, call [`Server::resume`] afterwards.
    pub fn reset(&mut self, device: usize) {
        self.forget(device);
        self.devices[device].broken = false;
    }

    fn forget(&mut self, device: usize) {
        let volume = self.devices[device].volume;
        self.devices[device].forget();
        self.pool.cancel(volume);
        if self.phase == Phase::Syncing && device == 0 {
            // The last request may have been forgotten with all else: it is made again.
            self.phase = Phase::Draining;
        }
    }

    /// The disk that was given to the mount as number `given` has raised its interrupt.
    pub fn on_disk_interrupt(&mut self, given: usize, now_ms: u64, memory: &impl GuestMemory) -> Outcome {
        self.pool.acknowledge(given);
        self.resume(now_ms, memory)
    }

    /// Takes no more requests, ends those under way, makes everything durable and anchors it; [`Outcome::quiesced`] reports the
    /// end.
    pub fn quiesce(&mut self, now_ms: u64, memory: &impl GuestMemory) -> Outcome {
        self.phase = Phase::Draining;
        self.resume(now_ms, memory)
    }

    /// Serves again after [`Server::quiesce`], whether that has ended or not: the machine has slept and not gone off.
    pub fn wake(&mut self, now_ms: u64, memory: &impl GuestMemory) -> Outcome {
        self.phase = Phase::Serving;
        self.resume(now_ms, memory)
    }

    /// When to call [`resume`](Self::resume) if nothing else calls the server before: the time on the clock of `now_ms`, which may
    /// have passed already. `None`: the passing of time changes nothing. The event loop asks after every call, arms its timer
    /// for the answer, and disarms it for `None`; without it the anchor's window has no end while nobody asks for anything.
    pub fn wake_at(&self) -> Option<u64> {
        self.pool.next_deadline()
    }

    /// Whether a request may lie in a ring without a doorbell, to be served together with others.
    pub fn puts_off(&self) -> bool {
        self.devices.iter().any(Device::puts_off)
    }

    /// The drivers' processor has nothing to do, or [`COMPANY_US`] have passed: the next [`resume`](Self::resume) asks for a doorbell at
    /// once.
    pub fn hurry(&mut self) {
        self.hurry = true;
    }

    /// The next answer to a command that was given to [`pool_mut`](Self::pool_mut).
    pub fn next_command(&mut self) -> Option<Done> {
        self.commands.pop_front()
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        let ring = self.devices.iter_mut().enumerate().find_map(|(device, state)| Some((device, state.event.take()?)));
        ring.map(|(device, error)| Event::Ring { device, error }).or_else(|| self.pool.next_event())
    }

    /// A driver's ring cannot be served any more.
    fn fail(&mut self, device: usize, error: virtio::Error) -> Outcome {
        self.forget(device);
        let state = &mut self.devices[device];
        (state.broken, state.event) = (true, Some(error));
        Outcome { needs_reset: 1 << device, again: self.phase == Phase::Draining, ..Outcome::default() }
    }

    /// A driver has rung, the clock has gone on, or an [`Outcome::again`] asked for it: takes, serves and answers what there is.
    pub fn resume(&mut self, now_ms: u64, memory: &impl GuestMemory) -> Outcome {
        let mut outcome = Outcome::default();
        for round in 1..=MAX_ROUNDS {
            let parked = self.accept(memory, &mut outcome);
            let Server { pool, devices, .. } = self;
            outcome.again = pool.advance(now_ms, &mut Window { memory, devices });
            let answered = self.answer(memory, &mut outcome);
            // Another round is worth it only if answers made room for what is parked.
            let more = parked && answered || self.drain();
            if !more {
                break;
            }
            outcome.again |= round == MAX_ROUNDS;
        }
        for device in 0..self.devices.len() {
            let Some(queue) = &mut self.devices[device].queue else { continue };
            match queue.publish(memory) {
                Ok(interrupt) => outcome.interrupts |= u32::from(interrupt) << device,
                Err(error) => outcome.needs_reset |= self.fail(device, error).needs_reset,
            }
        }
        self.hurry = false;
        outcome
    }

    /// Takes what the rings hold. Returns whether one was left for lack of room.
    fn accept(&mut self, memory: &impl GuestMemory, outcome: &mut Outcome) -> bool {
        let mut parked = false;
        for device in 0..self.devices.len() {
            if self.phase != Phase::Serving {
                break;
            }
            match self.devices[device].accept(&mut self.pool, memory, self.hurry) {
                Ok(left) => parked |= left,
                Err(error) => outcome.needs_reset |= self.fail(device, error).needs_reset,
            }
        }
        parked
    }

    /// Answers what the pool has finished. Returns whether it was anything.
    fn answer(&mut self, memory: &impl GuestMemory, outcome: &mut Outcome) -> bool {
        let mut answered = false;
        while let Some(done) = self.pool.next_done() {
            answered = true;
            if done.cookie == QUIESCE {
                // The machine may be awake again.
                if self.phase == Phase::Syncing {
                    self.phase = Phase::Quiet;
                    outcome.quiesced = Some(done.status == operation::Status::Ok);
                }
                continue;
            }
            let Some(device) = self.devices.iter().position(|device| device.volume == done.volume) else {
                self.commands.push_back(done);
                continue;
            };
            if let Err(error) = self.devices[device].answer(memory, &done) {
                outcome.needs_reset |= self.fail(device, error).needs_reset;
            }
        }
        answered
    }

    /// Moves quiescing on; returns whether something was started.
    fn drain(&mut self) -> bool {
        if self.phase != Phase::Draining || !self.devices.iter().all(Device::is_drained) {
            return false;
        }
        let Some(first) = self.devices.first() else { return false };
        let started = self.pool.submit(first.volume, QUIESCE, Operation::Sync).is_ok();
        if started {
            self.phase = Phase::Syncing;
        }
        started
    }
}

/// Blocks of data that go with an operation.
fn payload(operation: &Operation) -> Option<u32> {
    match *operation {
        Operation::Read { blocks, .. } | Operation::Write { blocks, .. } => Some(blocks),
        _ => None,
    }
}

/// What the pool has to do for a request, if it is the pool's business.
fn operation_of(request: &Request) -> Option<Operation> {
    match request.operation.ok()? {
        blk::Operation::Read { block, blocks } => Some(Operation::Read { block, blocks }),
        blk::Operation::Write { block, blocks } => Some(Operation::Write { block, blocks }),
        blk::Operation::Discard { block, blocks } | blk::Operation::WriteZeroes { block, blocks } => {
            Some(Operation::Zero { block, blocks })
        }
        blk::Operation::Flush => Some(Operation::Flush),
        blk::Operation::GetId => None,
    }
}

/// The answer of a request that needs no pool: status, and bytes written before it.
fn immediate(memory: &impl GuestMemory, request: &Request, chain: &Chain, id: &[u8; ID_BYTES]) -> (Status, u32) {
    match request.operation {
        Err(status) => (status, chain.writable_bytes()),
        Ok(blk::Operation::GetId) if chain.scatter(memory, 0, id).is_ok() => (Status::Ok, ID_BYTES as u32),
        Ok(_) => (Status::IoError, chain.writable_bytes()),
    }
}

/// The payloads of the requests under way.
struct Window<'a, M> {
    memory: &'a M,
    devices: &'a [Device],
}

impl<M> Window<'_, M> {
    fn chain(&self, volume: u32, cookie: u32) -> Result<&Chain, Fault> {
        let device = self.devices.iter().find(|device| device.volume == volume).ok_or(Fault)?;
        device.slots.get(cookie as usize).map(|slot| &slot.chain).ok_or(Fault)
    }
}

impl<M: GuestMemory> Transfer for Window<'_, M> {
    fn gather(&mut self, volume: u32, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        self.chain(volume, cookie)?.gather(self.memory, offset, out).map_err(|_| Fault)
    }

    fn scatter(&mut self, volume: u32, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        self.chain(volume, cookie)?.scatter(self.memory, offset, data).map_err(|_| Fault)
    }
}

const _: () = assert!(BLOCK_BYTES == blk::BLOCK_BYTES as usize);
