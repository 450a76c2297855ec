//! Time that a vCPU wanted its core and did not have it (Arm DEN 0057, Paravirtualized time for arm64).

/// Bytes of the record of one vCPU, which begins at a multiple of as many: revision and attributes of 32 bits, then the stolen time in
/// nanoseconds.
pub const RECORD_BYTES: u64 = 64;

/// The account of one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct StolenTime {
    /// Nanoseconds of a tick, in 2^-32.
    scale: u64,
    /// Nanoseconds in 2^-32, so that no remainder is lost.
    total: u128,
}

impl StolenTime {
    /// `nanoseconds` stolen so far, of a counter with `hertz` ticks in a second. A vCPU that comes on again goes on from where its record stands: the time
    /// never goes back.
    pub const fn resume(hertz: u64, nanoseconds: u64) -> StolenTime {
        let scale = (1_000_000_000 << 32) / if hertz == 0 { 1 } else { hertz };
        StolenTime { scale, total: (nanoseconds as u128) << 32 }
    }

    /// Adds `ticks`. The nanoseconds stolen so far.
    #[inline]
    pub const fn add(&mut self, ticks: u64) -> u64 {
        self.total += ticks as u128 * self.scale as u128;
        (self.total >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_remainder_is_lost() {
        // 24 MHz: 41 2/3 nanoseconds a tick.
        let mut time = StolenTime::resume(24_000_000, 0);
        assert_eq!(time.add(1), 41);
        let after: u64 = (1..24_000_000).map(|_| time.add(1)).last().unwrap_or(0);
        assert!((999_999_990..=1_000_000_000).contains(&after), "{after}");
    }

    #[test]
    fn ticks_of_a_nanosecond_are_told_as_they_are() {
        let mut time = StolenTime::resume(1_000_000_000, 0);
        assert_eq!(time.add(u64::MAX >> 1), u64::MAX >> 1);
        assert_eq!(time.add(0), u64::MAX >> 1);
    }

    #[test]
    fn time_goes_on_from_its_record() {
        assert_eq!(StolenTime::resume(62_500_000, 1_000).add(24), 1_384);
    }

    #[test]
    fn a_counter_without_a_frequency_is_no_defect() {
        assert_eq!(StolenTime::resume(0, 0).add(1), 1_000_000_000);
    }
}
