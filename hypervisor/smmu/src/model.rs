//! A naive SMMU, and what the driver makes of it.

use core::cell::RefCell;
use core::ops::Range;
use std::collections::HashMap;
use std::rc::Rc;
use std::vec::Vec;

use proptest::prelude::*;

use crate::driver::{QUEUE_WORDS, offset::*};
use crate::stream::{DIRECTORY_WORDS, ENTRY_WORDS, TABLE_WORDS};
use crate::{Cause, Error, Fault, Memory, Notice, Part, Registers, Smmu, TABLES, Translation};

const DOMAIN: Translation = Translation { root: 0x4010_0000, vmid: 1, ipa_bits: 40, ps: 2 };
/// All that QEMU's has, with 16-bit streams and 44-bit addresses.
const IDR0: u32 = 1 | 1 << 3 | 1 << 4 | 1 << 27;
const IDR1: u32 = 16 | 19 << 16 | 19 << 21;
const IDR5: u32 = 4 | 1 << 4;

const GLOBAL_ABORT: u32 = 1 << 20;
const UPDATE: u32 = 1 << 31;

/// Registers and memory as the SMMU has them.
#[derive(Default)]
struct World {
    registers: HashMap<usize, u32>,
    wide: HashMap<usize, u64>,
    memory: HashMap<u64, u64>,
    /// Opcodes of the commands that were carried out.
    commands: Vec<u8>,
    /// A register whose acknowledgement never comes.
    deaf: Option<usize>,
    /// The error that ends every command.
    refuses: Option<u32>,
    /// Barriers that the driver has asked for.
    barriers: usize,
}

/// What becomes of a transfer.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Bypass,
    Abort,
    Unknown,
    Stage2 { root: u64, vmid: u16, t0sz: u32 },
}

impl World {
    fn get(&self, register: usize) -> u32 {
        self.registers.get(&register).copied().unwrap_or(0)
    }

    fn word(&self, address: u64) -> u64 {
        self.memory.get(&address).copied().unwrap_or(0)
    }

    fn write(&mut self, register: usize, value: u32) {
        if self.deaf == Some(register) {
            if register == GBPA {
                self.registers.insert(GBPA, value);
            }
            return;
        }
        self.registers.insert(register, value);
        match register {
            CR0 => drop(self.registers.insert(CR0ACK, value)),
            IRQ_CTRL => drop(self.registers.insert(IRQ_CTRLACK, value)),
            GBPA => drop(self.registers.insert(GBPA, value & !UPDATE)),
            // An active error stops the queue.
            CMDQ_PROD if self.get(CR0) & 1 << 3 != 0 && (self.get(GERROR) ^ self.get(GERRORN)) & 1 == 0 => {
                self.consume(value);
            }
            _ => {}
        }
    }

    fn consume(&mut self, produced: u32) {
        let base = self.wide[&CMDQ_BASE];
        let bits = base & 0x1f;
        let mut consumed = self.get(CMDQ_CONS);
        while consumed != produced {
            if let Some(error) = self.refuses {
                self.registers.insert(CMDQ_CONS, consumed | error << 24);
                let flipped = self.get(GERROR) ^ 1;
                self.registers.insert(GERROR, flipped);
                return;
            }
            let entry = u64::from(consumed) & ((1 << bits) - 1);
            let word = self.word((base & !0x1f) + 16 * entry);
            self.commands.push(word as u8);
            consumed = (consumed + 1) & ((2 << bits) - 1);
        }
        self.registers.insert(CMDQ_CONS, consumed);
    }

    /// IHI 0070, section 3.3: from a stream to what translates it.
    fn fate(&self, stream: u32) -> Fate {
        if self.get(CR0) & 1 == 0 {
            return if self.get(GBPA) & GLOBAL_ABORT != 0 { Fate::Abort } else { Fate::Bypass };
        }
        let config = self.get(STRTAB_BASE_CFG);
        let (size, split) = (config & 0x3f, config >> 6 & 0x1f);
        assert_eq!(config >> 16 & 0b11, 1, "two levels");
        if stream >= 1 << size {
            return Fate::Unknown;
        }
        let descriptor = self.word(self.wide[&STRTAB_BASE] + 8 * u64::from(stream >> split));
        let (span, table) = (descriptor & 0x1f, descriptor & !0x3f);
        let place = u64::from(stream & ((1 << split) - 1));
        if span == 0 || place >= 1 << (span - 1) {
            return Fate::Unknown;
        }
        let entry = table + place * 64;
        let [first, _, third, root] = core::array::from_fn(|word| self.word(entry + 8 * word as u64));
        match (first & 1, first >> 1 & 0b111) {
            (1, 0b110) => Fate::Stage2 { root, vmid: third as u16, t0sz: (third >> 32 & 0x3f) as u32 },
            (1, 0b000) => Fate::Abort,
            (1, _) => Fate::Bypass,
            _ => Fate::Unknown,
        }
    }

