//! `./x trace`: what brought each core to EL2, out of a console log.
//!
//! On the console, Ctrl-] then `t` has the hypervisor tell its rings; after a stop of its own the next boot tells what preceded it.
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use trace::{Record, Told};

use crate::bench;

/// What can be asked of `./x trace`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A log of the console [default: standard input]
    file: Option<PathBuf>,
    /// Instead: boot in the deterministic rig and show one write through its stages, with instruction counts
    #[arg(long, conflicts_with = "file")]
    walk: bool,
}

/// Decodes the log, or walks.
///
/// # Errors
/// A log that cannot be read or tells of no core.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.walk {
        return bench::walk();
    }
    let mut log = Vec::new();
    match &arguments.file {
        Some(file) => log = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?,
        None => drop(std::io::stdin().read_to_end(&mut log)?),
    }
    let cores = decode(&String::from_utf8_lossy(&log));
    if cores.is_empty() {
        bail!(
            "no line of the log tells of a core's exits; on the console, Ctrl-] then t makes the hypervisor tell them"
        );
    }
    cores.iter().for_each(|(core, ring)| print!("{}", ring.shown(*core)));
    Ok(())
}

/// What a log tells of one core.
#[derive(Debug, Default, PartialEq)]
struct Exits {
    hertz: u64,
    counts: Vec<(String, u64)>,
    records: Vec<Record>,
}

/// The newest telling of each core: a line of counts begins one.
fn decode(log: &str) -> BTreeMap<usize, Exits> {
    let mut cores: BTreeMap<usize, Exits> = BTreeMap::new();
    for told in log.lines().filter_map(Told::parse) {
        let exits = cores.entry(told.core).or_default();
        let counts: Vec<_> = told.counts().map(|(name, count)| (name.replace('_', " "), count)).collect();
        if !counts.is_empty() {
            *exits = Exits { hertz: told.hertz, counts, records: Vec::new() };
        }
        exits.records.extend(told.records());
    }
    cores.retain(|_, exits| exits.hertz != 0);
    cores
}

impl Exits {
    /// A table; times are microseconds, since the first record and since the one before.
    fn shown(&self, core: usize) -> String {
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let mut text = format!("core {core}: {total} records\n");
        for (name, count) in &self.counts {
            text += &format!("{count:>12}  {:>5.1} %  {name}\n", 100.0 * *count as f64 / total.max(1) as f64);
        }
        let microseconds = |ticks: u64| ticks as f64 * 1e6 / self.hertz as f64;
        let first = self.records.first().map_or(0, |record| record.ticks);
        let mut before = first;
        text += &format!("{:>12} {:>10}   the last {}\n", "us", "since", self.records.len());
        for record in &self.records {
            let [at, since] = [first, before].map(|from| microseconds(record.ticks.wrapping_sub(from)));
            text += &format!("{at:>12.2} {since:>10.2}   {record}\n");
            before = record.ticks;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::{Reason, Ring, Telling};

    fn log(count: u64) -> String {
        let ring = Ring::new();
        (0..count).for_each(|tick| ring.record(1000 + 125 * tick, Reason::Interrupt, tick));
        let told = Telling { ring: &ring, core: 2, hertz: 62_500_000, most: 64 }.to_string();
        told.lines().map(|line| format!("[haechi] {line}\n")).collect()
    }

    #[test]
    fn a_log_of_something_else_tells_of_no_core() {
        assert!(decode("Linux version 6.1\ntrace me\ntrace 1 2 3\n").is_empty());
    }

    #[test]
    fn the_newest_telling_counts() {
        let cores = decode(&(log(3) + "noise\n" + &log(5)));
        let exits = &cores[&2];
        assert_eq!((exits.counts.as_slice(), exits.records.len()), (&[("interrupt".to_owned(), 5)][..], 5));
        let shown = exits.shown(2);
        assert!(shown.contains("2.00       2.00   interrupt 1"), "{shown}");
    }
}
