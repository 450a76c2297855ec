//! The anchor of a pool.
use std::path::Path;

use ::anchor::flash::DevelopmentAnchor;
use ::anchor::{MonotonicStore, Record};
use anyhow::{Result, ensure};
use keystore::RootKey;
use volume::record::anchored::Anchored;

use super::super::file_flash::FileFlash;
use super::{Report, hex};

/// Shows what the anchor holds, but for its secrets. Gives it, if it is a record of SV1.
pub(super) fn dump(path: &Path, root: Option<&RootKey>, report: &mut Report) -> Option<Anchored> {
    report.say(0, format!("anchor: {}", path.display()));
    let Some(root) = root else {
        report.say(1, "what it holds cannot be told without the device's key");
        return None;
    };
    match read(path, root) {
        Ok((counter, record)) => shown(counter, &record, report),
        Err(error) => {
            report.say(1, format!("{error:#}"));
            None
        }
    }
}

fn read(path: &Path, root: &RootKey) -> Result<(u64, Record)> {
    ensure!(path.is_file(), "there is none");
    let mut anchor = DevelopmentAnchor::new(FileFlash::open(path, false)?, root.anchor_key()?)?;
    let found = anchor.read()?;
    Ok((found.counter, found.record))
}

fn shown(counter: u64, record: &Record, report: &mut Report) -> Option<Anchored> {
    let Some(anchored) = Anchored::parse(record) else {
        report.say(1, format!("counter {counter}: {} bytes that are no record of SV1", record.bytes().len()));
        return None;
    };
    report.say(1, format!("counter {counter}: pool {}, incarnation {}", hex(&anchored.pool), anchored.incarnation));
    report.say(2, format!("the incarnation began with record {}, {}", anchored.base.seq, hex(&anchored.base.mac)));
    report.say(2, format!("the log contains record {}, {}", anchored.head.seq, hex(&anchored.head.mac)));
    report.say(2, format!("versions from {} on were never used", anchored.version_limit));
    let next = anchored.next_secret.as_ref().map(|next| format!(", and the next, {}", next.generation));
    report.say(2, format!("erase secret {}{}", anchored.secret.generation, next.unwrap_or_default()));
    Some(anchored)
}
