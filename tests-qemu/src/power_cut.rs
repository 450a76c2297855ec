//! Power cuts that are real: what disk and anchor may hold when power fails, put together from a log of all that QEMU was told to write.
//!
//! Killing QEMU is no power cut: what it had written stays in the host's page cache. So QEMU logs every write and flush
//! (`blklogwrites`), and a cut is made afterwards from the state before the boot and the first entries of the log.
//!
//! **Disk and anchor must be cut at one moment**: the anchor says which disk is the newest. Two logs could not be put in order. So both
//! lie in one file, the disk at its beginning and the flash bank behind it, under one log, and the machine sees two windows of that.
//! The log's order is that of completion, disk and flash alike: the anchor is written when a flush of the disk has been answered, so its
//! entry stands behind the flush; Linux hears of its own flush after that. A prefix of the log is therefore a state that the
//! machine was in, at the moment when its last entry was complete and the next one, at most, was on its way.
//!
//! What a cut leaves, as the devices promise it:
//! - of a disk: all that was complete when the last flush *began*; of what came later any part, in units that the disk writes whole
//!   (4,096 bytes or 512). QEMU's flush takes no time here (`cache.no-flush`), so the entries before it are what was complete when it began;
//! - of flash, which has no volatile cache: all that was complete, and of the operation under way any of its words.
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sim::rng::Rng;
use xtask::anchor;
use xtask::qemu::Machine;

use crate::images::SERIAL;
use crate::place::{self, Place};
use crate::write_log::{self, Entry, SECTOR_BYTES, WriteLog};

/// Bytes of a word of the flash, the least that one of its operations changes.
const FLASH_WORD_BYTES: u64 = 4;

/// A disk and its anchor under one log. Files: `rig.img` is what the machine writes to, `rig.log` the log.
#[derive(Debug)]
pub struct Rig {
    /// The disk as it was before the machine started, with its anchor beside it. Never written to.
    before: PathBuf,
    both: PathBuf,
    log: PathBuf,
    disk_bytes: u64,
    /// What the disk writes whole.
    unit_bytes: u64,
}

impl Rig {
    /// A rig in `place` for `disk`, which is left as it is and writes units of `unit_bytes` whole.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(place: &Place, disk: &Path, unit_bytes: u64) -> Result<Self> {
        let (both, log) = (place.file("rig.img"), place.file("rig.log"));
        let disk_bytes = fs::metadata(disk)?.len();
        ensure!(disk_bytes.is_multiple_of(SECTOR_BYTES), "{} ends inside a sector", disk.display());
        place::sparse_copy(disk, &both)?;
        let bank = anchor::beside(disk);
        let file = OpenOptions::new().write(true).open(&both)?;
        file.set_len(disk_bytes + fs::metadata(&bank)?.len())?;
        file.write_all_at(&fs::read(&bank)?, disk_bytes)?;
        File::create(&log)?;
        Ok(Self { before: disk.to_owned(), both, log, disk_bytes, unit_bytes })
    }

    /// Puts disk and flash into a machine.
    ///
    /// # Errors
    /// When their files are gone.
    pub fn plug(&self, machine: &mut Machine) -> Result<()> {
        self.plug_as(machine, "virtio-blk-device,bus=virtio-mmio-bus.31")
    }

    /// [`Self::plug`] with the disk as this device of QEMU's.
    ///
    /// # Errors
    /// As there.
    pub fn plug_as(&self, machine: &mut Machine, device: &str) -> Result<()> {
        let file = |name: &str, path: &Path| {
            format!("driver=file,node-name={name},cache.no-flush=on,filename={}", path.display())
        };
        let window = |name: &str, offset: u64, len: u64| {
            format!("driver=raw,node-name={name},file=logged,offset={offset},size={len}")
        };
        let bank_bytes = fs::metadata(&self.both)?.len() - self.disk_bytes;
        let nodes = [
            file("both", &self.both),
            file("log", &self.log),
            format!(
                "driver=blklogwrites,node-name=logged,file=both,log=log,log-sector-size={SECTOR_BYTES},\
                 log-super-update-interval=1"
            ),
            window("disk", 0, self.disk_bytes),
            window("flash", self.disk_bytes, bank_bytes),
        ];
        machine.disks.clear();
        machine.anchor = None;
        machine.extra.extend(nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]));
        let device = format!("{device},drive=disk,share-rw=on,serial={SERIAL}");
        machine.extra.extend(["-device".to_owned(), device, "-machine".to_owned(), "pflash1=flash".to_owned()]);
        Ok(())
    }

    /// Entries of the log by now: all requests that are complete are among them.
    ///
    /// # Errors
    /// When there is no log.
    pub fn written(&self) -> Result<usize> {
        write_log::length(&self.log)
    }

    /// Flushes in the log by now.
    ///
    /// # Errors
    /// When there is no log.
    pub fn flushes(&self) -> Result<usize> {
        let log = WriteLog::open(&self.log)?;
        Ok(log.entries().iter().filter(|entry| matches!(entry, Entry::Flush)).count())
    }

    /// The cuts that could have happened. QEMU has ended.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn cuts(&self) -> Result<Cuts<'_>> {
        Ok(Cuts { rig: self, log: WriteLog::open(&self.log)? })
    }
}

