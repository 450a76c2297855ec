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
    FormatOptions, MAX_EVENTS, MAX_REQUESTS, MIN_RESERVATION, Options, Pool, Random, Recovery, Versions,
    anchoring::Anchoring,
    batch::Batch,
    cache::Cache,
    checkpoint::Checkpoint,
    command::Commands,
    flush::Flush,
    halt::Halt,
    job::Jobs,
    log::Log,
    member::{Disk, Member},
    place::{MAX_COPIES, MAX_RUNS, Runs},
    recover::{Scan, demand, judge, scan},
    request::Requests,
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
        superblock::{Found, MemberInfo, Superblock},
    },
};

/// Entries that may be logged and not covered: what recovery may have to look at.
const UNCOVERED_LIMIT: u32 = 4096;
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
    let chosen = choose(&mut members, root, options.degraded, idle)?;
    let superblock = chosen.superblock;
    let snapshot = anchor.read().map_err(Error::Anchor)?;
    if snapshot.record == Record::EMPTY {
        return Err(Error::AnchorForeign);
    }
    let anchored = Anchored::parse(&snapshot.record).ok_or(Error::AnchorRecord)?;
    if anchored.pool != superblock.pool {
        return Err(Error::AnchorForeign);
    }
    let demand = demand(&superblock, &anchored)?;
    let mut devices = in_order(members, &chosen.given, superblock.members().len());
    let keys = root.pool_keys(&superblock.pool).map_err(Error::Module)?;
    let found = scan(&mut devices, &superblock, keys.log(), &demand, idle)?;
    judge(&superblock, &anchored, &demand, &found)?;
    let read_only = options.read_only || superblock.is_read_only();
    let mut options = *options;
    options.reservation = options.reservation.max(MIN_RESERVATION);
    let anchoring = Anchoring::new(anchor, snapshot.counter, anchored);
    let mut pool = assemble(devices, chosen, keys, random, options, anchoring, &found)?;
    pool.load_tables(idle)?;
    let mut recovery = Recovery::default();
    let mut replayed = pool.replay(&found, &mut recovery, idle)?;
    if read_only {
        pool.resolve(replayed.candidates, &mut recovery, false, idle)?;
        (pool.stopped, pool.serving) = (true, true);
        return Ok((pool, recovery));
    }
    pool.can_begin_without(&mut replayed)?;
    pool.begin_incarnation(&found, idle)?;
    pool.resolve(replayed.candidates, &mut recovery, true, idle)?;
    pool.wait_for_checkpoint(idle)?;
    pool.anchor_recovery(idle)?;
    pool.serving = true;
    pool.begin_resync();
    Ok((pool, recovery))
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

/// The current superblock, and which disk is which member.
struct Chosen {
    superblock: Superblock,
    /// Member of each disk, in the order given.
    given: Vec<usize>,
    /// Superblock places that are damaged: disk and block.
    damaged: Vec<(usize, u64)>,
}

/// Finds the newest superblock of the pool that the disks are.
fn choose<D: BlockDevice>(
    disks: &mut [D],
    root: &RootKey,
    degraded: bool,
    idle: &mut impl FnMut() -> bool,
) -> Result<Chosen, Error> {
    if !(1..=MAX_MEMBERS).contains(&disks.len()) {
        return Err(Error::Members { given: disks.len() });
    }
    let mut damaged = Vec::new();
    let mut unread = [0u8; MAX_MEMBERS];
    let mut newest: Option<Found> = None;
    let mut found = Vec::with_capacity(disks.len());
    for (index, disk) in disks.iter_mut().enumerate() {
        let here = newest_of(disk, index, root, &mut damaged, &mut unread, idle)?;
        if newest.is_none_or(|newest| here.superblock.is_newer(&newest.superblock)) {
            newest = Some(here);
        }
        found.push(here);
    }
    let by_nobody = unread[..disks.len()].iter().fold(u8::MAX, |all, places| all & places);
    if by_nobody != 0 {
        let block = u64::from(by_nobody.trailing_zeros());
        return Err(Error::Disk { member: 0, block, error: block::Error::Io });
    }
    let superblock = newest.ok_or(Error::Members { given: 0 })?.superblock;
    let mut seen = [false; MAX_MEMBERS];
    for (index, here) in found.iter().enumerate() {
        let (a, b) = (&here.superblock, &superblock);
        if a.pool != b.pool || a.members() != b.members() || core::mem::replace(&mut seen[here.member], true) {
            return Err(Error::MemberSet { member: index });
        }
        let (have, need) = (disks[index].blocks(), superblock.members()[here.member].blocks);
        if have < need {
            return Err(Error::TooSmall { member: index, have, need });
        }
    }
    let metadata = &seen[..superblock.members().len().min(METADATA_MEMBERS)];
    let enough = degraded && metadata.contains(&true);
    if found.len() != superblock.members().len() && !enough {
        return Err(Error::MemberSet { member: found.len() });
    }
    Ok(Chosen { superblock, given: found.iter().map(|here| here.member).collect(), damaged })
}

