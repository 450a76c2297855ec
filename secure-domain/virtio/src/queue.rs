//! The split virtqueue, device side (virtio 1.2, section 2.7).
//!
//! The order of accesses is the whole art. Descriptors and ring entries are read only after the available index that covers them
//! was loaded with acquire order (section 2.7.13.3: the driver's barrier before it updates the index; ours is its partner). A
//! used entry is written before the used index is stored with release order (section 2.7.8.2). And both notification
//! decisions are a store followed by a load that must not pass it (sections 2.7.7.2 and 2.7.10): the device publishes, then
//! looks whether the driver wants to hear; the device asks for a doorbell, then looks whether work came in between.

use crate::{Chain, Error, GuestMemory, Ledger, Segment};

/// The largest queue this device serves, in entries (virtio 1.2, section 2.7: at most 32,768).
pub const MAX_SIZE: u32 = 256;

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

impl QueueConfig {
    /// What is wrong with the place, if anything is.
    fn check(&self) -> Result<(), Error> {
        if !self.size.is_power_of_two() || self.size > MAX_SIZE {
            return Err(Error::QueueSize(self.size));
        }
        let rings = [(self.descriptor_table, 16), (self.available_ring, 2), (self.used_ring, 4)];
        for (address, alignment) in rings {
            // Section 2.7: alignment. The largest part, the table, has 16 bytes an entry: its end must not wrap.
            if address % alignment != 0 || address.checked_add(u64::from(MAX_SIZE) * 16).is_none() {
                return Err(Error::RingAlignment(address));
            }
        }
        Ok(())
    }
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
    /// A doorbell was asked for at this available index, which `next_available` may not have reached.
    armed: Option<u16>,
    /// The heads that this device has, in memory that outlives it.
    ledger: &'static Ledger,
    /// Heads from here on that the ledger names are to be served again; `None` once all have been.
    again: Option<u16>,
}

impl Queue {
    /// A fresh queue, or what is wrong with its place. The ledger must have begun afresh.
    pub fn new(config: QueueConfig, features: QueueFeatures, ledger: &'static Ledger) -> Result<Queue, Error> {
        config.check()?;
        // The driver has zeroed the ring: without EVENT_IDX that asks for every doorbell (section 2.7.10).
        let armed = (!features.event_idx).then_some(0);
        let (next_available, next_used) = (0, 0);
        Ok(Queue {
            config,
            features,
            next_available,
            seen_available: next_available,
            next_used,
            published_used: next_used,
            armed,
            ledger,
            again: None,
        })
    }

    /// The queue that another life of this device has left, or what is wrong with it. [`pop`](Self::pop) gives the chains that the
    /// device had first, then new ones. The driver may wait for a notification that was never raised: whoever starts the device
    /// again raises one.
    pub fn resume(
        config: QueueConfig,
        features: QueueFeatures,
        ledger: &'static Ledger,
        memory: &impl GuestMemory,
    ) -> Result<Queue, Error> {
        let fresh = Queue::new(config, features, ledger)?;
        let seen = memory.load_acquire(config.used_ring + 2)?;
        let used = ledger.settle(seen).ok_or(Error::UsedIndex(seen))?;
        let next_available = used.wrapping_add(ledger.count() as u16);
        Ok(Queue {
            next_available,
            seen_available: next_available,
            next_used: used,
            published_used: used,
            armed: None,
            again: Some(0),
            ..fresh
        })
    }

