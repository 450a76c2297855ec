//! Drivers that behave, misbehave, reset, or go away: two virtual disks over one pool.

use std::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use crypto::Suite;
use proptest::prelude::*;
use virtio::{
    Ledger, QueueConfig,
    model::{Driver, Ram},
};

use super::world::*;
use crate::{BLOCK_BYTES, Event, Layout, Outcome, Server, service::Setup};

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
/// Memory of one device's driver: ring, then one area for each request.
const STRIDE: u64 = 8 << 20;
const AREA: u64 = 1 << 20;

struct Machine {
    ram: Ram,
    server: Server<RamDisk, RamAnchor>,
    drivers: Vec<Driver>,
    ledgers: [&'static Ledger; 2],
    /// Resets of each device.
    generations: [u32; 2],
    quiesced: Option<bool>,
    interrupts: u32,
    areas: u64,
}

fn offer(server: &mut Server<RamDisk, RamAnchor>, ledgers: [&'static Ledger; 2]) {
    let [one, two] = ledgers;
    let offered = (server.offer(1, one), server.offer(2, two), server.offer(3, one));
    assert_eq!(offered, (Some(0), Some(1), None));
}

fn features() -> u64 {
    Server::<RamDisk, RamAnchor>::features()
}

impl Machine {
    fn new() -> Machine {
        let mut world = World::small(300, Suite::Aes128Gcm);
        assert_eq!(world.create("two", Layout::Linear, 300, Suite::Seed128Ccm), crate::Status::Ok);
        let mut server = Server::new(world.pool);
        let ledgers: [&Ledger; 2] = core::array::from_fn(|_| &*Box::leak(Box::new(Ledger::new())));
        offer(&mut server, ledgers);
        let drivers = (0..2).map(|device| Driver::new(Ram::BASE + device * STRIDE, 64, true)).collect();
        let ram = Ram::new(2 * STRIDE as usize);
        let generations = [0; 2];
        let mut machine =
            Machine { ram, server, drivers, ledgers, generations, quiesced: None, interrupts: 0, areas: 0 };
        (0..2).for_each(|device| machine.start(device));
        machine
    }

    fn setup(&self, device: usize) -> Setup {
        Setup { queue: self.drivers[device].config, features: features(), generation: self.generations[device] }
    }

    fn start(&mut self, device: usize) {
        let outcome = self.server.start(device, 0, &self.ram, &self.setup(device));
        self.handle(outcome);
    }

    /// The service dies where it stands, and another is started over the same disk, which has not lost power.
    fn die(self) -> Machine {
        let (images, anchor) = World::with(self.server.into_pool()).cut(|_| true);
        let (world, _) = World::mount(images, anchor).unwrap();
        let mut machine = Machine { server: Server::new(world.pool), ..self };
        offer(&mut machine.server, machine.ledgers);
        (0..2).for_each(|device| machine.start(device));
        machine
    }

    fn reset(&mut self, device: usize) {
        self.server.reset(device);
        self.generations[device] += 1;
        let base = Ram::BASE + device as u64 * STRIDE;
        self.ram.put(base, &vec![0; Driver::ring_bytes(64) as usize]);
        self.drivers[device] = Driver::new(base, 64, true);
        self.start(device);
    }

    fn handle(&mut self, mut outcome: Outcome) {
        for _ in 0..1000 {
            assert_eq!(outcome.needs_reset, 0);
            self.interrupts |= outcome.interrupts;
            self.quiesced = outcome.quiesced.or(self.quiesced);
            if !outcome.again {
                return;
            }
            outcome = self.server.resume(0, &self.ram);
        }
        panic!("the server never comes to rest");
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let outcome = self.server.on_disk_interrupt(0, 0, &self.ram);
            self.handle(outcome);
            if self.server.pool().is_idle() {
                return;
            }
        }
        panic!("requests hang");
    }

    /// Posts a request with one data segment; returns its area.
    fn post(&mut self, device: usize, kind: u32, block: u64, data: &[u8], len: u32) -> u64 {
        let area = Ram::BASE + device as u64 * STRIDE + (1 + self.areas % 7) * AREA;
        self.areas += 1;
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&(block * 8).to_le_bytes());
        self.ram.put(area, &header);
        self.ram.put(area + 16, &[0xff]);
        self.ram.put(area + 4096, data);
        let mut buffers = vec![(area, 16, false)];
        if len != 0 {
            buffers.push((area + 4096, len, kind == TYPE_IN || kind == TYPE_GET_ID));
        }
        buffers.push((area + 16, 1, true));
        self.drivers[device].post(&self.ram, &buffers).unwrap();
        area
    }

