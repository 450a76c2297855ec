//! The requests that a driver has under way, each in a slot whose number names it to the device.

use crate::{Buffer, Completion, Error};

/// Requests in flight, where the device allows as many.
pub const DEPTH: usize = 64;

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight<N> {
    pub(crate) tag: u32,
    pub(crate) buffer: Option<Buffer>,
    /// What its driver notes of it.
    pub(crate) note: N,
}

impl<N> InFlight<N> {
    /// The request ends; its buffer goes back.
    pub(crate) fn complete(self, result: Result<(), Error>) -> Completion {
        Completion { tag: self.tag, result, buffer: self.buffer }
    }
}

/// All slots of a driver.
#[derive(Debug)]
pub(crate) struct Slots<N> {
    all: [Option<InFlight<N>>; DEPTH],
    free: [u8; DEPTH],
    free_len: usize,
    /// Where the search for orphans goes on.
    orphans: usize,
}

impl<N> Slots<N> {
    /// For `depth` requests at a time, at most [`DEPTH`].
    pub(crate) fn new(depth: usize) -> Slots<N> {
        let free = core::array::from_fn(|slot| slot as u8);
        Slots { all: core::array::from_fn(|_| None), free, free_len: depth.min(DEPTH), orphans: 0 }
    }

    /// Requests that can still be put in.
    pub(crate) fn room(&self) -> usize {
        self.free_len
    }

    /// The slot that [`Slots::put`] takes next, if one is free.
    pub(crate) fn next(&self) -> Option<usize> {
        self.free_len.checked_sub(1).map(|last| self.free[last].into())
    }

    /// Puts a request into the next slot; one must be free.
    pub(crate) fn put(&mut self, request: InFlight<N>) {
        self.free_len -= 1;
        self.all[usize::from(self.free[self.free_len])] = Some(request);
    }

    /// The request in `slot`, any number that a device may name.
    pub(crate) fn get(&self, slot: usize) -> Option<&InFlight<N>> {
        self.all.get(slot)?.as_ref()
    }

    /// Takes the request out of `slot`, if there is one.
    pub(crate) fn take(&mut self, slot: usize) -> Option<InFlight<N>> {
        let request = self.all.get_mut(slot)?.take()?;
        self.free[self.free_len] = slot as u8;
        self.free_len += 1;
        Some(request)
    }

    /// The end of another request of a disk that is broken. Its buffer is *not* given back: the device may still write to it.
    pub(crate) fn next_orphan(&mut self) -> Option<Completion> {
        while self.orphans < DEPTH {
            let request = self.all[self.orphans].take();
            self.orphans += 1;
            if let Some(request) = request {
                return Some(Completion { tag: request.tag, result: Err(Error::Broken), buffer: None });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn request(tag: u32) -> InFlight<()> {
        InFlight { tag, buffer: None, note: () }
    }

    #[test]
    fn what_a_device_names_and_nobody_asked_is_none() {
        let mut slots = Slots::<()>::new(2);
        assert!(slots.get(0).is_none() && slots.take(1).is_none() && slots.take(usize::MAX).is_none());
        assert_eq!(slots.room(), 2);
    }

    #[test]
    fn a_slot_is_taken_once_and_free_again() {
        let mut slots = Slots::new(2);
        let first = slots.next().unwrap();
        slots.put(request(7));
        let second = slots.next().unwrap();
        slots.put(request(8));
        assert!(first != second && slots.next().is_none());
        assert_eq!(slots.take(first).map(|request| request.tag), Some(7));
        assert!(slots.take(first).is_none());
        assert_eq!((slots.room(), slots.next()), (1, Some(first)));
    }

    #[test]
    fn each_orphan_comes_once_and_its_slot_is_no_more_given_away() {
        let mut slots = Slots::new(DEPTH);
        (0..3).for_each(|tag| slots.put(request(tag)));
        let mut tags: Vec<_> = core::iter::from_fn(|| slots.next_orphan()).map(|orphan| orphan.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, [0, 1, 2]);
        assert_eq!(slots.room(), DEPTH - 3);
    }
}