    /// Where the driver has put it.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Takes the next available chain into `chain` (which it clears first). `None`: nothing waits.
    pub fn pop(&mut self, memory: &impl GuestMemory, chain: &mut Chain) -> Result<Option<Token>, Error> {
        chain.clear();
        if let Some(head) = self.pop_again() {
            self.walk(memory, head, chain)?;
            return Ok(Some(Token { head }));
        }
        if self.next_available == self.seen_available && !self.look(memory)? {
            return Ok(None);
        }
        let slot = u64::from(self.next_available) & u64::from(self.config.size - 1);
        let mut head = [0; 2];
        memory.read(self.config.available_ring + 4 + 2 * slot, &mut head)?;
        let head = u16::from_le_bytes(head);
        self.walk(memory, head, chain)?;
        if !self.ledger.take(head) {
            return Err(Error::HeadInUse(head));
        }
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(Token { head }))
    }

    /// The next head that another life of this device has left.
    fn pop_again(&mut self) -> Option<u16> {
        let head = self.ledger.next(self.again?);
        self.again = head.map(|head| head + 1);
        head
    }

    /// Writes the used entry of `token`: the device wrote the first `written` bytes of its writable part. The driver sees it at
    /// the next [`publish`](Self::publish).
    pub fn push_used(&mut self, memory: &impl GuestMemory, token: Token, written: u32) -> Result<(), Error> {
        let slot = u64::from(self.next_used) & u64::from(self.config.size - 1);
        let entry = u64::from(token.head) | u64::from(written) << 32;
        memory.write(self.config.used_ring + 4 + 8 * slot, &entry.to_le_bytes())?;
        self.ledger.give_back(token.head);
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
        self.ledger.publishing(new);
        memory.store_release(self.config.used_ring + 2, new)?;
        self.ledger.published(new);
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
        if !self.features.event_idx && self.armed.take().is_some() {
            memory.store_release(self.config.used_ring, USED_NO_NOTIFY)?;
        }
        Ok(())
    }

    /// Asks for a doorbell at the next available entry or, with EVENT_IDX, at the one that follows `put_off` others: who asks for that
    /// looks again before too long. `true`: an entry came in between and no doorbell may follow, so the caller looks
    /// again (virtio 1.2, section 2.7.10.1).
    pub fn enable_notifications(&mut self, memory: &impl GuestMemory, put_off: u16) -> Result<bool, Error> {
        let put_off = if self.features.event_idx { put_off } else { 0 };
        let doorbell = self.next_available.wrapping_add(put_off);
        if self.armed == Some(doorbell) {
            // Asked for before, and looked at since: a doorbell will follow.
            return Ok(false);
        }
        self.armed = Some(doorbell);
        if self.features.event_idx {
            let event = self.config.used_ring + 4 + 8 * u64::from(self.config.size);
            memory.store_release(event, doorbell)?;
        } else {
            memory.store_release(self.config.used_ring, 0)?;
        }
        memory.fence();
        self.look(memory)
    }

    /// Whether an entry may come for which no doorbell follows.
    pub fn puts_off(&self) -> bool {
        // Ahead, not behind: the device is at work then, and asks again when it is done.
        self.armed.is_some_and(|doorbell| doorbell.wrapping_sub(self.next_available) as i16 > 0)
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

#[cfg(test)]
mod tests {
    use std::{boxed::Box, cell::Cell, collections::BTreeMap, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::OutOfRange;
    use crate::model::{Buffer, Driver, Ram};

    const BOTH: QueueFeatures = QueueFeatures { indirect: true, event_idx: true };
    const SIZE: u32 = 8;
    /// Behind the rings.
    const FREE: u64 = Ram::BASE + 0x1000;

    fn ledger() -> &'static Ledger {
        let ledger = Box::leak(Box::new(Ledger::new()));
        ledger.begin(0);
        ledger
    }

    fn world(features: QueueFeatures) -> (Ram, Driver, Queue) {
        let driver = Driver::new(Ram::BASE, SIZE, features.event_idx);
        let queue = Queue::new(driver.config, features, ledger()).unwrap();
        (Ram::new(0x4000), driver, queue)
    }

    /// What popping a single descriptor table says. The chain begins at descriptor 0.
    fn pop(table: &[(u64, u32, u16, u16)], indirect: &[(u64, u32, u16, u16)]) -> Result<Vec<Segment>, Error> {
        let (ram, mut driver, mut queue) = world(BOTH);
        for (at, entries) in [(Ram::BASE, table), (FREE, indirect)] {
            for (index, &(address, len, flags, next)) in entries.iter().enumerate() {
                Driver::write_descriptor(&ram, at, index as u16, address, len, flags, next);
            }
        }
        driver.make_available(&ram, 0);
        let mut chain = Chain::new();
        queue.pop(&ram, &mut chain)?.expect("one chain is available").abandon();
        Ok(chain.segments().to_vec())
    }

    #[test]
    fn impossible_queues_are_refused() {
        let good = Driver::new(Ram::BASE, 8, true).config;
        for size in [0, 3, 512, u32::MAX] {
            assert_eq!(Queue::new(QueueConfig { size, ..good }, BOTH, ledger()).err(), Some(Error::QueueSize(size)));
        }
        let bad = [
            QueueConfig { descriptor_table: 8, ..good },
            QueueConfig { available_ring: 1, ..good },
            QueueConfig { used_ring: 2, ..good },
            QueueConfig { descriptor_table: u64::MAX - 15, ..good },
        ];
        for config in bad {
            assert!(matches!(Queue::new(config, BOTH, ledger()), Err(Error::RingAlignment(_))), "{config:?}");
        }
    }

    #[test]
    fn a_ring_outside_memory_is_an_error() {
        let config = QueueConfig { available_ring: Ram::BASE + 0x4000, ..Driver::new(Ram::BASE, 8, true).config };
        let mut queue = Queue::new(config, BOTH, ledger()).unwrap();
        assert!(matches!(queue.pop(&Ram::new(0x4000), &mut Chain::new()), Err(Error::Ring(_))));
    }

    #[test]
    fn an_index_that_jumps_is_an_error() {
        let (ram, driver, mut queue) = world(BOTH);
        ram.put(driver.config.available_ring + 2, &9u16.to_le_bytes());
        let error = queue.pop(&ram, &mut Chain::new()).unwrap_err();
        assert_eq!(error, Error::IndexJump { index: 9, expected: 0 });
    }

    #[test]
    fn malformed_chains_are_errors() {
        let data = FREE + 0x100;
        let (next, write, indirect) = (DESC_NEXT, DESC_WRITE, DESC_INDIRECT);
        assert_eq!(pop(&[(data, 1, next, 8)], &[]), Err(Error::DescriptorIndex(8)));
        assert_eq!(pop(&[(data, 1, next, 0)], &[]), Err(Error::Loop));
        assert_eq!(pop(&[(data, 1, next, 1), (data, 1, next, 0)], &[]), Err(Error::Loop));
        assert_eq!(pop(&[(data, 0, 0, 0)], &[]), Err(Error::ZeroLength));
        assert_eq!(pop(&[(data, u32::MAX, next, 1), (data, 1, 0, 0)], &[]), Err(Error::TooLong));
        let backwards = [(data, 1, next | write, 1), (data, 1, 0, 0)];
        assert_eq!(pop(&backwards, &[]), Err(Error::ReadableAfterWritable));
        // Indirect: with a successor, of odd or no length, nested, leaving its table, looping.
        assert_eq!(pop(&[(FREE, 16, indirect | next, 1)], &[(data, 1, 0, 0)]), Err(Error::Indirect));
        for len in [0, 1, 17, 16 << 17] {
            assert_eq!(pop(&[(FREE, len, indirect, 0)], &[(data, 1, 0, 0)]), Err(Error::Indirect));
        }
        assert_eq!(pop(&[(FREE, 16, indirect, 0)], &[(FREE, 16, indirect, 0)]), Err(Error::Indirect));
        assert_eq!(pop(&[(FREE, 32, indirect, 0)], &[(data, 1, next, 2)]), Err(Error::DescriptorIndex(2)));
        let looping = [(data, 1, next, 1), (data, 1, next, 0)];
        assert_eq!(pop(&[(FREE, 32, indirect, 0)], &looping), Err(Error::Loop));
        assert!(matches!(pop(&[(u64::MAX - 15, 32, indirect, 0)], &[]), Err(Error::Ring(_))));
        let long = vec![(data, 1, next, 0); 200];
        let long: Vec<_> = (1..).zip(long).map(|(i, (a, l, f, _))| (a, l, f, i)).collect();
        assert_eq!(pop(&[(FREE, 16 * 200, indirect, 0)], &long), Err(Error::TooLong));
    }

    #[test]
    fn indirect_tables_need_their_feature() {
        let (ram, mut driver, mut queue) = world(QueueFeatures::default());
        driver.post_indirect(&ram, FREE, &[(FREE, 4, false)]).unwrap();
        assert_eq!(queue.pop(&ram, &mut Chain::new()).unwrap_err(), Error::Indirect);
    }

    #[test]
    fn an_indirect_descriptor_may_end_a_direct_chain() {
        let data = FREE + 0x100;
        let chain = pop(&[(data, 4, DESC_NEXT, 1), (FREE, 16, DESC_INDIRECT, 0)], &[(data, 8, DESC_WRITE, 0)]);
        let segment = |len, writable| Segment { address: data, len, writable };
        assert_eq!(chain, Ok(vec![segment(4, false), segment(8, true)]));
    }

    #[test]
    fn scattered_indirect_tables_are_followed() {
        let count = 100u16;
        let (ram, mut driver, mut queue) = world(BOTH);
        // Entry i sits at 37 i mod 100, so each step leaves the batch that was read.
        let place = |i: u16| i * 37 % count;
        for i in 0..count {
            let flags = if i + 1 < count { DESC_NEXT } else { 0 };
            let address = FREE + u64::from(i);
            Driver::write_descriptor(&ram, FREE, place(i), address, 1, flags, place(i + 1));
        }
        Driver::write_descriptor(&ram, Ram::BASE, 0, FREE, 1600, DESC_INDIRECT, 0);
        driver.make_available(&ram, 0);
        let mut chain = Chain::new();
        queue.pop(&ram, &mut chain).unwrap().unwrap().abandon();
        let addresses: Vec<u64> = chain.segments().iter().map(|segment| segment.address - FREE).collect();
        assert_eq!(addresses, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn without_event_index_the_flags_decide() {
        let (ram, mut driver, mut queue) = world(QueueFeatures::default());
        queue.disable_notifications(&ram).unwrap();
        driver.post(&ram, &[(FREE, 4, true)]).unwrap();
        assert!(!driver.kick(&ram));
        assert!(queue.enable_notifications(&ram, 3).unwrap(), "the entry that came in between is seen");
        let token = queue.pop(&ram, &mut Chain::new()).unwrap().unwrap();
        queue.push_used(&ram, token, 0).unwrap();
        ram.put(driver.config.available_ring, &[1, 0]);
        assert!(!queue.publish(&ram).unwrap());
        driver.post(&ram, &[(FREE, 4, true)]).unwrap();
        assert!(driver.kick(&ram));
        assert!(!queue.puts_off(), "flags know no number");
    }

    #[test]
    fn a_doorbell_that_is_put_off_comes_with_the_last_of_those_it_was_put_off_for() {
        let (ram, mut driver, mut queue) = world(BOTH);
        assert!(!queue.enable_notifications(&ram, 2).unwrap() && queue.puts_off());
        let kicks = [(); 4].map(|()| {
            driver.post(&ram, &[(FREE, 4, true)]).unwrap();
            driver.kick(&ram)
        });
        assert_eq!(kicks, [false, false, true, false]);
        // Who takes one and asks for the next at once sees that there are others.
        queue.pop(&ram, &mut Chain::new()).unwrap().unwrap().abandon();
        assert!(queue.enable_notifications(&ram, 0).unwrap());
    }

    #[test]
    fn an_event_index_is_crossed_exactly_when_it_lies_between() {
        for old in [0u16, 1, 100, u16::MAX - 3, u16::MAX] {
            for moved in 0..6u16 {
                for event in (0..10).map(|i| old.wrapping_add(i).wrapping_sub(3)) {
                    let naive = (0..moved).any(|i| old.wrapping_add(i) == event);
                    assert_eq!(crossed(event, old, old.wrapping_add(moved)), naive);
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Move {
        Post(Vec<(u8, bool)>, bool),
        /// The device does something; doorbells are put off by so many entries.
        Device(u16),
        Driver,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let buffers = prop::collection::vec((1u8.., any::<bool>()), 1..5);
        let post = (buffers, any::<bool>()).prop_map(|(mut buffers, indirect)| {
            buffers.sort_by_key(|&(_, writable)| writable);
            Move::Post(buffers, indirect)
        });
        prop::collection::vec(prop_oneof![post, (0..4u16).prop_map(Move::Device), Just(Move::Driver)], 0..200)
    }

    /// A driver and a device that each sleep when they have nothing to do, until the other wakes them.
    struct Pair {
        ram: Ram,
        driver: Driver,
        queue: Queue,
        device_awake: bool,
        driver_awake: bool,
        posted: BTreeMap<u16, Vec<Segment>>,
        posts: u64,
    }

    impl Pair {
        fn post(&mut self, buffers: &[(u8, bool)], indirect: bool) {
            let buffers: Vec<Buffer> =
                buffers.iter().map(|&(len, writable)| (FREE + u64::from(len), u32::from(len), writable)).collect();
            // Chains come back in order, so a table is free again when its turn comes.
            let table = FREE + 0x400 + 0x100 * (self.posts % 8);
            let head = match indirect {
                true => self.driver.post_indirect(&self.ram, table, &buffers),
                false => self.driver.post(&self.ram, &buffers),
            };
            let Some(head) = head else { return };
            self.posts += 1;
            let segments = buffers.iter().map(|&(address, len, writable)| Segment { address, len, writable });
            self.posted.insert(head, segments.collect());
            self.device_awake |= self.driver.kick(&self.ram);
        }

        fn device(&mut self, put_off: u16) {
            if !self.device_awake {
                return;
            }
            let mut chain = Chain::new();
            match self.queue.pop(&self.ram, &mut chain).unwrap() {
                Some(token) => {
                    assert_eq!(self.posted[&token.head], chain.segments());
                    let written = chain.writable_bytes();
                    self.queue.push_used(&self.ram, token, written).unwrap();
                    self.driver_awake |= self.queue.publish(&self.ram).unwrap();
                }
                None => self.device_awake = self.queue.enable_notifications(&self.ram, put_off).unwrap(),
            }
        }

        fn driver(&mut self) {
            if !self.driver_awake {
                return;
            }
            match self.driver.take_used(&self.ram) {
                Some((head, written)) => {
                    let segments = self.posted.remove(&head).expect("only what was posted comes back");
                    let writable = segments.iter().filter(|segment| segment.writable).map(|segment| segment.len);
                    assert_eq!(written, writable.sum::<u32>());
                }
                None => self.driver_awake = false,
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_sleeps_while_work_waits(moves in moves(), indirect: bool, event_idx: bool, start: u16) {
            let features = QueueFeatures { indirect, event_idx };
            let (ram, driver, queue) = world(features);
            let mut pair =
                Pair { ram, driver, queue, device_awake: false, driver_awake: false, posted: BTreeMap::new(), posts: 0 };
            // Indices wrap: let the first chains of the test come after `start` others.
            for _ in 0..start % 40 {
                pair.post(&[(1, true)], false);
                (0..3).for_each(|_| pair.device(0));
                (0..3).for_each(|_| pair.driver());
            }
            for step in moves {
                match step {
                    Move::Post(buffers, wish) => pair.post(&buffers, wish && indirect),
                    Move::Device(put_off) => pair.device(put_off),
                    Move::Driver => pair.driver(),
                }
            }
            // Who puts doorbells off looks again by itself.
            pair.device_awake |= pair.queue.puts_off();
            for _ in 0..100 {
                pair.device(0);
                pair.driver();
            }
            prop_assert!(pair.posted.is_empty(), "both sleep and {} chains wait", pair.posted.len());
        }
    }

    /// Memory whose device dies at its `left`-th access from now.
    struct Mortal<'a> {
        ram: &'a Ram,
        left: Cell<usize>,
    }

    impl Mortal<'_> {
        fn live(&self) -> Result<(), OutOfRange> {
            let left = self.left.get().checked_sub(1).ok_or(OutOfRange { address: 0, len: 0 })?;
            self.left.set(left);
            Ok(())
        }
    }

    impl GuestMemory for Mortal<'_> {
        fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
            self.live()?;
            self.ram.read(address, out)
        }

        fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange> {
            self.live()?;
            self.ram.write(address, data)
        }

        fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange> {
            self.live()?;
            self.ram.load_acquire(address)
        }

        fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange> {
            self.live()?;
            self.ram.store_release(address, value)
        }

        fn fence(&self) {}
    }

    /// One life of a device: takes up to `most` chains and gives them back in an order that `mix` chooses.
    fn live(queue: &mut Queue, memory: &Mortal<'_>, most: usize, mix: usize) -> Result<(), Error> {
        let mut held = Vec::new();
        let mut chain = Chain::new();
        while held.len() < most
            && let Some(token) = queue.pop(memory, &mut chain)?
        {
            held.push((token, chain.writable_bytes()));
        }
        while !held.is_empty() {
            let (token, written) = held.swap_remove(mix % held.len());
            queue.push_used(memory, token, written)?;
            if held.len().is_multiple_of(2) {
                queue.publish(memory)?;
            }
        }
        queue.publish(memory).map(drop)
    }

    proptest! {
        #[test]
        fn a_device_that_dies_anywhere_loses_no_chain_and_shows_none_twice(
            lives in prop::collection::vec((0..40usize, 1..8usize, any::<usize>(), 0..9usize), 1..60),
            event_idx: bool,
        ) {
            let features = QueueFeatures { indirect: true, event_idx };
            let (ram, mut driver, _) = world(features);
            let ledger = ledger();
            let mut posted = BTreeMap::new();
            // The last life dies of nothing.
            for (accesses, most, mix, posts) in lives.into_iter().chain([(usize::MAX, 8, 0, 0)]) {
                for len in 1..=posts as u32 {
                    let Some(head) = driver.post(&ram, &[(FREE, len, true)]) else { break };
                    prop_assert_eq!(posted.insert(head, len), None);
                }
                let memory = Mortal { ram: &ram, left: Cell::new(accesses) };
                let resumed = Queue::resume(driver.config, features, ledger, &memory);
                if let Ok(mut queue) = resumed {
                    let outcome = live(&mut queue, &memory, most, mix);
                    prop_assert!(outcome.is_ok() || memory.left.get() == 0, "{:?}", outcome);
                }
                // `take_used` asserts that no head comes back twice.
                while let Some((head, written)) = driver.take_used(&ram) {
                    prop_assert_eq!(posted.remove(&head), Some(written));
                }
            }
            prop_assert!(posted.is_empty(), "lost: {:?}", posted);
        }
    }

    #[test]
    fn a_head_that_is_made_available_twice_is_an_error() {
        let (ram, mut driver, mut queue) = world(BOTH);
        let head = driver.post(&ram, &[(FREE, 4, true)]).unwrap();
        driver.make_available(&ram, head);
        queue.pop(&ram, &mut Chain::new()).unwrap().unwrap().abandon();
        assert_eq!(queue.pop(&ram, &mut Chain::new()).unwrap_err(), Error::HeadInUse(head));
    }

    #[test]
    fn a_used_index_that_the_device_never_wrote_ends_the_queue() {
        let (ram, driver, queue) = world(BOTH);
        ram.put(driver.config.used_ring + 2, &1u16.to_le_bytes());
        let error = Queue::resume(driver.config, BOTH, queue.ledger, &ram).unwrap_err();
        assert_eq!(error, Error::UsedIndex(1));
    }

    #[test]
    fn indices_wrap_after_65536_chains() {
        let (ram, driver, queue) = world(BOTH);
        let mut pair =
            Pair { ram, driver, queue, device_awake: false, driver_awake: false, posted: BTreeMap::new(), posts: 0 };
        for round in 0..70_000 {
            pair.post(&[(1, false), (2, true)], round % 2 == 0);
            (0..2).for_each(|_| pair.device(0));
            (0..2).for_each(|_| pair.driver());
            assert!(pair.posted.is_empty(), "round {round}");
        }
    }
}
