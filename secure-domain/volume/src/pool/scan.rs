//! How far the log goes, and whether the anchor believes it. Nothing is written.

use alloc::vec::Vec;

use block::{BlockDevice, MAX_REQUEST_BLOCKS};
use crypto::module::MacKey;

use super::{
    member::Disk,
    wait::{Action, perform},
};
use crate::{
    BLOCK_BYTES, Error,
    record::{
        LogPoint,
        anchored::Anchored,
        geometry::{METADATA_MEMBERS, RING_BLOCKS},
        log::{self, Head},
        superblock::Superblock,
    },
};

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
    pub(super) covered: u64,
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
pub(super) struct Walk {
    windows: [Window; METADATA_MEMBERS],
    /// The record behind which it stands, and the block of the log there.
    pub(super) point: LogPoint,
    pub(super) position: u64,
    /// Blocks that were not looked at.
    left: u64,
}

impl Walk {
    pub(super) fn new(superblock: &Superblock) -> Walk {
        Walk {
            windows: [(); METADATA_MEMBERS].map(|()| Window { bytes: Vec::new(), start: 0 }),
            point: superblock.log_start,
            position: superblock.log_position,
            left: superblock.log_blocks,
        }
    }

    /// The next record, from the first member that has it; `None` behind the last.
    pub(super) fn next<D: BlockDevice>(
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
