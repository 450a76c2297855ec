//! The general domain's UART: a model of PrimeCell UART PL011, revision r1p5 (Arm DDI 0183G).
//!
//! Three liberties, each seen by drivers as a very fast UART. Transmission takes no time: the transmit FIFO is always empty,
//! and the transmit interrupt becomes pending after each written byte, since that byte has already left (section 3.3.10
//! describes the interrupt as a transition, so enabling it alone does not raise it). The receive timeout of 32 bit periods
//! takes no time either, so a single character below the FIFO trigger arrives at once. And bytes are transmitted even while
//! the UART is disabled, because an early console may write before a driver enables it and counts on the firmware to have
//! done so. Baud rate and frame format are stored and have no effect; break, parity and framing errors never occur; there is
//! no DMA. The modem lines say that a terminal is connected.

/// Depth of the receive FIFO in bytes: 32 from r1p5 on (section 2.4.3), which drivers tell by the revision in PeriphID2.
pub const FIFO_BYTES: usize = 32;

/// Byte offsets of the registers (section 3.2, table 3-1).
pub mod offset {
    /// Data.
    pub const DR: usize = 0x000;
    /// Receive status; any write clears the errors.
    pub const RSR: usize = 0x004;
    /// Flags.
    pub const FR: usize = 0x018;
    /// IrDA low-power counter.
    pub const ILPR: usize = 0x020;
    /// Integer baud rate.
    pub const IBRD: usize = 0x024;
    /// Fractional baud rate.
    pub const FBRD: usize = 0x028;
    /// Line control.
    pub const LCR_H: usize = 0x02c;
    /// Control.
    pub const CR: usize = 0x030;
    /// Interrupt FIFO levels.
    pub const IFLS: usize = 0x034;
    /// Interrupt mask.
    pub const IMSC: usize = 0x038;
    /// Raw interrupt status.
    pub const RIS: usize = 0x03c;
    /// Masked interrupt status.
    pub const MIS: usize = 0x040;
    /// Interrupt clear.
    pub const ICR: usize = 0x044;
    /// DMA control.
    pub const DMACR: usize = 0x048;
    /// First of the eight identification registers.
    pub const PERIPH_ID0: usize = 0xfe0;
}

/// PeriphID0..3 and PCellID0..3: part 0x011, designer Arm, revision 3 (section 3.3.16 and following).
const IDENTIFICATION: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// DR bit 11 and RSR bit 3: overrun.
const DR_OVERRUN: u32 = 1 << 11;
const RSR_OVERRUN: u32 = 1 << 3;

/// FR: clear to send, data set ready, carrier detected; nothing to transmit.
const FR_CONNECTED: u32 = 0b111;
const FR_RXFE: u32 = 1 << 4;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;

const LCR_FIFO_ENABLE: u32 = 1 << 4;

const CR_UART_ENABLE: u32 = 1 << 0;
const CR_LOOPBACK: u32 = 1 << 7;
const CR_RECEIVE_ENABLE: u32 = 1 << 9;
/// Receive and transmit enabled, the UART itself not (section 3.3.8).
const CR_RESET: u32 = 0x300;
/// Both triggers at half (section 3.3.9).
const IFLS_RESET: u32 = 0x12;

/// Interrupts (section 3.3.10).
const INT_RECEIVE: u32 = 1 << 4;
const INT_TRANSMIT: u32 = 1 << 5;
const INT_TIMEOUT: u32 = 1 << 6;
const INT_OVERRUN: u32 = 1 << 10;
const INT_ALL: u32 = 0x7ff;

/// What EL2 must do after an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effect {
    /// A byte for the terminal.
    pub transmit: Option<u8>,
    /// The interrupt line has changed to this level.
    pub line: Option<bool>,
}

/// The receive FIFO; a ring of at most [`FIFO_BYTES`].
#[derive(Clone, Debug)]
struct Fifo {
    bytes: [u8; FIFO_BYTES],
    first: usize,
    len: usize,
}

impl Fifo {
    const EMPTY: Fifo = Fifo { bytes: [0; FIFO_BYTES], first: 0, len: 0 };

    /// The caller has checked that there is room.
    fn put(&mut self, byte: u8) {
        self.bytes[(self.first + self.len) % FIFO_BYTES] = byte;
        self.len += 1;
    }

