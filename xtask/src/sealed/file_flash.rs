//! The file behind QEMU's second flash bank, worked on through the anchor's own driver: a simulated bank whose contents
//! are kept in the file.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anchor::flash::model::SimulatedNor;
use anyhow::{Context, Result, ensure};
use block::Registers;

/// Bytes of an erase sector of QEMU's bank.
const SECTOR_BYTES: usize = 256 << 10;
/// Sectors that the anchor uses, and this file shows it.
const SECTORS: usize = 2;
/// Write buffer of each chip, as a power of two.
const BUFFER_LOG2: u8 = 11;
/// Bytes that one program operation changes at most: the write buffers of both chips.
const PROGRAM_BYTES: usize = 2 << BUFFER_LOG2;

/// A flash bank in a file.
pub struct FileFlash {
    nor: SimulatedNor,
    /// `None`: what is written is not kept.
    file: Option<File>,
    failed: bool,
}

impl FileFlash {
    /// Opens the bank; what is written to it is kept only if it is `writable`.
    ///
    /// # Errors
    /// When the file is missing or too short.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(writable).open(path);
        let file = opened.with_context(|| format!("the anchor {} cannot be opened", path.display()))?;
        let mut bytes = vec![0; SECTORS * SECTOR_BYTES];
        ensure!(file.metadata()?.len() >= bytes.len() as u64, "{} is too short for an anchor", path.display());
        file.read_exact_at(&mut bytes, 0)?;
        let mut nor = SimulatedNor::new(SECTORS, SECTOR_BYTES, BUFFER_LOG2);
        for (word, bytes) in nor.words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Ok(Self { nor, file: writable.then_some(file), failed: false })
    }

    /// Whether everything that was written is in the file.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.failed, "the anchor could not be written");
        Ok(())
    }

    /// Keeps the part of the bank of `len` bytes that `offset` lies in.
    fn keep(&mut self, offset: usize, len: usize) {
        let Some(file) = &self.file else { return };
        let first = offset / len * len;
        let words = &self.nor.words[first / 4..(first + len) / 4];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.failed |= file.write_all_at(&bytes, first as u64).is_err();
    }
}

impl Registers for FileFlash {
    fn read(&self, offset: usize) -> u32 {
        self.nor.read(offset)
    }

    fn write(&mut self, offset: usize, value: u32) {
        let (operations, erasures) = (self.nor.operations, self.nor.erasures);
        self.nor.write(offset, value);
        if self.nor.erasures != erasures {
            self.keep(offset, SECTOR_BYTES);
        } else if self.nor.operations != operations {
            self.keep(offset, PROGRAM_BYTES);
        }
    }
}
