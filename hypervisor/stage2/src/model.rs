//! Model tests: the tables against a map of pages, walked by code of its own that reads raw entries as the hardware does.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use crate::table::Error;
use crate::{Access, Attributes, Ipa, MemoryType, PAGE_SIZE, PhysAddr, Shareability, Stage2, TableMemory};

const ROOT: u64 = 0x1_0000_0000;
const POOL: u64 = 0x2_0000_0000;
const VMID: u8 = 3;

/// What happened to tables, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Write(u64, u64),
    Publish,
}

/// Tables in a map of words, and a record of what was done to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    words: BTreeMap<u64, u64>,
    allocated: u64,
    limit: u64,
    pub(crate) events: Vec<Event>,
}

/// A handle for the tables, and one for the test.
#[derive(Clone, Debug)]
pub(crate) struct Shared(std::rc::Rc<std::cell::RefCell<World>>);

impl TableMemory for Shared {
    fn read(&self, table: PhysAddr, index: usize) -> u64 {
        self.0.borrow().words.get(&(table.0 + 8 * index as u64)).copied().unwrap_or(0)
    }

    fn write(&mut self, table: PhysAddr, index: usize, entry: u64) {
        let mut world = self.0.borrow_mut();
        let at = table.0 + 8 * index as u64;
        world.words.insert(at, entry);
        world.events.push(Event::Write(at, entry));
    }

    fn allocate(&mut self) -> Option<PhysAddr> {
        let mut world = self.0.borrow_mut();
        if world.allocated == world.limit {
            return None;
        }
        world.allocated += 1;
        Some(PhysAddr(POOL + world.allocated * PAGE_SIZE))
    }

    fn publish(&mut self) {
        self.0.borrow_mut().events.push(Event::Publish);
    }
}

impl Shared {
    pub(crate) fn new(limit: u64) -> Shared {
        Shared(std::rc::Rc::new(std::cell::RefCell::new(World { limit, ..World::default() })))
    }

    fn take_events(&self) -> Vec<Event> {
        core::mem::take(&mut self.0.borrow_mut().events)
    }

    /// `AArch64.S2Walk` in miniature: takes `VTCR_EL2`, `VTTBR_EL2` and memory, nothing from the code under test.
    fn hardware_walk(&self, vtcr: u64, vttbr: u64, ipa: u64) -> Option<(u64, u64)> {
        let input_bits = 64 - (vtcr & 0x3f);
        assert_eq!((vtcr >> 6 & 3, vtcr >> 14 & 3), (1, 0), "start level 1, 4 KiB granule");
        if ipa >> input_bits != 0 {
            return None;
        }
        let mut base = vttbr & 0xffff_ffff_f000;
        let (mut low, mut high) = (30, input_bits);
        loop {
            let index = ipa >> low & ((1 << (high - low)) - 1);
            let entry = self.0.borrow().words.get(&(base + index * 8)).copied().unwrap_or(0);
            let address = entry & 0xffff_ffff_f000;
            match (entry & 0b11, low) {
                (0b11, 12) | (0b01, 21 | 30) => {
                    let offset = ipa & ((1 << low) - 1);
                    assert_eq!(address & ((1 << low) - 1), 0, "the output address of a block is aligned to it");
                    assert_ne!(entry & 1 << 10, 0, "the access flag is set");
                    return Some((address | offset, entry & 0x0060_0000_0000_03fc));
                }
                (0b11, _) => (base, high, low) = (address, low, low - 9),
                _ => return None,
            }
        }
    }
}

fn tables(ipa_bits: u8, limit: u64) -> (Stage2<Shared>, Shared) {
    let world = Shared::new(limit);
    let stage2 = Stage2::new(ipa_bits, VMID, PhysAddr(ROOT), world.clone()).expect("valid arguments");
    (stage2, world)
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `len_bytes` at `ipa` mapped to the same address.
fn map(stage2: &mut Stage2<Shared>, ipa: u64, len_bytes: u64) -> Result<(), Error> {
    stage2.map(Ipa(ipa), PhysAddr(ipa), len_bytes, Attributes::RAM)
}

#[test]
fn what_is_not_whole_pages_inside_the_space_is_refused() {
    let (mut stage2, world) = tables(40, 100);
    let ram = Attributes::RAM;
    assert_eq!(map(&mut stage2, 0, 0), Err(Error::Length(0)));
    assert_eq!(map(&mut stage2, 0, 100), Err(Error::Length(100)));
    assert_eq!(map(&mut stage2, 0x800, 0x1000), Err(Error::MisalignedIpa(Ipa(0x800))));
    let misaligned = stage2.map(Ipa(0x1000), PhysAddr(0x800), 0x1000, ram);
    assert_eq!(misaligned, Err(Error::MisalignedPhysAddr(PhysAddr(0x800))));
    let end = (1 << 40) - PAGE_SIZE;
    assert_eq!(stage2.map(Ipa(end), PhysAddr(0), 2 * PAGE_SIZE, ram), Err(Error::BeyondIpaSize(Ipa(end))));
    let huge = u64::MAX - PAGE_SIZE + 1;
    assert_eq!(stage2.map(Ipa(PAGE_SIZE), PhysAddr(0), huge, ram), Err(Error::BeyondIpaSize(Ipa(PAGE_SIZE))));
    let beyond = stage2.map(Ipa(0), PhysAddr(1 << 48), PAGE_SIZE, ram);
    assert_eq!(beyond, Err(Error::BeyondPhysicalSize(PhysAddr(1 << 48))));
    assert_eq!(world.take_events(), []);
}

#[test]
fn an_overlap_is_refused_and_changes_nothing() {
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, 2 * MIB, 2 * MIB).expect("free");
    world.take_events();
    assert_eq!(map(&mut stage2, 0, 4 * MIB), Err(Error::AlreadyMapped(Ipa(2 * MIB))));
    assert_eq!(world.take_events(), []);
    assert_eq!(stage2.translate(Ipa(0)), None);
}

