//! The journal against simulated flash.

use std::vec::Vec;

use crypto::{host, module::Profile};
use proptest::prelude::*;

use super::model::{Cut, SimulatedNor};
use super::*;

const KEY: [u8; 32] = [0x61; 32];
type Anchor = DevelopmentAnchor<SimulatedNor>;

/// Four slots a sector, so that sectors change often. Chips with a buffer of 64 bytes, or with none.
fn small(buffered: bool) -> SimulatedNor {
    SimulatedNor::new(4, 2048, if buffered { 6 } else { 0 })
}

fn open(flash: &SimulatedNor) -> Anchor {
    Anchor::new(flash.clone(), host::mac_key(&KEY)).unwrap()
}

fn record(byte: u8) -> Record {
    Record::new(&[byte; 200]).unwrap()
}

/// Drives an advance to its end; `None` if power failed.
fn finish(anchor: &mut Anchor) -> Option<Result<u64, Error>> {
    for _ in 0..10_000 {
        if let Some(result) = anchor.poll() {
            return Some(result);
        }
        if anchor.registers().is_dead() {
            return None;
        }
    }
    panic!("the advance never ended");
}

fn advance(anchor: &mut Anchor, expected: u64, byte: u8) -> Option<Result<u64, Error>> {
    anchor.start(expected, &record(byte)).unwrap();
    finish(anchor)
}

/// Flash at counter `counter`, each record's bytes being its counter.
fn advanced(flash: SimulatedNor, counter: u8) -> SimulatedNor {
    let mut anchor = open(&flash);
    anchor.read().unwrap();
    for byte in 1..=counter {
        assert_eq!(advance(&mut anchor, u64::from(byte) - 1, byte), Some(Ok(u64::from(byte))));
    }
    anchor.registers().clone()
}

fn snapshot(counter: u8) -> Snapshot {
    match counter {
        0 => Snapshot { counter: 0, record: Record::EMPTY },
        _ => Snapshot { counter: counter.into(), record: record(counter) },
    }
}

#[test]
fn a_module_in_error_reads_and_writes_no_record() {
    let module = host::fresh(Profile::Kcmvp);
    let mut anchor = Anchor::new(advanced(small(true), 2), module.mac_key(&KEY).unwrap()).unwrap();
    assert_eq!(anchor.read(), Ok(snapshot(2)));
    module.conditional_failed().unwrap();
    let refused = Error::Module(crypto::Error::State(crypto::state::State::SimpleError));
    assert_eq!(anchor.start(2, &record(3)), Err(refused));
    assert_eq!(anchor.read(), Err(refused));
    assert_eq!(open(anchor.registers()).read(), Ok(snapshot(2)), "the record stands");
}

#[test]
fn what_is_no_flash_is_refused() {
    struct Nothing;
    impl Registers for Nothing {
        fn read(&self, _: usize) -> u32 {
            !0
        }
        fn write(&mut self, _: usize, _: u32) {}
    }
    assert!(matches!(DevelopmentAnchor::new(Nothing, host::mac_key(&KEY)), Err(Error::NoDevice)));
    let one_sector = SimulatedNor::new(1, 2048, 6);
    assert!(matches!(Anchor::new(one_sector, host::mac_key(&KEY)), Err(Error::NoDevice)));
}

#[test]
fn foreign_contents_are_refused_and_not_written() {
    let fills: [fn(usize) -> u32; 4] = [|_| 0, |index| index as u32, |_| 0x4845_4c4f, |index| !u32::from(index == 900)];
    for fill in fills {
        let mut flash = small(true);
        for (index, word) in flash.words.iter_mut().enumerate() {
            *word = fill(index);
        }
        let mut anchor = open(&flash);
        assert_eq!(anchor.read(), Err(Error::Foreign));
        assert_eq!(anchor.start(0, &record(1)), Err(Error::Unread));
        assert_eq!(anchor.registers().operations, 0);
    }
}

#[test]
fn an_anchor_of_another_key_is_refused_and_not_written() {
    let flash = advanced(small(true), 5);
    let before = flash.operations;
    let mut other = Anchor::new(flash, host::mac_key(&[0; 32])).unwrap();
    assert_eq!(other.read(), Err(Error::Damaged));
    assert_eq!(other.registers().operations, before);
}

