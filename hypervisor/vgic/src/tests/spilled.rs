//! More interrupts than list registers.

use super::*;

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
