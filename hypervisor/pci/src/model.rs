//! Tests of a function: promises one by one, then random histories against naive models.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use abi::DeviceView;
use channel::{Device, Effect, Offer, RegisterPage, features, offset};
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;

use crate::{Access, BAR_BYTES, Behind, Function};

struct Page([u32; 0x80]);

impl RegisterPage for Page {
    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset / 4] = value;
    }

    fn get(&self, offset: usize) -> u32 {
        self.0[offset / 4]
    }
}

const OFFER: Offer = Offer { device_id: 2, features: features::VERSION_1 | 0x244, queues: 2, queue_size_max: 128 };
/// Vectors of a function with two queues.
const VECTORS: usize = 3;

// Where things are, as a driver that has walked the capabilities knows.
const STATUS: usize = 0x14;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_SIZE: usize = 0x18;
const QUEUE_VECTOR: usize = 0x1a;
const QUEUE_ENABLE: usize = 0x1c;
const ISR: usize = 0x80;
const DOORBELL: usize = 0x1000;
const TABLE: usize = 0x2000;
const PENDING: usize = 0x3000;
const COMMAND: usize = 0x04;
const MSIX_CONTROL: usize = 0x42;

/// A function with what is behind it.
struct Rig {
    function: Function,
    device: Device,
    page: Page,
}

impl Rig {
    fn new() -> Rig {
        let device = Device::default();
        let mut page = Page([0; 0x80]);
        device.show(&mut page);
        Rig { function: Function::new(), device, page }
    }

    fn attached() -> Rig {
        let mut rig = Rig::new();
        assert_eq!(rig.device.attach(&mut rig.page, OFFER), Ok(()));
        rig
    }

    /// As Linux leaves it: MSI-X on, vector 0 for the configuration, 1 for queue 0.
    fn live() -> Rig {
        let mut rig = Rig::attached();
        rig.set(COMMAND, 2, 0x6);
        rig.open_vectors();
        rig.drive();
        rig
    }

    fn open_vectors(&mut self) {
        for vector in 0..VECTORS {
            for (word, value) in [0x0800_0040, 0, 232 + vector as u32, 0].into_iter().enumerate() {
                let _ = self.write(TABLE + 16 * vector + 4 * word, 4, value.into());
            }
        }
        self.set(MSIX_CONTROL, 2, 0x8000);
    }

    fn drive(&mut self) {
        for status in [1, 3] {
            assert_eq!(self.write(STATUS, 1, status).effect, Effect::None);
        }
        for (select, word) in [(0, OFFER.features), (1, OFFER.features >> 32)] {
            let _ = self.write(0x08, 4, select);
            let _ = self.write(0x0c, 4, word & 0xffff_ffff);
        }
        let _ = self.write(STATUS, 1, 11);
        let _ = self.write(0x10, 2, 0);
        for (at, size, value) in
            [(QUEUE_SELECT, 2, 0), (0x20, 4, 0x4000_0000), (0x28, 4, 0x4000_1000), (0x34, 4, 1), (QUEUE_VECTOR, 2, 1)]
        {
            let _ = self.write(at, size, value);
        }
        let _ = self.write(QUEUE_ENABLE, 2, 1);
        assert_eq!(self.write(STATUS, 1, 15).effect, Effect::StatusChanged);
        assert_eq!(self.read(STATUS, 1), 15);
    }

    fn split(&mut self) -> (&mut Function, Behind<'_, Page>) {
        (&mut self.function, Behind { device: &mut self.device, page: &mut self.page })
    }

    fn read(&mut self, offset: usize, size: usize) -> u64 {
        let (function, mut behind) = self.split();
        function.read_bar(&mut behind, offset, size)
    }

    fn write(&mut self, offset: usize, size: usize, value: u64) -> Access {
        let (function, mut behind) = self.split();
        function.write_bar(&mut behind, offset, size, value)
    }

