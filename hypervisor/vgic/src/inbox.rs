//! What other cores ask of a vCPU's core: interrupts to be looked at, list registers to be revised. Lock-free, so that a sender
//! never waits for the receiver.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::lists::{Set, WORDS};

/// A private interrupt is in the box.
pub(crate) const PRIVATE: u32 = 1 << 0;
/// An SPI is in the box.
pub(crate) const SHARED: u32 = 1 << 1;
/// Something that a list register holds was changed.
pub(crate) const REVISE: u32 = 1 << 2;
/// Everything pending must be looked at (a group was enabled).
pub(crate) const SURVEY: u32 = 1 << 3;

#[derive(Debug)]
pub(crate) struct Inbox {
    attention: AtomicU32,
    words: [AtomicU32; WORDS],
}

impl Inbox {
    pub(crate) const fn new() -> Inbox {
        Inbox { attention: AtomicU32::new(0), words: [const { AtomicU32::new(0) }; WORDS] }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.attention.store(0, Ordering::Release);
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// What was asked for and not taken yet.
    #[inline]
    pub(crate) fn attention(&self) -> u32 {
        self.attention.load(Ordering::Acquire)
    }

    /// Whether a change of the list registers is still to be made.
    #[inline]
    pub(crate) fn revision_waits(&self) -> bool {
        self.attention() & (REVISE | SURVEY) != 0
    }

    /// Asks the receiver to look at `bits` of `word`, and for `flags`.
    #[inline]
    pub(crate) fn push_word(&self, word: usize, bits: u32, flags: u32) {
        self.words[word].fetch_or(bits, Ordering::Relaxed);
        let kind = if word == 0 { PRIVATE } else { SHARED };
        self.attention.fetch_or(kind | flags, Ordering::Release);
    }

    #[inline]
    pub(crate) fn push(&self, intid: u32, flags: u32) {
        self.push_word((intid / 32) as usize, 1 << (intid % 32), flags);
    }

    /// Asks for `flags` only.
    #[inline]
    pub(crate) fn ask(&self, flags: u32) {
        self.attention.fetch_or(flags, Ordering::Release);
    }

    /// Moves everything into `ready`; returns the flags.
    pub(crate) fn take(&self, ready: &mut Set) -> u32 {
        let flags = self.attention.swap(0, Ordering::Acquire);
        let words = match (flags & PRIVATE != 0, flags & SHARED != 0) {
            (false, false) => 0..0,
            (true, false) => 0..1,
            _ => 0..WORDS,
        };
        for word in words {
            ready.insert_word(word, self.words[word].swap(0, Ordering::Relaxed));
        }
        flags
    }

    /// Takes the private interrupts if nothing else was asked for.
    #[inline]
    pub(crate) fn take_private(&self) -> Option<u32> {
        let only = self.attention.compare_exchange(PRIVATE, 0, Ordering::Acquire, Ordering::Relaxed);
        only.is_ok().then(|| self.words[0].swap(0, Ordering::Relaxed))
    }
}
