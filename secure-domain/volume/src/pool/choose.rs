//! Which disk is which member, and which superblock is the newest of all: before anything else of a disk is believed.

use alloc::vec::Vec;

use block::BlockDevice;
use keystore::RootKey;

use super::{
    member::Disk,
    wait::{Action, perform},
};
use crate::{
    Error,
    record::{
        MAX_MEMBERS, Uuid,
        geometry::{METADATA_MEMBERS, RING_BLOCKS},
        superblock::{Found, Superblock},
    },
};

/// Where a disk that was given sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It is this member.
    Member(usize),
    /// It is no member: the so manieth of those.
    Stranger(usize),
}

/// The current superblock, and which disk is which member.
pub(super) struct Chosen {
    pub(super) superblock: Superblock,
    /// Where each disk sits, in the order given.
    pub(super) given: Vec<Seat>,
    /// Superblock places that are damaged: disk and block.
    pub(super) damaged: Vec<(usize, u64)>,
}

/// What the superblocks of one disk say.
struct Looked {
    newest: Result<Found, Error>,
    damaged: Vec<u64>,
    /// Places that could not be read, one bit each.
    unread: u8,
}

/// Finds the newest superblock of the pool that the disks are. `lenient`: of this pool, and members may be missing. Then a disk that
/// cannot be read, does not answer, is blank, or belongs to another pool stands for one that is missing.
pub(super) fn choose<D: BlockDevice>(
    disks: &mut [D],
    root: &RootKey,
    lenient: Option<&Uuid>,
    idle: &mut impl FnMut() -> bool,
) -> Result<Chosen, Error> {
    if !(1..=MAX_MEMBERS).contains(&disks.len()) {
        return Err(Error::Members { given: disks.len() });
    }
    let (mut found, mut damaged, mut unread) = (Vec::with_capacity(disks.len()), Vec::new(), u8::MAX);
    let mut stranger = Error::Members { given: 0 };
    for (index, disk) in disks.iter_mut().enumerate() {
        let looked = match look(disk, index, root, idle) {
            Err(Error::Silent) if lenient.is_some() => {
                Looked { newest: Err(Error::Silent), damaged: Vec::new(), unread: 0 }
            }
            looked => looked?,
        };
        match (looked.newest, lenient) {
            (Ok(here), Some(pool)) if here.superblock.pool != *pool => stranger = Error::MemberSet { member: index },
            (Err(error), Some(_)) if is_strange(&error) => stranger = error,
            (newest, _) => {
                found.push((index, newest?));
                damaged.extend(looked.damaged.into_iter().map(|block| (index, block)));
                unread &= looked.unread;
            }
        }
    }
    // The newest may lie where nobody can look: that is not for us to guess.
    if unread != 0 && !found.is_empty() {
        let block = u64::from(unread.trailing_zeros());
        return Err(Error::Disk { member: 0, block, error: block::Error::Io });
    }
    let newer = |a: Superblock, b: Superblock| if b.is_newer(&a) { b } else { a };
    let superblock = found.iter().map(|(_, here)| here.superblock).reduce(newer).ok_or(stranger)?;
    check_set(disks, &superblock, &found, lenient.is_some())?;
    Ok(Chosen { given: seats(disks.len(), &found), superblock, damaged })
}

/// Whether a disk that shows this can only be one that is no member, or none any more.
fn is_strange(error: &Error) -> bool {
    let unreadable = matches!(error, Error::Disk { .. } | Error::TooSmall { .. } | Error::Silent);
    unreadable || matches!(error, Error::NotHaechi { .. } | Error::Version { .. } | Error::SuperblockMac { .. })
}

