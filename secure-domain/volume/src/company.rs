//! Company: by how many requests a doorbell is put off, so that small ones are served together.
//!
//! A small request costs more to come by than to serve: a doorbell, a switch of domains, a log record, a flush of the disk. A driver that has
//! many at once should ring once for several of them; one that makes a request and waits must not wait longer for it. The ring
//! does not tell them apart, so it is tried: now and then a doorbell is put off by one request. If a second comes before the
//! driver's processor has nothing to do (or a time is over), the next is put off by one more, and so on, up to a batch of the crypto
//! engine. When that processor becomes idle, what is under way is all that the driver makes before it waits: half of it is worth
//! waiting for, so that one half can be at the disk while the other is sealed.

use crate::seal::BATCH;

/// Requests between two tries, while none is put off.
const TRY_EVERY: u16 = 16;

/// What is known of a driver's ways.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Requests that a doorbell is put off by, whatever is under way.
    burst: u16,
    /// Requests that the next doorbell is put off by.
    put_off: u16,
    /// Requests taken since the last look at the ring was over, and since the last try.
    taken: u16,
    untried: u16,
    trying: bool,
    /// Blocks of the last request that moved data.
    blocks: u32,
}

impl Company {
    /// A request was taken from the ring, with so many blocks of data.
    pub(crate) fn took(&mut self, blocks: Option<u32>) {
        self.taken = self.taken.saturating_add(1);
        self.untried = self.untried.saturating_add(1);
        self.blocks = blocks.unwrap_or(self.blocks);
    }

    /// The ring is empty, and `under_way` requests are being served. By how many requests the next doorbell is to be put off. `hurry`:
    /// the driver's processor has nothing to do, or a doorbell has been put off for long enough.
    pub(crate) fn put_off(&mut self, under_way: usize, hurry: bool) -> u16 {
        let most = (BATCH as u32).checked_div(self.blocks).map_or(0, |requests| requests.saturating_sub(1)) as u16;
        let taken = core::mem::take(&mut self.taken);
        let half = (under_way / 2) as u16;
        if hurry {
            (self.burst, self.trying) = (half.saturating_sub(1), false);
        } else if taken != 0 {
            self.burst += u16::from(self.put_off != 0 && taken > self.put_off);
            self.trying = false;
        }
        self.burst = self.burst.min(most);
        if self.burst == 0 && self.untried >= TRY_EVERY {
            (self.trying, self.untried) = (true, 0);
        }
        let wanted = self.burst.max(half).max(self.trying.into());
        self.put_off = if hurry { 0 } else { wanted.min(most) };
        self.put_off
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A driver that makes `depth` requests of `blocks` at a time and waits for them; the disk answers at once, or only when the driver
    /// waits. Returns how many requests came with the last doorbells.
    fn settle(company: &mut Company, depth: u16, blocks: u32, disk_is_slow: bool) -> Vec<u16> {
        let mut visits = Vec::new();
        for _ in 0..200 {
            let (mut made, mut waiting, mut under_way) = (0, 0, 0);
            while made < depth {
                (made, waiting) = (made + 1, waiting + 1);
                if waiting <= company.put_off {
                    continue;
                }
                (0..waiting).for_each(|_| company.took(Some(blocks)));
                under_way = if disk_is_slow { under_way + waiting } else { 0 };
                visits.push(core::mem::take(&mut waiting));
                company.put_off(under_way.into(), false);
            }
            if waiting != 0 {
                (0..waiting).for_each(|_| company.took(Some(blocks)));
                visits.push(waiting);
            }
            company.put_off((under_way + waiting).into(), true);
            company.put_off(0, false);
        }
        visits.split_off(visits.len() - 20)
    }

    #[test]
    fn who_makes_one_request_at_a_time_is_served_at_once() {
        let mut company = Company::default();
        assert!(settle(&mut company, 1, 1, false).iter().all(|visit| *visit == 1));
        assert_eq!(company.burst, 0);
    }

    #[test]
    fn large_requests_wait_for_nobody() {
        for slow in [false, true] {
            assert!(settle(&mut Company::default(), 32, 32, slow).iter().all(|visit| *visit == 1));
        }
    }

    #[test]
    fn many_small_requests_come_together_and_never_more_than_a_batch() {
        for slow in [false, true] {
            let visits = settle(&mut Company::default(), 64, 1, slow);
            assert!(visits.iter().all(|visit| *visit <= BATCH as u16), "{visits:?}");
            let mean = visits.iter().sum::<u16>() / 20;
            assert!(mean >= 4, "{visits:?}");
        }
    }

    #[test]
    fn a_driver_that_changes_its_ways_is_served_at_once_again() {
        let mut company = Company::default();
        settle(&mut company, 64, 1, false);
        assert!(settle(&mut company, 1, 1, false).iter().all(|visit| *visit == 1));
        assert_eq!(company.burst, 0);
    }
}
