//! The split virtqueue, device side (virtio 1.2, section 2.7).
//!
//! The order of accesses is the whole art. Descriptors and ring entries are read only after the available index that covers them
//! was loaded with acquire order (section 2.7.13.3: the driver's barrier before it updates the index; ours is its partner). A
//! used entry is written before the used index is stored with release order (section 2.7.8.2). And both notification
//! decisions are a store followed by a load that must not pass it (sections 2.7.7.2 and 2.7.10): the device publishes, then
//! looks whether the driver wants to hear; the device asks for a doorbell, then looks whether work came in between.

use crate::{Chain, Error, GuestMemory, Segment};

/// The largest queue this device serves, in entries (virtio 1.2, section 2.7: at most 32,768).
pub const MAX_SIZE: u32 = 1024;

const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
const DESC_BYTES: usize = 16;
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// Indirect descriptors that one copy fetches.
const BATCH: usize = 16;

/// Where the driver has put a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Entries: a power of two up to [`MAX_SIZE`].
    pub size: u32,
    /// Descriptor table, 16-byte aligned.
    pub descriptor_table: u64,
    /// Available ring (driver area), 2-byte aligned.
    pub available_ring: u64,
    /// Used ring (device area), 4-byte aligned.
    pub used_ring: u64,
}

/// What was negotiated about the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFeatures {
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
}

impl QueueFeatures {
    /// `VIRTIO_F_INDIRECT_DESC` (virtio 1.2, section 6).
    pub const INDIRECT: u64 = 1 << 28;
    /// `VIRTIO_F_EVENT_IDX` (virtio 1.2, section 6).
    pub const EVENT_IDX: u64 = 1 << 29;

    /// The ring features among the feature bits that the driver accepted.
    pub const fn from_bits(bits: u64) -> QueueFeatures {
        QueueFeatures { indirect: bits & Self::INDIRECT != 0, event_idx: bits & Self::EVENT_IDX != 0 }
    }
}

/// A chain that was popped and must be given back through [`Queue::push_used`], once.
#[derive(Debug)]
#[must_use = "a popped chain goes back through push_used"]
pub struct Token {
    head: u16,
}

impl Token {
    /// Drops the token of a queue that no longer exists (after a reset), when there is nothing to give back to.
    pub fn abandon(self) {}
}

/// One virtqueue.
#[derive(Debug)]
pub struct Queue {
    config: QueueConfig,
    features: QueueFeatures,
    /// The next available entry to take.
    next_available: u16,
    /// The available index as last loaded.
    seen_available: u16,
    /// The next used entry to write.
    next_used: u16,
    /// The used index as last published.
    published_used: u16,
}

impl Queue {
    /// A fresh queue, or what is wrong with its place.
    pub fn new(config: QueueConfig, features: QueueFeatures) -> Result<Queue, Error> {
        if !config.size.is_power_of_two() || config.size > MAX_SIZE {
            return Err(Error::QueueSize(config.size));
        }
        let rings = [(config.descriptor_table, 16), (config.available_ring, 2), (config.used_ring, 4)];
        for (address, alignment) in rings {
            // Section 2.7: alignment. The largest part, the table, has 16 bytes an entry: its end must not wrap.
            if address % alignment != 0 || address.checked_add(u64::from(MAX_SIZE) * 16).is_none() {
                return Err(Error::RingAlignment(address));
            }
        }
        Ok(Queue { config, features, next_available: 0, seen_available: 0, next_used: 0, published_used: 0 })
    }