    /// The SMMU writes a record; without room it raises the overflow flag.
    fn record(&mut self, record: [u64; 4]) {
        let base = self.wide[&EVENTQ_BASE];
        let bits = base & 0x1f;
        let mask = (2 << bits) - 1;
        let (produced, consumed) = (self.get(EVENTQ_PROD), self.get(EVENTQ_CONS));
        if (produced ^ consumed) & mask as u32 == 1 << bits {
            if (produced ^ consumed) & 1 << 31 == 0 {
                self.registers.insert(EVENTQ_PROD, produced ^ 1 << 31);
            }
            return;
        }
        let entry = u64::from(produced) & ((1 << bits) - 1);
        for (word, value) in record.into_iter().enumerate() {
            self.memory.insert((base & !0x1f) + 32 * entry + 8 * word as u64, value);
        }
        let next = (produced + 1) & mask as u32 | produced & 1 << 31;
        self.registers.insert(EVENTQ_PROD, next);
    }
}

#[derive(Clone)]
struct Shared(Rc<RefCell<World>>);

impl Registers for Shared {
    fn read32(&self, offset: usize) -> u32 {
        self.0.borrow().get(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.0.borrow_mut().write(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.0.borrow_mut().wide.insert(offset, value);
    }
}

impl Memory for Shared {
    fn address(&self, part: Part) -> u64 {
        match part {
            Part::Directory => 0x1_0000,
            Part::Commands => 0x2_0000,
            Part::Events => 0x3_0000,
            Part::Table(table) => 0x10_0000 + 0x1_0000 * table as u64,
        }
    }

    fn read(&self, part: Part, word: usize) -> u64 {
        self.0.borrow().word(self.address(part) + 8 * word as u64)
    }

    fn write(&mut self, part: Part, word: usize, value: u64) {
        let words = match part {
            Part::Directory => DIRECTORY_WORDS,
            Part::Table(table) => {
                assert!(table < TABLES);
                TABLE_WORDS
            }
            Part::Commands | Part::Events => QUEUE_WORDS,
        };
        assert!(word < words, "{part:?} has {words} words");
        self.0.borrow_mut().memory.insert(self.address(part) + 8 * word as u64, value);
    }

    fn barrier(&self) {
        self.0.borrow_mut().barriers += 1;
    }
}

/// An SMMU that lets everything through, as after a reset.
fn world() -> Shared {
    let mut world = World::default();
    world.registers.extend([(0x00, IDR0), (0x04, IDR1), (0x14, IDR5)]);
    Shared(Rc::new(RefCell::new(world)))
}

type Started = Result<Smmu<Shared, Shared>, Error>;

fn start(world: &Shared, streams: &[Range<u32>]) -> Started {
    Smmu::start(world.clone(), world.clone(), streams, DOMAIN)
}

fn start_one(world: &Shared, streams: Range<u32>) -> Started {
    start(world, core::slice::from_ref(&streams))
}

fn stage_2() -> Fate {
    Fate::Stage2 { root: DOMAIN.root, vmid: 1, t0sz: 24 }
}

#[test]
fn an_smmu_without_what_is_needed_is_refused_and_stops_everything() {
    let cases = [
        (0x00, IDR0 & !1, Error::Lacks("stage 2")),
        (0x00, IDR0 & !(1 << 3), Error::Lacks("AArch64 tables")),
        (0x00, IDR0 & !(1 << 27), Error::Lacks("stream table of two levels")),
        (0x04, IDR1 | 1 << 30, Error::Lacks("tables of our choice")),
        (0x00, IDR0 | 0b11 << 21, Error::Lacks("little-endian tables")),
        (0x00, IDR0 | 0b10 << 24, Error::Lacks("way to end a transfer without stalling it")),
        (0x14, 4, Error::Lacks("4 KiB granule")),
        (0x14, 1 << 4, Error::AddressBits(32)),
    ];
    for (register, value, error) in cases {
        let world = world();
        world.0.borrow_mut().registers.insert(register, value);
        assert_eq!(start_one(&world, 0..16).err(), Some(error));
        assert_eq!(world.0.borrow().fate(3), Fate::Abort);
    }
}

#[test]
fn an_smmu_that_does_not_answer_is_given_up() {
    for (register, name) in [(GBPA, "SMMU_GBPA"), (CR0, "SMMU_CR0ACK"), (CMDQ_PROD, "SMMU_CMDQ_CONS")] {
        let world = world();
        world.0.borrow_mut().deaf = Some(register);
        world.0.borrow_mut().registers.insert(CR0ACK, 0xff);
        assert_eq!(start_one(&world, 0..16).err(), Some(Error::Silent(name)), "{name}");
    }
}

#[test]
fn a_refused_command_is_told_with_its_reason() {
    let world = world();
    world.0.borrow_mut().refuses = Some(2);
    assert_eq!(start_one(&world, 0..16).err(), Some(Error::Command(2)));
    assert_eq!(world.0.borrow().fate(3), Fate::Abort);
}

#[test]
fn streams_that_are_spread_too_far_are_refused() {
    let world = world();
    assert_eq!(start(&world, &[1..2, 257..258, 513..514, 769..770]).err(), Some(Error::TooManyTables));
    assert_eq!(world.0.borrow().fate(1), Fate::Abort);
}

#[test]
fn nothing_passes_before_the_tables_are_in_force() {
    let world = world();
    assert_eq!(world.0.borrow().fate(0), Fate::Bypass);
    let smmu = start_one(&world, 0..0x1_0000);
    assert!(smmu.is_ok());
    assert_eq!(world.0.borrow().commands, [0x04, 0x30, 0x46]);
    assert!(world.0.borrow().barriers >= 2);
    // Whoever turned it off again would let nothing through.
    assert_ne!(world.0.borrow().get(GBPA) & GLOBAL_ABORT, 0);
}

#[test]
fn what_is_held_ends_and_is_let_through_again() {
    let world = world();
    let mut smmu = start(&world, &[0..0x100, 0x210..0x220]).unwrap();
    world.0.borrow_mut().commands.clear();
    smmu.hold().unwrap();
    for stream in [0, 0xff, 0x210, 0x21f] {
        assert_eq!(world.0.borrow().fate(stream), Fate::Abort);
    }
    assert_eq!(world.0.borrow().fate(0x220), Fate::Unknown);
    assert_eq!(world.0.borrow().commands, [0x04, 0x30, 0x46], "nothing is left in its caches");
    smmu.release().unwrap();
    for stream in [0, 0xff, 0x210, 0x21f] {
        assert_eq!(world.0.borrow().fate(stream), stage_2());
    }
    assert_eq!(world.0.borrow().fate(0x220), Fate::Unknown);
    world.0.borrow_mut().refuses = Some(1);
    assert!(matches!(smmu.hold(), Err(Error::Command(1))));
}

#[test]
fn what_a_device_has_had_translated_is_checked_all_the_same() {
    let world = world();
    assert!(start_one(&world, 0..16).is_ok());
    assert_eq!(world.0.borrow().get(CR0), 0b1101, "RES0 without ATS");
    world.0.borrow_mut().registers.insert(0x00, IDR0 | 1 << 10);
    assert!(start_one(&world, 0..16).is_ok());
    assert_eq!(world.0.borrow().get(CR0), 0b1_1101);
}

#[test]
fn no_interrupt_is_a_message_to_an_address_that_was_left_over() {
    let world = world();
    world.0.borrow_mut().wide.extend([(GERROR_IRQ_CFG0, 0x4020_0000), (EVENTQ_IRQ_CFG0, 0x4020_0000)]);
    assert!(start_one(&world, 0..16).is_ok());
    assert_eq!([GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0].map(|register| world.0.borrow().wide[&register]), [0, 0]);
}

#[test]
fn an_error_that_was_left_over_stops_no_command() {
    let world = world();
    world.0.borrow_mut().registers.insert(GERROR, 1);
    assert!(start_one(&world, 0..16).is_ok());
}

#[test]
fn streams_beyond_the_table_are_stopped() {
    let world = world();
    assert!(start_one(&world, 0xff00..0x1_0100).is_ok());
    assert_eq!(world.0.borrow().fate(0xffff), stage_2());
    assert_eq!(world.0.borrow().fate(0x1_0000), Fate::Unknown);
}

#[test]
fn what_is_discarded_makes_room_for_the_next_interrupt() {
    let world = world();
    let mut smmu = start_one(&world, 0..16).expect("the model has all");
    for _ in 0..200 {
        world.0.borrow_mut().record([0x02, 0, 0, 0]);
    }
    assert!(smmu.notice().is_some());
    assert!(smmu.discard());
    assert_eq!(smmu.notice(), None);
    assert_eq!(world.0.borrow().get(EVENTQ_PROD), world.0.borrow().get(EVENTQ_CONS));
}

#[test]
fn what_an_earlier_stage_left_in_the_tlb_of_el2_is_dropped() {
    let world = world();
    world.0.borrow_mut().registers.insert(0x00, IDR0 | 1 << 9);
    assert!(start(&world, &[]).is_ok());
    assert_eq!(world.0.borrow().commands, [0x04, 0x20, 0x30, 0x46]);
}

#[test]
fn a_whole_bus_costs_one_table() {
    let world = world();
    assert!(start_one(&world, 0..0x1_0000).is_ok());
    for stream in [0, 1, 255, 256, 0x8000, 0xffff] {
        assert_eq!(world.0.borrow().fate(stream), stage_2());
    }
    assert_eq!(world.0.borrow().fate(0x1_0000), Fate::Unknown);
    let pointers: Vec<_> = (0..256).map(|index| world.0.borrow().word(0x1_0000 + 8 * index) & !0x3f).collect();
    assert!(pointers.iter().all(|table| *table == pointers[0]));
}

#[test]
fn an_entry_is_spelt_as_the_manual_does() {
    let entry = crate::stream::entry(DOMAIN, true);
    // S2R, S2AFFD, S2AA64, S2PS=40 bits, S2SH0=inner, S2OR0=S2IR0=write-back, S2SL0=level 1, S2T0SZ=24.
    assert_eq!(entry[..4], [0xd, 1 << 44, 0x042a_3558_0000_0001, DOMAIN.root]);
    let uncached = crate::stream::entry(DOMAIN, false);
    assert_eq!(uncached[2] >> 40 & 0x3f, 0b10_0000, "non-cacheable, outer shareable");
    assert_eq!(entry[4..], [0; ENTRY_WORDS - 4]);
}

#[test]
fn a_translation_is_that_of_the_cores() {
    assert_eq!(Translation::of(0x8002_3558, 1 << 48 | 0x4010_0000), DOMAIN);
}

#[test]
fn faults_are_told_in_their_order() {
    let world = world();
    let mut smmu = start_one(&world, 0..16).expect("the model has all");
    assert_eq!(smmu.notice(), None);
    for stream in 0..300_u64 {
        world.0.borrow_mut().record([stream << 32 | 0x10, 0, 0x1000 * stream, 0]);
        let Some(Notice::Fault(Fault { stream: told, cause, access })) = smmu.notice() else { panic!("a fault") };
        assert_eq!((u64::from(told), cause), (stream, Cause::NotMapped));
        assert!(access.is_some_and(|access| access.write && access.address == 0x1000 * stream));
        assert_eq!(smmu.notice(), None);
    }
}

#[test]
fn a_full_queue_is_read_and_then_told() {
    let world = world();
    let mut smmu = start_one(&world, 0..16).expect("the model has all");
    for round in 0..3 {
        for _ in 0..130 {
            world.0.borrow_mut().record([0x02, 0, 0, 0]);
        }
        let told: Vec<_> = core::iter::from_fn(|| smmu.notice()).collect();
        assert_eq!((told.len(), told.last()), (129, Some(&Notice::Lost)), "round {round}");
    }
}

#[test]
fn errors_of_its_own_are_told_once() {
    let world = world();
    let mut smmu = start_one(&world, 0..16).expect("the model has all");
    world.0.borrow_mut().registers.insert(GERROR, 1 << 2);
    assert_eq!(smmu.notice(), Some(Notice::Errors(1 << 2)));
    assert_eq!(smmu.notice(), None);
}

proptest! {
    #[test]
    fn streams_pass_as_a_set_of_them_says(
        ranges in prop::collection::vec((0..1024_u32, 1..600_u32), 0..4),
        probes in prop::collection::vec(0..2048_u32, 64),
    ) {
        let world = world();
        let streams: Vec<_> = ranges.iter().map(|(base, length)| *base..base + length).collect();
        match start(&world, &streams) {
            Ok(_) => for stream in probes.into_iter().chain(streams.iter().flat_map(|range| [range.start, range.end])) {
                let given = streams.iter().any(|range| range.contains(&stream));
                prop_assert_eq!(world.0.borrow().fate(stream), if given { stage_2() } else { Fate::Unknown });
            },
            Err(error) => {
                prop_assert_eq!(error, Error::TooManyTables);
                prop_assert_eq!(world.0.borrow().fate(0), Fate::Abort);
            }
        }
    }
}
