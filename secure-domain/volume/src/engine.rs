//! The engine: requests in, disk I/O out, completions back in, answers out. It never waits.
//!
//! A request is split into *runs*: up to 32 consecutive blocks that share one block of the entry table. A run that has been
//! issued is a *job*: it holds a DMA buffer, a lock on its blocks, and for a write the new entries; it holds nothing that it
//! still has to wait for, so jobs always come to an end and everything that waits for a resource can wait in one list,
//! `pending`, in order of arrival. What a request can wait for: a locked block (another request is at it), a table
//! block on its way, or a resource (a place in the disk's queue, a buffer, a cache slot, reserved versions). The first
//! two hold up that request alone; a missing resource holds up everything behind it too, so that nobody starves.
//!
//! Order on disk in this format version: a write's data goes out at once; its entry is changed in memory when the data
//! write has completed, and reaches the disk at the next flush (all dirty table blocks, then the disk's own flush) or when
//! its cache slot is needed. What that means at a power cut is in `docs/volume-format.md`.

mod flush;
mod job;
mod read;
mod reserve;
mod table;
mod write;
mod zero;

use alloc::{collections::VecDeque, vec::Vec};

use block::{BlockDevice, MAX_REQUEST_BLOCKS};
use crypto::aead::{TAG_LEN, Tag};
use keystore::VolumeKeys;

use crate::{
    Event,
    bits::Bits,
    cache::{Cache, Lookup},
    geometry::ENTRIES_PER_BLOCK,
    mount::Options,
    seal::Sealer,
    superblock::Superblock,
    versions::Versions,
};

/// Requests that a volume holds at a time.
pub const MAX_REQUESTS: usize = 128;
/// Disk requests that a volume has under way at a time.
const MAX_JOBS: usize = 64;
/// Blocks that one call of [`Volume::advance`] states as zeros before it returns to its caller.
const ZERO_BUDGET: u32 = 2048;
/// Events kept for the log; later ones are counted.
const MAX_EVENTS: usize = 32;

/// What a request asks for. Blocks are checked by the caller to lie in the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open `blocks` blocks from `block` on and scatter them.
    Read {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Gather `blocks` blocks and seal them from `block` on.
    Write {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Make `blocks` blocks from `block` on zeros.
    Zero {
        /// First block.
        block: u64,
        /// Number of blocks.
        blocks: u32,
        /// Leave blocks alone whose entry says zeros already (a discard: it only has to say so).
        lazily: bool,
    },
    /// Make durable what has been completed.
    Flush,
}

/// The other end of the data path.
pub trait Transfer {
    /// Copies `out.len()` bytes of request `cookie`'s payload, from byte `offset` on, into `out`. Called once for each byte.
    fn gather(&mut self, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault>;

    /// Copies verified plaintext to byte `offset` of request `cookie`'s payload.
    fn scatter(&mut self, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault>;
}

/// The payload lies outside the memory that the other end may lend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The cookie it was submitted with.
    pub cookie: u32,
    /// Whether all of it succeeded.
    pub ok: bool,
}

/// No more requests are taken until one is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Clone, Copy, Debug)]
struct Request {
    cookie: u32,
    operation: Operation,
    /// Blocks that were issued or given up.
    issued: u32,
    /// Jobs under way.
    jobs: u32,
    failed: bool,
    /// Nobody waits for it any more: no payload is touched and no answer given.
    cancelled: bool,
    /// It is in the pending list.
    pending: bool,
    live: bool,
}

/// Why a request stays in the pending list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It does not: all of it has been issued.
    Issued,
    /// A block or a table block; requests behind it may go on.
    Waits,
    /// A resource; requests behind it wait as well.
    Exhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    Read,
    Write,
    LoadTable,
    StoreTable,
    StoreSuperblock,
    FlushSuperblock,
    FlushRound,
}

/// A disk request under way.
#[derive(Clone, Copy, Debug)]
struct Job {
    kind: Kind,
    /// Index of the request it works for.
    request: usize,
    /// Slot of the table block.
    slot: usize,
    /// First entry in the slot.
    first: usize,
    /// Blocks.
    count: usize,
    /// First block, of the volume.
    block: u64,
    /// Blocks of the request before this run.
    offset: u32,
    /// Version of the first block of a write.
    version: u64,
    tags: [Tag; MAX_REQUEST_BLOCKS],
}

const NO_JOB: Job = Job {
    kind: Kind::Free,
    request: 0,
    slot: 0,
    first: 0,
    count: 0,
    block: 0,
    offset: 0,
    version: 0,
    tags: [[0; TAG_LEN]; MAX_REQUEST_BLOCKS],
};

/// A run of a request: blocks that share a table block.
#[derive(Clone, Copy)]
struct Run {
    request: usize,
    cookie: u32,
    slot: usize,
    first: usize,
    count: usize,
    block: u64,
    offset: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Idle,
    Storing,
    Flushing,
}

/// Flushes. Requests that arrive while a round runs wait for the next one.
#[derive(Debug)]
struct Flush {
    round: Round,
    current: Vec<usize>,
    next: Vec<usize>,
    to_store: Bits,
    to_finish: Bits,
    failed: bool,
    /// Something was written since the disk was last flushed.
    needed: bool,
}

/// What the reservation of versions is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reservation {
    Idle,
    /// The superblock with this limit is being written or flushed.
    Under(Superblock),
    /// The last attempt failed; the next write that needs versions fails too, and starts another.
    Failed,
}

