//! More than one vCPU: SGIs, one that is off, and what another core holds.

use super::*;

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
