//! Whose an interrupt is.

use super::*;

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
