//! A naive bus, and what the general domain can make of it.

use core::cell::RefCell;
use core::ops::Range;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use crate::{Configuration, Endpoint, Filter, Function, Refusal, start, stop, survey};

const WINDOW: Range<u64> = 0x3ec0_0000..0x3eff_0000;

/// A function of the model: the bits of its words that can be written.
#[derive(Clone)]
struct Device {
    words: [u32; 64],
    writable: [u32; 64],
}

impl Device {
    /// `vendor`, with these registers: offset, kind bits, bytes.
    fn new(registers: &[(usize, u32, u64)]) -> Device {
        let mut device = Device { words: [0; 64], writable: [0; 64] };
        device.words[0] = 0x1042_1af4;
        device.words[0x3c / 4] = 1 << 8;
        // The command register: ports, memory, master, interrupt disable.
        device.writable[1] = 0x407;
        for (at, kind, bytes) in registers {
            let mask = !(bytes - 1);
            device.words[at / 4] = *kind;
            device.writable[at / 4] = mask as u32 & !0xf;
            if kind & 0b110 == 0b100 {
                device.writable[at / 4 + 1] = (mask >> 32) as u32;
            }
            if *at == 0x30 {
                device.writable[at / 4] = mask as u32 | 1;
            }
        }
        device
    }

    /// A function level reset.
    fn reset(&mut self) {
        for (word, writable) in self.words.iter_mut().zip(self.writable) {
            *word &= !writable;
        }
    }

    /// What it answers at (PCI Local Bus 3.0, section 6.2.5), naively.
    fn decodes(&self, registers: &[(usize, u32, u64)]) -> Vec<Range<u64>> {
        if self.words[1] & 2 == 0 {
            return Vec::new();
        }
        let decodes =
            |(at, kind, _): &&(usize, u32, u64)| kind & 1 == 0 && (*at != 0x30 || self.words[0x30 / 4] & 1 != 0);
        let range = |(at, kind, bytes): &(usize, u32, u64)| {
            let low = u64::from(self.words[at / 4] & !0xf);
            let high = if kind & 0b110 == 0b100 { u64::from(self.words[at / 4 + 1]) << 32 } else { 0 };
            let base = (high | low) & !(bytes - 1);
            base..base.saturating_add(*bytes)
        };
        registers.iter().filter(decodes).map(range).collect()
    }
}

#[derive(Default)]
struct Bus(RefCell<BTreeMap<Function, Device>>);

impl Bus {
    fn change(&self, function: Function, at: usize, mask: u32, value: u32) {
        let mut devices = self.0.borrow_mut();
        let Some(device) = devices.get_mut(&function) else { return };
        let mask = mask & device.writable[at / 4];
        device.words[at / 4] = device.words[at / 4] & !mask | value & mask;
    }
}

impl Configuration for Bus {
    fn read32(&self, function: Function, offset: usize) -> u32 {
        self.0.borrow().get(&function).map_or(u32::MAX, |device| device.words[offset / 4])
    }

    fn write8(&self, function: Function, offset: usize, value: u8) {
        let shift = 8 * (offset & 3);
        self.change(function, offset & !3, 0xff << shift, u32::from(value) << shift);
    }

    fn write16(&self, function: Function, offset: usize, value: u16) {
        let shift = 8 * (offset & 3);
        self.change(function, offset & !3, 0xffff << shift, u32::from(value) << shift);
    }

    fn write32(&self, function: Function, offset: usize, value: u32) {
        self.change(function, offset, u32::MAX, value);
    }
}

fn function(device: u8, number: u8) -> Function {
    Function::new(device, number).expect("there are such")
}

const DISK: [(usize, u32, u64); 2] = [(0x14, 0, 0x1000), (0x20, 0xc, 0x4000)];
const OTHER: [(usize, u32, u64); 4] =
    [(0x10, 0, 0x10_0000), (0x14, 1, 0x20), (0x18, 0xc, 0x100_0000), (0x30, 0, 0x4_0000)];

fn bus(devices: impl IntoIterator<Item = (Function, Device)>) -> Bus {
    Bus(RefCell::new(devices.into_iter().collect()))
}

