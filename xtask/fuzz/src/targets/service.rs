//! Virtual disks against a driver whose memory is the input and keeps changing.

use anchor::ram::RamAnchor;
use block::ram::RamDisk;
use virtio::{Ledger, QueueConfig};
use volume::{Server, mount, service::Setup};

use super::{
    virtqueue::Shifting,
    volume_mount::{options, random, root, sealed},
};

static LEDGER: Ledger = Ledger::new();

/// A head of four bytes, a few steps, then the driver's memory.
pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<16>() else { return };
    let (image, snapshot) = sealed();
    let disk = RamDisk::new(image.clone(), 6 + usize::from(head[0] % 8), head[1].into());
    let anchor = RamAnchor::with(snapshot.clone());
    let Ok((pool, _)) = mount(vec![disk], anchor, &root(), random(), &options(), || true) else {
        panic!("a sound disk is mounted")
    };
    let mut server = Server::new(pool);
    assert_eq!(server.offer(1, &LEDGER), Some(0));
    let memory = Shifting::new(rest, 32 << 10);
    let size = 1 << (head[2] % 6);
    let queue = QueueConfig { size, descriptor_table: 0, available_ring: 1024, used_ring: 1536 };
    // A ledger that was begun for 0 has been left by the input before: as good as any that a crash leaves.
    let mut setup = Setup { queue, features: u64::from(head[3]) << 28, generation: u32::from(head[3] >> 7) };
    let mut outcome = server.start(0, 0, &memory, &setup);
    for (now_ms, &step) in (0..).zip(&head[4..]) {
        server.pool_mut().member_mut(0).credit = usize::from(step >> 3);
        outcome = match step % 8 {
            0 => server.quiesce(now_ms, &memory),
            1 => {
                server.reset(0);
                setup.generation += 1;
                server.start(0, now_ms, &memory, &setup)
            }
            2..5 => server.resume(now_ms, &memory),
            _ if outcome.again => server.resume(now_ms, &memory),
            _ => server.on_disk_interrupt(0, now_ms, &memory),
        };
        while server.next_event().is_some() {}
    }
    // Whatever the driver did, what was taken comes to an end, and a new driver is served.
    server.reset(0);
    server.pool_mut().member_mut(0).credit = usize::MAX;
    for _ in 0..100 {
        if server.pool().is_idle() {
            break;
        }
        let _ = server.on_disk_interrupt(0, 100, &memory);
    }
    assert!(server.pool().is_idle(), "requests hang");
}