    /// Takes the next available chain into `chain` (which it clears first). `None`: nothing waits.
    pub fn pop(&mut self, memory: &impl GuestMemory, chain: &mut Chain) -> Result<Option<Token>, Error> {
        chain.clear();
        if self.next_available == self.seen_available && !self.look(memory)? {
            return Ok(None);
        }
        let slot = u64::from(self.next_available) & u64::from(self.config.size - 1);
        let mut head = [0; 2];
        memory.read(self.config.available_ring + 4 + 2 * slot, &mut head)?;
        let head = u16::from_le_bytes(head);
        self.walk(memory, head, chain)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(Token { head }))
    }

    /// Writes the used entry of `token`: the device wrote the first `written` bytes of its writable part. The driver sees it at
    /// the next [`publish`](Self::publish).
    pub fn push_used(&mut self, memory: &impl GuestMemory, token: Token, written: u32) -> Result<(), Error> {
        let slot = u64::from(self.next_used) & u64::from(self.config.size - 1);
        let entry = u64::from(token.head) | u64::from(written) << 32;
        memory.write(self.config.used_ring + 4 + 8 * slot, &entry.to_le_bytes())?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver all used entries written so far, and returns whether it wants a notification.
    pub fn publish(&mut self, memory: &impl GuestMemory) -> Result<bool, Error> {
        let (old, new) = (self.published_used, self.next_used);
        if old == new {
            return Ok(false);
        }
        // Section 2.7.8.2: entries first, then the index.
        memory.store_release(self.config.used_ring + 2, new)?;
        self.published_used = new;
        // Section 2.7.7.2 and 2.7.10: the index must be visible before the driver's wish is read.
        memory.fence();
        if self.features.event_idx {
            let used_event = memory.load_acquire(self.config.available_ring + 4 + 2 * u64::from(self.config.size))?;
            return Ok(crossed(used_event, old, new));
        }
        Ok(memory.load_acquire(self.config.available_ring)? & AVAIL_NO_INTERRUPT == 0)
    }

    /// Tells the driver that doorbells are not needed while the device is at work. With EVENT_IDX nothing is to be written: the
    /// event index lies behind already.
    pub fn disable_notifications(&mut self, memory: &impl GuestMemory) -> Result<(), Error> {
        if !self.features.event_idx {
            memory.store_release(self.config.used_ring, USED_NO_NOTIFY)?;
        }
        Ok(())
    }

    /// Asks for a doorbell at the next available entry. `true`: one came in between and no doorbell may follow, so the
    /// caller looks again (virtio 1.2, section 2.7.10.1).
    pub fn enable_notifications(&mut self, memory: &impl GuestMemory) -> Result<bool, Error> {
        if self.features.event_idx {
            let event = self.config.used_ring + 4 + 8 * u64::from(self.config.size);
            memory.store_release(event, self.next_available)?;
        } else {
            memory.store_release(self.config.used_ring, 0)?;
        }
        memory.fence();
        self.look(memory)
    }

    /// Loads the available index; returns whether entries wait.
    fn look(&mut self, memory: &impl GuestMemory) -> Result<bool, Error> {
        let index = memory.load_acquire(self.config.available_ring + 2)?;
        let waiting = index.wrapping_sub(self.next_available);
        if u32::from(waiting) > self.config.size {
            return Err(Error::IndexJump { index, expected: self.next_available });
        }
        self.seen_available = index;
        Ok(waiting != 0)
    }

    /// Copies the chain that begins at `head`. At most as many steps as the table has entries.
    fn walk(&self, memory: &impl GuestMemory, head: u16, chain: &mut Chain) -> Result<(), Error> {
        let mut index = head;
        for _ in 0..self.config.size {
            if u32::from(index) >= self.config.size {
                return Err(Error::DescriptorIndex(index));
            }
            let mut bytes = [0; DESC_BYTES];
            memory.read(self.config.descriptor_table + 16 * u64::from(index), &mut bytes)?;
            let descriptor = Descriptor::parse(&bytes);
            if descriptor.flags & DESC_INDIRECT != 0 {
                if !self.features.indirect || descriptor.flags & DESC_NEXT != 0 {
                    return Err(Error::Indirect);
                }
                return walk_indirect(memory, descriptor, chain);
            }
            chain.push(descriptor.segment())?;
            if descriptor.flags & DESC_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(Error::Loop)
    }
}

/// Whether the driver's event index lies in `old..new`, with wrap (`vring_need_event`, virtio 1.2, section 2.7.10).
fn crossed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A descriptor as read (virtio 1.2, section 2.7.5).
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(bytes: &[u8; DESC_BYTES]) -> Descriptor {
        let word = u128::from_le_bytes(*bytes);
        Descriptor {
            address: word as u64,
            len: (word >> 64) as u32,
            flags: (word >> 96) as u16,
            next: (word >> 112) as u16,
        }
    }

    fn segment(self) -> Segment {
        Segment { address: self.address, len: self.len, writable: self.flags & DESC_WRITE != 0 }
    }
}

/// Copies the indirect table `descriptor` points at (virtio 1.2, section 2.7.5.3). Tables are read [`BATCH`] entries at a time;
/// a chain that leaves the batch costs another read, never more than it has segments.
fn walk_indirect(memory: &impl GuestMemory, descriptor: Descriptor, chain: &mut Chain) -> Result<(), Error> {
    let entries = descriptor.len / DESC_BYTES as u32;
    if entries == 0 || !descriptor.len.is_multiple_of(DESC_BYTES as u32) || entries > 1 << 16 {
        return Err(Error::Indirect);
    }
    let mut batch = [0; BATCH * DESC_BYTES];
    let (mut first, mut held) = (0, 0);
    let mut index = 0;
    for _ in 0..entries {
        if index >= entries {
            return Err(Error::DescriptorIndex(index as u16));
        }
        if index < first || index >= first + held {
            (first, held) = (index, (entries - index).min(BATCH as u32));
            let offset = u64::from(first) * DESC_BYTES as u64;
            let address = descriptor.address.checked_add(offset).ok_or(Error::Indirect)?;
            memory.read(address, &mut batch[..held as usize * DESC_BYTES])?;
        }
        let (entry, _) = batch[(index - first) as usize * DESC_BYTES..].split_first_chunk().ok_or(Error::Indirect)?;
        let inner = Descriptor::parse(entry);
        if inner.flags & DESC_INDIRECT != 0 {
            return Err(Error::Indirect);
        }
        chain.push(inner.segment())?;
        if inner.flags & DESC_NEXT == 0 {
            return Ok(());
        }
        index = u32::from(inner.next);
    }
    Err(Error::Loop)
}
