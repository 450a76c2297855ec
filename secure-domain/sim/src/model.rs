//! What a volume may say: for every block, each write that its contents can come from.
//!
//! A write is *before* another when it had ended when the other was submitted; writes that overlap in time have no order. What a
//! reader may see follows from that alone:
//!
//! - **now**: not a write that is before another one which has succeeded;
//! - **after a power cut**: not a write that is before another one which a successful flush covered (one that had succeeded when
//!   the flush was submitted). So flushed data is there, and of what was not flushed any write may be;
//! - **after someone put an old disk back**: not a write that is before another one whose flush had succeeded when an advance of
//!   the anchor began that has completed.
//!
//! A write that failed may have happened or not, and until another one succeeds its block may also be unreadable.

use std::collections::BTreeMap;

use crate::power::Time;

/// What is known about the durability of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It is under way, has failed, or has been succeeded without a flush.
    Volatile,
    /// A flush covered it, which succeeded then.
    Flushed(Time),
    /// The anchor knows of that flush.
    Anchored,
}

/// A write that a block's contents can come from.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// Number of the plaintext.
    number: u64,
    submitted: Time,
    /// When it was answered.
    ended: Option<Time>,
    succeeded: bool,
    fate: Fate,
}

impl Write {
    fn is_before(&self, other: &Write) -> bool {
        self.ended.is_some_and(|ended| ended < other.submitted)
    }

    /// Whether the guest was told of its success before `time`.
    fn had_succeeded(&self, time: Time) -> bool {
        self.succeeded && self.ended.is_some_and(|ended| ended < time)
    }
}

/// The history of one block.
#[derive(Clone, Debug)]
pub struct Block {
    writes: Vec<Write>,
    /// It has held something else than zeros.
    filled: bool,
}

/// Which promise a content is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What a read that was submitted then may see.
    Live(Time),
    /// What may be left after a power cut.
    Durable,
    /// What may be left when someone put back an old disk.
    Anchored,
}

impl Default for Block {
    fn default() -> Block {
        let zeros = Write { number: 0, submitted: 0, ended: Some(0), succeeded: true, fate: Fate::Anchored };
        Block { writes: vec![zeros], filled: false }
    }
}

impl Block {
    /// The numbers of the plaintexts that it may hold.
    pub fn allowed(&self, view: View) -> Vec<u64> {
        let allowed = self.writes.iter().filter(|write| !self.is_superseded(write, view));
        allowed.map(|write| write.number).collect()
    }

    /// Whether it may hold this plaintext.
    pub fn allows(&self, number: u64, view: View) -> bool {
        self.writes.iter().any(|write| write.number == number && !self.is_superseded(write, view))
    }

    /// Whether a failed write excuses an unreadable block.
    pub fn is_unsure(&self, view: View) -> bool {
        let failed = |write: &&Write| write.ended.is_some() && !write.succeeded;
        self.writes.iter().filter(failed).any(|write| !self.is_superseded(write, view))
    }

    /// Whether a write to it has no answer yet.
    pub fn is_busy(&self) -> bool {
        self.writes.iter().any(|write| write.ended.is_none())
    }

    /// Whether it can only hold one plaintext, whatever happens.
    fn is_settled(&self) -> bool {
        matches!(self.writes[..], [Write { fate: Fate::Anchored, .. }])
    }

    fn is_superseded(&self, write: &Write, view: View) -> bool {
        let settles = |later: &Write| match view {
            View::Live(time) => later.had_succeeded(time),
            View::Durable => later.fate >= Fate::Flushed(0),
            View::Anchored => later.fate == Fate::Anchored,
        };
        self.writes.iter().any(|later| write.is_before(later) && settles(later))
    }

    /// Forgets what can never be seen again, not even by a read that has been under way since `oldest`.
    fn prune(&mut self, oldest: Time) {
        if self.writes.len() > 1 {
            let superseded = |write, view| self.is_superseded(write, view);
            let unseen = |write| superseded(write, View::Anchored) && superseded(write, View::Live(oldest));
            let gone: Vec<bool> = self.writes.iter().map(unseen).collect();
            let mut gone = gone.into_iter();
            self.writes.retain(|_| !gone.next().unwrap_or_default());
        }
    }