    fn run(&mut self, device: usize, kind: u32, block: u64, data: &[u8], len: u32) -> (u8, Vec<u8>) {
        let area = self.post(device, kind, block, data, len);
        self.settle();
        self.drivers[device].take_used(&self.ram).expect("a settled request is answered");
        (self.ram.get(area + 16, 1)[0], self.ram.get(area + 4096, len as usize))
    }

    fn write(&mut self, device: usize, block: u64, data: &[u8]) -> u8 {
        self.run(device, TYPE_OUT, block, data, data.len() as u32).0
    }

    fn read(&mut self, device: usize, block: u64) -> (u8, Vec<u8>) {
        self.run(device, TYPE_IN, block, &[], BLOCK_BYTES as u32)
    }
}

#[test]
fn two_disks_are_served_side_by_side() {
    let mut machine = Machine::new();
    assert_eq!(machine.write(0, 3, &filled(1).repeat(20)), OK);
    assert_eq!(machine.write(1, 3, &filled(2)), OK);
    assert_eq!(machine.interrupts, 3);
    assert_eq!(machine.read(0, 3), (OK, filled(1)));
    assert_eq!(machine.read(1, 3), (OK, filled(2)));
    assert_eq!(machine.run(0, TYPE_FLUSH, 0, &[], 0).0, OK);
    let mut range = [0; 16];
    (range[0], range[8]) = (24, 8);
    assert_eq!(machine.run(0, TYPE_DISCARD, 0, &range, 16).0, OK);
    assert_eq!(machine.read(0, 3), (OK, filled(0)));
    assert_eq!(machine.read(1, 3), (OK, filled(2)));
    assert_eq!(&machine.run(1, TYPE_GET_ID, 0, &[], 20).1[..4], b"two\0");
    assert_eq!(machine.run(0, TYPE_IN, 300, &[], 4096).0, IO_ERROR);
}

#[test]
fn a_disk_whose_volume_has_grown_is_named_once_and_serves_its_new_blocks() {
    let mut machine = Machine::new();
    assert_eq!(machine.server.take_grown(), 0);
    assert_eq!(machine.read(1, 300).0, IO_ERROR);
    machine.server.pool_mut().command(0, crate::Command::Grow { volume: 2, blocks: 400 }).unwrap();
    machine.settle();
    assert_eq!(machine.server.next_command().unwrap().status, crate::Status::Ok);
    assert_eq!((machine.server.take_grown(), machine.server.take_grown()), (2, 0));
    assert_eq!(machine.server.config(1)[0], 400 * 8, "capacity in sectors of 512 bytes");
    assert_eq!(machine.read(1, 399), (OK, filled(0)));
}

#[test]
fn a_volume_has_a_driver_from_its_start_to_its_reset() {
    let mut machine = Machine::new();
    assert!(machine.server.has_driver(1) && machine.server.has_driver(2) && !machine.server.has_driver(3));
    machine.server.reset(1);
    assert!(machine.server.has_driver(1) && !machine.server.has_driver(2));
}

#[test]
fn a_malformed_ring_asks_for_a_reset_once_and_the_other_disk_goes_on() {
    let mut machine = Machine::new();
    assert_eq!(machine.write(0, 0, &filled(5)), OK);
    let setup = machine.setup(0);
    machine.ram.put(setup.queue.available_ring + 2, &0x8000u16.to_le_bytes());
    assert_eq!(machine.server.resume(0, &machine.ram).needs_reset, 1);
    assert!(matches!(
        machine.server.next_event(),
        Some(Event::Ring { device: 0, error: virtio::Error::IndexJump { .. } })
    ));
    assert_eq!(machine.server.start(0, 0, &machine.ram, &setup).needs_reset, 0);
    assert_eq!(machine.write(1, 0, &filled(6)), OK);
    machine.reset(0);
    assert_eq!(machine.read(0, 0), (OK, filled(5)));
}