/// A mounted volume.
pub struct Volume<D> {
    disk: D,
    sealer: Sealer,
    keys: VolumeKeys,
    superblock: Superblock,
    /// Index in [`PLACES`] of the current superblock.
    place: usize,
    cache: Cache,
    versions: Versions,
    reservation: Reservation,
    requests: Vec<Request>,
    free_requests: Vec<usize>,
    pending: VecDeque<usize>,
    jobs: Vec<Job>,
    free_jobs: Vec<usize>,
    flush: Flush,
    done: VecDeque<Done>,
    zero_budget: u32,
    events: VecDeque<Event>,
    lost_events: u64,
}

impl<D: BlockDevice> Volume<D> {
    /// A volume whose superblock was verified and whose reservation up to its limit is durable; versions from `first_version`
    /// on were never used.
    pub(crate) fn new(
        disk: D,
        keys: VolumeKeys,
        superblock: Superblock,
        place: usize,
        first_version: u64,
        options: &Options,
    ) -> Volume<D> {
        let cache = Cache::new(superblock.geometry.table_blocks, options.cache_slots);
        let slots = cache.slots();
        let mut versions = Versions::new(first_version, options.reservation);
        versions.reserved(superblock.version_limit);
        let idle = Request {
            cookie: 0,
            operation: Operation::Flush,
            issued: 0,
            jobs: 0,
            failed: false,
            cancelled: false,
            pending: false,
            live: false,
        };
        Volume {
            sealer: Sealer::new(&superblock, &keys),
            disk,
            keys,
            superblock,
            place,
            cache,
            versions,
            reservation: Reservation::Idle,
            requests: alloc::vec![idle; MAX_REQUESTS],
            free_requests: (0..MAX_REQUESTS).collect(),
            pending: VecDeque::with_capacity(MAX_REQUESTS),
            jobs: alloc::vec![NO_JOB; MAX_JOBS],
            free_jobs: (0..MAX_JOBS).collect(),
            flush: Flush {
                round: Round::Idle,
                current: Vec::with_capacity(MAX_REQUESTS),
                next: Vec::with_capacity(MAX_REQUESTS),
                to_store: Bits::new(slots),
                to_finish: Bits::new(slots),
                failed: false,
                needed: false,
            },
            done: VecDeque::with_capacity(MAX_REQUESTS),
            zero_budget: 0,
            events: VecDeque::with_capacity(MAX_EVENTS),
            lost_events: 0,
        }
    }

    /// Blocks that the volume offers.
    pub fn blocks(&self) -> u64 {
        self.superblock.geometry.data_blocks
    }

    /// The current superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, for tests that change it behind the volume's back.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back; requests under way are lost.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Whether a request can be submitted.
    pub fn has_room(&self) -> bool {
        !self.free_requests.is_empty()
    }

