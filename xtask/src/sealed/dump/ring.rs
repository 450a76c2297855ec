//! The superblock ring of a disk.
use keystore::RootKey;
use volume::record::geometry::RING_BLOCKS;
use volume::record::superblock::{Found, MAGIC, Superblock};

use super::{Disk, Report, hex};

/// Shows every place of the ring, and the newest superblock in full. Gives that one: with the key the newest authentic one.
pub(super) fn dump(given: usize, disk: &Disk, root: Option<&RootKey>, report: &mut Report) -> Option<Found> {
    report.say(0, format!("disk {given}: {}, {} blocks", disk.path.display(), disk.blocks));
    let mut newest: Option<Found> = None;
    for place in 0..RING_BLOCKS {
        let Some(bytes) = disk.block(place) else {
            report.say(1, format!("superblock {place}: cannot be read, or lies beyond the end"));
            continue;
        };
        let claimed = Superblock::parse_claims(&*bytes);
        let (found, what) = match (root.map(|root| Superblock::parse(given, &*bytes, root)), claimed) {
            _ if bytes[..8] != MAGIC => (None, "none is here".to_owned()),
            (None, Some(found)) => (Some(found), brief(&found)),
            (None, None) => (None, "contradicts itself".to_owned()),
            (Some(Ok(found)), _) => (found, found.as_ref().map(brief).unwrap_or_default()),
            (Some(Err(error)), Some(claimed)) => (None, format!("{error}; it claims {}", brief(&claimed))),
            (Some(Err(error)), None) => (None, error.to_string()),
        };
        report.say(1, format!("superblock {place}: {what}"));
        let is_newer = |found: &Found| newest.is_none_or(|newest| found.superblock.is_newer(&newest.superblock));
        newest = found.filter(is_newer).or(newest);
    }
    if let Some(found) = &newest {
        full(found, report);
    }
    newest
}

fn brief(found: &Found) -> String {
    let Superblock { incarnation, sequence, checkpoint, .. } = found.superblock;
    format!("incarnation {incarnation}, sequence {sequence}, checkpoint {checkpoint}")
}

fn full(found: &Found, report: &mut Report) {
    let superblock = &found.superblock;
    let (members, member) = (superblock.members().len(), found.member);
    report.say(1, format!("newest: {}", brief(found)));
    report.say(2, format!("pool {}, this is member {member} of {members}", hex(&superblock.pool)));
    let (compatible, read_only) = (superblock.compatible, superblock.read_only);
    report.say(2, format!("features: compatible {compatible:#x}, read-only compatible {read_only:#x}"));
    report.say(2, format!("the members write {} bytes atomically", superblock.atomic_bytes));
    for (index, info) in superblock.members().iter().enumerate() {
        report.say(2, format!("member {index}: number {}, {} blocks", hex(&info.uuid), info.blocks));
    }
    let (start, required) = (&superblock.log_start, &superblock.log_required);
    let position = superblock.log_position;
    report.say(2, format!("log of {} blocks begins at {position}, behind record {}", superblock.log_blocks, start.seq));
    report.say(2, format!("log must reach record {}", required.seq));
    let (dirty, uncovered) = (superblock.dirty_limit, superblock.uncovered_limit);
    report.say(2, format!("limits: {dirty} tree blocks to replay, {uncovered} entries not covered"));
    report.say(2, format!("next volume {}", superblock.next_volume));
}
