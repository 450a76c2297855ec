//! A function that is no bridge, and the addresses that it can answer at.

use core::ops::Range;

use arrayvec::ArrayVec;

use crate::{BUS_MASTER, Configuration, Function, MEMORY_SPACE, Refusal, offset};

/// Base address registers, and the one of the expansion ROM.
const MAX_BARS: usize = 7;
const LAST_BAR: usize = offset::BAR_0 + 4 * 5;
/// Bits of a base address register that are no address (PCI Local Bus 3.0, section 6.2.5.1), and of the ROM's (6.2.5.2).
const KIND_BITS: u32 = 0xf;
const ROM_KIND_BITS: u32 = 0x7ff;
const ROM_ENABLE: u32 = 1;
/// Status bit 4, in the word of the command register: there are capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
/// Enhanced Allocation (PCI Express Base 5.0, section 7.8.5).
const ENHANCED_ALLOCATION: u32 = 0x14;
/// Capabilities that there is room for.
const MAX_CAPABILITIES: usize = (0x100 - 0x40) / 4;

/// A base address register for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    /// Its offset.
    at: usize,
    /// Bytes that it decodes: a power of two.
    size: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 32 bits.
    Narrow,
    /// 64 bits, in two words.
    Wide,
    /// That of the expansion ROM, which has an enable bit of its own.
    Rom,
}

impl Bar {
    /// The addresses that it decodes while the function answers in memory space, if its words are `word(offset)`.
    pub(crate) fn range(&self, word: impl Fn(usize) -> u32) -> Option<Range<u64>> {
        let low = word(self.at);
        let base = match self.kind {
            Kind::Narrow => u64::from(low & !KIND_BITS),
            Kind::Wide => u64::from(low & !KIND_BITS) | u64::from(word(self.at + 4)) << 32,
            Kind::Rom if low & ROM_ENABLE == 0 => return None,
            Kind::Rom => u64::from(low & !ROM_KIND_BITS),
        } & !(self.size - 1);
        Some(base..base.saturating_add(self.size))
    }
}

/// A function that is no bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub function: Function,
    /// Its wired interrupt: 1 to 4 for INTA to INTD, 0 for none.
    pub pin: u8,
    pub(crate) bars: ArrayVec<Bar, MAX_BARS>,
}

impl Endpoint {
    /// A function that answers at no address.
    pub fn with_pin(function: Function, pin: u8) -> Endpoint {
        Endpoint { function, pin, bars: ArrayVec::new() }
    }

    /// Reads what `function` is, which answers at no address from then on and reads and writes no memory. Its base address registers are as
    /// they were.
    pub(crate) fn read(space: &dyn Configuration, function: Function) -> Result<Endpoint, Refusal> {
        quiet(space, function);
        if has_capability(space, function, ENHANCED_ALLOCATION) {
            return Err(Refusal::Fixed(function));
        }
        let pin = (space.read32(function, offset::INTERRUPT) >> 8) as u8;
        Ok(Endpoint { function, pin: if pin <= 4 { pin } else { 0 }, bars: bars(space, function)? })
    }

    /// Gives all its registers addresses in `window`, from its beginning on; returns what is left of the window, from a page on. It does not
    /// answer there yet.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`].
    #[inline(never)]
    pub fn place(&self, space: &dyn Configuration, window: Range<u64>) -> Result<Range<u64>, Refusal> {
        let mut bars: ArrayVec<_, MAX_BARS> = self.bars.iter().filter(|bar| bar.kind != Kind::Rom).collect();
        // The largest first, so that each lies at a multiple of its size if the first does.
        let mut next = window.start;
        while let Some(largest) = (0..bars.len()).max_by_key(|at| bars[*at].size) {
            let bar = bars.swap_remove(largest);
            let too_large = Refusal::TooLarge(self.function, bar.size);
            let base = next.checked_next_multiple_of(bar.size).ok_or(too_large)?;
            next = base.checked_add(bar.size).filter(|end| *end <= window.end).ok_or(too_large)?;
            space.write32(self.function, bar.at, base as u32);
            if bar.kind == Kind::Wide {
                space.write32(self.function, bar.at + 4, (base >> 32) as u32);
            }
        }
        space.write32(self.function, offset::ROM, 0);
        let next = next.next_multiple_of(crate::FUNCTION_BYTES as u64).min(window.end);
        Ok(next..window.end)
    }
}

/// Lets `function` answer at its addresses, and read and write memory.
pub fn start(space: &dyn Configuration, function: Function) {
    space.write16(function, offset::COMMAND, (MEMORY_SPACE | BUS_MASTER) as u16);
}

/// Lets it do neither, nor interrupt. Whether it has taken note.
#[must_use]
pub fn stop(space: &dyn Configuration, function: Function) -> bool {
    quiet(space, function);
    space.read32(function, offset::COMMAND) & (MEMORY_SPACE | BUS_MASTER) == 0
}

fn quiet(space: &dyn Configuration, function: Function) {
    space.write16(function, offset::COMMAND, crate::INTERRUPT_DISABLE as u16);
}

fn has_capability(space: &dyn Configuration, function: Function, wanted: u32) -> bool {
    if space.read32(function, offset::COMMAND) & HAS_CAPABILITIES == 0 {
        return false;
    }
    let mut next = space.read32(function, offset::CAPABILITIES) & 0xfc;
    for _ in 0..MAX_CAPABILITIES {
        if next == 0 {
            return false;
        }
        let head = space.read32(function, next as usize);
        if head & 0xff == wanted {
            return true;
        }
        next = head >> 8 & 0xfc;
    }
    false
}

/// Finds out what each register decodes by writing ones to it (PCI Local Bus 3.0, section 6.2.5.1).
fn bars(space: &dyn Configuration, function: Function) -> Result<ArrayVec<Bar, MAX_BARS>, Refusal> {
    let mut bars = ArrayVec::new();
    let mut at = offset::BAR_0;
    while at <= LAST_BAR {
        let unknown = Refusal::Register(function, at);
        let low = writable(space, function, at, u32::MAX);
        let wide = low & 0b111 == 0b100;
        // Ports are no memory; no register has no bits.
        if low != 0 && low & 1 == 0 {
            let high = match (wide, low >> 1 & 0b11) {
                (true, _) if at < LAST_BAR => writable(space, function, at + 4, u32::MAX),
                (false, 0b00) => u32::MAX,
                _ => return Err(unknown),
            };
            let size = (!(u64::from(high) << 32 | u64::from(low & !KIND_BITS))).wrapping_add(1);
            let kind = if wide { Kind::Wide } else { Kind::Narrow };
            bars.push(Bar { at, size: power(size).ok_or(unknown)?, kind });
        }
        at += if wide { 8 } else { 4 };
    }
    let low = writable(space, function, offset::ROM, !ROM_KIND_BITS) & !ROM_KIND_BITS;
    if low != 0 {
        let size = power(u64::from((!low).wrapping_add(1))).ok_or(Refusal::Register(function, offset::ROM))?;
        bars.push(Bar { at: offset::ROM, size, kind: Kind::Rom });
    }
    Ok(bars)
}

fn power(size: u64) -> Option<u64> {
    size.is_power_of_two().then_some(size)
}

/// What the register at `at` makes of `ones`; it is put back.
fn writable(space: &dyn Configuration, function: Function, at: usize, ones: u32) -> u32 {
    let before = space.read32(function, at);
    space.write32(function, at, ones);
    let made = space.read32(function, at);
    space.write32(function, at, before);
    made
}
