//! The physical PL011 (Arm DDI 0183): polled transmit, interrupt-driven receive.

use core::ptr::with_exposed_provenance;

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use crate::mmio::Mmio;

register_structs! {
    /// The registers that are used here (DDI 0183, table 3-1).
    #[allow(non_snake_case)]
    Registers {
        (0x00 => DR: ReadWrite<u32>),
        (0x04 => _reserved0),
        (0x18 => FR: ReadOnly<u32, FR::Register>),
        (0x1c => _reserved1),
        (0x2c => LCR_H: ReadWrite<u32, LCR_H::Register>),
        (0x30 => CR: ReadWrite<u32, CR::Register>),
        (0x34 => IFLS: WriteOnly<u32>),
        (0x38 => IMSC: WriteOnly<u32, INT::Register>),
        (0x3c => _reserved2),
        (0x44 => ICR: WriteOnly<u32, INT::Register>),
        (0x48 => @END),
    }
}

register_bitfields! [u32,
    /// Flags.
    FR [
        /// The receive FIFO is empty.
        RXFE OFFSET(4) NUMBITS(1) [],
        /// The transmit FIFO is full.
        TXFF OFFSET(5) NUMBITS(1) []
    ],
    /// Line control.
    LCR_H [
        /// FIFOs on.
        FEN OFFSET(4) NUMBITS(1) [],
        /// Word length.
        WLEN OFFSET(5) NUMBITS(2) [Eight = 3]
    ],
    /// Control.
    CR [
        /// UART on.
        UARTEN OFFSET(0) NUMBITS(1) [],
        /// Transmitter on.
        TXE OFFSET(8) NUMBITS(1) [],
        /// Receiver on.
        RXE OFFSET(9) NUMBITS(1) []
    ],
    /// Interrupts, in the mask and the clear register.
    INT [
        /// Receive FIFO level.
        RX OFFSET(4) NUMBITS(1) [],
        /// Receive timeout.
        RT OFFSET(6) NUMBITS(1) [],
        /// All of them.
        ALL OFFSET(0) NUMBITS(11) []
    ]
];

/// Polls of a full transmit FIFO before a byte is dropped: a stuck UART must not stop the hypervisor.
const TRANSMIT_POLLS: u32 = 100_000;

/// One PL011.
#[derive(Clone, Copy, Debug)]
pub struct Pl011 {
    window: Mmio,
}

impl Pl011 {
    /// Bytes of its register window.
    pub const LEN: usize = 0x1000;

    /// The UART behind `window`; line settings are left as firmware set them.
    pub const fn new(window: Mmio) -> Pl011 {
        Pl011 { window }
    }

    fn registers(&self) -> &Registers {
        // SAFETY: the window is mapped as Device memory for as long as it exists (contract of `Mmio::new`), is longer than the
        // structure, and every field is accessed volatile, each access one load or store of its width.
        unsafe { &*with_exposed_provenance(self.window.base()) }
    }

    /// Turns the transmitter on, if firmware has not.
    pub fn enable_transmit(&self) {
        self.registers().CR.modify(CR::UARTEN::SET + CR::TXE::SET);
    }

    /// Sends one byte; drops it if the FIFO does not drain within a bounded number of polls.
    pub fn send(&self, byte: u8) {
        if (0..TRANSMIT_POLLS).any(|_| !self.registers().FR.is_set(FR::TXFF)) {
            self.registers().DR.set(byte.into());
        }
    }

    /// Takes one received byte.
    pub fn receive(&self) -> Option<u8> {
        (!self.registers().FR.is_set(FR::RXFE)).then(|| self.registers().DR.get() as u8)
    }

    /// Turns on the receiver and its two interrupts (level and timeout).
    pub fn enable_receive_interrupt(&self) {
        let registers = self.registers();
        registers.LCR_H.modify(LCR_H::FEN::SET + LCR_H::WLEN::Eight);
        registers.IFLS.set(0); // interrupt at 1/8 full
        registers.CR.write(CR::UARTEN::SET + CR::TXE::SET + CR::RXE::SET);
        registers.ICR.set(INT::ALL.mask);
        registers.IMSC.write(INT::RX::SET + INT::RT::SET);
    }

    /// Clears the receive interrupts before the FIFO is drained.
    pub fn acknowledge_receive(&self) {
        self.registers().ICR.write(INT::RX::SET + INT::RT::SET);
    }
}
