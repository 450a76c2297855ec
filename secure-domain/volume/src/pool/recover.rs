//! Recovery: how far the log goes, whether the anchor believes it, and what it says.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};
use crypto::module::MacKey;

use super::{
    NAMED_BLOCKS, Pool, Recovery,
    member::Disk,
    place::{MAX_COPIES, Place},
    volumes::{Physical, Volume},
    wait::{Action, perform},
};
use crate::{
    BLOCK_BYTES, Error,
    record::{
        EXTENT_BLOCKS, LogPoint,
        anchored::Anchored,
        catalog::{RECORD_BYTES, RECORDS_PER_LEAF, VolumeRecord},
        entry::Entry,
        geometry::{CATALOG_LEAVES, METADATA_MEMBERS, RING_BLOCKS},
        log::{self, Address, Head, LogEntry, Statement},
        node::{FAN_OUT, Position, Slot},
        superblock::Superblock,
    },
    seal::Sealer,
};

/// Times that a block which may be old or new is read before it counts as unreadable.
const MAX_READS: u32 = 8;

/// Times that a leaf of an extent table is read before it counts as unreadable.
const TABLE_READS: u32 = 16;

/// What the anchor demands of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// The point that the log must contain; `None`: the superblock is beyond it.
    point: Option<LogPoint>,
    /// Whether the log ends there, for us: what follows was given up by the mount that began there, and had not been seen by it
    /// (the log of a member that was away goes on, or it is a branch of history).
    ends_there: bool,
}

/// What a scan of the log found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// The last record.
    pub(super) head: LogPoint,
    /// Block of the log behind it.
    pub(super) position: u64,
    /// The data of every record up to this one is durable.
    covered: u64,
    records: u64,
    /// The demanded point, and the superblock's, were met.
    demand_met: bool,
    required_met: bool,
    /// A record names a checkpoint that is newer than the superblock.
    newer_checkpoint: bool,
}

/// Which part of the disk's history the anchor believes.
pub(super) fn demand(superblock: &Superblock, anchored: &Anchored) -> Result<Demand, Error> {
    let (disk, anchor) = (superblock.incarnation, anchored.incarnation);
    if disk > anchor {
        return Err(Error::AnchorOlder { disk, anchor });
    }
    if disk < anchor {
        // A mount was cut off before its first superblock: the disk is exactly where that incarnation began. Later
        // states of it were anchored or not; if one was, the disk is older.
        if anchored.head != anchored.base {
            return Err(rolled_back(superblock, superblock.log_start.seq, anchored));
        }
        return Ok(Demand { point: Some(anchored.base), ends_there: true });
    }
    let beyond = superblock.log_start.seq > anchored.head.seq;
    Ok(Demand { point: (!beyond).then_some(anchored.head), ends_there: false })
}

/// Whether the log reaches what superblock and anchor demand.
pub(super) fn judge(superblock: &Superblock, anchored: &Anchored, demand: &Demand, found: &Scan) -> Result<(), Error> {
    if demand.point.is_some() && !found.demand_met || found.newer_checkpoint {
        return Err(rolled_back(superblock, found.head.seq, anchored));
    }
    if !found.required_met {
        return Err(Error::LogTruncated { found: found.head.seq, required: superblock.log_required.seq });
    }
    Ok(())
}

fn rolled_back(superblock: &Superblock, seq: u64, anchored: &Anchored) -> Error {
    Error::RolledBack { disk: (superblock.incarnation, seq), anchor: (anchored.incarnation, anchored.head.seq) }
}

