//! What the virtual GIC promises, case by case.

extern crate std;
use crate::machine::World;
use crate::*;

const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IROUTER: u64 = 0x6000;

const TIMER: u32 = 27;
const UART: u32 = 40;
const DISK: u32 = 41;
const VIRTIO: u32 = 48;
const CONSOLE: u32 = 49;

/// Group 1 on, everything of the guest enabled and routed to vCPU 0.
fn world(cores: usize, count: usize) -> World {
    let mut world = World::new(Version::V3, cores, count, &[TIMER, UART], &[VIRTIO, CONSOLE]);
    world.write(0, Frame::Distributor, 0, 0b10);
    for cpu in 0..cores {
        world.write(cpu, Frame::Redistributor(cpu), 0x1_0000 + ISENABLER, 0xFFFF_FFFF);
    }
    world.write(0, Frame::Distributor, ISENABLER + 4, 0xFFFF_FFFF);
    world.settle();
    world
}

fn edge(world: &mut World, intid: u32) {
    let offset = 0xC00 + u64::from(intid / 16 * 4);
    let value = world.read(0, Frame::Distributor, offset) | 2 << (intid % 16 * 2);
    world.write(0, Frame::Distributor, offset, value);
}

fn signal(world: &mut World, cpu: usize, intid: u32, level: bool) {
    let kicks = world.vgic.set_level(cpu, intid, level, world.machine.on(cpu));
    world.note(kicks);
}

#[test]
fn an_interrupt_of_nobody_is_raz_wi() {
    let mut world = world(1, 4);
    let writes = world.machine.writes;
    for array in [ISENABLER, ISPENDR, ISACTIVER, ICPENDR, ICACTIVER, ICENABLER] {
        world.write_bit(0, 0, array, DISK);
        world.write_bit(0, 0, array, 26);
        assert!(!world.bit(0, 0, array, DISK));
        assert!(!world.bit(0, 0, array, 26));
    }
    world.write(0, Frame::Distributor, IROUTER + 8 * u64::from(DISK), 1);
    assert_eq!(world.machine.writes, writes);
    assert_eq!(world.vgic.physical_interrupt(0, DISK, &mut world.machine), None);
    assert_eq!(world.vgic.physical_interrupt(0, 26, &mut world.machine), None);
    assert_eq!(world.vgic.physical_interrupt(0, 1021, &mut world.machine), None);
}

