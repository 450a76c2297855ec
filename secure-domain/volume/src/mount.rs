//! Mounting: from a disk to a volume that serves, or to the exact reason why not.
//!
//! Nothing is written before both superblocks were read, one was verified, and the volume was found to fit. Then the one
//! write of a mount reserves versions, in the place of the superblock that is not current, and is made durable.

use block::{BlockDevice, Buffer};
use keystore::RootKey;

use crate::{
    BLOCK_BYTES, Error, Superblock, Volume,
    superblock::PLACES,
    versions::{MIN_RESERVATION, RESERVATION},
};

/// What a mount may choose.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Blocks of the entry table to keep in memory: 4 KiB each, for 512 KiB of data.
    pub cache_slots: usize,
    /// Versions that one superblock write reserves; at least [`crate::versions::MIN_RESERVATION`].
    pub reservation: u64,
}

impl Default for Options {
    /// 4 MiB of cache, for 512 MiB of data.
    fn default() -> Options {
        Options { cache_slots: 1024, reservation: RESERVATION }
    }
}

/// Mounts the volume on `disk`. While the disk works, `idle` is called: it sleeps until the disk's interrupt (or returns at
/// once) and says whether to go on waiting, so the caller sets the deadline. The index of a damaged superblock comes back
/// through [`Volume::next_event`].
pub fn mount<D: BlockDevice>(
    mut disk: D,
    root: &RootKey,
    options: Options,
    mut idle: impl FnMut() -> bool,
) -> Result<Volume<D>, Error> {
    let mut found = [Ok(None), Ok(None)];
    for (index, block) in PLACES.into_iter().enumerate() {
        if block >= disk.blocks() {
            return Err(Error::TooSmall { have: disk.blocks(), need: PLACES.len() as u64 });
        }
        found[index] = match wait(&mut disk, block, Action::Read, &mut idle) {
            Ok(None) => Ok(None),
            Ok(Some(buffer)) => {
                let superblock = Superblock::parse(block, disk.bytes(&buffer), root);
                disk.release(buffer);
                superblock
            }
            // A place that cannot be read counts as damaged; the other may serve.
            Err(error @ Error::Disk { .. }) => Err(error),
            Err(error) => return Err(error),
        };
    }
    let (current, place, damaged) = Superblock::choose(found)?;
    let need = current.geometry.disk_blocks();
    if disk.blocks() < need {
        return Err(Error::TooSmall { have: disk.blocks(), need });
    }
    let version_limit =
        current.version_limit.checked_add(options.reservation.max(MIN_RESERVATION)).ok_or(Error::VersionsExhausted)?;
    let sequence = current.sequence.checked_add(1).ok_or(Error::VersionsExhausted)?;
    let next = Superblock { version_limit, sequence, ..current };
    let keys = next.keys(root);
    let block = PLACES[1 - place];
    let mut encoded = [0; BLOCK_BYTES];
    next.encode(&keys, &mut encoded);
    let buffer = wait(&mut disk, block, Action::Write(&encoded), &mut idle)?;
    buffer.into_iter().for_each(|buffer| disk.release(buffer));
    wait(&mut disk, block, Action::Flush, &mut idle)?;
    let mut volume = Volume::new(disk, keys, next, 1 - place, current.version_limit, &options);
    if let Some(index) = damaged {
        volume.report(crate::Event::SuperblockDamaged { block: PLACES[index] });
    }
    Ok(volume)
}

/// One disk request of a mount.
enum Action<'a> {
    Read,
    Write(&'a [u8]),
    Flush,
}

/// Starts the request and waits for its completion.
fn wait<D: BlockDevice>(
    disk: &mut D,
    block: u64,
    action: Action<'_>,
    idle: &mut impl FnMut() -> bool,
) -> Result<Option<Buffer>, Error> {
    let taken = match action {
        Action::Flush => disk.flush(0),
        Action::Read => {
            let buffer = disk.allocate(1).ok_or(Error::NoBuffer)?;
            disk.read(0, block, buffer)
        }
        Action::Write(bytes) => {
            let buffer = disk.allocate(1).ok_or(Error::NoBuffer)?;
            disk.bytes(&buffer).copy_from_slice(bytes);
            disk.write(0, block, buffer)
        }
    };
    taken.map_err(|_| Error::Disk { block, error: block::Error::Broken })?;
    disk.kick();
    // Bounded by the caller's patience.
    loop {
        if let Some(completion) = disk.poll() {
            let Err(error) = completion.result else { return Ok(completion.buffer) };
            completion.buffer.into_iter().for_each(|buffer| disk.release(buffer));
            return Err(Error::Disk { block, error });
        }
        if !idle() {
            return Err(Error::DiskSilent { block });
        }
        disk.acknowledge();
    }
}