/// Reads the log of a member a stretch at a time.
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// Block `position` of the log, or `None` if it cannot be read.
    fn block<D: BlockDevice>(
        &mut self,
        disk: &mut D,
        member: usize,
        position: u64,
        log_blocks: u64,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Option<&[u8]>, Error> {
        let held = (self.bytes.len() / BLOCK_BYTES) as u64;
        if !(self.start..self.start + held).contains(&position) {
            self.bytes.clear();
            self.start = position;
            let most = (log_blocks - position).min(MAX_REQUEST_BLOCKS as u64) as usize;
            for blocks in [most, 1] {
                match perform(disk, member, RING_BLOCKS + position, Action::Read(blocks), idle) {
                    Ok(Some(buffer)) => {
                        let take = buffer.blocks().min(blocks) * BLOCK_BYTES;
                        self.bytes.extend_from_slice(&disk.bytes(&buffer)[..take]);
                        disk.release(buffer);
                        break;
                    }
                    // A bad block further on must not hide this one.
                    Ok(None) | Err(Error::Disk { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let at = (position - self.start) as usize * BLOCK_BYTES;
        Ok(self.bytes.get(at..at + BLOCK_BYTES))
    }
}

/// Goes through the log from the superblock's start as far as its chain verifies. Bounded: no block is looked at twice.
pub(super) fn scan<D: BlockDevice>(
    disks: &mut [Disk<D>],
    superblock: &Superblock,
    key: &MacKey,
    demand: &Demand,
    idle: &mut impl FnMut() -> bool,
) -> Result<Scan, Error> {
    let mut disks: Vec<&mut Disk<D>> = disks.iter_mut().collect();
    let mut walk = Walk::new(superblock);
    let mut found = Scan {
        head: superblock.log_start,
        position: superblock.log_position,
        covered: superblock.log_start.seq,
        records: 0,
        demand_met: demand.point == Some(superblock.log_start),
        required_met: superblock.log_required == superblock.log_start,
        newer_checkpoint: false,
    };
    while !(demand.ends_there && found.demand_met) {
        let Some((head, _)) = walk.next(&mut disks, superblock, key, idle)? else { break };
        // The difference of two numbers that are close to each other, whatever their high bits.
        found.newer_checkpoint |= (head.checkpoint.wrapping_sub(superblock.checkpoint as u16) as i16) > 0;
        found.head = walk.point;
        found.position = walk.position;
        found.covered = found.covered.max(head.covered);
        found.records += 1;
        found.demand_met |= demand.point == Some(walk.point);
        found.required_met |= superblock.log_required == walk.point;
    }
    Ok(found)
}

/// A way along the log.
struct Walk {
    windows: [Window; METADATA_MEMBERS],
    /// The record behind which it stands, and the block of the log there.
    point: LogPoint,
    position: u64,
    /// Blocks that were not looked at.
    left: u64,
}

impl Walk {
    fn new(superblock: &Superblock) -> Walk {
        Walk {
            windows: [(); METADATA_MEMBERS].map(|()| Window { bytes: Vec::new(), start: 0 }),
            point: superblock.log_start,
            position: superblock.log_position,
            left: superblock.log_blocks,
        }
    }

    /// The next record, from the first member that has it; `None` behind the last.
    fn next<D: BlockDevice>(
        &mut self,
        disks: &mut [&mut Disk<D>],
        superblock: &Superblock,
        key: &MacKey,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Option<(Head, [u8; BLOCK_BYTES])>, Error> {
        let mut unread = None;
        if self.left == 0 {
            return Ok(None);
        }
        for (member, (disk, window)) in disks.iter_mut().zip(&mut self.windows).enumerate() {
            if disk.is_gone() {
                continue;
            }
            let Some(block) = window.block(*disk, member, self.position, superblock.log_blocks, idle)? else {
                unread = Some(Error::Disk { member, block: RING_BLOCKS + self.position, error: block::Error::Io });
                continue;
            };
            let Some((head, point)) = log::open(key, &self.point, block).map_err(Error::Module)? else { continue };
            let blocks = 1 + head.data_blocks as u64;
            // A member that was away may have gone on from here in an incarnation that ended.
            if head.incarnation != superblock.incarnation || blocks > self.left {
                continue;
            }
            let mut bytes = [0; BLOCK_BYTES];
            bytes.copy_from_slice(block);
            self.left -= blocks;
            self.point = point;
            self.position = (self.position + blocks) % superblock.log_blocks;
            return Ok(Some((head, bytes)));
        }
        // A log whose next block cannot be read may go on: that is not for us to guess.
        unread.map_or(Ok(None), Err)
    }
}

/// A statement about a block that may or may not have reached its disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    address: Address,
    entry: Entry,
    /// Block of the log that holds the data, if the log does.
    data: Option<u64>,
}

/// What going through the log again has found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) candidates: Vec<Candidate>,
    /// What is said about blocks and extents of members that are not there, and of the others: whether it is given back, and its
    /// version. Kept only if a member is not there.
    missing: Vec<(bool, u64)>,
    there: Vec<(bool, u64)>,
    /// An extent of a member that is not there was given to a volume with one copy.
    needed: bool,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Reads catalogs, keys and extent tables.
    pub(super) fn load_tables(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        self.lose_unreadable(idle)?;
        for leaf in 0..CATALOG_LEAVES {
            self.load_catalog(leaf, idle)?;
        }
        self.count_old_epochs();
        for member in (0..self.members.len()).filter(|member| !self.is_lost(*member)).collect::<Vec<_>>() {
            for leaf in 0..self.members[member].geometry.extent_leaves {
                let mut loaded = self.load_extents(member, leaf, idle);
                // Without it much is an error until the next mount, so it is asked for a few times.
                for _ in 1..TABLE_READS {
                    if matches!(loaded, Err(Error::Disk { .. })) {
                        loaded = self.load_extents(member, leaf, idle);
                    }
                }
                match loaded {
                    Err(Error::TreeMac { .. } | Error::Disk { .. }) => self.miss_extents(member, leaf),
                    loaded => loaded?,
                }
            }
        }
        for member in 0..self.members.len() {
            self.checkpoint.stale |= u8::from(self.members[member].unknown) << member;
        }
        // Whoever may have missed something comes last: what the others say counts.
        for stale in [false, true] {
            for member in (0..self.members.len()).filter(|member| self.is_stale(*member) == stale).collect::<Vec<_>>() {
                for extent in 0..self.members[member].extents.len() {
                    self.map_extent(Physical { member, extent }, stale)?;
                }
            }
        }
        self.drop_ghosts();
        Ok(())
    }

    /// A member whose tree does not even verify at its top, because it is broken or an older image of itself, counts as missing where
    /// members may be.
    fn lose_unreadable(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        for member in 0..self.members.len() {
            if !self.options.degraded || self.is_lost(member) {
                continue;
            }
            match self.wait_for_tree(Position { member: member as u8, level: 1, index: 0 }, idle) {
                Err(Error::TreeMac { .. } | Error::Disk { .. }) => self.miss_member(member),
                found => drop(found?),
            }
        }
        Ok(())
    }

    fn miss_member(&mut self, member: usize) {
        (self.members[member].lost, self.members[member].unknown) = (true, true);
        self.report(crate::Event::MemberLost { member });
    }

    /// Reads a leaf of the catalog from the first member that has a good copy; a bad copy is written anew.
    fn load_catalog(&mut self, leaf: u64, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let (mut newest, mut bad) = (None, None);
        let metadata = self.members.len().min(METADATA_MEMBERS);
        for member in 0..metadata {
            if self.is_lost(member) {
                bad = Some(Error::MemberSet { member: self.given.len() });
                continue;
            }
            match self.look_at_catalog(member, leaf, idle)? {
                Ok(stamp) if newest.is_none_or(|(newest, _)| stamp > newest) => newest = Some((stamp, member)),
                Ok(_) => {}
                Err(error) => bad = Some(error),
            }
        }
        // What a member that was away says may be old, unless the other one says so too.
        let Some((_, member)) = newest.filter(|(_, member)| bad.is_none() || !self.is_stale(*member)) else {
            return Err(bad.unwrap_or(Error::MemberSet { member: self.given.len() }));
        };
        for other in (0..metadata).filter(|other| *other != member && self.superblock.stale != 0) {
            self.checkpoint.catalog_dirty[other] |= 1 << leaf;
        }
        let position = Position { member: member as u8, level: 0, index: leaf };
        let slot = self.wait_for_tree(position, idle)?;
        self.take_catalog(slot, leaf, position)
    }

    /// The stamp of a member's copy of a catalog leaf: of all copies the one with the greatest is the newest. `Ok(Err(..))`: this copy is
    /// bad, and is written anew.
    fn look_at_catalog(
        &mut self,
        member: usize,
        leaf: u64,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Result<u64, Error>, Error> {
        let position = Position { member: member as u8, level: 0, index: leaf };
        match self.wait_for_tree(position, idle) {
            Ok(slot) => {
                self.pin_parent(position).map_err(|_| self.catalog_error(position))?;
                let parent = self.cache.parent(slot).ok_or(self.catalog_error(position))?;
                Ok(Ok(Slot::parse(self.cache.entry(parent, (leaf % FAN_OUT) as usize)).stamp))
            }
            Err(error @ (Error::TreeMac { .. } | Error::Disk { .. })) if self.members.len() > 1 => {
                let parent = Position { level: 1, index: leaf / FAN_OUT, ..position };
                self.wait_for_tree(parent, idle).map_err(|_| error)?;
                self.pin_parent(position).map_err(|_| error)?;
                self.checkpoint.catalog_dirty[member] |= 1 << leaf;
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    fn catalog_error(&self, position: Position) -> Error {
        let member = usize::from(position.member);
        Error::Catalog { member, block: self.members[member].geometry.tree_block(0, position.index, 0) }
    }

    fn take_catalog(&mut self, slot: usize, leaf: u64, position: Position) -> Result<(), Error> {
        let bytes = *self.cache.bytes(slot);
        for (at, record) in bytes.chunks_exact(RECORD_BYTES).enumerate() {
            let record = VolumeRecord::parse(record).map_err(|_| self.catalog_error(position))?;
            let Some(record) = record else { continue };
            if self.find(record.number).is_some() || record.number >= self.superblock.next_volume {
                return Err(self.catalog_error(position));
            }
            let volume = self.unwrap_volume(record)?;
            self.volumes[leaf as usize * RECORDS_PER_LEAF + at] = Some(volume);
        }
        Ok(())
    }

    /// A volume with its keys.
    fn unwrap_volume(&self, record: VolumeRecord) -> Result<Volume, Error> {
        let number = record.number;
        let held = &self.anchoring.held;
        let sealer = |epoch: &crate::record::catalog::Epoch| {
            let secrets = core::iter::once(&held.secret).chain(held.next_secret.as_ref());
            let secret = secrets.into_iter().find(|secret| secret.generation == epoch.generation);
            let erased = Error::KeyErased { volume: number };
            let kek = self.keys.kek(&secret.ok_or(erased)?.bytes).map_err(Error::Module)?;
            let key = epoch.unwrap(number, &kek).map_err(|error| Error::of_mac(error, erased))?;
            Sealer::new(self.keys.module(), number, epoch.number, epoch.suite, &key).map_err(|error| match error {
                crypto::Error::NotApproved => Error::NotApproved { volume: number, suite: epoch.suite },
                error => Error::Module(error),
            })
        };
        let (current, old) = (sealer(&record.epoch)?, record.old.as_ref().map(sealer).transpose()?);
        Ok(Volume::new(record, current, old))
    }

    fn load_extents(&mut self, member: usize, leaf: u64, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let index = self.members[member].geometry.catalog_leaves + leaf;
        let position = Position { member: member as u8, level: 0, index };
        let slot = self.wait_for_tree(position, idle)?;
        self.pin_parent(position).map_err(|_| self.catalog_error(position))?;
        let error = self.catalog_error(position);
        self.members[member].extents.load(leaf as usize, self.cache.bytes(slot)).map_err(|_| error)
    }

    /// Puts an extent into its volume's map.
    fn map_extent(&mut self, physical: Physical, stale: bool) -> Result<(), Error> {
        let Some(found) = self.members[physical.member].extents.get(physical.extent) else { return Ok(()) };
        let leaf = self.members[physical.member].geometry.extent_leaf(u64::from(physical.extent));
        let error = self.catalog_error(Position { member: physical.member as u8, level: 0, index: leaf });
        let copy = usize::from(found.copy);
        let is_good = |slot: &usize| {
            let volume = self.volume(*slot);
            volume.has(found.index, copy) && volume.physical(found.index, copy).is_none()
        };
        let Some(slot) = self.find(found.volume).filter(is_good) else {
            if !stale {
                return Err(error);
            }
            self.members[physical.member].extents.set(physical.extent, None);
            return Ok(());
        };
        let volume = self.volume_mut(slot);
        volume.set_physical(found.index, copy, Some(physical));
        Ok(())
    }

    /// A leaf of an extent table cannot be had: whose its extents are is not known.
    fn miss_extents(&mut self, member: usize, leaf: u64) {
        self.members[member].extents.hide(leaf as usize);
        self.members[member].unknown = true;
    }

    /// Whether the other copy of the extent was assigned together with this one: then their versions follow each other.
    fn has_sibling(&self, at: Physical) -> bool {
        let version = |at: Physical| self.members[at.member].extents.version(at.extent);
        self.twin(at).is_some_and(|twin| version(twin).abs_diff(version(at)) == 1)
    }

    /// A copy of a mirrored extent on a stale member whose twin is none, or another one than at its time, was given back while the
    /// member was away.
    fn drop_ghosts(&mut self) {
        for member in (0..self.members.len()).filter(|member| self.is_stale(*member)).collect::<Vec<_>>() {
            for extent in 0..self.members[member].extents.len() {
                let at = Physical { member, extent };
                let owner = self.members[member].extents.get(extent).and_then(|owner| self.find(owner.volume));
                let mirrored = owner.is_some_and(|slot| self.volume(slot).copies() > 1);
                let all_seen = self.members.iter().enumerate().all(|(other, state)| other == member || !state.unknown);
                if mirrored && all_seen && !self.has_sibling(at) {
                    self.unmap(at);
                    self.members[member].extents.set(extent, None);
                }
            }
        }
    }

    /// Goes through the log again: what is covered goes into the leaves, what is not comes back as candidates, in order. What concerns
    /// members that are not there comes back as well.
    pub(super) fn replay(
        &mut self,
        found: &Scan,
        recovery: &mut Recovery,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Replayed, Error> {
        let limit = self.log.uncovered_limit + 2 * log::MAX_ENTRIES;
        let superblock = self.superblock;
        let mut replayed = Replayed::default();
        let mut walk = Walk::new(&superblock);
        // Bounded: every turn takes a record.
        while walk.point.seq < found.head.seq {
            let position = walk.position;
            let mut disks: Vec<&mut Disk<D>> = self.members.iter_mut().map(|member| &mut member.device).collect();
            let next = walk.next(&mut disks, &superblock, self.keys.log(), idle)?;
            let cut_off = Error::LogTruncated { found: walk.point.seq, required: found.head.seq };
            let (head, block) = next.ok_or(cut_off)?;
            recovery.records += 1;
            recovery.statements += head.entries as u64;
            self.replay_record(&head, &block, position, found.covered, &mut replayed, idle)?;
            if replayed.candidates.len() > limit {
                return Err(Error::LogRecord { record: head.seq });
            }
        }
        Ok(replayed)
    }

    fn replay_record(
        &mut self,
        head: &Head,
        block: &[u8],
        position: u64,
        covered: u64,
        replayed: &mut Replayed,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let impossible = Error::LogRecord { record: head.seq };
        let mut data = position;
        for bytes in log::entries(head, block) {
            let entry = LogEntry::parse(bytes).ok_or(impossible)?;
            let sealed = matches!(entry.statement, Statement::Block(Entry::Sealed { .. }));
            let has_data = sealed && head.data_blocks != 0;
            if has_data {
                data = (data + 1) % self.superblock.log_blocks;
            }
            let lost = self.members.get(usize::from(entry.address.member)).ok_or(impossible)?.lost;
            if self.members.iter().any(|member| member.lost) {
                self.note_statement(&entry, lost, replayed);
            }
            if lost {
                continue;
            }
            let open = self.apply(&entry, head.seq <= covered, idle).ok_or(impossible)??;
            if let (true, Statement::Block(state)) = (open, entry.statement) {
                let data = has_data.then_some(data);
                replayed.candidates.push(Candidate { address: entry.address, entry: state, data });
            }
        }
        Ok(())
    }

    /// Keeps in mind what is said about members that are not there, and by which the others know the same.
    fn note_statement(&self, entry: &LogEntry, lost: bool, replayed: &mut Replayed) {
        let said = match &entry.statement {
            Statement::Block(state) => (false, state.version()),
            Statement::Freed { version } => (true, *version),
            Statement::Assigned(to) => {
                let slot = self.find(to.volume);
                let mirrored = slot.is_some_and(|slot| self.volume(slot).copies() == MAX_COPIES);
                replayed.needed |= lost && !mirrored;
                return;
            }
        };
        if lost { &mut replayed.missing } else { &mut replayed.there }.push(said);
    }

    /// Whether writing may begin though members are not there, or have missed something: only if that is one member, and the log says
    /// nothing about it that its mirrors do not know. It would be lost with the checkpoint.
    pub(super) fn can_begin_without(&self, replayed: &mut Replayed) -> Result<(), Error> {
        let stale = self.superblock.stale | self.checkpoint.stale;
        if stale.count_ones() > 1 {
            return Err(Error::MembersStale { stale });
        }
        replayed.there.sort_unstable();
        // Both copies of a block have one version; those of an extent that is given back have versions that follow each other.
        let knows = |said: &(bool, u64)| replayed.there.binary_search(said).is_ok();
        let is_mirrored = |&(freed, version): &(bool, u64)| match freed {
            false => knows(&(false, version)),
            true => knows(&(true, version.wrapping_sub(1))) || knows(&(true, version.wrapping_add(1))),
        };
        let needed = replayed.needed || !replayed.missing.iter().all(is_mirrored);
        let missing = self.members.iter().position(|member| member.lost);
        missing.filter(|_| needed).map_or(Ok(()), |member| Err(Error::MemberNeeded { member }))
    }

    /// What an entry of the log says becomes true. `Some(Ok(true))`: only if the block says so too. `None`: it is impossible.
    fn apply(
        &mut self,
        entry: &LogEntry,
        covered: bool,
        idle: &mut impl FnMut() -> bool,
    ) -> Option<Result<bool, Error>> {
        let Address { member, block } = entry.address;
        let extents = self.members.get(usize::from(member))?.extents.len();
        let physical = Physical { member: usize::from(member), extent: u32::try_from(block / EXTENT_BLOCKS).ok()? };
        if physical.extent >= extents {
            return None;
        }
        if self.members[physical.member].extents.is_hidden(physical.extent) {
            let leaf = self.members[physical.member].geometry.extent_leaf(u64::from(physical.extent));
            return Some(Err(self.damage(Position { member, level: 0, index: leaf })));
        }
        match &entry.statement {
            Statement::Block(_) if !covered => return Some(Ok(true)),
            // It may not have got there: whether it has is found out from the other copy.
            Statement::Block(_) if self.is_stale(physical.member) && self.twin(physical).is_some() => {}
            Statement::Block(state) => {
                if let Err(error) = self.set_leaf_entry(physical.member, block, state, idle) {
                    return Some(Err(error));
                }
            }
            Statement::Assigned(to) => {
                self.unmap(physical);
                let slot = self.find(to.volume)?;
                self.note_move(slot, physical.member);
                let (volume, copy) = (self.volume_mut(slot), usize::from(to.copy));
                if !volume.has(to.index, copy) {
                    return None;
                }
                volume.set_physical(to.index, copy, Some(physical));
                self.members[physical.member].extents.set(physical.extent, Some(to));
            }
            Statement::Freed { .. } => {
                let owner = self.members[physical.member].extents.get(physical.extent);
                if let Some(slot) = owner.and_then(|owner| self.find(owner.volume)) {
                    self.note_move(slot, physical.member);
                }
                self.unmap(physical);
                self.members[physical.member].extents.set(physical.extent, None);
            }
        }
        Some(Ok(false))
    }

    fn unmap(&mut self, physical: Physical) {
        let Some(owner) = self.members[physical.member].extents.get(physical.extent) else { return };
        let Some(slot) = self.find(owner.volume) else { return };
        let (volume, copy) = (self.volume_mut(slot), usize::from(owner.copy));
        if volume.physical(owner.index, copy) == Some(physical) {
            volume.set_physical(owner.index, copy, None);
        }
    }

    fn set_leaf_entry(
        &mut self,
        member: usize,
        block: u64,
        entry: &Entry,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let index = self.members[member].geometry.entry_leaf(block);
        let slot = self.wait_for_tree(Position { member: member as u8, level: 0, index }, idle)?;
        self.cache.set_entry(slot, (block % 128) as usize, &entry.encode());
        Ok(())
    }

    /// Finds out for every block that was being written what it holds. If `repair`, copies that hold something else are rewritten.
    pub(super) fn resolve(
        &mut self,
        candidates: Vec<Candidate>,
        recovery: &mut Recovery,
        repair: bool,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let mut blocks: Vec<(usize, u64, usize)> = Vec::with_capacity(candidates.len());
        for (order, candidate) in candidates.iter().enumerate() {
            let Address { member, block } = candidate.address;
            let physical = Physical { member: usize::from(member), extent: (block / EXTENT_BLOCKS) as u32 };
            // Of an extent that was given back meanwhile nothing is left to tell.
            let Some(owner) = self.members[physical.member].extents.get(physical.extent) else { continue };
            let Some(slot) = self.find(owner.volume) else { continue };
            blocks.push((slot, self.volume(slot).block_at(owner.index, block % EXTENT_BLOCKS), order));
        }
        blocks.sort_unstable();
        let mut block = Suspect { options: Vec::new(), volume: 0, block: 0 };
        for group in blocks.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            block.options.clear();
            (block.volume, block.block) = (group[0].0, group[0].1);
            block.options.extend(group.iter().rev().map(|&(_, _, order)| candidates[order]));
            self.resolve_block(&mut block, recovery, repair, idle)?;
        }
        Ok(())
    }

    fn resolve_block(
        &mut self,
        suspect: &mut Suspect,
        recovery: &mut Recovery,
        repair: bool,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        recovery.examined += 1;
        let spot = self.volume(suspect.volume).spot(suspect.block);
        let copies = self.volume(suspect.volume).copies();
        let (mut places, mut before) = (Vec::with_capacity(2), Vec::with_capacity(2));
        let newest = suspect.options[0].entry;
        for copy in 0..copies {
            let Some(at) = self.volume(suspect.volume).physical(spot.extent, copy) else { continue };
            if self.is_lost(at.member) {
                continue;
            }
            let block = u64::from(at.extent) * EXTENT_BLOCKS + spot.within;
            let index = self.members[at.member].geometry.entry_leaf(block);
            let slot = self.wait_for_tree(Position { member: at.member as u8, level: 0, index }, idle)?;
            let entry = self.entry_at(&Place::new(at, spot.within, slot), 0).unwrap_or(Entry::Blank);
            let address = Address { member: at.member as u8, block };
            before.push(Candidate { address, entry, data: None });
            places.push((at, block));
        }
        // A copy that is behind is no candidate: what it holds was overwritten elsewhere.
        suspect.options.extend(before.into_iter().max_by_key(|candidate| candidate.entry.version()));
        for option in 0..suspect.options.len() {
            let candidate = suspect.options[option];
            let Some(good) = self.holds(suspect, &candidate, &places, idle)? else { continue };
            *(if candidate.entry == newest { &mut recovery.new } else { &mut recovery.old }) += 1;
            return self.settle_block(suspect, &candidate, &places, good, recovery, repair, idle);
        }
        recovery.bad += 1;
        if recovery.bad_blocks.len() < NAMED_BLOCKS {
            recovery.bad_blocks.push((self.volume(suspect.volume).record.number, suspect.block));
        }
        for (at, block) in places {
            self.set_leaf_entry(at.member, block, &newest, idle)?;
        }
        Ok(())
    }

    /// Whether the block is as the candidate says: `None` it is not; `Some(None)` it is zeros; `Some(Some(..))` these sealed bytes are
    /// what it holds, in some copy or in the log.
    #[allow(clippy::type_complexity)]
    fn holds(
        &mut self,
        suspect: &Suspect,
        candidate: &Candidate,
        places: &[(Physical, u64)],
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Option<Option<[u8; BLOCK_BYTES]>>, Error> {
        let Entry::Sealed { version, .. } = candidate.entry else { return Ok(Some(None)) };
        let assigned = places.iter().map(|(at, _)| self.members[at.member].extents.version(at.extent)).min();
        if assigned.is_some_and(|assigned| version < assigned) {
            return Ok(Some(None));
        }
        for (at, block) in places {
            let disk_block = self.members[at.member].geometry.data_start + block;
            if let Some(bytes) = self.read_opening(suspect, &candidate.entry, at.member, disk_block, idle)? {
                return Ok(Some(Some(bytes)));
            }
        }
        let Some(position) = candidate.data else { return Ok(None) };
        for member in (0..self.members.len().min(METADATA_MEMBERS)).filter(|member| !self.is_lost(*member)).collect::<Vec<_>>() {
            if let Some(bytes) = self.read_opening(suspect, &candidate.entry, member, RING_BLOCKS + position, idle)? {
                return Ok(Some(Some(bytes)));
            }
        }
        Ok(None)
    }

    /// The block of the disk, if it opens with this entry; one that cannot be read does not.
    fn read_opening(
        &mut self,
        suspect: &Suspect,
        entry: &Entry,
        member: usize,
        block: u64,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Option<[u8; BLOCK_BYTES]>, Error> {
        let Entry::Sealed { version, epoch, tag } = *entry else { return Ok(None) };
        let device = &mut self.members[member].device;
        let mut buffer: Option<Buffer> = None;
        for _ in 0..MAX_READS {
            match perform(device, member, block, Action::Read(1), idle) {
                Ok(found) => buffer = found,
                // What is concluded from a block that cannot be read may be wrong: it is asked for a few times.
                Err(Error::Disk { .. }) => continue,
                Err(error) => return Err(error),
            }
            break;
        }
        let Some(buffer) = buffer else { return Ok(None) };
        let mut sealed = [[0; BLOCK_BYTES]];
        sealed[0].copy_from_slice(device.bytes(&buffer));
        device.release(buffer);
        let Some(sealer) = self.volume(suspect.volume).sealer_of(epoch) else { return Ok(None) };
        let (mut plain, mut good) = ([[0; BLOCK_BYTES]], [false]);
        let (nonces, aads) = ([sealer.nonce(version)], [sealer.aad(suspect.block)]);
        sealer.open(&nonces, &aads, &sealed, &mut plain, &[tag], &mut good).map_err(Error::Module)?;
        Ok(good[0].then_some(sealed[0]))
    }

    /// Every copy of the block gets the entry; those that do not hold it get the bytes too.
    #[allow(clippy::too_many_arguments)]
    fn settle_block(
        &mut self,
        suspect: &Suspect,
        candidate: &Candidate,
        places: &[(Physical, u64)],
        good: Option<[u8; BLOCK_BYTES]>,
        recovery: &mut Recovery,
        repair: bool,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        for (at, block) in places {
            self.set_leaf_entry(at.member, *block, &candidate.entry, idle)?;
            let Some(good) = &good else { continue };
            let disk_block = self.members[at.member].geometry.data_start + block;
            let held = self.read_opening(suspect, &candidate.entry, at.member, disk_block, idle)?.is_some();
            if !held && repair {
                let device = &mut self.members[at.member].device;
                perform(device, at.member, disk_block, Action::Write(good), idle)?;
                recovery.repaired += 1;
            }
        }
        Ok(())
    }
}

/// A block that was being written, with what it may hold: newest first, at last what it held before.
struct Suspect {
    options: Vec<Candidate>,
    /// Place of the volume in the catalog.
    volume: usize,
    block: u64,
}
