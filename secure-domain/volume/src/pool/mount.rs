//! Mounting: from disks and an anchor to a pool that serves, or to the exact reason why not.
//!
//! ```text
//! superblocks   the newest authentic one of each member; all members of one pool
//! anchor        of this pool; which incarnation the disk must be of
//! log           scanned as far as its chain verifies; it must reach what superblock and anchor demand
//! tables        catalog, keys, extents
//! replay        what the log says goes into the leaves, in memory
//! anchor        the next incarnation begins where the log ends: from here on no other history is believed
//! resolve       blocks that were being written: old or new, as their tags say; torn ones are repaired
//! checkpoint    so that the log is empty
//! anchor        a first record of the new incarnation: what was found out is not found out again
//! ```
//! Nothing is written before the next incarnation is anchored. Power may fail at any point: the next mount finds the old
//! incarnation on the disk, exactly at the new one's base, and goes the same way again.

use alloc::{collections::VecDeque, vec::Vec};

use anchor::{MonotonicStore, Record};
use block::BlockDevice;
use keystore::RootKey;
use zeroize::Zeroizing;

use super::{
    FormatOptions, MAX_EVENTS, MAX_REQUESTS, MIN_RESERVATION, MIN_UNCOVERED, Options, Pool, Random, Recovery, Versions,
    anchoring::Anchoring,
    batch::Batch,
    cache::Cache,
    checkpoint::Checkpoint,
    choose::{Chosen, Seat, choose, seated},
    command::Commands,
    flush::Flush,
    halt::Halt,
    job::Jobs,
    log::Log,
    member::{Disk, Member},
    place::{MAX_COPIES, MAX_RUNS, Runs},
    recover::Replayed,
    request::Requests,
    scan::{Scan, demand, judge, scan},
    wait::{Action, advance_anchor, perform},
    walker::Walker,
};
use crate::{
    BLOCK_BYTES, Error, Event,
    record::{
        LogPoint, MAX_MEMBERS,
        anchored::{Anchored, Secret},
        catalog::RECORDS_PER_LEAF,
        geometry::{CATALOG_LEAVES, Geometry, METADATA_MEMBERS, RING_BLOCKS},
        node::Position,
        superblock::{MemberInfo, Superblock},
    },
};

/// Cache blocks for what is being read while everything else is touched.
const CLEAN_BLOCKS: u64 = 64;
/// Fewest leaves that may be touched at a time.
const MIN_DIRTY: u64 = 8;

/// Mounts the pool on `members`, in any order. While a disk or the anchor works, `idle` is called: it sleeps until the disk's
/// interrupt (or returns at once) and says whether to go on waiting, so the caller sets the deadline.
///
/// # Errors
/// The exact reason why not; see [`Error`].
pub fn mount<D: BlockDevice, A: MonotonicStore>(
    mut members: Vec<D>,
    mut anchor: A,
    root: &RootKey,
    random: Random,
    options: &Options,
    mut idle: impl FnMut() -> bool,
) -> Result<(Pool<D, A>, Recovery), Error> {
    let idle = &mut idle;
    let snapshot = anchor.read();
    let anchored = snapshot.as_ref().ok().and_then(|snapshot| Anchored::parse(&snapshot.record));
    let lenient = anchored.as_ref().map(|anchored| &anchored.pool).filter(|_| options.degraded);
    let chosen = choose(&mut members, root, lenient, idle)?;
    let snapshot = snapshot.map_err(Error::Anchor)?;
    if snapshot.record == Record::EMPTY {
        return Err(Error::AnchorForeign);
    }
    let anchored = anchored.ok_or(Error::AnchorRecord)?;
    if anchored.pool != chosen.superblock.pool {
        return Err(Error::AnchorForeign);
    }
    let (mut disks, strangers) = seated(members, &chosen.given, chosen.superblock.members().len());
    let keys = root.pool_keys(&chosen.superblock.pool).map_err(Error::Module)?;
    let found = believe(&mut disks, &chosen.superblock, &anchored, &keys, idle)?;
    let anchoring = Anchoring::new(anchor, snapshot.counter, anchored);
    let read_only = options.read_only || chosen.superblock.is_read_only();
    let mut pool = assemble((disks, strangers), chosen, keys, random, *options, anchoring, &found)?;
    let recovery = pool.recover(&found, read_only, idle)?;
    Ok((pool, recovery))
}