#[test]
fn a_core_that_has_no_vcpu_can_signal_and_needs_no_list_registers() {
    let mut world = world(2, 4);
    // Behind the last vCPU: the machine of the tests has no such core, whose list registers could be touched.
    signal(&mut world, 2, VIRTIO, true);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    signal(&mut world, 2, VIRTIO, false);
    world.settle();
    assert_eq!(world.machine.end(0), Some(VIRTIO));
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn only_ppis_and_spis_that_exist_are_assigned() {
    let world = World::new(Version::V3, 1, 4, &[], &[]);
    assert!(!world.vgic.assign(3, Source::Hardware));
    assert!(!world.vgic.assign(96, Source::Hardware));
    assert!(!world.vgic.assign(1020, Source::Virtual));
    assert!(world.vgic.assign(95, Source::Virtual));
}

#[test]
fn a_timer_goes_straight_into_a_list_register_and_is_ended_by_the_guest() {
    let mut world = world(1, 4);
    world.machine.line(0, TIMER).high = true;
    world.settle();
    assert_eq!(world.machine.cores[0].lrs[0].0 & 0xFFFF_FFFF, u64::from(TIMER));
    assert!(world.machine.cores[0].lrs[0].is_hardware());
    assert_eq!(world.machine.acknowledge(0), Some(TIMER));
    assert!(world.bit(0, 0, ISACTIVER, TIMER));
    world.machine.line(0, TIMER).high = false;
    assert_eq!(world.machine.end(0), Some(TIMER));
    assert!(!world.machine.line(0, TIMER).active);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn a_hardware_level_that_stays_high_comes_again() {
    let mut world = world(1, 4);
    world.machine.line(0, UART).high = true;
    world.settle();
    for _ in 0..3 {
        assert_eq!(world.machine.acknowledge(0), Some(UART));
        assert_eq!(world.machine.end(0), Some(UART));
        world.settle();
    }
}

#[test]
fn a_hardware_level_that_falls_unseen_is_taken_back_when_it_is_looked_at() {
    for (intid, owner) in [(TIMER, 0), (UART, 0)] {
        let mut world = world(1, 4);
        world.machine.line(owner, intid).high = true;
        world.settle();
        assert!(world.bit(0, owner, ISPENDR, intid));
        world.machine.line(owner, intid).high = false;
        assert!(!world.bit(0, owner, ISPENDR, intid));
        assert_eq!(world.machine.acknowledge(0), None);
        world.machine.line(owner, intid).high = true;
        world.settle();
        assert_eq!(world.machine.acknowledge(0), Some(intid), "it can fire again");
    }
}

/// A handler that ends its interrupt, then quiets its device, and then looks.
#[test]
fn a_level_that_falls_before_a_watched_guest_looks_is_not_delivered() {
    for (falls, next) in [(true, None), (false, Some(TIMER))] {
        let mut world = world(1, 4);
        world.machine.line(0, TIMER).high = true;
        world.settle();
        world.machine.acknowledge(0).unwrap();
        world.machine.end(0);
        world.settle();
        world.vgic.watch(0, &mut world.machine);
        assert_ne!(world.machine.hcr() & HCR_TALL1, 0);
        world.write(0, Frame::Distributor, 0x420, 0x80);
        assert_ne!(world.machine.hcr() & HCR_TALL1, 0, "whatever else happens");
        world.machine.line(0, TIMER).high = !falls;
        let kicks = world.vgic.look(0, &mut world.machine);
        assert!(kicks.is_empty());
        assert_eq!(world.machine.hcr() & HCR_TALL1, 0);
        assert_eq!(world.machine.acknowledge(0), next);
    }
}

#[test]
fn only_a_gicv3_that_is_on_is_watched() {
    let mut world = world(1, 4);
    world.vgic.watch(0, &mut world.machine);
    let kicks = world.vgic.cpu_off(0, &mut world.machine);
    assert!(kicks.is_empty());
    world.vgic.watch(0, &mut world.machine);
    assert_eq!(world.machine.hcr(), 0);
    let kicks = world.vgic.cpu_on(0, &mut world.machine);
    assert!(kicks.is_empty());
    assert_eq!(world.machine.hcr() & HCR_TALL1, 0, "a vCPU that starts is not watched any more");
    let mut world = World::new(Version::V2, 1, 4, &[TIMER], &[]);
    world.vgic.watch(0, &mut world.machine);
    assert_eq!(world.machine.hcr() & HCR_TALL1, 0);
}

#[test]
fn another_core_sees_a_hardware_level_fall() {
    let mut world = world(2, 4);
    world.machine.line(1, TIMER).high = true;
    world.settle();
    assert!(world.bit(0, 1, ISPENDR, TIMER));
    world.machine.line(1, TIMER).high = false;
    assert!(!world.bit(0, 1, ISPENDR, TIMER));
    assert_eq!(world.machine.acknowledge(1), None);
}

#[test]
fn a_hardware_level_that_was_made_pending_by_hand_stays_so() {
    let mut world = world(1, 4);
    world.write_bit(0, 0, ISPENDR, UART);
    world.settle();
    assert!(world.bit(0, 0, ISPENDR, UART));
    assert_eq!(world.machine.acknowledge(0), Some(UART));
    assert!(!world.bit(0, 0, ISPENDR, UART));
    world.machine.end(0);
    assert!(!world.bit(0, 0, ISPENDR, UART));
}

#[test]
fn a_masked_hardware_interrupt_goes_back_to_the_physical_gic() {
    for is_edge in [false, true] {
        let mut world = world(1, 4);
        if is_edge {
            edge(&mut world, UART);
            world.machine.line(0, UART).pending = true;
        } else {
            world.machine.line(0, UART).high = true;
        }
        world.settle();
        world.write_bit(0, 0, ICENABLER, UART);
        assert_eq!(world.machine.acknowledge(0), None);
        assert!(world.bit(0, 0, ISPENDR, UART));
        assert!(!world.bit(0, 0, ISACTIVER, UART));
        world.write_bit(0, 0, ISENABLER, UART);
        world.settle();
        assert_eq!(world.machine.acknowledge(0), Some(UART));
    }
}

#[test]
fn two_hardware_edges_before_the_guest_takes_the_first_are_one() {
    for count in [1, 4] {
        let mut world = world(1, count);
        edge(&mut world, UART);
        for _ in 0..2 {
            world.machine.line(0, UART).pending = true;
            world.settle();
        }
        assert_eq!(world.machine.acknowledge(0), Some(UART));
        world.machine.end(0);
        world.settle();
        assert_eq!(world.machine.acknowledge(0), None);
    }
}

#[test]
fn a_hardware_edge_while_the_guest_serves_the_first_comes_after_it() {
    let mut world = world(2, 4);
    edge(&mut world, UART);
    world.machine.line(0, UART).pending = true;
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(UART));
    world.machine.line(0, UART).pending = true;
    world.settle();
    assert!(world.bit(0, 0, ISPENDR, UART) && world.bit(0, 0, ISACTIVER, UART));
    assert_eq!(world.machine.acknowledge(0), None);
    world.machine.end(0);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(UART));
    assert_eq!(world.machine.end(0), Some(UART));
}

#[test]
fn clearing_a_pending_hardware_edge_leaves_nothing() {
    let mut world = world(1, 4);
    edge(&mut world, UART);
    world.machine.line(0, UART).pending = true;
    world.settle();
    world.write_bit(0, 0, ICPENDR, UART);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
    assert!(!world.machine.line(0, UART).active);
    assert!(!world.bit(0, 0, ISPENDR, UART));
}

