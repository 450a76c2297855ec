//! One function: its configuration space, and the registers in its BAR.
//!
//! ```text
//!     configuration space                          BAR 0, 16 KiB
//!     0x00  header type 0                          0x0000  common configuration, ISR status, device configuration
//!     0x40  MSI-X                                  0x1000  doorbell
//!     0x50  virtio: common configuration           0x2000  MSI-X table
//!     0x60  virtio: ISR status                     0x3000  MSI-X pending bits
//!     0x70  virtio: device configuration
//!     0x80  virtio: notification
//!     0x94  virtio: access to the BAR by configuration space
//! ```
//!
//! The doorbell has a page of its own and is one register for all queues: the value stored says which (virtio 1.2, section 4.1.4.4).

use channel::{CONFIG_BYTES, Device, Effect, RegisterPage, offset};

use crate::bytes::{self, merge, touches};
use crate::common::{self, COMMON_BYTES, Vectors};
use crate::msix::{Message, Msix, VECTORS};

/// Bytes of the BAR.
pub const BAR_BYTES: usize = 0x4000;

/// `Memory Space`, `Bus Master` and `Interrupt Disable` of the command register: what can be set.
const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;
const COMMANDS: u16 = MEMORY_SPACE | BUS_MASTER | INTX_DISABLE;
/// `Interrupt Status` and `Capabilities List` of the status register.
const INTERRUPT_STATUS: u16 = 1 << 3;
const CAPABILITIES: u16 = 1 << 4;

/// Vendor of virtio functions; a device has its virtio type behind 0x1040 (virtio 1.2, section 4.1.2).
const VENDOR: u32 = 0x1af4;
const FIRST_DEVICE: u32 = 0x1040;
/// Mass storage, of no subclass; and a device that fits no class (PCI Local Bus Specification 3.0, appendix D).
const CLASS_STORAGE: u32 = 0x01_8000;
const CLASS_OTHER: u32 = 0xff_0000;
/// virtio's block device.
const BLOCK: u32 = 2;
const REVISION: u32 = 1;

/// Offsets of what can change, or has an effect.
mod at {
    pub(super) const COMMAND: usize = 0x04;
    pub(super) const BAR: usize = 0x10;
    pub(super) const INTERRUPT_LINE: usize = 0x3c;
    pub(super) const MSIX: usize = 0x40;
    pub(super) const ACCESS_BAR: usize = 0x98;
    pub(super) const ACCESS_OFFSET: usize = 0x9c;
    pub(super) const ACCESS_LENGTH: usize = 0xa0;
    pub(super) const ACCESS_DATA: usize = 0xa4;
}

/// Pages of the BAR.
const COMMON_PAGE: usize = 0x0000;
const DOORBELL_PAGE: usize = 0x1000;
const TABLE_PAGE: usize = 0x2000;
const PENDING_PAGE: usize = 0x3000;

/// The register file behind a function.
#[derive(Debug)]
pub struct Behind<'a, P> {
    /// The state machine.
    pub device: &'a mut Device,
    /// Its page, which the driver of a function does not see.
    pub page: &'a mut P,
}

impl<P: RegisterPage> Behind<'_, P> {
    /// A 32-bit store to the register file.
    pub(crate) fn store(&mut self, register: usize, value: u32) -> Effect {
        self.device.write(self.page, register, 4, value.into())
    }
}

/// What EL2 must do after a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Access {
    /// What the register file asks for, but that no store waits: a reset that is under way is read from `device_status`. The line of the
    /// device is [`Function::line`], whatever the effect says of it.
    pub effect: Effect,
    /// Vectors whose [`Function::message`] is to be sent, a bit each.
    pub vectors: u32,
}

/// One function in front of a virtual device.
#[derive(Clone, Debug)]
pub struct Function {
    command: u16,
    bar: u32,
    interrupt_line: u8,
    /// The words of the access capability: BAR, offset, length.
    access: [u32; 3],
    msix: Msix,
    vectors: Vectors,
}

impl Default for Function {
    fn default() -> Self {
        Function::new()
    }
}

impl Function {
    /// As after power-on.
    pub const fn new() -> Function {
        Function { command: 0, bar: 0, interrupt_line: 0, access: [0; 3], msix: Msix::NEW, vectors: Vectors::NONE }
    }

    /// Back to power-on. The register file behind it is reset by its own means.
    pub fn reset(&mut self) {
        *self = Function::new();
    }

    /// Where the function decodes its registers, if it does.
    pub fn base(&self) -> Option<u32> {
        (self.command & MEMORY_SPACE != 0).then_some(self.bar)
    }