    fn get(&mut self, register: usize, size: usize) -> u64 {
        let (function, mut behind) = self.split();
        function.read_configuration(&mut behind, register, size)
    }

    /// A store to configuration space; the vectors to send.
    fn set(&mut self, register: usize, size: usize, value: u64) -> u32 {
        let (function, mut behind) = self.split();
        function.write_configuration(&mut behind, register, size, value).vectors
    }

    fn raise_used(&mut self) -> u32 {
        self.device.raise_used(&mut self.page);
        self.function.raise_used(&self.device)
    }

    fn raise_config(&mut self) -> u32 {
        self.device.raise_config(&mut self.page);
        self.function.raise_config(&self.device)
    }

    fn line(&self) -> bool {
        self.function.line(&self.device)
    }

    /// Register, identifier, length and type of each capability.
    fn capabilities(&mut self) -> Vec<(usize, u64, u64, u64)> {
        let mut found = vec![];
        let mut at = self.get(0x34, 1) as usize;
        while at != 0 {
            assert!(at >= 0x40 && at.is_multiple_of(4) && found.len() < 16, "the list does not end");
            found.push((at, self.get(at, 1), self.get(at + 2, 1), self.get(at + 3, 1)));
            at = self.get(at + 1, 1) as usize;
        }
        found
    }
}

#[test]
fn a_function_that_nobody_offers_is_absent() {
    let mut rig = Rig::new();
    for (register, size, ones) in [(0, 4, 0xffff_ffff), (0, 2, 0xffff), (0xff, 1, 0xff), (0x100, 8, u64::MAX)] {
        assert_eq!(rig.set(register, size, u64::MAX), 0);
        assert_eq!(rig.get(register, size), ones);
    }
    assert_eq!(rig.function.base(), None);
    for offset in (0..BAR_BYTES).step_by(4) {
        assert_eq!(rig.write(offset, 4, 0xffff_ffff), Access { effect: Effect::None, vectors: 0 });
    }
    assert_eq!(rig.read(STATUS, 1), 0);
}

#[test]
fn it_is_a_modern_virtio_function_without_a_past() {
    let mut rig = Rig::attached();
    assert_eq!(rig.get(0, 4), 0x1042_1af4);
    assert_eq!(rig.get(8, 1), 1, "revision");
    assert_eq!(rig.get(0x0a, 2), 0x0180, "mass storage");
    assert_eq!(rig.get(0x0e, 1), 0, "header type 0, one function");
    assert!(rig.get(0x2e, 2) >= 0x40, "subsystem of a device that is not transitional");
    assert_eq!(rig.get(0x3d, 1), 1, "INTA");
    assert_eq!(rig.get(6, 2) & 0x10, 0x10, "it has a list of capabilities");
    for register in (0x100..0x1000).step_by(4) {
        assert_eq!(rig.get(register, 4), 0, "no extended capability");
    }
}

#[test]
fn its_bar_is_16_kib_of_32_bit_memory_and_the_only_one() {
    let mut rig = Rig::attached();
    rig.set(0x10, 4, 0xffff_ffff);
    assert_eq!(rig.get(0x10, 4), 0xffff_c000);
    for register in (0x14..0x28).step_by(4).chain([0x30]) {
        rig.set(register, 4, 0xffff_ffff);
        assert_eq!(rig.get(register, 4), 0);
    }
    rig.set(0x10, 4, 0x0b20_4000);
    assert_eq!(rig.function.base(), None, "not before it may decode memory");
    rig.set(COMMAND, 1, 0x2);
    assert_eq!(rig.function.base(), Some(0x0b20_4000));
}

