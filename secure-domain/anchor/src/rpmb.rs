//! An anchor in the replay-protected memory block of an eMMC or UFS device.
//!
//! The device shares a key with us and signs what it says (JEDEC eMMC 5.1, section 6.6.22). It counts its writes, so that a write
//! cannot be repeated, and puts our nonce into what it reads out, so that a reading cannot be repeated either. The path to it may
//! belong to anybody: who sits there can withhold and delay, and nothing else.
//!
//! Two things follow for us:
//!
//! - *The answer to a write proves little.* It carries no nonce and no data: it says only that *some* write of ours under this
//!   count took place. Who withheld an earlier write of ours, which we then replaced by another under the same count, can carry
//!   out the earlier one and hand us the answer (CVE-2020-13799). So every write is followed by a reading of its block under a
//!   fresh nonce, and that alone decides. It also settles the case of an answer that was lost.
//! - *A write that failed may still take place*, for as long as no other write does: the frame is out there. So a failure means
//!   "either record", even if a reading shows the old one. The next advance that succeeds makes an end to it.
//!
//! Record number `counter` lies in block `counter % 2`, so that a device that tears a block in a power cut leaves us the other.
//!
//! ```text
//! block of 256 bytes   0       8         16       17      24      32
//!                      magic   counter   length   zeros   check   record, then zeros
//! ```

mod exchange;
mod frame;
#[cfg(any(test, feature = "ram"))]
pub mod model;
mod slot;
#[cfg(test)]
mod tests;

use crypto::module::MacKey;
use zeroize::Zeroizing;

use crate::{Error, MonotonicStore, Record, Snapshot};

pub use exchange::Question;
pub use frame::{BLOCK_BYTES, FRAME_BYTES, Fields, Frame, NONCE_BYTES, kind, result};
use slot::Slot;

/// The way to the device's RPMB.
pub trait FrameLink {
    /// Starts an exchange: hands the device each of `requests` in a transfer of its own (a key or a write as a *reliable write*,
    /// section 6.6.22.4), then asks for one frame. One exchange at a time.
    ///
    /// # Errors
    /// [`Error::Device`] if the exchange cannot be started.
    fn start(&mut self, requests: &[Frame]) -> Result<(), Error>;

    /// The device's frame, or [`Error::Silent`] or [`Error::Device`] if there will be none; `None`: not yet.
    fn poll(&mut self) -> Option<Result<Frame, Error>>;

    /// Lets time pass until [`poll`](Self::poll) may have something; `false` once it has lasted too long.
    fn wait(&mut self) -> bool;
}

impl<L: FrameLink + ?Sized> FrameLink for &mut L {
    fn start(&mut self, requests: &[Frame]) -> Result<(), Error> {
        (**self).start(requests)
    }

    fn poll(&mut self) -> Option<Result<Frame, Error>> {
        (**self).poll()
    }

    fn wait(&mut self) -> bool {
        (**self).wait()
    }
}

/// What is known of the device.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The anchor's counter.
    counter: u64,
    /// The device's count of its writes.
    writes: u32,
}

/// An advance under way.
struct Advance {
    next: Known,
    block: Zeroizing<[u8; BLOCK_BYTES]>,
    question: Question,
    /// Whether the write was answered, well or not; then its block is being read.
    written: Option<Result<(), Error>>,
}

/// The anchor in two blocks of an RPMB.
pub struct RpmbAnchor<L, N> {
    link: L,
    nonce: N,
    key: MacKey,
    /// Address of the first of the two blocks.
    base: u16,
    known: Option<Known>,
    advance: Option<Advance>,
}

impl<L: FrameLink, N: FnMut() -> [u8; NONCE_BYTES]> RpmbAnchor<L, N> {
    /// The anchor in blocks `base` and `base + 1` of the device behind `link`, which has `key`. `nonce` gives bytes that nobody
    /// can foresee.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is no block `base + 1`.
    pub fn new(link: L, key: MacKey, base: u16, nonce: N) -> Result<Self, Error> {
        base.checked_add(1).ok_or(Error::NoDevice)?;
        Ok(RpmbAnchor { link, nonce, key, base, known: None, advance: None })
    }

