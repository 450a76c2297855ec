//! Records as lines of a console, and back.
//!
//! ```text
//! trace CORE HZ count NAME=NUMBER NAME=NUMBER ...
//! trace CORE HZ TICKS-WORD TICKS-WORD ...      (hexadecimal)
//! ```

use core::fmt;

use crate::{Reason, Record, Ring};

/// What a line begins with; a log may have a prefix before it.
const MARK: &str = "trace ";
/// Records on a line.
const ON_A_LINE: usize = 4;

/// A ring to be told: written with `Display`, one line behind another, each begun by the prefix.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// The ring.
    pub ring: &'a Ring,
    /// Whose it is.
    pub core: usize,
    /// Ticks a second.
    pub hertz: u64,
    /// How many of the last records.
    pub most: usize,
}

impl fmt::Display for Telling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Telling { ring, core, hertz, most } = self;
        write!(f, "{MARK}{core} {hertz} count")?;
        for (reason, count) in ring.histogram() {
            write!(f, " {}={count}", Word(reason.name()))?;
        }
        for (at, record) in ring.last(*most).enumerate() {
            if at.is_multiple_of(ON_A_LINE) {
                write!(f, "\n{MARK}{core} {hertz}")?;
            }
            let [ticks, word] = record.words();
            write!(f, " {ticks:x}-{word:x}")?;
        }
        writeln!(f)
    }
}

/// A name in one word.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(' ').enumerate().try_for_each(|(at, part)| {
            if at > 0 {
                f.write_str("_")?;
            }
            f.write_str(part)
        })
    }
}

/// A line that tells of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// Whose ring.
    pub core: usize,
    /// Ticks a second.
    pub hertz: u64,
    rest: &'a str,
}

impl<'a> Told<'a> {
    /// Reads a line of a log; `None` for one that tells of no ring.
    pub fn parse(line: &'a str) -> Option<Told<'a>> {
        let (_, words) = line.split_once(MARK)?;
        let (core, words) = words.split_once(' ')?;
        let (hertz, rest) = words.split_once(' ')?;
        let (core, hertz) = (core.parse().ok()?, hertz.parse().ok()?);
        (hertz != 0).then_some(Told { core, hertz, rest })
    }

    /// Its records; words that are none are left out.
    pub fn records(self) -> impl Iterator<Item = Record> + 'a {
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        self.rest.split_whitespace().filter_map(move |word| {
            let (ticks, word) = word.split_once('-')?;
            let record = Record::from_words([number(ticks)?, number(word)?]);
            (record.reason() != Reason::None).then_some(record)
        })
    }

    /// Its numbers of exits by reason.
    pub fn counts(self) -> impl Iterator<Item = (&'a str, u64)> {
        self.rest.split_whitespace().filter_map(|word| {
            let (name, count) = word.split_once('=')?;
            Some((name, count.parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn other_lines_are_none() {
        for line in ["", "trace", "trace x 1 ", "trace 0 0 count", "[haechi] off", "trace 0"] {
            assert_eq!(Told::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_histogram_comes_back() {
        let ring = Ring::new();
        (0..3).for_each(|_| ring.record(1, Reason::SecureCall, 2));
        let text = Telling { ring: &ring, core: 5, hertz: 62_500_000, most: 0 }.to_string();
        let told = Told::parse(&text).unwrap();
        assert_eq!((told.core, told.hertz), (5, 62_500_000));
        assert_eq!(told.counts().collect::<Vec<_>>(), [("secure_call", 3)]);
    }

    proptest! {
        #[test]
        fn records_come_back(exits in proptest::collection::vec((any::<u64>(), 1..12_u8, 0..1_u64 << 56), 0..300)) {
            let ring = Ring::new();
            exits.iter().for_each(|(ticks, reason, detail)| ring.record(*ticks, Reason::from_number(*reason), *detail));
            let text = Telling { ring: &ring, core: 1, hertz: 1, most: 40 }.to_string();
            let log: String = text.lines().map(|line| std::format!("[haechi] {line}\r\n")).collect();
            let told: Vec<Record> = log.lines().filter_map(Told::parse).flat_map(Told::records).collect();
            prop_assert_eq!(told, ring.last(40).collect::<Vec<_>>());
        }

        #[test]
        fn any_line_is_read_without_harm(line in "\\PC{0,60}") {
            for line in [line.clone(), std::format!("trace 0 1 {line}")] {
                if let Some(told) = Told::parse(&line) {
                    told.records().for_each(|record| drop(record.to_string()));
                    told.counts().for_each(drop);
                }
            }
        }
    }
}
