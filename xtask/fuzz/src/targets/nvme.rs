//! An NVMe controller that lies: the input is what it says of itself, and writes completions, statuses and whole pages between the driver's calls.

use block::model::Function;
use block::model::nvme::{ControllerMemory, ControllerRegisters, NvmeController, TestClock, machine};
use block::nvme::{Nvme, function};
use block::{BlockDevice, Dma};

type Disk = Nvme<ControllerRegisters, ControllerMemory>;

const PAGE: usize = 4096;
/// Where the driver has its I/O completion queue.
const COMPLETIONS: usize = 3 * PAGE;

/// Eight bytes that change the controller, four for each of eight that change its identity, then four a step: what, an offset of 16 bits, a value.
pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((changes, steps)) = rest.split_first_chunk::<32>() else { return };
    find(head);
    let (registers, memory) = machine(controller(head, changes), Disk::OVERHEAD_BYTES + 100 * PAGE);
    let place = ControllerRegisters::START..ControllerRegisters::END;
    let Ok(mut disk) = Disk::new(registers, place, memory, &mut TestClock::default()) else { return };
    let mut waiting = 0usize;
    for (tag, step) in steps.as_chunks::<4>().0.iter().enumerate() {
        let [what, low, high, value] = *step;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        match what % 8 {
            0 | 1 => {
                waiting += usize::from(transfer(&mut disk, tag as u32, what & 8 != 0, offset as u64, value.into()))
            }
            2 => waiting += usize::from(disk.flush(tag as u32).is_ok()),
            3 => disk.kick(),
            4 => disk.machine().1.serve(value.into(), offset as u64),
            // An answer that is right but for what the input changes in it.
            5 => {
                let memory = disk.machine().1;
                let identifier = memory.under_way().first().copied().unwrap_or(0);
                memory.lie([
                    identifier ^ offset as u16,
                    1 ^ u16::from(value & 3 == 3),
                    value.into(),
                    u16::from(value >> 7),
                ]);
            }
            6 => {
                disk.machine().0.controller().strict = false;
                // Nothing else of its memory is ever loaded by the driver, but for buffers.
                disk.machine().1.store8(COMPLETIONS + offset % 2048, value);
                if what & 8 != 0 {
                    disk.machine().0.controller().csts = value.into();
                }
            }
            _ => {
                disk.acknowledge();
                while let Some(done) = disk.poll() {
                    assert!(waiting > 0, "more completions than requests");
                    waiting -= 1;
                    if let Some(buffer) = done.buffer {
                        let _ = disk.bytes(&buffer)[0];
                        disk.release(buffer);
                    }
                }
            }
        }
    }
}

/// Some of its capabilities, state and identity are the input's.
fn controller(head: &[u8; 8], changes: &[u8; 32]) -> NvmeController {
    let mut controller = NvmeController::new(64, 9 + u32::from(head[0] % 4));
    controller.cap ^= u64::from(head[1]) << (head[2] % 64) & u64::from(head[3]).wrapping_mul(0x0101_0101_0101_0101);
    (controller.cc, controller.csts) = (u32::from(head[4] & 1), u32::from(head[4] >> 1 & 3));
    controller.settling = (head[4] & 8 == 0).then_some(u32::from(head[4] >> 4 & 3));
    (controller.stuck, controller.fails) = (head[4] & 0x81 == 0x80, head[4] & 0xc0 == 0x40);
    if head[5] != 0 {
        controller.refuses = Some((head[5] - 1, (head[6] != 0).then_some(head[6].into())));
    }
    controller.namespaces = vec![u32::from(head[7] >> 4), u32::from(head[7] & 15)];
    for [which, low, high, value] in changes.as_chunks::<4>().0 {
        let identity = if which & 1 == 0 { &mut controller.namespace } else { &mut controller.controller };
        identity[usize::from(u16::from_le_bytes([*low, *high])) % 600] ^= value;
    }
    controller
}

/// A function with some words of its configuration from the input: whatever it says, its registers lie in the window.
fn find(head: &[u8; 8]) {
    let mut function = Function::new(0x1000_0000);
    function.set(0x08, 0x0108_0200);
    function.set(0x10, 0x1000_0000 | u32::from(head[0]) << (head[1] % 32));
    function.set(0x14, u32::from(head[2] & head[3]));
    if let Ok(place) = function::find(&function, &(0x1000_0000..0x1000_8000)) {
        assert!(place.start < place.end && place.end <= 0x8000);
    }
}

fn transfer(disk: &mut Disk, tag: u32, writes: bool, block: u64, blocks: usize) -> bool {
    let Some(buffer) = disk.allocate(blocks % 40) else { return false };
    let taken = if writes { disk.write(tag, block, buffer) } else { disk.read(tag, block, buffer) };
    match taken {
        Ok(()) => true,
        Err(refused) => {
            refused.0.into_iter().for_each(|buffer| disk.release(buffer));
            false
        }
    }
}