fn two() -> Bus {
    bus([(function(1, 0), Device::new(&OTHER)), (function(3, 0), Device::new(&DISK))])
}

fn filter(bus: &Bus) -> Filter {
    let found = survey(bus, &[function(3, 0)]).expect("it is sound");
    let own = found.into_iter().filter(|endpoint| endpoint.function != function(3, 0));
    Filter::new(own, WINDOW, |_| false)
}

fn with(bus: &Bus, function: Function, word: usize, value: u32) -> Result<Vec<Endpoint>, Refusal> {
    bus.0.borrow_mut().get_mut(&function).expect("it is there").words[word] |= value;
    survey(bus, &[self::function(3, 0)])
}

#[test]
fn a_bus_that_cannot_be_shared_out_is_refused() {
    let (other, disk) = (function(1, 0), function(3, 0));
    assert_eq!(with(&two(), other, 3, 1 << 16), Err(Refusal::Bridge(other)));
    assert_eq!(with(&two(), disk, 3, 2 << 16), Err(Refusal::Bridge(disk)));
    assert_eq!(survey(&bus([]), &[disk]), Err(Refusal::Missing(disk)));
    // Without its first function a device has none.
    assert_eq!(
        survey(&bus([(function(3, 1), Device::new(&DISK))]), &[function(3, 1)]),
        Err(Refusal::Missing(function(3, 1)))
    );
    let several = bus([(disk, Device::new(&DISK)), (function(3, 5), Device::new(&DISK))]);
    assert_eq!(with(&several, disk, 3, 0x80 << 16), Err(Refusal::NotAlone(disk)));
}

#[test]
fn a_function_whose_addresses_are_not_known_is_refused() {
    let disk = function(3, 0);
    let kind = |registers: &[(usize, u32, u64)]| survey(&bus([(disk, Device::new(registers))]), &[disk]);
    assert_eq!(kind(&[(0x10, 0b010, 0x1000)]), Err(Refusal::Register(disk, 0x10)));
    assert_eq!(kind(&[(0x24, 0b100, 0x1000)]), Err(Refusal::Register(disk, 0x24)));
    let bus = two();
    bus.0.borrow_mut().get_mut(&disk).expect("it is there").words[0x34 / 4] = 0x40;
    bus.0.borrow_mut().get_mut(&disk).expect("it is there").words[1] = 1 << 20;
    assert_eq!(with(&bus, disk, 0x40 / 4, 0x14), Err(Refusal::Fixed(disk)));
}

#[test]
fn capabilities_without_end_are_no_hang() {
    let bus = two();
    bus.0.borrow_mut().get_mut(&function(1, 0)).expect("it is there").words[0x34 / 4] = 0x40;
    bus.0.borrow_mut().get_mut(&function(1, 0)).expect("it is there").words[1] = 1 << 20;
    assert!(with(&bus, function(1, 0), 0x40 / 4, 0x4001).is_ok());
}

#[test]
fn registers_that_do_not_fit_are_refused() {
    let bus = two();
    let found = survey(&bus, &[]).expect("it is sound");
    assert_eq!(found[1].place(&bus, 0x1000_0000..0x1000_4000), Err(Refusal::TooLarge(function(3, 0), 0x1000)));
    assert_eq!(found[0].place(&bus, WINDOW), Err(Refusal::TooLarge(function(1, 0), 0x100_0000)));
    assert_eq!(found[0].place(&bus, u64::MAX - 5..u64::MAX), Err(Refusal::TooLarge(function(1, 0), 0x100_0000)));
}

#[test]
fn a_disk_answers_in_its_window_alone() {
    let (bus, disk) = (two(), function(3, 0));
    let found = survey(&bus, &[disk]).expect("it is sound");
    assert_eq!(found[1].place(&bus, WINDOW), Ok(WINDOW.start + 0x5000..WINDOW.end));
    assert!(bus.0.borrow()[&disk].decodes(&DISK).is_empty(), "not before it is started");
    start(&bus, disk);
    let decoded = bus.0.borrow()[&disk].decodes(&DISK);
    assert_eq!(decoded, [WINDOW.start + 0x4000..WINDOW.start + 0x5000, WINDOW.start..WINDOW.start + 0x4000]);
    assert_eq!(bus.read32(disk, 4) & 0x407, 0b110, "it may interrupt");
    assert!(stop(&bus, disk));
    assert_eq!(bus.read32(disk, 4) & 0x407, 0x400);
    assert!(!stop(&bus, function(4, 0)), "what is gone has taken note of nothing");
}