/// How far the log goes; or why the disks are not those that the anchor knows.
fn believe<D: BlockDevice>(
    disks: &mut [Disk<D>],
    superblock: &Superblock,
    anchored: &Anchored,
    keys: &keystore::PoolKeys,
    idle: &mut impl FnMut() -> bool,
) -> Result<Scan, Error> {
    let demand = demand(superblock, anchored)?;
    let found = scan(disks, superblock, keys.log(), &demand, idle)?;
    judge(superblock, anchored, &demand, &found)?;
    Ok(found)
}

/// Makes a new, empty pool of `members`, whatever they held, binds `anchor` to it (whatever it held), and mounts it.
///
/// # Errors
/// As [`mount`], for what can be wrong with members and anchor.
pub fn format<D: BlockDevice, A: MonotonicStore>(
    mut members: Vec<D>,
    mut anchor: A,
    root: &RootKey,
    mut random: Random,
    new: &FormatOptions,
    options: &Options,
    mut idle: impl FnMut() -> bool,
) -> Result<Pool<D, A>, Error> {
    let superblock = plan(&members, new, &mut random)?;
    let mut secret = Secret { generation: 1, bytes: Zeroizing::new([0; 32]) };
    random(&mut *secret.bytes).map_err(|_| Error::NoRandom)?;
    let keys = root.pool_keys(&superblock.pool).map_err(Error::Module)?;
    let mut block = [0; BLOCK_BYTES];
    for (member, disk) in members.iter_mut().enumerate() {
        // What was there is destroyed first, so that a pool whose making was cut off is none.
        for place in 0..RING_BLOCKS {
            perform(disk, member, place, Action::Write(&[0; BLOCK_BYTES]), &mut idle)?;
        }
        perform(disk, member, 0, Action::Flush, &mut idle)?;
        superblock.encode(member, &keys, &mut block).map_err(Error::Module)?;
        perform(disk, member, superblock.sequence % RING_BLOCKS, Action::Write(&block), &mut idle)?;
        perform(disk, member, 0, Action::Flush, &mut idle)?;
    }
    let snapshot = anchor.read().map_err(Error::Anchor)?;
    let first = Anchored {
        pool: superblock.pool,
        incarnation: superblock.incarnation,
        base: LogPoint::ORIGIN,
        head: LogPoint::ORIGIN,
        version_limit: 1,
        secret,
        next_secret: None,
    };
    advance_anchor(&mut anchor, snapshot.counter, &first, &mut idle)?;
    mount(members, anchor, root, random, options, idle).map(|(pool, _)| pool)
}

/// The first superblock of a new pool.
fn plan<D: BlockDevice>(members: &[D], new: &FormatOptions, random: &mut Random) -> Result<Superblock, Error> {
    if !(1..=MAX_MEMBERS).contains(&members.len()) {
        return Err(Error::Members { given: members.len() });
    }
    let mut draw = || {
        let mut uuid = [0; 16];
        random(&mut uuid).map(|()| uuid).map_err(|_| Error::NoRandom)
    };
    let smallest = members.iter().take(METADATA_MEMBERS).map(D::blocks).min().unwrap_or(0);
    let log_blocks = new.log_blocks.unwrap_or_else(|| Geometry::default_log_blocks(smallest));
    let mut infos = Vec::with_capacity(members.len());
    for (member, disk) in members.iter().enumerate() {
        let too_small = Error::TooSmall { member, have: disk.blocks(), need: 2048 };
        let geometry = Geometry::for_member(member, disk.blocks(), log_blocks).ok_or(too_small)?;
        // Rounded down to what is used, so that a longer disk changes nothing.
        infos.push(MemberInfo { uuid: draw()?, blocks: geometry.end() });
    }
    let atomic_bytes = if new.torn_sectors { 512 } else { BLOCK_BYTES as u32 };
    let mut superblock = Superblock::new(draw()?, &infos, log_blocks, atomic_bytes);
    (superblock.sequence, superblock.incarnation) = (1, 1);
    Ok(superblock)
}

/// Cache blocks that are needed when `dirty` leaves are touched: each may have a path of its own to the root.
fn cache_need(geometries: &[Geometry], dirty: u64) -> u64 {
    let nodes: u64 = geometries.iter().map(|geometry| geometry.tree_blocks() - geometry.leaves()).sum();
    let depth = geometries.iter().map(|geometry| geometry.depth as u64).max().unwrap_or(1);
    dirty + nodes.min(depth * dirty + pinned(geometries)) + CLEAN_BLOCKS
}

