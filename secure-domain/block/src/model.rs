//! A machine for the drivers: memory, and the registers of a virtio block device on either transport, as tests and fuzz targets set them; and an
//! NVMe controller that works.

mod function;
pub mod nvme;

use alloc::{vec, vec::Vec};
use core::ops::Range;

use crate::{Dma, Registers};

pub use function::{Function, FunctionRegisters};

/// DMA memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The bytes, at device address [`Memory::BASE`].
    pub bytes: Vec<u8>,
}

impl Memory {
    /// The device's address of the first byte.
    pub const BASE: u64 = 0x8000_0000;

    /// Memory full of a pattern, since nobody promises zeros.
    pub fn new(len: usize) -> Memory {
        Memory { bytes: vec![0xa5; len] }
    }
}

impl Dma for Memory {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn address(&self) -> u64 {
        Memory::BASE
    }

    fn bytes(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }

    fn load8(&self, offset: usize) -> u8 {
        self.bytes[offset]
    }

    fn load16(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }

    fn load32(&self, offset: usize) -> u32 {
        u32::from(self.load16(offset)) | u32::from(self.load16(offset + 2)) << 16
    }

    fn store8(&mut self, offset: usize, value: u8) {
        self.bytes[offset] = value;
    }

    fn store16(&mut self, offset: usize, value: u16) {
        self.bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn store32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn store64(&mut self, offset: usize, value: u64) {
        self.bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn fence(&self) {}
}

/// The register file of a virtio-mmio block device (virtio 1.2, section 4.2.2). Reads return what a test has put there.
#[derive(Clone, Debug)]
pub struct RegisterFile {
    /// `MagicValue`.
    pub magic: u32,
    /// `Version`.
    pub version: u32,
    /// `DeviceID`.
    pub device_id: u32,
    /// Features that the device offers.
    pub features: u64,
    /// Whether the device lets FEATURES_OK stand.
    pub accepts: bool,
    /// `QueueNumMax`.
    pub queue_max: u32,
    /// `capacity`, in sectors.
    pub sectors: u64,
    /// `blk_size`.
    pub block_size: u32,
    /// Features that the driver accepted.
    pub accepted: u64,
    /// `Status`.
    pub status: u32,
    /// `InterruptStatus`.
    pub interrupt: u32,
    /// Every write, in order: offset and value.
    pub writes: Vec<(usize, u32)>,
    /// `DeviceFeaturesSel` and `DriverFeaturesSel`.
    pub selector: [u32; 2],
}

impl RegisterFile {
    /// A sound device of `sectors` sectors.
    pub fn new(sectors: u64) -> RegisterFile {
        RegisterFile {
            magic: 0x7472_6976,
            version: 2,
            device_id: 2,
            features: 1 << 32 | 1 << 9 | 1 << 6,
            accepts: true,
            queue_max: 1024,
            sectors,
            block_size: 512,
            accepted: 0,
            status: 0,
            interrupt: 0,
            writes: Vec::new(),
            selector: [0; 2],
        }
    }

    /// The value last written to the register at `offset`.
    pub fn last(&self, offset: usize) -> Option<u32> {
        self.writes.iter().rev().find(|write| write.0 == offset).map(|write| write.1)
    }

    /// How often the queue was notified.
    pub fn notifications(&self) -> usize {
        self.writes.iter().filter(|write| write.0 == 0x50).count()
    }
}

impl Registers for RegisterFile {
    fn read(&self, offset: usize) -> u32 {
        match offset {
            0x000 => self.magic,
            0x004 => self.version,
            0x008 => self.device_id,
            0x010 => (self.features >> (32 * self.selector[0].min(1))) as u32,
            0x034 => self.queue_max,
            0x060 => self.interrupt,
            0x070 => self.status,
            0x100 => self.sectors as u32,
            0x104 => (self.sectors >> 32) as u32,
            0x114 => self.block_size,
            _ => 0,
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.writes.push((offset, value));
        match offset {
            0x014 => self.selector[0] = value,
            0x024 => self.selector[1] = value,
            0x020 => {
                let shift = 32 * self.selector[1].min(1);
                self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            0x064 => self.interrupt &= !value,
            0x070 => self.status = if self.accepts { value } else { value & !8 },
            _ => {}
        }
    }
}