#[test]
fn a_survey_changes_no_address_and_silences_all() {
    let bus = two();
    for (at, value) in [(0x10, 0x1230_0000), (0x18, 0), (0x1c, 0x77), (4, 7)] {
        bus.write32(function(1, 0), at, value);
    }
    let before = bus.0.borrow()[&function(1, 0)].words;
    assert!(survey(&bus, &[]).is_ok());
    let after = bus.0.borrow()[&function(1, 0)].words;
    assert_eq!((before[4..16].to_vec(), after[1] & 0x407), (after[4..16].to_vec(), 0x400));
}

#[test]
fn what_is_not_the_domains_is_not_written() {
    let (bus, other, disk) = (two(), function(1, 0), function(3, 0));
    let filter = filter(&bus);
    for refused in
        [(disk, 4, 2), (function(2, 0), 4, 2), (other, 0x100, 4), (other, 4, 8), (other, 5, 2), (other, 0xfff, 1)]
    {
        let (function, offset, size) = refused;
        assert!(!filter.write(&bus, function, offset, size, 6), "{refused:?}");
    }
    assert_eq!(filter.functions().collect::<Vec<_>>(), [other]);
    assert!(filter.write(&bus, other, 4, 2, 6));
    assert_eq!(bus.read32(other, 4) & 0x407, 6);
}

#[test]
fn a_function_whose_line_is_anothers_raises_no_interrupt() {
    let (bus, other) = (two(), function(1, 0));
    let found = survey(&bus, &[]).expect("it is sound");
    let filter = Filter::new(found, WINDOW, |endpoint| endpoint.pin == 1);
    for (offset, size, value) in [(4, 2, 6), (5, 1, 0), (4, 4, 7), (4, 1, 6)] {
        assert!(filter.write(&bus, other, offset, size, value));
        assert_eq!(bus.read32(other, 4) & 0x400, 0x400);
    }
    assert_eq!(bus.read32(other, 4) & 7, 6);
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Store(usize, usize, u64),
    Reset,
}

fn act() -> impl Strategy<Value = Act> {
    let values = prop_oneof![
        any::<u32>().prop_map(u64::from),
        (0..0x1000u64).prop_map(|page| 0x3e00_0000 + (page << 12)),
        Just(0),
        Just(2),
        Just(6),
        Just(0xffff_ffff),
        Just(0x3ec0_0001),
    ];
    let places = prop_oneof![Just(4usize), Just(0x10), Just(0x18), Just(0x1c), Just(0x30), 0..0x40usize];
    prop_oneof![
        20 => (places, 0..3u32, values).prop_map(|(at, size, value)| Act::Store(at & !((1 << size) - 1), 1 << size, value)),
        1 => Just(Act::Reset),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_no_function_answers_in_the_window(acts in prop::collection::vec(act(), 0..80)) {
        let (bus, other) = (two(), function(1, 0));
        let filter = filter(&bus);
        for act in acts {
            let mut free = bus.0.borrow()[&other].clone();
            match act {
                Act::Reset => bus.0.borrow_mut().get_mut(&other).expect("it is there").reset(),
                Act::Store(at, size, value) => {
                    let naive = self::bus([(other, free.clone())]);
                    match size {
                        1 => naive.write8(other, at, value as u8),
                        2 => naive.write16(other, at, value as u16),
                        _ => naive.write32(other, at, value as u32),
                    }
                    free = naive.0.borrow()[&other].clone();
                    let harmless = apart(&free);
                    let done = filter.write(&bus, other, at, size, value);
                    prop_assert_eq!(done, harmless);
                    if done {
                        prop_assert_eq!(bus.0.borrow()[&other].words, free.words);
                    }
                }
            }
            prop_assert!(apart(&bus.0.borrow()[&other]));
        }
    }
}

fn apart(device: &Device) -> bool {
    device.decodes(&OTHER).iter().all(|range| range.end <= WINDOW.start || WINDOW.end <= range.start)
}