/// Nodes that stay in the cache for ever, because catalog and extent tables hang below them, at most.
fn pinned(geometries: &[Geometry]) -> u64 {
    let leaves = |geometry: &Geometry| (geometry.catalog_leaves + geometry.extent_leaves).div_ceil(128) + 1;
    geometries.iter().map(|geometry| leaves(geometry) + geometry.depth as u64).sum()
}

/// Leaves that may be touched at a time with a cache of `blocks`: three quarters of what would just fit, or 0.
fn dirty_limit(geometries: &[Geometry], blocks: u64) -> u64 {
    let mut limit = blocks;
    // Bounded: halved every time.
    while limit >= MIN_DIRTY && cache_need(geometries, limit) > blocks {
        limit -= (limit / 8).max(1);
    }
    if limit < MIN_DIRTY { 0 } else { limit }
}

fn assemble<D: BlockDevice, A: MonotonicStore>(
    (devices, strangers): (Vec<Disk<D>>, Vec<D>),
    chosen: Chosen,
    keys: keystore::PoolKeys,
    random: Random,
    mut options: Options,
    anchoring: Anchoring<A>,
    found: &Scan,
) -> Result<Pool<D, A>, Error> {
    let Chosen { mut superblock, given, damaged } = chosen;
    options.reservation = options.reservation.max(MIN_RESERVATION);
    let geometries: Vec<Geometry> = (0..devices.len()).filter_map(|member| superblock.geometry(member)).collect();
    let have = options.cache_blocks;
    let limit = dirty_limit(&geometries, have as u64);
    let (replay_limit, replay_uncovered) = (u64::from(superblock.dirty_limit), superblock.uncovered_limit as usize);
    if limit == 0 {
        return Err(Error::CacheTooSmall { have, need: cache_need(&geometries, MIN_DIRTY) as usize });
    }
    (superblock.dirty_limit, superblock.uncovered_limit) = (limit as u32, options.uncovered_limit.max(MIN_UNCOVERED));
    let tree_blocks: u64 = geometries.iter().map(Geometry::tree_blocks).sum();
    let mut members: Vec<Member<D>> = Vec::with_capacity(devices.len());
    for (device, geometry) in devices.into_iter().zip(geometries) {
        members.push(Member::new(device, geometry));
    }
    let mut buffers = [Vec::new(), Vec::new()];
    for (member, buffers) in members.iter_mut().zip(&mut buffers).filter(|(member, _)| !member.lost) {
        for _ in 0..Log::reserved_buffers(&superblock) {
            let Some(buffer) = member.device.allocate(1) else { break };
            // What a record does not fill goes to the disk as it is.
            member.device.bytes(&buffer).fill(0);
            buffers.push(buffer);
        }
        // One is enough for the log; one more is needed for everything else.
        let spare = member.device.allocate(1).or_else(|| if buffers.len() > 1 { buffers.pop() } else { None });
        member.device.release(spare.ok_or(Error::NoBuffer)?);
    }
    let next = anchoring.held.version_limit;
    let mut pool = Pool {
        keys,
        members,
        given,
        strangers,
        random,
        options,
        anchoring,
        log: Log::new(&superblock, found.head, found.position, buffers),
        checkpoint: Checkpoint::new(&superblock),
        superblock,
        replay_limit,
        replay_uncovered,
        stopped: false,
        halt: Halt::default(),
        cache: Cache::new(tree_blocks as usize, have),
        volumes: (0..CATALOG_LEAVES as usize * RECORDS_PER_LEAF).map(|_| None).collect(),
        old_epochs: 0,
        versions: Versions { next, limit: next },
        requests: Requests::new(),
        runs: Runs::new(),
        jobs: Jobs::new(),
        batch: Batch::new(),
        data: VecDeque::with_capacity(MAX_RUNS * MAX_COPIES),
        unsettled: VecDeque::with_capacity(superblock.uncovered_limit as usize),
        flush: Flush::new(),
        commands: Commands::new(),
        walker: Walker::new(),
        resealed: Vec::new(),
        done: VecDeque::with_capacity(2 * MAX_REQUESTS),
        events: VecDeque::with_capacity(MAX_EVENTS),
        lost_events: 0,
        now_ms: 0,
        zero_budget: 0,
        tree_budget: 0,
        issue_budget: 0,
        moved: false,
        serving: false,
    };
    for member in (0..pool.members.len()).filter(|member| pool.members[*member].lost).collect::<Vec<_>>() {
        pool.report(Event::MemberLost { member });
    }
    for disk in (0..pool.given.len()).filter(|disk| matches!(pool.given[*disk], Seat::Stranger(_))).collect::<Vec<_>>()
    {
        pool.report(Event::NoMember { disk });
    }
    for (member, block) in damaged {
        pool.report(Event::SuperblockDamaged { member, block });
    }
    Ok(pool)
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// From a log that is believed to a pool that serves.
    fn recover(&mut self, found: &Scan, read_only: bool, idle: &mut impl FnMut() -> bool) -> Result<Recovery, Error> {
        let mut recovery = Recovery::default();
        self.load_tables(idle)?;
        let mut replayed = self.replay(found, &mut recovery, idle)?;
        // What the log gives back of a member that was there, its twin does not know.
        self.drop_ghosts();
        if read_only {
            self.resolve(replayed.candidates, &mut recovery, false, idle)?;
            (self.stopped, self.serving) = (true, true);
            return Ok(recovery);
        }
        self.can_begin_without(&mut replayed)?;
        self.fits_cache(&replayed)?;
        self.begin_incarnation(found, idle)?;
        self.resolve(replayed.candidates, &mut recovery, true, idle)?;
        self.wait_for_checkpoint(idle)?;
        self.anchor_recovery(idle)?;
        self.serving = true;
        self.begin_resync();
        Ok(recovery)
    }

    /// Whether what recovery has still to change fits into the cache beside what it has changed. If not, nothing was written yet.
    fn fits_cache(&self, replayed: &Replayed) -> Result<(), Error> {
        let geometries: Vec<Geometry> = self.members.iter().map(|member| member.geometry).collect();
        let fresh = |&(member, index): &(u8, u64)| {
            let number = self.tree_number(Position { member, level: 0, index });
            !self.cache.touches(number)
        };
        // A leaf with a covered and an uncovered statement counts once.
        let dirty = self.cache.touched() + replayed.leaves(&geometries).into_iter().filter(fresh).count();
        if cache_need(&geometries, dirty as u64) > self.options.cache_blocks as u64 {
            Err(self.too_small())
        } else {
            Ok(())
        }
    }

    /// The cache is too small for what the log says: how large it has to be for anything that this log can say.
    pub(super) fn too_small(&self) -> Error {
        let geometries: Vec<Geometry> = self.members.iter().map(|member| member.geometry).collect();
        let need = cache_need(&geometries, self.replay_limit.max(MIN_DIRTY)) as usize;
        Error::CacheTooSmall { have: self.options.cache_blocks, need }
    }

    /// Anchors that a new incarnation begins where the log ends, and reserves versions for it.
    fn begin_incarnation(&mut self, found: &Scan, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let held = self.anchoring.held.clone();
        let exhausted = Error::VersionsExhausted;
        // A rotation of the erase secret that was cut off behind its checkpoint is completed.
        let mut generations = self.volumes.iter().flatten().map(|volume| volume.record.epoch.generation);
        let current = held.secret.generation;
        let (secret, next_secret) = match held.next_secret.clone() {
            Some(next) if generations.clone().all(|of| of != current) => (next, None),
            // What a key is wrapped under is never dropped.
            Some(next) if generations.any(|of| of == next.generation) => (held.secret.clone(), Some(next)),
            _ => (held.secret.clone(), None),
        };
        let next = Anchored {
            secret,
            next_secret,
            incarnation: held.incarnation.checked_add(1).ok_or(exhausted)?,
            base: found.head,
            head: found.head,
            version_limit: held.version_limit.checked_add(self.options.reservation).ok_or(exhausted)?,
            ..held
        };
        self.give_anchor(next, idle)
    }

    /// Writes a record that names the checkpoint, and anchors it.
    fn anchor_recovery(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        self.wait_for_marker(idle)?;
        let next = self.next_anchored();
        self.give_anchor(next, idle)
    }

    fn give_anchor(&mut self, next: Anchored, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let failures = self.anchoring.failures;
        // Bounded by the caller's patience.
        while self.anchoring.is_busy() {
            self.poll_anchor();
            if self.anchoring.is_busy() && !idle() {
                return Err(Error::Silent);
            }
        }
        self.start_anchor(next);
        while self.anchoring.is_busy() {
            self.poll_anchor();
            if self.anchoring.is_busy() && !idle() {
                return Err(Error::Silent);
            }
        }
        let failure = self.events.iter().rev().find_map(|event| match event {
            Event::AnchorFailed(error) => Some(*error),
            _ => None,
        });
        match failure.filter(|_| self.anchoring.failures != failures) {
            Some(error) => Err(Error::Anchor(error)),
            None => Ok(()),
        }
    }
}