#[test]
fn an_impossible_queue_asks_for_a_reset() {
    let mut machine = Machine::new();
    machine.server.reset(1);
    let queue = QueueConfig { size: 3, ..machine.drivers[1].config };
    let setup = Setup { queue, features: 0, generation: 1 };
    assert_eq!(machine.server.start(1, 0, &machine.ram, &setup).needs_reset, 2);
}

#[test]
fn after_a_reset_no_memory_of_the_driver_is_touched() {
    let mut machine = Machine::new();
    assert_eq!(machine.write(0, 0, &filled(5).repeat(100)), OK);
    for block in 0..3 {
        machine.post(0, TYPE_IN, block * 10, &[], 40_960);
        machine.post(0, TYPE_OUT, 100 + block * 10, &filled(6).repeat(10), 40_960);
    }
    machine.server.pool_mut().member_mut(0).credit = 3;
    let outcome = machine.server.resume(0, &machine.ram);
    machine.handle(outcome);
    machine.server.reset(0);
    machine.ram.put(Ram::BASE, &vec![0x77; STRIDE as usize]);
    machine.server.pool_mut().member_mut(0).credit = usize::MAX;
    machine.settle();
    assert!(machine.ram.get(Ram::BASE, STRIDE as usize).iter().all(|&byte| byte == 0x77));
}

