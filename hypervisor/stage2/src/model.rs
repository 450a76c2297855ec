//! Model tests: the tables against a map of pages, walked by code of its own that reads raw entries as the hardware does.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use crate::maintenance::Operation;
use crate::table::Error;
use crate::{Access, Attributes, Ipa, Maintenance, MemoryType, PAGE_SIZE, PhysAddr, Shareability, Stage2, TableMemory};

const ROOT: u64 = 0x1_0000_0000;
const POOL: u64 = 0x2_0000_0000;
const VMID: u8 = 3;

/// What happened to tables and TLBs, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Write(u64, u64),
    Tlb(Operation),
}

/// Tables in a map of words, and a record of what was done to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    words: BTreeMap<u64, u64>,
    allocated: u64,
    limit: u64,
    pub(crate) events: Vec<Event>,
}

/// One handle for tables, one for maintenance: both record into the same world.
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
}

impl Maintenance for Shared {
    fn issue(&mut self, operation: Operation) {
        self.0.borrow_mut().events.push(Event::Tlb(operation));
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

fn tables(ipa_bits: u8, limit: u64) -> (Stage2<Shared, Shared>, Shared) {
    let world = Shared::new(limit);
    let stage2 = Stage2::new(ipa_bits, VMID, PhysAddr(ROOT), world.clone(), world.clone()).expect("valid arguments");
    (stage2, world)
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `len_bytes` at `ipa` mapped to the same address.
fn map(stage2: &mut Stage2<Shared, Shared>, ipa: u64, len_bytes: u64) -> Result<(), Error> {
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
fn a_hole_is_not_unmapped_nor_protected() {
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, 0, 2 * MIB).expect("free");
    world.take_events();
    assert_eq!(stage2.unmap(Ipa(MIB), 2 * MIB), Err(Error::NotMapped(Ipa(2 * MIB))));
    assert_eq!(stage2.protect(Ipa(MIB), 2 * MIB, Attributes::DEVICE), Err(Error::NotMapped(Ipa(2 * MIB))));
    assert_eq!(world.take_events(), []);
}

#[test]
fn running_out_of_tables_leaves_nothing_mapped() {
    // Two tables reach the first page; the pages behind 2 MiB need a third.
    let (mut stage2, _) = tables(40, 2);
    let from = 2 * MIB - PAGE_SIZE;
    assert_eq!(map(&mut stage2, from, 2 * PAGE_SIZE), Err(Error::OutOfTables(Ipa(2 * MIB))));
    assert_eq!(stage2.translate(Ipa(from)), None);
    map(&mut stage2, from, PAGE_SIZE).expect("the tables that were made serve again");
}

#[test]
fn running_out_of_tables_in_a_split_leaves_everything_mapped() {
    let (mut stage2, _) = tables(40, 0);
    map(&mut stage2, 0, GIB).expect("a block in the root");
    assert_eq!(stage2.unmap(Ipa(MIB), PAGE_SIZE), Err(Error::OutOfTables(Ipa(MIB))));
    assert_eq!(stage2.translate(Ipa(MIB)).map(|to| to.size_bytes), Some(GIB));
}

#[test]
fn roots_and_sizes_that_hardware_cannot_take_are_refused() {
    let world = Shared::new(0);
    let new = |bits, root| Stage2::new(bits, VMID, PhysAddr(root), world.clone(), world.clone()).map(|_| ());
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
fn a_split_keeps_the_neighbours_mapped() {
    let (mut stage2, _) = tables(40, 100);
    map(&mut stage2, GIB, GIB).expect("free");
    stage2.unmap(Ipa(GIB + 5 * MIB), PAGE_SIZE).expect("mapped");
    for (ipa, size) in [(GIB, 2 * MIB), (GIB + 5 * MIB - 1, PAGE_SIZE), (GIB + 5 * MIB + PAGE_SIZE, PAGE_SIZE)] {
        let to = stage2.translate(Ipa(ipa)).expect("a neighbour");
        assert_eq!((to.pa, to.size_bytes, to.attributes), (PhysAddr(ipa), size, Attributes::RAM));
    }
    assert_eq!(stage2.translate(Ipa(GIB + 5 * MIB)), None);
}

#[test]
fn a_page_is_taken_back_in_the_order_of_the_essay() {
    use Operation::*;
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, 0x4000_1000, PAGE_SIZE).expect("free");
    world.take_events();
    stage2.unmap(Ipa(0x4000_1000), PAGE_SIZE).expect("mapped");
    let events = world.take_events();
    assert!(matches!(events[0], Event::Write(_, 0)), "broken first");
    let order = [
        SelectVmid(VMID),
        DsbIshst,
        TlbiIpas2e1is(Ipa(0x4000_1000)),
        DsbIsh,
        TlbiVmalle1is,
        DsbIsh,
        TlbiVmalle1is,
        DsbIsh,
        Isb,
        RestoreVmid,
    ];
    assert_eq!(events[1..], order.map(Event::Tlb));
}

#[test]
fn many_entries_are_invalidated_at_once() {
    use Operation::*;
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, 0x4000_1000, 17 * PAGE_SIZE).expect("free");
    world.take_events();
    stage2.unmap(Ipa(0x4000_1000), 17 * PAGE_SIZE).expect("mapped");
    let order = [SelectVmid(VMID), DsbIshst, TlbiVmalls12e1is, DsbIsh, TlbiVmalle1is, DsbIsh, Isb, RestoreVmid];
    assert_eq!(world.take_events()[17..], order.map(Event::Tlb));
}

#[test]
fn a_block_is_broken_before_its_table_is_made() {
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, GIB, GIB).expect("free");
    world.take_events();
    stage2.unmap(Ipa(GIB), 2 * MIB).expect("mapped");
    let root_entry = ROOT + 8;
    let events = world.take_events();
    let at = |wanted: Event| events.iter().position(|event| *event == wanted).expect("happened");
    let broken = at(Event::Write(root_entry, 0));
    let made = events
        .iter()
        .rposition(|event| matches!(event, Event::Write(to, entry) if *to == root_entry && *entry & 0b11 == 0b11));
    let flushed = at(Event::Tlb(Operation::TlbiIpas2e1is(Ipa(GIB))));
    let done = at(Event::Tlb(Operation::Isb));
    assert_eq!(broken, 512, "the new table is filled first");
    assert!(broken < flushed && flushed < done && Some(done) < made);
}

#[test]
fn permissions_change_in_place_and_types_by_break_before_make() {
    let (mut stage2, world) = tables(40, 100);
    map(&mut stage2, 0x4000_1000, PAGE_SIZE).expect("free");
    world.take_events();
    stage2.protect(Ipa(0x4000_1000), PAGE_SIZE, Attributes::READ_ONLY_RAM).expect("mapped");
    assert!(!world.take_events().iter().any(|event| matches!(event, Event::Write(_, 0))));
    stage2.protect(Ipa(0x4000_1000), PAGE_SIZE, Attributes::DEVICE).expect("mapped");
    let events = world.take_events();
    assert!(matches!(events[0], Event::Write(_, 0)));
    assert_eq!(stage2.translate(Ipa(0x4000_1000)).map(|to| to.attributes), Some(Attributes::DEVICE));
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

/// One step of the model test, in pages.
#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, u64, Attributes),
    Unmap(u64, u64),
    Protect(u64, u64, Attributes),
}

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
    let step = prop_oneof![
        3 => (page(), to, length(), attributes()).prop_map(|(ipa, to, pages, attributes)| Step::Map(ipa, ipa + to, pages, attributes)),
        2 => (page(), length()).prop_map(|(ipa, pages)| Step::Unmap(ipa, pages)),
        1 => (page(), length(), attributes()).prop_map(|(ipa, pages, attributes)| Step::Protect(ipa, pages, attributes)),
    ];
    prop::collection::vec(step, 1..24)
}