    /// Gives a device that has no key its key, for ever. Done once, at manufacture, where nobody listens: the key travels in the
    /// clear. A device that has this key already is left alone.
    ///
    /// # Errors
    /// [`Error::Forged`] if the device has another key, else why it did not take the key.
    pub fn provision(&mut self, key: &[u8; 32]) -> Result<(), Error> {
        match self.writes() {
            Err(Error::NoKey) => {}
            other => return other.map(|_| ()),
        }
        self.link.start(&[Frame::program_key(key), Frame::read_result()])?;
        let answer = self.await_frame()?.fields();
        if answer.kind != kind::response(kind::PROGRAM_KEY) || answer.result != result::OK {
            return Err(Error::Device);
        }
        self.writes().map(|_| ())
    }

    /// The link, for tests and for the driver's own interrupts.
    pub fn link(&mut self) -> &mut L {
        &mut self.link
    }

    /// The device's count of its writes.
    fn writes(&mut self) -> Result<u32, Error> {
        let question = Question::ReadCounter { nonce: (self.nonce)() };
        Ok(self.ask(question)?.write_counter)
    }

    fn slot(&mut self, index: u16) -> Result<Slot, Error> {
        let question = Question::ReadBlock { address: self.base + index, nonce: (self.nonce)() };
        Slot::parse(&self.ask(question)?.data, index, self.key.module())
    }

    /// Asks, waits and checks the answer.
    fn ask(&mut self, question: Question) -> Result<Fields, Error> {
        self.link.start(&[question.frame()])?;
        let answer = self.await_frame()?;
        question.check(&answer, &self.key)
    }

    fn await_frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(answer) = self.link.poll() {
                return answer;
            }
            if !self.link.wait() {
                return Err(Error::Silent);
            }
        }
    }

    /// Makes the next step of `advance` with the device's frame, if it brought one; `None`: there is another step.
    fn step(&mut self, mut advance: Advance, answer: Result<Frame, Error>) -> Option<Result<u64, Error>> {
        let answer = answer.and_then(|frame| advance.question.check(&frame, &self.key));
        let Some(written) = advance.written else {
            advance.written = Some(answer.map(|_| ()));
            return self.read_back(advance);
        };
        let result = match answer {
            Ok(fields) if fields.data == *advance.block => {
                self.known = Some(advance.next);
                Ok(advance.next.counter)
            }
            Ok(_) => Err(written.err().unwrap_or(Error::Forged)),
            Err(error) => Err(written.err().unwrap_or(error)),
        };
        Some(result)
    }

    /// Starts reading the block that was written.
    fn read_back(&mut self, mut advance: Advance) -> Option<Result<u64, Error>> {
        advance.question = Question::ReadBlock { address: self.address(advance.next.counter), nonce: (self.nonce)() };
        if let Err(error) = self.link.start(&[advance.question.frame()]) {
            return Some(Err(error));
        }
        self.advance = Some(advance);
        None
    }

    /// Where record number `counter` lies.
    fn address(&self, counter: u64) -> u16 {
        self.base + (counter % 2) as u16
    }
}

impl<L: FrameLink, N: FnMut() -> [u8; NONCE_BYTES]> MonotonicStore for RpmbAnchor<L, N> {
    fn read(&mut self) -> Result<Snapshot, Error> {
        if self.advance.is_some() {
            return Err(Error::Busy);
        }
        self.known = None;
        let writes = self.writes()?;
        let slots = [self.slot(0)?, self.slot(1)?];
        let snapshot = slot::choose(slots)?;
        self.known = Some(Known { counter: snapshot.counter, writes });
        Ok(snapshot)
    }

    fn start(&mut self, expected_counter: u64, record: &Record) -> Result<(), Error> {
        if self.advance.is_some() {
            return Err(Error::Busy);
        }
        let Known { counter, writes } = self.known.ok_or(Error::Unread)?;
        if counter != expected_counter {
            return Err(Error::CounterMismatch { expected: expected_counter, found: counter });
        }
        let next = Known {
            counter: counter.checked_add(1).ok_or(Error::Exhausted)?,
            writes: writes.checked_add(1).ok_or(Error::Exhausted)?,
        };
        let block = slot::encode(next.counter, record, self.key.module())?;
        let question = Question::Write { address: self.address(next.counter), writes };
        let requests = [question.write_frame(&block, &self.key)?, Frame::read_result()];
        self.link.start(&requests)?;
        self.known = None;
        self.advance = Some(Advance { next, block, question, written: None });
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<u64, Error>> {
        // Two steps: the write, and the reading of its block.
        for _ in 0..2 {
            let advance = self.advance.take()?;
            let Some(answer) = self.link.poll() else {
                self.advance = Some(advance);
                return None;
            };
            if let Some(result) = self.step(advance, answer) {
                return Some(result);
            }
        }
        None
    }
}