#[test]
fn data_outside_guest_memory_is_an_io_error_for_its_request() {
    let mut machine = Machine::new();
    assert_eq!(machine.write(0, 0, &filled(5)), OK);
    let area = Ram::BASE + AREA;
    for kind in [TYPE_IN, TYPE_OUT] {
        machine.ram.put(area, &[kind as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let data = (Ram::BASE + (64 << 20), 4096, kind == TYPE_IN);
        machine.drivers[0].post(&machine.ram, &[(area, 16, false), data, (area + 16, 1, true)]).unwrap();
        machine.settle();
        machine.drivers[0].take_used(&machine.ram).unwrap();
        assert_eq!(machine.ram.get(area + 16, 1)[0], IO_ERROR);
    }
    assert_eq!(machine.read(0, 0), (OK, filled(5)));
}

#[test]
fn quiescing_answers_what_was_taken_and_takes_nothing_more() {
    for reset in [false, true] {
        let mut machine = Machine::new();
        machine.post(1, TYPE_OUT, 3, &filled(33), 4096);
        machine.server.pool_mut().member_mut(0).credit = 0;
        let outcome = machine.server.resume(0, &machine.ram);
        machine.handle(outcome);
        let outcome = machine.server.quiesce(0, &machine.ram);
        machine.handle(outcome);
        machine.post(1, TYPE_OUT, 4, &filled(44), 4096);
        if reset {
            // The end of quiescing must not be lost with the requests of a driver.
            machine.server.reset(0);
        }
        machine.server.pool_mut().member_mut(0).credit = usize::MAX;
        machine.settle();
        assert_eq!(machine.quiesced, Some(true));
        assert!(machine.drivers[1].take_used(&machine.ram).is_some());
        assert!(machine.drivers[1].take_used(&machine.ram).is_none());
        let (mut world, recovery) = World::with(machine.server.into_pool()).restart();
        assert_eq!(recovery.records, 0);
        assert_eq!(world.read(2, 3, 1).1, filled(33));
        assert_eq!(world.read(2, 4, 1).1, filled(0));
    }
}

#[test]
fn a_machine_that_slept_is_served_again() {
    let mut machine = Machine::new();
    let outcome = machine.server.quiesce(0, &machine.ram);
    machine.handle(outcome);
    machine.settle();
    assert_eq!(machine.quiesced, Some(true));
    let area = machine.post(1, TYPE_OUT, 4, &filled(44), 4096);
    let outcome = machine.server.resume(0, &machine.ram);
    machine.handle(outcome);
    assert!(machine.drivers[1].take_used(&machine.ram).is_none(), "it sleeps");
    let outcome = machine.server.wake(0, &machine.ram);
    machine.handle(outcome);
    machine.settle();
    assert!(machine.drivers[1].take_used(&machine.ram).is_some() && area != 0);
    assert_eq!(machine.read(1, 4), (OK, filled(44)));
}

#[test]
fn beside_many_requests_others_wait_for_company_and_not_for_long() {
    let mut machine = Machine::new();
    // Something to read: zeros need no disk.
    assert_eq!(machine.write(0, 0, &filled(7).repeat(16)), OK);
    machine.server.pool_mut().member_mut(0).credit = 0;
    let mut kicks = [(); 14].map(|()| {
        machine.post(0, TYPE_IN, 0, &[], 4096);
        let kick = machine.drivers[0].kick(&machine.ram);
        if kick {
            let outcome = machine.server.resume(0, &machine.ram);
            machine.handle(outcome);
        }
        kick
    });
    assert!(kicks[..2] == [true; 2] && !kicks[2], "{kicks:?}");
    assert!(machine.server.puts_off() && kicks.iter().filter(|kick| **kick).count() < 8, "{kicks:?}");
    // In a hurry the ring is looked at, and the next request rings.
    machine.server.hurry();
    let outcome = machine.server.resume(0, &machine.ram);
    machine.handle(outcome);
    assert!(!machine.server.puts_off());
    machine.post(0, TYPE_IN, 0, &[], 4096);
    kicks[0] = machine.drivers[0].kick(&machine.ram);
    assert!(kicks[0]);
    machine.server.pool_mut().member_mut(0).credit = usize::MAX;
    machine.settle();
    assert_eq!((0..20).filter(|_| machine.drivers[0].take_used(&machine.ram).is_some()).count(), 15);
}

#[test]
fn a_driver_without_event_index_is_served_too() {
    let mut machine = Machine::new();
    machine.server.reset(0);
    machine.drivers[0] = Driver::new(Ram::BASE, 64, false);
    machine.ram.put(Ram::BASE, &vec![0; Driver::ring_bytes(64) as usize]);
    let setup = Setup { features: 0, generation: 1, ..machine.setup(0) };
    let outcome = machine.server.start(0, 0, &machine.ram, &setup);
    machine.handle(outcome);
    for block in 0..200 {
        assert_eq!(machine.write(0, block, &filled(block as u32)), OK);
        assert_eq!(machine.read(0, block), (OK, filled(block as u32)));
    }
}

#[test]
fn a_service_that_dies_with_requests_under_way_serves_them_in_its_next_life() {
    let mut machine = Machine::new();
    assert_eq!(machine.write(0, 9, &filled(9)), OK);
    machine.server.pool_mut().member_mut(0).credit = 0;
    let area = machine.post(0, TYPE_OUT, 3, &filled(3), 4096);
    let read = machine.post(0, TYPE_IN, 9, &[], 4096);
    let outcome = machine.server.resume(0, &machine.ram);
    machine.handle(outcome);
    assert!(machine.drivers[0].take_used(&machine.ram).is_none());
    let mut machine = machine.die();
    machine.settle();
    let served = [(); 2].map(|()| machine.drivers[0].take_used(&machine.ram).is_some());
    assert_eq!((served, machine.ram.get(area + 16, 1)[0]), ([true; 2], OK));
    assert_eq!(machine.ram.get(read + 4096, 4096), filled(9));
    assert_eq!(machine.read(0, 3), (OK, filled(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    #[test]
    fn no_driver_can_tell_that_its_service_died(
        lives in prop::collection::vec((0..6u32, 0..30usize), 1..12),
    ) {
        let mut machine = Machine::new();
        let (mut expected, mut next, mut waiting) = (BTreeMap::new(), 0, 0);
        for (posts, credit) in lives {
            machine.server.pool_mut().member_mut(0).credit = credit;
            for _ in 0..posts.min(6 - waiting) {
                // Each write is to a block of its own: those under way have no order.
                let block = next;
                next += 1;
                waiting += 1;
                machine.post(0, TYPE_OUT, block.into(), &filled(next), 4096);
                expected.insert(block, next);
            }
            let outcome = machine.server.on_disk_interrupt(0, 0, &machine.ram);
            machine.handle(outcome);
            while let Some((_, written)) = machine.drivers[0].take_used(&machine.ram) {
                prop_assert_eq!(written, 1);
                waiting -= 1;
            }
            machine = machine.die();
        }
        machine.server.pool_mut().member_mut(0).credit = usize::MAX;
        machine.settle();
        while machine.drivers[0].take_used(&machine.ram).is_some() {
            waiting -= 1;
        }
        prop_assert_eq!(waiting, 0);
        for (block, value) in expected {
            prop_assert_eq!(machine.read(0, block.into()), (OK, filled(value)));
        }
    }
}
