//! Physical interrupts: levels, edges, and where they are routed.

use super::*;

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
