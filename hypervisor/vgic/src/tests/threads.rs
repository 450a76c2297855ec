//! Cores that run at once.

use super::*;

/// Every core runs on a thread of its own, sends SGIs to the next and waits for each to be taken, while the distributor is changed.
#[test]
fn no_sgi_is_lost_and_nobody_hangs_when_all_cores_run_at_once() {
    use crate::machine::Machine;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

    const CORES: usize = 3;
    const ROUNDS: u32 = 3000;
    let vgic = Vgic::new(Config {
        version: Version::V3,
        cpus: CORES,
        affinities: [0, 1, 2, 3, 4, 5, 6, 7],
        spis: 32,
        messages: None,
    });
    vgic.assign(VIRTIO, Source::Virtual);
    let kicked = [const { AtomicBool::new(false) }; CORES];
    let taken = [const { AtomicU32::new(0) }; CORES];
    let done = AtomicU32::new(0);
    let post = |kicks: Kicks| kicks.iter().for_each(|cpu| kicked[cpu].store(true, SeqCst));
    let run = |cpu: usize| {
        let mut machine = Machine::new(1, 2, &[]);
        let hw = &mut machine;
        post(vgic.cpu_on(cpu, hw));
        post(vgic.mmio_write(cpu, Frame::Distributor, 0, 4, 0b11, hw));
        post(vgic.mmio_write(cpu, Frame::Redistributor(cpu), 0x1_0000 + ISENABLER, 4, 0xFFFF, hw));
        let next = (cpu + 1) % CORES;
        let (mut round, mut before) = (0, taken[next].load(SeqCst));
        let mut waits = false;
        while done.load(SeqCst) < CORES as u32 {
            if kicked[cpu].swap(false, SeqCst) {
                post(vgic.sync(cpu, hw));
            }
            while hw.maintenance(0) {
                post(vgic.maintenance(cpu, hw));
            }
            while let Some(intid) = hw.acknowledge(0) {
                if intid < 16 {
                    taken[cpu].fetch_add(1, SeqCst);
                } else {
                    post(vgic.set_level(cpu, intid, false, hw));
                }
                hw.end(0);
            }
            if waits && taken[next].load(SeqCst) == before {
                std::thread::yield_now();
                continue;
            }
            if round == ROUNDS {
                done.fetch_add(u32::from(waits), SeqCst);
                waits = false;
                before = taken[next].load(SeqCst);
                std::thread::yield_now();
                continue;
            }
            before = taken[next].load(SeqCst);
            waits = true;
            round += 1;
            post(vgic.sgi1r(cpu, 3 << 24 | 1 << next, hw));
            match round % 8 {
                0 => post(vgic.mmio_write(cpu, Frame::Distributor, ISENABLER + 4, 4, 1 << (VIRTIO - 32), hw)),
                2 => {
                    let offset = IROUTER + 8 * u64::from(VIRTIO);
                    post(vgic.mmio_write(cpu, Frame::Distributor, offset, 8, next as u64, hw));
                }
                4 => post(vgic.set_level(cpu, VIRTIO, true, hw)),
                6 => match vgic.mmio_read(cpu, Frame::Distributor, ISACTIVER + 4, 4, hw) {
                    Read::Value(_) => {}
                    Read::Again(kicks) => post(kicks),
                },
                7 => post(vgic.mmio_write(cpu, Frame::Distributor, ICENABLER + 4, 4, 1 << (VIRTIO - 32), hw)),
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for cpu in 0..CORES {
            let run = &run;
            scope.spawn(move || run(cpu));
        }
    });
}
