//! The whole service of a virtual disk against a driver whose memory is the input and keeps changing.

use std::sync::OnceLock;

use block::ram::RamDisk;
use crypto::Suite;
use keystore::RootKey;
use virtio::QueueConfig;
use volume::{
    Geometry, Service,
    mount::{Options, mount},
    provision::{self, Store, provision},
};

use super::virtqueue::Shifting;

const BLOCKS: u64 = 8;

struct Image(Vec<u8>);

impl Store for Image {
    type Error = ();

    fn blocks(&self) -> u64 {
        (self.0.len() / 4096) as u64
    }

    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), ()> {
        out.copy_from_slice(&self.0[block as usize * 4096..][..out.len()]);
        Ok(())
    }

    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), ()> {
        self.0[block as usize * 4096..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

fn root() -> RootKey {
    RootKey::from_huk(&[7; 32])
}

/// A small sealed disk, made once.
fn sealed() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let blocks = Geometry::for_data(BLOCKS).expect("a small volume is possible").disk_blocks();
        let mut disk = Image(vec![0; blocks as usize * 4096]);
        let options = provision::Options { suite: Suite::Aes128Gcm, volume: 1, data_blocks: BLOCKS, salt: [1; 32] };
        let plain = &mut Image(vec![3; 4 * 4096]);
        provision(&mut disk, plain, &root(), &options, |_, _| ()).expect("the small volume fits its disk");
        disk.0
    };
    IMAGE.get_or_init(make).clone()
}

/// A head of four bytes, a few steps, then the driver's memory.
pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<16>() else { return };
    let disk = RamDisk::new(sealed(), 1 + usize::from(head[0] % 8), head[1].into());
    let options = Options { cache_slots: 1, reservation: 0 };
    let Ok(volume) = mount(disk, &root(), options, || true) else { panic!("a sound disk is mounted") };
    let mut service = Service::new(volume);
    let memory = Shifting::new(rest, 32 << 10);
    let size = 1 << (head[2] % 6);
    let config = QueueConfig { size, descriptor_table: 0, available_ring: 1024, used_ring: 1536 };
    let features = u64::from(head[3]) << 28;
    let mut outcome = service.start(&memory, config, features);
    for &step in &head[4..] {
        service.volume_mut().disk_mut().credit = usize::from(step >> 3);
        outcome = match step % 8 {
            0 => service.quiesce(&memory),
            1 => {
                service.reset();
                service.start(&memory, config, features)
            }
            2..5 => service.on_doorbell(&memory),
            _ if outcome.again => service.resume(&memory),
            _ => service.on_disk_interrupt(&memory),
        };
        while service.next_event().is_some() {}
    }
    // Whatever the driver did, what was taken comes to an end, and a new driver is served.
    service.reset();
    service.volume_mut().disk_mut().credit = usize::MAX;
    for _ in 0..100 {
        if service.volume().is_idle() {
            break;
        }
        let _ = service.on_disk_interrupt(&memory);
    }
    assert!(service.volume().is_idle(), "requests hang");
}
