//! The version counter: each number is given out once in the life of a volume.
//!
//! Versions below the limit in the superblock may have been used; those from it on were not. A mount starts at the limit it
//! finds, so a crash costs unused numbers and never repeats one. The limit moves ahead in large steps, and a number is
//! given out only when a superblock with a higher limit is durable.

/// Numbers that one superblock write reserves unless the mount chooses otherwise: 4 GiB of writes.
pub const RESERVATION: u64 = 1 << 20;
/// Fewest numbers that a superblock write may reserve: a few of the largest runs.
pub const MIN_RESERVATION: u64 = 128;

/// The counter.
#[derive(Debug)]
pub struct Versions {
    next: u64,
    limit: u64,
    reservation: u64,
}

impl Versions {
    /// A counter that has nothing to give out until a reservation above `limit` is durable, and reserves `reservation`
    /// numbers at a time.
    pub fn new(limit: u64, reservation: u64) -> Versions {
        let limit = limit.max(1);
        Versions { next: limit, limit, reservation: reservation.max(MIN_RESERVATION) }
    }

    /// Takes `count` consecutive numbers and returns the first, or `None` while they are not reserved.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let first = self.next;
        let next = first.checked_add(count)?;
        if next > self.limit {
            return None;
        }
        self.next = next;
        Some(first)
    }

    /// Whether it is time to reserve more: half a reservation is used up.
    pub fn is_low(&self) -> bool {
        self.limit - self.next < self.reservation / 2
    }

    /// The limit to write next; `None` when all numbers are used up.
    pub fn next_limit(&self) -> Option<u64> {
        self.limit.checked_add(self.reservation)
    }

    /// A superblock with `limit` is durable.
    pub fn reserved(&mut self, limit: u64) {
        assert!(limit >= self.limit, "the version limit only grows");
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_out_before_it_is_reserved() {
        let mut versions = Versions::new(10, RESERVATION);
        assert_eq!(versions.take(1), None);
        versions.reserved(12);
        assert_eq!(versions.take(3), None);
        assert_eq!(versions.take(2), Some(10));
        assert_eq!(versions.take(1), None);
    }

    #[test]
    fn the_last_number_does_not_wrap() {
        let mut versions = Versions::new(u64::MAX - 5, RESERVATION);
        assert_eq!(versions.next_limit(), None);
        assert_eq!(versions.take(u64::MAX), None);
    }

    #[test]
    fn zero_is_never_given_out() {
        let mut versions = Versions::new(0, 0);
        versions.reserved(2);
        assert_eq!(versions.take(1), Some(1));
    }
}
