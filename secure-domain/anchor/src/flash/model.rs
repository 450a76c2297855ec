//! A simulated bank of NOR flash, for tests: bits go to zero only, power fails at any operation and leaves it half done.

use alloc::{vec, vec::Vec};

use block::Registers;

/// How much of the operation that is cut off took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Before,
    /// All of it.
    After,
    /// Some bits; the seed says which.
    Torn(u64),
}

/// What a read shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Array,
    Query,
    Status,
    /// The next write programs a word.
    Word,
    /// The next write confirms an erasure.
    Erase,
    /// The next write says how many words follow.
    Count,
    /// Words for the buffer, so many still to come.
    Buffer(usize, Vec<(usize, u32)>),
    /// Power is gone.
    Dead,
}

/// A bank of flash.
#[derive(Clone, Debug)]
pub struct SimulatedNor {
    /// What it holds. Tests may change it.
    pub words: Vec<u32>,
    sector_words: usize,
    buffer_log2: u8,
    mode: Mode,
    status: u32,
    /// Operations so far: programs and erasures.
    pub operations: usize,
    /// Sectors erased so far.
    pub erasures: usize,
    /// The operation at which power fails, and how.
    pub cut: Option<(usize, Cut)>,
    /// The operation that fails with an error status.
    pub failure: Option<usize>,
}

const READY: u32 = 0x0080_0080;

impl SimulatedNor {
    /// Blank flash with `sectors` sectors of `sector_bytes` each, and chips with a write buffer of `2^buffer_log2` bytes
    /// (0: none).
    pub fn new(sectors: usize, sector_bytes: usize, buffer_log2: u8) -> SimulatedNor {
        SimulatedNor {
            words: vec![!0; sectors * sector_bytes / 4],
            sector_words: sector_bytes / 4,
            buffer_log2,
            mode: Mode::Array,
            status: READY,
            operations: 0,
            erasures: 0,
            cut: None,
            failure: None,
        }
    }

    /// Whether power is gone.
    pub fn is_dead(&self) -> bool {
        self.mode == Mode::Dead
    }

    /// Power is back.
    pub fn power_on(&mut self) {
        self.mode = Mode::Array;
        self.status = READY;
        self.cut = None;
    }

    fn query(&self, index: usize) -> u32 {
        let chip_sector = self.sector_words * 2;
        let sectors = self.words.len() / self.sector_words;
        let byte = match index {
            0x10 => b'Q',
            0x11 => b'R',
            0x12 => b'Y',
            0x13 | 0x2c => 1,
            0x2a => self.buffer_log2,
            0x2d => (sectors - 1) as u8,
            0x2e => ((sectors - 1) >> 8) as u8,
            0x2f => (chip_sector >> 8) as u8,
            0x30 => (chip_sector >> 16) as u8,
            _ => 0,
        };
        u32::from(byte) * 0x0001_0001
    }

    /// One operation on `targets`: word index and what it becomes when all goes well.
    fn operate(&mut self, targets: &[(usize, u32)], erase: bool) {
        let number = self.operations;
        self.operations += 1;
        self.mode = Mode::Status;
        if self.failure == Some(number) {
            self.status = READY | if erase { 0x0020_0020 } else { 0x0010_0010 };
            return;
        }
        let cut = self.cut.filter(|(at, _)| *at == number).map(|(_, cut)| cut);
        let mut seed = if let Some(Cut::Torn(seed)) = cut { seed | 1 } else { 1 };
        for &(index, target) in targets {
            let old = self.words[index];
            let new = match cut {
                None | Some(Cut::After) => target,
                Some(Cut::Before) => old,
                Some(Cut::Torn(_)) => torn(old, target, &mut seed, erase),
            };
            self.words[index] = new;
        }
        if cut.is_some() {
            self.mode = Mode::Dead;
        }
    }

    fn program(&mut self, words: &[(usize, u32)]) {
        let targets: Vec<_> = words.iter().map(|&(offset, word)| (offset / 4, self.words[offset / 4] & word)).collect();
        self.operate(&targets, false);
    }

    fn erase(&mut self, offset: usize) {
        self.erasures += 1;
        let first = offset / 4 / self.sector_words * self.sector_words;
        let targets: Vec<_> = (first..first + self.sector_words).map(|index| (index, !0)).collect();
        self.operate(&targets, true);
    }

    fn command(&mut self, value: u32) {
        assert_eq!(value & 0xffff, value >> 16, "both chips get each command");
        // A chip of 16 bits takes its commands from the lower eight.
        self.mode = match value & 0xff {
            0xff => Mode::Array,
            0x98 => Mode::Query,
            0x50 => {
                self.status = READY;
                Mode::Array
            }
            0x70 => Mode::Status,
            0x40 => Mode::Word,
            0x20 => Mode::Erase,
            0xe8 if self.buffer_log2 > 0 => Mode::Count,
            command => panic!("flash does not know command {command:#x}"),
        };
    }

    /// Takes the words of a buffered program, then its confirmation.
    fn fill(&mut self, left: usize, mut words: Vec<(usize, u32)>, offset: usize, value: u32) {
        if left == 0 {
            if value != 0x00d0_00d0 {
                self.mode = Mode::Array;
                return;
            }
            let buffer_bytes = 2 << self.buffer_log2;
            let inside = |(at, _): &(usize, u32)| at / buffer_bytes == words[0].0 / buffer_bytes;
            assert!(words.len() <= buffer_bytes / 4 && words.iter().all(inside), "a program stays in its buffer");
            return self.program(&words);
        }
        words.push((offset, value));
        self.mode = Mode::Buffer(left - 1, words);
    }
}

/// What a word becomes when power fails: flash that is programmed loses some of its ones; flash that is erased is anything.
fn torn(old: u32, target: u32, seed: &mut u64, erase: bool) -> u32 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    let random = seed.wrapping_mul(0x2545_F491_4F6C_DD1D);
    match random >> 62 {
        0 => old,
        1 => target,
        _ if erase => random as u32,
        _ => old & (target | random as u32),
    }
}

impl Registers for SimulatedNor {
    fn read(&self, offset: usize) -> u32 {
        match self.mode {
            Mode::Array => self.words[offset / 4],
            Mode::Query => self.query(offset / 4),
            Mode::Dead => 0,
            _ => self.status,
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match core::mem::replace(&mut self.mode, Mode::Status) {
            Mode::Dead => self.mode = Mode::Dead,
            Mode::Word => self.program(&[(offset, value)]),
            Mode::Erase if value == 0x00d0_00d0 => self.erase(offset),
            Mode::Erase => self.mode = Mode::Array,
            Mode::Count => self.mode = Mode::Buffer((value & 0xffff) as usize + 1, Vec::new()),
            Mode::Buffer(left, words) => self.fill(left, words, offset, value),
            Mode::Array | Mode::Query | Mode::Status => self.command(value),
        }
    }
}
