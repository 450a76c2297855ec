//! The log of a member: a line for each record.
use crypto::module::MacKey;
use keystore::PoolKeys;
use volume::BLOCK_BYTES;
use volume::record::LogPoint;
use volume::record::entry::Entry;
use volume::record::geometry::{METADATA_MEMBERS, RING_BLOCKS};
use volume::record::log::{self, Head, LogEntry, Statement};

use super::{Contents, Disk, Report};

/// Records that are shown one by one; more are counted.
const SHOWN: u64 = 64;

/// Shows the records from the superblock's start to where the chain ends.
pub(super) fn dump(pool: &Contents<'_>, member: usize, disk: &Disk, report: &mut Report) {
    if member >= METADATA_MEMBERS {
        return report.say(1, "log: this member keeps none");
    }
    let superblock = &pool.superblock;
    let keys = pool.keys();
    let mut point = superblock.log_start;
    let (mut position, mut left, mut records) = (superblock.log_position, superblock.log_blocks, 0);
    report.say(1, format!("log, behind record {}:", point.seq));
    let end = loop {
        let Some(block) = disk.block(RING_BLOCKS + position) else { break "which cannot be read" };
        let Some((head, next)) = next(keys.as_ref().map(PoolKeys::log), &point, &block) else {
            break "which does not continue the chain";
        };
        let blocks = 1 + head.data_blocks as u64;
        if left < blocks {
            break "where it would be longer than its ring";
        }
        records += 1;
        if records <= SHOWN {
            report.say(2, line(position, &head, &block));
        }
        (point, position, left) = (next, (position + blocks) % superblock.log_blocks, left - blocks);
    };
    if records > SHOWN {
        report.say(2, format!("and {} more", records - SHOWN));
    }
    report.say(2, format!("{records} records; it ends behind record {} at block {position}, {end}", point.seq));
}

/// The record after `previous` in `block`. Without the key its number is all that ties it to the one before.
fn next(key: Option<&MacKey>, previous: &LogPoint, block: &[u8; BLOCK_BYTES]) -> Option<(Head, LogPoint)> {
    match key {
        Some(key) => log::open(key, previous, block).ok().flatten(),
        None => {
            let head = log::claims(block).filter(|head| Some(head.seq) == previous.seq.checked_add(1))?;
            Some((head, LogPoint { seq: head.seq, mac: [0; 32] }))
        }
    }
}

fn line(position: u64, head: &Head, block: &[u8; BLOCK_BYTES]) -> String {
    let Head { seq, incarnation, covered, checkpoint, entries, data_blocks } = *head;
    let mut line = format!("block {position}: record {seq}, incarnation {incarnation}, covered {covered}, ");
    line += &format!("checkpoint ..{checkpoint}, {entries} entries");
    let parsed: Vec<_> = log::entries(head, block).iter().map(LogEntry::parse).collect();
    let count = |is: fn(&Statement) -> bool| parsed.iter().flatten().filter(|entry| is(&entry.statement)).count();
    let kinds = [
        (count(|statement| matches!(statement, Statement::Block(Entry::Sealed { .. }))), "sealed"),
        (count(|statement| matches!(statement, Statement::Block(Entry::Zero { .. }))), "zeros"),
        (count(|statement| matches!(statement, Statement::Assigned(_))), "assigned"),
        (count(|statement| matches!(statement, Statement::Freed { .. })), "freed"),
        (parsed.iter().filter(|entry| entry.is_none()).count(), "impossible"),
        (data_blocks, "with their data"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count != 0).map(|(count, kind)| format!("{count} {kind}"));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    if kinds.is_empty() { line } else { line + ": " + &kinds }
}
