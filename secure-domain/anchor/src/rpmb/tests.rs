//! The RPMB anchor against the simulated device.

use std::boxed::Box;
use std::vec::Vec;

use crypto::host;
use proptest::prelude::*;

use super::model::{Device, Fault, nonces};
use super::*;

const KEY: [u8; 32] = [0x4b; 32];
type Anchor<'a> = RpmbAnchor<&'a mut Device, Box<dyn FnMut() -> [u8; 16]>>;

fn open(device: &mut Device, seed: u64) -> Anchor<'_> {
    RpmbAnchor::new(device, host::mac_key(&KEY), 4, nonces(seed)).unwrap()
}

fn provisioned() -> Device {
    let mut device = Device::new(8);
    open(&mut device, 1).provision(&KEY).unwrap();
    device
}

fn record(byte: u8) -> Record {
    Record::new(&[byte; 200]).unwrap()
}

fn finish(anchor: &mut impl MonotonicStore) -> Result<u64, Error> {
    for _ in 0..1000 {
        if let Some(result) = anchor.poll() {
            return result;
        }
    }
    panic!("the advance never ended");
}

fn advance(anchor: &mut impl MonotonicStore, expected: u64, byte: u8) -> Result<u64, Error> {
    anchor.start(expected, &record(byte))?;
    finish(anchor)
}

/// A device at counter `counter`, each record's bytes being its counter.
fn advanced(counter: u8) -> Device {
    let mut device = provisioned();
    let mut anchor = open(&mut device, 2);
    anchor.read().unwrap();
    for byte in 1..=counter {
        assert_eq!(advance(&mut anchor, u64::from(byte) - 1, byte), Ok(u64::from(byte)));
    }
    device
}

#[test]
fn a_device_without_a_key_is_not_believed() {
    let mut device = Device::new(8);
    assert_eq!(open(&mut device, 1).read(), Err(Error::NoKey));
}

#[test]
fn a_device_of_another_key_is_refused_and_keeps_it() {
    let mut device = provisioned();
    let mut other = RpmbAnchor::new(&mut device, host::mac_key(&[1; 32]), 4, nonces(1)).unwrap();
    assert_eq!(other.provision(&[1; 32]), Err(Error::Forged));
    assert_eq!(other.read(), Err(Error::Forged));
    assert_eq!(open(&mut device, 1).provision(&KEY), Ok(()));
}

#[test]
fn what_was_not_read_is_not_advanced() {
    let mut device = provisioned();
    let mut anchor = open(&mut device, 1);
    assert_eq!(anchor.start(0, &record(1)), Err(Error::Unread));
    anchor.read().unwrap();
    assert_eq!(anchor.start(5, &record(1)), Err(Error::CounterMismatch { expected: 5, found: 0 }));
}

#[test]
fn an_expired_write_counter_is_readable_and_refuses() {
    let mut device = advanced(3);
    device.writes = u32::MAX;
    let mut anchor = open(&mut device, 3);
    assert_eq!(anchor.read().unwrap().counter, 3);
    assert_eq!(anchor.start(3, &record(4)), Err(Error::Exhausted));
}

#[test]
fn foreign_blocks_are_refused_and_not_written() {
    let mut device = provisioned();
    device.blocks[5] = [0x5a; 256];
    let before = device.blocks.clone();
    let mut anchor = open(&mut device, 1);
    assert_eq!(anchor.read(), Err(Error::Foreign));
    assert_eq!(anchor.start(0, &record(1)), Err(Error::Unread));
    assert_eq!(device.blocks, before);
}

#[test]
fn a_silent_device_is_not_waited_for_for_ever() {
    let mut device = provisioned();
    device.fault(0, Fault::CutBefore);
    assert_eq!(open(&mut device, 1).read(), Err(Error::Silent));
}

#[test]
fn a_second_advance_waits_for_the_first() {
    let mut device = provisioned();
    device.delay = 3;
    let mut anchor = open(&mut device, 2);
    anchor.read().unwrap();
    anchor.start(0, &record(1)).unwrap();
    assert_eq!(anchor.poll(), None);
    assert_eq!(anchor.start(0, &record(2)), Err(Error::Busy));
    assert_eq!(anchor.read(), Err(Error::Busy));
    assert_eq!(finish(&mut anchor), Ok(1));
}

#[test]
fn a_lost_answer_is_settled_by_reading() {
    let mut device = advanced(2);
    let mut anchor = open(&mut device, 3);
    anchor.read().unwrap();
    anchor.link().fault(0, Fault::LostAnswer);
    assert_eq!(advance(&mut anchor, 2, 3), Ok(3));
    assert_eq!(advance(&mut anchor, 3, 4), Ok(4));
}

/// CVE-2020-13799: an earlier write is carried out in place of the one that is asked for, and its true answer handed over.
#[test]
fn a_withheld_write_does_not_pass_for_a_later_one() {
    let mut device = advanced(2);
    let mut anchor = open(&mut device, 3);
    anchor.read().unwrap();
    anchor.link().fault(0, Fault::Withheld);
    assert_eq!(advance(&mut anchor, 2, 3), Err(Error::Silent));
    assert_eq!(anchor.read().unwrap().counter, 2);
    anchor.link().release();
    // The withheld write took place: same counter, same block, same count of writes, another record.
    assert!(matches!(advance(&mut anchor, 2, 99), Err(Error::Device | Error::Forged)));
    assert_eq!(anchor.read().unwrap(), Snapshot { counter: 3, record: record(3) });
}

