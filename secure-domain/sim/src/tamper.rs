//! The adversary: whoever has the powered-off disks in his hands, or writes to them while they are served.
//!
//! He knows every image that the disks ever held and where each part of the format lies; he has no key, and he cannot set the
//! anchor back (that he tries it all the same tells what the engine can see of it).

use anchor::Snapshot;
use volume::record::geometry::Geometry;

use crate::{
    content::SECTOR_BYTES,
    media::{self, Cell, Image},
    rng::Rng,
};

/// Disks and anchor as they once were.
#[derive(Clone, Debug)]
pub struct Past {
    /// The image of each member.
    pub images: Vec<Image>,
    /// The anchor.
    pub anchor: Snapshot,
}

/// What an adversary does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tamper {
    /// Changes a bit of a block that is not zeros.
    FlipBit(Part),
    /// Exchanges two blocks, on the same member or another.
    Swap(Part),
    /// Copies a block over another one.
    Copy(Part),
    /// Overwrites a block with zeros: forgets it, discards it.
    Zero(Part),
    /// Overwrites a block with noise.
    Noise(Part),
    /// Overwrites a sector with what it once was.
    ReplaySector(Part),
    /// Puts back a block as it once was.
    Replay(Part),
    /// Puts back a whole part of every member as it once was.
    ReplayPart(Part),
    /// Puts back all but this part of every member as it once was.
    ReplayAllBut(Part),
    /// Puts back one member as it once was.
    ReplayMember,
    /// Puts back every member as it once was.
    ReplayDisks,
    /// Puts back the anchor as it once was.
    ReplayAnchor,
    /// Cuts the log off at a block.
    TruncateLog,
    /// Exchanges two members.
    SwapMembers,
    /// Says of an entry of the entry table that its block is zeros, or was never written.
    ForgeDiscard,
}

/// A part of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The superblocks.
    Ring,
    /// The log.
    Log,
    /// The nodes of the tree above the leaves, both places.
    Nodes,
    /// The leaves: catalog, extent table, entry table; both places.
    Leaves,
    /// The sealed blocks.
    Data,
}

use Part::{Data, Leaves, Log, Nodes, Ring};

impl Part {
    const ALL: [Part; 5] = [Ring, Log, Nodes, Leaves, Data];

    /// Where it lies on a member.
    pub fn range(self, geometry: &Geometry) -> std::ops::Range<usize> {
        let log = volume::record::geometry::RING_BLOCKS;
        let nodes = log + geometry.log_blocks;
        let leaves = geometry.tree_block(0, 0, 0);
        let range = match self {
            Ring => 0..log,
            Log => log..nodes,
            Nodes => nodes..leaves,
            Leaves => leaves..geometry.data_start,
            Data => geometry.data_start..geometry.end(),
        };
        range.start as usize..range.end as usize
    }
}

impl Tamper {
    /// Everything that he can think of, as often as it is worth trying.
    pub fn draw(rng: &mut Rng) -> Tamper {
        let part = *rng.pick(&Part::ALL);
        match rng.below(18) {
            0 | 1 => Tamper::FlipBit(part),
            2 => Tamper::Swap(part),
            3 => Tamper::Copy(part),
            4 => Tamper::Zero(part),
            5 => Tamper::Noise(part),
            6 => Tamper::ReplaySector(part),
            7 | 8 => Tamper::Replay(part),
            9 => Tamper::ReplayPart(part),
            10 => Tamper::ReplayAllBut(part),
            11 => Tamper::ReplayMember,
            12 | 13 => Tamper::ReplayDisks,
            14 => Tamper::ReplayAnchor,
            15 => Tamper::TruncateLog,
            16 => Tamper::SwapMembers,
            _ => Tamper::ForgeDiscard,
        }
    }
}

/// The disks and the anchor in the adversary's hands.
pub struct Hands<'a> {
    /// The image of each member.
    pub images: &'a mut [Image],
    /// The anchor.
    pub anchor: &'a mut Snapshot,
    /// Where the parts lie on each member.
    pub geometries: &'a [Geometry],
    /// What he kept.
    pub pasts: &'a [Past],
}