    fn take(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes[self.first];
        self.first = (self.first + 1) % FIFO_BYTES;
        Some(byte)
    }
}

/// The UART.
#[derive(Clone, Debug)]
pub struct Pl011 {
    receive: Fifo,
    /// A byte was lost; shown with the next byte that is received.
    overrun: bool,
    receive_status: u32,
    low_power: u32,
    integer_baud: u32,
    fractional_baud: u32,
    line_control: u32,
    control: u32,
    fifo_levels: u32,
    mask: u32,
    raw: u32,
    dma_control: u32,
}

impl Default for Pl011 {
    fn default() -> Self {
        Pl011::new()
    }
}

impl Pl011 {
    /// As after a reset.
    pub const fn new() -> Self {
        Pl011 {
            receive: Fifo::EMPTY,
            overrun: false,
            receive_status: 0,
            low_power: 0,
            integer_baud: 0,
            fractional_baud: 0,
            line_control: 0,
            control: CR_RESET,
            fifo_levels: IFLS_RESET,
            mask: 0,
            raw: 0,
            dma_control: 0,
        }
    }

    /// The level of the interrupt line (UARTINTR).
    pub fn line(&self) -> bool {
        self.raw & self.mask != 0
    }

    /// Whether a byte from the terminal would be kept: EL2 leaves it in the physical UART otherwise. A UART that is not
    /// enabled has room for everything and keeps nothing.
    pub fn has_room(&self) -> bool {
        !self.receives() || self.receive.len < self.depth()
    }

    /// A byte from the terminal. Returns the new level of the interrupt line if it changed.
    pub fn receive(&mut self, byte: u8) -> Option<bool> {
        let before = self.line();
        if self.receives() && self.control & CR_LOOPBACK == 0 {
            self.accept(byte);
        }
        self.changed(before)
    }

    /// A load of `size` bytes (1, 2 or 4) at byte `offset` of the register page: the value, zero-extended, and what to do.
    pub fn read(&mut self, offset: usize, size: usize) -> (u64, Effect) {
        let before = self.line();
        if !matches!(size, 1 | 2 | 4) || !offset.is_multiple_of(size) {
            return (0, Effect::default());
        }
        let shift = 8 * (offset % 4);
        let mask = (1u64 << (8 * size)) - 1;
        let value = if shift == 0 { self.read_register(offset) } else { self.peek_register(offset & !3) };
        ((u64::from(value) >> shift) & mask, Effect { transmit: None, line: self.changed(before) })
    }

    /// A store of `size` bytes (1, 2 or 4) at byte `offset` of the register page. Stores elsewhere are ignored.
    pub fn write(&mut self, offset: usize, size: usize, value: u64) -> Effect {
        let before = self.line();
        if !matches!(size, 1 | 2 | 4) || !offset.is_multiple_of(4) {
            return Effect::default();
        }
        let value = (value & ((1u64 << (8 * size)) - 1)) as u32;
        let transmit = self.write_register(offset, value);
        Effect { transmit, line: self.changed(before) }
    }

    /// Reads with the side effect that a read of DR has.
    fn read_register(&mut self, register: usize) -> u32 {
        if register == offset::DR { self.take_byte() } else { self.peek_register(register) }
    }

    fn peek_register(&self, register: usize) -> u32 {
        match register {
            offset::RSR => self.receive_status,
            offset::FR => self.flags(),
            offset::ILPR => self.low_power,
            offset::IBRD => self.integer_baud,
            offset::FBRD => self.fractional_baud,
            offset::LCR_H => self.line_control,
            offset::CR => self.control,
            offset::IFLS => self.fifo_levels,
            offset::IMSC => self.mask,
            offset::RIS => self.raw,
            offset::MIS => self.raw & self.mask,
            offset::DMACR => self.dma_control,
            offset::PERIPH_ID0.. => identification(register),
            _ => 0,
        }
    }

    fn write_register(&mut self, register: usize, value: u32) -> Option<u8> {
        match register {
            offset::DR => return self.transmit(value as u8),
            offset::RSR => self.receive_status = 0,
            offset::ILPR => self.low_power = value & 0xff,
            offset::IBRD => self.integer_baud = value & 0xffff,
            offset::FBRD => self.fractional_baud = value & 0x3f,
            offset::LCR_H => self.set_line_control(value & 0xff),
            offset::CR => self.control = value & 0xff87,
            offset::IFLS => {
                self.fifo_levels = value & 0x3f;
                self.update_receive();
            }
            offset::IMSC => self.mask = value & INT_ALL,
            offset::ICR => self.raw &= !value,
            offset::DMACR => self.dma_control = value & 0b111,
            _ => {}
        }
        None
    }

