//! One of the two blocks, and which of them counts.

use crypto::module::Module;
use zeroize::Zeroizing;

use super::frame::BLOCK_BYTES;
use crate::{Error, RECORD_BYTES, Record, Snapshot};

const MAGIC: [u8; 8] = *b"HaechiA1";
const COUNTER: usize = 8;
const LENGTH: usize = 16;
/// The start of the SHA-256 of the block with zeros here: it tells a torn block, not a forged one.
const CHECK: core::ops::Range<usize> = 24..32;
const RECORD: usize = BLOCK_BYTES - RECORD_BYTES;

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is no heap, and two of them live for a moment")]
pub(super) enum Slot {
    /// Nothing was written yet: all zeros or all ones.
    Blank,
    /// A record of ours.
    Held(Snapshot),
    /// Anything else: torn, or not ours.
    Other,
}

/// The block of record number `counter`.
pub(super) fn encode(counter: u64, record: &Record, module: &Module) -> Result<Zeroizing<[u8; BLOCK_BYTES]>, Error> {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    let bytes = record.bytes();
    block[..COUNTER].copy_from_slice(&MAGIC);
    block[COUNTER..LENGTH].copy_from_slice(&counter.to_le_bytes());
    block[LENGTH] = bytes.len() as u8; // At most RECORD_BYTES = 224.
    block[RECORD..RECORD + bytes.len()].copy_from_slice(bytes);
    let digest = module.sha256(&*block).map_err(Error::Module)?;
    block[CHECK].copy_from_slice(&digest[..CHECK.len()]);
    Ok(block)
}

impl Slot {
    /// Reads block `index` (0 or 1).
    pub(super) fn parse(block: &[u8; BLOCK_BYTES], index: u16, module: &Module) -> Result<Slot, Error> {
        if block.iter().all(|&byte| byte == 0) || block.iter().all(|&byte| byte == 0xff) {
            return Ok(Slot::Blank);
        }
        let counter = u64::from_le_bytes(core::array::from_fn(|byte| block[COUNTER + byte]));
        let Some(record) = block.get(RECORD..RECORD + usize::from(block[LENGTH])).and_then(|it| Record::new(it).ok())
        else {
            return Ok(Slot::Other);
        };
        // What encodes to the same bytes, and lies where it belongs, is ours.
        if *block != *encode(counter, &record, module)? || counter == 0 || counter % 2 != u64::from(index) {
            return Ok(Slot::Other);
        }
        Ok(Slot::Held(Snapshot { counter, record }))
    }
}

/// What the two blocks hold together. They are authentic: only the holder of the key wrote them.
pub(super) fn choose(slots: [Slot; 2]) -> Result<Snapshot, Error> {
    match slots {
        [Slot::Blank, Slot::Blank] => Ok(Snapshot { counter: 0, record: Record::EMPTY }),
        [Slot::Held(a), Slot::Held(b)] if a.counter.abs_diff(b.counter) == 1 => {
            Ok(if a.counter > b.counter { a } else { b })
        }
        [Slot::Held(_), Slot::Held(_)] => Err(Error::Damaged),
        // The other block was torn by the write that would have followed, or is blank because this was the first.
        [Slot::Held(held), Slot::Other] | [Slot::Other, Slot::Held(held)] => Ok(held),
        [Slot::Blank, Slot::Held(held)] if held.counter == 1 => Ok(held),
        [Slot::Blank, Slot::Held(_)] | [Slot::Held(_), Slot::Blank] => Err(Error::Damaged),
        [Slot::Other, _] | [_, Slot::Other] => Err(Error::Foreign),
    }
}