#[test]
fn running_out_of_tables_names_the_first_address_that_is_not_mapped() {
    // Two tables reach the first page; the pages behind 2 MiB need a third.
    let (mut stage2, _) = tables(40, 2);
    let from = 2 * MIB - PAGE_SIZE;
    assert_eq!(map(&mut stage2, from, 2 * PAGE_SIZE), Err(Error::OutOfTables(Ipa(2 * MIB))));
    assert_eq!(stage2.translate(Ipa(from)).map(|to| to.pa), Some(PhysAddr(from)));
    assert_eq!(stage2.translate(Ipa(2 * MIB)), None);
}

#[test]
fn roots_and_sizes_that_hardware_cannot_take_are_refused() {
    let world = Shared::new(0);
    let new = |bits, root| Stage2::new(bits, VMID, PhysAddr(root), world.clone()).map(|_| ());
    assert_eq!(new(31, ROOT), Err(Error::IpaBits(31)));
    assert_eq!(new(44, ROOT), Err(Error::IpaBits(44)));
    assert_eq!(new(40, ROOT + PAGE_SIZE), Err(Error::Root(PhysAddr(ROOT + PAGE_SIZE))));
    assert_eq!(new(39, ROOT + PAGE_SIZE), Ok(()));
}

#[test]
fn the_largest_blocks_that_fit_are_used() {
    let (mut stage2, _) = tables(40, 100);
    map(&mut stage2, GIB - 2 * MIB - PAGE_SIZE, PAGE_SIZE + 2 * MIB + GIB + PAGE_SIZE).expect("free");
    let size = |ipa| stage2.translate(Ipa(ipa)).map(|to| to.size_bytes);
    assert_eq!(size(GIB - 2 * MIB - PAGE_SIZE), Some(PAGE_SIZE));
    assert_eq!(size(GIB - 1), Some(2 * MIB));
    assert_eq!(size(2 * GIB - 1), Some(GIB));
    assert_eq!(size(2 * GIB), Some(PAGE_SIZE));
    assert_eq!(size(2 * GIB + PAGE_SIZE), None);
}

#[test]
fn a_physical_address_that_is_less_aligned_gives_smaller_blocks() {
    let (mut stage2, _) = tables(40, 100);
    stage2.map(Ipa(GIB), PhysAddr(GIB + 2 * MIB), GIB, Attributes::RAM).expect("free");
    assert_eq!(stage2.translate(Ipa(GIB)).map(|to| to.size_bytes), Some(2 * MIB));
}

#[test]
fn the_walk_reaches_the_last_concatenated_table() {
    let (mut stage2, world) = tables(43, 100);
    let top = (1 << 43) - PAGE_SIZE;
    map(&mut stage2, top, PAGE_SIZE).expect("free");
    let walked = world.hardware_walk(stage2.vtcr(5), stage2.vttbr(), top + 0x123);
    assert_eq!(walked.map(|(pa, _)| pa), Some(top + 0x123));
    assert_eq!(stage2.vttbr() >> 48, u64::from(VMID));
    assert_eq!(stage2.translate(Ipa(1 << 43)), None);
}

/// One step of the model test, in pages: where, whereto, how many, how.
type Step = (u64, u64, u64, Attributes);

fn attributes() -> impl Strategy<Value = Attributes> {
    let memory = prop_oneof![
        Just(MemoryType::NormalWriteBack),
        Just(MemoryType::NormalNonCacheable),
        Just(MemoryType::DeviceNGnRE)
    ];
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let shareability = prop_oneof![Just(Shareability::Inner), Just(Shareability::Outer)];
    (memory, access, any::<bool>(), shareability).prop_map(|(memory, access, executable, shareability)| Attributes {
        memory,
        access,
        executable,
        shareability,
    })
}

