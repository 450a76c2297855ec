//! A block of a hash tree: node, entries, extents, catalog.

use crypto::{Error, host};
use volume::record::{
    catalog::{RECORD_BYTES, VolumeRecord},
    entry::Entry,
    extent,
    node::{Position, Slot},
};

/// The input is a block of a tree, whatever it is.
pub fn run(data: &[u8]) {
    let key = host::mac_key(&[7; 32]);
    let position = Position { member: 0, level: 1, index: 2 };
    for bytes in data.as_chunks::<32>().0 {
        let slot = Slot::parse(bytes);
        assert_eq!(slot.encode(), *bytes);
        assert_eq!(slot.verify(&key, position, bytes), Err(Error::TagMismatch), "nobody forges a MAC");
        assert_ne!(slot.next_stamp(9) & 1, if slot.is_blank() { 1 } else { slot.place() });
        if let Some(entry) = Entry::parse(bytes) {
            assert_eq!(entry.encode(), *bytes);
        }
        if let Ok(found) = extent::parse(bytes) {
            assert_eq!(extent::encode(found.as_ref()), *bytes);
        }
    }
    for bytes in data.as_chunks::<RECORD_BYTES>().0 {
        if let Ok(Some(record)) = VolumeRecord::parse(bytes) {
            let mut again = [0; RECORD_BYTES];
            record.encode(&mut again);
            assert_eq!(VolumeRecord::parse(&again), Ok(Some(record)));
        }
    }
}