#[test]
fn every_virtio_structure_is_announced_once_and_lies_in_the_bar() {
    let mut rig = Rig::attached();
    let found = rig.capabilities();
    let mut kinds: Vec<_> = found.iter().filter(|it| it.1 == 9).map(|it| it.3).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [1, 2, 3, 4, 5]);
    assert_eq!(found.iter().filter(|it| it.1 == 0x11).count(), 1);
    let mut taken = vec![];
    for (at, _, length, kind) in found.into_iter().filter(|it| it.1 == 9) {
        assert_eq!(length, if matches!(kind, 2 | 5) { 20 } else { 16 });
        let (bar, start, len) = (rig.get(at + 4, 1), rig.get(at + 8, 4), rig.get(at + 12, 4));
        assert_eq!(bar, 0);
        assert!(start.is_multiple_of(4) && start + len <= BAR_BYTES as u64);
        assert!(taken.iter().all(|(from, to)| start + len <= *from || *to <= start), "{kind} overlaps");
        taken.push((start, start + len));
    }
}

#[test]
fn a_store_of_another_width_than_the_field_s_means_nothing() {
    let mut rig = Rig::live();
    for (at, size) in [(STATUS, 2), (STATUS, 4), (0x14, 8), (QUEUE_SELECT, 1), (QUEUE_SIZE, 4), (0x20, 8), (0x21, 4)] {
        assert_eq!(rig.write(at, size, 0), Access { effect: Effect::None, vectors: 0 }, "{size} bytes at {at:#x}");
    }
    assert_eq!(rig.read(STATUS, 1), 15);
}

#[test]
fn a_vector_that_does_not_exist_is_no_vector() {
    let mut rig = Rig::attached();
    for wrong in [VECTORS as u64, 9, 0x1_0000, 0xfffe] {
        let _ = rig.write(0x10, 2, wrong);
        let _ = rig.write(QUEUE_VECTOR, 2, wrong);
        assert_eq!(
            (rig.read(0x10, 2), rig.read(QUEUE_VECTOR, 2)),
            (if wrong == 0x1_0000 { 0 } else { 0xffff }, if wrong == 0x1_0000 { 0 } else { 0xffff })
        );
    }
    let _ = rig.write(QUEUE_SELECT, 2, 2);
    let _ = rig.write(QUEUE_VECTOR, 2, 1);
    assert_eq!(rig.read(QUEUE_VECTOR, 2), 0xffff, "of a queue that does not exist");
    assert_eq!(rig.read(QUEUE_SIZE, 2), 0);
}

#[test]
fn a_queue_has_the_largest_size_until_the_driver_chooses_another() {
    let mut rig = Rig::attached();
    assert_eq!(rig.read(QUEUE_SIZE, 2), 128);
    let _ = rig.write(QUEUE_SIZE, 2, 16);
    assert_eq!(rig.read(QUEUE_SIZE, 2), 16);
    let _ = rig.write(QUEUE_SIZE, 2, 100);
    assert_eq!(rig.read(QUEUE_SIZE, 2), 128, "what is no size is not taken");
    let _ = rig.write(QUEUE_ENABLE, 2, 1);
    assert_eq!(rig.read(QUEUE_ENABLE, 2), 1);
}

#[test]
fn the_doorbell_takes_the_queue_from_what_is_stored() {
    let mut rig = Rig::live();
    for (size, value) in [(2, 1), (2, 2), (4, 9), (8, 0xffff)] {
        assert_eq!(rig.write(DOORBELL, size, value).effect, Effect::None);
    }
    assert_eq!(rig.write(DOORBELL, 2, 0), Access { effect: Effect::Notify { queue: 0 }, vectors: 0 });
}

#[test]
fn a_reset_is_done_at_once_and_reads_as_under_way_until_the_backend_confirms() {
    let mut rig = Rig::live();
    assert_eq!(rig.write(STATUS, 1, 0).effect, Effect::ResetRequested);
    assert_eq!(rig.read(STATUS, 1), 15);
    assert_eq!(rig.write(STATUS, 1, 0).effect, Effect::ResetPending);
    assert_eq!((rig.read(0x10, 2), rig.read(QUEUE_VECTOR, 2)), (0xffff, 0xffff), "the vectors are gone");
    assert_eq!(rig.raise_used() | rig.raise_config(), 0, "an old completion interrupts nobody");
    assert!(rig.device.reset_done(&mut rig.page));
    assert_eq!(rig.read(STATUS, 1), 0);
    rig.drive();
    assert_eq!(rig.raise_used(), 0b10);
}

