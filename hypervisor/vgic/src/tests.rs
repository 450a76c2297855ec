//! What the virtual GIC promises, case by case.

extern crate std;

mod cores;
mod gicv2;
mod hardware;
mod messages;
mod ownership;
mod registers;
mod resets;
mod signals;
mod spilled;
mod threads;

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
