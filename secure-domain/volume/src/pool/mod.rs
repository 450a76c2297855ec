//! The engine: requests in, disk I/O out, completions back in, answers out. It never waits.
//!
//! A request is cut into *runs*: up to 32 consecutive blocks that share a leaf. A run that has been issued holds a lock on its blocks
//! and DMA buffers, and never waits for anything that another run holds: a read waits for its disk; a write waits for the log
//! (which has buffers of its own), then for its disk. So runs always come to an end, and everything that waits for a
//! resource waits in one list, `pending`, in order of arrival. What a request can wait for: a locked block (another request is at
//! it), a leaf on its way, or a resource (a place in a queue, a buffer, a cache slot, versions, room in the log). The first two
//! hold up that request alone; a missing resource holds up everything behind it too, so that nobody starves.
//!
//! Order on disk of a write: its entries go into a log record (`log.rs`); when the record is durable the data goes in place
//! (`data.rs`); when the data has been written the entry in memory changes and the request is answered. A flush of the disk makes
//! data durable and *covers* the records before it (`flush.rs`); a checkpoint (`checkpoint.rs`) writes leaves that hold covered
//! entries only, then the nodes above them, then a superblock that says where the log begins now.

mod anchoring;
mod batch;
mod cache;
mod checkpoint;
mod choose;
mod command;
mod data;
mod extents;
mod flush;
mod halt;
mod issue;
mod job;
mod log;
mod member;
pub mod mount;
mod options;
mod place;
mod read;
mod recover;
mod request;
mod resolve;
mod resync;
mod scan;
mod tree;
mod volumes;
mod wait;
mod walker;
mod zero;