    fn begin(&mut self, number: u64, now: Time) {
        self.filled |= number != 0;
        self.writes.push(Write { number, submitted: now, ended: None, succeeded: false, fate: Fate::Volatile });
    }

    fn end(&mut self, submitted: Time, succeeded: bool, now: Time) {
        for write in self.writes.iter_mut().filter(|write| write.submitted == submitted && write.ended.is_none()) {
            (write.ended, write.succeeded) = (Some(now), succeeded);
        }
    }

    fn flushed(&mut self, submitted: Time, now: Time) {
        let covered = |write: &&mut Write| write.had_succeeded(submitted) && write.fate == Fate::Volatile;
        self.writes.iter_mut().filter(covered).for_each(|write| write.fate = Fate::Flushed(now));
    }

    fn anchored(&mut self, began: Time, oldest: Time) {
        let covered = |write: &&mut Write| matches!(write.fate, Fate::Flushed(time) if time < began);
        self.writes.iter_mut().filter(covered).for_each(|write| write.fate = Fate::Anchored);
        self.prune(oldest);
    }

    /// A read that was submitted at `submitted` saw this plaintext: of the writes that had ended by then it was the last.
    fn observe(&mut self, number: u64, submitted: Time) {
        let live = View::Live(submitted);
        let mut matching =
            self.writes.iter().filter(|write| write.number == number && !self.is_superseded(write, live));
        let (Some(&seen), None) = (matching.next(), matching.next()) else { return };
        let just_before = seen.submitted.saturating_sub(1);
        for write in self.writes.iter_mut().filter(|write| write.number != number) {
            // One that has failed may still come true at the next mount: the log can say that it happened.
            if write.had_succeeded(submitted) && !seen.is_before(write) {
                write.submitted = write.submitted.min(just_before);
                write.ended = write.ended.min(Some(just_before));
            }
        }
    }

    /// A mount could not read the block: of what it may hold nothing is known to be newer than the rest.
    fn lose(&mut self, view: View, now: Time) {
        let allowed = self.allowed(view);
        self.writes.retain(|write| allowed.contains(&write.number));
        for write in &mut self.writes {
            (write.submitted, write.ended, write.succeeded) = (now, Some(now), false);
        }
        self.begin(UNREADABLE, now);
        self.end(now, false, now);
    }

    /// A mount found the block to hold this plaintext: from now on that is what was flushed.
    fn settle(&mut self, number: u64, now: Time) {
        self.writes.retain(|write| write.number != number);
        for write in &mut self.writes {
            write.ended = Some(write.ended.map_or(now - 1, |ended| ended.min(now - 1)));
        }
        let fate = Fate::Flushed(now);
        self.writes.push(Write { number, submitted: now, ended: Some(now), succeeded: true, fate });
    }
}

/// Number of no plaintext: what a block holds that cannot be read.
const UNREADABLE: u64 = u64::MAX;

/// The histories of one volume's blocks.
#[derive(Clone, Debug)]
pub struct Volume {
    len: u64,
    /// When the oldest request that is under way was submitted.
    oldest: Time,
    /// Blocks that were ever written; all others are like `untouched`.
    touched: BTreeMap<u64, Block>,
    untouched: Block,
}

impl Volume {
    /// A new volume of `len` blocks.
    pub fn new(len: u64) -> Volume {
        Volume { len, oldest: Time::MAX, touched: BTreeMap::new(), untouched: Block::default() }
    }

    /// Its size in blocks.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no blocks.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The oldest request under way was submitted then; without one, `Time::MAX`.
    pub fn under_way_since(&mut self, oldest: Time) {
        self.oldest = oldest;
    }

    /// It is longer now, with zeros at its end.
    pub fn grow(&mut self, len: u64) {
        self.len = len;
    }

    /// The history of a block.
    pub fn block(&self, block: u64) -> &Block {
        self.touched.get(&block).unwrap_or(&self.untouched)
    }