    /// The level of the function's INTA: messages take its place.
    pub fn line(&self, device: &Device) -> bool {
        device.line() && self.command & INTX_DISABLE == 0 && !self.msix.is_enabled()
    }

    /// Buffers of some queue were used: vectors to send, a bit each. The contract with the backend names no queue, so every queue is
    /// told, which is exact for a device with one.
    #[must_use]
    pub fn raise_used(&mut self, device: &Device) -> u32 {
        self.raise(device, self.vectors.of_queues())
    }

    /// The configuration changed, or the device needs a reset: vectors to send, a bit each.
    #[must_use]
    pub fn raise_config(&mut self, device: &Device) -> u32 {
        self.raise(device, self.vectors.of_configuration())
    }

    /// As a line, a message is for a driver that is ready.
    fn raise(&mut self, device: &Device, vectors: u32) -> u32 {
        if device.is_live() {
            self.msix.raise(vectors);
        }
        self.sendable()
    }

    /// The message of `vector`.
    pub fn message(&self, vector: usize) -> Message {
        self.msix.message(vector)
    }

    /// Reads `size` bytes at `register` of the configuration space: all ones if no device is behind it.
    pub fn read_configuration<P: RegisterPage>(
        &mut self,
        behind: &mut Behind<'_, P>,
        register: usize,
        size: usize,
    ) -> u64 {
        if !behind.device.is_attached() {
            return all_ones(size);
        }
        let data = if touches(register, size, at::ACCESS_DATA, 4) { self.read_access(behind) } else { 0 };
        bytes::read(register, size, |register| self.word(behind.device, register, data))
    }

    /// A store of `size` bytes at `register` of the configuration space.
    pub fn write_configuration<P: RegisterPage>(
        &mut self,
        behind: &mut Behind<'_, P>,
        register: usize,
        size: usize,
        value: u64,
    ) -> Access {
        let mut effect = Effect::None;
        if behind.device.is_attached() {
            for (register, value, mask) in bytes::words(register, size, value) {
                match register {
                    at::ACCESS_DATA => effect = self.write_access(behind, value),
                    _ => self.set_word(register, value, mask),
                }
            }
        }
        Access { effect, vectors: self.sendable() }
    }

    /// Reads `size` bytes at `offset` of the BAR.
    pub fn read_bar<P: RegisterPage>(&mut self, behind: &mut Behind<'_, P>, offset: usize, size: usize) -> u64 {
        let (page, within) = (offset & !0xfff, offset & 0xfff);
        match page {
            COMMON_PAGE => common::read(&mut self.vectors, behind, within, size),
            TABLE_PAGE => self.msix.read(within, size, vectors(behind.device)),
            PENDING_PAGE => bytes::read(within, size, |word| self.msix.pending(word)),
            _ => 0,
        }
    }

    /// A store of `size` bytes at `offset` of the BAR.
    #[inline]
    pub fn write_bar<P: RegisterPage>(
        &mut self,
        behind: &mut Behind<'_, P>,
        offset: usize,
        size: usize,
        value: u64,
    ) -> Access {
        if offset & !0xfff == DOORBELL_PAGE {
            let effect = behind.store(offset::QUEUE_NOTIFY, value as u32 & 0xffff);
            return Access { effect, vectors: 0 };
        }
        self.write_registers(behind, offset, size, value)
    }

    #[inline(never)]
    fn write_registers<P: RegisterPage>(
        &mut self,
        behind: &mut Behind<'_, P>,
        offset: usize,
        size: usize,
        value: u64,
    ) -> Access {
        let (page, within, limit) = (offset & !0xfff, offset & 0xfff, vectors(behind.device));
        let value = value & all_ones(size);
        let mut effect = Effect::None;
        match page {
            COMMON_PAGE => {
                effect = common::write(&mut self.vectors, behind, (within, size), value as u32, limit);
                self.msix.keep(self.vectors.named());
            }
            TABLE_PAGE => bytes::words(within, size, value)
                .for_each(|(word, value, mask)| self.msix.set_word(word, value, mask, limit)),
            _ => {}
        }
        Access { effect, vectors: self.sendable() }
    }

    /// Takes the vectors whose messages may be sent: a message is a transfer, which takes `Bus Master`.
    fn sendable(&mut self) -> u32 {
        self.msix.take(self.command & BUS_MASTER != 0)
    }

