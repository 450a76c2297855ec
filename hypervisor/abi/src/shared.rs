//! The shared page: what EL2 tells the secure domain without a trap.
//!
//! EL2 writes; the secure domain reads, and clears the bits that it takes. Every field is an atomic, so both sides may hold a
//! plain reference although the other side writes. EL2 publishes with `Release` (fields first, the event bit last); the secure
//! domain takes the event with `Acquire` and then reads the fields.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{DEVICES, QUEUES};

/// Bits of [`SharedPage::events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub u64);

impl Event {
    /// Save everything and answer with `Quiesced`: the machine is about to go off, reset or sleep.
    pub const SHUTDOWN: Event = Event(1 << 32);

    /// The time that the last `Wait` named has come.
    pub const TIME: Event = Event(1 << 33);

    /// The machine sleeps no more: serve again, whether or not everything was saved.
    pub const AWAKE: Event = Event(1 << 34);

    /// A core of the general domain has nothing to do, which the last `Wait` asked to be told.
    pub const IDLE: Event = Event(1 << 35);

    /// A queue of device `index` was notified: see [`DeviceView::doorbells`].
    pub const fn doorbell(index: usize) -> Event {
        Event(1 << index)
    }

    /// The status of device `index` changed: see [`DeviceView::status`].
    pub const fn status(index: usize) -> Event {
        Event(1 << (8 + index))
    }

    /// The physical interrupt of line `line` fired; it stays quiet until `IrqDone`.
    pub const fn irq(line: usize) -> Event {
        Event(1 << (16 + line))
    }

    /// Whether all bits of `other` are in `self`.
    pub const fn contains(self, other: Event) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One virtqueue as the driver has configured it. Addresses are the driver's (intermediate physical) and unchecked.
#[derive(Debug, Default)]
#[repr(C)]
pub struct QueueView {
    /// 1 once the driver has enabled the queue.
    pub ready: AtomicU32,
    /// Entries, a power of two.
    pub size: AtomicU32,
    /// Descriptor table.
    pub descriptor_table: AtomicU64,
    /// Available ring (driver area).
    pub available_ring: AtomicU64,
    /// Used ring (device area).
    pub used_ring: AtomicU64,
}

/// One virtual device as its driver has configured it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct DeviceView {
    /// Device status (virtio 1.2, section 2.1). 0 with [`Event::status`] is a reset that waits for `ResetDone`.
    pub status: AtomicU32,
    /// Counts resets, so that work begun before one is recognised after it.
    pub generation: AtomicU32,
    /// Features that the driver accepted.
    pub driver_features: AtomicU64,
    /// Bit *q*: queue *q* was notified since the bit was last taken.
    pub doorbells: AtomicU64,
    /// The queues.
    pub queues: [QueueView; QUEUES],
}

/// The page itself; it starts at a 4 KiB boundary that the secure domain's device tree names.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
pub struct SharedPage {
    /// [`Event`] bits, set by EL2 and taken by the secure domain. EL2 reads it only to decide whether `Wait` returns at once:
    /// a lie there costs the liar its own sleep and nothing else.
    pub events: AtomicU64,
    /// The virtual devices.
    pub devices: [DeviceView; DEVICES],
}

impl QueueView {
    /// A queue that no driver has enabled.
    const fn new() -> QueueView {
        QueueView {
            ready: AtomicU32::new(0),
            size: AtomicU32::new(0),
            descriptor_table: AtomicU64::new(0),
            available_ring: AtomicU64::new(0),
            used_ring: AtomicU64::new(0),
        }
    }
}

impl DeviceView {
    /// A device that no driver has touched.
    const fn new() -> DeviceView {
        DeviceView {
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            driver_features: AtomicU64::new(0),
            doorbells: AtomicU64::new(0),
            queues: [const { QueueView::new() }; QUEUES],
        }
    }
}

impl SharedPage {
    /// A page with nothing in it.
    pub const fn new() -> SharedPage {
        SharedPage { events: AtomicU64::new(0), devices: [const { DeviceView::new() }; DEVICES] }
    }

    /// EL2's side: publishes `event`. Fields written before are visible to whoever takes it.
    pub fn raise(&self, event: Event) {
        self.events.fetch_or(event.0, Ordering::SeqCst);
    }

    /// The secure domain's side: takes all events that are set.
    pub fn take(&self) -> Event {
        Event(self.events.swap(0, Ordering::SeqCst))
    }

    /// Whether any event waits.
    pub fn pending(&self) -> bool {
        self.events.load(Ordering::SeqCst) != 0
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout_is_fixed() {
        assert_eq!(size_of::<SharedPage>(), 4096);
        assert_eq!(size_of::<QueueView>(), 32);
        assert_eq!(size_of::<DeviceView>(), 24 + 32 * QUEUES);
        assert_eq!(offset_of!(SharedPage, devices), 8);
        assert_eq!(offset_of!(DeviceView, doorbells), 16);
    }

    #[test]
    fn events_do_not_overlap() {
        let mut seen = Event::SHUTDOWN.0 | Event::TIME.0 | Event::AWAKE.0 | Event::IDLE.0;
        assert_eq!(seen.count_ones(), 4);
        for index in 0..8 {
            for event in [Event::doorbell(index), Event::status(index), Event::irq(index)] {
                assert_eq!(seen & event.0, 0);
                seen |= event.0;
            }
        }
    }

    #[test]
    fn a_raised_event_is_taken_once() {
        let page = SharedPage::default();
        page.raise(Event::doorbell(3));
        page.raise(Event::irq(0));
        assert!(page.pending());
        let taken = page.take();
        assert!(taken.contains(Event::doorbell(3)) && taken.contains(Event::irq(0)));
        assert!(!page.pending() && page.take().is_empty());
    }
}