#[test]
fn every_cut_leaves_old_or_new() {
    for counter in 0..4u8 {
        for exchange in 0..2 {
            for fault in [Fault::CutBefore, Fault::CutAfter] {
                let mut device = advanced(counter);
                let mut anchor = open(&mut device, 3);
                anchor.read().unwrap();
                anchor.link().fault(exchange, fault);
                assert!(advance(&mut anchor, counter.into(), counter + 1).is_err());
                device.power_on();
                let found = open(&mut device, 4).read().unwrap();
                let expected = if (exchange, fault) == (0, Fault::CutBefore) { counter } else { counter + 1 };
                assert_eq!(found.counter, u64::from(expected));
                assert!(expected == 0 || found.record == record(expected));
            }
        }
    }
}

#[test]
fn a_torn_block_leaves_the_old_record() {
    for counter in 1..4u8 {
        let mut device = advanced(counter);
        let mut anchor = open(&mut device, 3);
        anchor.read().unwrap();
        anchor.link().fault(0, Fault::Torn);
        assert_eq!(advance(&mut anchor, counter.into(), 99), Err(Error::Silent));
        device.power_on();
        let mut anchor = open(&mut device, 4);
        assert_eq!(anchor.read().unwrap(), Snapshot { counter: counter.into(), record: record(counter) });
        assert_eq!(advance(&mut anchor, counter.into(), 5), Ok(u64::from(counter) + 1));
    }
}

#[test]
fn two_advances_leave_nothing_of_a_record() {
    let mut device = advanced(1);
    let mut anchor = open(&mut device, 3);
    anchor.read().unwrap();
    advance(&mut anchor, 1, 2).unwrap();
    advance(&mut anchor, 2, 3).unwrap();
    assert!(device.blocks.iter().all(|block| !block.windows(8).any(|bytes| bytes == [1; 8])));
}

/// Byte positions are the standard's: 196 bytes of stuff, 284 bytes under the MAC.
#[test]
fn the_frame_is_laid_out_as_in_the_standard() {
    let question = Question::Write { address: 0x0102, writes: 0x0304_0506 };
    let frame = question.write_frame(&[7; 256], &host::mac_key(&KEY)).unwrap();
    assert!(frame.0[..196].iter().all(|&byte| byte == 0));
    assert_eq!(frame.0[228..484], [7; 256]);
    assert_eq!(frame.0[484..500], [0; 16]);
    assert_eq!(frame.0[500..], [3, 4, 5, 6, 1, 2, 0, 1, 0, 0, 0, 3]);
    assert_eq!(Ok(frame.mac()), host::module().hmac(&KEY, &frame.0[228..]));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::LostAnswer),
        Just(Fault::CutBefore),
        Just(Fault::CutAfter),
        Just(Fault::Withheld),
        Just(Fault::WrongMac),
        (1usize..6).prop_map(Fault::Replayed),
        Just(Fault::Garbage),
        Just(Fault::Failed),
    ]
}

proptest! {
    /// Against a naive model: a set of snapshots that may stand. A success leaves one; a failed advance adds one.
    #[test]
    fn no_fault_loses_a_record_or_brings_one_back(
        steps in prop::collection::vec((any::<u8>(), prop::option::weighted(0.5, (0usize..3, fault())), any::<bool>()), 1..40),
        delay in 0usize..4,
    ) {
        let mut device = provisioned();
        device.delay = delay;
        let mut may: Vec<Snapshot> = std::vec![Snapshot { counter: 0, record: Record::EMPTY }];
        for (seed, (byte, fault, release)) in (10..).zip(steps) {
            device.power_on();
            if release {
                device.release();
            }
            let mut anchor = open(&mut device, seed);
            let found = anchor.read().unwrap();
            prop_assert!(may.contains(&found), "{} is none of {:?}", found.counter, may);
            // What was read stands, until a withheld write takes place: those of the next counter stay possible.
            may.retain(|other| *other == found || other.counter == found.counter + 1);
            if let Some((later, fault)) = fault {
                anchor.link().fault(later, fault);
            }
            let next = Snapshot { counter: found.counter + 1, record: record(byte) };
            match advance(&mut anchor, found.counter, byte) {
                Ok(counter) => {
                    prop_assert_eq!(counter, next.counter);
                    may = std::vec![next];
                }
                Err(_) => may.push(next),
            }
        }
    }

    #[test]
    fn a_frame_says_what_its_fields_say(bytes in prop::collection::vec(any::<u8>(), FRAME_BYTES)) {
        let frame = Frame(bytes.try_into().unwrap());
        prop_assert_eq!(frame.fields().frame().0[228..].to_vec(), frame.0[228..].to_vec());
        prop_assert_eq!(frame.fields().frame().fields(), frame.fields());
    }
}