    /// Blocks that are worth a look: those that were ever filled, and some of those that were made zeros.
    pub fn worth_a_look(&self) -> impl Iterator<Item = u64> {
        self.touched.iter().filter(|(block, history)| history.filled || *block % 64 == 0).map(|(block, _)| *block)
    }

    /// Blocks that were ever written.
    pub fn touched(&self) -> impl Iterator<Item = u64> {
        self.touched.keys().copied()
    }

    /// A write of the plaintexts `numbers` to the blocks from `first` on was submitted.
    pub fn begin(&mut self, first: u64, numbers: &[u64], now: Time) {
        for (block, number) in (first..self.len).zip(numbers) {
            self.touched.entry(block).or_default().begin(*number, now);
        }
    }

    /// The write that was submitted at `submitted` was answered.
    pub fn end(&mut self, range: std::ops::Range<u64>, submitted: Time, succeeded: bool, now: Time) {
        self.touched.range_mut(range).for_each(|(_, block)| block.end(submitted, succeeded, now));
    }

    /// The flush that was submitted at `submitted` has succeeded; `strict`: and the anchor knows.
    pub fn flushed(&mut self, submitted: Time, now: Time, strict: bool) {
        let oldest = self.oldest;
        for block in self.touched.values_mut().filter(|block| !block.is_settled()) {
            block.flushed(submitted, now);
            if strict {
                block.anchored(now + 1, oldest);
            }
        }
    }

    /// An advance of the anchor that began at `began` has completed.
    pub fn anchored(&mut self, began: Time) {
        let oldest = self.oldest;
        self.touched.values_mut().filter(|block| !block.is_settled()).for_each(|block| block.anchored(began, oldest));
    }

    /// A read that was submitted at `submitted` saw this plaintext in `block`.
    pub fn observe(&mut self, block: u64, number: u64, submitted: Time) {
        if let Some(block) = self.touched.get_mut(&block) {
            block.observe(number, submitted);
        }
    }

    /// A mount found that `block` cannot be read: until something is written there it can stay so, or turn out to hold what
    /// the mount may find.
    pub fn lose(&mut self, block: u64, view: View, now: Time) {
        if let Some(block) = self.touched.get_mut(&block) {
            block.lose(view, now);
        }
    }