#[test]
fn every_changed_bit_of_the_newest_record_is_noticed() {
    let flash = advanced(small(true), 2);
    for bit in 0..SLOT_BYTES * 8 {
        let mut changed = flash.clone();
        changed.words[SLOT_WORDS + bit / 32] ^= 1 << (bit % 32);
        // A changed first or last word makes the slot one that was cut off: then the older record counts. This is what a
        // journal can tell; an anchor in hardware tells more.
        let ends = !(32..SLOT_BYTES * 8 - 32).contains(&bit);
        let expected = if ends { Ok(snapshot(1)) } else { Err(Error::Damaged) };
        assert_eq!(open(&changed).read(), expected, "bit {bit}");
    }
}

#[test]
fn what_was_not_read_is_not_advanced() {
    let mut anchor = open(&small(true));
    assert_eq!(anchor.start(0, &record(1)), Err(Error::Unread));
    anchor.read().unwrap();
    assert_eq!(anchor.start(3, &record(1)), Err(Error::CounterMismatch { expected: 3, found: 0 }));
    anchor.start(0, &record(1)).unwrap();
    assert_eq!(anchor.start(0, &record(1)), Err(Error::Busy));
    assert_eq!(anchor.read(), Err(Error::Busy));
    assert_eq!(finish(&mut anchor), Some(Ok(1)));
}

#[test]
fn a_failure_of_the_flash_is_reported_and_loses_nothing() {
    for counter in 0..9 {
        let flash = advanced(small(true), counter);
        for operation in 0.. {
            let mut anchor = open(&flash);
            anchor.registers().failure = Some(flash.operations + operation);
            anchor.read().unwrap();
            let result = advance(&mut anchor, counter.into(), counter + 1).unwrap();
            if result.is_ok() {
                break;
            }
            assert_eq!(result, Err(Error::Device));
            assert_eq!(anchor.start(counter.into(), &record(1)), Err(Error::Unread));
            assert_eq!(anchor.read().unwrap(), snapshot(counter));
            assert_eq!(advance(&mut anchor, counter.into(), counter + 1), Some(Ok(u64::from(counter) + 1)));
            assert_eq!(open(anchor.registers()).read().unwrap(), snapshot(counter + 1));
        }
    }
}

#[test]
fn flash_that_never_answers_is_given_up() {
    let mut flash = small(true);
    flash.cut = Some((0, Cut::Before));
    let mut anchor = open(&flash);
    anchor.read().unwrap();
    anchor.start(0, &record(1)).unwrap();
    anchor.poll();
    anchor.advance.as_mut().unwrap().asked = Some(PATIENCE);
    assert_eq!(anchor.poll(), Some(Err(Error::Silent)));
}

/// Runs the advance from `counter` on with the cut; the flash once power is back, or `None` if the cut was never reached.
fn cut_off(flash: &SimulatedNor, operation: usize, cut: Cut, byte: u8) -> Option<SimulatedNor> {
    let mut anchor = open(flash);
    anchor.registers().cut = Some((flash.operations + operation, cut));
    let counter = anchor.read().unwrap().counter;
    if let Some(result) = advance(&mut anchor, counter, byte) {
        assert_eq!(result, Ok(counter + 1));
        return None;
    }
    let mut flash = anchor.registers().clone();
    flash.power_on();
    Some(flash)
}

const CUTS: [Cut; 5] = [Cut::Before, Cut::After, Cut::Torn(1), Cut::Torn(2), Cut::Torn(3)];

/// Every operation of every advance over two changes of sector, each cut in five ways: old or new, never none; and then the
/// next advance, cut again everywhere.
#[test]
fn every_cut_and_every_second_cut_leaves_old_or_new() {
    let mut cases = 0;
    for (buffered, counter) in [true, false].into_iter().flat_map(|it| (0..10).map(move |counter| (it, counter))) {
        let flash = advanced(small(buffered), counter);
        for (operation, cut) in (0..).flat_map(|operation| CUTS.map(|cut| (operation, cut))) {
            let Some(once) = cut_off(&flash, operation, cut, counter + 1) else { break };
            let found = open(&once).read().unwrap();
            assert!([snapshot(counter), snapshot(counter + 1)].contains(&found), "{counter} {operation} {cut:?}");
            let number = found.counter as u8;
            cases += 1;
            // Without a buffer there are some 200 operations an advance: the second cut is then made at some of them.
            for again in (0..).step_by(if buffered { 1 } else { 97 }) {
                let Some(twice) = cut_off(&once, again, cut, number + 1) else { break };
                let found = open(&twice).read().unwrap();
                assert!([snapshot(number), snapshot(number + 1)].contains(&found), "{operation} {again} {cut:?}");
                advanced_further(&twice, &found);
                cases += 1;
            }
        }
    }
    std::println!("{cases} cuts");
}