/// What a rig's log allows.
#[derive(Debug)]
pub struct Cuts<'a> {
    rig: &'a Rig,
    log: WriteLog,
}

impl Cuts<'_> {
    /// The log.
    pub fn entries(&self) -> &[Entry] {
        self.log.entries()
    }

    /// Numbers of entries after which writes of the disk are open: complete, and not flushed.
    pub fn places(&self) -> Vec<usize> {
        let mut open = false;
        let mut places = Vec::new();
        for (index, entry) in self.entries().iter().enumerate() {
            open = match entry {
                Entry::Flush => false,
                Entry::Write { at, .. } => open || *at < self.rig.disk_bytes,
                Entry::Discard => open,
            };
            places.extend(open.then_some(index + 1));
        }
        places
    }

    /// Makes `disk`, and its anchor beside it, as a cut leaves them when the first `cut` entries are complete and the next one is under way.
    /// The seed says which of the open writes, or which parts of them, made it; without one none did.
    ///
    /// # Errors
    /// When the log cannot be read or a file not be written.
    pub fn make(&self, cut: usize, seed: Option<u64>, disk: &Path) -> Result<()> {
        place::sparse_copy(&self.rig.before, disk)?;
        place::sparse_copy(&anchor::beside(&self.rig.before), &anchor::beside(disk))?;
        let open = |path: &Path| OpenOptions::new().write(true).open(path);
        let (disk, bank) = (open(disk)?, open(&anchor::beside(disk))?);
        let durable = durable(&self.entries()[..cut]);
        let mut luck = Luck::new(seed);
        for (index, entry) in self.entries().iter().enumerate().take(cut + 1) {
            let Entry::Write { at, len, data } = *entry else { continue };
            let bytes = self.log.data(len, data)?;
            match at.checked_sub(self.rig.disk_bytes) {
                None if index < durable => disk.write_all_at(&bytes, at)?,
                None => luck.write(&disk, at, &bytes, self.rig.unit_bytes)?,
                Some(at) if index < cut => bank.write_all_at(&bytes, at)?,
                Some(at) => luck.write(&bank, at, &bytes, FLASH_WORD_BYTES)?,
            }
        }
        Ok(())
    }
}

/// Entries up to and with the last flush.
fn durable(entries: &[Entry]) -> usize {
    entries.iter().rposition(|entry| *entry == Entry::Flush).map_or(0, |flush| flush + 1)
}

/// Decides what of the open writes is there after a cut.
struct Luck {
    rng: Rng,
    /// Whole writes that are there, of a thousand.
    whole: u64,
    /// Units of the others that are there, of a thousand: one of these for each write.
    torn: &'static [u64],
}

