//! A virtio block device as a PCI function (virtio 1.2, section 4.1): configuration space, and the registers behind it.

use alloc::{vec, vec::Vec};

use super::RegisterFile;
use crate::{NarrowRegisters, Registers};

/// Configuration space. Reads return what a test has put there.
#[derive(Clone, Debug)]
pub struct Function {
    words: Vec<u32>,
}

impl Function {
    /// Where the list of capabilities begins: common configuration, interrupt status, device configuration, 20 bytes apart, notifications.
    pub const LIST: usize = 0x40;
    /// Bytes from the beginning of the window to base address register 4.
    pub const BAR_4: usize = 0x4000;

    /// A sound function whose window begins at `window` of the bus.
    pub fn new(window: u64) -> Function {
        let mut function = Function { words: vec![0; 64] };
        let sound = [
            (0x00, 0x1042_1af4),
            (0x04, 1 << 20),
            (0x20, (window as u32 + Function::BAR_4 as u32) | 0xc),
            (0x24, (window >> 32) as u32),
            (0x34, Function::LIST as u32),
        ];
        sound.into_iter().for_each(|(at, word)| function.set(at, word));
        for (index, kind) in [1, 3, 4, 2].into_iter().enumerate() {
            let at = Function::LIST + 0x14 * index;
            let next = if kind == 2 { 0 } else { at as u32 + 0x14 };
            function.set(at, kind << 24 | if kind == 2 { 20 } else { 16 } << 16 | next << 8 | 9);
            function.set(at + 4, 4);
            function.set(at + 8, 0x1000 * index as u32);
            function.set(at + 12, 0x1000);
        }
        function.set(Function::LIST + 3 * 0x14 + 16, 4);
        function
    }

    /// Puts a word there.
    pub fn set(&mut self, at: usize, word: u32) {
        self.words[at / 4] = word;
    }
}

impl Registers for Function {
    fn read(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4), "configuration space is read in words");
        self.words[offset / 4]
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.set(offset, value);
    }
}

/// The registers of a sound function's window. What they mean is that of the same device's registers on the other transport, where a test finds it.
#[derive(Clone, Debug)]
pub struct FunctionRegisters {
    /// The device.
    pub file: RegisterFile,
    /// The number of its queue's notification register.
    pub notify_number: u16,
}

/// Common configuration: its fields with their widths, and the registers of the memory-mapped transport that they are.
const FIELDS: [(usize, usize, usize); 18] = [
    (0x00, 4, 0x014),
    (0x04, 4, 0x010),
    (0x08, 4, 0x024),
    (0x0c, 4, 0x020),
    (0x14, 1, 0x070),
    (0x15, 1, 0x0fc),
    (0x16, 2, 0x030),
    (0x18, 2, 0x034),
    (0x1c, 2, 0x044),
    (0x20, 4, 0x080),
    (0x24, 4, 0x084),
    (0x28, 4, 0x090),
    (0x2c, 4, 0x094),
    (0x30, 4, 0x0a0),
    (0x34, 4, 0x0a4),
    (0x2000, 4, 0x100),
    (0x2004, 4, 0x104),
    (0x2014, 4, 0x114),
];

impl FunctionRegisters {
    /// The registers of `file`.
    pub fn new(file: RegisterFile) -> FunctionRegisters {
        FunctionRegisters { file, notify_number: 2 }
    }

    /// The register of the other transport at `offset`, which must be accessed with its own width.
    fn find(&self, offset: usize, width: usize) -> usize {
        let offset = offset - Function::BAR_4;
        let field = FIELDS.iter().find(|(at, ..)| *at == offset).expect("there is no such register");
        assert_eq!(field.1, width, "register {offset:#x} has another width");
        field.2
    }
}

impl Registers for FunctionRegisters {
    fn read(&self, offset: usize) -> u32 {
        self.file.read(self.find(offset, 4))
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.file.write(self.find(offset, 4), value);
    }
}

impl NarrowRegisters for FunctionRegisters {
    fn read8(&self, offset: usize) -> u8 {
        // Interrupt status.
        if offset == Function::BAR_4 + 0x1000 {
            return self.file.interrupt as u8;
        }
        self.file.read(self.find(offset, 1)) as u8
    }

    fn read16(&self, offset: usize) -> u16 {
        if offset == Function::BAR_4 + 0x1e {
            return self.notify_number;
        }
        self.file.read(self.find(offset, 2)) as u16
    }

    fn write8(&mut self, offset: usize, value: u8) {
        self.file.write(self.find(offset, 1), value.into());
    }

    fn write16(&mut self, offset: usize, value: u16) {
        let register = match offset - Function::BAR_4 {
            at if at == 0x3000 + 4 * usize::from(self.notify_number) => 0x50,
            // The queue's size is read as the largest one, and written as the one that is taken.
            0x18 => 0x38,
            _ => self.find(offset, 2),
        };
        self.file.write(register, value.into());
    }
}
