//! Block drivers over register and DMA traits.
//!
//! A [`BlockDevice`] is asynchronous: requests go in with a tag, completions come out in any order. It also owns the DMA buffers,
//! because ownership is the safety argument: a [`Buffer`] is moved into a request and comes back with its completion, so the
//! processor cannot touch bytes that the device may be reading or writing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod driver;
pub mod gpt;
pub mod machine;
#[cfg(any(test, feature = "ram"))]
pub mod model;
pub mod nvme;
pub mod partition;
pub mod pci;
pub mod pool;
#[cfg(any(test, feature = "ram"))]
pub mod ram;
mod slots;
pub mod virtio_blk;

pub use driver::Driver;
pub use machine::{Clock, Dma, NarrowRegisters, Registers};
pub use partition::Partition;
pub use pool::Buffer;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;

/// Blocks of the largest single request: 128 KiB.
pub const MAX_REQUEST_BLOCKS: usize = 32;

/// Why a disk cannot be driven, or a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No virtio-mmio register block at this place: the magic value is another.
    NotVirtio(u32),
    /// A virtio-mmio register block of another version than 2 (1 is the legacy interface).
    Version(u32),
    /// A virtio device that is no block device; 0 is an empty slot.
    DeviceId(u32),
    /// A PCI function that is not what the driver is for, or does not say soundly where its registers are.
    Pci(pci::Refusal),
    /// An NVMe controller that is not driven.
    Nvme(nvme::Refusal),
    /// The device lacks features that the driver needs: these bits.
    Features(u64),
    /// The device did not accept the features that it had offered.
    FeaturesRejected,
    /// The queue is absent, in use or too small: its largest size.
    Queue(u32),
    /// The device serves sectors in blocks larger than 4 KiB: its block size.
    BlockSize(u32),
    /// The DMA region is too small or not aligned: its length in bytes.
    DmaRegion(usize),
    /// The device broke the protocol and is used no more.
    Broken,
    /// The device reports that this request failed.
    Io,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NotVirtio(magic) => write!(f, "no virtio-mmio device: magic is {magic:#010x}"),
            Error::Version(1) => write!(f, "virtio-mmio version 1: the legacy interface is not driven"),
            Error::Version(version) => write!(f, "virtio-mmio version {version}: only 2 is driven"),
            Error::DeviceId(0) => write!(f, "virtio-mmio slot is empty"),
            Error::DeviceId(id) => write!(f, "virtio device {id} is no block device"),
            Error::Pci(refusal) => refusal.fmt(f),
            Error::Nvme(refusal) => refusal.fmt(f),
            Error::Features(bits) => write!(f, "virtio-blk lacks the features {bits:#x}"),
            Error::FeaturesRejected => write!(f, "virtio-blk rejects the features it had offered"),
            Error::Queue(size) => write!(f, "virtio-blk queue of {size} entries cannot be used"),
            Error::BlockSize(bytes) => write!(f, "disk blocks of {bytes} bytes: at most 4096 are driven"),
            Error::DmaRegion(bytes) => write!(f, "DMA region of {bytes} bytes is too small or not aligned"),
            Error::Broken => write!(f, "the disk broke its protocol"),
            Error::Io => write!(f, "the disk reports an error"),
        }
    }
}

/// What a finished request brings back.
#[derive(Debug)]
#[must_use = "a completion carries a buffer to release"]
pub struct Completion {
    /// The tag it was submitted with.
    pub tag: u32,
    /// Whether it succeeded.
    pub result: Result<(), Error>,
    /// The buffer it was submitted with; `None` for a flush.
    pub buffer: Option<Buffer>,
}

/// A request that was not taken; the buffer comes back.
#[derive(Debug)]
#[must_use = "a refused request carries a buffer to release"]
pub struct Refused(pub Option<Buffer>);

/// A disk of 4 KiB blocks.
pub trait BlockDevice {
    /// Capacity in blocks.
    fn blocks(&self) -> u64;

    /// Requests that can be submitted now.
    fn room(&self) -> usize;

    /// A buffer of up to `blocks` contiguous blocks (at least one; at most [`MAX_REQUEST_BLOCKS`]), or `None` if all are in use.
    fn allocate(&mut self, blocks: usize) -> Option<Buffer>;

    /// Gives a buffer back.
    fn release(&mut self, buffer: Buffer);

    /// The bytes of a buffer: [`Buffer::blocks`] times [`BLOCK_BYTES`].
    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8];

    /// The bytes of `blocks` blocks from the first of `buffer` on, where they run over into the buffers behind it
    /// ([`Buffer::first`] says which those are); the caller holds all of them. `None`: this disk's buffers do not lie in one piece.
    fn span(&mut self, buffer: &Buffer, blocks: usize) -> Option<&mut [u8]> {
        let _ = (buffer, blocks);
        None
    }

    /// Starts reading `buffer.blocks()` blocks from `block` on.
    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused>;

    /// Starts writing `buffer.blocks()` blocks from `block` on.
    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused>;

    /// Starts making durable every write that has completed.
    fn flush(&mut self, tag: u32) -> Result<(), Refused>;

    /// Shows the device what was started since the last call: one notification for many requests.
    fn kick(&mut self);

    /// Acknowledges the device's interrupt. Call before [`poll`](Self::poll), so that none is lost.
    fn acknowledge(&mut self);

    /// The next finished request.
    fn poll(&mut self) -> Option<Completion>;
}
