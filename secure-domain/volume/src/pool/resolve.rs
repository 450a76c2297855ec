//! Blocks that were being written when the power went: old or new, as their tags say; torn ones, and copies that differ, are repaired.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};

use super::{
    NAMED_BLOCKS, Pool, Recovery,
    place::{MAX_COPIES, Place},
    recover::Candidate,
    volumes::Physical,
    wait::{Action, perform},
};
use crate::{
    BLOCK_BYTES, Error,
    record::{
        EXTENT_BLOCKS,
        entry::Entry,
        geometry::{METADATA_MEMBERS, RING_BLOCKS},
        log::Address,
        node::Position,
    },
};

/// Times that a block which may be old or new is read before it counts as unreadable.
const MAX_READS: u32 = 8;

/// Times that a copy is written before it counts as bad.
const MAX_WRITES: u32 = 16;

/// A block that was being written, with what it may hold: newest first, at last what it held before.
struct Suspect {
    options: Vec<Candidate>,
    /// Place of the volume in the catalog.
    volume: usize,
    block: u64,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
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
        let newest = suspect.options[0].entry;
        let places = self.places_of(suspect, idle)?;
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

    /// Where the copies of the block lie. What the newest of them held before is the last option.
    fn places_of(
        &mut self,
        suspect: &mut Suspect,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<Vec<(Physical, u64)>, Error> {
        let spot = self.volume(suspect.volume).spot(suspect.block);
        let (mut places, mut before) = (Vec::with_capacity(MAX_COPIES), Vec::with_capacity(MAX_COPIES));
        for copy in 0..self.volume(suspect.volume).copies() {
            let at = self.volume(suspect.volume).physical(spot.extent, copy);
            let Some(at) = at.filter(|at| !self.is_lost(at.member)) else { continue };
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
        Ok(places)
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
        for member in
            (0..self.members.len().min(METADATA_MEMBERS)).filter(|member| !self.is_lost(*member)).collect::<Vec<_>>()
        {
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
        let (mut kept, mut failed) = (false, None);
        for (at, block) in places {
            self.set_leaf_entry(at.member, *block, &candidate.entry, idle)?;
            let Some(good) = &good else { continue };
            let disk_block = self.members[at.member].geometry.data_start + block;
            if self.read_opening(suspect, &candidate.entry, at.member, disk_block, idle)?.is_some() {
                kept = true;
            } else if repair {
                match self.repair_block(at.member, disk_block, good, idle) {
                    Ok(()) => (kept, recovery.repaired) = (true, recovery.repaired + 1),
                    Err(error @ Error::Disk { .. }) => {
                        // The other one is needed until the mount's checkpoint holds both entries.
                        self.members[at.member].unwritten = self.log.durable().seq + 1;
                        failed = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // One copy that cannot be written is bad, and does not open; the other one is the block.
        failed.filter(|_| !kept).map_or(Ok(()), Err)
    }

    /// Writes what a copy should hold, trying a few times.
    fn repair_block(
        &mut self,
        member: usize,
        block: u64,
        good: &[u8; BLOCK_BYTES],
        idle: &mut impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let device = &mut self.members[member].device;
        let mut written = perform(device, member, block, Action::Write(good), idle);
        for _ in 1..MAX_WRITES {
            if matches!(written, Err(Error::Disk { .. })) {
                written = perform(device, member, block, Action::Write(good), idle);
            }
        }
        if written.is_err() {
            self.report(crate::Event::WriteFailed { member, block });
        }
        written.map(drop)
    }
}
