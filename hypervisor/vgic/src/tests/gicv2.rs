//! What only GICv2 has.

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