type Pages = BTreeMap<u64, (u64, Attributes)>;

/// What the step does to a map of pages, and whether it should succeed.
fn expect(model: &mut Pages, step: &Step) -> bool {
    match *step {
        Step::Map(ipa, pa, pages, attributes) => {
            let free = (ipa..ipa + pages).all(|page| !model.contains_key(&page));
            if free {
                model.extend((0..pages).map(|page| (ipa + page, (pa + page, attributes))));
            }
            free
        }
        Step::Unmap(ipa, pages) => {
            let whole = (ipa..ipa + pages).all(|page| model.contains_key(&page));
            if whole {
                model.retain(|page, _| !(ipa..ipa + pages).contains(page));
            }
            whole
        }
        Step::Protect(ipa, pages, attributes) => {
            let whole = (ipa..ipa + pages).all(|page| model.contains_key(&page));
            if whole {
                model.range_mut(ipa..ipa + pages).for_each(|(_, value)| value.1 = attributes);
            }
            whole
        }
    }
}

fn perform(stage2: &mut Stage2<Shared, Shared>, step: &Step) -> Result<(), Error> {
    let at = |page: u64| Ipa(page * PAGE_SIZE);
    match *step {
        Step::Map(ipa, pa, pages, attributes) => {
            stage2.map(at(ipa), PhysAddr(pa * PAGE_SIZE), pages * PAGE_SIZE, attributes)
        }
        Step::Unmap(ipa, pages) => stage2.unmap(at(ipa), pages * PAGE_SIZE),
        Step::Protect(ipa, pages, attributes) => stage2.protect(at(ipa), pages * PAGE_SIZE, attributes),
    }
}