#[test]
fn a_device_that_needs_a_reset_says_so_by_the_vector_of_the_configuration() {
    let mut rig = Rig::live();
    rig.device.needs_reset(&mut rig.page);
    assert_eq!(rig.function.raise_config(&rig.device), 0b01);
    assert_eq!(rig.read(STATUS, 1), 15 | 64);
    assert_eq!(rig.write(DOORBELL, 2, 0).effect, Effect::None);
}

#[test]
fn without_messages_the_line_is_high_until_the_status_is_read() {
    let mut rig = Rig::live();
    rig.set(MSIX_CONTROL, 2, 0);
    assert_eq!(rig.raise_used() | rig.raise_config(), 0);
    assert!(rig.line());
    assert_eq!(rig.get(6, 2) & 8, 8);
    rig.set(COMMAND, 2, 0x406);
    assert!(!rig.line() && rig.get(6, 2) & 8 == 8, "disabled, but still asked for");
    rig.set(COMMAND, 2, 0x6);
    assert_eq!(rig.read(ISR, 1), 3);
    assert!(!rig.line());
    assert_eq!(rig.read(ISR, 1), 0);
}

#[test]
fn the_line_is_low_while_messages_take_its_place() {
    let mut rig = Rig::live();
    assert_eq!(rig.raise_used(), 0b10);
    assert!(!rig.line());
    assert_eq!(rig.function.message(1), crate::Message { address: 0x0800_0040, data: 233 });
}

#[test]
fn a_masked_vector_is_pending_and_is_sent_once_when_the_mask_goes() {
    let mut rig = Rig::live();
    let _ = rig.write(TABLE + 16 + 12, 4, 1);
    assert_eq!(rig.raise_used() | rig.raise_used(), 0);
    assert_eq!(rig.read(PENDING, 8), 0b10);
    let _ = rig.write(PENDING, 8, 0);
    assert_eq!(rig.read(PENDING, 8), 0b10, "pending bits are not the driver's to write");
    assert_eq!(rig.write(TABLE + 16 + 12, 4, 0).vectors, 0b10);
    assert_eq!((rig.read(PENDING, 4), rig.write(TABLE + 16 + 12, 4, 0).vectors), (0, 0));
}

#[test]
fn neither_a_masked_function_nor_one_that_is_no_bus_master_sends() {
    for (register, closed, open) in [(MSIX_CONTROL, 0xc000, 0x8000), (COMMAND, 0x2, 0x6)] {
        let mut rig = Rig::live();
        assert_eq!(rig.set(register, 2, closed), 0);
        assert_eq!(rig.raise_used() | rig.raise_config(), 0);
        assert_eq!(rig.read(PENDING, 4), 0b11);
        assert_eq!(rig.set(register, 2, open), 0b11);
    }
}

#[test]
fn what_waits_when_messages_are_switched_off_is_not_sent_later() {
    let mut rig = Rig::live();
    rig.set(MSIX_CONTROL, 2, 0xc000);
    assert_eq!(rig.raise_used(), 0);
    rig.set(MSIX_CONTROL, 2, 0);
    assert_eq!(rig.set(MSIX_CONTROL, 2, 0x8000), 0);
}

#[test]
fn the_table_ends_behind_its_last_vector() {
    let mut rig = Rig::live();
    assert_eq!(rig.get(MSIX_CONTROL, 2) & 0x7ff, VECTORS as u64 - 1);
    for at in [16 * VECTORS, 16 * 9, 0xffc] {
        let _ = rig.write(TABLE + at, 4, u64::MAX);
        assert_eq!(rig.read(TABLE + at, 4), 0);
    }
    let _ = rig.write(TABLE + 12, 8, u64::MAX);
    assert_eq!(rig.read(TABLE + 12, 4), 1);
    assert_eq!(rig.read(TABLE + 16, 4), 0xffff_fffc);
}

