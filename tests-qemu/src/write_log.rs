//! What QEMU's `blklogwrites` driver has logged, and the disks that a power cut could have left.
//!
//! The format is that of Linux' dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst; QEMU's block/blklogwrites.c): a
//! first sector with magic, version, number of entries and sector size; then for each entry a sector that says where, how
//! much and what, followed by the data that was written.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;

/// A request that the device completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes were written.
    Write {
        /// Where on the disk, in bytes.
        at: u64,
        /// How many bytes.
        len: u64,
        /// Where they are in the log, in bytes.
        data: u64,
    },
    /// Everything before became durable.
    Flush,
    /// Something that changes no byte that may be relied on.
    Other,
}

/// A log of writes.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Arguments that make QEMU log the writes to the raw disk `disk` into `log` (a file that exists), as block node `node`.
    pub fn arguments(disk: &Path, log: &Path, node: &str) -> Vec<String> {
        let file = |name: &str, path: &Path| {
            ["-blockdev".to_owned(), format!("driver=file,node-name={name},filename={}", path.display())]
        };
        let logged = format!(
            "driver=blklogwrites,node-name={node},file={node}-disk,log={node}-log,log-sector-size=512,log-super-update-interval=1"
        );
        let mut arguments = file(&format!("{node}-disk"), disk).to_vec();
        arguments.extend(file(&format!("{node}-log"), log));
        arguments.extend(["-blockdev".to_owned(), logged]);
        arguments
    }

    /// Reads the log. What QEMU had not yet counted when it was killed is not part of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut head = [0; 32];
        file.read_exact_at(&mut head, 0)?;
        ensure!(word(&head, 0) == MAGIC && word(&head, 8) == 1, "{} is no log of writes", path.display());
        let (count, sector) = (word(&head, 16), word(&head, 24) & 0xffff_ffff);
        ensure!(sector == 512, "the log has sectors of {sector} bytes");
        let (mut entries, mut at) = (Vec::new(), sector);
        for _ in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at).context("the log of writes is cut short")?;
            let (place, len, flags) = (word(&head, 0) * sector, word(&head, 8) * sector, word(&head, 16));
            at += sector;
            if flags & FLUSH != 0 {
                entries.push(Entry::Flush);
            }
            if flags & DISCARD != 0 {
                entries.push(Entry::Other);
            } else if len > 0 {
                entries.push(Entry::Write { at: place, len, data: at });
                at += len;
            }
            if flags & FUA != 0 {
                // Taken for a flush of everything, it would hide a lost ordering.
                entries.push(Entry::Other);
            }
        }
        Ok(Self { file, entries })
    }

    /// The requests in the order in which they were completed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Brings `disk`, a copy of the disk before the first request, to what a power cut after the first `cut` requests may leave: all
    /// that was flushed, and of what was written since then the requests that `keep` chooses.
    ///
    /// # Errors
    /// When the log cannot be read or the disk not written.
    pub fn replay(&self, disk: &File, cut: usize, keep: impl Fn(usize) -> bool) -> Result<()> {
        let before = &self.entries[..cut];
        let durable = before.iter().rposition(|entry| *entry == Entry::Flush).unwrap_or(0);
        let mut bytes = Vec::new();
        for (index, entry) in before.iter().enumerate() {
            let Entry::Write { at, len, data } = *entry else { continue };
            if index < durable || keep(index) {
                bytes.resize(len as usize, 0);
                self.file.read_exact_at(&mut bytes, data)?;
                disk.write_all_at(&bytes, at)?;
            }
        }
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a whole word is inside"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of: write of sector 1, flush, write of sector 2, write of sectors 1 and 2.
    fn log(path: &Path) -> WriteLog {
        let mut bytes = Vec::new();
        let mut sector = |words: &[u64]| {
            let start = bytes.len();
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.resize(start + 512, 0);
        };
        sector(&[MAGIC, 1, 4, 512]);
        for (head, data) in [([1, 1, 0, 0], 1), ([0, 0, FLUSH, 0], 0), ([2, 1, 0, 0], 1), ([1, 2, 0, 0], 2)] {
            sector(&head);
            (0..data).for_each(|_| sector(&[head[0] * 16 + head[1]; 64]));
        }
        std::fs::write(path, bytes).unwrap();
        WriteLog::open(path).unwrap()
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_what_it_is_told_of_the_rest() {
        let place = std::env::temp_dir().join(format!("haechi-write-log-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let log = log(&place.join("log"));
        assert_eq!(log.entries().len(), 4);
        let cut = |cut: usize, keep: &[usize]| {
            let path = place.join("disk");
            std::fs::write(&path, [0; 3 * 512]).unwrap();
            let disk = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            log.replay(&disk, cut, |index| keep.contains(&index)).unwrap();
            let bytes = std::fs::read(path).unwrap();
            [bytes[512], bytes[1024]]
        };
        assert_eq!(cut(1, &[]), [0, 0]);
        assert_eq!(cut(2, &[]), [0x11, 0]);
        assert_eq!(cut(4, &[]), [0x11, 0]);
        assert_eq!(cut(4, &[2]), [0x11, 0x21]);
        assert_eq!(cut(4, &[2, 3]), [0x12, 0x12]);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn other_files_are_refused() {
        let path = std::env::temp_dir().join(format!("haechi-no-log-{}", std::process::id()));
        std::fs::write(&path, [0; 512]).unwrap();
        assert!(WriteLog::open(&path).unwrap_err().to_string().contains("no log of writes"));
        std::fs::remove_file(path).unwrap();
    }
}
