//! A driver of any kind, for a machine that may have each.

use crate::nvme::Nvme;
use crate::virtio_blk::{Any, VirtioBlk};
use crate::{BlockDevice, Buffer, Completion, Dma, NarrowRegisters, Refused};

/// The driver of one disk.
#[derive(Debug)]
pub enum Driver<R, M> {
    /// A virtio block device.
    Virtio(VirtioBlk<Any<R>, M>),
    /// An NVMe controller with one namespace.
    Nvme(Nvme<R, M>),
}

/// Calls the method of whichever it is.
macro_rules! either {
    ($driver:expr, $disk:ident => $call:expr) => {
        match $driver {
            Driver::Virtio($disk) => $call,
            Driver::Nvme($disk) => $call,
        }
    };
}

impl<R: NarrowRegisters, M: Dma> BlockDevice for Driver<R, M> {
    fn blocks(&self) -> u64 {
        either!(self, disk => disk.blocks())
    }

    fn room(&self) -> usize {
        either!(self, disk => disk.room())
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        either!(self, disk => disk.allocate(blocks))
    }

    fn release(&mut self, buffer: Buffer) {
        either!(self, disk => disk.release(buffer));
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        either!(self, disk => disk.bytes(buffer))
    }

    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        either!(self, disk => disk.span(buffer, blocks))
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        either!(self, disk => disk.read(tag, block, buffer))
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        either!(self, disk => disk.write(tag, block, buffer))
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        either!(self, disk => disk.flush(tag))
    }

    fn kick(&mut self) {
        either!(self, disk => disk.kick());
    }

    fn acknowledge(&mut self) {
        either!(self, disk => disk.acknowledge());
    }

    fn poll(&mut self) -> Option<Completion> {
        either!(self, disk => disk.poll())
    }
}
