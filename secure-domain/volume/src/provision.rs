//! Provisioning: from a plain image to a sealed disk, on the host, with the same records and the same sealing as the
//! secure domain. And [`inspect`], which tells what a disk is.

use alloc::{vec, vec::Vec};

use crypto::Suite;
use keystore::{RootKey, SALT_BYTES};

use crate::{
    BLOCK_BYTES, Error, Geometry, Superblock,
    entry::{ENTRY_BYTES, Entry, State},
    geometry::ENTRIES_PER_BLOCK,
    seal::Sealer,
    superblock::PLACES,
};

/// A disk that can be waited for, in blocks of 4 KiB.
pub trait Store {
    /// What can go wrong.
    type Error;

    /// Its length in blocks.
    fn blocks(&self) -> u64;

    /// Reads `out.len() / 4096` blocks from `block` on.
    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `data.len() / 4096` blocks from `block` on.
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Makes all writes durable.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// What a new volume shall be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The suite that seals every block.
    pub suite: Suite,
    /// Number of the volume, below 2^24.
    pub volume: u32,
    /// Blocks that the volume offers: at least as many as the plain image has.
    pub data_blocks: u64,
    /// Random bytes, never used before on this device: see [`keystore::VolumeIdentity::salt`].
    pub salt: [u8; SALT_BYTES],
}

/// Why provisioning or inspecting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The disk or the image failed.
    Store(E),
    /// The disk is none that can be served, or the options ask for one that cannot be.
    Volume(Error),
}

impl<E: core::fmt::Display> core::fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Failure::Store(error) => error.fmt(f),
            Failure::Volume(error) => error.fmt(f),
        }
    }
}

/// What provisioning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blocks that were sealed.
    pub sealed: u64,
    /// Blocks that are stated to be zeros.
    pub zero: u64,
}

/// Bytes that are sealed and written at a time: the data blocks of one table block.
const GROUP_BYTES: usize = ENTRIES_PER_BLOCK as usize * BLOCK_BYTES;

