//! Recovery: how far the log goes, whether the anchor believes it, and what it says.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};
use crypto::module::MacKey;

use super::{
    NAMED_BLOCKS, Pool, Recovery,
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
        node::Position,
        superblock::Superblock,
    },
    seal::Sealer,
};

/// Times that a block which may be old or new is read before it counts as unreadable.
const MAX_READS: u32 = 8;

/// What the anchor demands of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// The point that the log must contain; `None`: the superblock is beyond it.
    point: Option<LogPoint>,
    /// Whether the log must end there: what follows belongs to a branch of history that was given up.
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
    let branch = demand.ends_there && demand.point != Some(found.head);
    if demand.point.is_some() && (!found.demand_met || branch) {
        return Err(rolled_back(superblock, found.head.seq, anchored));
    }
    if found.newer_checkpoint {
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
    disks: &mut [D],
    superblock: &Superblock,
    key: &MacKey,
    demand: &Demand,
    idle: &mut impl FnMut() -> bool,
) -> Result<Scan, Error> {
    let mut disks: Vec<&mut D> = disks.iter_mut().collect();
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
    while let Some((head, _)) = walk.next(&mut disks, superblock, key, idle)? {
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
        disks: &mut [&mut D],
        superblock: &Superblock,
        key: &MacKey,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Option<(Head, [u8; BLOCK_BYTES])>, Error> {
        let mut unread = None;
        if self.left == 0 {
            return Ok(None);
        }
        for (member, (disk, window)) in disks.iter_mut().zip(&mut self.windows).enumerate() {
            let Some(block) = window.block(*disk, member, self.position, superblock.log_blocks, idle)? else {
                unread = Some(Error::Disk { member, block: RING_BLOCKS + self.position, error: block::Error::Io });
                continue;
            };
            let Some((head, point)) = log::open(key, &self.point, block).map_err(Error::Module)? else { continue };
            let blocks = 1 + head.data_blocks as u64;
            if head.incarnation != superblock.incarnation || blocks > self.left {
                return Ok(None);
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

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Reads catalogs, keys and extent tables.
    pub(super) fn load_tables(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        for leaf in 0..CATALOG_LEAVES {
            self.load_catalog(leaf, idle)?;
        }
        self.count_old_epochs();
        for member in 0..self.members.len() {
            let geometry = self.members[member].geometry;
            for leaf in 0..geometry.extent_leaves {
                self.load_extents(member, leaf, idle)?;
            }
            for extent in 0..self.members[member].extents.len() {
                self.map_extent(Physical { member, extent })?;
            }
        }
        Ok(())
    }

    /// Reads a leaf of the catalog from the first member that has a good copy; a bad copy is written anew.
    fn load_catalog(&mut self, leaf: u64, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let mut loaded: Result<(), Error> = Err(Error::Members { given: 0 });
        for member in 0..self.members.len().min(METADATA_MEMBERS) {
            let position = Position { member: member as u8, level: 0, index: leaf };
            match self.wait_for_tree(position, idle) {
                Ok(slot) => {
                    self.pin_parent(position).map_err(|_| self.catalog_error(position))?;
                    if loaded.is_err() {
                        loaded = self.take_catalog(slot, leaf, position);
                    }
                }
                Err(error @ (Error::TreeMac { .. } | Error::Disk { .. })) if self.members.len() > 1 => {
                    self.wait_for_tree(Position { level: 1, index: leaf / 128, ..position }, idle)
                        .map_err(|_| error)?;
                    self.pin_parent(position).map_err(|_| error)?;
                    self.checkpoint.catalog_dirty[member] |= 1 << leaf;
                    if loaded == Err(Error::Members { given: 0 }) {
                        loaded = Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        loaded
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
    fn map_extent(&mut self, physical: Physical) -> Result<(), Error> {
        let Some(found) = self.members[physical.member].extents.get(physical.extent) else { return Ok(()) };
        let leaf = self.members[physical.member].geometry.extent_leaf(u64::from(physical.extent));
        let error = self.catalog_error(Position { member: physical.member as u8, level: 0, index: leaf });
        let slot = self.find(found.volume).ok_or(error)?;
        let volume = self.volume_mut(slot);
        let copy = usize::from(found.copy);
        if !volume.has(found.index, copy) || volume.physical(found.index, copy).is_some() {
            return Err(error);
        }
        volume.set_physical(found.index, copy, Some(physical));
        Ok(())
    }

    /// Goes through the log again: what is covered goes into the leaves, what is not comes back as candidates, in order.
    pub(super) fn replay(
        &mut self,
        found: &Scan,
        recovery: &mut Recovery,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Vec<Candidate>, Error> {
        let limit = self.log.uncovered_limit + 2 * log::MAX_ENTRIES;
        let superblock = self.superblock;
        let mut candidates = Vec::new();
        let mut walk = Walk::new(&superblock);
        while walk.point.seq < found.head.seq {
            let position = walk.position;
            let mut disks: Vec<&mut D> = self.members.iter_mut().map(|member| &mut member.device).collect();
            let next = walk.next(&mut disks, &superblock, self.keys.log(), idle)?;
            let cut_off = Error::LogTruncated { found: walk.point.seq, required: found.head.seq };
            let (head, block) = next.ok_or(cut_off)?;
            recovery.records += 1;
            recovery.statements += head.entries as u64;
            self.replay_record(&head, &block, position, found.covered, &mut candidates, idle)?;
            if candidates.len() > limit {
                return Err(Error::LogRecord { record: head.seq });
            }
        }
        Ok(candidates)
    }

    fn replay_record(
        &mut self,
        head: &Head,
        block: &[u8],
        position: u64,
        covered: u64,
        candidates: &mut Vec<Candidate>,
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
            let open = self.apply(&entry, head.seq <= covered, idle).ok_or(impossible)??;
            if let (true, Statement::Block(state)) = (open, entry.statement) {
                candidates.push(Candidate { address: entry.address, entry: state, data: has_data.then_some(data) });
            }
        }
        Ok(())
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
        match &entry.statement {
            Statement::Block(_) if !covered => return Some(Ok(true)),
            Statement::Block(state) => {
                if let Err(error) = self.set_leaf_entry(physical.member, block, state, idle) {
                    return Some(Err(error));
                }
            }
            Statement::Assigned(to) => {
                self.unmap(physical);
                let slot = self.find(to.volume)?;
                let (volume, copy) = (self.volume_mut(slot), usize::from(to.copy));
                if !volume.has(to.index, copy) {
                    return None;
                }
                volume.set_physical(to.index, copy, Some(physical));
                self.members[physical.member].extents.set(physical.extent, Some(to));
            }
            Statement::Freed { .. } => {
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
        let mut places = Vec::with_capacity(2);
        let newest = suspect.options[0].entry;
        for copy in 0..copies {
            let Some(at) = self.volume(suspect.volume).physical(spot.extent, copy) else { continue };
            let block = u64::from(at.extent) * EXTENT_BLOCKS + spot.within;
            let index = self.members[at.member].geometry.entry_leaf(block);
            let slot = self.wait_for_tree(Position { member: at.member as u8, level: 0, index }, idle)?;
            let floor = Entry::parse(self.cache.entry(slot, (block % 128) as usize));
            let address = Address { member: at.member as u8, block };
            suspect.options.push(Candidate { address, entry: floor.unwrap_or(Entry::Blank), data: None });
            places.push((at, block));
        }
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
        for member in 0..self.members.len().min(METADATA_MEMBERS) {
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