#[test]
fn the_access_capability_reaches_the_bar_and_nothing_else() {
    let mut rig = Rig::live();
    let aim = |rig: &mut Rig, bar: u64, offset: u64, length: u64| {
        rig.set(0x98, 1, bar);
        rig.set(0x9c, 4, offset);
        rig.set(0xa0, 4, length);
    };
    for (bar, offset, length) in
        [(1, 0x14, 1), (0, 0x4000, 4), (0, 0x14, 3), (0, 0x15, 4), (0, 0x14, 0), (0, u32::MAX.into(), 1)]
    {
        aim(&mut rig, bar, offset, length);
        assert_eq!(rig.get(0xa4, 4), 0, "{bar} {offset:#x} {length}");
        rig.set(0xa4, 4, 0);
        assert_eq!(rig.read(STATUS, 1), 15);
    }
    aim(&mut rig, 0, 0x14, 1);
    assert_eq!(rig.get(0xa4, 4), 15);
    let _ = rig.raise_used();
    aim(&mut rig, 0, ISR as u64, 1);
    assert_eq!((rig.get(0xa4, 1), rig.get(0xa4, 1)), (1, 0), "a load has its effect");
    aim(&mut rig, 0, DOORBELL as u64, 2);
    let (function, mut behind) = rig.split();
    assert_eq!(function.write_configuration(&mut behind, 0xa4, 4, 0).effect, Effect::Notify { queue: 0 });
    let _ = rig.write(TABLE + 16 + 12, 4, 1);
    let _ = rig.raise_used();
    aim(&mut rig, 0, (TABLE + 16 + 12) as u64, 4);
    assert_eq!(rig.set(0xa4, 4, 0), 0b10, "a message that this opens the way for is sent");
}

#[test]
fn after_a_reset_it_is_as_after_power_on() {
    let mut rig = Rig::live();
    rig.set(0x10, 4, 0x0b20_4000);
    rig.set(0x98, 1, 1);
    let before: Vec<_> = (0..256).map(|register| Rig::attached().get(register, 1)).collect();
    rig.function.reset();
    let after: Vec<_> = (0..256).map(|register| rig.get(register, 1)).collect();
    assert_eq!(before, after);
    assert_eq!((rig.read(TABLE, 8), rig.read(TABLE + 12, 4), rig.read(PENDING, 8)), (0, 1, 0));
}

/// The naive model of configuration space: bytes, and which of their bits can be written.
struct Space {
    bytes: Vec<u8>,
    writable: Vec<u8>,
}

impl Space {
    fn of(rig: &mut Rig) -> Space {
        let bytes = (0..0x200).map(|register| rig.get(register, 1) as u8).collect();
        let mut writable = vec![0; 0x200];
        writable[0x04] = 0x06;
        writable[0x05] = 0x04;
        writable[0x11] = 0xc0;
        writable[0x12..0x14].fill(0xff);
        writable[0x3c] = 0xff;
        writable[0x43] = 0xc0;
        writable[0x98] = 0xff;
        writable[0x9c..0xa4].fill(0xff);
        Space { bytes, writable }
    }

    fn write(&mut self, register: usize, size: usize, value: u64) {
        for (index, byte) in value.to_le_bytes().into_iter().take(size).enumerate() {
            let Some(mask) = self.writable.get(register + index) else { continue };
            let old = &mut self.bytes[register + index];
            *old = *old & !mask | byte & mask;
        }
    }
}

