//! The memory-mapped transport, version 2 (virtio 1.2, section 4.2.2).

use super::Transport;
use crate::{Error, Registers};

/// Register offsets.
mod register {
    pub(super) const MAGIC: usize = 0x000;
    pub(super) const VERSION: usize = 0x004;
    pub(super) const DEVICE_ID: usize = 0x008;
    pub(super) const DEVICE_FEATURES: usize = 0x010;
    pub(super) const DEVICE_FEATURES_SEL: usize = 0x014;
    pub(super) const DRIVER_FEATURES: usize = 0x020;
    pub(super) const DRIVER_FEATURES_SEL: usize = 0x024;
    pub(super) const QUEUE_SEL: usize = 0x030;
    pub(super) const QUEUE_NUM_MAX: usize = 0x034;
    pub(super) const QUEUE_NUM: usize = 0x038;
    pub(super) const QUEUE_READY: usize = 0x044;
    pub(super) const QUEUE_NOTIFY: usize = 0x050;
    pub(super) const INTERRUPT_STATUS: usize = 0x060;
    pub(super) const INTERRUPT_ACK: usize = 0x064;
    pub(super) const STATUS: usize = 0x070;
    pub(super) const QUEUE_DESC: usize = 0x080;
    pub(super) const QUEUE_DRIVER: usize = 0x090;
    pub(super) const QUEUE_DEVICE: usize = 0x0a0;
    pub(super) const CONFIG_GENERATION: usize = 0x0fc;
    pub(super) const CONFIG: usize = 0x100;
}

/// "virt" in little-endian order.
const MAGIC: u32 = 0x7472_6976;
const BLOCK_DEVICE: u32 = 2;

/// The registers of a virtio-mmio device.
#[derive(Debug)]
pub struct Mmio<R>(pub R);

impl<R: Registers> Transport for Mmio<R> {
    fn identify(&self) -> Result<(), Error> {
        let magic = self.0.read(register::MAGIC);
        if magic != MAGIC {
            return Err(Error::NotVirtio(magic));
        }
        let version = self.0.read(register::VERSION);
        if version != 2 {
            return Err(Error::Version(version));
        }
        match self.0.read(register::DEVICE_ID) {
            BLOCK_DEVICE => Ok(()),
            other => Err(Error::DeviceId(other)),
        }
    }

    fn needs(&self) -> u64 {
        0
    }

    fn status(&self) -> u32 {
        self.0.read(register::STATUS)
    }

    fn set_status(&mut self, status: u32) {
        self.0.write(register::STATUS, status);
    }

    fn features(&mut self, half: u32) -> u32 {
        self.0.write(register::DEVICE_FEATURES_SEL, half);
        self.0.read(register::DEVICE_FEATURES)
    }

    fn accept(&mut self, half: u32, features: u32) {
        self.0.write(register::DRIVER_FEATURES_SEL, half);
        self.0.write(register::DRIVER_FEATURES, features);
    }

    fn generation(&self) -> u32 {
        self.0.read(register::CONFIG_GENERATION)
    }

    fn config(&self, offset: usize) -> u32 {
        self.0.read(register::CONFIG + offset)
    }

    fn start_queue(&mut self, size: u16, areas: [u64; 3]) -> Result<(), Error> {
        self.0.write(register::QUEUE_SEL, 0);
        let largest = self.0.read(register::QUEUE_NUM_MAX);
        if self.0.read(register::QUEUE_READY) != 0 || largest < u32::from(size) {
            return Err(Error::Queue(largest));
        }
        self.0.write(register::QUEUE_NUM, size.into());
        let registers = [register::QUEUE_DESC, register::QUEUE_DRIVER, register::QUEUE_DEVICE];
        for (low, address) in registers.into_iter().zip(areas) {
            self.0.write(low, address as u32);
            self.0.write(low + 4, (address >> 32) as u32);
        }
        self.0.write(register::QUEUE_READY, 1);
        Ok(())
    }

    fn notify(&mut self) {
        self.0.write(register::QUEUE_NOTIFY, 0);
    }

    fn acknowledge(&mut self) {
        let pending = self.0.read(register::INTERRUPT_STATUS);
        if pending != 0 {
            self.0.write(register::INTERRUPT_ACK, pending);
        }
    }
}
