//! The engine: requests in, disk I/O out, completions back in, answers out. It never waits.
//!
//! A request is split into *runs*: up to 32 consecutive blocks that share one block of the entry table. A run that has been
//! issued is a *job*: it holds a DMA buffer, a lock on its blocks, and for a write the new entries; it holds nothing that it
//! still has to wait for, so jobs always come to an end and everything that waits for a resource can wait in one list,
//! [`Volume::pending`], in order of arrival. What a request can wait for: a locked block (another request is at it), a table
//! block on its way, or a resource (a place in the disk's queue, a buffer, a cache slot, reserved versions). The first
//! two hold up that request alone; a missing resource holds up everything behind it too, so that nobody starves.
//!
//! Order on disk in this format version: a write's data goes out at once; its entry is changed in memory when the data
//! write has completed, and reaches the disk at the next flush (all dirty table blocks, then the disk's own flush) or when
//! its cache slot is needed. What that means at a power cut is in `docs/volume-format.md`.

use alloc::{collections::VecDeque, vec::Vec};

use block::{BlockDevice, Buffer, Completion, MAX_REQUEST_BLOCKS, Refused};
use crypto::aead::{TAG_LEN, Tag};
use keystore::VolumeKeys;

use crate::{
    BLOCK_BYTES, Event,
    bits::Bits,
    cache::{Cache, Lookup, Victim},
    entry::State,
    geometry::ENTRIES_PER_BLOCK,
    mount::Options,
    seal::Sealer,
    superblock::{PLACES, Superblock},
    versions::Versions,
};

