//! Event records of a system MMU, and the registers that say how many there are.

use std::cell::Cell;

use smmu::{Memory, Notice, Part, Registers, Share, Smmu, Translation};

/// All that is needed, as `IDR0`, `IDR1` and `IDR5` say.
const FEATURES: [(usize, u32); 3] = [(0x00, 1 | 1 << 3 | 1 << 27), (0x04, 16 | 7 << 16 | 8 << 21), (0x14, 5 | 1 << 4)];

/// An SMMU that acknowledges whatever is asked of it until it is up, and then answers with the input.
struct Hostile<'a> {
    input: &'a [u8],
    at: Cell<usize>,
    written: Cell<u32>,
    up: &'a Cell<bool>,
}

impl Hostile<'_> {
    fn byte(&self) -> u64 {
        let at = self.at.replace(self.at.get() + 1);
        self.input.get(at).copied().unwrap_or(0).into()
    }
}

impl Registers for Hostile<'_> {
    fn read32(&self, offset: usize) -> u32 {
        match FEATURES.iter().find(|(feature, _)| *feature == offset) {
            Some((_, value)) => *value,
            None if self.up.get() => (self.byte() | self.byte() << 8 | self.byte() << 24) as u32,
            // `GBPA.Update` and both halves of `GERROR` read 0.
            None if [0x44, 0x60, 0x64].contains(&offset) => 0,
            None => self.written.get(),
        }
    }

    fn write32(&self, _offset: usize, value: u32) {
        self.written.set(value);
    }

    fn write64(&self, _offset: usize, _value: u64) {}
}

impl Memory for Hostile<'_> {
    fn address(&self, _part: Part) -> u64 {
        0
    }

    fn read(&self, part: Part, word: usize) -> u64 {
        assert!(part == Part::Events && word < smmu::driver::QUEUE_WORDS);
        (0..8).fold(0, |value, _| value << 8 | self.byte())
    }

    fn write(&mut self, _part: Part, _word: usize, _value: u64) {}

    fn barrier(&self) {}
}

/// Reads notices from `data`.
pub fn run(data: &[u8]) {
    let up = Cell::new(false);
    let side = || Hostile { input: data, at: Cell::new(0), written: Cell::new(0), up: &up };
    let translation = Translation { root: 0x4000_0000, vmid: 1, ipa_bits: 40, ps: 2 };
    let share = Share { streams: &[], translation };
    let mut smmu = Smmu::start(side(), side(), &[share]).expect("it acknowledges everything");
    up.set(true);
    for notice in (0..64).map_while(|_| smmu.notice()) {
        if let Notice::Fault(fault) = notice {
            assert!(fault.repeats(&fault) && fault.to_string().starts_with("stream "));
        }
    }
}
