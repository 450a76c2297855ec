//! A record of the log, and its entries.

use crypto::host;
use volume::{
    BLOCK_BYTES,
    record::{
        LogPoint,
        log::{self, Head, LogEntry},
    },
};

/// The input is a block of the log.
pub fn run(data: &[u8]) {
    let key = host::mac_key(&[7; 32]);
    let previous = LogPoint { seq: 41, mac: [9; 32] };
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);
    assert_eq!(log::open(&key, &previous, &block), Ok(None), "nobody forges a MAC");
    // What its writer would have sealed: any entries at all.
    let entries = usize::from(block[4]) % (log::MAX_ENTRIES + 1);
    let data_blocks = usize::from(block[5]) % (entries + 1);
    let head =
        Head { entries, data_blocks, checkpoint: 5, seq: 42, incarnation: 3, covered: u64::from(block[24]) % 42 };
    log::seal(&head, &key, &previous.mac, &mut block).expect("the module serves");
    let opened = log::open(&key, &previous, &block).expect("the module serves");
    let (found, point) = opened.expect("what was sealed opens");
    assert_eq!((found, point.seq), (head, 42));
    for bytes in log::entries(&found, &block) {
        if let Some(entry) = LogEntry::parse(bytes) {
            assert_eq!(entry.encode(), *bytes);
        }
    }
}