    /// The byte leaves at once: to the terminal, or round the loop.
    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.raw |= INT_TRANSMIT;
        if self.control & CR_LOOPBACK == 0 {
            return Some(byte);
        }
        if self.receives() {
            self.accept(byte);
        }
        None
    }

    fn receives(&self) -> bool {
        let enabled = CR_UART_ENABLE | CR_RECEIVE_ENABLE;
        self.control & enabled == enabled
    }

    fn accept(&mut self, byte: u8) {
        if self.receive.len >= self.depth() {
            self.overrun = true;
            self.receive_status |= RSR_OVERRUN;
            self.raw |= INT_OVERRUN;
            return;
        }
        self.receive.put(byte);
        if self.fifo_enabled() {
            self.raw |= INT_TIMEOUT;
        }
        self.update_receive();
    }

    /// A read of DR: the oldest byte, and whether one was lost. An empty FIFO reads 0.
    fn take_byte(&mut self) -> u32 {
        let Some(byte) = self.receive.take() else { return 0 };
        if self.receive.len == 0 {
            self.raw &= !INT_TIMEOUT;
        }
        self.update_receive();
        let lost = core::mem::take(&mut self.overrun);
        u32::from(byte) | if lost { DR_OVERRUN } else { 0 }
    }

    /// The receive interrupt is pending while the FIFO is filled to its trigger (section 3.3.10).
    fn update_receive(&mut self) {
        if self.receive.len >= self.receive_trigger() {
            self.raw |= INT_RECEIVE;
        } else {
            self.raw &= !INT_RECEIVE;
        }
    }

    /// A change of FEN empties the FIFO (section 3.3.7).
    fn set_line_control(&mut self, value: u32) {
        if (self.line_control ^ value) & LCR_FIFO_ENABLE != 0 {
            self.receive = Fifo::EMPTY;
            self.raw &= !(INT_RECEIVE | INT_TIMEOUT);
        }
        self.line_control = value;
    }

    fn flags(&self) -> u32 {
        let empty = if self.receive.len == 0 { FR_RXFE } else { 0 };
        let full = if self.receive.len >= self.depth() { FR_RXFF } else { 0 };
        FR_CONNECTED | FR_TXFE | empty | full
    }

    fn fifo_enabled(&self) -> bool {
        self.line_control & LCR_FIFO_ENABLE != 0
    }

    fn depth(&self) -> usize {
        if self.fifo_enabled() { FIFO_BYTES } else { 1 }
    }

    /// Bytes that raise the receive interrupt: eighths of the FIFO (section 3.3.9); reserved values count as half.
    fn receive_trigger(&self) -> usize {
        if !self.fifo_enabled() {
            return 1;
        }
        match (self.fifo_levels >> 3) & 0b111 {
            0 => FIFO_BYTES / 8,
            1 => FIFO_BYTES / 4,
            3 => FIFO_BYTES * 3 / 4,
            4 => FIFO_BYTES * 7 / 8,
            _ => FIFO_BYTES / 2,
        }
    }

    fn changed(&self, before: bool) -> Option<bool> {
        (self.line() != before).then_some(self.line())
    }
}