#[test]
fn deactivating_an_active_hardware_interrupt_lets_it_fire_again() {
    let mut world = world(1, 4);
    world.machine.line(0, UART).high = true;
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(UART));
    world.machine.cores[0].running.clear();
    world.write_bit(0, 0, ICACTIVER, UART);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(UART));
}

#[test]
fn an_active_interrupt_that_is_routed_away_ends_where_it_is_and_comes_there_next() {
    let mut world = world(2, 4);
    world.machine.line(0, UART).high = true;
    signal(&mut world, 0, VIRTIO, true);
    world.settle();
    assert!(world.machine.acknowledge(0).is_some());
    world.machine.cores[0].running.clear();
    assert!(world.machine.acknowledge(0).is_some());
    for intid in [UART, VIRTIO] {
        world.write(1, Frame::Distributor, IROUTER + 8 * u64::from(intid), 1);
    }
    world.settle();
    assert_eq!(world.machine.acknowledge(1), None);
    for intid in [UART, VIRTIO] {
        world.machine.deactivate(0, intid);
    }
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
    world.machine.acknowledge(1).unwrap();
    world.machine.cores[1].running.clear();
    world.machine.acknowledge(1).unwrap();
}

#[test]
fn a_pending_interrupt_follows_its_route_at_once() {
    let mut world = world(2, 4);
    world.machine.line(0, UART).high = true;
    signal(&mut world, 0, VIRTIO, true);
    world.settle();
    for intid in [UART, VIRTIO] {
        world.write(1, Frame::Distributor, IROUTER + 8 * u64::from(intid), 1);
    }
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
    assert_eq!(world.machine.acknowledge(1), Some(UART));
}

/// The vCPU that it was routed away from still has it among those that wait, and looks again before the other one's core has dropped it.
#[test]
fn what_is_cleared_after_it_was_routed_away_is_not_pending_any_more() {
    let mut world = world(2, 1);
    edge(&mut world, VIRTIO);
    edge(&mut world, CONSOLE);
    signal(&mut world, 0, CONSOLE, true);
    world.settle_core(0);
    signal(&mut world, 0, VIRTIO, true);
    world.write(0, Frame::Distributor, IROUTER + 8 * u64::from(VIRTIO), 1);
    assert_eq!(world.machine.acknowledge(0), Some(CONSOLE));
    world.settle_core(1);
    world.write_bit(0, 0, ICPENDR, VIRTIO);
    world.settle_core(0);
    world.settle();
    assert_eq!(world.machine.acknowledge(1), None);
}

