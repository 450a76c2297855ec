//! The driver's side and its memory, as tests and fuzz targets play them: simple, slow, and sharing no code with the device.

use alloc::{vec, vec::Vec};
use core::cell::RefCell;

use crate::{GuestMemory, OutOfRange, QueueConfig};

/// Guest memory that begins at [`Ram::BASE`].
#[derive(Debug)]
pub struct Ram {
    bytes: RefCell<Vec<u8>>,
}

impl Ram {
    /// The address of the first byte.
    pub const BASE: u64 = 0x4000_0000;

    /// Zeroed memory of `len` bytes.
    pub fn new(len: usize) -> Ram {
        Ram { bytes: RefCell::new(vec![0; len]) }
    }

    fn at(&self, address: u64, len: usize) -> Result<core::ops::Range<usize>, OutOfRange> {
        let wrong = OutOfRange { address, len };
        let start = address.checked_sub(Ram::BASE).ok_or(wrong)? as usize;
        let end = start.checked_add(len).ok_or(wrong)?;
        if end <= self.bytes.borrow().len() { Ok(start..end) } else { Err(wrong) }
    }

    /// `len` bytes at `address`; panics outside.
    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.read(address, &mut out).expect("the model stays in its memory");
        out
    }

    /// Stores `data` at `address`; panics outside.
    pub fn put(&self, address: u64, data: &[u8]) {
        self.write(address, data).expect("the model stays in its memory");
    }
}

impl GuestMemory for Ram {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
        out.copy_from_slice(&self.bytes.borrow()[self.at(address, out.len())?]);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let range = self.at(address, data.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }

    fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange> {
        self.write(address, &value.to_le_bytes())
    }

    fn fence(&self) {}
}

/// A buffer that the driver lends: address, length, whether the device writes it.
pub type Buffer = (u64, u32, bool);

/// A driver with one split queue.
#[derive(Debug)]
pub struct Driver {
    /// Where the queue is.
    pub config: QueueConfig,
    event_idx: bool,
    free: Vec<u16>,
    available: u16,
    kicked: u16,
    used: u16,
}

impl Driver {
    /// A driver whose rings begin at `base` (16-byte aligned) and take [`Driver::ring_bytes`].
    pub fn new(base: u64, size: u32, event_idx: bool) -> Driver {
        let available_ring = base + u64::from(size) * 16;
        let used_ring = (available_ring + 6 + 2 * u64::from(size)).next_multiple_of(4);
        let config = QueueConfig { size, descriptor_table: base, available_ring, used_ring };
        Driver { config, event_idx, free: (0..size as u16).rev().collect(), available: 0, kicked: 0, used: 0 }
    }

    /// Bytes that the rings of `size` entries take.
    pub fn ring_bytes(size: u32) -> u64 {
        u64::from(size) * 26 + 20
    }

    /// Writes descriptor `index` of the table at `table`.
    pub fn write_descriptor(ram: &Ram, table: u64, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = table + u64::from(index) * 16;
        ram.put(at, &address.to_le_bytes());
        ram.put(at + 8, &len.to_le_bytes());
        ram.put(at + 12, &flags.to_le_bytes());
        ram.put(at + 14, &next.to_le_bytes());
    }

    /// Makes `buffers` available as one chain of direct descriptors; returns its head, or `None` if the table is full.
    pub fn post(&mut self, ram: &Ram, buffers: &[Buffer]) -> Option<u16> {
        if self.free.len() < buffers.len() {
            return None;
        }
        let indices: Vec<u16> = (0..buffers.len()).filter_map(|_| self.free.pop()).collect();
        for (i, &(address, len, writable)) in buffers.iter().enumerate() {
            let next = indices.get(i + 1);
            let flags = u16::from(next.is_some()) | u16::from(writable) << 1;
            let next = next.copied().unwrap_or(0);
            Driver::write_descriptor(ram, self.config.descriptor_table, indices[i], address, len, flags, next);
        }
        self.make_available(ram, indices[0]);
        Some(indices[0])
    }

    /// Makes `buffers` available through an indirect table written at `table`; returns the head.
    pub fn post_indirect(&mut self, ram: &Ram, table: u64, buffers: &[Buffer]) -> Option<u16> {
        let head = self.free.pop()?;
        for (i, &(address, len, writable)) in buffers.iter().enumerate() {
            let more = i + 1 < buffers.len();
            let flags = u16::from(more) | u16::from(writable) << 1;
            Driver::write_descriptor(ram, table, i as u16, address, len, flags, i as u16 + 1);
        }
        let len = buffers.len() as u32 * 16;
        Driver::write_descriptor(ram, self.config.descriptor_table, head, table, len, 4, 0);
        self.make_available(ram, head);
        Some(head)
    }

    /// Puts `head` into the available ring.
    pub fn make_available(&mut self, ram: &Ram, head: u16) {
        let slot = u64::from(self.available) % u64::from(self.config.size);
        ram.put(self.config.available_ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        ram.put(self.config.available_ring + 2, &self.available.to_le_bytes());
    }

    /// Whether the device wants a doorbell for what was made available since the last call.
    pub fn kick(&mut self, ram: &Ram) -> bool {
        let (old, new) = (self.kicked, self.available);
        self.kicked = new;
        if !self.event_idx {
            return old != new && ram.get(self.config.used_ring, 2)[0] & 1 == 0;
        }
        let at = self.config.used_ring + 4 + 8 * u64::from(self.config.size);
        let event = ram.load_acquire(at).expect("the ring is in memory");
        (0..new.wrapping_sub(old)).any(|i| old.wrapping_add(i) == event)
    }

    /// Takes the next used entry: head and written bytes. Asks for a notification at the one after it.
    pub fn take_used(&mut self, ram: &Ram) -> Option<(u16, u32)> {
        let index = ram.load_acquire(self.config.used_ring + 2).expect("the ring is in memory");
        if index == self.used {
            return None;
        }
        let slot = u64::from(self.used) % u64::from(self.config.size);
        let entry = ram.get(self.config.used_ring + 4 + 8 * slot, 8);
        self.used = self.used.wrapping_add(1);
        if self.event_idx {
            let at = self.config.available_ring + 4 + 2 * u64::from(self.config.size);
            ram.put(at, &self.used.to_le_bytes());
        }
        let head = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as u16;
        self.release(ram, head);
        Some((head, u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])))
    }

    fn release(&mut self, ram: &Ram, head: u16) {
        let mut index = head;
        for _ in 0..self.config.size {
            let descriptor = ram.get(self.config.descriptor_table + u64::from(index) * 16, 16);
            assert!(!self.free.contains(&index), "descriptor {index} was given back twice");
            self.free.push(index);
            if descriptor[12] & 1 == 0 {
                return;
            }
            index = u16::from_le_bytes([descriptor[14], descriptor[15]]);
        }
    }
}
