//! Everything that is written on sealed disks, for people: `./x disk dump`.
//!
//! The bytes are read with the format's own parsers and believed by nobody: each record is shown with what is wrong with it. With the
//! device's key every MAC is checked; without it the records are shown as they claim to be, and what needs the key says so.
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use keystore::{PoolKeys, RootKey};
use volume::BLOCK_BYTES;
use volume::record::anchored::Anchored;
use volume::record::superblock::Superblock;

use super::file_disk::FileDisk;
use super::host_pool::{Access, HostPool};

mod anchor;
mod log;
mod ring;
mod tables;
mod tree;

/// Tells what is on the disks of a pool, in any order, and in the anchor of the pool. A disk that is damaged gives words, not an error.
///
/// # Errors
/// When a file cannot be opened.
pub fn dump(disks: &[PathBuf], anchor: &Path, root: Option<&RootKey>) -> Result<String> {
    let opened = disks.iter().map(|path| Disk::open(path)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    if root.is_none() {
        report.say(0, "without the device's key: no MAC is checked, and nothing below is more than a claim");
    }
    let mut newest: Option<Superblock> = None;
    let mut members = Vec::new();
    for (given, disk) in opened.iter().enumerate() {
        let found = ring::dump(given, disk, root, &mut report);
        members.push(found.map(|found| found.member));
        newest = [newest, found.map(|found| found.superblock)].into_iter().flatten().reduce(newer);
    }
    let anchored = anchor::dump(anchor, root, &mut report);
    if let Some(superblock) = newest {
        let pool = Contents { superblock, root, anchored };
        pool.dump(&opened, &members, &mut report);
    }
    if let Some(root) = root {
        verdict(disks, anchor, root, &mut report);
    }
    Ok(report.0)
}

fn newer(one: Superblock, other: Superblock) -> Superblock {
    if other.is_newer(&one) { other } else { one }
}

/// What a mount that writes nothing says.
fn verdict(disks: &[PathBuf], anchor: &Path, root: &RootKey, report: &mut Report) {
    let members = disks.iter().map(|disk| super::member(FileDisk::open(disk, false)?, None)).collect::<Result<_>>();
    match members.and_then(|members| HostPool::mount(members, anchor, root, Access::ReadOnly, false)) {
        Ok((_, recovery)) => report.say(0, format!("a mount would serve this; {recovery}")),
        Err(error) => report.say(0, format!("a mount would refuse this: {error:#}")),
    }
}

/// What the newest superblock leads to.
struct Contents<'a> {
    superblock: Superblock,
    root: Option<&'a RootKey>,
    /// What the anchor holds, if that could be read.
    anchored: Option<Anchored>,
}

impl Contents<'_> {
    /// The pool's keys, if its device is known.
    fn keys(&self) -> Option<PoolKeys> {
        self.root?.pool_keys(&self.superblock.pool).ok()
    }
}

impl Contents<'_> {
    fn dump(&self, disks: &[Disk], members: &[Option<usize>], report: &mut Report) {
        for (index, info) in self.superblock.members().iter().enumerate() {
            let given = members.iter().position(|member| *member == Some(index));
            let Some(disk) = given.and_then(|given| disks.get(given)) else {
                report.say(0, format!("member {index}, number {}, is not among the disks", hex(&info.uuid)));
                continue;
            };
            report.say(0, format!("member {index}: {}", disk.path.display()));
            if disk.blocks < info.blocks {
                report.say(1, format!("its end is missing: {} blocks are there of {}", disk.blocks, info.blocks));
            }
            log::dump(self, index, disk, report);
            tree::dump(self, index, disk, report);
        }
    }
}

/// A disk's image.
struct Disk {
    path: PathBuf,
    file: File,
    blocks: u64,
}

impl Disk {
    fn open(path: &Path) -> Result<Disk> {
        let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let meta = file.metadata()?;
        ensure!(meta.is_file(), "{} is not a file", path.display());
        let blocks = meta.len() / BLOCK_BYTES as u64;
        Ok(Disk { path: path.to_owned(), file, blocks })
    }

    /// A block, if it can be read.
    fn block(&self, block: u64) -> Option<Box<[u8; BLOCK_BYTES]>> {
        let mut bytes = Box::new([0; BLOCK_BYTES]);
        let at = block.checked_mul(BLOCK_BYTES as u64)?;
        self.file.read_exact_at(&mut *bytes, at).ok().map(|()| bytes)
    }
}

/// Lines of text, each under what it belongs to.
#[derive(Default)]
struct Report(String);

impl Report {
    fn say(&mut self, depth: usize, what: impl Display) {
        self.0.push_str(&"  ".repeat(depth));
        self.0.push_str(&what.to_string());
        self.0.push('\n');
    }
}

/// The first bytes of a number or a MAC: enough to tell one from another.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
