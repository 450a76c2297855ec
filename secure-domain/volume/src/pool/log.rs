//! The log: one group of records under way at a time; what arrives meanwhile is the next group.
//!
//! A group is written to every member that keeps metadata and then flushed there; only then may the data that it speaks of go in
//! place. Its buffers are reserved at the mount, because runs that hold all others wait for it.
//!
//! Each record says up to where the data is *covered*, that is durable. The last record of a group alone says the newest: a record
//! that takes back a failed write lies in the same group, and must not be lost while the statement survives.

use alloc::{collections::VecDeque, vec::Vec};

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};

use super::{
    MAX_REQUESTS, Pool,
    job::Kind,
    place::{MAX_RUNS, Purpose},
};
use crate::{
    BLOCK_BYTES, Event, Status,
    record::{
        LogPoint,
        entry::Entry,
        geometry::METADATA_MEMBERS,
        log::{self, Head, LogEntry, LogEntryBytes, MAX_ENTRIES, Statement},
        superblock::Superblock,
    },
};

/// Records of the largest group.
const GROUP_RECORDS: usize = 8;
/// Entries that are kept free in a group for taking back failed writes.
const RESERVE_ENTRIES: usize = MAX_ENTRIES;
/// Blocks of the log that only flush markers, and what takes back failed writes, may use.
const RESERVE_BLOCKS: u64 = 8;
/// Times that a group is written before the log is given up.
const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Writing,
    Flushing,
}

/// A record that was built and is not yet covered, or the last one that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordState {
    pub(super) point: LogPoint,
    /// Block of the log behind it.
    pub(super) next_position: u64,
    /// Blocks of the log that were used up to its end since the mount.
    pub(super) total: u64,
    /// Entries that were logged up to its end since the mount.
    appended: u64,
    /// Runs whose data is under way.
    left: u32,
}

/// The log of a pool.
pub(super) struct Log {
    blocks: u64,
    position: u64,
    total: u64,
    /// `total` of the record that the last checkpoint contains.
    start_total: u64,
    start: LogPoint,
    /// The last record that was built.
    head: LogPoint,
    /// The last record that is durable.
    durable: LogPoint,
    open: Vec<LogEntryBytes>,
    /// Entries of runs that are being sealed and will be in the open group.
    promised: usize,
    open_runs: Vec<usize>,
    open_requests: Vec<usize>,
    committing_runs: Vec<usize>,
    committing_requests: Vec<usize>,
    state: State,
    image: Vec<[u8; BLOCK_BYTES]>,
    image_len: usize,
    image_position: u64,
    /// Free buffers of each metadata member.
    buffers: [Vec<Buffer>; METADATA_MEMBERS],
    issued: [usize; METADATA_MEMBERS],
    failed: [bool; METADATA_MEMBERS],
    outstanding: usize,
    attempts: u32,
    /// The last covered record, then those that are not.
    records: VecDeque<RecordState>,
    /// All records up to this one have their data written.
    completed: u64,
    /// All records up to this one have their data durable.
    pub(super) covered: u64,
    /// What the last record that was built says about that.
    pub(super) stated: u64,
    /// What a durable record or superblock says about that.
    pub(super) marked: u64,
    /// Entries up to those two.
    stated_appended: u64,
    marked_appended: u64,
    /// `completed` when the flush of the group was started.
    snapshot: u64,
    /// The checkpoint that the group under way names, and the one that a durable record names.
    image_checkpoint: u64,
    pub(super) named_checkpoint: u64,
    /// Write a record even if there is nothing to say but what is covered.
    pub(super) force: bool,
    /// Entries since the mount, those of the open group included.
    appended: u64,
    pub(super) uncovered_limit: usize,
    /// Sealed blocks go through the log too.
    torn: bool,
}

