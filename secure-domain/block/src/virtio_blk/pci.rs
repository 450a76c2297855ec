//! The PCI transport without its legacy interface (virtio 1.2, section 4.1), on a wired interrupt.

use super::{FEATURE_ACCESS_PLATFORM, Transport};
use crate::pci::{Refusal, Structure, Structures};
use crate::{Error, NarrowRegisters};

/// Fields of the common configuration (section 4.1.4.3), each of its own width.
mod field {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const DEVICE_STATUS: usize = 0x14;
    pub(super) const CONFIG_GENERATION: usize = 0x15;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub(super) const QUEUE_DESC: usize = 0x20;
    pub(super) const QUEUE_DRIVER: usize = 0x28;
    pub(super) const QUEUE_DEVICE: usize = 0x30;
}

/// A virtio function whose structures have been found, in a block of registers that holds them all.
#[derive(Debug)]
pub struct Pci<R> {
    registers: R,
    structures: Structures,
    /// Where queue 0 is notified.
    doorbell: usize,
}

impl<R: NarrowRegisters> Pci<R> {
    /// The function whose `structures` lie in `registers`.
    pub fn new(registers: R, structures: Structures) -> Pci<R> {
        let doorbell = structures.notify.start;
        Pci { registers, structures, doorbell }
    }

    /// Registers, for tests that play the device.
    #[cfg(any(test, feature = "ram"))]
    pub fn registers(&mut self) -> &mut R {
        &mut self.registers
    }

    fn common(&self, field: usize) -> usize {
        self.structures.common.start + field
    }

    /// Where the selected queue is notified (section 4.1.4.4), if that is where such registers are.
    fn find_doorbell(&self) -> Option<usize> {
        let Structures { notify, notify_multiplier, .. } = &self.structures;
        let number = u64::from(self.registers.read16(self.common(field::QUEUE_NOTIFY_OFF)));
        let at = usize::try_from(number * u64::from(*notify_multiplier)).ok()?.checked_add(notify.start)?;
        (at.checked_add(2)? <= notify.end && at.is_multiple_of(2)).then_some(at)
    }
}

impl<R: NarrowRegisters> Transport for Pci<R> {
    /// That has been seen when its structures were found.
    fn identify(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Without it the device may go round the system MMU, which is why it is here.
    fn needs(&self) -> u64 {
        FEATURE_ACCESS_PLATFORM
    }

    fn status(&self) -> u32 {
        self.registers.read8(self.common(field::DEVICE_STATUS)).into()
    }

    fn set_status(&mut self, status: u32) {
        self.registers.write8(self.common(field::DEVICE_STATUS), status as u8);
    }

    fn features(&mut self, half: u32) -> u32 {
        self.registers.write(self.common(field::DEVICE_FEATURE_SELECT), half);
        self.registers.read(self.common(field::DEVICE_FEATURE))
    }

    fn accept(&mut self, half: u32, features: u32) {
        self.registers.write(self.common(field::DRIVER_FEATURE_SELECT), half);
        self.registers.write(self.common(field::DRIVER_FEATURE), features);
    }

    fn generation(&self) -> u32 {
        self.registers.read8(self.common(field::CONFIG_GENERATION)).into()
    }

    fn config(&self, offset: usize) -> u32 {
        self.registers.read(self.structures.device.start + offset)
    }

    fn start_queue(&mut self, size: u16, areas: [u64; 3]) -> Result<(), Error> {
        self.registers.write16(self.common(field::QUEUE_SELECT), 0);
        let largest = self.registers.read16(self.common(field::QUEUE_SIZE));
        if self.registers.read16(self.common(field::QUEUE_ENABLE)) != 0 || largest < size {
            return Err(Error::Queue(largest.into()));
        }
        self.doorbell = self.find_doorbell().ok_or(Error::Pci(Refusal::Misplaced(Structure::Notify)))?;
        self.registers.write16(self.common(field::QUEUE_SIZE), size);
        let fields = [field::QUEUE_DESC, field::QUEUE_DRIVER, field::QUEUE_DEVICE];
        for (low, address) in fields.into_iter().zip(areas) {
            // 64-bit fields are written in halves (section 4.1.3.1).
            self.registers.write(self.common(low), address as u32);
            self.registers.write(self.common(low + 4), (address >> 32) as u32);
        }
        self.registers.write16(self.common(field::QUEUE_ENABLE), 1);
        Ok(())
    }

    fn notify(&mut self) {
        self.registers.write16(self.doorbell, 0);
    }

    /// Reading the status ends the interrupt (section 4.1.4.5).
    fn acknowledge(&mut self) {
        self.registers.read8(self.structures.isr.start);
    }
}
