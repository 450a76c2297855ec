//! Virtual interrupts: levels and edges.

use super::*;

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