fn identification(register: usize) -> u32 {
    IDENTIFICATION.get((register - offset::PERIPH_ID0) / 4).copied().map_or(0, u32::from)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// As a driver leaves it: enabled, FIFOs on, receive and timeout interrupts unmasked, triggers at half.
    fn driven() -> Pl011 {
        let mut uart = Pl011::new();
        for (register, value) in [(offset::LCR_H, 0x70), (offset::CR, 0x301), (offset::IMSC, 0x50)] {
            assert_eq!(uart.write(register, 4, value), Effect::default());
        }
        uart
    }

    fn get(uart: &mut Pl011, register: usize) -> u32 {
        uart.read(register, 4).0 as u32
    }

    fn put(uart: &mut Pl011, register: usize, value: u64) -> Effect {
        uart.write(register, 4, value)
    }

    #[test]
    fn a_byte_for_a_full_fifo_is_lost_and_said_to_be() {
        let mut uart = driven();
        for byte in 0..FIFO_BYTES as u8 {
            assert!(uart.has_room());
            let _ = uart.receive(byte);
        }
        assert!(!uart.has_room());
        let _ = uart.receive(99);
        assert_eq!(get(&mut uart, offset::RSR), RSR_OVERRUN);
        assert_eq!(get(&mut uart, offset::RIS) & INT_OVERRUN, INT_OVERRUN);
        assert_eq!(get(&mut uart, offset::DR), DR_OVERRUN);
        assert_eq!(get(&mut uart, offset::DR), 1);
        assert_eq!(put(&mut uart, offset::RSR, 0), Effect::default());
        assert_eq!(get(&mut uart, offset::RSR), 0);
    }

    #[test]
    fn a_uart_that_is_not_enabled_receives_nothing() {
        let mut uart = Pl011::new();
        assert_eq!(uart.receive(b'x'), None);
        assert!(uart.has_room());
        assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, FR_RXFE);
        assert_eq!(get(&mut uart, offset::DR), 0);
    }

    #[test]
    fn accesses_of_odd_width_or_place_do_nothing() {
        let mut uart = driven();
        let _ = uart.receive(b'x');
        for (place, size) in [(0, 8), (0, 3), (0, 0), (1, 2), (2, 4), (0, 16)] {
            assert_eq!(uart.read(place, size), (0, Effect::default()));
        }
        for (place, size) in [(0, 8), (1, 1), (2, 2), (0x1000, 4), (usize::MAX - 3, 4)] {
            assert_eq!(uart.write(place, size, 0x41), Effect::default());
        }
        assert_eq!(uart.read(offset::PERIPH_ID0 + 5, 1), (0, Effect::default()));
        assert_eq!(uart.read(offset::DR, 1).0, u64::from(b'x'));
    }

    #[test]
    fn linux_takes_it_for_an_arm_pl011_with_a_deep_fifo() {
        let mut uart = Pl011::new();
        let word = |uart: &mut Pl011, first: usize| {
            (0..4).fold(0, |word, index| word | (get(uart, first + 4 * index) & 0xff) << (8 * index))
        };
        assert_eq!(word(&mut uart, offset::PERIPH_ID0) & 0x000f_ffff, 0x0004_1011);
        assert!((word(&mut uart, offset::PERIPH_ID0) >> 20) & 0xf >= 3);
        assert_eq!(word(&mut uart, offset::PERIPH_ID0 + 0x10), 0xb105_f00d);
    }

    #[test]
    fn a_written_byte_leaves_at_once_at_every_width_and_while_disabled() {
        let mut uart = Pl011::new();
        for size in [1, 2, 4] {
            assert_eq!(uart.write(offset::DR, size, 0xff41).transmit, Some(0x41));
            assert_eq!(get(&mut uart, offset::FR), FR_CONNECTED | FR_TXFE | FR_RXFE);
        }
    }

    #[test]
    fn unmasking_the_transmit_interrupt_raises_it_only_after_a_byte() {
        let mut uart = driven();
        assert_eq!(put(&mut uart, offset::IMSC, 0x70), Effect::default());
        assert_eq!(put(&mut uart, offset::DR, 0x41), Effect { transmit: Some(0x41), line: Some(true) });
        assert_eq!(get(&mut uart, offset::MIS), INT_TRANSMIT);
        assert_eq!(put(&mut uart, offset::IMSC, 0x50).line, Some(false));
        assert_eq!(put(&mut uart, offset::IMSC, 0x70).line, Some(true));
        assert_eq!(put(&mut uart, offset::ICR, u64::from(INT_TRANSMIT)).line, Some(false));
    }

    #[test]
    fn a_single_key_raises_the_line_until_it_is_read() {
        let mut uart = driven();
        assert_eq!(uart.receive(b'a'), Some(true));
        assert_eq!(get(&mut uart, offset::MIS), INT_TIMEOUT);
        assert_eq!(uart.receive(b'b'), None);
        assert_eq!(uart.read(offset::DR, 4), (u64::from(b'a'), Effect::default()));
        assert_eq!(uart.read(offset::DR, 4), (u64::from(b'b'), Effect { transmit: None, line: Some(false) }));
    }

    #[test]
    fn the_receive_interrupt_follows_the_trigger() {
        for (levels, trigger) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 16)] {
            let mut uart = driven();
            let _ = put(&mut uart, offset::IFLS, levels << 3);
            for count in 1..=FIFO_BYTES {
                let _ = uart.receive(0);
                assert_eq!(get(&mut uart, offset::RIS) & INT_RECEIVE != 0, count >= trigger, "{levels} {count}");
            }
            for count in (0..FIFO_BYTES).rev() {
                get(&mut uart, offset::DR);
                assert_eq!(get(&mut uart, offset::RIS) & INT_RECEIVE != 0, count >= trigger, "{levels} {count}");
            }
        }
    }

    #[test]
    fn without_fifos_each_byte_raises_the_receive_interrupt() {
        let mut uart = driven();
        let _ = put(&mut uart, offset::LCR_H, 0x60);
        assert_eq!(uart.receive(b'a'), Some(true));
        assert!(!uart.has_room());
        assert_eq!(get(&mut uart, offset::MIS), INT_RECEIVE);
        assert_eq!(uart.read(offset::DR, 4).1.line, Some(false));
    }

    #[test]
    fn switching_the_fifos_empties_them() {
        let mut uart = driven();
        let _ = uart.receive(b'a');
        assert_eq!(put(&mut uart, offset::LCR_H, 0x60).line, Some(false));
        assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, FR_RXFE);
    }

    #[test]
    fn the_loop_keeps_bytes_from_the_terminal() {
        let mut uart = driven();
        let _ = put(&mut uart, offset::CR, 0x381);
        assert_eq!(put(&mut uart, offset::DR, 0x41), Effect { transmit: None, line: Some(true) });
        assert_eq!(uart.receive(b'z'), None);
        assert_eq!(get(&mut uart, offset::DR), 0x41);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Receive(u8),
        Read(usize, usize),
        Write(usize, usize, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = prop_oneof![4 => (0..0x14usize).prop_map(|word| word * 4), 1 => 0..0x1008usize];
        let size = prop_oneof![4 => Just(4usize), 1 => Just(1), 1 => Just(2), 1 => 0..9usize];
        let value = prop_oneof![0..0x800u64, any::<u64>()];
        let step = prop_oneof![
            any::<u8>().prop_map(Step::Receive),
            (place.clone(), size.clone()).prop_map(|(place, size)| Step::Read(place, size)),
            (place, size, value).prop_map(|(place, size, value)| Step::Write(place, size, value)),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// The naive model: the bytes that the driver must get are those that arrived while it listened and had room.
        #[test]
        fn received_bytes_arrive_in_order_and_the_reported_line_is_the_line(steps in steps()) {
            let mut uart = Pl011::new();
            let mut expected: Vec<u8> = Vec::new();
            let mut line = false;
            for step in steps {
                let fen = uart.line_control & LCR_FIFO_ENABLE;
                let reported = match step {
                    Step::Receive(byte) => {
                        let kept = uart.receives() && uart.control & CR_LOOPBACK == 0 && uart.has_room();
                        if kept { expected.push(byte); }
                        uart.receive(byte)
                    }
                    Step::Read(place, size) => {
                        let (value, effect) = uart.read(place, size);
                        prop_assert_eq!(effect.transmit, None);
                        prop_assert!(value <= u64::from(u32::MAX));
                        if place == 0 && matches!(size, 1 | 2 | 4) && !expected.is_empty() {
                            prop_assert_eq!(value as u8, expected.remove(0));
                        }
                        effect.line
                    }
                    Step::Write(place, size, value) => {
                        let loops = uart.control & CR_LOOPBACK != 0 && uart.receives() && uart.has_room();
                        let effect = uart.write(place, size, value);
                        if place == 0 && matches!(size, 1 | 2 | 4) {
                            if loops { expected.push(value as u8); }
                            if uart.control & CR_LOOPBACK == 0 { prop_assert_eq!(effect.transmit, Some(value as u8)); }
                        }
                        if uart.line_control & LCR_FIFO_ENABLE != fen { expected.clear(); }
                        effect.line
                    }
                };
                line = reported.unwrap_or(line);
                prop_assert_eq!(line, uart.line());
                prop_assert_eq!(uart.flags() & FR_RXFE != 0, expected.is_empty());
            }
        }
    }
}
