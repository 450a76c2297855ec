//! A bound on a speaker's lines: so many at once, so many a second, the rest counted.
//!
//! The general domain decides how often the secure domain complains about its rings, and each line costs a core the time of a UART.
//! What is left out is told with the next line that gets through, so a log shows that it has a hole and how deep it is.

/// Lines that may come at once. A boot says fewer.
pub const BURST: u32 = 64;
/// Time for one more line, in milliseconds.
pub const INTERVAL_MS: u64 = 250;

/// The bound for one speaker.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    left: u32,
    /// When the last line was earned, in milliseconds.
    at_ms: u64,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is left out.
    Drop,
    /// It is printed, after a word about so many lines that were left out before it.
    Print {
        /// How many.
        dropped: u64,
    },
}

impl Limit {
    /// Nothing said yet.
    pub(crate) const fn new() -> Limit {
        Limit { left: BURST, at_ms: 0, dropped: 0 }
    }

    /// Lines that were left out since the last one that was printed.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Judges a line at `now_ms`.
    pub(crate) fn judge(&mut self, now_ms: u64) -> Verdict {
        let earned = now_ms.saturating_sub(self.at_ms) / INTERVAL_MS;
        self.at_ms = self.at_ms.saturating_add(earned.saturating_mul(INTERVAL_MS));
        self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
        match self.left.checked_sub(1) {
            None => {
                self.dropped = self.dropped.saturating_add(1);
                Verdict::Drop
            }
            Some(left) => {
                self.left = left;
                Verdict::Print { dropped: core::mem::take(&mut self.dropped) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_exceeds_the_burst_is_counted_and_told_with_the_next_line() {
        let mut limit = Limit::new();
        let printed = (0..1000).filter(|_| limit.judge(10) != Verdict::Drop).count();
        assert_eq!((printed, limit.dropped()), (BURST as usize, 1000 - u64::from(BURST)));
        assert_eq!(limit.judge(INTERVAL_MS - 1), Verdict::Drop);
        assert_eq!(limit.judge(INTERVAL_MS), Verdict::Print { dropped: 1001 - u64::from(BURST) });
        assert_eq!(limit.judge(2 * INTERVAL_MS), Verdict::Print { dropped: 0 });
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm() {
        let mut limit = Limit::new();
        assert!(matches!(limit.judge(u64::MAX), Verdict::Print { .. }));
        assert!(matches!(limit.judge(0), Verdict::Print { .. }));
    }

    proptest! {
        #[test]
        fn no_line_is_lost_without_being_counted(pauses in prop::collection::vec(0u64..600, 1..500)) {
            let (mut limit, mut now, mut printed, mut told) = (Limit::new(), 0, 0, 0);
            for pause in &pauses {
                now += pause;
                if let Verdict::Print { dropped } = limit.judge(now) {
                    printed += 1;
                    told += dropped;
                }
            }
            prop_assert_eq!(printed + told + limit.dropped(), pauses.len() as u64);
            prop_assert!(printed <= u64::from(BURST) + now / INTERVAL_MS);
        }
    }
}