impl Log {
    pub(super) fn new(
        superblock: &Superblock,
        head: LogPoint,
        position: u64,
        buffers: [Vec<Buffer>; METADATA_MEMBERS],
    ) -> Log {
        let torn = superblock.atomic_bytes < BLOCK_BYTES as u32;
        let image = if torn { 1 + MAX_ENTRIES } else { GROUP_RECORDS };
        // Every record takes at least a block.
        let mut records = VecDeque::with_capacity(superblock.log_blocks as usize + 2);
        records.push_back(RecordState { point: head, next_position: position, total: 0, appended: 0, left: 0 });
        Log {
            blocks: superblock.log_blocks,
            position,
            total: 0,
            start_total: 0,
            start: head,
            head,
            durable: head,
            open: Vec::with_capacity(GROUP_RECORDS * MAX_ENTRIES),
            promised: 0,
            open_runs: Vec::with_capacity(MAX_RUNS),
            open_requests: Vec::with_capacity(MAX_REQUESTS),
            committing_runs: Vec::with_capacity(MAX_RUNS),
            committing_requests: Vec::with_capacity(MAX_REQUESTS),
            state: State::Idle,
            image: alloc::vec![[0; BLOCK_BYTES]; image],
            image_len: 0,
            image_position: 0,
            buffers,
            issued: [0; METADATA_MEMBERS],
            failed: [false; METADATA_MEMBERS],
            outstanding: 0,
            attempts: 0,
            records,
            completed: head.seq,
            covered: head.seq,
            stated: head.seq,
            marked: head.seq,
            snapshot: head.seq,
            image_checkpoint: 0,
            named_checkpoint: 0,
            force: false,
            stated_appended: 0,
            marked_appended: 0,
            appended: 0,
            uncovered_limit: superblock.uncovered_limit as usize,
            torn,
        }
    }

    /// Buffers that are reserved on each metadata member.
    pub(super) fn reserved_buffers(superblock: &Superblock) -> usize {
        if superblock.atomic_bytes < BLOCK_BYTES as u32 { 16 } else { 4 }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle && self.open.is_empty() && self.open_requests.is_empty()
    }

    /// The last durable record.
    pub(super) fn durable(&self) -> LogPoint {
        self.durable
    }

    /// All records up to this one have their data written.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// The last covered record.
    pub(super) fn boundary(&self) -> RecordState {
        *self.records.front().expect("the last covered record is kept")
    }

    /// The record that the last checkpoint ends with.
    pub(super) fn boundary_of_checkpoint(&self) -> LogPoint {
        self.start
    }

    /// Blocks between the last checkpoint and the end.
    pub(super) fn used(&self) -> u64 {
        self.total - self.start_total
    }

    pub(super) fn is_half_full(&self) -> bool {
        2 * self.used() > self.blocks
    }

    /// A checkpoint up to `boundary` is durable.
    pub(super) fn start_after(&mut self, boundary: &RecordState) {
        self.start_total = boundary.total;
        self.start = boundary.point;
        self.mark(boundary.point.seq, boundary.appended);
    }

    /// Something durable says that every record up to `seq`, with the entries up to `appended`, is covered.
    fn mark(&mut self, seq: u64, appended: u64) {
        self.marked = self.marked.max(seq);
        self.marked_appended = self.marked_appended.max(appended);
    }

    /// Entries that are not covered.
    fn uncovered(&self) -> usize {
        (self.appended - self.boundary().appended) as usize
    }

    /// Entries of which nothing durable says that they are covered: what a mount would have to look at. More than are uncovered, until
    /// a record that says so is durable; and none says so while a mark is pending.
    fn unmarked(&self) -> usize {
        (self.appended - self.marked_appended) as usize
    }

    /// The most of them that a mount takes: beyond the limit of requests, what was taken back.
    fn most_unmarked(&self) -> usize {
        self.uncovered_limit + 2 * MAX_ENTRIES
    }

    /// The request is answered when the open group is durable.
    pub(super) fn wait_for_commit(&mut self, request: usize) {
        self.open_requests.push(request);
    }

    /// The record's last run has ended: how far is all data written now?
    fn advance_completed(&mut self) {
        let first = self.boundary().point.seq;
        let durable = self.durable.seq;
        while self.completed < durable {
            let next = self.completed + 1;
            if self.records[(next - first) as usize].left != 0 {
                return;
            }
            self.completed = next;
        }
    }

    /// All records up to `seq` are covered.
    fn cover(&mut self, seq: u64) {
        self.covered = self.covered.max(seq);
        while self.boundary().point.seq < self.covered {
            self.records.pop_front();
        }
    }

    /// Number of the entry that is appended next: record times 126 plus index.
    pub(super) fn next_ordinal(&self) -> u64 {
        (self.head.seq + 1) * MAX_ENTRIES as u64 + self.open.len() as u64
    }

    /// The record that says the newest, or will.
    pub(super) fn last(&self) -> u64 {
        self.head.seq + self.open.len().div_ceil(MAX_ENTRIES) as u64
    }

