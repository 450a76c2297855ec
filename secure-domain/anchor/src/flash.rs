//! The development anchor: a journal in parallel NOR flash, for machines that have nothing better.
//!
//! **It is no anchor against who reaches the flash**: he copies it, and puts it back together with the disk. It stands in where
//! there is no RPMB, as in QEMU, and does all that an anchor does against everybody else: power cuts, old copies of the disk.
//!
//! Flash turns single bits from one to zero, and back to one only in whole sectors. So the journal has two sectors of slots,
//! written in turn: a record goes into the next blank slot, its first word first and its last word last. A slot whose first and
//! last words are right is a record and must verify; a slot that was cut off in the middle is neither blank nor a record, and is
//! passed over. When a sector is full, the other one is erased, while the newest record stays where it is.
//!
//! ```text
//! slot of 128 words   0       4        8         16      32       256   288    508
//!                     magic   length   counter   zeros   record   MAC   ones   done
//! ```
//!
//! Before a record is written, everything older than the newest one is overwritten with zeros, first word first and last word
//! last, so that two advances leave nothing of a record. It also makes sure that a sector to be erased holds no record: half an
//! erasure could leave one that looks changed.
//!
//! Who is not ours is not touched: without one record of ours, only a journal that is blank (or in which the very first record
//! was cut off) is written, and nothing is ever erased.

#[cfg(any(test, feature = "ram"))]
pub mod model;
pub mod nor;
mod slot;
#[cfg(test)]
mod tests;

use block::Registers;
use crypto::module::MacKey;
use zeroize::Zeroizing;

use crate::{Error, MonotonicStore, Record, Snapshot};
use nor::Nor;
use slot::{Head, Image, SLOT_BYTES, SLOT_WORDS};

/// Slots of a sector that are used, at most.
const MAX_SLOTS: usize = 512;
/// How often the flash is asked in vain whether it has finished. It answers in less than a second by its data sheet, and one
/// question takes longer than 50 ns.
const PATIENCE: u32 = 1 << 26;
/// Flash operations that one call of `poll` starts, at most.
const OPERATIONS: usize = 8;

/// A set of slots: one bit each.
#[derive(Clone, Debug, Default)]
struct SlotSet([u64; 2 * MAX_SLOTS / 64]);

impl SlotSet {
    const EMPTY: SlotSet = SlotSet([0; 2 * MAX_SLOTS / 64]);

    fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    fn first(&self) -> Option<usize> {
        let word = self.0.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }
}

/// What is known of the journal.
#[derive(Clone, Debug)]
struct Known {
    counter: u64,
    /// The newest record; `None` if there was never one.
    newest: Option<usize>,
    /// Slots that hold something older, or something that was cut off.
    dirty: SlotSet,
}

/// What an advance does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Overwrites a slot with zeros, from this word on.
    Destroy { slot: usize, word: usize },
    /// Erases a sector.
    Erase { sector: usize },
    /// Writes the record, from this word on.
    Write { word: usize },
}

/// An advance under way.
struct Advance {
    known: Known,
    slot: usize,
    image: Zeroizing<Image>,
    /// A sector to erase before `slot` can be written.
    erase: Option<usize>,
    step: Step,
    /// Questions in vain since the last answer; `None` while no operation is under way.
    asked: Option<u32>,
}

/// The journal in the first two sectors of a bank.
pub struct DevelopmentAnchor<R> {
    nor: Nor<R>,
    key: MacKey,
    /// Slots of a sector.
    slots: usize,
    known: Option<Known>,
    advance: Option<Advance>,
}

impl<R: Registers> DevelopmentAnchor<R> {
    /// The journal in the flash bank behind `registers`. `key` serves nothing else.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is no flash of the kind that [`nor`] drives.
    pub fn new(registers: R, key: MacKey) -> Result<Self, Error> {
        let nor = Nor::probe(registers)?;
        let slots = (nor.geometry().sector_bytes / SLOT_BYTES).min(MAX_SLOTS);
        if slots < 2 || nor.geometry().sectors < 2 {
            return Err(Error::NoDevice);
        }
        Ok(DevelopmentAnchor { nor, key, slots, known: None, advance: None })
    }

    /// The flash bank.
    pub fn registers(&mut self) -> &mut R {
        self.nor.registers()
    }

    fn offset(&self, slot: usize) -> usize {
        slot / self.slots * self.nor.geometry().sector_bytes + slot % self.slots * SLOT_BYTES
    }

    fn word(&self, slot: usize, word: usize) -> u32 {
        self.nor.word(self.offset(slot) + word * 4)
    }

    fn head(&self, slot: usize) -> Head {
        Head::of(self.word(slot, 0), self.word(slot, SLOT_WORDS - 1))
    }

    fn image(&self, slot: usize) -> Zeroizing<Image> {
        Zeroizing::new(core::array::from_fn(|word| self.word(slot, word)))
    }

    fn is_blank(&self, slot: usize) -> bool {
        (0..SLOT_WORDS).all(|word| self.word(slot, word) == !0)
    }

    /// Finds the newest record, and what else there is.
    fn scan(&self) -> Result<(Known, Snapshot), Error> {
        let mut known = Known { counter: 0, newest: None, dirty: SlotSet::EMPTY };
        let mut found = Snapshot { counter: 0, record: Record::EMPTY };
        for slot in 0..2 * self.slots {
            match self.head(slot) {
                Head::Blank | Head::Destroyed => {}
                Head::Torn => known.dirty.insert(slot),
                Head::Record => {
                    let snapshot = slot::decode(&self.image(slot), &self.key)?;
                    if snapshot.counter == found.counter {
                        return Err(Error::Damaged);
                    }
                    let newer = snapshot.counter > found.counter;
                    let old = if newer { known.newest.replace(slot) } else { Some(slot) };
                    old.into_iter().for_each(|slot| known.dirty.insert(slot));
                    found = if newer { snapshot } else { found };
                }
            }
        }
        if known.newest.is_none() {
            self.check_fresh()?;
        }
        known.counter = found.counter;
        Ok((known, found))
    }