/// Addresses near the boundaries of 2 MiB and of 1 GiB blocks, inside 2 GiB around the border of the first two root tables.
fn page() -> impl Strategy<Value = u64> {
    let near = prop_oneof![Just(0_u64), Just(512), Just(1024), Just(262_144 - 512), Just(262_144), Just(262_144 + 512)];
    (near, 0..4_u64).prop_map(|(near, more)| BASE + near + more)
}

const BASE: u64 = (512 - 1) * 262_144;

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1..4_u64, Just(512), Just(513), Just(1024), 500..530_u64]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let to = prop_oneof![Just(0_u64), Just(512), 0..4_u64];
    let step = (page(), to, length(), attributes()).prop_map(|(ipa, to, pages, how)| (ipa, ipa + to, pages, how));
    prop::collection::vec(step, 1..24)
}

type Pages = BTreeMap<u64, (u64, Attributes)>;

/// What the step does to a map of pages, and whether it should succeed.
fn expect(model: &mut Pages, &(ipa, pa, pages, attributes): &Step) -> bool {
    let free = (ipa..ipa + pages).all(|page| !model.contains_key(&page));
    if free {
        model.extend((0..pages).map(|page| (ipa + page, (pa + page, attributes))));
    }
    free
}

fn perform(stage2: &mut Stage2<Shared>, &(ipa, pa, pages, attributes): &Step) -> Result<(), Error> {
    stage2.map(Ipa(ipa * PAGE_SIZE), PhysAddr(pa * PAGE_SIZE), pages * PAGE_SIZE, attributes)
}

/// Compares the tables with the model on every page that either could hold.
fn compare(stage2: &Stage2<Shared>, world: &Shared, model: &Pages) {
    let (vtcr, vttbr) = (stage2.vtcr(5), stage2.vttbr());
    for near in [0, 512, 1024, 262_144 - 512, 262_144, 262_144 + 512] {
        for page in (BASE + near).saturating_sub(2)..BASE + near + 1100 {
            let ipa = page * PAGE_SIZE + 8;
            let walked = world.hardware_walk(vtcr, vttbr, ipa);
            let expected =
                model.get(&page).map(|(pa, attributes)| (pa * PAGE_SIZE + 8, attributes.bits() & !(1 << 10)));
            assert_eq!(walked, expected, "page {page:#x}");
            let translated = stage2.translate(Ipa(ipa)).map(|to| (to.pa.0, to.attributes.bits() & !(1 << 10)));
            assert_eq!(translated, expected);
        }
    }
}

/// No TLB ever holds what the tables do not say, told from the events alone: an entry that is valid stays as it is, what a walk could find of a
/// new table is visible before the way to it, and at the end of a call all is.
fn follow(words: &mut BTreeMap<u64, u64>, events: &[Event]) {
    let mut hidden = Vec::new();
    for event in events {
        match *event {
            Event::Write(at, entry) => {
                assert_eq!(words.insert(at, entry).unwrap_or(0) & 1, 0, "{at:#x} was valid and became {entry:#x}");
                let table = entry & 0xffff_ffff_f000;
                let leads_to = |at: &u64| entry & 0b11 == 0b11 && at & !0xfff == table;
                assert!(!hidden.iter().any(leads_to), "{entry:#x} leads to what is not visible");
                hidden.push(at);
            }
            Event::Publish => hidden.clear(),
        }
    }
    assert!(hidden.is_empty(), "{hidden:x?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn tables_agree_with_a_map_of_pages(steps in steps()) {
        let (mut stage2, world) = tables(40, 4000);
        let (mut model, mut words) = (Pages::new(), BTreeMap::new());
        for step in &steps {
            let expected = expect(&mut model, step);
            prop_assert_eq!(perform(&mut stage2, step).is_ok(), expected, "{:?}", step);
            follow(&mut words, &world.take_events());
        }
        compare(&stage2, &world, &model);
    }

    #[test]
    fn a_refusal_for_want_of_tables_loses_nothing(steps in steps(), limit in 0..6_u64) {
        let (mut stage2, world) = tables(40, limit);
        let (mut model, mut words) = (Pages::new(), BTreeMap::new());
        for step in &steps {
            let mut after = model.clone();
            let expected = expect(&mut after, step);
            match perform(&mut stage2, step) {
                Ok(()) => model = after,
                Err(Error::OutOfTables(reached)) => {
                    let &(ipa, pa, _, attributes) = step;
                    model.extend((0..reached.0 / PAGE_SIZE - ipa).map(|page| (ipa + page, (pa + page, attributes))));
                }
                Err(other) => prop_assert!(!expected, "{:?}: {:?}", step, other),
            }
            follow(&mut words, &world.take_events());
        }
        compare(&stage2, &world, &model);
    }
}
