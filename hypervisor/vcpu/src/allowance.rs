//! How much of a core one domain may take from another by events of its own making.
//!
//! The secure domain's interrupts bring it onto a core at once, and a hostile one could have its disk interrupt for ever. So what it
//! takes in that way, and the slices that it is guaranteed, are paid from an account. It earns three ticks for each tick that the
//! core is somebody else's, holds one slice at most, and may be overdrawn by the guaranteed slices alone. So over a long time at
//! least a quarter of the core remains, and a domain that wants less than the rest never notices. What is given away freely
//! (time in which the other is idle, or asks for service) is not charged.

/// Ticks earned for each tick of others.
const RATE: u64 = 3;

/// The account of one domain on one core, in ticks of the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Most that it holds, and most that it can be overdrawn.
    slice: i64,
    level: i64,
    /// Until when it has been credited.
    at: u64,
}

impl Allowance {
    /// A full account for slices of `slice` ticks (below 2^61), at time `now`.
    pub const fn new(slice: u64, now: u64) -> Allowance {
        Allowance { slice: slice as i64, level: slice as i64, at: now }
    }

    /// How long a visit that begins `now` may last; none if the domain must wait. Visits are no shorter than a quarter of a slice,
    /// so that changing over does not eat the time.
    pub fn grant(&mut self, now: u64) -> Option<u64> {
        self.earn(now);
        (self.level > 0 && self.level >= self.slice / 4).then_some(self.level as u64)
    }

    /// Pays for a visit, granted or guaranteed, from `begin` to `end`.
    pub fn charge(&mut self, begin: u64, end: u64) {
        self.earn(begin);
        let taken = end.saturating_sub(begin).min(2 * self.slice as u64) as i64;
        self.level = (self.level - taken).max(-self.slice);
        self.at = self.at.max(end);
    }

    fn earn(&mut self, now: u64) {
        let earned = RATE.saturating_mul(now.saturating_sub(self.at)).min(2 * self.slice as u64) as i64;
        self.level = (self.level + earned).min(self.slice);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLICE: u64 = 1000;

    #[test]
    fn a_domain_that_has_used_its_slice_waits() {
        let mut allowance = Allowance::new(SLICE, 50);
        assert_eq!(allowance.grant(50), Some(SLICE));
        allowance.charge(50, 50 + SLICE);
        assert_eq!(allowance.grant(50 + SLICE), None);
        assert_eq!(allowance.grant(50 + SLICE + 83), None);
        assert_eq!(allowance.grant(50 + SLICE + 84), Some(252));
    }

    #[test]
    fn short_visits_are_always_granted() {
        let mut allowance = Allowance::new(SLICE, 0);
        for round in 0..1000 {
            let now = 100 * round;
            assert!(allowance.grant(now).is_some(), "round {round}");
            allowance.charge(now, now + 70);
        }
    }

    #[test]
    fn time_never_runs_backwards_nor_over() {
        let mut allowance = Allowance::new(SLICE, u64::MAX - 10);
        assert_eq!(allowance.grant(5), Some(SLICE));
        allowance.charge(u64::MAX - 5, 0);
        allowance.charge(0, u64::MAX);
        assert_eq!(allowance.grant(u64::MAX), None);
    }

    proptest! {
        /// A domain that takes whatever it is granted, and a guaranteed slice now and then.
        #[test]
        fn a_quarter_of_the_core_is_left_to_others(pauses in prop::collection::vec((1u64..400, any::<bool>()), 1..300)) {
            let mut allowance = Allowance::new(SLICE, 0);
            let (mut now, mut taken, mut left) = (0, 0, 0);
            for (pause, guaranteed) in pauses {
                // One slice is guaranteed only after another slice of others.
                let pause = if guaranteed { SLICE } else { pause };
                now += pause;
                left += pause;
                let visit = if guaranteed { Some(SLICE) } else { allowance.grant(now) };
                if let Some(ticks) = visit {
                    allowance.charge(now, now + ticks);
                    now += ticks;
                    taken += ticks;
                }
            }
            // But for what the account held at first.
            prop_assert!(taken <= 3 * left + SLICE, "{taken} taken, {left} left");
        }
    }
}
