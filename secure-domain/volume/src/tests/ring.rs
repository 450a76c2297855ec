//! Drivers that misbehave, reset, or go away.

use std::vec;

use crypto::Suite;
use virtio::model::{Driver, Ram};

use super::world::*;
use crate::{Event, Service};

fn world() -> World {
    World::new(sealed(filled(5), 300, Suite::Aes128Gcm), 16, 4, 1)
}

#[test]
fn a_malformed_ring_asks_for_a_reset_once_and_serves_again_after_it() {
    let mut world = world();
    let config = world.driver.config;
    world.ram.put(config.available_ring + 2, &0x8000u16.to_le_bytes());
    let outcome = world.service.on_doorbell(&world.ram);
    assert!(outcome.needs_reset && !outcome.interrupt);
    assert!(matches!(world.events()[..], [Event::Ring(virtio::Error::IndexJump { .. })]));
    // Nothing more is read or written until the reset, not even if the status changes again.
    assert!(!world.service.on_doorbell(&world.ram).needs_reset);
    assert!(!world.service.start(&world.ram, config, Service::<block::ram::RamDisk>::features()).needs_reset);
    world.reset();
    assert_eq!(world.read(0, 1), (OK, filled(5)));
}

#[test]
fn an_impossible_queue_asks_for_a_reset() {
    let mut world = world();
    world.service.reset();
    let config = virtio::QueueConfig { size: 3, ..world.driver.config };
    assert!(world.service.start(&world.ram, config, 0).needs_reset);
}

#[test]
fn another_status_bit_does_not_restart_the_ring() {
    let mut world = world();
    assert_eq!(world.read(0, 1), (OK, filled(5)));
    let outcome = world.service.start(&world.ram, world.driver.config, Service::<block::ram::RamDisk>::features());
    world.handle(outcome);
    assert_eq!(world.read(0, 1), (OK, filled(5)));
}

#[test]
fn after_a_reset_no_memory_of_the_driver_is_touched() {
    let mut world = world();
    assert_eq!(world.write(0, &filled(5).repeat(100)), OK);
    for block in 0..8 {
        world.post_data(TYPE_IN, block * 10, 10, 4096, &[]).unwrap();
        world.post_data(TYPE_OUT, 100 + block * 10, 10, 4096, &filled(6).repeat(10)).unwrap();
    }
    world.disk().credit = 3;
    world.kick();
    world.service.reset();
    let all = vec![0x77; 12 << 20];
    world.ram.put(Ram::BASE, &all);
    for _ in 0..100 {
        world.step(usize::MAX);
    }
    assert!(world.service.volume().is_idle());
    assert!(world.ram.get(Ram::BASE, 12 << 20) == all);
}

#[test]
fn data_outside_guest_memory_is_an_io_error_for_its_request() {
    let mut world = world();
    let area = Ram::BASE + 0x1000;
    for kind in [TYPE_IN, TYPE_OUT] {
        world.ram.put(area, &[kind as u8, 0, 0, 0]);
        let data = (Ram::BASE + (64 << 20), 4096, kind == TYPE_IN);
        let head = world.driver.post(&world.ram, &[(area, 16, false), data, (area + 16, 1, true)]).unwrap();
        world.settle();
        let (used, written) = world.driver.take_used(&world.ram).unwrap();
        assert_eq!((used, world.ram.get(area + 16, 1)[0]), (head, IO_ERROR));
        assert_eq!(written, u32::from(kind == TYPE_OUT));
    }
    assert_eq!(world.read(0, 1), (OK, filled(5)));
}

#[test]
fn a_status_byte_outside_guest_memory_costs_nobody_else() {
    let mut world = world();
    let area = Ram::BASE + 0x1000;
    world.ram.put(area, &[TYPE_FLUSH as u8, 0, 0, 0]);
    world.driver.post(&world.ram, &[(area, 16, false), (0, 1, true)]).unwrap();
    world.settle();
    assert_eq!(world.driver.take_used(&world.ram).unwrap().1, 0);
    assert_eq!(world.read(0, 1), (OK, filled(5)));
}

#[test]
fn the_device_has_a_name() {
    let mut world = world();
    let area = Ram::BASE + 0x1000;
    world.ram.put(area, &[8, 0, 0, 0]);
    world.driver.post(&world.ram, &[(area, 16, false), (area + 64, 20, true), (area + 16, 1, true)]).unwrap();
    world.settle();
    assert_eq!(world.driver.take_used(&world.ram).unwrap().1, 21);
    assert_eq!(&world.ram.get(area + 64, 20)[..7], b"haechi\0");
}

#[test]
fn quiescing_answers_what_was_taken_and_takes_nothing_more() {
    let mut world = world();
    world.post_data(TYPE_OUT, 3, 1, 4096, &filled(33)).unwrap();
    world.disk().credit = 0;
    world.kick();
    let outcome = world.service.quiesce(&world.ram);
    world.handle(outcome);
    world.post_data(TYPE_OUT, 4, 1, 4096, &filled(44)).unwrap();
    let outcome = world.service.on_doorbell(&world.ram);
    world.handle(outcome);
    for _ in 0..20 {
        world.step(usize::MAX);
    }
    assert_eq!(world.quiesced, Some(true));
    assert!(world.answer().is_some());
    assert!(world.answer().is_none());
    let image = world.disk().cut(|_| false);
    let mut world = World::new(image, 16, 4, 1);
    assert_eq!(world.read(3, 1), (OK, filled(33)));
    assert_eq!(world.read(4, 1), (OK, filled(0)));
}

#[test]
fn a_reset_in_the_middle_of_quiescing_does_not_lose_the_end() {
    let mut world = world();
    assert_eq!(world.write(3, &filled(33)), OK);
    world.disk().credit = 0;
    let outcome = world.service.quiesce(&world.ram);
    world.handle(outcome);
    world.service.reset();
    let outcome = world.service.resume(&world.ram);
    world.handle(outcome);
    for _ in 0..20 {
        world.step(usize::MAX);
    }
    assert_eq!(world.quiesced, Some(true));
}

#[test]
fn a_driver_without_event_index_is_served_too() {
    let mut world = world();
    world.service.reset();
    world.driver = Driver::new(Ram::BASE, 64, false);
    let outcome = world.service.start(&world.ram, world.driver.config, 0);
    world.handle(outcome);
    let area = Ram::BASE + 0x1000;
    for block in 0..200u8 {
        world.ram.put(area, &[TYPE_IN as u8, 0, 0, 0, 0, 0, 0, 0, block % 2 * 8]);
        let buffers = [(area, 16, false), (area + 4096, 4096, true), (area + 16, 1, true)];
        world.driver.post(&world.ram, &buffers).unwrap();
        world.settle();
        assert_eq!(world.driver.take_used(&world.ram).unwrap().1, 4097);
        let data = world.ram.get(area + 4096, 4096);
        assert_eq!(value(&data), if block % 2 == 0 { 5 } else { 0 });
    }
    assert!(world.interrupts >= 200);
}