    /// Most entries of a group.
    fn group_entries(&self) -> usize {
        if !self.torn {
            return GROUP_RECORDS * MAX_ENTRIES;
        }
        MAX_ENTRIES.min(self.blocks as usize / 4)
    }

    /// Entries of the open group that requests may use.
    fn request_entries(&self) -> usize {
        let most = self.group_entries();
        most - RESERVE_ENTRIES.min(most / 4)
    }

    /// Blocks that a run of this many copies may have.
    pub(super) fn longest_run(&self, copies: usize) -> usize {
        self.request_entries() / copies - 1
    }

    /// What means something of block `at` of the group under way.
    fn meaningful(&self, at: usize) -> &[u8] {
        if self.torn { &self.image[at] } else { log::meaningful(&self.image[at]) }
    }

    /// Whether a group of this many entries fits, with `reserve` blocks more, without reaching round to the log's start: that is
    /// where a mount begins until a checkpoint has ended.
    fn fits(&self, entries: usize, reserve: u64) -> bool {
        self.used() + self.group_blocks(entries) + reserve <= self.blocks
    }

    /// Whether a record that says nothing but what is covered fits beside what requests will state.
    pub(super) fn has_room_for_marker(&self) -> bool {
        self.fits(self.open.len() + self.promised, 1)
    }