#[test]
fn a_virtual_level_comes_again_while_high_and_not_when_served() {
    let mut world = world(1, 4);
    signal(&mut world, 0, VIRTIO, true);
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    world.machine.end(0);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    signal(&mut world, 0, VIRTIO, false);
    world.machine.end(0);
    assert!(!world.machine.maintenance(0), "a line that fell before the EOI costs no maintenance interrupt");
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn a_virtual_level_that_rises_again_while_active_is_not_lost() {
    let mut world = world(2, 4);
    signal(&mut world, 0, VIRTIO, true);
    world.machine.acknowledge(0).unwrap();
    signal(&mut world, 0, VIRTIO, false);
    signal(&mut world, 1, VIRTIO, true);
    world.settle();
    world.machine.end(0);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
}

#[test]
fn a_virtual_level_that_falls_unseen_is_withdrawn() {
    let mut world = world(2, 4);
    signal(&mut world, 0, VIRTIO, true);
    signal(&mut world, 1, VIRTIO, false);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn edges_while_active_count_once() {
    let mut world = world(1, 4);
    edge(&mut world, VIRTIO);
    for _ in 0..3 {
        signal(&mut world, 0, VIRTIO, true);
    }
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    for _ in 0..3 {
        signal(&mut world, 0, VIRTIO, true);
    }
    assert!(world.bit(0, 0, ISPENDR, VIRTIO) && world.bit(0, 0, ISACTIVER, VIRTIO));
    world.machine.end(0);
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    world.machine.end(0);
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn sgis_reach_those_that_the_register_names() {
    let mut world = world(4, 4);
    let sgi = |world: &mut World, cpu: usize, value: u64| {
        let kicks = world.vgic.sgi1r(cpu, value, world.machine.on(cpu));
        world.note(kicks);
        kicks.0
    };
    assert_eq!(sgi(&mut world, 0, 5 << 24 | 0b01), 0);
    assert_eq!(world.machine.acknowledge(0), Some(5));
    world.machine.end(0);
    assert_eq!(sgi(&mut world, 0, 6 << 24 | 0b10), 0b0010);
    assert_eq!(sgi(&mut world, 0, 7 << 24 | 1 << 16 | 0b11), 0b1100);
    assert_eq!(sgi(&mut world, 0, 7 << 24 | 1 << 32 | 0b11), 0);
    assert_eq!(sgi(&mut world, 0, 7 << 24 | 1 << 44 | 0b11), 0);
    assert_eq!(sgi(&mut world, 1, 8 << 24 | 1 << 40), 0b1101);
    world.settle();
    assert_eq!(world.machine.acknowledge(1), Some(6));
    for core in [2, 3] {
        let got = world.machine.acknowledge(core).unwrap();
        world.machine.end(core);
        assert_eq!(got + world.machine.acknowledge(core).unwrap(), 7 + 8);
    }
    let kicks = world.vgic.sgi0r(0, 9 << 24 | 1, world.machine.on(0));
    assert!(kicks.is_empty());
    assert!(!world.bit(0, 0, ISPENDR, 9), "a Group 0 request does not reach Group 1");
}

#[test]
fn an_sgi_to_a_vcpu_that_is_off_waits_for_it() {
    let mut world = world(2, 4);
    let _ = world.vgic.cpu_off(1, world.machine.on(1));
    assert!(world.vgic.sgi1r(0, 3 << 24 | 0b10, world.machine.on(0)).is_empty());
    assert!(world.bit(0, 1, ISPENDR, 3));
    let _ = world.vgic.cpu_on(1, world.machine.on(1));
    assert_eq!(world.machine.acknowledge(1), Some(3));
}

#[test]
fn a_vcpu_that_goes_off_takes_nothing_with_it() {
    let mut world = world(2, 4);
    for intid in [UART, VIRTIO, CONSOLE] {
        world.write(0, Frame::Distributor, IROUTER + 8 * u64::from(intid), 1);
    }
    world.machine.line(1, TIMER).high = true;
    world.machine.line(0, UART).high = true;
    signal(&mut world, 0, VIRTIO, true);
    world.settle();
    assert_eq!(world.machine.acknowledge(1), Some(TIMER));
    let _ = world.vgic.cpu_off(1, world.machine.on(1));
    assert!(world.bit(0, 1, ISACTIVER, TIMER));
    assert!(world.bit(0, 0, ISPENDR, UART) && world.bit(0, 0, ISPENDR, VIRTIO));
    for intid in [UART, VIRTIO] {
        world.write(0, Frame::Distributor, IROUTER + 8 * u64::from(intid), 0);
    }
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(UART));
    world.machine.end(0);
    assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
    world.machine.cores[1].running.clear();
    let _ = world.vgic.cpu_on(1, world.machine.on(1));
    world.write(1, Frame::Redistributor(1), 0x1_0000 + ICACTIVER, 0xFFFF_FFFF);
    world.settle();
    assert_eq!(world.machine.acknowledge(1), Some(TIMER));
}

#[test]
fn what_another_core_holds_is_read_exactly() {
    let mut world = world(2, 4);
    edge(&mut world, VIRTIO);
    signal(&mut world, 0, VIRTIO, true);
    let state = |world: &mut World| [ISPENDR, ISACTIVER].map(|array| world.bit(1, 0, array, VIRTIO));
    assert_eq!(state(&mut world), [true, false], "pending on a core that has masked it");
    world.machine.acknowledge(0).unwrap();
    assert_eq!(state(&mut world), [false, true]);
    world.machine.end(0);
    assert_eq!(state(&mut world), [false, false]);
}

#[test]
fn a_read_of_what_another_core_holds_waits_for_its_answer_and_takes_no_older_one() {
    let mut world = world(3, 4);
    edge(&mut world, VIRTIO);
    signal(&mut world, 0, VIRTIO, true);
    let ask = |world: &mut World, cpu, word: u64| {
        world.vgic.mmio_read(cpu, Frame::Distributor, ISACTIVER + 4 * word, 4, world.machine.on(cpu))
    };
    assert_eq!(ask(&mut world, 1, 1), Read::Again(Kicks(1)));
    assert_eq!(ask(&mut world, 1, 1), Read::Again(Kicks(1)), "nobody has answered");
    assert_eq!(ask(&mut world, 2, 1), Read::Again(Kicks(1)));
    let _ = world.vgic.sync(0, world.machine.on(0));
    assert_eq!(ask(&mut world, 1, 1), Read::Value(0));
    world.machine.acknowledge(0).unwrap();
    // vCPU 2 was interrupted before it came back to its load, and read something else meanwhile.
    assert_eq!(ask(&mut world, 2, 2), Read::Value(0));
    assert_eq!(ask(&mut world, 2, 1), Read::Again(Kicks(1)), "the answer is from before the acknowledgement");
    let _ = world.vgic.sync(0, world.machine.on(0));
    assert_eq!(ask(&mut world, 2, 1), Read::Value(1 << (VIRTIO % 32)));
}

#[test]
fn rwp_is_set_until_the_other_core_has_masked() {
    let mut world = world(2, 4);
    signal(&mut world, 0, VIRTIO, true);
    world.write_bit(1, 0, ICENABLER, VIRTIO);
    assert_eq!(world.read(1, Frame::Distributor, 0) >> 31, 1);
    world.settle();
    assert_eq!(world.read(1, Frame::Distributor, 0), 0b0101_0010);
    assert_eq!(world.machine.acknowledge(0), None);
}

#[test]
fn more_active_interrupts_than_list_registers_end_in_order() {
    let mut world = world(1, 1);
    for (n, intid) in [CONSOLE, VIRTIO, UART].into_iter().enumerate() {
        let offset = 0x400 + u64::from(intid);
        let priority = 0x80 - 0x10 * n as u64;
        let kicks = world.vgic.mmio_write(0, Frame::Distributor, offset, 1, priority, &mut world.machine);
        world.note(kicks);
        if intid == UART {
            world.machine.line(0, UART).high = true;
        } else {
            signal(&mut world, 0, intid, true);
        }
        world.settle();
        assert_eq!(world.machine.acknowledge(0), Some(intid));
        world.settle();
    }
    for intid in [UART, VIRTIO, CONSOLE] {
        assert!(world.bit(0, 0, ISACTIVER, intid));
        world.machine.line(0, UART).high = false;
        if intid != UART {
            signal(&mut world, 0, intid, false);
        }
        assert_eq!(world.machine.end(0), Some(intid));
        world.settle();
        assert!(!world.bit(0, 0, ISACTIVER, intid));
    }
    assert!(!world.machine.line(0, UART).active);
}

#[test]
fn a_trapped_deactivation_names_the_spilled_interrupt() {
    let mut world = world(1, 1);
    signal(&mut world, 0, VIRTIO, true);
    world.machine.acknowledge(0).unwrap();
    world.machine.cores[0].running.clear(); // EOImode 1: the EOI drops the priority only
    signal(&mut world, 0, CONSOLE, true);
    world.settle();
    assert_eq!(world.machine.acknowledge(0), Some(CONSOLE));
    assert_ne!(world.machine.cores[0].hcr & HCR_TDIR, 0);
    signal(&mut world, 0, VIRTIO, false);
    let kicks = world.vgic.dir(0, u64::from(VIRTIO), &mut world.machine);
    world.note(kicks);
    assert!(!world.bit(0, 0, ISACTIVER, VIRTIO));
    assert!(world.bit(0, 0, ISACTIVER, CONSOLE));
    assert_eq!(world.machine.cores[0].hcr & HCR_TDIR, 0);
}

#[test]
fn a_vcpu_with_something_pending_is_not_idle() {
    let mut world = world(2, 4);
    assert!(!world.vgic.has_pending(0, world.machine.on(0)));
    signal(&mut world, 1, VIRTIO, true);
    assert!(world.vgic.has_pending(0, world.machine.on(0)));
    world.settle();
    assert!(world.vgic.has_pending(0, world.machine.on(0)));
    world.machine.acknowledge(0).unwrap();
    assert!(!world.vgic.has_pending(0, world.machine.on(0)));
}

/// A message as a device sends it: whether it was taken.
fn message(world: &mut World, frame: Frame, offset: u64, data: u32) -> bool {
    let kicks = world.vgic.message(0, frame, offset, data, world.machine.on(0));
    world.note(kicks.unwrap_or_default());
    kicks.is_some()
}

#[test]
fn a_message_reaches_one_register_and_the_interrupts_that_take_messages() {
    for (version, frame, other) in
        [(Version::V3, Frame::Distributor, Frame::Messages), (Version::V2, Frame::Messages, Frame::Distributor)]
    {
        let mut world = World::new(version, 1, 4, &[UART], &[VIRTIO, CONSOLE]);
        assert!(!message(&mut world, frame, 0x40, VIRTIO), "nothing takes messages");
        world.give_messages(VIRTIO, 1);
        world.write(0, Frame::Distributor, 0, 0b11);
        world.write(0, Frame::Distributor, ISENABLER + 4, 0xFFFF_FFFF);
        for (frame, offset, data) in [
            (other, 0x40, VIRTIO),
            (Frame::Redistributor(0), 0x40, VIRTIO),
            (frame, 0x44, VIRTIO),
            (frame, 0x50, VIRTIO),
            (frame, 0x104, VIRTIO),
            (frame, 0x40, CONSOLE),
            (frame, 0x40, UART),
            (frame, 0x40, VIRTIO | 1 << 16),
            (frame, 0x40, u32::MAX),
        ] {
            assert!(!message(&mut world, frame, offset, data), "{frame:?} {offset:#x} {data}");
        }
        assert!(message(&mut world, frame, 0x40, VIRTIO));
        assert!(world.bit(0, 0, ISPENDR, VIRTIO));
        assert!(!world.bit(0, 0, ISPENDR, CONSOLE) && !world.bit(0, 0, ISPENDR, UART));
    }
}

#[test]
fn what_a_message_has_raised_another_takes_back() {
    for is_edge in [false, true] {
        let mut world = world(2, 4);
        world.give_messages(VIRTIO, 1);
        if is_edge {
            edge(&mut world, VIRTIO);
        }
        world.write(1, Frame::Distributor, 0x40, VIRTIO.into());
        world.settle();
        assert!(world.bit(0, 0, ISPENDR, VIRTIO));
        for wrong in [0x50, 0x58] {
            world.write(1, Frame::Distributor, wrong, VIRTIO.into());
        }
        assert!(world.bit(0, 0, ISPENDR, VIRTIO), "the Secure aliases are write-ignored");
        world.write(1, Frame::Distributor, 0x48, VIRTIO.into());
        world.settle();
        assert!(!world.bit(0, 0, ISPENDR, VIRTIO));
        assert_eq!(world.machine.acknowledge(0), None);
    }
}

#[test]
fn a_level_that_came_by_message_stays_and_an_edge_does_not() {
    for (is_edge, again) in [(false, Some(VIRTIO)), (true, None)] {
        let mut world = world(1, 4);
        world.give_messages(VIRTIO, 1);
        if is_edge {
            edge(&mut world, VIRTIO);
        }
        let kicks = world.vgic.mmio_write(0, Frame::Distributor, 0x40, 2, VIRTIO.into(), &mut world.machine);
        assert!(kicks.is_empty());
        assert_eq!(world.machine.acknowledge(0), Some(VIRTIO));
        world.machine.end(0);
        world.settle();
        assert_eq!(world.machine.acknowledge(0), again);
    }
}

#[test]
fn both_versions_tell_of_their_messages() {
    let mut world = World::new(Version::V3, 1, 4, &[], &[VIRTIO]);
    world.give_messages(48, 8);
    assert_eq!(world.read(0, Frame::Distributor, 4) >> 16 & 1, 1, "GICD_TYPER.MBIS");
    assert_eq!(world.read(0, Frame::Messages, 8), 0, "a GICv3 has no such frame");
    let mut world = World::new(Version::V2, 1, 4, &[], &[VIRTIO]);
    assert_eq!(world.read(0, Frame::Messages, 8), 0);
    world.give_messages(48, 8);
    assert_eq!(world.read(0, Frame::Messages, 8), 48 << 16 | 8);
    assert_eq!(world.read(0, Frame::Distributor, 4) >> 16, 0);
    world.write(0, Frame::Messages, 8, 0);
    assert_eq!(world.read(0, Frame::Messages, 8), 48 << 16 | 8);
}

#[test]
fn identification_registers_say_what_there_is() {
    let mut world = world(2, 4);
    assert_eq!(world.read(0, Frame::Distributor, 4), 2 | 9 << 19 | 1 << 25);
    assert_eq!(world.read(0, Frame::Distributor, 0xFFE8) >> 4 & 0xF, 3);
    assert_eq!(world.read(0, Frame::Redistributor(1), 0xFFE8) >> 4 & 0xF, 3);
    let Read::Value(typer) = world.vgic.mmio_read(0, Frame::Redistributor(1), 8, 8, &mut world.machine) else {
        panic!("it is known to every core")
    };
    assert_eq!(typer, 1 << 32 | 1 << 8 | 1 << 4);
    assert_eq!(world.read(0, Frame::Redistributor(0), 8) & 1 << 4, 0);
    world.write(0, Frame::Redistributor(0), 0x14, 0b010);
    assert_eq!(world.read(0, Frame::Redistributor(0), 0x14), 0b110);
    world.write(0, Frame::Redistributor(0), 0x14, 0);
    assert_eq!(world.read(0, Frame::Redistributor(0), 0x14), 0);
    assert_eq!(world.read(0, Frame::Redistributor(2), 0xFFE8), 0);
    assert_eq!(world.read(0, Frame::Distributor, ISENABLER), 0, "with ARE, word 0 is in the redistributors");
}

#[test]
fn routers_take_64_and_32_bits() {
    let mut world = world(2, 4);
    let offset = IROUTER + 8 * u64::from(UART);
    world.write(0, Frame::Distributor, offset, 1 << 31 | 0x12_0000_0001);
    let read = world.vgic.mmio_read(0, Frame::Distributor, offset, 8, &mut world.machine);
    assert_eq!(read, Read::Value(0x12_0000_0001), "no 1-of-N");
    assert!(!world.machine.shared[UART as usize].enabled, "routed to nobody");
    let kicks = world.vgic.mmio_write(0, Frame::Distributor, offset + 4, 4, 0, &mut world.machine);
    world.note(kicks);
    assert_eq!(world.machine.shared[UART as usize].route, 1);
    assert!(world.machine.shared[UART as usize].enabled);
}

mod gicv2 {
    use super::*;

    fn world(cores: usize) -> World {
        let mut world = World::new(Version::V2, cores, 4, &[TIMER, UART], &[VIRTIO]);
        world.write(0, Frame::Distributor, 0, 1);
        for cpu in 0..cores {
            world.write(cpu, Frame::Distributor, ISENABLER, 0xFFFF_FFFF);
        }
        world.write(0, Frame::Distributor, ISENABLER + 4, 0xFFFF_FFFF);
        world.settle();
        world
    }

    #[test]
    fn sgis_keep_their_requesters_apart() {
        let mut world = world(3);
        for requester in [0, 2] {
            world.write(requester, Frame::Distributor, 0xF00, 1 << 17 | 4);
        }
        assert_eq!(world.read(1, Frame::Distributor, 0xF24), 0b101);
        world.settle();
        assert_eq!(world.read(1, Frame::Distributor, 0xF14), 0b101);
        let mut requesters = std::vec::Vec::new();
        for _ in 0..2 {
            assert_eq!(world.machine.acknowledge(1), Some(4));
            let lrs = &world.machine.cores[1].lrs;
            requesters.push(lrs.iter().find(|it| it.is_active()).unwrap().source());
            world.machine.end(1);
            world.settle();
        }
        assert_eq!(requesters, [0, 2]);
        assert_eq!(world.machine.acknowledge(1), None);
    }

    #[test]
    fn sgi_pending_registers_set_and_clear_one_requester() {
        let mut world = world(3);
        world.write(0, Frame::Distributor, 0xF24, 0b110);
        assert_eq!(world.read(0, Frame::Distributor, 0xF24), 0b110);
        world.write(0, Frame::Distributor, 0xF14, 0b010);
        assert_eq!(world.read(0, Frame::Distributor, 0xF24), 0b100);
        world.write(0, Frame::Distributor, ICPENDR, 0xFFFF);
        assert_eq!(world.machine.acknowledge(0), Some(4), "ICPENDR does not clear SGIs");
    }

    #[test]
    fn targets_route_spis_and_name_the_reader_of_private_ones() {
        let mut world = world(2);
        assert_eq!(world.read(1, Frame::Distributor, 0x800), 0x0202_0202);
        let kicks = world.vgic.set_level(0, VIRTIO, true, world.machine.on(0));
        world.note(kicks);
        world.settle();
        assert_eq!(world.machine.acknowledge(0), None, "no target at reset");
        let offset = 0x800 + u64::from(VIRTIO);
        let kicks = world.vgic.mmio_write(0, Frame::Distributor, offset, 1, 0xFE, world.machine.on(0));
        world.note(kicks);
        world.settle();
        assert_eq!(world.read(0, Frame::Distributor, offset), 0b10);
        assert_eq!(world.machine.acknowledge(1), Some(VIRTIO));
    }

    #[test]
    fn the_control_filter_of_sgir_is_kept() {
        let mut world = world(3);
        world.write(1, Frame::Distributor, 0xF00, 0b01 << 24 | 3);
        world.write(1, Frame::Distributor, 0xF00, 0b10 << 24 | 5);
        world.settle();
        assert_eq!(world.machine.acknowledge(0), Some(3));
        assert_eq!(world.machine.acknowledge(1), Some(5));
        assert_eq!(world.machine.acknowledge(2), Some(3));
    }
}

/// Every core runs on a thread of its own, sends SGIs to the next and waits for each to be taken, while the distributor is changed.
#[test]
fn no_sgi_is_lost_and_nobody_hangs_when_all_cores_run_at_once() {
    use crate::machine::Machine;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

    const CORES: usize = 3;
    const ROUNDS: u32 = 3000;
    let vgic = Vgic::new(Config {
        version: Version::V3,
        cpus: CORES,
        affinities: [0, 1, 2, 3, 4, 5, 6, 7],
        spis: 32,
        messages: None,
    });
    vgic.assign(VIRTIO, Source::Virtual);
    let kicked = [const { AtomicBool::new(false) }; CORES];
    let taken = [const { AtomicU32::new(0) }; CORES];
    let done = AtomicU32::new(0);
    let post = |kicks: Kicks| kicks.iter().for_each(|cpu| kicked[cpu].store(true, SeqCst));
    let run = |cpu: usize| {
        let mut machine = Machine::new(1, 2, &[]);
        let hw = &mut machine;
        post(vgic.cpu_on(cpu, hw));
        post(vgic.mmio_write(cpu, Frame::Distributor, 0, 4, 0b11, hw));
        post(vgic.mmio_write(cpu, Frame::Redistributor(cpu), 0x1_0000 + ISENABLER, 4, 0xFFFF, hw));
        let next = (cpu + 1) % CORES;
        let (mut round, mut before) = (0, taken[next].load(SeqCst));
        let mut waits = false;
        while done.load(SeqCst) < CORES as u32 {
            if kicked[cpu].swap(false, SeqCst) {
                post(vgic.sync(cpu, hw));
            }
            while hw.maintenance(0) {
                post(vgic.maintenance(cpu, hw));
            }
            while let Some(intid) = hw.acknowledge(0) {
                if intid < 16 {
                    taken[cpu].fetch_add(1, SeqCst);
                } else {
                    post(vgic.set_level(cpu, intid, false, hw));
                }
                hw.end(0);
            }
            if waits && taken[next].load(SeqCst) == before {
                std::thread::yield_now();
                continue;
            }
            if round == ROUNDS {
                done.fetch_add(u32::from(waits), SeqCst);
                waits = false;
                before = taken[next].load(SeqCst);
                std::thread::yield_now();
                continue;
            }
            before = taken[next].load(SeqCst);
            waits = true;
            round += 1;
            post(vgic.sgi1r(cpu, 3 << 24 | 1 << next, hw));
            match round % 8 {
                0 => post(vgic.mmio_write(cpu, Frame::Distributor, ISENABLER + 4, 4, 1 << (VIRTIO - 32), hw)),
                2 => {
                    let offset = IROUTER + 8 * u64::from(VIRTIO);
                    post(vgic.mmio_write(cpu, Frame::Distributor, offset, 8, next as u64, hw));
                }
                4 => post(vgic.set_level(cpu, VIRTIO, true, hw)),
                6 => match vgic.mmio_read(cpu, Frame::Distributor, ISACTIVER + 4, 4, hw) {
                    Read::Value(_) => {}
                    Read::Again(kicks) => post(kicks),
                },
                7 => post(vgic.mmio_write(cpu, Frame::Distributor, ICENABLER + 4, 4, 1 << (VIRTIO - 32), hw)),
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for cpu in 0..CORES {
            let run = &run;
            scope.spawn(move || run(cpu));
        }
    });
}

/// Everything that a guest reads of its GIC, from every vCPU.
fn registers(world: &mut World) -> std::vec::Vec<u64> {
    let cpus = world.machine.cores.len();
    let mut all = std::vec::Vec::new();
    for cpu in 0..cpus {
        for offset in (0..0x1000).step_by(4).chain((0x6100..0x6300).step_by(4)) {
            all.push(world.read(cpu, Frame::Distributor, offset));
        }
        if world.vgic.config.version == Version::V3 {
            for offset in (0..0x100).step_by(4).chain((0x1_0000..0x1_1000).step_by(4)) {
                all.push(world.read(cpu, Frame::Redistributor(cpu), offset));
            }
        }
    }
    all
}

/// A guest that has used all it has, one interrupt of each kind pending and one active, comes back after a reset to what it first found.
#[test]
fn a_reset_leaves_nothing_of_the_life_before() {
    for version in [Version::V3, Version::V2] {
        let fresh = || World::new(version, 2, 4, &[TIMER, UART, DISK], &[VIRTIO, CONSOLE]);
        let (mut used, mut new) = (fresh(), fresh());
        use_everything(&mut used);
        assert_ne!(registers(&mut used), registers(&mut new));
        for cpu in [1, 0] {
            let kicks = used.vgic.cpu_off(cpu, used.machine.on(cpu));
            used.note(kicks);
        }
        for intid in [VIRTIO, CONSOLE] {
            signal(&mut used, 0, intid, false);
        }
        [UART, TIMER].into_iter().for_each(|intid| used.machine.line(0, intid).high = false);
        used.vgic.reset(0, used.machine.on(0));
        for line in used.machine.shared.iter().chain(&used.machine.private[0]) {
            assert!(!line.enabled && !line.active && !line.edge && !line.is_pending() && line.route == 0);
        }
        // The other core's private interrupts: it was turned off.
        used.machine.private[1] = core::array::from_fn(|_| Default::default());
        used.kicked = 0;
        for cpu in 0..2 {
            used.machine.cores[cpu].running.clear();
            let kicks = used.vgic.cpu_on(cpu, used.machine.on(cpu));
            used.note(kicks);
        }
        assert_eq!(used.kicked, 0);
        assert_eq!(registers(&mut used), registers(&mut new));
        used.settle();
        assert!(used.machine.acknowledge(0).is_none() && used.machine.acknowledge(1).is_none());
    }
}

fn use_everything(world: &mut World) {
    world.write(0, Frame::Distributor, 0, 0b11);
    for intid in [TIMER, UART, DISK, VIRTIO, CONSOLE] {
        for owner in 0..2 {
            world.write_bit(owner, owner, ISENABLER, intid);
        }
        let (frame, offset) = match (world.vgic.config.version, intid < 32) {
            (Version::V3, true) => (Frame::Redistributor(0), 0x1_0400),
            _ => (Frame::Distributor, 0x400),
        };
        world.write_byte(0, frame, offset + u64::from(intid), 0x50);
    }
    for intid in [UART, DISK, VIRTIO, CONSOLE] {
        match world.vgic.config.version {
            Version::V3 => world.write(0, Frame::Distributor, IROUTER + 8 * u64::from(intid), u64::from(intid & 1)),
            Version::V2 => world.write_byte(0, Frame::Distributor, 0x800 + u64::from(intid), 1 << (intid & 1)),
        }
    }
    edge(world, DISK);
    world.machine.line(0, UART).high = true;
    world.machine.line(0, TIMER).high = true;
    signal(world, 0, VIRTIO, true);
    signal(world, 1, CONSOLE, true);
    world.settle();
    let _ = (world.machine.acknowledge(0), world.machine.acknowledge(1));
    world.write_bit(0, 0, ISPENDR, DISK);
    world.write_bit(0, 0, ISACTIVER, UART);
    world.write(0, Frame::Distributor, 0x80 + 4, 0x5555_5555);
    world.settle();
}
