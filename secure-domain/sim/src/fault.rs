//! What a disk does wrong: how often each fault strikes, and how often it has.

use crate::rng::Rng;

/// A fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read is answered with an error.
    ReadError,
    /// A write is answered with an error; any part of it may have happened.
    WriteError,
    /// A flush is answered with an error; nothing became durable.
    FlushError,
    /// A write is answered with success and did not happen.
    LostWrite,
    /// A write is answered with success and went to another block.
    MisdirectedWrite,
    /// A flush is answered with success and nothing became durable.
    LyingFlush,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 6] = [
        Fault::ReadError,
        Fault::WriteError,
        Fault::FlushError,
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::LyingFlush,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::ReadError => "read-error",
            Fault::WriteError => "write-error",
            Fault::FlushError => "flush-error",
            Fault::LostWrite => "lost-write",
            Fault::MisdirectedWrite => "misdirected-write",
            Fault::LyingFlush => "lying-flush",
        }
    }

    /// Whether the disk says that something is wrong.
    pub fn is_honest(self) -> bool {
        matches!(self, Fault::ReadError | Fault::WriteError | Fault::FlushError)
    }
}

/// The faults of one disk.
#[derive(Clone, Debug)]
pub struct Faults {
    rng: Rng,
    permille: [u64; Fault::ALL.len()],
    struck: [u64; Fault::ALL.len()],
}

impl Faults {
    /// A disk that works.
    pub fn none(rng: Rng) -> Faults {
        Faults { rng, permille: [0; Fault::ALL.len()], struck: [0; Fault::ALL.len()] }
    }

    /// Lets a fault strike `permille` times of a thousand.
    pub fn set(&mut self, fault: Fault, permille: u64) {
        self.permille[fault as usize] = permille;
    }

    /// Ends all faults.
    pub fn end(&mut self) {
        self.permille = [0; Fault::ALL.len()];
    }

    /// Whether the fault strikes now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.permille[fault as usize] > 0 && self.rng.chance(self.permille[fault as usize]);
        self.struck[fault as usize] += u64::from(strikes);
        strikes
    }

    /// The fault strikes for a reason of its own.
    pub fn strike(&mut self, fault: Fault) {
        self.struck[fault as usize] += 1;
    }

    /// Whether any fault may strike.
    pub fn may_strike(&self) -> bool {
        self.permille.iter().any(|permille| *permille > 0)
    }

    /// How often honest and silent faults have struck.
    pub fn struck(&self) -> (u64, u64) {
        let of = |honest| {
            Fault::ALL
                .iter()
                .filter(|fault| fault.is_honest() == honest)
                .map(|fault| self.struck[*fault as usize])
                .sum()
        };
        (of(true), of(false))
    }
}
