//! What QEMU's `blklogwrites` driver has logged: every write and flush of a block device, in the order of their completion.
//!
//! The format is that of Linux' dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst; QEMU, block/blklogwrites.c): a
//! first sector with magic, version, number of entries and sector size; then for each entry a sector that says where, how
//! much and what, followed by the data that was written.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
/// Bytes of a sector; QEMU is told so.
pub const SECTOR_BYTES: u64 = 512;
const FLUSH: u64 = 1 << 0;
const DISCARD: u64 = 1 << 2;

/// A request that the device completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes were written.
    Write {
        /// Where on the device, in bytes.
        at: u64,
        /// How many bytes.
        len: usize,
        /// Where they are in the log, in bytes.
        data: u64,
    },
    /// Every write before it became durable.
    Flush,
    /// Something that changes no byte that may be relied on.
    Discard,
}

/// A log of writes.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads the log. An entry that QEMU had not yet counted when it ended is not part of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let count = length(path)?;
        let file = File::open(path)?;
        let (mut entries, mut at) = (Vec::new(), SECTOR_BYTES);
        for _ in 0..count {
            let (entry, next) = entry(&file, at).context("the log of writes is cut short")?;
            entries.push(entry);
            at = next;
        }
        Ok(Self { file, entries })
    }

    /// The requests in the order in which they were completed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of a write.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn data(&self, len: usize, data: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, data).context("the log of writes is cut short")?;
        Ok(bytes)
    }
}

/// Entries in a log that QEMU may be writing. All requests that were completed before the call are among them.
///
/// # Errors
/// When it is no such log.
pub fn length(path: &Path) -> Result<usize> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut head = [0; 32];
    file.read_exact_at(&mut head, 0).with_context(|| format!("{} is empty", path.display()))?;
    ensure!(word(&head, 0) == MAGIC && word(&head, 8) == 1, "{} is no log of writes", path.display());
    let sector = word(&head, 24) & 0xffff_ffff;
    ensure!(sector == SECTOR_BYTES, "the log has sectors of {sector} bytes");
    Ok(word(&head, 16) as usize)
}

/// The entry at byte `at` of the log, and where the next one is.
fn entry(log: &File, at: u64) -> Result<(Entry, u64)> {
    let mut head = [0; 32];
    log.read_exact_at(&mut head, at)?;
    let (place, len, data) = (word(&head, 0) * SECTOR_BYTES, word(&head, 8) * SECTOR_BYTES, at + SECTOR_BYTES);
    match word(&head, 16) {
        0 => Ok((Entry::Write { at: place, len: len as usize, data }, data + len)),
        FLUSH => Ok((Entry::Flush, data)),
        DISCARD => Ok((Entry::Discard, data)),
        flags => bail!("QEMU writes no entry with flags {flags:#x}"),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a whole word is inside"))
}

/// Writes a log of these entries: sector and data of a write, or none for a flush.
#[cfg(test)]
pub(crate) fn write(path: &Path, entries: &[Option<(u64, &[u8])>]) {
    let sector = |words: [u64; 4]| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(SECTOR_BYTES as usize, 0);
        bytes
    };
    let mut bytes = sector([MAGIC, 1, entries.len() as u64, SECTOR_BYTES]);
    for entry in entries {
        match entry {
            Some((place, data)) => {
                bytes.extend(sector([*place, data.len() as u64 / SECTOR_BYTES, 0, 0]));
                bytes.extend(*data);
            }
            None => bytes.extend(sector([0, 0, FLUSH, 0])),
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("haechi-write-log-{}-{name}", std::process::id()))
    }

    #[test]
    fn other_files_and_cut_logs_are_refused() {
        let path = scratch("other");
        std::fs::write(&path, [0; 512]).unwrap();
        assert!(WriteLog::open(&path).unwrap_err().to_string().contains("no log of writes"));
        write(&path, &[None, Some((1, &[5; 512]))]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..1024]).unwrap();
        assert!(WriteLog::open(&path).unwrap_err().to_string().contains("cut short"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn entries_are_read_in_their_order() {
        let path = scratch("order");
        write(&path, &[Some((3, &[7; 1024])), None, Some((1, &[9; 512]))]);
        let log = WriteLog::open(&path).unwrap();
        assert_eq!(length(&path).unwrap(), 3);
        let [Entry::Write { at: 1536, len: 1024, data }, Entry::Flush, Entry::Write { at: 512, len: 512, .. }] =
            *log.entries()
        else {
            panic!("{:?}", log.entries())
        };
        assert_eq!(log.data(1024, data).unwrap(), [7; 1024]);
        std::fs::remove_file(path).unwrap();
    }
}
