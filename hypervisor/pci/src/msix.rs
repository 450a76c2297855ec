//! MSI-X: a table of messages, who may be sent and who waits (PCI Local Bus Specification 3.0, section 6.8.2).
//!
//! An interrupt makes its vector pending. A pending vector whose message may be sent is taken out and sent; so an interrupt that comes
//! while its vector is masked is sent when the mask goes, once. Each store that can open the way ends in [`Msix::take`].

use abi::QUEUES;

use crate::bytes::{self, merge};

/// Vectors that a function has room for: one for configuration changes, one for each queue.
pub const VECTORS: usize = QUEUES + 1;

/// Bytes of an entry.
const ENTRY: usize = 16;
/// `MSI-X Enable` and `Function Mask` of the message control register.
const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;
/// `Mask Bit` of an entry's vector control.
const MASKED: u32 = 1;

/// What is sent for a vector: a store of `data` to `address`, if there is a register that takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to; a multiple of 4.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// A table, its pending bits and its message control.
#[derive(Clone, Debug)]
pub(crate) struct Msix {
    /// Address 31:0, address 63:32, data, vector control.
    entries: [[u32; ENTRY / 4]; VECTORS],
    pending: u32,
    control: u16,
}

impl Msix {
    /// As after power-on: off, every vector masked.
    pub(crate) const NEW: Msix = Msix { entries: [[0, 0, 0, MASKED]; VECTORS], pending: 0, control: 0 };

    /// Whether interrupts are messages.
    pub(crate) fn is_enabled(&self) -> bool {
        self.control & ENABLE != 0
    }

    /// Message control of a function with `vectors` vectors.
    pub(crate) fn control(&self, vectors: usize) -> u16 {
        self.control | (vectors as u16).wrapping_sub(1) & 0x7ff
    }

    /// A store to message control. Nothing waits once MSI-X is off.
    pub(crate) fn set_control(&mut self, value: u16) {
        self.control = value & (ENABLE | FUNCTION_MASK);
        if !self.is_enabled() {
            self.keep(0);
        }
    }

    /// The word at `offset` of the table; 0 behind its end.
    pub(crate) fn word(&self, offset: usize, vectors: usize) -> u32 {
        self.entries.iter().take(vectors).nth(offset / ENTRY).map_or(0, |entry| entry[offset % ENTRY / 4])
    }

    /// A store to the word at `offset` of the table.
    pub(crate) fn set_word(&mut self, offset: usize, value: u32, mask: u32, vectors: usize) {
        const WRITABLE: [u32; ENTRY / 4] = [!3, !0, !0, MASKED];
        if let Some(entry) = self.entries.iter_mut().take(vectors).nth(offset / ENTRY) {
            let field = offset % ENTRY / 4;
            entry[field] = merge(entry[field], value, mask & WRITABLE[field]);
        }
    }

    /// The word at `offset` of the pending bits.
    pub(crate) fn pending(&self, offset: usize) -> u32 {
        if offset == 0 { self.pending } else { 0 }
    }

    /// The vectors of `vectors`, a bit each, have something to say.
    pub(crate) fn raise(&mut self, vectors: u32) {
        if self.is_enabled() {
            self.pending |= vectors;
        }
    }

    /// Takes the pending vectors whose messages may be sent now, a bit each; none unless `may_send`.
    pub(crate) fn take(&mut self, may_send: bool) -> u32 {
        if !may_send || self.control & (ENABLE | FUNCTION_MASK) != ENABLE {
            return 0;
        }
        let open = |vector: &usize| self.entries[*vector][3] & MASKED == 0;
        let open = (0..VECTORS).filter(open).fold(0, |all, vector| all | 1 << vector);
        let sent = self.pending & open;
        self.pending &= !sent;
        sent
    }

    /// Only `vectors`, a bit each, stay pending: nobody speaks by the others any more.
    pub(crate) fn keep(&mut self, vectors: u32) {
        self.pending &= vectors;
    }

    /// The message of `vector`; of one that does not exist, that of the last.
    pub(crate) fn message(&self, vector: usize) -> Message {
        let [low, high, data, _] = self.entries[vector.min(VECTORS - 1)];
        Message { address: u64::from(high) << 32 | u64::from(low), data }
    }

    /// Reads `size` bytes at `offset` of the table.
    pub(crate) fn read(&self, offset: usize, size: usize, vectors: usize) -> u64 {
        bytes::read(offset, size, |at| self.word(at, vectors))
    }
}
