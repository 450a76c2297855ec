//! A file as a disk of the engine: a request is done when it is made.
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use block::pool::Pool;
use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Error, Refused};

/// Requests whose completions may wait.
const DEPTH: usize = 64;
/// Blocks of buffers.
const BUFFERS: usize = 2048;

/// A raw disk image.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    blocks: u64,
    buffers: Vec<u8>,
    pool: Pool,
    done: VecDeque<Completion>,
}

impl FileDisk {
    /// Opens an image; a part of a block at its end is left alone.
    ///
    /// # Errors
    /// When it is missing, no file, or may not be written though `writable`.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(writable).open(path);
        let file = opened.with_context(|| format!("{} cannot be opened", path.display()))?;
        if !file.metadata()?.is_file() {
            bail!("{} is not a file", path.display());
        }
        Self::new(file)
    }

    /// Makes an image of `len_bytes` zeros in place of what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, len_bytes: u64) -> Result<Self> {
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = made.with_context(|| format!("{} cannot be written", path.display()))?;
        let sized = file.set_len(len_bytes);
        sized.with_context(|| format!("{} cannot be made {len_bytes} bytes long", path.display()))?;
        Self::new(file)
    }

    fn new(file: File) -> Result<Self> {
        let blocks = file.metadata()?.len() / BLOCK_BYTES as u64;
        let buffers = vec![0; BUFFERS * BLOCK_BYTES];
        Ok(Self { file, blocks, buffers, pool: Pool::new(BUFFERS), done: VecDeque::with_capacity(DEPTH) })
    }

    fn end(&mut self, tag: u32, result: io::Result<()>, buffer: Option<Buffer>) {
        self.done.push_back(Completion { tag, result: result.map_err(|_| Error::Io), buffer });
    }

    /// The byte that `block` begins at, if it and the buffer's other blocks lie on the disk.
    fn place(&self, block: u64, buffer: &Buffer) -> io::Result<u64> {
        let end = block.checked_add(buffer.blocks() as u64);
        match end.is_some_and(|end| end <= self.blocks) {
            true => Ok(block * BLOCK_BYTES as u64),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// The bytes of a buffer.
fn held(buffer: &Buffer) -> Range<usize> {
    let first = buffer.first() * BLOCK_BYTES;
    first..first + buffer.blocks() * BLOCK_BYTES
}

impl BlockDevice for FileDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn room(&self) -> usize {
        DEPTH - self.done.len()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.pool.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        &mut self.buffers[held(buffer)]
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        if self.room() == 0 {
            return Err(Refused(Some(buffer)));
        }
        let place = self.place(block, &buffer);
        let result = place.and_then(|at| self.file.read_exact_at(&mut self.buffers[held(&buffer)], at));
        self.end(tag, result, Some(buffer));
        Ok(())
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        if self.room() == 0 {
            return Err(Refused(Some(buffer)));
        }
        let place = self.place(block, &buffer);
        let result = place.and_then(|at| self.file.write_all_at(&self.buffers[held(&buffer)], at));
        self.end(tag, result, Some(buffer));
        Ok(())
    }

    /// Whoever loses power while making an image makes it again: waiting for the host's disk would only cost time.
    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        if self.room() == 0 {
            return Err(Refused(None));
        }
        self.end(tag, Ok(()), None);
        Ok(())
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_end_fail_and_the_others_are_kept() {
        let path = std::env::temp_dir().join(format!("haechi-file-disk-{}", std::process::id()));
        let mut disk = FileDisk::create(&path, 4 * BLOCK_BYTES as u64 + 100).unwrap();
        assert_eq!(disk.blocks(), 4);
        let mut request = |write: bool, block, byte| {
            let buffer = disk.allocate(2).unwrap();
            disk.bytes(&buffer).fill(byte);
            let taken = if write { disk.write(7, block, buffer) } else { disk.read(7, block, buffer) };
            taken.unwrap();
            let done = disk.poll().unwrap();
            let buffer = done.buffer.unwrap();
            let seen = disk.bytes(&buffer)[BLOCK_BYTES];
            disk.release(buffer);
            (done.tag, done.result, seen)
        };
        assert_eq!(request(true, 2, 5), (7, Ok(()), 5));
        assert_eq!(request(true, 3, 6).1, Err(Error::Io));
        assert_eq!(request(false, u64::MAX, 6).1, Err(Error::Io));
        assert_eq!(request(false, 2, 0), (7, Ok(()), 5));
        std::fs::remove_file(path).unwrap();
    }
}
