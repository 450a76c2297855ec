//! Serves requests against a disk that does nothing, for counting instructions: how much the path costs beside the cipher.
//!
//! `cargo build --release -p volume --example overhead --features ...`, then
//! `valgrind --tool=callgrind overhead KIND REQUESTS BLOCKS DEPTH`; the difference of two runs with different REQUESTS is theirs.

use std::{collections::VecDeque, env, process::exit};

use block::{BLOCK_BYTES, BlockDevice, Buffer, Completion, Refused, ram::RamDisk};
use crypto::Suite;
use keystore::RootKey;
use virtio::model::{Driver, Ram};
use volume::{
    Geometry, Service,
    mount::{Options, mount},
    provision::{self, Store, provision},
};

/// A disk that keeps its image and moves no data once `idle` is set: what the path costs, not what a disk does.
struct NullDisk {
    inner: RamDisk,
    idle: bool,
    pool: block::pool::Pool,
    bytes: Vec<u8>,
    pending: VecDeque<(u32, Option<Buffer>)>,
}

impl BlockDevice for NullDisk {
    fn blocks(&self) -> u64 {
        self.inner.blocks()
    }

    fn room(&self) -> usize {
        64 - self.pending.len()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        if self.idle { self.pool.allocate(blocks) } else { self.inner.allocate(blocks) }
    }

    fn release(&mut self, buffer: Buffer) {
        if self.idle { self.pool.release(buffer) } else { self.inner.release(buffer) }
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        if !self.idle {
            return self.inner.bytes(buffer);
        }
        &mut self.bytes[buffer.first() * BLOCK_BYTES..(buffer.first() + buffer.blocks()) * BLOCK_BYTES]
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        if !self.idle {
            return self.inner.read(tag, block, buffer);
        }
        self.pending.push_back((tag, Some(buffer)));
        Ok(())
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.read_or_write(tag, block, buffer)
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        if !self.idle {
            return self.inner.flush(tag);
        }
        self.pending.push_back((tag, None));
        Ok(())
    }

    fn kick(&mut self) {}

    fn acknowledge(&mut self) {}

    fn poll(&mut self) -> Option<Completion> {
        if !self.idle {
            return self.inner.poll();
        }
        let (tag, buffer) = self.pending.pop_front()?;
        Some(Completion { tag, result: Ok(()), buffer })
    }
}

impl NullDisk {
    fn read_or_write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        if !self.idle {
            return self.inner.write(tag, block, buffer);
        }
        self.pending.push_back((tag, Some(buffer)));
        Ok(())
    }
}

struct Image(Vec<u8>);

impl Store for Image {
    type Error = ();

    fn blocks(&self) -> u64 {
        (self.0.len() / BLOCK_BYTES) as u64
    }

    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), ()> {
        out.copy_from_slice(&self.0[block as usize * BLOCK_BYTES..][..out.len()]);
        Ok(())
    }

    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), ()> {
        self.0[block as usize * BLOCK_BYTES..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok());
    let (Some(kind), Some(requests), Some(blocks), Some(depth)) = (number(1), number(2), number(3), number(4)) else {
        eprintln!("usage: overhead KIND(0 read, 1 write) REQUESTS BLOCKS DEPTH");
        exit(2);
    };
    const DATA_BLOCKS: u64 = 4096;
    let root = RootKey::from_huk(&[1; 32]);
    let mut disk = Image(vec![0; Geometry::for_data(DATA_BLOCKS).unwrap().disk_blocks() as usize * BLOCK_BYTES]);
    let options = provision::Options { suite: Suite::Aes128Gcm, volume: 1, data_blocks: DATA_BLOCKS, salt: [0; 32] };
    let plain = &mut Image(vec![1; BLOCK_BYTES]);
    provision(&mut disk, plain, &root, &options, |_, _| ()).unwrap();
    let disk = NullDisk {
        inner: RamDisk::new(disk.0, 64, 1),
        idle: false,
        pool: block::pool::Pool::new(2048),
        bytes: vec![0; 2048 * BLOCK_BYTES],
        pending: VecDeque::with_capacity(64),
    };
    let volume = mount(disk, &root, Options::default(), || true).unwrap();
    let ram = Ram::new(64 << 20);
    let mut driver = Driver::new(Ram::BASE, 256, true);
    let mut service = Service::new(volume);
    let _ = service.start(&ram, driver.config, Service::<NullDisk>::features());
    let area = |index: u64| Ram::BASE + (1 << 20) + index * (256 << 10);
    let mut next = 0;
    // The table is loaded by a first pass over it, then the disk stops moving data.
    for round in 0..=requests / depth {
        if round == 1 {
            service.volume_mut().disk_mut().idle = true;
        }
        let count = if round == 0 { DATA_BLOCKS / 128 } else { depth };
        for index in 0..count {
            let (block, blocks) = if round == 0 { (index * 128, 1) } else { (next % (DATA_BLOCKS - 64), blocks) };
            next += 37 * blocks;
            let mut header = [0; 16];
            header[0] = if round == 0 { 0 } else { kind as u8 };
            header[8..].copy_from_slice(&(block * 8).to_le_bytes());
            ram.put(area(index), &header);
            let len = blocks as u32 * BLOCK_BYTES as u32;
            let buffers =
                [(area(index), 16, false), (area(index) + 4096, len, header[0] == 0), (area(index) + 16, 1, true)];
            driver.post_indirect(&ram, area(index) + 64, &buffers).unwrap();
        }
        while driver.kick(&ram) {
            let _ = service.on_doorbell(&ram);
        }
        for _ in 0..1000 {
            let _ = service.on_disk_interrupt(&ram);
            if service.volume().is_idle() {
                break;
            }
        }
        while driver.take_used(&ram).is_some() {}
        while let Some(event) = service.next_event() {
            if requests == 0 {
                println!("{event}");
            }
        }
    }
}
