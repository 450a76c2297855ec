//! A simulated disk behind the engine's own trait: it completes in an order that a seed decides, loses power and fails.

use std::{
    cell::{Ref, RefCell, RefMut},
    collections::BTreeSet,
    rc::Rc,
};

use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Error, Refused, pool::Pool};

use crate::{
    content,
    fault::{Fault, Faults},
    media::{self, Cell, Media},
    power::Power,
    rng::Rng,
};

/// Requests in flight.
const DEPTH: usize = 64;
/// Blocks of memory for requests.
const BUFFERS: usize = 256;

std::thread_local! {
    /// Memory of disks that are gone, for those to come: worlds come and go by the million.
    static MEMORY: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A disk as the world holds it; it outlives every mount.
#[derive(Clone, Debug)]
pub struct Disk(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    member: usize,
    media: Media,
    /// Whether a power cut can tear a block between its sectors.
    torn: bool,
    power: Power,
    rng: Rng,
    order: Order,
    requests: Vec<Request>,
    /// Requests that may complete before the disk falls silent.
    credit: usize,
    faults: Faults,
    /// Blocks that can be neither read nor written.
    spoiled: BTreeSet<u64>,
    leaked: bool,
    lost: Option<Lost>,
}

/// How a disk is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It answers everything with an error.
    Fails,
    /// It takes nothing any more.
    Dies,
    /// It takes requests, and answers none.
    Silent,
}

/// [`Choose`], for a block of a member.
///
/// [`Choose`]: crate::media::Choose
pub type ChooseOn<'a> = dyn FnMut((usize, u64), Option<usize>, usize) -> usize + 'a;

/// In which order requests complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they came.
    First,
    /// The newest first.
    Last,
    /// Any.
    Random,
}

#[derive(Clone, Debug)]
enum Kind {
    Read(u64),
    Write(u64, Vec<Cell>),
    Flush(u64),
}

#[derive(Debug)]
struct Request {
    tag: u32,
    kind: Kind,
    buffer: Option<Buffer>,
}

impl Disk {
    /// Member `member` of a pool, which holds `media`.
    pub fn new(member: usize, media: Media, torn: bool, power: &Power, mut rng: Rng, order: Order) -> Disk {
        let faults = Faults::none(rng.fork(1));
        Disk(Rc::new(RefCell::new(State {
            member,
            media,
            torn,
            power: power.clone(),
            rng,
            order,
            requests: Vec::new(),
            credit: usize::MAX,
            faults,
            spoiled: BTreeSet::new(),
            leaked: false,
            lost: None,
        })))
    }

