//! The measured guest's files: an initrd with the job script, and disks of two partitions.
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use crypto::Suite;
use volume::FormatOptions;

use super::Bench;
use super::programs::PROGRAMS;
use crate::cpio::Archive;
use crate::{anchor, files, sealed};

/// Where the root filesystem begins. All lengths are whole blocks of 4 KiB.
const ROOT_OFFSET: u64 = 1 << 20;
/// The partition that fio works on.
const DATA_BYTES: u64 = 64 << 20;
/// The disk that the sealed ones are: a pool's log is a share of its disk, and on one that is no larger than what is measured the log would be
/// a hundredth of a phone's, with a checkpoint after every 32 records.
const DISK_BYTES: u64 = 1 << 30;
/// Sectors of the partition table: both kinds of disk have logical blocks of this size.
const SECTOR_BYTES: u64 = 4096;

/// Linux' arguments for a job of `guest.sh`.
pub(super) fn arguments(job: &str) -> String {
    format!("console=ttyAMA0 quiet panic=-1 rdinit=/bench bench={job}")
}

/// The guest's initrd with the job script behind it: Linux unpacks one archive after the other.
pub(super) fn initrd(bench: &Bench) -> Result<PathBuf> {
    let made = bench.directory.join("initrd.img");
    let mut bytes = fs::read(&bench.images.initrd)?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut archive = Archive::default();
    archive.file("bench", 0o755, include_bytes!("guest.sh"));
    PROGRAMS.iter().for_each(|program| archive.file(program.name, 0o755, &program.elf()));
    bytes.extend(archive.finish());
    files::replace_if_changed(&made, &bytes)?;
    Ok(made)
}

/// A plain disk of its own for the measurement `name`: the root filesystem, and data that are not zeros.
pub(super) fn plain_disk(bench: &Bench, name: &str) -> Result<PathBuf> {
    let disk = bench.directory.join(format!("{name}.plain"));
    let rootfs = fs::read(&bench.images.rootfs)?;
    let mut file = fs::File::create(&disk).with_context(|| format!("{} cannot be written", disk.display()))?;
    file.set_len(ROOT_OFFSET + rootfs.len() as u64 + DATA_BYTES)?;
    file.write_all(&partition_table(&[rootfs.len() as u64, DATA_BYTES]))?;
    for (index, chunk) in rootfs.chunks(1 << 16).enumerate().filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0)) {
        file.seek(SeekFrom::Start(ROOT_OFFSET + ((index as u64) << 16)))?;
        file.write_all(chunk)?;
    }
    file.seek(SeekFrom::Start(ROOT_OFFSET + rootfs.len() as u64))?;
    file.write_all(&noise(DATA_BYTES as usize))?;
    Ok(disk)
}

/// The same, sealed at the beginning of a disk of [`DISK_BYTES`].
pub(super) fn sealed_disk(bench: &Bench, name: &str, suite: Suite) -> Result<PathBuf> {
    let plain = plain_disk(bench, name)?;
    let disk = bench.directory.join(format!("{name}.sealed"));
    sealed::seal(&plain, &disk, Some(DISK_BYTES), suite, &FormatOptions::default(), &bench.board)?;
    fs::remove_file(&plain)?;
    touch(&disk)?;
    Ok(disk)
}

/// Removes a disk, with its anchor if it has one.
pub(super) fn remove(disk: &Path) -> Result<()> {
    let anchor = anchor::beside(disk);
    if anchor.is_file() {
        fs::remove_file(anchor)?;
    }
    fs::remove_file(disk).with_context(|| format!("{} cannot be removed", disk.display()))
}

/// Reads a file once, so that the host has it in memory.
fn touch(file: &Path) -> Result<()> {
    std::io::copy(&mut fs::File::open(file)?, &mut std::io::sink()).map(drop).context("the disk cannot be read")
}

/// A master boot record with Linux partitions one after the other.
fn partition_table(lens: &[u64]) -> [u8; 512] {
    let mut table = [0; 512];
    let mut start = ROOT_OFFSET;
    for (entry, len) in table[446..510].chunks_exact_mut(16).zip(lens) {
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&((start / SECTOR_BYTES) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((len / SECTOR_BYTES) as u32).to_le_bytes());
        start += len;
    }
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    table
}

/// Bytes that nothing compresses or skips: the same in every run (Marsaglia, Xorshift RNGs, 2003).
fn noise(len_bytes: usize) -> Vec<u8> {
    let mut state = 0x4841_4543_4849_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len_bytes / 8).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        let table = partition_table(&[8 << 20, 4 << 20]);
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        assert_eq!([word(454), word(458), word(470), word(474)], [256, 2048, 2304, 1024]);
    }
}
