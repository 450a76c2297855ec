//! Recovery: the tables, and what the log says beyond them.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;

use super::{
    Pool, Recovery,
    member::Disk,
    place::MAX_COPIES,
    scan::{Scan, Walk},
    volumes::{Physical, Volume},
};
use crate::{
    Error,
    record::{
        EXTENT_BLOCKS,
        catalog::{RECORD_BYTES, RECORDS_PER_LEAF, VolumeRecord},
        entry::Entry,
        geometry::{CATALOG_LEAVES, Geometry, METADATA_MEMBERS},
        log::{self, Address, Head, LogEntry, Statement},
        node::{FAN_OUT, Position, Slot},
    },
    seal::Sealer,
};

/// Times that what a mount depends on is read before it counts as unreadable.
const TABLE_READS: u32 = 16;

/// A statement about a block that may or may not have reached its disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) address: Address,
    pub(super) entry: Entry,
    /// Block of the log that holds the data, if the log does.
    pub(super) data: Option<u64>,
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

impl Replayed {
    /// Leaves that the candidates lie in: member, and index in its tree.
    pub(super) fn leaves(&self, geometries: &[Geometry]) -> Vec<(u8, u64)> {
        let leaf = |candidate: &Candidate| {
            let Address { member, block } = candidate.address;
            geometries.get(usize::from(member)).map(|geometry| (member, geometry.entry_leaf(block)))
        };
        let mut leaves: Vec<_> = self.candidates.iter().filter_map(leaf).collect();
        leaves.sort_unstable();
        leaves.dedup();
        leaves
    }
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
                match self.load_extents(member, leaf, idle) {
                    Err(Error::TreeMac { .. } | Error::Disk { .. }) if self.options.degraded => {
                        self.miss_extents(member, leaf)
                    }
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
            let top = Position { member: member as u8, level: 1, index: 0 };
            match self.insist_on_tree(top, idle) {
                Err(Error::TreeMac { .. } | Error::Disk { .. }) => self.miss_member(member),
                found => drop(found?),
            }
        }
        Ok(())
    }

    /// Cache slot of a tree block without which much is an error until the next mount: it is asked for a few times.
    fn insist_on_tree(&mut self, position: Position, idle: &mut impl FnMut() -> bool) -> Result<usize, Error> {
        let mut found = self.wait_for_tree(position, idle);
        for _ in 1..TABLE_READS {
            if matches!(found, Err(Error::Disk { .. })) {
                found = self.wait_for_tree(position, idle);
            }
        }
        found
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
        let slot = self.insist_on_tree(position, idle)?;
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
    pub(super) fn drop_ghosts(&mut self) {
        for member in (0..self.members.len()).filter(|member| self.is_stale(*member)).collect::<Vec<_>>() {
            for extent in 0..self.members[member].extents.len() {
                let at = Physical { member, extent };
                let owner = self.members[member].extents.get(extent).and_then(|owner| self.find(owner.volume));
                let mirrored = owner.is_some_and(|slot| self.volume(slot).copies() > 1);
                let all_seen = self.members.iter().enumerate().all(|(other, state)| other == member || !state.unknown);
                if mirrored && (all_seen || self.twin(at).is_some()) && !self.has_sibling(at) {
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
        let limit = self.replay_uncovered + 2 * log::MAX_ENTRIES;
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
            // Told by its twin only if this is one: whose the extent is, is known of members that are there, as far as it has an owner.
            // No two extents but twins are given back with versions that follow each other.
            Statement::Freed { version } if lost || self.is_mirrors(&entry.address) => (true, *version),
            Statement::Freed { .. } => return,
            Statement::Assigned(to) => {
                let slot = self.find(to.volume);
                let mirrored = slot.is_some_and(|slot| self.volume(slot).copies() == MAX_COPIES);
                replayed.needed |= lost && !mirrored;
                return;
            }
        };
        if lost { &mut replayed.missing } else { &mut replayed.there }.push(said);
    }

    /// Whether the extent at the address can be a copy of a mirror: it is one, or the table says already that it is nobody's.
    fn is_mirrors(&self, address: &Address) -> bool {
        let extents = &self.members[usize::from(address.member)].extents;
        let extent = u32::try_from(address.block / EXTENT_BLOCKS).ok();
        let owner = extent.and_then(|extent| extents.get(extent));
        let slot = owner.and_then(|owner| self.find(owner.volume));
        owner.is_none() || slot.is_some_and(|slot| self.volume(slot).copies() == MAX_COPIES)
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
            Statement::Freed { version } => {
                // Both copies are given back together: a cut may have left one of the two statements. The tables may say already who
                // has the place since: those are not meant.
                let had_it = |at: &Physical| self.members[at.member].extents.version(at.extent) < *version;
                let twin = self.twin(physical).filter(|twin| had_it(&physical) && had_it(twin));
                for at in twin.into_iter().chain([physical]) {
                    self.free_found(at);
                }
            }
        }
        Some(Ok(false))
    }

    /// The log says that the extent is given back.
    fn free_found(&mut self, physical: Physical) {
        let owner = self.members[physical.member].extents.get(physical.extent);
        if let Some(slot) = owner.and_then(|owner| self.find(owner.volume)) {
            self.note_move(slot, physical.member);
        }
        self.unmap(physical);
        self.members[physical.member].extents.set(physical.extent, None);
    }

    fn unmap(&mut self, physical: Physical) {
        let Some(owner) = self.members[physical.member].extents.get(physical.extent) else { return };
        let Some(slot) = self.find(owner.volume) else { return };
        let (volume, copy) = (self.volume_mut(slot), usize::from(owner.copy));
        if volume.physical(owner.index, copy) == Some(physical) {
            volume.set_physical(owner.index, copy, None);
        }
    }

    pub(super) fn set_leaf_entry(
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
}