use alloc::{collections::VecDeque, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;
use keystore::PoolKeys;

pub use options::{
    FormatOptions, MIN_RESERVATION, MIN_UNCOVERED, NAMED_BLOCKS, Options, Policy, Random, RandomFailed, Recovery,
};
pub use request::MAX_REQUESTS;

use crate::{
    Command, Done, Event, Full, Operation, Status, Transfer, VolumeInfo,
    record::{EXTENT_BLOCKS, anchored::Anchored, superblock::Superblock},
};
use anchoring::Anchoring;
use batch::Batch;
use cache::Cache;
use checkpoint::Checkpoint;
use choose::Seat;
use command::Commands;
use data::{DataQueue, Unsettled};
use flush::Flush;
use halt::Halt;
use job::Jobs;
use log::Log;
use member::Member;
use place::Runs;
use request::Requests;
use volumes::Volume;
use walker::Walker;

/// Blocks that one call of [`Pool::advance`] states as zeros before it returns to its caller.
const ZERO_BUDGET: u32 = 2048;
/// Rounds that one call of [`Pool::advance`] goes through while something moves.
const MAX_ROUNDS: usize = 16;
/// Events kept for the log; later ones are counted.
const MAX_EVENTS: usize = 32;

/// The fresh versions: one counter for the whole pool.
#[derive(Clone, Copy, Debug)]
struct Versions {
    next: u64,
    /// Anchored: versions below it may be used.
    limit: u64,
}

/// A mounted pool.
pub struct Pool<D, A> {
    members: Vec<Member<D>>,
    /// Where each disk sits, in the order that the caller gave, and those that are no members.
    given: Vec<Seat>,
    strangers: Vec<D>,
    keys: PoolKeys,
    random: Random,
    options: Options,
    anchoring: Anchoring<A>,
    /// As on the disk.
    superblock: Superblock,
    /// Leaves that replaying the log of the last mount may change.
    replay_limit: u64,
    /// Entries of it that may not be covered, but for those that took writes back.
    replay_uncovered: usize,
    /// Nothing may be written: asked for, or by an unknown feature, or because metadata could not be written.
    stopped: bool,
    halt: Halt,
    cache: Cache,
    volumes: Vec<Option<Volume>>,
    /// Volumes that are being sealed anew.
    old_epochs: usize,
    versions: Versions,
    requests: Requests,
    runs: Runs,
    jobs: Jobs,
    batch: Batch,
    log: Log,
    data: DataQueue,
    unsettled: VecDeque<Unsettled>,
    flush: Flush,
    checkpoint: Checkpoint,
    commands: Commands,
    walker: Walker,
    /// Nonces that were used for resealing and not shown to an audit yet: catalog place, first version, number.
    resealed: Vec<(usize, u64, u64)>,
    done: VecDeque<Done>,
    events: VecDeque<Event>,
    lost_events: u64,
    now_ms: u64,
    zero_budget: u32,
    tree_budget: u32,
    issue_budget: u32,
    /// Something moved in this round.
    moved: bool,
    /// The mount's checkpoint is durable: nothing goes into log or data before it.
    serving: bool,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// The volumes, in the order of the catalog.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeInfo> {
        self.volumes.iter().flatten().map(Volume::info)
    }

    /// Size of a volume in blocks.
    pub fn blocks(&self, volume: u32) -> Option<u64> {
        self.find(volume).map(|slot| self.volume(slot).record.blocks)
    }

    /// Where copy `copy` of a block of a volume lies: the disk, counted as given, and the block on it. `None`: nowhere, it was never
    /// written, or there is no such block or copy.
    pub fn locate(&self, volume: u32, block: u64, copy: usize) -> Option<(usize, u64)> {
        let volume = self.volume(self.find(volume)?);
        let spot = volume.spot(block);
        let physical = volume.has(spot.extent, copy).then(|| volume.physical(spot.extent, copy))??;
        let geometry = &self.members[physical.member].geometry;
        let given = self.given.iter().position(|seat| *seat == Seat::Member(physical.member))?;
        Some((given, geometry.data_start + u64::from(physical.extent) * EXTENT_BLOCKS + spot.within))
    }

    /// Whether a request can be submitted.
    pub fn has_room(&self) -> bool {
        self.requests.has_room()
    }

    /// Whether nothing is waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.requests.all_free()
            && self.is_quiet()
            && self.commands.is_idle()
            && self.log.is_idle()
            && !self.checkpoint.is_running()
            && self.walker.is_idle(self.now_ms)
    }

    /// Whether no disk and no anchor owes an answer.
    fn is_quiet(&self) -> bool {
        self.jobs.all_free() && !self.anchoring.is_busy()
    }

    /// Takes a request; its answer carries `volume` and `cookie`. It starts at the next [`advance`](Self::advance).
    ///
    /// # Errors
    /// [`Full`] while [`has_room`](Self::has_room) is false.
    pub fn submit(&mut self, volume: u32, cookie: u32, operation: Operation) -> Result<(), Full> {
        if !self.has_room() || self.done.len() >= 4 * MAX_REQUESTS {
            return Err(Full);
        }
        match self.find(volume).filter(|slot| self.volume(*slot).contains(&operation)) {
            Some(slot) => {
                self.volume_mut(slot).requests += 1;
                self.requests.add(slot, volume, cookie, operation);
            }
            None => self.done.push_back(Done { volume, cookie, status: Status::IoError }),
        }
        Ok(())
    }

    /// Takes a command; its answer carries [`crate::POOL`] and `cookie`.
    ///
    /// # Errors
    /// [`Full`] while another command is under way.
    pub fn command(&mut self, cookie: u32, command: Command) -> Result<(), Full> {
        self.commands.take(cookie, command)
    }

    /// Forgets the requests to `volume`: no payload is touched and no answer given from here on. What is under way on the disks
    /// ends by itself.
    pub fn cancel(&mut self, volume: u32) {
        self.done.retain(|done| done.volume != volume);
        self.requests.cancel(volume);
        for request in self.requests.take_pending_of(volume) {
            self.give_up(request, Status::IoError);
            self.settle(request);
        }
    }

    /// Acknowledges the interrupt of the disk given as number `given`; [`advance`](Self::advance) then takes its completions.
    pub fn acknowledge(&mut self, given: usize) {
        self.member_mut(given).acknowledge();
    }

    /// Takes the disks' completions, moves everything that can move, and notifies the disks. `now_ms` is any clock that does not
    /// go back. Returns whether there is more to do at once: the caller comes back after it has looked at its other events.
    pub fn advance(&mut self, now_ms: u64, transfer: &mut impl Transfer) -> bool {
        self.now_ms = now_ms;
        (self.zero_budget, self.tree_budget) = (ZERO_BUDGET, self.options.tree_budget.max(1));
        self.ask_module();
        let mut again = false;
        for round in 1..=MAX_ROUNDS {
            self.moved = false;
            self.take_completions(transfer);
            self.issue_pending(transfer);
            self.pump_commands();
            self.pump_walker();
            self.pump_log();
            self.pump_data();
            self.pump_flush();
            self.pump_checkpoint();
            self.pump_anchor();
            self.halt_if_refused();
            self.members.iter_mut().for_each(|member| member.device.kick());
            if !self.moved {
                break;
            }
            again = round == MAX_ROUNDS;
        }
        again |= self.give_up_silent_disks();
        let more = again || self.zero_budget == 0 || self.tree_budget == 0 || self.retire_silent_members();
        if !more {
            self.give_up_if_stuck();
        }
        more
    }

    /// When [`advance`](Self::advance) is to be called though no disk, no anchor and no request gives a reason: the time on the
    /// clock of its `now_ms`, which may have passed. `None`: the passing of time changes nothing. It holds until the next call
    /// of any other function of the pool.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.anchor_deadline(), self.walker_deadline(), self.silence_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The next answer.
    pub fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events that did not fit since the last call.
    pub fn take_lost_events(&mut self) -> u64 {
        core::mem::take(&mut self.lost_events)
    }

    /// The superblock of the last checkpoint.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Whether nothing is written any more: asked for at the mount, or because metadata could not be written.
    pub fn is_read_only(&self) -> bool {
        self.stopped
    }

    /// The disk given as number `given`.
    pub fn member(&self, given: usize) -> &D {
        let member = match self.given[given] {
            Seat::Member(member) => self.members[member].device.disk.as_ref(),
            Seat::Stranger(stranger) => self.strangers.get(stranger),
        };
        member.expect("a disk that was given is there")
    }

    /// The disk given as number `given`, for tests that change it behind the pool's back.
    pub fn member_mut(&mut self, given: usize) -> &mut D {
        let member = match self.given[given] {
            Seat::Member(member) => self.members[member].device.disk.as_mut(),
            Seat::Stranger(stranger) => self.strangers.get_mut(stranger),
        };
        member.expect("a disk that was given is there")
    }

    /// The anchor.
    pub fn anchor(&self) -> &A {
        &self.anchoring.store
    }

    /// The anchor, for tests.
    pub fn anchor_mut(&mut self) -> &mut A {
        &mut self.anchoring.store
    }

    /// Gives the disks, in the order in which they were given, and the anchor back; requests under way are lost.
    pub fn into_parts(self) -> (Vec<D>, A) {
        let Pool { members, given, strangers, anchoring, .. } = self;
        let mut devices: Vec<Option<D>> = members.into_iter().map(|member| member.device.disk).collect();
        let mut strangers = strangers.into_iter();
        let device = |seat| match seat {
            Seat::Member(member) => core::mem::take::<Option<D>>(&mut devices[member]),
            Seat::Stranger(_) => strangers.next(),
        };
        let devices = given.into_iter().filter_map(device).collect();
        (devices, anchoring.store)
    }

    fn report(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.lost_events += 1;
        }
    }

    /// Metadata could not be written: from here on nothing is. What waits to be written or made durable fails.
    fn stop_writes(&mut self) {
        if !self.stopped {
            self.report(Event::WritesStopped);
        }
        self.stopped = true;
        self.moved = true;
        self.end_resealing_walks();
        self.fail_log();
        self.fail_flush();
        self.fail_checkpoint();
    }

    /// If nothing is under way, nothing moves, and something still waits, it waits for a disk that takes nothing any more: it fails.
    fn give_up_if_stuck(&mut self) {
        if !self.is_quiet() {
            return;
        }
        let writes = !self.log.is_idle() || self.flush.is_running() || self.checkpoint.is_running();
        let waits = !self.requests.no_pending() || !self.walker.no_heals() || !self.data.is_empty();
        if !(writes && !self.stopped || waits) {
            return;
        }
        self.report(Event::DiskGone);
        if writes {
            self.stop_writes();
        }
        while let Some((run, copy)) = self.data.pop_front() {
            let block = self.runs.get(run).places[copy].block;
            self.complete_write(run, copy, block, false);
        }
        self.give_up_heals();
        for request in self.requests.take_pending() {
            self.give_up(request, Status::IoError);
            self.settle(request);
        }
    }
}