    /// Whether nothing is waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.free_requests.len() == MAX_REQUESTS && self.free_jobs.len() == MAX_JOBS
    }

    /// Takes a request; its answer carries `cookie`. It starts at the next [`advance`](Self::advance).
    pub fn submit(&mut self, cookie: u32, operation: Operation) -> Result<(), Full> {
        let request = self.free_requests.pop().ok_or(Full)?;
        self.requests[request] = Request {
            cookie,
            operation,
            issued: 0,
            jobs: 0,
            failed: false,
            cancelled: false,
            pending: true,
            live: true,
        };
        self.pending.push_back(request);
        Ok(())
    }

    /// Forgets every request: no payload is touched and no answer given from here on. Disk requests under way end by themselves.
    pub fn cancel_all(&mut self) {
        self.done.clear();
        for request in self.requests.iter_mut().filter(|request| request.live) {
            request.cancelled = true;
        }
        while let Some(request) = self.pending.pop_front() {
            self.requests[request].pending = false;
            self.give_up(request);
            self.settle(request);
        }
    }

    /// The next answer.
    pub fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events that did not fit into the log since the last call.
    pub fn take_lost_events(&mut self) -> u64 {
        core::mem::take(&mut self.lost_events)
    }

    /// Acknowledges the disk's interrupt; [`advance`](Self::advance) then takes its completions.
    pub fn acknowledge(&mut self) {
        self.disk.acknowledge();
    }

    /// Takes the disk's completions, moves everything that can move, and notifies the disk. Returns whether there is more to do
    /// at once: the caller comes back after it has looked at its other events.
    pub fn advance(&mut self, transfer: &mut impl Transfer) -> bool {
        self.zero_budget = ZERO_BUDGET;
        // Bounded: the disk owes at most one completion a job.
        for _ in 0..MAX_JOBS {
            let Some(completion) = self.disk.poll() else { break };
            self.complete(completion, transfer);
        }
        self.issue_pending(transfer);
        self.reserve_versions();
        self.pump_flush();
        self.disk.kick();
        self.give_up_if_stuck();
        self.zero_budget == 0 && !self.pending.is_empty()
    }

    /// Goes through the waiting requests once, oldest first.
    fn issue_pending(&mut self, transfer: &mut impl Transfer) {
        let waiting = self.pending.len();
        for seen in 0..waiting {
            let Some(request) = self.pending.pop_front() else { return };
            self.requests[request].pending = false;
            let step = self.issue(request, transfer);
            if step != Step::Issued {
                self.requests[request].pending = true;
                self.pending.push_back(request);
            }
            if step == Step::Exhausted {
                // Whoever was behind keeps the place behind.
                self.pending.rotate_left(waiting - seen - 1);
                return;
            }
        }
    }

    /// Issues as many runs of the request as can go now.
    fn issue(&mut self, request: usize, transfer: &mut impl Transfer) -> Step {
        let Some((block, blocks)) = range(&self.requests[request].operation) else {
            return self.issue_flush(request);
        };
        // Bounded: every turn but the last issues at least one block.
        while self.requests[request].issued < blocks {
            let issued = self.requests[request].issued;
            let step = self.issue_run(request, block + u64::from(issued), blocks - issued, transfer);
            if step != Step::Issued {
                return step;
            }
        }
        self.settle(request);
        Step::Issued
    }

    /// Issues the run that begins at `block`, of at most `left` blocks.
    fn issue_run(&mut self, request: usize, block: u64, left: u32, transfer: &mut impl Transfer) -> Step {
        let table = block / ENTRIES_PER_BLOCK;
        let slot = match self.cache.lookup(table) {
            Lookup::Ready(slot) => slot,
            Lookup::Loading => return Step::Waits,
            Lookup::Missing => return self.load_table(request, table),
        };
        let first = (block % ENTRIES_PER_BLOCK) as usize;
        let count = (left as usize).min(ENTRIES_PER_BLOCK as usize - first);
        let Request { cookie, operation, issued, .. } = self.requests[request];
        let run = Run { request, cookie, slot, first, count, block, offset: issued };
        match operation {
            Operation::Read { .. } => self.issue_read(run, transfer),
            Operation::Write { .. } => self.issue_write(run, transfer),
            Operation::Zero { lazily, .. } => self.issue_zero(run, lazily),
            Operation::Flush => Step::Issued,
        }
    }

    /// Answers the request if nothing of it is left to do.
    fn settle(&mut self, request: usize) {
        let state = &mut self.requests[request];
        if !state.live || state.pending || state.jobs != 0 || state.issued < total(&state.operation) {
            return;
        }
        state.live = false;
        if !state.cancelled {
            self.done.push_back(Done { cookie: state.cookie, ok: !state.failed });
        }
        self.free_requests.push(request);
    }

    /// The request fails and issues nothing more. Whoever holds it settles it.
    fn give_up(&mut self, request: usize) {
        let state = &mut self.requests[request];
        state.failed = true;
        state.issued = total(&state.operation);
    }

    /// If nothing is under way and something still waits, the disk takes nothing any more: everything that waits fails.
    fn give_up_if_stuck(&mut self) {
        let waits = !self.pending.is_empty() && self.zero_budget != 0 || self.flush.round != Round::Idle;
        if self.free_jobs.len() < MAX_JOBS || !waits {
            return;
        }
        self.report(Event::DiskGone);
        while let Some(request) = self.pending.pop_front() {
            self.requests[request].pending = false;
            self.give_up(request);
            self.settle(request);
        }
        self.flush.failed = true;
        self.end_round();
        self.pump_flush();
        if self.flush.round == Round::Storing {
            self.flush.failed = true;
            self.end_round();
        }
    }

    pub(crate) fn report(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.lost_events += 1;
        }
    }
}

/// The blocks that an operation is about; `None` for a flush.
fn range(operation: &Operation) -> Option<(u64, u32)> {
    match *operation {
        Operation::Flush => None,
        Operation::Read { block, blocks }
        | Operation::Write { block, blocks }
        | Operation::Zero { block, blocks, .. } => Some((block, blocks)),
    }
}

/// Blocks that have to be issued; a flush counts as one.
fn total(operation: &Operation) -> u32 {
    range(operation).map_or(1, |(_, blocks)| blocks)
}