/// Two more advances, after which nothing older is left.
fn advanced_further(flash: &SimulatedNor, found: &Snapshot) {
    let mut anchor = open(flash);
    anchor.read().unwrap();
    for more in 0..2 {
        assert_eq!(advance(&mut anchor, found.counter + more, 0x77), Some(Ok(found.counter + more + 1)));
    }
    let older = |word: &u32| (1..16).contains(&(word & 0xff)) && *word == (word & 0xff) * 0x0101_0101;
    assert!(!anchor.registers().words.iter().any(older), "something of an older record is left");
}

#[test]
fn sectors_take_turns() {
    let flash = advanced(small(true), 200);
    assert_eq!(open(&flash).read().unwrap(), snapshot(200));
    assert_eq!(flash.erasures, 200 / 4 - 1);
    assert!(flash.words[2 * 512..].iter().all(|&word| word == !0), "other sectors are not touched");
}

#[test]
fn a_bank_like_qemus_holds_a_thousand_records_before_the_first_erasure() {
    let mut flash = SimulatedNor::new(256, 256 << 10, 11);
    let mut anchor = Anchor::new(flash, host::mac_key(&KEY)).unwrap();
    assert_eq!(anchor.nor.geometry(), nor::Geometry { sector_bytes: 256 << 10, sectors: 256, buffer_words: 1024 });
    anchor.read().unwrap();
    for counter in 0..1024 {
        assert_eq!(advance(&mut anchor, counter, 1), Some(Ok(counter + 1)));
    }
    flash = anchor.registers().clone();
    // The first erasure is that of the second sector, which was blank: the journal does not remember that it was.
    assert_eq!(flash.erasures, 1);
    assert_eq!(open(&flash).read().unwrap().counter, 1024);
}

proptest! {
    /// Any words at the places that matter: an answer, and not one operation.
    #[test]
    fn any_contents_get_an_answer(
        changes in prop::collection::vec((0usize..1024, prop_oneof![any::<u32>(), Just(0), Just(!0)]), 0..40),
        counter in 0u8..12,
    ) {
        let mut flash = advanced(small(true), counter);
        for (index, word) in changes {
            flash.words[index] = word;
        }
        let before = flash.operations;
        let mut anchor = open(&flash);
        let found = anchor.read();
        prop_assert_eq!(anchor.registers().operations, before);
        if let Ok(found) = found {
            prop_assert!(found.counter <= u64::from(counter));
            prop_assert_eq!(&found, &snapshot(found.counter as u8));
            prop_assert_eq!(advance(&mut anchor, found.counter, 1), Some(Ok(found.counter + 1)));
        }
    }

    /// Against a naive model: cuts in any order, for long. It begins with one record: with four slots a sector, the fourth cut
    /// of a very first record would leave no room.
    #[test]
    fn a_long_life_of_cuts_loses_no_record(
        steps in prop::collection::vec((0usize..60, prop::sample::select(CUTS.to_vec()), any::<u64>()), 1..60),
        buffered: bool,
    ) {
        let (mut flash, mut may): (_, Vec<Snapshot>) = (advanced(small(buffered), 1), std::vec![snapshot(1)]);
        for (index, (operation, cut, seed)) in steps.into_iter().enumerate() {
            let cut = if let Cut::Torn(_) = cut { Cut::Torn(seed) } else { cut };
            let mut anchor = open(&flash);
            let found = anchor.read().unwrap();
            prop_assert!(may.contains(&found));
            let next = Snapshot { counter: found.counter + 1, record: record(index as u8) };
            let at = anchor.registers().operations + operation;
            anchor.registers().cut = Some((at, cut));
            may = match advance(&mut anchor, found.counter, index as u8) {
                Some(result) => {
                    prop_assert_eq!(result, Ok(next.counter));
                    std::vec![next]
                }
                None => std::vec![found, next],
            };
            flash = anchor.registers().clone();
            flash.power_on();
        }
    }
}
