//! Tests of the state machine: promises one by one, then random histories against a naive model.

use std::collections::BTreeMap;
use std::vec::Vec;

use abi::DeviceView;
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;

use crate::{AttachError, Device, Effect, Offer, RegisterPage, features, offset, ring_doorbell, status};

/// The page as the guest reads it.
struct Page([u32; 0x80]);

impl RegisterPage for Page {
    fn set(&mut self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        self.0[offset / 4] = value;
    }

    fn get(&self, offset: usize) -> u32 {
        self.0[offset / 4]
    }
}

const OFFER: Offer = Offer { device_id: 2, features: features::VERSION_1 | 0x244, queues: 2, queue_size_max: 128 };

/// A device with its page.
struct Rig {
    device: Device,
    page: Page,
    view: DeviceView,
}

impl Rig {
    fn new() -> Rig {
        let rig = Rig { device: Device::default(), page: Page([0; 0x80]), view: DeviceView::default() };
        let mut page = Page([0; 0x80]);
        rig.device.show(&mut page);
        Rig { page, ..rig }
    }

    fn attached() -> Rig {
        let mut rig = Rig::new();
        assert_eq!(rig.device.attach(&mut rig.page, OFFER), Ok(()));
        rig
    }

    /// As a driver leaves it that follows virtio 1.2, section 3.1.1.
    fn live() -> Rig {
        let mut rig = Rig::attached();
        rig.drive();
        rig
    }

