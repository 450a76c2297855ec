//! One virtqueue's registers, as the driver fills them in.

use crate::registers::offset;

/// Size, addresses and readiness of one queue. Addresses are the driver's, unchecked except for alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Entries; 0 until the driver has written a valid size.
    pub(crate) size: u32,
    /// Whether the driver has enabled the queue with valid registers.
    pub(crate) ready: bool,
    /// Descriptor table.
    pub(crate) descriptor_table: u64,
    /// Available ring.
    pub(crate) available_ring: u64,
    /// Used ring.
    pub(crate) used_ring: u64,
}

impl Queue {
    /// Takes a size; one that is no power of two or above `max` leaves the queue without a size, so it cannot become ready.
    pub(crate) fn set_size(&mut self, value: u32, max: u32) {
        if !self.ready {
            self.size = if value.is_power_of_two() && value <= max { value } else { 0 };
        }
    }

    /// Takes one half of an address; a queue that is ready keeps its addresses.
    pub(crate) fn set_address(&mut self, register: usize, value: u32) {
        if self.ready {
            return;
        }
        let (address, high) = match register {
            offset::QUEUE_DESC_LOW => (&mut self.descriptor_table, false),
            offset::QUEUE_DESC_HIGH => (&mut self.descriptor_table, true),
            offset::QUEUE_DRIVER_LOW => (&mut self.available_ring, false),
            offset::QUEUE_DRIVER_HIGH => (&mut self.available_ring, true),
            offset::QUEUE_DEVICE_LOW => (&mut self.used_ring, false),
            offset::QUEUE_DEVICE_HIGH => (&mut self.used_ring, true),
            _ => return,
        };
        let value = u64::from(value);
        *address = if high { (*address & 0xffff_ffff) | (value << 32) } else { (*address & !0xffff_ffff) | value };
    }

    /// What [`Queue::set_size`] and [`Queue::set_address`] have left in `register`; 0 for any other.
    pub(crate) fn written(&self, register: usize) -> u32 {
        match register {
            offset::QUEUE_SIZE => self.size,
            offset::QUEUE_DESC_LOW => self.descriptor_table as u32,
            offset::QUEUE_DESC_HIGH => (self.descriptor_table >> 32) as u32,
            offset::QUEUE_DRIVER_LOW => self.available_ring as u32,
            offset::QUEUE_DRIVER_HIGH => (self.available_ring >> 32) as u32,
            offset::QUEUE_DEVICE_LOW => self.used_ring as u32,
            offset::QUEUE_DEVICE_HIGH => (self.used_ring >> 32) as u32,
            _ => 0,
        }
    }

    /// Enables or disables the queue; enabling one without a size or with misaligned parts (virtio 1.2, section 2.7: 16, 2
    /// and 4 bytes) does nothing, which the driver sees when it reads `QueueReady` back.
    pub(crate) fn set_ready(&mut self, value: u32) {
        let aligned = self.descriptor_table.is_multiple_of(16)
            && self.available_ring.is_multiple_of(2)
            && self.used_ring.is_multiple_of(4);
        match value {
            0 => self.ready = false,
            1 => self.ready = self.size != 0 && aligned,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_sizes_that_are_no_power_of_two_or_too_large() {
        for bad in [0, 3, 129, 256, u32::MAX] {
            let mut queue = Queue { size: 64, ..Queue::default() };
            queue.set_size(bad, 128);
            queue.set_ready(1);
            assert!(!queue.ready, "{bad}");
        }
    }

    #[test]
    fn refuses_misaligned_parts() {
        for (register, value) in
            [(offset::QUEUE_DESC_LOW, 8), (offset::QUEUE_DRIVER_LOW, 1), (offset::QUEUE_DEVICE_LOW, 2)]
        {
            let mut queue = Queue { size: 64, ..Queue::default() };
            queue.set_address(register, value);
            queue.set_ready(1);
            assert!(!queue.ready);
        }
    }

    #[test]
    fn a_ready_queue_keeps_its_registers() {
        let mut queue = Queue::default();
        queue.set_size(16, 128);
        queue.set_address(offset::QUEUE_DESC_HIGH, 1);
        queue.set_ready(1);
        let before = queue;
        assert!(queue.ready);
        queue.set_size(32, 128);
        queue.set_address(offset::QUEUE_DESC_LOW, 0x1000);
        queue.set_ready(2);
        assert_eq!(queue, before);
        assert_eq!(queue.descriptor_table, 1 << 32);
    }
}
