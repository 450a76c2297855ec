//! The journal of the development anchor over flash that holds anything.

use anchor::flash::{DevelopmentAnchor, model::SimulatedNor};
use anchor::{Error, MonotonicStore, Record};
use crypto::host;

const KEY: [u8; 32] = [3; 32];

/// The first byte is how many records a true journal has; the rest changes words of it, three bytes each: where, and what to.
pub fn run(data: &[u8]) {
    let Some((&count, changes)) = data.split_first() else { return };
    let count = u64::from(count % 12);
    let mut anchor =
        DevelopmentAnchor::new(SimulatedNor::new(2, 2048, 6), host::mac_key(&KEY)).expect("the model is flash");
    let record = Record::new(&[0x11; 40]).expect("40 bytes are few enough");
    assert!(anchor.read().is_ok());
    for counter in 0..count {
        assert_eq!(advance(&mut anchor, counter, &record), Ok(counter + 1));
    }
    let words = &mut anchor.registers().words;
    for &[place, high, what] in changes.as_chunks().0 {
        let index = usize::from(place) | usize::from(high % 4) << 8;
        // A bit, or all of it; the head and the tail of slots are where a change matters most.
        words[index] = match high >> 2 {
            0..16 => words[index] ^ 1 << (what % 32),
            16..24 => 0,
            24..32 => !0,
            32..48 => u32::from_le_bytes(*b"HDA1"),
            _ => u32::from_le_bytes(*b"done"),
        };
    }
    let before = anchor.registers().operations;
    match anchor.read() {
        Ok(found) => {
            assert!(found.counter <= count, "nobody forges a record");
            assert_eq!(advance(&mut anchor, found.counter, &record), Ok(found.counter + 1));
        }
        Err(error) => {
            assert!(matches!(error, Error::Foreign | Error::Damaged));
            assert_eq!(anchor.start(0, &record), Err(Error::Unread));
            assert_eq!(anchor.registers().operations, before, "what is not ours is not written");
        }
    }
}

fn advance(anchor: &mut DevelopmentAnchor<SimulatedNor>, expected: u64, record: &Record) -> Result<u64, Error> {
    anchor.start(expected, record)?;
    // At most eight slots to overwrite, one to erase and one to write, some ten operations each.
    (0..100).find_map(|_| anchor.poll()).expect("the model answers at once")
}
