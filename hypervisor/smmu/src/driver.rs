//! Bringing an SMMU up, and reading what it has to tell (IHI 0070, sections 3.5, 3.11 and 6.3).

use crate::command::Command;
use crate::fault::RECORD_WORDS;
use crate::ring::Index;
use crate::stream::{self, MAX_STREAM_BITS, SPLIT, Share, Translation};
use crate::{Fault, Features, Memory, Part, Registers};

/// Offsets of registers.
pub(crate) mod offset {
    pub(crate) const IDR0: usize = 0x00;
    pub(crate) const IDR1: usize = 0x04;
    pub(crate) const IDR5: usize = 0x14;
    pub(crate) const CR0: usize = 0x20;
    pub(crate) const CR0ACK: usize = 0x24;
    pub(crate) const CR1: usize = 0x28;
    pub(crate) const CR2: usize = 0x2c;
    pub(crate) const GBPA: usize = 0x44;
    pub(crate) const IRQ_CTRL: usize = 0x50;
    pub(crate) const IRQ_CTRLACK: usize = 0x54;
    pub(crate) const GERROR: usize = 0x60;
    pub(crate) const GERRORN: usize = 0x64;
    pub(crate) const GERROR_IRQ_CFG0: usize = 0x68;
    pub(crate) const STRTAB_BASE: usize = 0x80;
    pub(crate) const STRTAB_BASE_CFG: usize = 0x88;
    pub(crate) const CMDQ_BASE: usize = 0x90;
    pub(crate) const CMDQ_PROD: usize = 0x98;
    pub(crate) const CMDQ_CONS: usize = 0x9c;
    pub(crate) const EVENTQ_BASE: usize = 0xa0;
    pub(crate) const EVENTQ_IRQ_CFG0: usize = 0xb0;
    pub(crate) const EVENTQ_PROD: usize = 0x1_00a8;
    pub(crate) const EVENTQ_CONS: usize = 0x1_00ac;
}
use offset::*;

/// Words of a queue's memory: 4 KiB.
pub const QUEUE_WORDS: usize = 512;
/// log2 of the entries of the command queue, 16 bytes each, if the SMMU can have as many.
const COMMAND_BITS: u8 = 8;
/// log2 of the entries of the event queue, 32 bytes each.
const EVENT_BITS: u8 = 7;
const COMMAND_WORDS: usize = 2;

/// `CR0`.
const SMMU_ENABLE: u32 = 1;
const EVENT_QUEUE_ENABLE: u32 = 1 << 2;
const COMMAND_QUEUE_ENABLE: u32 = 1 << 3;
/// `CR0.ATSCHK`, where `IDR0.ATS`: transfers that a device says it has had translated are checked like any other.
const CHECK_TRANSLATED: u32 = 1 << 4;
/// `CR1`: tables and queues lie in no cache, outer shareable.
const UNCACHED: u32 = 0b10 << 4 | 0b10 << 10;
/// `CR2.RECINVSID`: a stream that is in no table is told.
const RECORD_UNKNOWN: u32 = 1 << 1;
/// `GBPA.ABORT`: without translation nothing passes.
const ABORT: u32 = 1 << 20;
/// `GBPA.Update`.
const UPDATE: u32 = 1 << 31;
/// `STRTAB_BASE_CFG.FMT`: two levels.
const TWO_LEVELS: u32 = 1 << 16;
/// `IRQ_CTRL`: interrupts of the event queue and of global errors.
const INTERRUPTS: u32 = 1 << 2 | 1;
/// `GERROR.CMDQ_ERR`.
const COMMAND_ERROR: u32 = 1;
/// `EVENTQ_PROD.OVFLG`, and its acknowledgement in `EVENTQ_CONS`.
const OVERFLOW: u32 = 1 << 31;

/// Polls of a register before we give up: an SMMU that never answers must not hang the boot.
const POLLS: u32 = 1_000_000;

/// Times that the event queue is emptied at once, if events come as fast as they are dropped.
const DISCARDS: u32 = 64;

/// Why an SMMU cannot be driven. Nothing passes it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It lacks something that this driver needs.
    Lacks(&'static str),
    /// Its addresses have fewer bits than the domain's.
    AddressBits(u8),
    /// The streams are spread over too many second-level tables.
    TooManyTables,
    /// It does not answer in a register.
    Silent(&'static str),
    /// It refused a command, for this reason (`CMDQ_CONS.ERR`).
    Command(u8),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Lacks(what) => write!(f, "it has no {what}"),
            Error::AddressBits(bits) => write!(f, "it has addresses of {bits} bits only"),
            Error::TooManyTables => write!(f, "the streams of its devices are spread too far"),
            Error::Silent(register) => write!(f, "it does not answer in {register}"),
            Error::Command(reason) => write!(f, "it refused a command ({reason})"),
        }
    }
}

