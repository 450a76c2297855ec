//! Interrupts by message.

use super::*;

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
