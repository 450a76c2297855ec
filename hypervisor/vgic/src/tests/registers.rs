//! What the registers tell.

use super::*;

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