/// What an SMMU has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A transfer was stopped.
    Fault(Fault),
    /// Events were lost: the queue was full.
    Lost,
    /// Errors of its own, as the bits of `GERROR`.
    Errors(u32),
}

/// An SMMU that translates.
#[derive(Debug)]
pub struct Smmu<R, M> {
    registers: R,
    memory: M,
    commands: Index,
    events: Index,
}

impl<R: Registers, M: Memory> Smmu<R, M> {
    /// Stops everything, then lets the streams of `shares` through, each by its translation, whose tables must not change without
    /// maintenance from then on. Where two have a stream, the last one has it.
    ///
    /// # Errors
    /// See [`Error`]. Nothing passes an SMMU that has failed in here, unless it does not answer in `SMMU_GBPA`.
    pub fn start(registers: R, memory: M, shares: &[Share<'_>]) -> Result<Self, Error> {
        stop(&registers)?;
        let features = Features::read(&registers);
        check(&features, shares)?;
        let mut smmu = Smmu {
            registers,
            memory,
            commands: Index::new(features.command_bits.min(COMMAND_BITS)),
            events: Index::new(features.event_bits.min(EVENT_BITS)),
        };
        let bits = features.stream_bits.min(MAX_STREAM_BITS);
        stream::write(&mut smmu.memory, bits, shares, features.coherent)?;
        smmu.place(bits);
        // An error that an earlier stage of boot has left would stop the commands.
        smmu.registers.write32(GERRORN, smmu.registers.read32(GERROR));
        smmu.memory.barrier();
        let checked = if features.ats { CHECK_TRANSLATED } else { 0 };
        enable(&smmu.registers, checked | COMMAND_QUEUE_ENABLE)?;
        smmu.forget(features.el2)?;
        let queues = checked | COMMAND_QUEUE_ENABLE | EVENT_QUEUE_ENABLE;
        enable(&smmu.registers, queues)?;
        update(&smmu.registers, IRQ_CTRL, IRQ_CTRLACK, INTERRUPTS, "SMMU_IRQ_CTRLACK")?;
        enable(&smmu.registers, queues | SMMU_ENABLE)?;
        Ok(smmu)
    }

    /// Stops every stream that is let through by `translation`, and forgets it: when this returns, what its devices send ends here, and what they
    /// sent before has arrived (`CMD_SYNC`, section 4.6.3). Nothing of it is told.
    ///
    /// # Errors
    /// [`Error::Silent`] and [`Error::Command`]; what passes then is unknown.
    pub fn hold(&mut self, translation: Translation) -> Result<(), Error> {
        self.pass(translation, false)
    }

    /// Lets the streams through that [`Smmu::hold`] has stopped.
    ///
    /// # Errors
    /// As [`Smmu::hold`].
    pub fn release(&mut self, translation: Translation) -> Result<(), Error> {
        self.pass(translation, true)
    }

    fn pass(&mut self, translation: Translation, passes: bool) -> Result<(), Error> {
        stream::set_passing(&mut self.memory, translation.root, passes);
        self.memory.barrier();
        self.give(Command::ForgetConfiguration);
        // Done when no transfer that was translated before is under way.
        self.give(Command::ForgetTranslations);
        self.give(Command::Sync);
        self.carry_out()
    }

    /// Tells it where tables and queues are.
    fn place(&self, bits: u8) {
        let Smmu { registers, memory, commands, events, .. } = self;
        registers.write32(CR1, UNCACHED);
        registers.write32(CR2, RECORD_UNKNOWN);
        registers.write64(STRTAB_BASE, memory.address(Part::Directory));
        registers.write32(STRTAB_BASE_CFG, TWO_LEVELS | u32::from(SPLIT) << 6 | u32::from(bits));
        registers.write64(CMDQ_BASE, memory.address(Part::Commands) | u64::from(commands.bits()));
        registers.write32(CMDQ_PROD, commands.register());
        registers.write32(CMDQ_CONS, commands.register());
        registers.write64(EVENTQ_BASE, memory.address(Part::Events) | u64::from(events.bits()));
        registers.write32(EVENTQ_PROD, events.register());
        registers.write32(EVENTQ_CONS, events.register());
        // No interrupt is a message: an address that is left over would be written to.
        registers.write64(GERROR_IRQ_CFG0, 0);
        registers.write64(EVENTQ_IRQ_CFG0, 0);
    }

    /// Drops what it has cached.
    fn forget(&mut self, el2: bool) -> Result<(), Error> {
        self.give(Command::ForgetConfiguration);
        if el2 {
            self.give(Command::ForgetEl2);
        }
        self.give(Command::ForgetTranslations);
        self.give(Command::Sync);
        self.carry_out()
    }

    /// Puts a command into the queue, which is never full: [`Self::carry_out`] has emptied it since the last few.
    fn give(&mut self, command: Command) {
        for (word, value) in command.encode().into_iter().enumerate() {
            self.memory.write(Part::Commands, self.commands.entry() * COMMAND_WORDS + word, value);
        }
        self.commands = self.commands.next();
    }

    /// Lets it consume what was given.
    fn carry_out(&self) -> Result<(), Error> {
        self.memory.barrier();
        self.registers.write32(CMDQ_PROD, self.commands.register());
        poll(&self.registers, "SMMU_CMDQ_CONS", |registers| {
            self.commands.read(registers.read32(CMDQ_CONS)) == self.commands
                || self.active_errors() & COMMAND_ERROR != 0
        })?;
        match self.active_errors() & COMMAND_ERROR {
            0 => Ok(()),
            _ => Err(Error::Command((self.registers.read32(CMDQ_CONS) >> 24 & 0x7f) as u8)),
        }
    }

    /// Bits of `GERROR` that have not been acknowledged.
    fn active_errors(&self) -> u32 {
        self.registers.read32(GERROR) ^ self.registers.read32(GERRORN)
    }

    /// The next thing that it has to tell, if there is one. Whoever asks bounds how often.
    pub fn notice(&mut self) -> Option<Notice> {
        let errors = self.active_errors();
        if errors != 0 {
            self.registers.write32(GERRORN, self.registers.read32(GERRORN) ^ errors);
            return Some(Notice::Errors(errors));
        }
        let (produced, consumed) = (self.registers.read32(EVENTQ_PROD), self.registers.read32(EVENTQ_CONS));
        if self.events.read(produced) == self.events {
            return ((produced ^ consumed) & OVERFLOW != 0).then(|| {
                self.registers.write32(EVENTQ_CONS, self.events.register() | produced & OVERFLOW);
                Notice::Lost
            });
        }
        self.memory.barrier();
        let first = self.events.entry() * RECORD_WORDS;
        let record = core::array::from_fn(|word| self.memory.read(Part::Events, first + word));
        self.memory.barrier();
        self.events = self.events.next();
        self.registers.write32(EVENTQ_CONS, self.events.register() | consumed & OVERFLOW);
        Some(Notice::Fault(Fault::decode(record)))
    }

    /// Drops all events that wait. Whether that left the queue empty: only the step from empty to not empty makes an interrupt (section 3.18.2),
    /// so whoever leaves events there has to come back without one.
    #[must_use]
    pub fn discard(&mut self) -> bool {
        (0..DISCARDS).any(|_| {
            let produced = self.registers.read32(EVENTQ_PROD);
            self.events = self.events.read(produced);
            self.registers.write32(EVENTQ_CONS, self.events.register() | produced & OVERFLOW);
            self.events.read(self.registers.read32(EVENTQ_PROD)) == self.events
        })
    }
}

/// Lets nothing through, whatever an earlier stage of boot has set.
///
/// # Errors
/// [`Error::Silent`]; what passes then is unknown.
#[inline(never)]
pub fn stop(registers: &dyn Registers) -> Result<(), Error> {
    // GBPA may be written only while no earlier update of it is under way (section 6.3.14).
    let settled = |registers: &dyn Registers| registers.read32(GBPA) & UPDATE == 0;
    poll(registers, "SMMU_GBPA", settled)?;
    registers.write32(GBPA, registers.read32(GBPA) | ABORT | UPDATE);
    poll(registers, "SMMU_GBPA", settled)?;
    enable(registers, 0)?;
    update(registers, IRQ_CTRL, IRQ_CTRLACK, 0, "SMMU_IRQ_CTRLACK")
}

fn enable(registers: &dyn Registers, bits: u32) -> Result<(), Error> {
    update(registers, CR0, CR0ACK, bits, "SMMU_CR0ACK")
}

/// Writes a register whose new value is in force when its acknowledgement shows it (section 6.3).
fn update(
    registers: &dyn Registers,
    register: usize,
    acknowledgement: usize,
    value: u32,
    name: &'static str,
) -> Result<(), Error> {
    registers.write32(register, value);
    poll(registers, name, |registers| registers.read32(acknowledgement) == value)
}

fn poll(registers: &dyn Registers, name: &'static str, done: impl Fn(&dyn Registers) -> bool) -> Result<(), Error> {
    if (0..POLLS).any(|_| done(registers)) { Ok(()) } else { Err(Error::Silent(name)) }
}

fn check(features: &Features, shares: &[Share<'_>]) -> Result<(), Error> {
    let lacking = [
        (features.stage_2, "stage 2"),
        (features.aarch64_tables, "AArch64 tables"),
        (features.granule_4k, "4 KiB granule"),
        (features.two_levels, "stream table of two levels"),
        (!features.preset, "tables of our choice"),
        (features.little_endian, "little-endian tables"),
        (features.terminates, "way to end a transfer without stalling it"),
    ];
    match lacking.into_iter().find(|(has, _)| !has) {
        Some((_, what)) => Err(Error::Lacks(what)),
        None if shares.iter().any(|share| features.address_bits < share.translation.ipa_bits) => {
            Err(Error::AddressBits(features.address_bits))
        }
        None => Ok(()),
    }
}