/// Seals the blocks of `image` (and zeros up to `options.data_blocks`) onto `disk`, whatever it held. `progress` is told
/// blocks done and blocks in all. The superblocks are destroyed first and written last, so a disk whose provisioning was
/// interrupted is no Haechi disk.
pub fn provision<D: Store, I: Store<Error = D::Error>>(
    disk: &mut D,
    image: &mut I,
    root: &RootKey,
    options: &Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<Summary, Failure<D::Error>> {
    let superblock = plan(disk.blocks(), image.blocks(), options).map_err(Failure::Volume)?;
    let geometry = superblock.geometry;
    let keys = superblock.keys(root);
    let sealer = Sealer::new(&superblock, &keys);
    let mut block = [0; BLOCK_BYTES];
    for place in PLACES {
        disk.write(place, &block).map_err(Failure::Store)?;
    }
    disk.flush().map_err(Failure::Store)?;
    let mut summary = Summary::default();
    let mut group = vec![0; GROUP_BYTES];
    for table in 0..geometry.table_blocks {
        let first = table * ENTRIES_PER_BLOCK;
        let count = ENTRIES_PER_BLOCK.min(geometry.data_blocks - first);
        let data = &mut group[..count as usize * BLOCK_BYTES];
        read_image(image, first, data).map_err(Failure::Store)?;
        let entries = seal_group(&sealer, first, data, &mut summary);
        write_sealed(disk, geometry.data_start + first, data, &entries).map_err(Failure::Store)?;
        block.fill(0);
        for (entry, bytes) in entries.iter().zip(block.chunks_exact_mut(ENTRY_BYTES)) {
            bytes.copy_from_slice(&entry.encode());
        }
        disk.write(geometry.table_start + table, &block).map_err(Failure::Store)?;
        progress(first + count, geometry.data_blocks);
    }
    disk.flush().map_err(Failure::Store)?;
    for (sequence, place) in (1..).zip(PLACES.into_iter().rev()) {
        Superblock { sequence, ..superblock }.encode(&keys, &mut block);
        disk.write(place, &block).map_err(Failure::Store)?;
    }
    disk.flush().map_err(Failure::Store)?;
    Ok(summary)
}

/// Blocks that a disk needs for a volume of `data_blocks` blocks.
pub fn disk_blocks(data_blocks: u64) -> Option<u64> {
    Geometry::for_data(data_blocks).map(|geometry| geometry.disk_blocks())
}

/// The superblock of a volume in which every block was sealed once, with the versions 1 to `data_blocks`.
fn plan(disk_blocks: u64, image_blocks: u64, options: &Options) -> Result<Superblock, Error> {
    let geometry = Geometry::for_data(options.data_blocks).ok_or(Error::Layout { block: PLACES[0] })?;
    if options.volume >= crate::seal::MAX_VOLUME {
        return Err(Error::Layout { block: PLACES[0] });
    }
    if image_blocks > options.data_blocks {
        return Err(Error::TooSmall { have: options.data_blocks, need: image_blocks });
    }
    if disk_blocks < geometry.disk_blocks() {
        return Err(Error::TooSmall { have: disk_blocks, need: geometry.disk_blocks() });
    }
    Ok(Superblock {
        suite: options.suite,
        volume: options.volume,
        geometry,
        version_limit: options.data_blocks + 1,
        sequence: 1,
        salt: options.salt,
    })
}

/// Reads `data` from the image; behind its end are zeros.
fn read_image<I: Store>(image: &mut I, first: u64, data: &mut [u8]) -> Result<(), I::Error> {
    let blocks = image.blocks().saturating_sub(first).min((data.len() / BLOCK_BYTES) as u64);
    let (there, beyond) = data.split_at_mut(blocks as usize * BLOCK_BYTES);
    beyond.fill(0);
    if there.is_empty() { Ok(()) } else { image.read(first, there) }
}

/// Seals the blocks of `data` in place, those of zeros by their entry alone. Block `b` gets version `b + 1`.
fn seal_group(sealer: &Sealer, first: u64, data: &mut [u8], summary: &mut Summary) -> Vec<Entry> {
    let seal = |(index, data): (usize, &mut [u8])| {
        let block = first + index as u64;
        if is_zero(data) {
            summary.zero += 1;
            return sealer.seal_zero(block, block + 1);
        }
        summary.sealed += 1;
        sealer.seal(block, block + 1, data)
    };
    data.chunks_exact_mut(BLOCK_BYTES).enumerate().map(seal).collect()
}

fn is_zero(data: &[u8]) -> bool {
    data.iter().fold(0, |all, byte| all | byte) == 0
}

/// Writes the sealed blocks, run by run; blocks of zeros are left as they are on the disk.
fn write_sealed<D: Store>(disk: &mut D, start: u64, data: &[u8], entries: &[Entry]) -> Result<(), D::Error> {
    let mut from = 0;
    for run in entries.chunk_by(|a, b| a.state == b.state) {
        if run[0].state == State::Sealed {
            disk.write(start + from as u64, &data[from * BLOCK_BYTES..(from + run.len()) * BLOCK_BYTES])?;
        }
        from += run.len();
    }
    Ok(())
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What each of the two superblocks is: `Ok(None)` has no magic.
    pub superblocks: [Result<Option<Superblock>, Error>; 2],
    /// The current one, with its index.
    pub current: Result<(Superblock, usize), Error>,
    /// Whether MACs were checked; without a key the superblocks are claims.
    pub verified: bool,
}

/// Tells what a disk is. With a key the superblocks are verified.
pub fn inspect<D: Store>(disk: &mut D, root: Option<&RootKey>) -> Result<Report, D::Error> {
    let mut superblocks = [Ok(None), Ok(None)];
    let mut bytes = [0; BLOCK_BYTES];
    for (index, place) in PLACES.into_iter().enumerate() {
        if place < disk.blocks() {
            disk.read(place, &mut bytes)?;
            superblocks[index] = match root {
                Some(root) => Superblock::parse(place, &bytes, root),
                None => Superblock::parse_unverified(place, &bytes),
            };
        }
    }
    let current = Superblock::choose(superblocks).and_then(|(superblock, index, _)| {
        let (have, need) = (disk.blocks(), superblock.geometry.disk_blocks());
        if have < need { Err(Error::TooSmall { have, need }) } else { Ok((superblock, index)) }
    });
    Ok(Report { superblocks, current, verified: root.is_some() })
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Blocks with ciphertext and a right tag.
    pub sealed: u64,
    /// Blocks of zeros with a right tag.
    pub zero: u64,
    /// Blocks whose tag is wrong or whose entry is damaged: how many, and the first ones.
    pub bad: u64,
    /// The first bad blocks, at most 16.
    pub first_bad: Vec<u64>,
}

/// Opens every block of the volume that `superblock` describes and calls `plain(block, bytes)` for each good one.
pub fn check<D: Store>(
    disk: &mut D,
    root: &RootKey,
    superblock: &Superblock,
    mut plain: impl FnMut(u64, &[u8]),
) -> Result<Check, D::Error> {
    let sealer = Sealer::new(superblock, &superblock.keys(root));
    let geometry = superblock.geometry;
    let mut found = Check::default();
    let (mut table, mut data) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
    for block in 0..geometry.data_blocks {
        let index = (block % ENTRIES_PER_BLOCK) as usize;
        if index == 0 {
            disk.read(geometry.table_start + block / ENTRIES_PER_BLOCK, &mut table)?;
        }
        let entry = table[index * ENTRY_BYTES..].first_chunk().and_then(Entry::parse);
        if entry.is_some_and(|entry| entry.state == State::Sealed) {
            disk.read(geometry.data_start + block, &mut data)?;
        }
        match entry {
            Some(entry) if sealer.open(block, &entry, &mut data).is_ok() => {
                *(if entry.state == State::Zero { &mut found.zero } else { &mut found.sealed }) += 1;
                plain(block, &data);
            }
            _ => {
                found.bad += 1;
                if found.first_bad.len() < 16 {
                    found.first_bad.push(block);
                }
            }
        }
    }
    Ok(found)
}
