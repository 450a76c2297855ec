//! Tells a domain that hangs from one that has much to do.

/// What a domain has run since it was last seen to get on, in ticks of the counter.
///
/// To rest is no condition: whoever rings a doorbell without a pause keeps the domain from it, and could otherwise end its life by that alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    limit: u64,
    busy: u64,
}

impl Watchdog {
    /// For a domain that hangs when it has run longer than `limit` ticks without a sign of life.
    pub const fn new(limit: u64) -> Watchdog {
        Watchdog { limit, busy: 0 }
    }

    /// A new life begins.
    pub fn reset(&mut self) {
        self.busy = 0;
    }

    /// The domain has run for another `ran` ticks, and was seen to get on in them or not. Whether it hangs.
    pub fn hangs(&mut self, ran: u64, gets_on: bool) -> bool {
        self.busy = if gets_on { 0 } else { self.busy.saturating_add(ran) };
        self.busy > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1000;

    #[test]
    fn a_domain_that_shows_nothing_hangs_once_the_limit_has_passed() {
        let mut watchdog = Watchdog::new(LIMIT);
        assert!((0..10).all(|_| !watchdog.hangs(100, false)));
        assert!(watchdog.hangs(1, false));
        assert!(watchdog.hangs(u64::MAX, false), "and nothing overflows");
    }

    #[test]
    fn a_domain_that_is_flooded_and_gets_on_never_hangs() {
        let mut watchdog = Watchdog::new(LIMIT);
        for visit in 0..100 {
            assert!(!watchdog.hangs(LIMIT / 2, visit % 2 == 0), "visit {visit}");
        }
    }

    #[test]
    fn a_new_life_owes_nothing() {
        let mut watchdog = Watchdog::new(LIMIT);
        assert!(!watchdog.hangs(LIMIT, false));
        watchdog.reset();
        assert!(!watchdog.hangs(LIMIT, false));
    }
}
