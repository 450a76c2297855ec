//! A disk that lies: the input writes rings, statuses and registers between the driver's calls.

use block::{
    BlockDevice, Dma,
    model::{Memory, RegisterFile},
    virtio_blk::{Mmio, VirtioBlk},
};

type Disk = VirtioBlk<Mmio<RegisterFile>, Memory>;

/// Four bytes a step: what, an offset of 16 bits, a value.
pub fn run(data: &[u8]) {
    let Some((head, steps)) = data.split_first_chunk::<4>() else { return };
    let registers = RegisterFile {
        queue_max: 128 + u32::from(head[0]),
        block_size: u32::from(head[1]) * 64,
        sectors: u64::from(head[2]) << (head[3] % 64),
        ..RegisterFile::new(0)
    };
    let Ok(mut disk) = Disk::new(Mmio(registers), Memory::new(Disk::OVERHEAD_BYTES + 32 * 4096)) else { return };
    let mut waiting = 0usize;
    for (tag, step) in steps.as_chunks::<4>().0.iter().enumerate() {
        let [what, low, high, value] = *step;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        match what % 8 {
            0 | 1 => {
                if let Some(buffer) = disk.allocate(usize::from(value % 40)) {
                    let block = offset as u64;
                    let taken = if what & 8 == 0 {
                        disk.read(tag as u32, block, buffer)
                    } else {
                        disk.write(tag as u32, block, buffer)
                    };
                    match taken {
                        Ok(()) => waiting += 1,
                        Err(refused) => refused.0.into_iter().for_each(|buffer| disk.release(buffer)),
                    }
                }
            }
            2 => waiting += usize::from(disk.flush(tag as u32).is_ok()),
            3 => disk.kick(),
            // The used index and entries, where lies matter most; then anything in the ring pages.
            4 => disk.machine().1.store16(4096 + 1024 + 2, u16::from(value)),
            5 => disk.machine().1.store32(4096 + 1028 + offset % 64 / 4 * 4, u32::from(value)),
            6 => disk.machine().1.store8(offset % Disk::OVERHEAD_BYTES, value),
            _ => {
                disk.acknowledge();
                while let Some(completion) = disk.poll() {
                    assert!(waiting > 0, "more completions than requests");
                    waiting -= 1;
                    if let Some(buffer) = completion.buffer {
                        let _ = disk.bytes(&buffer)[0];
                        disk.release(buffer);
                    }
                }
            }
        }
    }
}