    /// Without a record, only blank slots are allowed, and before them such in which the first record was cut off.
    fn check_fresh(&self) -> Result<(), Error> {
        let cut_off = (0..self.slots)
            .take_while(|&slot| slot::may_be_cut_off(self.word(slot, 0), self.word(slot, SLOT_WORDS - 1)))
            .count();
        if cut_off < self.slots && (cut_off..2 * self.slots).all(|slot| self.is_blank(slot)) {
            Ok(())
        } else {
            Err(Error::Foreign)
        }
    }

    /// The slot for the next record, and the sector to erase before.
    fn place(&self, known: &mut Known) -> (usize, Option<usize>) {
        let (sector, from) = known.newest.map_or((0, 0), |newest| (newest / self.slots, newest + 1));
        for slot in from..(sector + 1) * self.slots {
            if self.is_blank(slot) {
                return (slot, None);
            }
            // Torn, or decayed since: passed over like the others.
            if self.head(slot) != Head::Destroyed {
                known.dirty.insert(slot);
            }
        }
        let other = 1 - sector;
        (other * self.slots, Some(other))
    }

    /// What to do once everything up to the last step is done.
    fn next_step(known: &Known, erase: Option<usize>) -> Step {
        // Without a record of ours nothing is overwritten: what is cut off must stay recognisable.
        match (known.newest.and(known.dirty.first()), erase) {
            (Some(slot), _) => Step::Destroy { slot, word: 0 },
            (None, Some(sector)) => Step::Erase { sector },
            (None, None) => Step::Write { word: 0 },
        }
    }

    /// Starts the next operation; `false` if there is none left.
    fn operate(&mut self, advance: &mut Advance) -> Result<bool, Error> {
        match &mut advance.step {
            Step::Destroy { slot, word } if *word < SLOT_WORDS => {
                let words = self.nor.run(*word, SLOT_WORDS);
                let offset = self.offset(*slot) + *word * 4;
                self.nor.program(offset, &[0; SLOT_WORDS][..words])?;
                *word += words;
            }
            Step::Destroy { slot, .. } => {
                advance.known.dirty.remove(*slot);
                advance.step = Self::next_step(&advance.known, advance.erase);
                return self.operate(advance);
            }
            Step::Erase { sector } => {
                self.nor.erase(*sector)?;
                advance.erase = None;
                advance.step = Step::Write { word: 0 };
            }
            Step::Write { word } if *word < SLOT_WORDS => {
                let words = self.nor.run(*word, SLOT_WORDS);
                let offset = self.offset(advance.slot) + *word * 4;
                self.nor.program(offset, &advance.image[*word..*word + words])?;
                *word += words;
            }
            Step::Write { .. } => return Ok(false),
        }
        advance.asked = Some(0);
        Ok(true)
    }

    /// Goes on as far as the flash is ready; `None`: it is not.
    fn proceed(&mut self, advance: &mut Advance) -> Option<Result<u64, Error>> {
        for _ in 0..OPERATIONS {
            if let Some(asked) = &mut advance.asked {
                match self.nor.finished() {
                    None if *asked == PATIENCE => return Some(Err(Error::Silent)),
                    None => {
                        *asked += 1;
                        return None;
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    Some(Ok(())) => advance.asked = None,
                }
            }
            match self.operate(advance) {
                Ok(true) => {}
                Ok(false) => return Some(self.conclude(advance)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// The record is written: reads it back.
    fn conclude(&mut self, advance: &mut Advance) -> Result<u64, Error> {
        if self.image(advance.slot) != advance.image {
            return Err(Error::Device);
        }
        let mut known = advance.known.clone();
        known.counter += 1; // It was checked that there is a next one.
        known.newest.replace(advance.slot).into_iter().for_each(|slot| known.dirty.insert(slot));
        let counter = known.counter;
        self.known = Some(known);
        Ok(counter)
    }
}

impl<R: Registers> MonotonicStore for DevelopmentAnchor<R> {
    fn read(&mut self) -> Result<Snapshot, Error> {
        if self.advance.is_some() {
            return Err(Error::Busy);
        }
        self.known = None;
        let (known, snapshot) = self.scan()?;
        self.known = Some(known);
        Ok(snapshot)
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error> {
        if self.advance.is_some() {
            return Err(Error::Busy);
        }
        let found = self.known.as_ref().ok_or(Error::Unread)?.counter;
        if found != expected_counter {
            return Err(Error::CounterMismatch { expected: expected_counter, found });
        }
        let counter = found.checked_add(1).ok_or(Error::Exhausted)?;
        let image = slot::encode(counter, record, &self.key)?;
        let mut known = self.known.take().ok_or(Error::Unread)?;
        let (slot, erase) = self.place(&mut known);
        let step = Self::next_step(&known, erase);
        self.advance = Some(Advance { known, slot, image, erase, step, asked: None });
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<u64, Error>> {
        let mut advance = self.advance.take()?;
        let result = self.proceed(&mut advance);
        if result.is_none() {
            self.advance = Some(advance);
        }
        result
    }
}
