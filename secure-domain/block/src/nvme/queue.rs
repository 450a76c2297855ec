//! A pair of a submission and a completion queue (specification, sections 4.1 and 4.6).
//!
//! The tail of the submission queue never runs into entries that the controller has not fetched, and no head that the controller tells is needed
//! to know that. It fetches in order, and the driver has fewer commands under way than the queue has entries. So of the commands that were put in
//! since the entry was used last, as many as the queue has entries, at least one is complete: that one was fetched, and all before it.

use super::command::{Command, ENTRY_BYTES};
use crate::Dma;

/// Bytes of a completion queue entry.
const COMPLETION_BYTES: usize = 16;
/// Offsets in it (section 4.6).
mod offset {
    pub(super) const SUBMISSION_HEAD: usize = 8;
    pub(super) const SUBMISSION_QUEUE: usize = 10;
    pub(super) const IDENTIFIER: usize = 12;
    /// The phase tag in bit 0, the status above it.
    pub(super) const STATUS: usize = 14;
}
/// Of the status: type and code, without the hints about retries.
const STATUS_CODE: u16 = 0x7ff;

/// A command that the controller says is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) identifier: u16,
    /// Type and code; 0 is success.
    pub(super) status: u16,
}

/// A pair of queues with the same number and as many entries each, at these offsets of the DMA region.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) number: u16,
    pub(super) entries: u16,
    pub(super) submissions: usize,
    pub(super) completions: usize,
    tail: u16,
    head: u16,
    /// The phase tag of entries that are new. It turns with every round.
    phase: u16,
    /// The head that the controller was shown.
    shown_head: u16,
}

impl Pair {
    /// A pair whose completion queue is all zeros.
    pub(super) fn new(number: u16, entries: u16, submissions: usize, completions: usize) -> Pair {
        Pair { number, entries, submissions, completions, tail: 0, head: 0, phase: 1, shown_head: 0 }
    }

    /// The first entry that is free.
    pub(super) fn tail(&self) -> u16 {
        self.tail
    }

    /// Puts a command in. The caller has fewer under way than there are entries, less one.
    pub(super) fn put(&mut self, dma: &mut impl Dma, command: &Command, identifier: u16) {
        let at = self.submissions + ENTRY_BYTES * usize::from(self.tail);
        for (index, word) in command.entry(identifier).into_iter().enumerate() {
            dma.store64(at + 8 * index, word);
        }
        self.tail = self.next(self.tail);
    }

    /// The next completion, or none yet. An entry that cannot be this queue's is an error.
    pub(super) fn take(&mut self, dma: &impl Dma) -> Option<Result<Posted, NotOurs>> {
        let at = self.completions + COMPLETION_BYTES * usize::from(self.head);
        // Acquire order: the rest of the entry, and the data of a read, are loaded behind its phase tag.
        let status = dma.load16(at + offset::STATUS);
        if status & 1 != self.phase {
            return None;
        }
        self.head = self.next(self.head);
        self.phase ^= u16::from(self.head == 0);
        let queue = dma.load16(at + offset::SUBMISSION_QUEUE);
        let submission_head = dma.load16(at + offset::SUBMISSION_HEAD);
        if queue != self.number || submission_head >= self.entries {
            return Some(Err(NotOurs));
        }
        Some(Ok(Posted { identifier: dma.load16(at + offset::IDENTIFIER), status: status >> 1 & STATUS_CODE }))
    }

    /// The head to show to the controller, if it has not seen it.
    pub(super) fn head_to_show(&mut self) -> Option<u16> {
        (core::mem::replace(&mut self.shown_head, self.head) != self.head).then_some(self.head)
    }

    fn next(&self, index: u16) -> u16 {
        if index + 1 == self.entries { 0 } else { index + 1 }
    }
}

/// A completion of another queue, or that speaks of an entry that the submission queue does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOurs;