/// Requests that a volume holds at a time.
pub const MAX_REQUESTS: usize = 128;
/// Disk requests that a volume has under way at a time.
const MAX_JOBS: usize = 64;
/// Blocks that one call of [`Volume::advance`] states as zeros before it returns to its caller.
const ZERO_BUDGET: u32 = 2048;
/// Table blocks that an eviction stores at once.
const EVICTION_BATCH: usize = 8;
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

    // ---- issuing ----------------------------------------------------------------------------------------------------

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

    /// A flush waits as one job, for its round.
    fn issue_flush(&mut self, request: usize) -> Step {
        if self.requests[request].issued == 0 {
            self.requests[request].issued = 1;
            self.requests[request].jobs = 1;
            self.flush.next.push(request);
        }
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

    fn issue_read(&mut self, mut run: Run, transfer: &mut impl Transfer) -> Step {
        run.count = run.count.min(MAX_REQUEST_BLOCKS);
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        if self.all_zero(&run) {
            return self.read_zeros(&run, transfer);
        }
        let Some((job, buffer)) = self.begin_job(run.count) else { return Step::Exhausted };
        run.count = buffer.blocks();
        self.start(job, Kind::Read, &run);
        let taken = self.disk.read(job as u32, self.superblock.geometry.data_start + run.block, buffer);
        self.check_taken(job, taken);
        Step::Issued
    }

    fn all_zero(&self, run: &Run) -> bool {
        (run.first..run.first + run.count)
            .all(|index| self.cache.entry(run.slot, index).is_some_and(|entry| entry.state == State::Zero))
    }

    /// Answers a run of zeros from its entries, once they are verified.
    fn read_zeros(&mut self, run: &Run, transfer: &mut impl Transfer) -> Step {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        for index in 0..run.count {
            let entry = self.cache.entry(run.slot, run.first + index);
            let block = run.block + index as u64;
            let verified = entry.is_some_and(|entry| self.sealer.open(block, &entry, &mut []).is_ok());
            let at = (run.offset + index as u32) * BLOCK_BYTES as u32;
            if !verified {
                self.report(Event::TagMismatch { block });
                self.requests[run.request].failed = true;
            } else if transfer.scatter(run.cookie, at, &ZEROS).is_err() {
                self.requests[run.request].failed = true;
            }
        }
        self.requests[run.request].issued += run.count as u32;
        Step::Issued
    }

    fn issue_write(&mut self, mut run: Run, transfer: &mut impl Transfer) -> Step {
        run.count = run.count.min(MAX_REQUEST_BLOCKS);
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        let Some((job, buffer)) = self.begin_job(run.count) else { return Step::Exhausted };
        run.count = buffer.blocks();
        let Some(version) = self.versions.take(run.count as u64) else {
            self.drop_job(job, buffer);
            return self.without_versions(run.request);
        };
        if transfer.gather(run.cookie, run.offset * BLOCK_BYTES as u32, self.disk.bytes(&buffer)).is_err() {
            self.drop_job(job, buffer);
            self.give_up(run.request);
            return Step::Issued;
        }
        for (index, data) in self.disk.bytes(&buffer).chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let entry = self.sealer.seal(run.block + index as u64, version + index as u64, data);
            self.jobs[job].tags[index] = entry.tag;
        }
        self.jobs[job].version = version;
        self.start(job, Kind::Write, &run);
        let taken = self.disk.write(job as u32, self.superblock.geometry.data_start + run.block, buffer);
        self.check_taken(job, taken);
        Step::Issued
    }

    /// States zeros in the entries alone; the old ciphertext stays on the disk and means nothing any more.
    fn issue_zero(&mut self, mut run: Run, lazily: bool) -> Step {
        run.count = run.count.min(self.zero_budget as usize);
        if run.count == 0 {
            return Step::Exhausted;
        }
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        self.zero_budget -= run.count as u32;
        for index in 0..run.count {
            let (at, block) = (run.first + index, run.block + index as u64);
            let is_zero = lazily && self.cache.entry(run.slot, at).is_some_and(|entry| entry.state == State::Zero);
            if !is_zero {
                let Some(version) = self.versions.take(1) else { return self.without_versions(run.request) };
                let entry = self.sealer.seal_zero(block, version);
                self.cache.set_entry(run.slot, at, &entry);
            }
            self.requests[run.request].issued += 1;
        }
        Step::Issued
    }

    /// What a write does that finds no reserved versions: it waits for the reservation, or fails if there can be none.
    fn without_versions(&mut self, request: usize) -> Step {
        let hopeless = self.versions.next_limit().is_none();
        if !hopeless && self.reservation != Reservation::Failed {
            return Step::Exhausted;
        }
        self.reservation = Reservation::Idle;
        self.give_up(request);
        Step::Issued
    }

    /// Starts to load a block of the entry table into a slot of the cache.
    fn load_table(&mut self, request: usize, table: u64) -> Step {
        let slot = match self.cache.victim() {
            Victim::Clean(slot) => slot,
            Victim::Dirty(slot) => {
                self.evict(slot);
                return Step::Exhausted;
            }
            Victim::None => return Step::Exhausted,
        };
        let Some((job, buffer)) = self.begin_job(1) else { return Step::Exhausted };
        self.cache.begin_load(slot, table);
        self.requests[request].jobs += 1;
        let at = self.superblock.geometry.table_start + table;
        let job_now = &mut self.jobs[job];
        (job_now.kind, job_now.request, job_now.slot, job_now.block) = (Kind::LoadTable, request, slot, at);
        let taken = self.disk.read(job as u32, at, buffer);
        self.check_taken(job, taken);
        Step::Waits
    }

    /// Stores `slot` and a few more dirty ones, so that the next misses find clean slots.
    fn evict(&mut self, slot: usize) {
        let mut next = Some(slot);
        for _ in 0..EVICTION_BATCH {
            let Some(slot) = next else { return };
            if !self.cache.storing().contains(slot) && !self.store_table(slot) {
                return;
            }
            next = self.cache.dirty().next(slot + 1);
        }
    }

    /// Starts to store a dirty slot; `false` if a resource is missing.
    fn store_table(&mut self, slot: usize) -> bool {
        let Some((job, buffer)) = self.begin_job(1) else { return false };
        let (table, bytes) = self.cache.begin_store(slot);
        self.disk.bytes(&buffer).copy_from_slice(bytes);
        if self.flush.to_store.contains(slot) {
            self.flush.to_store.remove(slot);
            self.flush.to_finish.insert(slot);
        }
        let at = self.superblock.geometry.table_start + table;
        let job_now = &mut self.jobs[job];
        (job_now.kind, job_now.slot, job_now.block) = (Kind::StoreTable, slot, at);
        let taken = self.disk.write(job as u32, at, buffer);
        self.check_taken(job, taken);
        true
    }

    /// Starts to reserve the next versions when few are left.
    fn reserve_versions(&mut self) {
        if self.reservation != Reservation::Idle || !self.versions.is_low() {
            return;
        }
        let Some(version_limit) = self.versions.next_limit() else { return };
        let Some((job, buffer)) = self.begin_job(1) else { return };
        let next = Superblock { version_limit, sequence: self.superblock.sequence + 1, ..self.superblock };
        next.encode(&self.keys, self.disk.bytes(&buffer));
        self.reservation = Reservation::Under(next);
        self.jobs[job].kind = Kind::StoreSuperblock;
        let taken = self.disk.write(job as u32, PLACES[1 - self.place], buffer);
        self.check_taken(job, taken);
    }

    // ---- jobs -------------------------------------------------------------------------------------------------------

    /// A job, a place in the disk's queue, and a buffer of up to `blocks` blocks; or nothing.
    fn begin_job(&mut self, blocks: usize) -> Option<(usize, Buffer)> {
        if self.disk.room() == 0 || self.free_jobs.is_empty() {
            return None;
        }
        let buffer = self.disk.allocate(blocks)?;
        Some((self.free_jobs.pop()?, buffer))
    }

    /// Gives back a job that was not started.
    fn drop_job(&mut self, job: usize, buffer: Buffer) {
        self.disk.release(buffer);
        self.free_jobs.push(job);
    }

    /// Makes `job` the one of `run`: locks its blocks and counts them as issued.
    fn start(&mut self, job: usize, kind: Kind, run: &Run) {
        let locked = self.cache.lock(run.slot, run.first, run.count);
        assert!(locked, "the blocks of a run were seen to be free");
        self.requests[run.request].issued += run.count as u32;
        self.requests[run.request].jobs += 1;
        let now = &mut self.jobs[job];
        (now.kind, now.request, now.slot, now.first) = (kind, run.request, run.slot, run.first);
        (now.count, now.block, now.offset) = (run.count, run.block, run.offset);
    }

    /// A disk that refuses a request after it said it had room has failed it.
    fn check_taken(&mut self, job: usize, taken: Result<(), Refused>) {
        if let Err(Refused(buffer)) = taken {
            let result = Err(block::Error::Broken);
            self.complete(Completion { tag: job as u32, result, buffer }, &mut Nowhere);
        }
    }

    // ---- completing -------------------------------------------------------------------------------------------------

    fn complete(&mut self, completion: Completion, transfer: &mut impl Transfer) {
        let Completion { tag, result, buffer } = completion;
        let job = tag as usize;
        let ok = result.is_ok();
        let kind = self.jobs.get(job).map_or(Kind::Free, |job| job.kind);
        match kind {
            Kind::Free => {}
            Kind::Read => self.complete_read(job, buffer.as_ref().filter(|_| ok), transfer),
            Kind::Write => self.complete_write(job, ok),
            Kind::LoadTable => self.complete_load(job, buffer.as_ref().filter(|_| ok)),
            Kind::StoreTable => self.complete_store(job, ok),
            Kind::StoreSuperblock => self.complete_superblock(job, ok),
            Kind::FlushSuperblock => self.complete_reservation(ok),
            Kind::FlushRound => self.complete_flush(ok),
        }
        if let Some(buffer) = buffer {
            self.disk.release(buffer);
        }
        // A superblock's write goes on as its flush, under the same job.
        if kind != Kind::Free && !(kind == Kind::StoreSuperblock && self.jobs[job].kind == Kind::FlushSuperblock) {
            self.jobs[job].kind = Kind::Free;
            self.free_jobs.push(job);
        }
    }

    /// Opens each block in place and hands it on only when its tag is right.
    fn complete_read(&mut self, job: usize, buffer: Option<&Buffer>, transfer: &mut impl Transfer) {
        let Job { request, slot, first, count, block, offset, .. } = self.jobs[job];
        let Request { cookie, cancelled, .. } = self.requests[request];
        match buffer {
            None => {
                self.report(Event::ReadFailed { block });
                self.requests[request].failed = true;
            }
            Some(_) if cancelled => {}
            Some(buffer) => {
                for index in 0..count {
                    let data = &mut self.disk.bytes(buffer)[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
                    let block = block + index as u64;
                    let event = match self.cache.entry(slot, first + index) {
                        None => Some(Event::EntryDamaged { block }),
                        Some(entry) if self.sealer.open(block, &entry, data).is_err() => {
                            Some(Event::TagMismatch { block })
                        }
                        Some(_) => None,
                    };
                    let at = (offset + index as u32) * BLOCK_BYTES as u32;
                    let given = event.is_none() && transfer.scatter(cookie, at, data).is_ok();
                    self.requests[request].failed |= !given;
                    if let Some(event) = event {
                        self.report(event);
                    }
                }
            }
        }
        self.finish_run(job);
    }

    /// The data is on the disk: from here on the new entries are the block's.
    fn complete_write(&mut self, job: usize, ok: bool) {
        let Job { request, slot, first, count, block, version, .. } = self.jobs[job];
        if ok {
            self.flush.needed = true;
            for index in 0..count {
                let (version, tag) = (version + index as u64, self.jobs[job].tags[index]);
                self.cache.set_entry(slot, first + index, &crate::entry::Entry { version, tag, state: State::Sealed });
            }
        } else {
            self.report(Event::WriteFailed { block });
            self.requests[request].failed = true;
        }
        self.finish_run(job);
    }

    fn finish_run(&mut self, job: usize) {
        let Job { request, slot, first, count, .. } = self.jobs[job];
        self.cache.unlock(slot, first, count);
        self.finish_job_of(request);
    }

    fn complete_load(&mut self, job: usize, buffer: Option<&Buffer>) {
        let Job { request, slot, block, .. } = self.jobs[job];
        match buffer {
            Some(buffer) => self.cache.finish_load(slot, Some(self.disk.bytes(buffer))),
            None => {
                self.cache.finish_load(slot, None);
                self.report(Event::TableFailed { block });
                self.give_up(request);
            }
        }
        self.finish_job_of(request);
    }

    fn complete_store(&mut self, job: usize, ok: bool) {
        let slot = self.jobs[job].slot;
        self.cache.finish_store(slot, ok);
        let for_flush = self.flush.to_finish.contains(slot);
        self.flush.to_finish.remove(slot);
        if ok {
            self.flush.needed = true;
            return;
        }
        self.report(Event::TableFailed { block: self.jobs[job].block });
        if for_flush {
            self.flush.failed = true;
        } else if let Some(&request) = self.pending.front() {
            // An eviction failed: whoever has waited longest fails with it, so that nobody waits for ever.
            self.give_up(request);
        }
    }

    /// The superblock is written: make it durable before a version that it reserves is used.
    fn complete_superblock(&mut self, job: usize, ok: bool) {
        if !ok {
            return self.complete_reservation(false);
        }
        self.flush.needed = true;
        match self.disk.flush(job as u32) {
            Ok(()) => self.jobs[job].kind = Kind::FlushSuperblock,
            Err(Refused(_)) => self.complete_reservation(false),
        }
    }

    fn complete_reservation(&mut self, ok: bool) {
        match self.reservation {
            Reservation::Under(superblock) if ok => {
                self.superblock = superblock;
                self.place = 1 - self.place;
                self.versions.reserved(superblock.version_limit);
                self.reservation = Reservation::Idle;
            }
            _ => {
                self.report(Event::ReservationFailed);
                self.reservation = Reservation::Failed;
            }
        }
    }

    /// One job of `request` has ended.
    fn finish_job_of(&mut self, request: usize) {
        self.requests[request].jobs -= 1;
        self.settle(request);
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

    // ---- flushing ---------------------------------------------------------------------------------------------------

    /// Moves the flush round on: store every slot that was dirty when it began, wait for those stores, flush the disk.
    fn pump_flush(&mut self) {
        if self.flush.round == Round::Idle && !self.flush.next.is_empty() {
            self.begin_round();
        }
        if self.flush.round == Round::Storing {
            self.store_round();
        }
    }

    fn begin_round(&mut self) {
        core::mem::swap(&mut self.flush.current, &mut self.flush.next);
        self.flush.to_store.copy_from(self.cache.dirty());
        self.flush.to_finish.copy_from(self.cache.storing());
        self.flush.failed = false;
        self.flush.round = Round::Storing;
        if self.reservation == Reservation::Failed {
            self.reservation = Reservation::Idle;
        }
    }

    fn store_round(&mut self) {
        let mut from = 0;
        // Bounded: `from` grows with every turn.
        while let Some(slot) = self.flush.to_store.next(from) {
            from = slot + 1;
            if !self.cache.storing().contains(slot) && !self.store_table(slot) {
                return;
            }
        }
        if !self.flush.to_store.is_empty() || !self.flush.to_finish.is_empty() {
            return;
        }
        if !self.flush.needed {
            return self.end_round();
        }
        if self.disk.room() == 0 {
            return;
        }
        let Some(job) = self.free_jobs.pop() else { return };
        self.flush.round = Round::Flushing;
        self.flush.needed = false;
        self.jobs[job].kind = Kind::FlushRound;
        let taken = self.disk.flush(job as u32);
        self.check_taken(job, taken);
    }

    fn complete_flush(&mut self, ok: bool) {
        if !ok {
            self.report(Event::FlushFailed);
            self.flush.failed = true;
            self.flush.needed = true;
        }
        self.end_round();
    }

    fn end_round(&mut self) {
        self.flush.round = Round::Idle;
        for index in 0..self.flush.current.len() {
            let request = self.flush.current[index];
            self.requests[request].failed |= self.flush.failed;
            self.finish_job_of(request);
        }
        self.flush.current.clear();
    }

    // ---- when nothing goes on ---------------------------------------------------------------------------------------

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

/// The other end of a completion that carries no data.
struct Nowhere;

impl Transfer for Nowhere {
    fn gather(&mut self, _: u32, _: u32, _: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }

    fn scatter(&mut self, _: u32, _: u32, _: &[u8]) -> Result<(), Fault> {
        Err(Fault)
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
