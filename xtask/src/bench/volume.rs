//! The volume engine on a disk in this machine's memory: beside sealing alone and beside copying alone, in the same rounds.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use volume::record::geometry::Geometry;

use super::example;
use super::figures::Spread;
use crate::toolchain::Toolchain;
use crate::{process, progress, size};

const ROUNDS: usize = 5;
const SUITES: [&str; 3] = ["ARIA-256-GCM", "AES-256-GCM", "ARIA-256-CCM"];
/// Disks whose share of metadata is told.
const DISK_BYTES: [u64; 3] = [256 << 20, 8 << 30, 1 << 40];

/// What a round found: MB/s and device bytes for each of the guest's by load and way, and how long a recovery took.
#[derive(Default)]
struct Round {
    rates: BTreeMap<(String, String), (f64, f64)>,
    /// Records, statements, seconds.
    recovery: [f64; 3],
}

/// Measures and prints the table.
pub(super) fn print() -> Result<()> {
    let bench = example(&Toolchain::ensure()?, "volume", "throughput")?;
    println!("(disk in memory, processor time; {ROUNDS} rounds: least / median / greatest; ratios are of one round)");
    for suite in SUITES {
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS {
            let step = format!("{suite}, round {number} of {ROUNDS}");
            rounds.push(progress::step(&step, || round(&bench, suite))?);
        }
        print_suite(suite, &rounds)?;
    }
    for bytes in DISK_BYTES {
        println!("metadata of a disk of {}: {:.2} %", size::shown(bytes), metadata(bytes)? * 100.0);
    }
    Ok(())
}

fn round(bench: &Path, suite: &str) -> Result<Round> {
    let said = process::text(process::command(&bench.display().to_string()).arg(suite))?;
    parse(&said)
}

fn parse(said: &str) -> Result<Round> {
    let mut round = Round::default();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<f64>().ok());
        match (words.first(), number(1), number(2), number(3)) {
            (Some(&"recovery"), Some(records), Some(statements), Some(seconds)) => {
                round.recovery = [records, statements, seconds];
            }
            (Some(load), None, Some(rate), Some(bytes)) => {
                round.rates.insert(((*load).to_owned(), words[1].to_owned()), (rate, bytes));
            }
            _ => anyhow::bail!("the bench said `{line}`"),
        }
    }
    Ok(round)
}

fn print_suite(suite: &str, rounds: &[Round]) -> Result<()> {
    println!(
        "\n{suite:<18} {:>24} {:>24} {:>24} {:>24} {:>12}",
        "raw, MB/s", "sealing alone, MB/s", "engine, MB/s", "of sealing alone, %", "device bytes"
    );
    let loads =
        rounds.first().map(|round| round.rates.keys().map(|(load, _)| load.clone()).collect()).unwrap_or_default();
    let mut loads: Vec<String> = loads;
    loads.dedup();
    for load in loads {
        let spread = |of: &dyn Fn(&Round) -> Option<f64>| {
            Spread::of(rounds.iter().filter_map(of)).with_context(|| format!("there are no figures of {load}"))
        };
        let at = |round: &Round, way: &str| round.rates.get(&(load.clone(), way.to_owned())).copied();
        let rate = |way: &'static str| spread(&move |round| Some(at(round, way)?.0));
        let share = spread(&|round| Some(at(round, "engine")?.0 / at(round, "sealed")?.0 * 100.0))?;
        let bytes = spread(&|round| Some(at(round, "engine")?.1))?;
        let (raw, sealed, engine) = (rate("raw")?, rate("sealed")?, rate("engine")?);
        println!("{load:<18} {raw:>24.0} {sealed:>24.0} {engine:>24.0} {share:>24.1} {bytes:>12.3}");
    }
    let recovery =
        |index: usize| Spread::of(rounds.iter().map(|round| round.recovery[index])).context("there are rounds");
    let (records, statements, seconds) = (recovery(0)?, recovery(1)?, recovery(2)?);
    println!("recovery of {records:.0} records, {statements:.0} statements: {seconds:.2} s of wall time");
    Ok(())
}

/// The share of a disk that holds no data of a volume.
fn metadata(disk_bytes: u64) -> Result<f64> {
    let blocks = disk_bytes / volume::BLOCK_BYTES as u64;
    let geometry =
        Geometry::for_member(0, blocks, Geometry::default_log_blocks(blocks)).context("the disk is large enough")?;
    Ok(geometry.data_start as f64 / geometry.end() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_are_refused_and_lines_are_read() {
        assert!(parse("sequential-write engine fast 1").is_err());
        let round = parse("zipf-write engine 500.5 1.2\nrecovery 100 200 0.5").unwrap();
        assert_eq!(round.rates[&("zipf-write".into(), "engine".into())], (500.5, 1.2));
        assert_eq!(round.recovery, [100.0, 200.0, 0.5]);
    }

    #[test]
    fn metadata_takes_less_than_two_percent() {
        for bytes in DISK_BYTES {
            assert!((0.001..0.02).contains(&metadata(bytes).unwrap()), "{bytes}");
        }
    }
}