/// What can happen to a function's messages.
#[derive(Clone, Copy, Debug)]
enum Op {
    Used,
    Config,
    Master(bool),
    Control(u16),
    Mask(usize, bool),
    QueueVector(u16, u16),
    ConfigVector(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Used),
        3 => Just(Op::Config),
        1 => any::<bool>().prop_map(Op::Master),
        1 => prop_oneof![Just(0x8000), Just(0xc000), Just(0), Just(0x8000)].prop_map(Op::Control),
        4 => (0..VECTORS, any::<bool>()).prop_map(|(vector, mask)| Op::Mask(vector, mask)),
        1 => (0..2_u16, 0..4_u16).prop_map(|(queue, vector)| Op::QueueVector(queue, vector)),
        1 => (0..4_u16).prop_map(Op::ConfigVector),
    ]
}

/// The naive model of MSI-X: who speaks by which vector, who is masked, who waits.
struct Messages {
    master: bool,
    control: u16,
    masked: [bool; VECTORS],
    configuration: Option<usize>,
    queues: [Option<usize>; 2],
    waiting: BTreeSet<usize>,
}

impl Messages {
    fn apply(&mut self, op: Op) {
        let vector = |vector: u16| (usize::from(vector) < VECTORS).then_some(vector.into());
        match op {
            Op::Used => self.wait(self.queues.into_iter().flatten().collect()),
            Op::Config => self.wait(self.configuration.into_iter().collect()),
            Op::Master(on) => self.master = on,
            Op::Control(control) => self.control = control,
            Op::Mask(vector, mask) => self.masked[vector] = mask,
            Op::QueueVector(queue, value) => self.queues[usize::from(queue)] = vector(value),
            Op::ConfigVector(value) => self.configuration = vector(value),
        }
        let named: Vec<_> = self.queues.into_iter().chain([self.configuration]).flatten().collect();
        self.waiting.retain(|vector| named.contains(vector));
        if self.control & 0x8000 == 0 {
            self.waiting.clear();
        }
    }

    fn wait(&mut self, vectors: Vec<usize>) {
        if self.control & 0x8000 != 0 {
            self.waiting.extend(vectors);
        }
    }

    fn send(&mut self) -> u32 {
        let open = self.master && self.control == 0x8000;
        let sent: Vec<_> = self.waiting.iter().copied().filter(|vector| open && !self.masked[*vector]).collect();
        sent.into_iter().fold(0, |all, vector| {
            self.waiting.remove(&vector);
            all | 1 << vector
        })
    }
}

/// A driver's store to the register file, as virtio-mmio has it and as PCI has it: register, field, width.
const FIELDS: [(usize, usize, usize); 15] = [
    (offset::DEVICE_FEATURES_SEL, 0x00, 4),
    (offset::DRIVER_FEATURES_SEL, 0x08, 4),
    (offset::DRIVER_FEATURES, 0x0c, 4),
    (offset::STATUS, STATUS, 1),
    (offset::STATUS, STATUS, 1),
    (offset::QUEUE_SEL, QUEUE_SELECT, 2),
    (offset::QUEUE_SIZE, QUEUE_SIZE, 2),
    (offset::QUEUE_READY, QUEUE_ENABLE, 2),
    (offset::QUEUE_DESC_LOW, 0x20, 4),
    (offset::QUEUE_DESC_HIGH, 0x24, 4),
    (offset::QUEUE_DRIVER_LOW, 0x28, 4),
    (offset::QUEUE_DRIVER_HIGH, 0x2c, 4),
    (offset::QUEUE_DEVICE_LOW, 0x30, 4),
    (offset::QUEUE_DEVICE_HIGH, 0x34, 4),
    (offset::QUEUE_NOTIFY, DOORBELL, 2),
];

fn values() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(3), Just(11), Just(15), Just(128), Just(0x244), Just(0x4000_0000), any::<u32>()]
}

