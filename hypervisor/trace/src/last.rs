//! The page that a stop of EL2 leaves behind, and the next boot reads.
//!
//! Whatever a page holds that nobody has written must not pass for a stop: a check sum is over all of it.
//!
//! ```text
//!     0     magic, 8 bytes
//!     8     stops in a row, 8 bytes
//!     16    ticks at the stop, 8 bytes
//!     24    length of the text, 8 bytes
//!     32    text, 1,504 bytes
//!     1536  records of the core, the oldest first, 16 bytes each, to 4088
//!     4088  check sum: FNV-1a of all before
//! ```

use crate::{Record, Ring};

/// Bytes of the page.
pub const LAST_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"HAESTOP1";
const TEXT: usize = 32;
const RECORDS: usize = 1536;
const SUM: usize = LAST_BYTES - 8;
/// Records in the page.
const KEPT: usize = (SUM - RECORDS) / 16;

/// The page.
#[derive(Clone, Copy, Debug)]
pub struct Last<'a>(&'a [u8; LAST_BYTES]);

/// A stop as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    /// Stops in a row, this one included.
    pub in_a_row: u64,
    /// When, in ticks of the counter.
    pub ticks: u64,
    /// What happened; what is too long is cut.
    pub text: &'a str,
}

impl Stop<'_> {
    /// Fills the page.
    pub fn write(&self, ring: Option<&Ring>, page: &mut [u8; LAST_BYTES]) {
        page.fill(0);
        let text = &self.text.as_bytes()[..self.text.floor_char_boundary(RECORDS - TEXT)];
        page[..8].copy_from_slice(&MAGIC);
        for (place, word) in [(8, self.in_a_row), (16, self.ticks), (24, text.len() as u64)] {
            page[place..place + 8].copy_from_slice(&word.to_le_bytes());
        }
        page[TEXT..TEXT + text.len()].copy_from_slice(text);
        let places = page[RECORDS..SUM].as_chunks_mut::<16>().0;
        for (place, record) in places.iter_mut().zip(ring.into_iter().flat_map(|ring| ring.last(KEPT))) {
            let [ticks, word] = record.words();
            place[..8].copy_from_slice(&ticks.to_le_bytes());
            place[8..].copy_from_slice(&word.to_le_bytes());
        }
        let sum = check_sum(&page[..SUM]);
        page[SUM..].copy_from_slice(&sum.to_le_bytes());
    }
}

impl<'a> Last<'a> {
    /// The stop that `page` holds, if it holds one.
    pub fn read(page: &'a [u8; LAST_BYTES]) -> Option<Last<'a>> {
        let last = Last(page);
        let whole = page[..8] == MAGIC && last.word(SUM) == check_sum(&page[..SUM]);
        (whole && last.text_len() <= RECORDS - TEXT).then_some(last)
    }

    /// Stops in a row.
    pub fn in_a_row(&self) -> u64 {
        self.word(8)
    }

    /// When, in ticks of that boot's counter.
    pub fn ticks(&self) -> u64 {
        self.word(16)
    }

    /// What happened.
    pub fn text(&self) -> &'a str {
        core::str::from_utf8(&self.0[TEXT..TEXT + self.text_len()]).unwrap_or("(not text)")
    }

    /// What the core did last, the oldest first.
    pub fn ring(&self) -> Ring {
        let ring = Ring::new();
        for place in (RECORDS..SUM).step_by(16).filter(|place| *place + 16 <= SUM) {
            let record = Record::from_words([self.word(place), self.word(place + 8)]);
            if record.reason() != crate::Reason::None {
                ring.record(record.ticks, record.reason(), record.detail());
            }
        }
        ring
    }

    fn text_len(&self) -> usize {
        usize::try_from(self.word(24)).unwrap_or(usize::MAX)
    }

    fn word(&self, place: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[place..place + 8]);
        u64::from_le_bytes(bytes)
    }
}

/// FNV-1a, 64 bit (Fowler, Noll, Vo; draft-eastlake-fnv). It is to notice what was not written, not who wrote it.
fn check_sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Reason;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn page(text: &str, ring: &Ring) -> [u8; LAST_BYTES] {
        let mut page = [0xa5; LAST_BYTES];
        Stop { in_a_row: 2, ticks: 77, text }.write(Some(ring), &mut page);
        page
    }

    #[test]
    fn a_page_that_nobody_has_written_is_no_stop() {
        assert!(Last::read(&[0; LAST_BYTES]).is_none());
        assert!(Last::read(&[0xff; LAST_BYTES]).is_none());
    }

    #[test]
    fn a_page_that_changed_is_no_stop() {
        let whole = page("defect", &Ring::new());
        for place in (0..LAST_BYTES).step_by(97) {
            let mut page = whole;
            page[place] ^= 1;
            assert!(Last::read(&page).is_none(), "byte {place}");
        }
    }

    #[test]
    fn a_length_beyond_the_page_is_no_stop() {
        let mut page = page("defect", &Ring::new());
        page[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        let sum = check_sum(&page[..SUM]);
        page[SUM..].copy_from_slice(&sum.to_le_bytes());
        assert!(Last::read(&page).is_none());
    }

    proptest! {
        #[test]
        fn a_stop_comes_back(text in "\\PC{0,1600}", exits in 0..400_u64) {
            let ring = Ring::new();
            (0..exits).for_each(|tick| ring.record(tick, Reason::Store, tick));
            let page = page(&text, &ring);
            let last = Last::read(&page).unwrap();
            prop_assert!(text.starts_with(last.text()) && (text.len() > RECORDS - TEXT || last.text() == text));
            prop_assert_eq!((last.in_a_row(), last.ticks()), (2, 77));
            let told: Vec<_> = last.ring().last(KEPT).collect();
            prop_assert_eq!(told, ring.last(KEPT).collect::<Vec<_>>());
        }
    }
}
