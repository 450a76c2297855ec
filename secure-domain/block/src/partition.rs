//! A part of a disk as a disk.

use core::ops::Range;

use crate::{BlockDevice, Buffer, Completion, Error, Refused};

/// The blocks of a range of a disk, counted from zero. What lies outside cannot be reached.
#[derive(Debug)]
pub struct Partition<D> {
    disk: D,
    first: u64,
    blocks: u64,
    /// A request that reached outside: it fails like one that the disk fails.
    outside: Option<Completion>,
}

impl<D: BlockDevice> Partition<D> {
    /// The blocks `range` of `disk`.
    ///
    /// # Errors
    /// The disk itself, if the range is empty or not on it.
    pub fn new(disk: D, range: Range<u64>) -> Result<Partition<D>, D> {
        if range.start >= range.end || range.end > disk.blocks() {
            return Err(disk);
        }
        Ok(Partition { disk, first: range.start, blocks: range.end - range.start, outside: None })
    }

    /// The disk.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Where `blocks` blocks from `block` on lie on the disk; `None` if not all are ours.
    fn place(&self, block: u64, blocks: usize) -> Option<u64> {
        let end = block.checked_add(blocks as u64)?;
        (end <= self.blocks).then(|| self.first + block)
    }

    fn fail(&mut self, tag: u32, buffer: Buffer) -> Result<(), Refused> {
        if self.outside.is_some() {
            return Err(Refused(Some(buffer)));
        }
        self.outside = Some(Completion { tag, result: Err(Error::Io), buffer: Some(buffer) });
        Ok(())
    }
}

impl<D: BlockDevice> BlockDevice for Partition<D> {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn room(&self) -> usize {
        self.disk.room()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.disk.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.disk.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        self.disk.bytes(buffer)
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        self.disk.span(buffer, blocks)
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        match self.place(block, buffer.blocks()) {
            Some(block) => self.disk.read(tag, block, buffer),
            None => self.fail(tag, buffer),
        }
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        match self.place(block, buffer.blocks()) {
            Some(block) => self.disk.write(tag, block, buffer),
            None => self.fail(tag, buffer),
        }
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.disk.flush(tag)
    }

    fn kick(&mut self) {
        self.disk.kick();
    }

    fn acknowledge(&mut self) {
        self.disk.acknowledge();
    }

    fn poll(&mut self) -> Option<Completion> {
        self.outside.take().or_else(|| self.disk.poll())
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::{BLOCK_BYTES, ram::RamDisk};

    fn disk() -> RamDisk {
        let image = (0..16 * BLOCK_BYTES).map(|index| (index / BLOCK_BYTES) as u8).collect();
        RamDisk::new(image, 8, 1)
    }

    #[test]
    fn a_range_that_is_empty_or_not_on_the_disk_is_refused() {
        for range in [0..0, 5..5, Range { start: 6, end: 5 }, 0..17, 16..17, 3..u64::MAX] {
            assert!(Partition::new(disk(), range).is_err());
        }
    }

    #[test]
    fn blocks_outside_are_not_reached() {
        let mut part = Partition::new(disk(), 4..8).unwrap();
        for (block, blocks) in [(4, 1), (3, 2), (0, 8), (u64::MAX, 1), (u64::MAX - 3, 4)] {
            for write in [false, true] {
                let buffer = part.allocate(blocks).unwrap();
                assert_eq!(buffer.blocks(), blocks);
                let taken = if write { part.write(7, block, buffer) } else { part.read(7, block, buffer) };
                taken.unwrap();
                let done = part.poll().unwrap();
                assert_eq!((done.tag, done.result), (7, Err(Error::Io)));
                part.release(done.buffer.unwrap());
            }
        }
        assert_eq!(part.disk().requests, 0);
        assert_eq!(part.disk().free_buffers(), 8);
    }

    #[test]
    fn a_second_request_outside_waits_for_the_first() {
        let mut part = Partition::new(disk(), 4..8).unwrap();
        let (one, two) = (part.allocate(1).unwrap(), part.allocate(1).unwrap());
        part.read(1, 9, one).unwrap();
        let refused = part.read(2, 9, two).unwrap_err();
        part.release(refused.0.unwrap());
        assert_eq!(part.poll().unwrap().tag, 1);
    }

    #[test]
    fn blocks_inside_are_those_of_the_disk() {
        let mut part = Partition::new(disk(), 4..8).unwrap();
        assert_eq!(part.blocks(), 4);
        let buffer = part.allocate(2).unwrap();
        part.read(1, 2, buffer).unwrap();
        part.kick();
        let buffer = part.poll().unwrap().buffer.unwrap();
        assert_eq!(part.bytes(&buffer)[..BLOCK_BYTES], vec![6; BLOCK_BYTES]);
        assert_eq!(part.bytes(&buffer)[BLOCK_BYTES..], vec![7; BLOCK_BYTES]);
        part.write(2, 0, buffer).unwrap();
        assert_eq!(part.poll().unwrap().tag, 2);
        part.flush(3).unwrap();
        assert_eq!(part.poll().unwrap().tag, 3);
        assert_eq!(part.disk().image()[4 * BLOCK_BYTES..5 * BLOCK_BYTES], vec![6; BLOCK_BYTES]);
    }
}