    /// Blocks that a group of this many entries may take.
    fn group_blocks(&self, entries: usize) -> u64 {
        let data = if self.torn { entries } else { 0 };
        (entries.div_ceil(MAX_ENTRIES) + data) as u64
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Whether `entries` more entries can go into the open group, the log and the window of what a mount would look at. If not, what
    /// makes room is on its way.
    pub(super) fn log_has_room(&mut self, entries: usize) -> bool {
        let log = &self.log;
        let group = log.open.len() + log.promised + entries;
        if group > log.request_entries() {
            return false;
        }
        if !log.fits(group, RESERVE_BLOCKS) {
            self.checkpoint.want();
            return false;
        }
        let more = log.promised + entries;
        if log.unmarked() + more <= log.uncovered_limit {
            return true;
        }
        if log.uncovered() + more > log.uncovered_limit {
            self.flush.cover();
        } else if !self.is_frozen() {
            self.has_marker(self.log.covered);
        }
        false
    }

    /// Adds an entry to the open group.
    pub(super) fn append(&mut self, entry: LogEntryBytes) {
        self.log.open.push(entry);
        self.log.appended += 1;
        self.moved = true;
    }

    /// The run will state something when it is sealed.
    pub(super) fn promise(&mut self, run: usize) {
        let run = self.runs.get(run);
        self.log.promised += run.count * run.copies;
    }

    /// It does, or it will not.
    pub(super) fn keep_promise(&mut self, run: usize) {
        let run = self.runs.get(run);
        self.log.promised -= run.count * run.copies;
    }

    /// Adds what a run states, for every copy, to the open group.
    pub(super) fn append_run(&mut self, index: usize) {
        let run = self.runs.get_mut(index);
        run.ordinal = self.log.next_ordinal();
        for place in run.places() {
            for block in 0..run.count {
                let (address, version) = (place.address(block), run.version + block as u64);
                self.log.open.push(match run.purpose {
                    Purpose::Zero => {
                        LogEntry { address, statement: Statement::Block(Entry::Zero { version }) }.encode()
                    }
                    _ => LogEntry::sealed(address, version, run.epoch, run.tags[block]),
                });
            }
        }
        self.log.appended += (run.count * run.copies) as u64;
        self.log.open_runs.push(index);
        self.moved = true;
    }

    /// Moves the log on.
    pub(super) fn pump_log(&mut self) {
        if self.log.state == State::Writing {
            self.issue_log_writes();
        }
        if self.log.state == State::Flushing {
            self.issue_log_flushes();
        }
        // A marker that does not fit waits: a log that full has a checkpoint under way, which makes room.
        let forced = self.log.force && self.log.has_room_for_marker();
        if self.log.state == State::Idle && (!self.log.open.is_empty() || forced) && !self.stopped {
            self.build_group();
        }
    }

    /// The members that the log is written to.
    fn live_metadata_members(&self) -> impl Iterator<Item = usize> + use<D, A> {
        let lost: [bool; METADATA_MEMBERS] =
            core::array::from_fn(|member| self.members.get(member).is_none_or(|member| member.lost));
        (0..METADATA_MEMBERS).filter(move |member| !lost[*member])
    }

    /// Makes records of the open group.
    fn build_group(&mut self) {
        let Log { open, .. } = &mut self.log;
        let entries = core::mem::take(open);
        self.log.image_position = self.log.position;
        self.log.image_len = 0;
        let records = entries.len().div_ceil(MAX_ENTRIES).max(1);
        for record in 0..records {
            let from = record * MAX_ENTRIES;
            let part = &entries[from.min(entries.len())..entries.len().min(from + MAX_ENTRIES)];
            if record + 1 == records && !self.is_frozen() {
                (self.log.stated, self.log.stated_appended) = (self.log.covered, self.log.boundary().appended);
            }
            if let Err(error) = self.build_record(part) {
                // The entries are given up; the runs that made them fail when the pool stops.
                self.refused(error);
                return;
            }
        }
        self.log.force = false;
        self.log.open = entries;
        self.log.open.clear();
        let log = &mut self.log;
        core::mem::swap(&mut log.open_runs, &mut log.committing_runs);
        core::mem::swap(&mut log.open_requests, &mut log.committing_requests);
        log.attempts = 0;
        self.restart_log_write();
        self.issue_log_writes();
    }

    fn restart_log_write(&mut self) {
        let log = &mut self.log;
        (log.issued, log.failed, log.state) = ([0; METADATA_MEMBERS], [false; METADATA_MEMBERS], State::Writing);
        self.moved = true;
    }

    fn build_record(&mut self, entries: &[LogEntryBytes]) -> Result<(), crypto::Error> {
        let incarnation = self.anchoring.held.incarnation;
        let data = if self.log.torn { self.copy_data(entries.len()) } else { 0 };
        let log = &mut self.log;
        let block = &mut log.image[log.image_len];
        for (index, entry) in entries.iter().enumerate() {
            block[log::entry_range(index)].copy_from_slice(entry);
        }
        let seq = log.head.seq + 1;
        let checkpoint = self.superblock.checkpoint as u16;
        let head =
            Head { entries: entries.len(), data_blocks: data, checkpoint, seq, incarnation, covered: log.stated };
        log.image_checkpoint = self.superblock.checkpoint;
        let mac = log::seal(&head, self.keys.log(), &log.head.mac, block)?;
        log.head = LogPoint { seq, mac };
        log.image_len += 1 + data;
        log.total += 1 + data as u64;
        log.position = (log.position + 1 + data as u64) % log.blocks;
        let (point, next_position, total) = (log.head, log.position, log.total);
        let appended = log.records.back().map_or(0, |last| last.appended) + entries.len() as u64;
        log.records.push_back(RecordState { point, next_position, total, appended, left: 0 });
        Ok(())
    }

    /// Copies the sealed blocks of the group behind its only record; returns how many.
    fn copy_data(&mut self, _entries: usize) -> usize {
        let mut blocks = 0;
        for &index in &self.log.open_runs {
            let run = self.runs.get(index);
            if run.purpose == Purpose::Zero {
                continue;
            }
            for (copy, place) in run.places().iter().enumerate() {
                let Some(buffer) = &run.buffers[copy] else { continue };
                let bytes = self.members[place.physical.member].device.bytes(buffer);
                for sector in &bytes.as_chunks::<BLOCK_BYTES>().0[..run.count] {
                    blocks += 1;
                    self.log.image[self.log.image_len + blocks] = *sector;
                }
            }
        }
        blocks
    }

    fn issue_log_writes(&mut self) {
        for member in self.live_metadata_members() {
            while self.log.issued[member] < self.log.image_len && self.can_start(member) {
                let Some(buffer) = self.log.buffers[member].pop() else { break };
                let at = self.log.issued[member];
                self.log.issued[member] += 1;
                self.log.outstanding += 1;
                // Behind that the buffer holds what it held: an older record.
                let image = self.log.meaningful(at);
                self.members[member].device.bytes(&buffer)[..image.len()].copy_from_slice(image);
                let block = (self.log.image_position + at as u64) % self.log.blocks;
                self.start_write(Kind::LogWrite, member, crate::record::geometry::RING_BLOCKS + block, buffer);
            }
        }
        let all = self.live_metadata_members().all(|member| self.log.issued[member] == self.log.image_len);
        if all && self.log.outstanding == 0 && self.log.state == State::Writing {
            self.end_log_writes();
        }
    }

    pub(super) fn complete_log_write(&mut self, member: usize, block: u64, buffer: Option<Buffer>, ok: bool) {
        self.log.outstanding -= 1;
        self.log.buffers[member].extend(buffer);
        if !ok {
            self.log.failed[member] = true;
            self.report(Event::WriteFailed { member, block });
        }
    }

    /// The group was written to every metadata member, or not.
    fn end_log_writes(&mut self) {
        self.moved = true;
        let failed = self.log.failed;
        if self.live_metadata_members().any(|member| failed[member]) && self.log.attempts + 1 < MAX_ATTEMPTS {
            self.log.attempts += 1;
            self.restart_log_write();
            return;
        }
        for member in self.live_metadata_members() {
            if failed[member] && !self.retire(member) {
                return;
            }
        }
        (self.log.issued, self.log.state) = ([0; METADATA_MEMBERS], State::Flushing);
        self.log.snapshot = if self.members.len() <= METADATA_MEMBERS { self.log.completed } else { self.log.covered };
    }

    fn issue_log_flushes(&mut self) {
        for member in self.live_metadata_members() {
            if self.log.issued[member] == 0 && self.can_start(member) {
                self.log.issued[member] = 1;
                self.log.outstanding += 1;
                self.start_flush(Kind::LogFlush, member);
            }
        }
        let all = self.live_metadata_members().all(|member| self.log.issued[member] == 1);
        if all && self.log.outstanding == 0 && self.log.state == State::Flushing {
            self.commit_group();
        }
    }

    pub(super) fn complete_log_flush(&mut self, member: usize, ok: bool) {
        self.log.outstanding -= 1;
        if !ok {
            self.report(Event::FlushFailed { member });
            self.retire(member);
        }
    }

    /// The group is durable: its data may go in place.
    fn commit_group(&mut self) {
        self.moved = true;
        self.log.state = State::Idle;
        self.log.durable = self.log.head;
        self.log.named_checkpoint = self.log.image_checkpoint;
        self.log.mark(self.log.stated, self.log.stated_appended);
        let mut runs = core::mem::take(&mut self.log.committing_runs);
        // All of them hold their records before the first may let go of one.
        for run in &runs {
            self.hold_record(self.runs.get(*run).ordinal);
        }
        for run in runs.drain(..) {
            self.start_data(run);
        }
        self.log.committing_runs = runs;
        let mut requests = core::mem::take(&mut self.log.committing_requests);
        for request in requests.drain(..) {
            self.finish_run_of(request);
        }
        self.log.committing_requests = requests;
        self.log.advance_completed();
        let covered = self.log.snapshot;
        self.cover(covered);
    }

    /// The data of all records up to `seq` is durable.
    pub(super) fn cover(&mut self, seq: u64) {
        self.log.cover(seq);
        self.settle_changes();
    }

    /// The record that the ordinal lies in has one run more under way.
    pub(super) fn hold_record(&mut self, ordinal: u64) {
        let index = ordinal / MAX_ENTRIES as u64 - self.log.boundary().point.seq;
        self.log.records[index as usize].left += 1;
    }

    /// It has one less.
    pub(super) fn release_record(&mut self, ordinal: u64) {
        let index = ordinal / MAX_ENTRIES as u64 - self.log.boundary().point.seq;
        self.log.records[index as usize].left -= 1;
        self.log.advance_completed();
    }

    /// Whether a failed write can still be taken back.
    pub(super) fn log_has_reserve(&self, entries: usize) -> bool {
        let group = self.log.open.len() + self.log.promised + entries;
        let unmarked = self.log.unmarked() + self.log.promised + entries;
        let takes = group <= self.log.group_entries() && unmarked <= self.log.most_unmarked();
        !self.log.torn && takes && self.log.fits(group, 0)
    }

    /// Nothing goes into the log any more: what waits for it fails.
    pub(super) fn fail_log(&mut self) {
        let log = &mut self.log;
        log.open.clear();
        log.force = false;
        let (mut runs, mut requests) = (core::mem::take(&mut log.open_runs), core::mem::take(&mut log.open_requests));
        runs.append(&mut self.log.committing_runs);
        requests.append(&mut self.log.committing_requests);
        self.log.state = State::Idle;
        self.log.image_len = 0;
        for run in runs {
            let request = self.runs.get(run).request;
            self.fail(request, Status::IoError);
            self.end_run(run);
        }
        for request in requests {
            self.fail(request, Status::IoError);
            self.finish_run_of(request);
        }
    }
}