/// What the backend sees.
fn shown(device: &Device) -> Vec<u64> {
    let view = DeviceView::default();
    device.publish(&view);
    let queues = view.queues.iter().flat_map(|queue| {
        let words = [&queue.ready, &queue.size].map(|it| u64::from(it.load(Relaxed)));
        let places = [&queue.descriptor_table, &queue.available_ring, &queue.used_ring].map(|it| it.load(Relaxed));
        words.into_iter().chain(places)
    });
    [view.status.load(Relaxed).into(), view.driver_features.load(Relaxed)].into_iter().chain(queues).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn configuration_space_is_bytes_of_which_some_can_be_written(
        stores in prop::collection::vec((0..0x110_usize, 0..=8_usize, any::<u64>()), 0..60)
    ) {
        let mut rig = Rig::attached();
        let mut space = Space::of(&mut rig);
        for (register, size, value) in stores {
            rig.set(register, size, value);
            space.write(register, size, value);
            for register in (0..0x200).filter(|register| !(0xa4..0xa8).contains(register)) {
                prop_assert_eq!(rig.get(register, 1), space.bytes[register].into(), "byte {:#x}", register);
            }
        }
    }

    #[test]
    fn no_interrupt_is_lost_or_sent_against_a_mask(ops in prop::collection::vec(op(), 1..80)) {
        let mut rig = Rig::live();
        let mut model = Messages {
            master: true,
            control: 0x8000,
            masked: [false; VECTORS],
            configuration: Some(0),
            queues: [Some(1), None],
            waiting: BTreeSet::new(),
        };
        for op in ops {
            let sent = match op {
                Op::Used => rig.raise_used(),
                Op::Config => rig.raise_config(),
                Op::Master(on) => rig.set(COMMAND, 2, if on { 6 } else { 2 }),
                Op::Control(control) => rig.set(MSIX_CONTROL, 2, control.into()),
                Op::Mask(vector, mask) => rig.write(TABLE + 16 * vector + 12, 4, mask.into()).vectors,
                Op::QueueVector(queue, vector) => {
                    let _ = rig.write(QUEUE_SELECT, 2, queue.into());
                    rig.write(QUEUE_VECTOR, 2, vector.into()).vectors
                }
                Op::ConfigVector(vector) => rig.write(0x10, 2, vector.into()).vectors,
            };
            model.apply(op);
            prop_assert_eq!(sent, model.send(), "after {:?}", op);
            let waiting = model.waiting.iter().fold(0, |all, vector| all | 1_u64 << vector);
            prop_assert_eq!(rig.read(PENDING, 8), waiting);
        }
    }

    /// What a driver does over PCI is what the same driver does over virtio-mmio: the backend sees no difference.
    #[test]
    fn both_transports_are_one_state_machine(
        stores in prop::collection::vec((0..FIELDS.len(), values(), any::<bool>()), 0..120),
        good in any::<bool>(),
    ) {
        let mut rig = if good { Rig::live() } else { Rig::attached() };
        let mut device = rig.device.clone();
        let mut page = Page(rig.page.0);
        for (index, value, confirm) in stores {
            let (register, field, size) = FIELDS[index];
            let value = if size == 4 { value } else { value & ((1 << (8 * size)) - 1) };
            if register == offset::QUEUE_READY {
                if value != 1 {
                    // Over PCI a queue is not disabled again, and has a size of its own accord.
                    continue;
                }
                if device.written(offset::QUEUE_SIZE) == 0 {
                    let largest = page.get(offset::QUEUE_SIZE_MAX);
                    let _ = device.write(&mut page, offset::QUEUE_SIZE, 4, largest.into());
                }
            }
            let expected = device.write(&mut page, register, 4, value.into());
            prop_assert_eq!(rig.write(field, size, value.into()).effect, expected);
            if confirm {
                prop_assert_eq!(device.reset_done(&mut page), rig.device.reset_done(&mut rig.page));
            }
            prop_assert_eq!(shown(&device), shown(&rig.device));
            prop_assert_eq!(&page.0[..], &rig.page.0[..]);
        }
    }
}