impl Luck {
    fn new(seed: Option<u64>) -> Self {
        let mut rng = Rng::new(seed.unwrap_or_default());
        match seed {
            Some(_) => Self { whole: *rng.pick(&[0, 100, 500, 900]), torn: &[0, 0, 200, 500, 800], rng },
            None => Self { whole: 0, torn: &[0], rng },
        }
    }

    /// Writes all of it, or any of its units: between those of one write there is no order.
    fn write(&mut self, file: &File, at: u64, bytes: &[u8], unit_bytes: u64) -> Result<()> {
        let whole = self.rng.chance(self.whole);
        let torn = *self.rng.pick(self.torn);
        let mut place = at;
        for unit in bytes.chunks(unit_bytes as usize) {
            if whole || self.rng.chance(torn) {
                file.write_all_at(unit, place).context("the cut disk cannot be written")?;
            }
            place += unit.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    /// A disk of four blocks and a bank of one; written are block 0, then flushed, then blocks 1 and 2 in one write, then the bank.
    fn rig(name: &str) -> Rig {
        let directory = std::env::temp_dir().join(format!("haechi-power-cut-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (before, log) = (directory.join("before"), directory.join("log"));
        fs::write(&before, [0; 4 * BLOCK]).unwrap();
        fs::write(anchor::beside(&before), [0xff; BLOCK]).unwrap();
        let (one, two) = ([1; BLOCK], [2; 2 * BLOCK]);
        write_log::write(&log, &[Some((0, &one)), None, Some((8, &two)), Some((32, &[3; 512])), Some((33, &[4; 512]))]);
        Rig { before, both: directory.join("both"), log, disk_bytes: 4 * BLOCK as u64, unit_bytes: BLOCK as u64 }
    }

    fn cut(rig: &Rig, cut: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
        let disk = rig.before.with_extension("cut");
        rig.cuts().unwrap().make(cut, Some(seed), &disk).unwrap();
        (fs::read(&disk).unwrap(), fs::read(anchor::beside(&disk)).unwrap())
    }

    #[test]
    fn what_was_flushed_and_what_flash_was_told_is_there_whatever_the_seed() {
        let rig = rig("durable");
        let bare = |seed| {
            let (disk, bank) = cut(&rig, 4, seed);
            assert!(disk[..BLOCK].iter().all(|byte| *byte == 1) && bank[..512].iter().all(|byte| *byte == 3));
            assert!(disk[3 * BLOCK..].iter().all(|byte| *byte == 0));
            disk[BLOCK..3 * BLOCK].iter().all(|byte| *byte == 0)
        };
        assert!((0..64).any(bare) && !(0..64).all(bare));
    }

    #[test]
    fn without_a_seed_nothing_open_is_there() {
        let rig = rig("none");
        let disk = rig.before.with_extension("none");
        rig.cuts().unwrap().make(4, None, &disk).unwrap();
        assert!(fs::read(&disk).unwrap()[BLOCK..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn open_writes_are_torn_between_units_and_never_inside_one() {
        let rig = rig("torn");
        let torn = |seed| {
            let (disk, bank) = cut(&rig, 3, seed);
            let units = disk.chunks(BLOCK).chain(bank.chunks(4)).all(|unit| unit.iter().all(|byte| *byte == unit[0]));
            assert!(units, "seed {seed}");
            disk[BLOCK] != disk[2 * BLOCK]
        };
        assert!((0..64).any(torn));
    }

    #[test]
    fn nothing_later_than_the_request_under_way_is_there() {
        let rig = rig("later");
        assert_eq!(rig.written().unwrap(), 5);
        assert_eq!(rig.cuts().unwrap().places(), [1, 3, 4, 5]);
        for seed in 0..64 {
            let (disk, bank) = cut(&rig, 1, seed);
            assert!(disk[BLOCK..].iter().all(|byte| *byte == 0) && bank.iter().all(|byte| *byte == 0xff));
        }
    }
}
