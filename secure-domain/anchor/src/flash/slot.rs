//! One slot of the journal.

use crypto::module::MacKey;
use zeroize::Zeroizing;

use crate::{Error, RECORD_BYTES, Record, Snapshot};

/// Words of a slot.
pub(super) const SLOT_WORDS: usize = 128;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = SLOT_WORDS * 4;
/// The words of a slot.
pub(super) type Image = [u32; SLOT_WORDS];

/// The first word: written first.
const MAGIC: u32 = u32::from_le_bytes(*b"HDA1");
/// The last word: written last.
const DONE: u32 = u32::from_le_bytes(*b"done");

const LENGTH: usize = 4;
const COUNTER: usize = 8;
const RECORD: usize = 32;
const MAC: usize = RECORD + RECORD_BYTES;
const MAC_END: usize = MAC + 32;

/// What the first and the last word of a slot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing was written.
    Blank,
    /// A record was written to its end.
    Record,
    /// It was overwritten with zeros to its end.
    Destroyed,
    /// It was written or overwritten, and not to its end.
    Torn,
}

impl Head {
    pub(super) fn of(first: u32, last: u32) -> Head {
        match (first, last) {
            (0xffff_ffff, 0xffff_ffff) => Head::Blank,
            (MAGIC, DONE) => Head::Record,
            (0, 0) => Head::Destroyed,
            _ => Head::Torn,
        }
    }
}

/// Whether a slot with these first and last words may be one of ours whose writing was cut off: no bit is zero that is one in ours.
pub(super) fn may_be_cut_off(first: u32, last: u32) -> bool {
    Head::of(first, last) == Head::Torn && first & MAGIC == MAGIC && last & DONE == DONE
}

/// The slot of record number `counter`.
///
/// # Errors
/// [`Error::Module`] if the crypto module does not serve.
pub(super) fn encode(counter: u64, record: &Record, key: &MacKey) -> Result<Zeroizing<Image>, Error> {
    let bytes = record.bytes();
    let mut slot = Zeroizing::new([0xff; SLOT_BYTES]);
    slot[..MAC].fill(0);
    slot[..LENGTH].copy_from_slice(&MAGIC.to_le_bytes());
    slot[LENGTH..COUNTER].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    slot[COUNTER..COUNTER + 8].copy_from_slice(&counter.to_le_bytes());
    slot[RECORD..RECORD + bytes.len()].copy_from_slice(bytes);
    let mac = key.mac(&[&slot[..MAC]]).map_err(Error::Module)?;
    slot[MAC..MAC_END].copy_from_slice(&mac);
    slot[SLOT_BYTES - 4..].copy_from_slice(&DONE.to_le_bytes());
    Ok(Zeroizing::new(core::array::from_fn(|word| u32::from_le_bytes(array(&slot, word * 4)))))
}

/// The record of a slot that says it holds one.
///
/// # Errors
/// [`Error::Damaged`] if it does not verify, [`Error::Module`] if the crypto module does not serve.
pub(super) fn decode(image: &Image, key: &MacKey) -> Result<Snapshot, Error> {
    let mut slot = Zeroizing::new([0; SLOT_BYTES]);
    for (bytes, word) in slot.as_chunks_mut::<4>().0.iter_mut().zip(image) {
        *bytes = word.to_le_bytes();
    }
    key.verify(&[&slot[..MAC]], &slot[MAC..MAC_END]).map_err(|error| Error::of_mac(error, Error::Damaged))?;
    let counter = u64::from_le_bytes(array(&slot, COUNTER));
    let len = u32::from_le_bytes(array(&slot, LENGTH)) as usize;
    let bytes = slot[RECORD..MAC].get(..len).ok_or(Error::Damaged)?;
    let record = Record::new(bytes)?;
    // What is ours has one encoding, and numbers begin at one.
    if counter == 0 || *encode(counter, &record, key)? != *image {
        return Err(Error::Damaged);
    }
    Ok(Snapshot { counter, record })
}

fn array<const LEN: usize>(slot: &[u8; SLOT_BYTES], start: usize) -> [u8; LEN] {
    core::array::from_fn(|index| slot[start + index])
}