    /// The disk as a driver sees it. One at a time; the one before must be gone.
    pub fn attach(&self) -> SimDisk {
        let mut state = self.0.borrow_mut();
        state.requests.clear();
        drop(state);
        let memory =
            MEMORY.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFERS * BLOCK_BYTES].into_boxed_slice());
        SimDisk { disk: self.clone(), pool: Pool::new(BUFFERS), memory }
    }

    /// A disk of its own that remembers the same and has the same writes under way.
    pub fn copy(&self, power: &Power) -> Disk {
        let state = self.0.borrow();
        let copied = |request: &Request| Request { tag: request.tag, kind: request.kind.clone(), buffer: None };
        Disk(Rc::new(RefCell::new(State {
            member: state.member,
            media: state.media.clone(),
            torn: state.torn,
            power: power.clone(),
            rng: state.rng.clone(),
            order: state.order,
            requests: state.requests.iter().map(copied).collect(),
            credit: usize::MAX,
            faults: Faults::none(state.rng.clone()),
            spoiled: state.spoiled.clone(),
            leaked: false,
            lost: state.lost,
        })))
    }

    /// Which member it is.
    pub fn member(&self) -> usize {
        self.0.borrow().member
    }

    /// What it remembers.
    pub fn media(&self) -> Ref<'_, Media> {
        Ref::map(self.0.borrow(), |state| &state.media)
    }

    /// What it remembers, for an adversary.
    pub fn media_mut(&self) -> RefMut<'_, Media> {
        RefMut::map(self.0.borrow_mut(), |state| &mut state.media)
    }

    /// It is lost: it fails at everything, or (`dies`) takes nothing any more, and is not there at a mount.
    pub fn lose(&self, dies: bool) {
        self.0.borrow_mut().lost = Some(if dies { Lost::Dies } else { Lost::Fails });
    }

    /// It is lost: it takes requests and answers none, and is not there at a mount.
    pub fn fall_silent(&self) {
        self.0.borrow_mut().lost = Some(Lost::Silent);
    }

    /// Whether it takes requests and answers none.
    pub fn is_silent(&self) -> bool {
        self.0.borrow().lost == Some(Lost::Silent)
    }

    /// From now on this block can be neither read nor written.
    pub fn spoil(&self, block: u64) {
        self.0.borrow_mut().spoiled.insert(block);
    }

    /// What was spoiled can be read and written again.
    pub fn unspoil(&self) {
        self.0.borrow_mut().spoiled.clear();
    }

    /// It is there again, with what it held.
    pub fn come_back(&self) {
        self.0.borrow_mut().lost = None;
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        self.0.borrow().lost.is_some()
    }

    /// Its driver is gone, and the power is on: what was under way has happened or not, or the sectors of a block in part.
    pub fn reset(&self, rng: &mut Rng) {
        let under_way = self.under_way();
        let mut state = self.0.borrow_mut();
        state.requests.clear();
        for (block, cell) in under_way {
            let torn = state.torn && rng.chance(200);
            if torn {
                let half = media::mixed(&state.media.visible()[block as usize], &cell, rng.next() as u8);
                state.media.write(block, half);
            } else if rng.chance(500) {
                state.media.write(block, cell);
            }
        }
    }

    /// What fails.
    pub fn faults(&self) -> RefMut<'_, Faults> {
        RefMut::map(self.0.borrow_mut(), |state| &mut state.faults)
    }

    /// Lets `credit` more requests complete.
    pub fn give(&self, credit: usize) {
        self.0.borrow_mut().credit = credit;
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.0.borrow().requests.len()
    }

    /// Whether plaintext was ever written to it.
    pub fn saw_plaintext(&self) -> bool {
        self.0.borrow().leaked
    }

    /// Whether a power cut can tear its blocks.
    pub fn is_torn(&self) -> bool {
        self.0.borrow().torn
    }

    /// The writes under way.
    pub fn under_way(&self) -> Vec<(u64, Cell)> {
        let state = self.0.borrow();
        let writes = state.requests.iter().filter_map(|request| match &request.kind {
            Kind::Write(block, cells) => Some((*block..).zip(cells.iter().cloned())),
            _ => None,
        });
        writes.flatten().collect()
    }

    /// The power went; `choose` decides what is left of the writes that no flush has covered.
    pub fn cut(&self, choose: &mut ChooseOn<'_>) {
        let under_way = self.under_way();
        let mut state = self.0.borrow_mut();
        state.requests.clear();
        let (member, torn) = (state.member, state.torn);
        let mut choose = |block, sector, candidates| choose((member, block), sector, candidates);
        state.media.cut(&under_way, torn, &mut choose);
    }
}

impl State {
    fn start(&mut self, tag: u32, kind: Kind, buffer: Option<Buffer>) -> Result<(), Refused> {
        if self.power.is_off() {
            // Nobody takes it, and nobody is there to say so.
            return Ok(());
        }
        if self.requests.len() == DEPTH {
            return Err(Refused(buffer));
        }
        self.requests.push(Request { tag, kind, buffer });
        self.power.pass();
        Ok(())
    }

    /// Takes the request that completes next.
    fn next(&mut self) -> Option<Request> {
        if self.requests.is_empty() || self.credit == 0 || self.power.is_off() || self.lost == Some(Lost::Silent) {
            return None;
        }
        self.credit -= usize::from(self.credit != usize::MAX);
        let index = match self.order {
            Order::First => 0,
            Order::Last => self.requests.len() - 1,
            Order::Random => self.rng.index(self.requests.len()),
        };
        Some(self.requests.remove(index))
    }