    /// A mount found `block` to hold this plaintext.
    pub fn settle(&mut self, block: u64, number: u64, now: Time) {
        if let Some(block) = self.touched.get_mut(&block).filter(|block| !block.is_settled()) {
            block.settle(number, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(steps: impl FnOnce(&mut Volume)) -> Block {
        let mut volume = Volume::new(1);
        steps(&mut volume);
        volume.touched.remove(&0).unwrap_or_default()
    }

    fn write(volume: &mut Volume, number: u64, at: Time) {
        volume.begin(0, &[number], at);
        volume.end(0..1, at, true, at + 1);
    }

    #[test]
    fn before_a_flush_a_cut_may_leave_any_write_but_a_read_sees_the_last() {
        let block = block(|volume| {
            write(volume, 5, 10);
            write(volume, 6, 20);
        });
        assert_eq!(block.allowed(View::Durable), [0, 5, 6]);
        assert_eq!(block.allowed(View::Live(30)), [6]);
        assert_eq!(block.allowed(View::Live(21)), [5, 6]);
    }

    #[test]
    fn after_a_flush_a_cut_leaves_the_last_write_before_it() {
        let block = block(|volume| {
            write(volume, 5, 10);
            write(volume, 6, 20);
            volume.flushed(30, 31, false);
            write(volume, 7, 40);
        });
        assert_eq!(block.allowed(View::Durable), [6, 7]);
        assert_eq!(block.allowed(View::Anchored), [0, 5, 6, 7]);
    }

    #[test]
    fn a_flush_does_not_cover_what_ended_after_it_was_submitted() {
        let block = block(|volume| {
            volume.begin(0, &[5], 10);
            volume.end(0..1, 10, true, 12);
            volume.flushed(11, 13, true);
        });
        assert_eq!(block.allowed(View::Durable), [0, 5]);
    }

    #[test]
    fn an_advance_of_the_anchor_covers_the_flushes_before_it() {
        let steps = |volume: &mut Volume| {
            write(volume, 5, 10);
            volume.flushed(20, 21, false);
            write(volume, 6, 30);
            volume.flushed(40, 41, false);
        };
        let block = block(|volume| {
            steps(volume);
            volume.anchored(35);
        });
        assert_eq!(block.allowed(View::Anchored), [5, 6]);
        assert_eq!(block.allowed(View::Durable), [6]);
    }

    #[test]
    fn a_read_that_began_before_a_flush_may_still_see_what_was_there_then() {
        let block = block(|volume| {
            volume.under_way_since(5);
            write(volume, 6, 10);
            volume.flushed(20, 21, true);
        });
        assert_eq!(block.allowed(View::Live(5)), [0, 6]);
        assert_eq!(block.allowed(View::Durable), [6]);
    }

    #[test]
    fn writes_that_overlap_have_no_order_until_a_read_tells() {
        let steps = |volume: &mut Volume| {
            volume.begin(0, &[5], 10);
            volume.begin(0, &[6], 11);
            volume.end(0..1, 10, true, 12);
            volume.end(0..1, 11, true, 13);
        };
        assert_eq!(block(steps).allowed(View::Live(20)), [5, 6]);
        let told = block(|volume| {
            steps(volume);
            volume.observe(0, 5, 20);
            volume.flushed(30, 31, false);
        });
        assert_eq!(told.allowed(View::Live(40)), [5]);
        assert_eq!(told.allowed(View::Durable), [5]);
    }

    #[test]
    fn a_failed_write_that_no_read_saw_may_still_come_true_at_a_mount() {
        let block = block(|volume| {
            volume.begin(0, &[5], 10);
            volume.begin(0, &[6], 11);
            volume.end(0..1, 10, true, 12);
            volume.end(0..1, 11, false, 13);
            volume.observe(0, 5, 20);
        });
        assert_eq!(block.allowed(View::Durable), [0, 5, 6]);
    }

    #[test]
    fn a_failed_write_may_have_happened_and_excuses_an_unreadable_block() {
        let mut block = block(|volume| {
            volume.begin(0, &[5], 10);
            volume.end(0..1, 10, false, 11);
        });
        assert_eq!(block.allowed(View::Live(20)), [0, 5]);
        assert!(block.is_unsure(View::Live(20)));
        block.begin(6, 30);
        block.end(30, true, 31);
        assert_eq!(block.allowed(View::Live(40)), [6]);
        assert!(!block.is_unsure(View::Live(40)));
        // A cut may still undo the write that succeeded.
        assert!(block.is_unsure(View::Durable));
        block.flushed(40, 41);
        assert!(!block.is_unsure(View::Durable));
    }

    #[test]
    fn what_a_mount_could_not_read_may_be_whatever_it_may_find_until_it_is_written() {
        let mut block = block(|volume| {
            write(volume, 5, 10);
            volume.flushed(20, 21, false);
            write(volume, 6, 30);
            volume.lose(0, View::Durable, 40);
        });
        assert_eq!(block.allowed(View::Live(50)), [5, 6, UNREADABLE]);
        assert_eq!(block.allowed(View::Durable), [5, 6, UNREADABLE]);
        block.begin(7, 60);
        block.end(60, true, 61);
        assert_eq!(block.allowed(View::Live(70)), [7]);
    }

    #[test]
    fn what_a_mount_found_is_what_was_flushed() {
        let mut block = block(|volume| {
            write(volume, 5, 10);
            volume.begin(0, &[6], 20);
            volume.settle(0, 5, 30);
        });
        assert_eq!(block.allowed(View::Durable), [5]);
        assert_eq!(block.allowed(View::Live(31)), [5]);
        assert_eq!(block.allowed(View::Anchored), [0, 6, 5]);
        block.anchored(31, Time::MAX);
        assert_eq!(block.allowed(View::Anchored), [5]);
    }
}
