//! A reset leaves nothing behind.

use super::*;

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