/// Compares the tables with the model on every page that either could hold.
fn compare(stage2: &Stage2<Shared, Shared>, world: &Shared, model: &Pages) {
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

/// How far the invalidation of one stale entry has come: one step per line of the essay in `maintenance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Written,
    Visible,
    Stage2Issued,
    Stage2Done,
    CombinedIssued,
    CombinedDone,
    RepeatIssued,
    Complete,
}

use Progress::*;

/// What TLBs may hold, told from the events alone: every entry that was valid and has changed, until it is surely gone.
#[derive(Debug)]
struct Tlb {
    words: BTreeMap<u64, u64>,
    /// Tables that are reachable: their first address translated, and the lowest bit of their index.
    tables: BTreeMap<u64, (u64, u32)>,
    stale: BTreeMap<u64, Progress>,
}

impl Tlb {
    fn new() -> Tlb {
        let tables = BTreeMap::from([(ROOT, (0, 30)), (ROOT + PAGE_SIZE, (512 << 30, 30))]);
        Tlb { words: BTreeMap::new(), tables, stale: BTreeMap::new() }
    }

    /// Follows the events of one call, after which nothing may be stale.
    fn follow(&mut self, events: &[Event]) {
        for event in events {
            match *event {
                Event::Write(at, entry) => self.write(at, entry),
                Event::Tlb(operation) => self.maintain(operation),
            }
        }
        assert!(self.stale.values().all(|progress| *progress == Complete), "{:x?}", self.stale);
        self.stale.clear();
    }

    fn range(&self, at: u64) -> Option<(u64, u32)> {
        let (start, low) = self.tables.get(&(at & !0xfff))?;
        Some((start + (((at & 0xfff) / 8) << low), *low))
    }

    fn write(&mut self, at: u64, entry: u64) {
        let old = self.words.insert(at, entry).unwrap_or(0);
        let Some((start, low)) = self.range(at) else { return };
        if old & 1 != 0 && old != entry {
            let permissions = 0x0060_0000_0000_00c0;
            assert!(entry & 1 == 0 || (old ^ entry) & !permissions == 0, "{old:#x} became {entry:#x} without a break");
            self.stale.insert(at, Written);
        } else if let Some(progress) = self.stale.remove(&at) {
            assert_eq!(progress, Complete, "made before the old entry was gone");
        }
        if low > 12 && entry & 0b11 == 0b11 {
            self.tables.insert(entry & 0xffff_ffff_f000, (start, low - 9));
        }
    }

    fn maintain(&mut self, operation: Operation) {
        let ranges: Vec<_> = self.stale.keys().map(|at| (*at, self.range(*at).expect("reachable"))).collect();
        for (at, (start, low)) in ranges {
            let progress = self.stale.get_mut(&at).expect("listed");
            let hit = |ipa: Ipa| (start..start + (1 << low)).contains(&ipa.0);
            *progress = match (*progress, operation) {
                (Written, Operation::DsbIshst | Operation::DsbIsh) => Visible,
                (Visible, Operation::TlbiIpas2e1is(ipa)) if hit(ipa) => Stage2Issued,
                (Visible, Operation::TlbiVmalls12e1is) => CombinedIssued,
                (Stage2Issued, Operation::DsbIsh) => Stage2Done,
                (Stage2Done, Operation::TlbiVmalle1is) => CombinedIssued,
                (CombinedIssued, Operation::DsbIsh) => CombinedDone,
                (CombinedDone, Operation::TlbiVmalle1is | Operation::TlbiVmalls12e1is) => RepeatIssued,
                (RepeatIssued, Operation::DsbIsh) => Complete,
                (other, _) => other,
            };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn tables_agree_with_a_map_of_pages(steps in steps()) {
        let (mut stage2, world) = tables(40, 4000);
        let (mut model, mut tlb) = (Pages::new(), Tlb::new());
        for step in &steps {
            let expected = expect(&mut model, step);
            prop_assert_eq!(perform(&mut stage2, step).is_ok(), expected, "{:?}", step);
            tlb.follow(&world.take_events());
        }
        compare(&stage2, &world, &model);
    }

    #[test]
    fn a_refusal_for_want_of_tables_loses_nothing(steps in steps(), limit in 0..6_u64) {
        let (mut stage2, world) = tables(40, limit);
        let (mut model, mut tlb) = (Pages::new(), Tlb::new());
        for step in &steps {
            let mut after = model.clone();
            let expected = expect(&mut after, step);
            match perform(&mut stage2, step) {
                Ok(()) => model = after,
                Err(Error::OutOfTables(_)) => {}
                Err(other) => prop_assert!(!expected, "{:?}: {:?}", step, other),
            }
            tlb.follow(&world.take_events());
        }
        compare(&stage2, &world, &model);
    }
}
