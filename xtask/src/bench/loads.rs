//! What a Linux that computes, switches processes and faults pages pays for Haechi: nothing of it asks for EL2, whose share is the
//! timer's interrupts and the idling of nobody.
use anyhow::{Context, Result};

use super::boot::{TICK_NS, ticks};
use super::budget::Figures;
use super::figures::Spread;
use super::rig::{self, Guest};
use super::{Bench, guest};
use crate::qemu::Machine;

/// The guest's name of a load, and what is printed.
const LOADS: [(&str, &str); 3] = [
    ("compile", "compile-like load"),
    ("ping-pong", "context switches (10,000 rounds by two pipes)"),
    ("page-faults", "page faults (65,536)"),
];

/// A load with its milliseconds over Haechi and without.
struct Row {
    name: &'static str,
    over: Spread,
    bare: Spread,
}

/// How much longer each load takes over Haechi than bare, in hundredths of a percent of the least times: where a round differs it waited
/// for a timer.
pub(super) fn figures(bench: &Bench) -> Result<Figures> {
    let figure = |row: Row| (row.name.to_owned(), (row.over.min / row.bare.min - 1.0) * 1e4);
    Ok(measure(bench)?.into_iter().map(figure).collect())
}

/// Runs every load both ways and prints the times.
pub(super) fn print(bench: &Bench) -> Result<()> {
    println!("{:<46} {:>24} {:>24} {:>9}   ms", "load", "Haechi", "bare", "of bare");
    for Row { name, over, bare } in measure(bench)? {
        println!("{name:<46} {over:>24.2} {bare:>24.2} {:>8.2}%", 100.0 * bare.min / over.min);
    }
    Ok(())
}

fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let initrd = guest::initrd(bench)?;
    let kernel = bench.images.default_kernel();
    let disk = guest::sealed_disk(bench, "loads", crate::sealed::DEFAULT_SUITE)?;
    let machine = rig::haechi(bench, "loads", kernel, Some(&initrd), rig::SEED)?;
    let over = words(bench, "loads", rig::with_disk(machine, &disk))?;
    guest::remove(&disk)?;
    let disk = guest::plain_disk(bench, "loads-bare")?;
    let bare = words(bench, "loads-bare", rig::with_disk(rig::bare(kernel, Some(&initrd), rig::SEED), &disk))?;
    guest::remove(&disk)?;
    LOADS
        .into_iter()
        .map(|(load, name)| Ok(Row { name, over: spread(&over, load)?, bare: spread(&bare, load)? }))
        .collect()
}

/// What the guest says of its loads. KASLR is off, which would move the kernel and with it a few instructions.
fn words(bench: &Bench, name: &str, mut machine: Machine) -> Result<Vec<String>> {
    machine.append = format!("{} nokaslr", guest::arguments("loads"));
    Guest::start(bench, name, &machine)?.words()
}

/// The milliseconds of all rounds of `load` but the first.
fn spread(words: &[String], load: &str) -> Result<Spread> {
    let rounds = words.iter().filter_map(|word| word.strip_prefix("load ")?.strip_prefix(load)?.strip_prefix(' '));
    let times: Vec<f64> = rounds.skip(1).map(milliseconds).collect::<Result<_>>()?;
    Spread::of(times).with_context(|| format!("the guest told nothing of `{load}`"))
}

/// Of two values of the counter.
fn milliseconds(round: &str) -> Result<f64> {
    let (before, after) = round.split_once(' ').with_context(|| format!("`{round}` is no pair"))?;
    Ok(ticks(after)?.wrapping_sub(ticks(before)?) as f64 * TICK_NS / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_thrown_away() {
        let words =
            ["load compile 0000000000000000 00ff000000000000", "load compile 0100000000000000 0101000000000000"];
        let spread = spread(&words.map(String::from), "compile").unwrap();
        assert_eq!(spread.median, 256.0 * TICK_NS / 1e6);
        assert_eq!(spread.min, spread.max);
    }

    #[test]
    fn a_load_that_is_not_told_of_is_named() {
        assert!(spread(&[], "compile").unwrap_err().to_string().contains("compile"));
        assert!(milliseconds("00").is_err());
    }
}