    fn drive(&mut self) {
        self.write(offset::STATUS, status::ACKNOWLEDGE);
        self.write(offset::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        self.accept(OFFER.features);
        self.write(offset::STATUS, 11);
        assert_eq!(self.read(offset::STATUS), 11);
        self.queue(0);
        assert_eq!(self.effect(offset::STATUS, 15), Effect::StatusChanged);
        self.device.publish(&self.view);
    }

    fn accept(&mut self, features: u64) {
        self.write(offset::DRIVER_FEATURES_SEL, 1);
        self.write(offset::DRIVER_FEATURES, (features >> 32) as u32);
        self.write(offset::DRIVER_FEATURES_SEL, 0);
        self.write(offset::DRIVER_FEATURES, features as u32);
    }

    fn queue(&mut self, index: u32) {
        self.write(offset::QUEUE_SEL, index);
        assert_eq!(self.read(offset::QUEUE_READY), 0);
        self.write(offset::QUEUE_SIZE, self.read(offset::QUEUE_SIZE_MAX));
        for (register, value) in [
            (offset::QUEUE_DESC_LOW, 0x4000_0000),
            (offset::QUEUE_DRIVER_LOW, 0x4000_1000),
            (offset::QUEUE_DEVICE_LOW, 0x4000_2000),
            (offset::QUEUE_DEVICE_HIGH, 1),
        ] {
            self.write(register, value);
        }
        self.write(offset::QUEUE_READY, 1);
        assert_eq!(self.read(offset::QUEUE_READY), 1);
    }

    fn effect(&mut self, offset: usize, value: u32) -> Effect {
        self.device.write(&mut self.page, offset, 4, value.into())
    }

    /// A write that asks EL2 for nothing.
    fn write(&mut self, offset: usize, value: u32) {
        assert_eq!(self.effect(offset, value), Effect::None, "{offset:#x} = {value:#x}");
    }

    fn read(&self, offset: usize) -> u32 {
        self.page.0[offset / 4]
    }
}

#[test]
fn refuses_offers_that_the_register_file_cannot_keep() {
    let refused = [
        (Offer { device_id: 0, ..OFFER }, AttachError::DeviceId),
        (Offer { features: 0x244, ..OFFER }, AttachError::Features),
        (Offer { features: OFFER.features | features::RING_PACKED, ..OFFER }, AttachError::Features),
        (Offer { features: OFFER.features | features::RING_RESET, ..OFFER }, AttachError::Features),
        (Offer { queues: 0, ..OFFER }, AttachError::Queues),
        (Offer { queues: 9, ..OFFER }, AttachError::Queues),
        (Offer { queue_size_max: 0, ..OFFER }, AttachError::QueueSize),
        (Offer { queue_size_max: 100, ..OFFER }, AttachError::QueueSize),
    ];
    for (offer, error) in refused {
        let mut rig = Rig::new();
        assert_eq!(rig.device.attach(&mut rig.page, offer), Err(error));
        assert_eq!(rig.read(offset::DEVICE_ID), 0);
    }
}

#[test]
fn an_offer_that_stands_cannot_be_changed() {
    let mut rig = Rig::attached();
    let other = Offer { queues: 1, ..OFFER };
    assert_eq!(rig.device.attach(&mut rig.page, other), Err(AttachError::Differs));
}

#[test]
fn a_device_that_nobody_offers_is_skipped_and_deaf() {
    let mut rig = Rig::new();
    assert_eq!((rig.read(offset::MAGIC_VALUE), rig.read(offset::VERSION)), (0x7472_6976, 2));
    assert_eq!(rig.read(offset::DEVICE_ID), 0);
    for register in (0..0x200).step_by(4) {
        rig.write(register, 15);
        rig.write(register, 0);
    }
    assert_eq!(rig.read(offset::STATUS), 0);
    assert!(!rig.device.raise_used(&mut rig.page) && !rig.device.needs_reset(&mut rig.page));
}

#[test]
fn there_is_no_shared_memory_region() {
    let rig = Rig::attached();
    for register in [offset::SHM_LEN_LOW, offset::SHM_LEN_HIGH, offset::SHM_BASE_LOW, offset::SHM_BASE_HIGH] {
        assert_eq!(rig.read(register), u32::MAX);
    }
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for wrong in [OFFER.features | 1, OFFER.features | 1 << 33, 0x244, 0] {
        let mut rig = Rig::attached();
        rig.accept(wrong);
        rig.write(offset::STATUS, 11);
        assert_eq!(rig.read(offset::STATUS), 3);
        rig.write(offset::STATUS, 15);
        assert_eq!(rig.read(offset::STATUS), 3, "DRIVER_OK without FEATURES_OK");
    }
}

#[test]
fn features_beyond_bit_63_are_refused() {
    let mut rig = Rig::attached();
    rig.accept(OFFER.features);
    rig.write(offset::DRIVER_FEATURES_SEL, 2);
    rig.write(offset::DRIVER_FEATURES, 1);
    rig.write(offset::STATUS, 11);
    assert_eq!(rig.read(offset::STATUS), 3);
}

#[test]
fn features_are_shown_by_selector() {
    let mut rig = Rig::attached();
    for (selector, word) in [(1, (OFFER.features >> 32) as u32), (0, OFFER.features as u32), (2, 0), (u32::MAX, 0)] {
        rig.write(offset::DEVICE_FEATURES_SEL, selector);
        assert_eq!(rig.read(offset::DEVICE_FEATURES), word);
    }
}

#[test]
fn what_the_driver_wrote_is_told_of_the_selected_queue_and_word_alone() {
    let mut rig = Rig::attached();
    rig.accept(OFFER.features);
    rig.queue(1);
    assert_eq!(rig.device.written(offset::DRIVER_FEATURES), OFFER.features as u32);
    assert_eq!(rig.device.written(offset::QUEUE_SEL), 1);
    assert_eq!(rig.device.written(offset::QUEUE_SIZE), 128);
    assert_eq!(rig.device.written(offset::QUEUE_DEVICE_LOW), 0x4000_2000);
    assert_eq!(rig.device.written(offset::QUEUE_DEVICE_HIGH), 1);
    assert_eq!(rig.device.written(offset::QUEUE_NOTIFY), 0);
    for selector in [0, 2, 8, u32::MAX] {
        rig.write(offset::QUEUE_SEL, selector);
        assert_eq!(rig.device.written(offset::QUEUE_SIZE), 0);
    }
    for (selector, word) in [(1, (OFFER.features >> 32) as u32), (2, 0), (u32::MAX, 0)] {
        rig.write(offset::DRIVER_FEATURES_SEL, selector);
        assert_eq!(rig.device.written(offset::DRIVER_FEATURES), word);
    }
}

#[test]
fn settled_features_do_not_change() {
    let mut rig = Rig::attached();
    rig.accept(OFFER.features);
    rig.write(offset::STATUS, 11);
    rig.accept(u64::MAX);
    assert_eq!(rig.effect(offset::STATUS, 15), Effect::StatusChanged);
    rig.device.publish(&rig.view);
    assert_eq!(rig.view.driver_features.load(Relaxed), OFFER.features);
}

#[test]
fn status_bits_are_never_taken_away() {
    let mut rig = Rig::live();
    rig.write(offset::STATUS, 1);
    assert_eq!(rig.read(offset::STATUS), 15);
    rig.write(offset::STATUS, 0xffff_ff70);
    assert_eq!(rig.read(offset::STATUS), 15, "bits that are not the driver's");
    assert_eq!(rig.effect(offset::STATUS, status::FAILED), Effect::StatusChanged);
}

#[test]
fn accesses_that_are_no_aligned_words_are_ignored() {
    let mut rig = Rig::live();
    let before = rig.page.0;
    for (place, size) in [(0x70, 1), (0x70, 2), (0x70, 8), (0x71, 4), (0x50, 2), (0x100, 4), (0x104, 1), (0xffc, 4)] {
        assert_eq!(rig.device.write(&mut rig.page, place, size, 0), Effect::None);
    }
    assert_eq!(rig.page.0, before);
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_cannot_be_readied() {
    let mut rig = Rig::attached();
    for index in [2, 7, 8, u32::MAX] {
        rig.write(offset::QUEUE_SEL, index);
        assert_eq!(rig.read(offset::QUEUE_SIZE_MAX), 0);
        rig.write(offset::QUEUE_SIZE, 64);
        rig.write(offset::QUEUE_READY, 1);
        assert_eq!(rig.read(offset::QUEUE_READY), 0);
    }
    rig.write(offset::QUEUE_SEL, 1);
    assert_eq!(rig.read(offset::QUEUE_SIZE_MAX), 128);
}

#[test]
fn queues_are_frozen_while_the_backend_may_work() {
    let mut rig = Rig::live();
    rig.write(offset::QUEUE_SEL, 0);
    rig.write(offset::QUEUE_READY, 0);
    assert_eq!(rig.read(offset::QUEUE_READY), 1);
    rig.write(offset::QUEUE_SEL, 1);
    rig.write(offset::QUEUE_SIZE, 64);
    rig.write(offset::QUEUE_READY, 1);
    assert_eq!(rig.read(offset::QUEUE_READY), 0);
}

#[test]
fn only_a_ready_queue_of_a_live_device_can_be_notified() {
    let mut rig = Rig::attached();
    rig.queue(0);
    rig.write(offset::QUEUE_NOTIFY, 0);
    let mut rig = Rig::live();
    for index in [1, 2, 8, 64, u32::MAX] {
        rig.write(offset::QUEUE_NOTIFY, index);
    }
    assert_eq!(rig.effect(offset::QUEUE_NOTIFY, 0), Effect::Notify { queue: 0 });
}

#[test]
fn a_device_that_needs_a_reset_says_so_and_hears_nothing_until_then() {
    let mut rig = Rig::live();
    assert!(rig.device.needs_reset(&mut rig.page));
    assert_eq!(rig.read(offset::STATUS), 15 | status::DEVICE_NEEDS_RESET);
    assert_eq!(rig.read(offset::INTERRUPT_STATUS), 2);
    rig.write(offset::QUEUE_NOTIFY, 0);
    assert_eq!(rig.effect(offset::STATUS, 0), Effect::ResetRequested);
    assert!(rig.device.reset_done(&mut rig.page));
    rig.write(offset::STATUS, 0);
    rig.drive();
    assert_eq!(rig.effect(offset::QUEUE_NOTIFY, 0), Effect::Notify { queue: 0 });
}

#[test]
fn the_line_is_high_until_every_cause_is_acknowledged() {
    let mut rig = Rig::live();
    assert!(rig.device.raise_used(&mut rig.page));
    assert!(rig.device.raise_config(&mut rig.page));
    assert_eq!(rig.read(offset::INTERRUPT_STATUS), 3);
    rig.write(offset::INTERRUPT_ACK, 1);
    assert!(rig.device.line());
    assert_eq!(rig.effect(offset::INTERRUPT_ACK, 2), Effect::LineChanged(false));
    rig.write(offset::INTERRUPT_ACK, 3);
    assert_eq!(rig.read(offset::INTERRUPT_STATUS), 0);
}

#[test]
fn nothing_interrupts_a_driver_that_is_not_ready() {
    let mut rig = Rig::attached();
    rig.write(offset::STATUS, 3);
    assert!(!rig.device.raise_used(&mut rig.page) && !rig.device.raise_config(&mut rig.page));
    assert!(!rig.device.needs_reset(&mut rig.page));
    assert_eq!(rig.read(offset::STATUS), 3 | status::DEVICE_NEEDS_RESET);
}

#[test]
fn configuration_words_have_a_bound_and_a_generation() {
    let mut rig = Rig::new();
    for place in [1, 2, 0x100, usize::MAX - 3] {
        assert!(!rig.device.set_config(&mut rig.page, place, 1));
    }
    assert!(rig.device.set_config(&mut rig.page, 4, 7));
    assert_eq!((rig.read(offset::CONFIG + 4), rig.read(offset::CONFIG_GENERATION)), (7, 0));
    assert_eq!(rig.device.attach(&mut rig.page, OFFER), Ok(()));
    assert!(rig.device.set_config(&mut rig.page, 0xfc, 8));
    assert_eq!((rig.read(offset::CONFIG + 0xfc), rig.read(offset::CONFIG_GENERATION)), (8, 1));
}

#[test]
fn a_device_without_work_resets_at_once() {
    let mut rig = Rig::attached();
    rig.accept(OFFER.features);
    rig.write(offset::STATUS, 11);
    rig.queue(1);
    rig.write(offset::STATUS, 0);
    assert_eq!(rig.read(offset::STATUS), 0);
    rig.write(offset::QUEUE_SEL, 1);
    assert_eq!(rig.read(offset::QUEUE_READY), 0);
    assert!(!rig.device.reset_done(&mut rig.page), "nothing to confirm");
}

#[test]
fn a_live_reset_is_replayed_until_the_backend_confirms_it() {
    let mut rig = Rig::live();
    assert!(rig.device.raise_used(&mut rig.page));
    assert_eq!(rig.effect(offset::STATUS, 0), Effect::ResetRequested);
    assert!(!rig.device.line(), "the line is low from the request on");
    rig.device.publish(&rig.view);
    assert_eq!((rig.view.status.load(Relaxed), rig.view.generation.load(Relaxed)), (0, 1));
    assert_eq!(rig.read(offset::STATUS), 15, "not complete before the backend says so");
    for _ in 0..3 {
        assert_eq!(rig.effect(offset::STATUS, 0), Effect::ResetPending);
    }
    assert!(!rig.device.raise_used(&mut rig.page), "an old completion interrupts nobody");
    rig.write(offset::STATUS, 15);
    rig.write(offset::QUEUE_NOTIFY, 0);
    assert!(rig.device.reset_done(&mut rig.page));
    assert_eq!(rig.read(offset::STATUS), 0);
    rig.write(offset::STATUS, 0);
    rig.drive();
    assert_eq!(rig.view.generation.load(Relaxed), 1);
}

#[test]
fn without_a_backend_a_reset_completes_and_doorbells_are_remembered() {
    let mut rig = Rig::live();
    assert_eq!(rig.effect(offset::STATUS, 0), Effect::ResetRequested);
    rig.device.backend_stopped(&mut rig.page);
    rig.write(offset::STATUS, 0);
    rig.drive();
    assert_eq!(rig.effect(offset::QUEUE_NOTIFY, 0), Effect::Notify { queue: 0 });
    ring_doorbell(&rig.view, 0);
    assert_eq!(rig.device.attach(&mut rig.page, OFFER), Ok(()));
    rig.device.publish(&rig.view);
    assert_eq!(rig.view.doorbells.load(Relaxed), 1);
    assert_eq!(rig.view.status.load(Relaxed), 15, "a backend that returns finds the driver's state");
    rig.device.backend_stopped(&mut rig.page);
    assert_eq!(rig.effect(offset::STATUS, 0), Effect::StatusChanged);
    rig.device.publish(&rig.view);
    assert_eq!((rig.view.status.load(Relaxed), rig.view.doorbells.load(Relaxed)), (0, 0));
}

#[test]
fn the_view_shows_what_the_driver_set() {
    let rig = Rig::live();
    let queue = &rig.view.queues[0];
    assert_eq!((queue.ready.load(Relaxed), queue.size.load(Relaxed)), (1, 128));
    assert_eq!(queue.descriptor_table.load(Relaxed), 0x4000_0000);
    assert_eq!(queue.available_ring.load(Relaxed), 0x4000_1000);
    assert_eq!(queue.used_ring.load(Relaxed), 0x1_4000_2000);
    assert_eq!(rig.view.queues[1].ready.load(Relaxed), 0);
    assert_eq!(rig.view.driver_features.load(Relaxed), OFFER.features);
    assert_eq!(rig.view.status.load(Relaxed), 15);
}

/// The naive model: every register that the driver wrote since the last reset, in maps, and the rules of the specification
/// asked anew at each step.
#[derive(Default)]
struct Model {
    device_sel: u32,
    driver_sel: u32,
    accepted: BTreeMap<u32, u32>,
    beyond: bool,
    queue_sel: u32,
    sizes: BTreeMap<u32, u32>,
    addresses: BTreeMap<(u32, usize), u32>,
    ready: BTreeMap<u32, bool>,
    status: u32,
    resetting: bool,
    absent: bool,
    interrupts: u32,
}

impl Model {
    fn live(&self) -> bool {
        self.status & 4 != 0 && !self.resetting
    }

    fn features(&self) -> u64 {
        let word = |index| u64::from(self.accepted.get(&index).copied().unwrap_or(0));
        word(0) | word(1) << 32
    }

    fn start_afresh(&mut self) {
        *self = Model { absent: self.absent, ..Model::default() };
    }

    fn write(&mut self, place: usize, value: u32) -> Effect {
        let settable = self.status & 4 == 0;
        let queue = self.queue_sel;
        let exists = queue < 2;
        let is_ready = self.ready.get(&queue) == Some(&true);
        match place {
            offset::STATUS if value == 0 => return self.reset(),
            offset::STATUS => return self.add(value),
            offset::QUEUE_NOTIFY if self.live() && self.status & 64 == 0 && self.ready.get(&value) == Some(&true) => {
                return Effect::Notify { queue: value as u8 };
            }
            offset::INTERRUPT_ACK => {
                let before = self.interrupts;
                self.interrupts &= !value;
                if before != 0 && self.interrupts == 0 {
                    return Effect::LineChanged(false);
                }
            }
            offset::DEVICE_FEATURES_SEL => self.device_sel = value,
            offset::QUEUE_SEL => self.queue_sel = value,
            _ if !settable => {}
            offset::DRIVER_FEATURES_SEL => self.driver_sel = value,
            offset::DRIVER_FEATURES if self.status & 8 == 0 => {
                self.accepted.insert(self.driver_sel, value);
                self.beyond |= self.driver_sel > 1 && value != 0;
            }
            offset::QUEUE_READY if exists && value == 0 => {
                self.ready.insert(queue, false);
            }
            offset::QUEUE_READY if exists && value == 1 => {
                let low = |place| self.addresses.get(&(queue, place)).copied().unwrap_or(0);
                let fine =
                    self.sizes.get(&queue).is_some_and(|&size| matches!(size, 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128))
                        && low(0x80) % 16 == 0
                        && low(0x90) % 2 == 0
                        && low(0xa0) % 4 == 0;
                self.ready.insert(queue, fine);
            }
            offset::QUEUE_SIZE if exists && !is_ready => {
                self.sizes.insert(queue, value);
            }
            0x80 | 0x84 | 0x90 | 0x94 | 0xa0 | 0xa4 if exists && !is_ready => {
                self.addresses.insert((queue, place), value);
            }
            _ => {}
        }
        Effect::None
    }

    fn reset(&mut self) -> Effect {
        if self.resetting {
            return Effect::ResetPending;
        }
        if self.live() && !self.absent {
            self.resetting = true;
            self.interrupts = 0;
            return Effect::ResetRequested;
        }
        let was_live = self.live();
        self.start_afresh();
        if was_live { Effect::StatusChanged } else { Effect::None }
    }

    fn add(&mut self, value: u32) -> Effect {
        let before = self.status;
        if self.resetting {
            return Effect::None;
        }
        self.status |= value & (1 | 2 | 128);
        if value & 8 != 0 && self.features() & !OFFER.features == 0 && self.features() >> 32 & 1 == 1 && !self.beyond {
            self.status |= 8;
        }
        if value & 4 != 0 && self.status & 8 != 0 && before & 64 == 0 {
            self.status |= 4;
        }
        let gained = self.status & !before;
        if gained & 4 != 0 || (gained & 128 != 0 && self.live()) { Effect::StatusChanged } else { Effect::None }
    }

    fn check(&self, rig: &Rig) -> Result<(), TestCaseError> {
        prop_assert_eq!(rig.read(offset::STATUS), self.status);
        prop_assert_eq!(rig.read(offset::INTERRUPT_STATUS), self.interrupts);
        prop_assert_eq!(rig.device.line(), self.interrupts != 0);
        prop_assert_eq!(rig.device.is_live(), self.live());
        let ready = self.ready.get(&self.queue_sel) == Some(&true);
        prop_assert_eq!(rig.read(offset::QUEUE_READY), u32::from(ready));
        prop_assert_eq!(rig.read(offset::QUEUE_SIZE_MAX), if self.queue_sel < 2 { 128 } else { 0 });
        let word = [OFFER.features as u32, (OFFER.features >> 32) as u32].get(self.device_sel as usize).copied();
        prop_assert_eq!(rig.read(offset::DEVICE_FEATURES), word.unwrap_or(0));
        prop_assert_eq!(rig.read(offset::DEVICE_ID), OFFER.device_id);
        rig.device.publish(&rig.view);
        prop_assert_eq!(rig.view.status.load(Relaxed), if self.live() { self.status } else { 0 });
        prop_assert_eq!(rig.view.driver_features.load(Relaxed), self.features());
        for (index, queue) in (0u32..).zip(&rig.view.queues) {
            let ready = self.ready.get(&index) == Some(&true);
            prop_assert_eq!(queue.ready.load(Relaxed), u32::from(ready));
            let half = |place| u64::from(self.addresses.get(&(index, place)).copied().unwrap_or(0));
            prop_assert_eq!(queue.used_ring.load(Relaxed), half(0xa0) | half(0xa4) << 32);
            if ready {
                prop_assert_eq!(Some(&queue.size.load(Relaxed)), self.sizes.get(&index));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u32),
    Drive,
    Used,
    Config,
    NeedsReset,
    ResetDone,
    BackendStopped,
    Attach,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = prop_oneof![3 => Just(offset::STATUS), 10 => (0..0x44usize).prop_map(|word| word * 4)];
    let value = prop_oneof![
        8 => prop::sample::select(std::vec![0, 1, 2, 3, 8, 11, 15, 64, 128, 0x244, 0x1000]),
        1 => any::<u32>(),
    ];
    let step = prop_oneof![
        20 => (place, value).prop_map(|(place, value)| Step::Write(place, value)),
        2 => Just(Step::Drive),
        1 => Just(Step::Used),
        1 => Just(Step::Config),
        1 => Just(Step::NeedsReset),
        2 => Just(Step::ResetDone),
        1 => Just(Step::BackendStopped),
        1 => Just(Step::Attach),
    ];
    prop::collection::vec(step, 0..120)
}

/// A driver's initialisation, wherever the device stands.
const DRIVE: [(usize, u32); 14] = [
    (offset::STATUS, 0),
    (offset::STATUS, 3),
    (offset::DRIVER_FEATURES_SEL, 1),
    (offset::DRIVER_FEATURES, 1),
    (offset::DRIVER_FEATURES_SEL, 0),
    (offset::DRIVER_FEATURES, 0x200),
    (offset::STATUS, 11),
    (offset::QUEUE_SEL, 1),
    (offset::QUEUE_SIZE, 64),
    (offset::QUEUE_DESC_LOW, 0x10),
    (offset::QUEUE_DEVICE_HIGH, 4),
    (offset::QUEUE_READY, 1),
    (offset::STATUS, 15),
    (offset::QUEUE_NOTIFY, 1),
];

proptest! {
    #[test]
    fn any_history_agrees_with_the_naive_model(steps in steps()) {
        let mut rig = Rig::attached();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Write(place, value) => prop_assert_eq!(rig.effect(place, value), model.write(place, value)),
                Step::Drive => for (place, value) in DRIVE {
                    prop_assert_eq!(rig.effect(place, value), model.write(place, value));
                }
                Step::Used => {
                    model.interrupts |= u32::from(model.live());
                    prop_assert_eq!(rig.device.raise_used(&mut rig.page), model.interrupts != 0);
                }
                Step::Config => {
                    model.interrupts |= 2 * u32::from(model.live());
                    prop_assert_eq!(rig.device.raise_config(&mut rig.page), model.interrupts != 0);
                }
                Step::NeedsReset => {
                    model.interrupts |= 2 * u32::from(model.live());
                    model.status |= if model.resetting { 0 } else { 64 };
                    prop_assert_eq!(rig.device.needs_reset(&mut rig.page), model.interrupts != 0);
                }
                Step::ResetDone => {
                    prop_assert_eq!(rig.device.reset_done(&mut rig.page), model.resetting);
                    if model.resetting { model.start_afresh(); }
                }
                Step::BackendStopped => {
                    rig.device.backend_stopped(&mut rig.page);
                    model.absent = true;
                    if model.resetting { model.start_afresh(); }
                }
                Step::Attach => {
                    prop_assert_eq!(rig.device.attach(&mut rig.page, OFFER), Ok(()));
                    model.absent = false;
                }
            }
            model.check(&rig)?;
        }
    }
}
