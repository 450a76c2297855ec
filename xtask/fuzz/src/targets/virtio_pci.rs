//! Configuration space of a PCI function that lies about where its registers are, and those registers.

use block::model::{Function, Memory};
use block::pci::Structures;
use block::virtio_blk::{Pci, VirtioBlk};
use block::{NarrowRegisters, Registers};

const WINDOW: u64 = 0x1000_0000;
const WINDOW_BYTES: usize = 0x8000;

/// Registers that answer with the input, whatever was written; each access must lie in the window.
struct Liar<'a>(&'a [u8], std::cell::Cell<usize>);

impl Liar<'_> {
    fn answer(&self, offset: usize, width: usize) -> u32 {
        assert!(offset.is_multiple_of(width) && offset + width <= WINDOW_BYTES, "{width} bytes at {offset:#x}");
        let at = self.1.replace(self.1.get() + 1);
        self.0.get(at).map_or(0, |byte| u32::from(*byte) << (8 * (at % 4)))
    }
}

impl Registers for Liar<'_> {
    fn read(&self, offset: usize) -> u32 {
        self.answer(offset, 4)
    }

    fn write(&mut self, offset: usize, _value: u32) {
        self.answer(offset, 4);
    }
}

impl NarrowRegisters for Liar<'_> {
    fn read8(&self, offset: usize) -> u8 {
        // Some of each: what was wished for, and anything.
        match self.answer(offset, 1) as u8 {
            0x80.. => 0x0b,
            byte => byte,
        }
    }

    fn read16(&self, offset: usize) -> u16 {
        self.answer(offset, 2) as u16
    }

    fn write8(&mut self, offset: usize, _value: u8) {
        self.answer(offset, 1);
    }

    fn write16(&mut self, offset: usize, _value: u16) {
        self.answer(offset, 2);
    }
}

/// Two bytes for each of up to 16 changed words of a sound function: which one, and a value for one of its bytes. Then its registers' answers.
pub fn run(data: &[u8]) {
    let (changes, answers) = data.split_at(data.len().min(32));
    let mut function = Function::new(WINDOW);
    for [place, value] in changes.as_chunks::<2>().0 {
        let (word, shift) = (usize::from(place % 64) * 4, u32::from(place / 64) * 8);
        let now = function.read(word);
        function.set(word, now & !(0xff << shift) | u32::from(*value) << shift);
    }
    let Ok(structures) = Structures::find(&function, WINDOW..WINDOW + WINDOW_BYTES as u64) else { return };
    let registers = Liar(answers, std::cell::Cell::new(0));
    type Disk<'a> = VirtioBlk<Pci<Liar<'a>>, Memory>;
    let _ = Disk::new(Pci::new(registers, structures), Memory::new(Disk::OVERHEAD_BYTES + 4096));
}