    fn perform(&mut self, request: &Request, memory: &mut [u8]) -> Result<(), Error> {
        match self.lost {
            Some(Lost::Fails) => return Err(Error::Io),
            Some(Lost::Dies | Lost::Silent) => return Err(Error::Broken),
            None => {}
        }
        match &request.kind {
            Kind::Read(block) => self.perform_read(*block, memory),
            Kind::Write(block, cells) => self.perform_write(*block, cells),
            Kind::Flush(mark) => self.perform_flush(*mark),
        }
    }

    fn is_spoiled(&mut self, block: u64, blocks: u64, fault: Fault) -> bool {
        let spoiled = self.spoiled.range(block..block + blocks).next().is_some();
        if spoiled {
            self.faults.strike(fault);
        }
        spoiled
    }

    fn perform_read(&mut self, block: u64, memory: &mut [u8]) -> Result<(), Error> {
        let blocks = (memory.len() / BLOCK_BYTES) as u64;
        if block + blocks > self.media.blocks()
            || self.faults.strikes(Fault::ReadError)
            || self.is_spoiled(block, blocks, Fault::ReadError)
        {
            return Err(Error::Io);
        }
        for (block, out) in (block..).zip(memory.chunks_exact_mut(BLOCK_BYTES)) {
            match &self.media.visible()[block as usize] {
                Some(content) => out.copy_from_slice(&content.bytes),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    fn perform_write(&mut self, block: u64, cells: &[Cell]) -> Result<(), Error> {
        if block + cells.len() as u64 > self.media.blocks() {
            return Err(Error::Io);
        }
        if self.is_spoiled(block, cells.len() as u64, Fault::WriteError) {
            return Err(Error::Io);
        }
        if self.faults.strikes(Fault::LostWrite) {
            return Ok(());
        }
        let failed = self.faults.strikes(Fault::WriteError);
        let misdirected = self.faults.strikes(Fault::MisdirectedWrite);
        let shift = if misdirected { self.rng.below(self.media.blocks()) } else { 0 };
        for (block, cell) in (block..).zip(cells) {
            // Of a failed write any part can have happened.
            if !failed || self.rng.chance(500) {
                self.media.write((block + shift) % self.media.blocks(), cell.clone());
            }
        }
        if failed { Err(Error::Io) } else { Ok(()) }
    }

    fn perform_flush(&mut self, mark: u64) -> Result<(), Error> {
        if self.faults.strikes(Fault::FlushError) {
            return Err(Error::Io);
        }
        if !self.faults.strikes(Fault::LyingFlush) {
            self.media.flush(mark);
        }
        Ok(())
    }
}

/// The disk as a driver sees it.
#[derive(Debug)]
pub struct SimDisk {
    disk: Disk,
    pool: Pool,
    memory: Box<[u8]>,
}

impl SimDisk {
    /// The disk as the world holds it.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        MEMORY.with_borrow_mut(|spare| spare.push(std::mem::take(&mut self.memory)));
    }
}

fn held(buffer: &Buffer) -> std::ops::Range<usize> {
    buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES
}

impl BlockDevice for SimDisk {
    fn blocks(&self) -> u64 {
        self.disk.media().blocks()
    }

    fn room(&self) -> usize {
        if self.disk.0.borrow().lost == Some(Lost::Dies) { 0 } else { DEPTH - self.disk.in_flight() }
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        &mut self.memory[held(buffer)]
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        let start = buffer.first() * BLOCK_BYTES;
        Some(&mut self.memory[start..start + blocks * BLOCK_BYTES])
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.disk.0.borrow_mut().start(tag, Kind::Read(block), Some(buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        let cells: Vec<Cell> = self.memory[held(&buffer)].chunks_exact(BLOCK_BYTES).map(media::cell).collect();
        let mut state = self.disk.0.borrow_mut();
        state.leaked |= cells.iter().flatten().any(|content| content::has_plaintext(&content.bytes));
        state.start(tag, Kind::Write(block, cells), Some(buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        let mut state = self.disk.0.borrow_mut();
        let mark = state.media.mark();
        state.start(tag, Kind::Flush(mark), None)
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        let mut state = self.disk.0.borrow_mut();
        let request = state.next()?;
        let memory = request.buffer.as_ref().map_or(0..0, held);
        let result = state.perform(&request, &mut self.memory[memory]);
        state.power.pass();
        Some(Completion { tag: request.tag, result, buffer: request.buffer })
    }
}
