//! What the general domain may write into the configuration of its functions.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{Configuration, Endpoint, Function, INTERRUPT_DISABLE, MEMORY_SPACE, offset};

/// What is behind it is extended configuration space.
const COMPATIBLE_BYTES: usize = 0x100;

/// A function of the general domain's.
#[derive(Clone, Debug)]
struct Own {
    endpoint: Endpoint,
    /// Its interrupt has a line that is not the domain's, so it raises none.
    silent: bool,
}

/// The functions of the general domain, and the addresses at which none of them may answer.
///
/// Nothing is remembered of what was written: a function that is reset forgets it too. What would be after a write is worked out from what the
/// function says before it, and only a write that would make it answer in the window is not done. Who calls sees to it that there is one at a time.
#[derive(Clone, Debug)]
pub struct Filter {
    own: Vec<Own>,
    window: Range<u64>,
}

/// A store: where, how many bytes, which.
#[derive(Clone, Copy, Debug)]
struct Store {
    offset: usize,
    size: usize,
    value: u32,
}

impl Store {
    /// The word at `at` after it, if it is `before` it.
    fn apply(&self, at: usize, before: u32) -> u32 {
        if self.offset & !3 != at {
            return before;
        }
        let shift = 8 * (self.offset & 3) as u32;
        let mask = (u32::MAX >> (32 - 8 * self.size as u32)) << shift;
        before & !mask | self.value << shift & mask
    }

    /// With `bits` of the word at `at` set, as far as it writes them.
    fn with(self, at: usize, bits: u32) -> Store {
        if self.offset & !3 != at {
            return self;
        }
        Store { value: self.value | bits >> (8 * (self.offset & 3)), ..self }
    }
}

impl Filter {
    /// `endpoints` are the general domain's; `window` are bus addresses at which none may answer, and `silent` says which must not interrupt.
    pub fn new(
        endpoints: impl IntoIterator<Item = Endpoint>,
        window: Range<u64>,
        silent: impl Fn(&Endpoint) -> bool,
    ) -> Filter {
        let own = endpoints.into_iter().map(|endpoint| Own { silent: silent(&endpoint), endpoint }).collect();
        Filter { own, window }
    }

    /// The functions of the general domain.
    pub fn functions(&self) -> impl Iterator<Item = Function> {
        self.own.iter().map(|own| own.endpoint.function)
    }

    /// The general domain stores the low `size` bytes of `value` at `offset` of the configuration space of `function`. Returns whether that was
    /// done: not if the function is not its own, in extended configuration space, with another width than configuration space has, and if the
    /// function would come to answer in the window.
    pub fn write(&self, space: &dyn Configuration, function: Function, offset: usize, size: usize, value: u64) -> bool {
        let Some(own) = self.own.iter().find(|own| own.endpoint.function == function) else { return false };
        if !matches!(size, 1 | 2 | 4) || !offset.is_multiple_of(size) || offset >= COMPATIBLE_BYTES {
            return false;
        }
        let forced = if own.silent { INTERRUPT_DISABLE } else { 0 };
        let store = Store { offset, size, value: value as u32 }.with(offset::COMMAND, forced);
        if self.intrudes(space, &own.endpoint, &store) {
            return false;
        }
        match size {
            1 => space.write8(function, offset, store.value as u8),
            2 => space.write16(function, offset, store.value as u16),
            _ => space.write32(function, offset, store.value),
        }
        true
    }

    /// Whether the function would answer in the window after `store`.
    fn intrudes(&self, space: &dyn Configuration, endpoint: &Endpoint, store: &Store) -> bool {
        if store.offset >= offset::CAPABILITIES {
            return false;
        }
        let after = |at: usize| store.apply(at, space.read32(endpoint.function, at));
        let answers = after(offset::COMMAND) & MEMORY_SPACE != 0;
        let mut decoded = endpoint.bars.iter().filter_map(|bar| bar.range(after));
        answers && decoded.any(|range| range.start < self.window.end && self.window.start < range.end)
    }
}
