//! The physical PL011 (Arm DDI 0183): polled transmit, interrupt-driven receive.

use crate::mmio::Mmio;

const DR: usize = 0x00;
const FR: usize = 0x18;
const LCR_H: usize = 0x2c;
const CR: usize = 0x30;
const IFLS: usize = 0x34;
const IMSC: usize = 0x38;
const ICR: usize = 0x44;

const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const CR_UARTEN: u32 = 1 << 0;
const CR_TXE: u32 = 1 << 8;
const CR_RXE: u32 = 1 << 9;
const INT_RX: u32 = 1 << 4;
const INT_RT: u32 = 1 << 6;

/// Polls of a full transmit FIFO before a byte is dropped: a stuck UART must not stop the hypervisor.
const TRANSMIT_POLLS: u32 = 100_000;

/// One PL011.
#[derive(Clone, Copy, Debug)]
pub struct Pl011 {
    registers: Mmio,
}

impl Pl011 {
    /// Bytes of its register window.
    pub const LEN: usize = 0x1000;

    /// The UART behind `registers`; line settings are left as firmware set them.
    pub const fn new(registers: Mmio) -> Pl011 {
        Pl011 { registers }
    }

    /// Turns the transmitter on, if firmware has not.
    pub fn enable_transmit(&self) {
        self.registers.write32(CR, self.registers.read32(CR) | CR_UARTEN | CR_TXE);
    }

    /// Sends one byte; drops it if the FIFO does not drain within a bounded number of polls.
    pub fn send(&self, byte: u8) {
        for _ in 0..TRANSMIT_POLLS {
            if self.registers.read32(FR) & FR_TXFF == 0 {
                self.registers.write32(DR, byte.into());
                return;
            }
        }
    }

    /// Takes one received byte.
    pub fn receive(&self) -> Option<u8> {
        (self.registers.read32(FR) & FR_RXFE == 0).then(|| self.registers.read32(DR) as u8)
    }

    /// Turns on the receiver and its two interrupts (level and timeout).
    pub fn enable_receive_interrupt(&self) {
        self.registers.write32(LCR_H, self.registers.read32(LCR_H) | 0x70); // 8 bits, FIFOs on
        self.registers.write32(IFLS, 0); // interrupt at 1/8 full
        self.registers.write32(CR, CR_UARTEN | CR_TXE | CR_RXE);
        self.registers.write32(ICR, 0x7ff);
        self.registers.write32(IMSC, INT_RX | INT_RT);
    }

    /// Clears the receive interrupts after the FIFO has been drained.
    pub fn acknowledge_receive(&self) {
        self.registers.write32(ICR, INT_RX | INT_RT);
    }
}