    /// The word at `register` of the configuration space; `data` is that of the access capability.
    fn word(&self, device: &Device, register: usize, data: u32) -> u32 {
        let kind = device.offer().map_or(0, |offer| offer.device_id);
        match register {
            0x00 => VENDOR | (FIRST_DEVICE + kind) << 16,
            at::COMMAND => u32::from(self.status(device)) << 16 | u32::from(self.command),
            0x08 if kind == BLOCK => REVISION | CLASS_STORAGE << 8,
            0x08 => REVISION | CLASS_OTHER << 8,
            at::BAR => self.bar,
            0x2c => VENDOR | (FIRST_DEVICE + kind) << 16,
            0x34 => at::MSIX as u32,
            at::INTERRUPT_LINE => 1 << 8 | u32::from(self.interrupt_line),
            at::MSIX => 0x11 | 0x50 << 8 | u32::from(self.msix.control(vectors(device))) << 16,
            0x44 => TABLE_PAGE as u32,
            0x48 => PENDING_PAGE as u32,
            at::ACCESS_BAR => self.access[0],
            at::ACCESS_OFFSET => self.access[1],
            at::ACCESS_LENGTH => self.access[2],
            at::ACCESS_DATA => data,
            _ => VIRTIO.iter().find(|(at, _)| *at == register).map_or(0, |(_, word)| *word),
        }
    }

    /// `Interrupt Status` is the device's wish, whether or not it may drive its line.
    fn status(&self, device: &Device) -> u16 {
        CAPABILITIES | if device.line() { INTERRUPT_STATUS } else { 0 }
    }

    fn set_word(&mut self, register: usize, value: u32, mask: u32) {
        match register {
            at::COMMAND => self.command = merge(self.command.into(), value, mask) as u16 & COMMANDS,
            at::BAR => self.bar = merge(self.bar, value, mask) & !(BAR_BYTES as u32 - 1),
            at::INTERRUPT_LINE => self.interrupt_line = merge(self.interrupt_line.into(), value, mask) as u8,
            at::MSIX => {
                let control = merge(u32::from(self.msix.control(1)) << 16, value, mask) >> 16;
                self.msix.set_control(control as u16);
            }
            at::ACCESS_BAR => self.access[0] = merge(self.access[0], value, mask & 0xff),
            at::ACCESS_OFFSET => self.access[1] = merge(self.access[1], value, mask),
            at::ACCESS_LENGTH => self.access[2] = merge(self.access[2], value, mask),
            _ => {}
        }
    }

    /// Where the access capability points, with a length that may be (virtio 1.2, section 4.1.4.9): nowhere else is there anything.
    fn accessed(&self) -> Option<(usize, usize)> {
        let [bar, offset, length] = self.access.map(|word| word as usize);
        let fits = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length) && offset < BAR_BYTES;
        (bar == 0 && fits).then_some((offset, length))
    }

    fn read_access<P: RegisterPage>(&mut self, behind: &mut Behind<'_, P>) -> u32 {
        self.accessed().map_or(0, |(offset, length)| self.read_bar(behind, offset, length) as u32)
    }

    fn write_access<P: RegisterPage>(&mut self, behind: &mut Behind<'_, P>, value: u32) -> Effect {
        let Some((offset, length)) = self.accessed() else { return Effect::None };
        let value = u64::from(value) & all_ones(length);
        let Access { effect, vectors } = self.write_bar(behind, offset, length, value);
        // They are taken again by the store of which this is a part.
        self.msix.raise(vectors);
        effect
    }
}

/// What an absent function reads as.
fn all_ones(size: usize) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}

/// Vectors of a function: one more than the device has queues.
fn vectors(device: &Device) -> usize {
    device.offer().map_or(0, |offer| usize::from(offer.queues) + 1).min(VECTORS)
}

/// The virtio capabilities, word by word: identifier 9, the next one, length and type; BAR 0; offset; length (virtio 1.2, section 4.1.4).
/// The notification's multiplier is 0, and so is what the access capability has before it is written.
const VIRTIO: [(usize, u32); 14] = [
    (0x50, capability(0x60, 16, 1)),
    (0x58, COMMON_PAGE as u32),
    (0x5c, COMMON_BYTES),
    (0x60, capability(0x70, 16, 3)),
    (0x68, common::ISR as u32),
    (0x6c, 1),
    (0x70, capability(0x80, 16, 4)),
    (0x78, common::DEVICE as u32),
    (0x7c, CONFIG_BYTES as u32),
    (0x80, capability(0x94, 20, 2)),
    (0x88, DOORBELL_PAGE as u32),
    (0x8c, 4),
    (0x90, 0),
    (0x94, capability(0, 20, 5)),
];

const fn capability(next: u32, length: u32, kind: u32) -> u32 {
    9 | next << 8 | length << 16 | kind << 24
}