/// The disks found must be members of one pool, all of them, each once; or in a lenient mount those without which nothing works.
fn check_set<D: BlockDevice>(
    disks: &[D],
    superblock: &Superblock,
    found: &[(usize, Found)],
    lenient: bool,
) -> Result<(), Error> {
    let mut seen = [false; MAX_MEMBERS];
    for (index, Found { superblock: here, member }) in found {
        let other = here.pool != superblock.pool || here.members() != superblock.members();
        if other || core::mem::replace(&mut seen[*member], true) {
            return Err(Error::MemberSet { member: *index });
        }
        let (have, need) = (disks[*index].blocks(), superblock.members()[*member].blocks);
        if have < need {
            return Err(Error::TooSmall { member: *index, have, need });
        }
    }
    let members = superblock.members().len();
    let enough = lenient && seen[..members.min(METADATA_MEMBERS)].contains(&true);
    if found.len() != members && !enough {
        return Err(Error::MembersMissing { found: found.len(), members });
    }
    Ok(())
}

fn seats(disks: usize, found: &[(usize, Found)]) -> Vec<Seat> {
    let mut strangers = 0..disks;
    let seat = |index: usize| match found.iter().find(|(at, _)| *at == index) {
        Some((_, here)) => Seat::Member(here.member),
        None => Seat::Stranger(strangers.next().unwrap_or_default()),
    };
    (0..disks).map(seat).collect()
}

/// The disks in the order of their member numbers, and those that are none.
pub(super) fn seated<D>(disks: Vec<D>, given: &[Seat], members: usize) -> (Vec<Disk<D>>, Vec<D>) {
    let mut places: Vec<Disk<D>> = (0..members).map(|_| Disk::new(None)).collect();
    let mut strangers = Vec::new();
    for (disk, seat) in disks.into_iter().zip(given) {
        match seat {
            Seat::Member(member) => places[*member] = Disk::new(Some(disk)),
            Seat::Stranger(_) => strangers.push(disk),
        }
    }
    (places, strangers)
}

/// The newest superblock of one disk, or what is wrong with the one that looks most like one.
fn look<D: BlockDevice>(
    disk: &mut D,
    index: usize,
    root: &RootKey,
    idle: &mut impl FnMut() -> bool,
) -> Result<Looked, Error> {
    let mut looked = Looked { newest: Err(Error::NotHaechi { member: index }), damaged: Vec::new(), unread: 0 };
    if disk.blocks() < RING_BLOCKS {
        looked.newest = Err(Error::TooSmall { member: index, have: disk.blocks(), need: RING_BLOCKS });
        return Ok(looked);
    }
    for place in 0..RING_BLOCKS {
        match superblock_at(disk, index, place, root, idle) {
            Ok(Some(found)) => looked.take(found),
            Ok(None) => {}
            // A newer version beside an older one is not damage but a disk of newer code; nor is it damage that nothing can be checked.
            Err(error @ Error::Version { .. }) => return Ok(Looked { newest: Err(error), ..looked }),
            Err(error @ (Error::SuperblockMac { .. } | Error::SuperblockLayout { .. })) => looked.miss(place, error),
            Err(error @ Error::Disk { .. }) => {
                looked.unread |= 1 << place;
                looked.miss(place, error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(looked)
}

fn superblock_at<D: BlockDevice>(
    disk: &mut D,
    index: usize,
    place: u64,
    root: &RootKey,
    idle: &mut impl FnMut() -> bool,
) -> Result<Option<Found>, Error> {
    let Some(buffer) = perform(disk, index, place, Action::Read(1), idle)? else { return Ok(None) };
    let parsed = Superblock::parse(index, disk.bytes(&buffer), root);
    disk.release(buffer);
    parsed
}

impl Looked {
    fn take(&mut self, found: Found) {
        if self.newest.as_ref().map_or(true, |newest| found.superblock.is_newer(&newest.superblock)) {
            self.newest = Ok(found);
        }
    }

    fn miss(&mut self, place: u64, error: Error) {
        self.damaged.push(place);
        if self.newest.is_err() {
            self.newest = Err(error);
        }
    }
}