/// The newest superblock of one disk, or what is wrong with the one that looks most like one.
fn newest_of<D: BlockDevice>(
    disk: &mut D,
    index: usize,
    root: &RootKey,
    damaged: &mut Vec<(usize, u64)>,
    unread: &mut [u8; MAX_MEMBERS],
    idle: &mut impl FnMut() -> bool,
) -> Result<Found, Error> {
    if disk.blocks() < RING_BLOCKS {
        return Err(Error::TooSmall { member: index, have: disk.blocks(), need: RING_BLOCKS });
    }
    let (mut newest, mut worst): (Option<Found>, _) = (None, Error::NotHaechi { member: index });
    for place in 0..RING_BLOCKS {
        let buffer = match perform(disk, index, place, Action::Read(1), idle) {
            Ok(buffer) => buffer,
            // The newest may lie there: if no other member has this place, that is not for us to guess.
            Err(error @ Error::Disk { .. }) => {
                (worst, _) = (error, damaged.push((index, place)));
                unread[index] |= 1 << place;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(buffer) = buffer else { continue };
        let parsed = Superblock::parse(index, disk.bytes(&buffer), root);
        disk.release(buffer);
        match parsed {
            Ok(Some(found)) if newest.is_none_or(|newest| found.superblock.is_newer(&newest.superblock)) => {
                newest = Some(found)
            }
            Ok(_) => {}
            // A newer version beside an older one is not damage but a disk of newer code; nor is it damage that nothing can be checked.
            Err(error @ (Error::Version { .. } | Error::Features { .. } | Error::Module(_))) => return Err(error),
            Err(error) => (worst, _) = (error, damaged.push((index, place))),
        }
    }
    newest.ok_or(worst)
}

/// The disks in the order of their member numbers.
fn in_order<D>(disks: Vec<D>, given: &[usize], members: usize) -> Vec<Disk<D>> {
    let mut places: Vec<Disk<D>> = (0..members).map(|_| Disk(None)).collect();
    disks.into_iter().zip(given).for_each(|(disk, member)| places[*member] = Disk(Some(disk)));
    places
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
    devices: Vec<Disk<D>>,
    chosen: Chosen,
    keys: keystore::PoolKeys,
    random: Random,
    options: Options,
    anchoring: Anchoring<A>,
    found: &Scan,
) -> Result<Pool<D, A>, Error> {
    let Chosen { mut superblock, given, damaged } = chosen;
    let geometries: Vec<Geometry> = (0..devices.len()).filter_map(|member| superblock.geometry(member)).collect();
    let have = options.cache_blocks;
    let limit = dirty_limit(&geometries, have as u64);
    let need = cache_need(&geometries, u64::from(superblock.dirty_limit).max(MIN_DIRTY)) as usize;
    if limit == 0 || need > have {
        return Err(Error::CacheTooSmall { have, need });
    }
    (superblock.dirty_limit, superblock.uncovered_limit) = (limit as u32, UNCOVERED_LIMIT);
    let tree_blocks: u64 = geometries.iter().map(Geometry::tree_blocks).sum();
    let mut members: Vec<Member<D>> = Vec::with_capacity(devices.len());
    for (device, geometry) in devices.into_iter().zip(geometries) {
        members.push(Member::new(device, geometry));
    }
    let mut buffers = [Vec::new(), Vec::new()];
    for (member, buffers) in members.iter_mut().zip(&mut buffers).filter(|(member, _)| !member.lost) {
        for _ in 0..Log::reserved_buffers(&superblock) {
            buffers.extend(member.device.allocate(1));
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
        random,
        options,
        anchoring,
        log: Log::new(&superblock, found.head, found.position, buffers),
        checkpoint: Checkpoint::new(&superblock),
        superblock,
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
        unsettled: VecDeque::with_capacity(superblock.uncovered_limit.min(UNCOVERED_LIMIT) as usize),
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
        moved: false,
        serving: false,
    };
    for member in (0..pool.members.len()).filter(|member| pool.members[*member].lost).collect::<Vec<_>>() {
        pool.report(Event::MemberLost { member });
    }
    for (member, block) in damaged {
        pool.report(Event::SuperblockDamaged { member, block });
    }
    Ok(pool)
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
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