impl Hands<'_> {
    /// Does it; returns the blocks that differ from before, or `None` when there was nothing to do it to.
    pub fn perform(&mut self, tamper: Tamper, rng: &mut Rng) -> Option<Vec<(usize, u64)>> {
        let before: Vec<Image> = self.images.to_vec();
        let counter = self.anchor.counter;
        self.change(tamper, rng)?;
        let changed: Vec<(usize, u64)> = differences(&before, self.images);
        (!changed.is_empty() || counter != self.anchor.counter).then_some(changed)
    }

    fn change(&mut self, tamper: Tamper, rng: &mut Rng) -> Option<()> {
        match tamper {
            Tamper::FlipBit(part) => {
                self.edit(part, rng, |bytes, rng| bytes[rng.index(bytes.len())] ^= 1 << rng.below(8))
            }
            Tamper::Zero(part) => self.edit(part, rng, |bytes, _| bytes.fill(0)),
            Tamper::Noise(part) => self.edit(part, rng, |bytes, rng| rng.fill(bytes)),
            Tamper::ForgeDiscard => self.edit(Leaves, rng, forge_discard),
            Tamper::TruncateLog => self.truncate_log(rng),
            Tamper::Swap(part) => {
                let (one, two) = (self.used(part, rng)?, self.used(part, rng)?);
                let (first, second) = (self.cell(one), self.cell(two));
                self.put(one, second);
                self.put(two, first);
                Some(())
            }
            Tamper::Copy(part) => {
                let (from, to) = (self.used(part, rng)?, self.used(part, rng)?);
                let cell = self.cell(from);
                self.put(to, cell);
                Some(())
            }
            Tamper::ReplaySector(part) => self.replay_sector(part, rng),
            Tamper::Replay(part) => self.replay(part, rng),
            Tamper::ReplayPart(part) => self.replay_where(rng, |_, here| here == part),
            Tamper::ReplayAllBut(part) => self.replay_where(rng, |_, here| here != part),
            Tamper::ReplayMember => {
                let member = rng.index(self.images.len());
                self.replay_where(rng, |index, _| index == member)
            }
            Tamper::ReplayDisks => self.replay_where(rng, |_, _| true),
            Tamper::ReplayAnchor => {
                *self.anchor = self.past(rng)?.anchor.clone();
                Some(())
            }
            Tamper::SwapMembers => {
                let (one, two) = (rng.index(self.images.len()), rng.index(self.images.len()));
                self.images.swap(one, two);
                Some(())
            }
        }
    }

    fn past(&self, rng: &mut Rng) -> Option<&Past> {
        (!self.pasts.is_empty()).then(|| &self.pasts[rng.index(self.pasts.len())])
    }

    fn cell(&self, (member, block): (usize, usize)) -> Cell {
        self.images[member][block].clone()
    }

    fn put(&mut self, (member, block): (usize, usize), cell: Cell) {
        self.images[member][block] = cell;
    }

    /// A block of this part that is not zeros; as a rule one that was written since the last past.
    fn used(&self, part: Part, rng: &mut Rng) -> Option<(usize, usize)> {
        let member = rng.index(self.images.len());
        let image = &self.images[member];
        let used: Vec<usize> = part.range(&self.geometries[member]).filter(|block| image[*block].is_some()).collect();
        let last = self.pasts.last().map(|past| &past.images[member]);
        let is_recent = |block: &&usize| last.is_some_and(|last| last[**block] != image[**block]);
        let recent: Vec<usize> = used.iter().filter(is_recent).copied().collect();
        let blocks = if recent.is_empty() || rng.chance(300) { used } else { recent };
        (!blocks.is_empty()).then(|| (member, *rng.pick(&blocks)))
    }

    fn edit(&mut self, part: Part, rng: &mut Rng, change: impl Fn(&mut [u8], &mut Rng)) -> Option<()> {
        let place = self.used(part, rng)?;
        let mut bytes = media::bytes(&self.cell(place));
        change(&mut bytes, rng);
        self.put(place, media::cell(&bytes));
        Some(())
    }

    /// A block of this part that once was something else, and what.
    fn changed(&self, part: Part, rng: &mut Rng) -> Option<((usize, usize), Cell)> {
        let past = self.past(rng)?;
        let member = rng.index(self.images.len());
        let (now, then) = (&self.images[member], &past.images[member]);
        let blocks: Vec<usize> =
            part.range(&self.geometries[member]).filter(|block| now[*block] != then[*block]).collect();
        if blocks.is_empty() {
            return None;
        }
        let block = *rng.pick(&blocks);
        Some(((member, block), then[block].clone()))
    }

    fn replay(&mut self, part: Part, rng: &mut Rng) -> Option<()> {
        let (place, cell) = self.changed(part, rng)?;
        self.put(place, cell);
        Some(())
    }

    fn replay_sector(&mut self, part: Part, rng: &mut Rng) -> Option<()> {
        let (place, cell) = self.changed(part, rng)?;
        let start = rng.index(block::BLOCK_BYTES / SECTOR_BYTES) * SECTOR_BYTES;
        let mut bytes = media::bytes(&self.cell(place));
        bytes[start..start + SECTOR_BYTES].copy_from_slice(&media::bytes(&cell)[start..start + SECTOR_BYTES]);
        self.put(place, media::cell(&bytes));
        Some(())
    }

    fn replay_where(&mut self, rng: &mut Rng, chosen: impl Fn(usize, Part) -> bool) -> Option<()> {
        let past = self.past(rng)?.clone();
        for (member, image) in past.images.iter().enumerate() {
            for part in Part::ALL.into_iter().filter(|part| chosen(member, *part)) {
                let range = part.range(&self.geometries[member]);
                self.images[member][range.clone()].clone_from_slice(&image[range]);
            }
        }
        Some(())
    }

    fn truncate_log(&mut self, rng: &mut Rng) -> Option<()> {
        let (member, block) = self.used(Log, rng)?;
        let everywhere = rng.chance(500);
        for (index, image) in self.images.iter_mut().enumerate().filter(|(index, _)| everywhere || *index == member) {
            let end = Log.range(&self.geometries[index]).end;
            image[block.min(end)..end].fill(None);
        }
        Some(())
    }
}

/// Makes an entry of a leaf one of a block of zeros, or of one that was never written.
fn forge_discard(bytes: &mut [u8], rng: &mut Rng) {
    let entries: Vec<usize> =
        (0..bytes.len() / 32).filter(|index| bytes[index * 32..][..32].iter().any(|byte| *byte != 0)).collect();
    if entries.is_empty() {
        return;
    }
    let at = *rng.pick(&entries) * 32;
    if rng.chance(500) {
        return bytes[at..at + 32].fill(0);
    }
    bytes[at + 8..at + 32].fill(0);
    bytes[at + 26] = 2;
}

fn differences(before: &[Image], after: &[Image]) -> Vec<(usize, u64)> {
    let images = before.iter().zip(after).enumerate();
    let places = images.flat_map(|(member, (before, after))| {
        let cells = before.iter().zip(after).enumerate();
        cells.filter(|(_, (before, after))| before != after).map(move |(block, _)| (member, block as u64))
    });
    places.collect()
}
