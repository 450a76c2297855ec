//! The freshness anchor: a small record behind a counter that never goes back.
//!
//! A disk can be copied and put back; all that is on it then verifies again. What tells the old copy from the disk is a few
//! bytes that the thief of the disk cannot put back as well: the [`MonotonicStore`]. It holds one [`Record`] and a counter of
//! how often the record was replaced. A replacement names the counter it expects, so that nobody replaces what he has not seen.
//!
//! It keeps the record true and fresh, not hidden: anybody can read an RPMB, and flash on a bus. A secret in it must be worth
//! nothing without another that the thief has not.
//!
//! An advance is atomic: after a power cut at any point the store holds the old record under the old counter or the new one
//! under the new counter. Who was cut off reads it to know which.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "ram"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
pub mod flash;
#[cfg(any(test, feature = "ram"))]
pub mod ram;
mod record;
pub mod rpmb;

pub use error::Error;
pub use record::{RECORD_BYTES, Record};

/// What the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How often the record was replaced. 0: never, and the record is empty.
    pub counter: u64,
    /// The record.
    pub record: Record,
}

/// A record behind a counter that only goes up.
///
/// One advance at a time: [`start`](Self::start), then [`poll`](Self::poll) until it answers. Neither waits.
pub trait MonotonicStore {
    /// Reads counter and record; may wait for the device, for a bounded time. Meant for the mount, and for after an error.
    ///
    /// # Errors
    /// [`Error::Busy`] while an advance is under way; otherwise why the store cannot be believed or does not answer.
    fn read(&mut self) -> Result<Snapshot, Error>;

    /// Starts replacing the record, if the counter is `expected_counter`; the counter then goes up by one.
    ///
    /// The replaced record may stay on the medium until the next advance. After two advances nothing of it is left, as far as the
    /// device overwrites what it is told to: who must destroy a secret advances twice.
    ///
    /// # Errors
    /// Nothing was started: [`Error::Busy`]; [`Error::Unread`] before the first [`read`](Self::read) and after an advance that
    /// failed; or what can be told at once, like [`Error::CounterMismatch`].
    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error>;

    /// Goes on with the advance; the new counter once it is durable. `None`: not yet, or none is under way.
    ///
    /// # Errors
    /// After [`Error::Refused`] the old record stands. After any other error either may stand, and [`read`](Self::read) tells.
    fn poll(&mut self) -> Option<Result<u64, Error>>;
}

impl<S: MonotonicStore + ?Sized> MonotonicStore for &mut S {
    fn read(&mut self) -> Result<Snapshot, Error> {
        (**self).read()
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error> {
        (**self).start(expected_counter, record)
    }

    fn poll(&mut self) -> Option<Result<u64, Error>> {
        (**self).poll()
    }
}
