//! Instructions of single operations, counted by the probe's class `bench`.
use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::budget::Figures;
use super::figures::Spread;
use super::rig::{self, Guest};
use super::{Bench, guest};

/// What is printed: name, the probe's batch, the batch that is subtracted, and whether bare hardware has the operation.
const ROWS: [(&str, &str, &str); 13] = [
    ("null HVC, round trip", "hvc", "loop_of_call"),
    ("GICD_CTLR read", "gicd_ctlr", "loop"),
    ("GICD_ISENABLER1 read", "gicd_isenabler1", "loop"),
    ("SGI to self, to the handler", "first_latency_sgi", "first_latency_zero"),
    ("SGI to self, round", "sgi_round", "loop_of_interrupt"),
    ("SGI to another core, to its handler", "between_ipi", "between_zero"),
    ("expired timer, to the handler", "first_latency_timer", "first_latency_zero"),
    ("expired timer, round", "timer_round", "loop_of_interrupt"),
    ("SPI pended, to the handler", "first_latency_spi", "first_latency_zero"),
    ("end of interrupt", "end_of_interrupt", "loop"),
    ("doorbell of a device not live", "doorbell", "loop"),
    ("kick, secure domain and back", "switch", "loop"),
    ("console byte", "console_byte", "loop"),
];

/// The median of each operation over Haechi.
pub(super) fn figures(bench: &Bench) -> Result<Figures> {
    let over = over(bench)?;
    let median = |(name, batch, zero): (&str, &str, &str)| Some((name.to_owned(), spread(&over, batch, zero)?.median));
    Ok(ROWS.into_iter().filter_map(median).collect())
}

fn over(bench: &Bench) -> Result<Batches> {
    run_both(bench, "primitives", |disk| {
        Ok(rig::with_disk(rig::haechi(bench, "primitives", &bench.probe, None, rig::SEED)?, disk))
    })
}

/// Runs the probe over Haechi and without it, and prints both.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let over = over(bench)?;
    let bare =
        run_both(bench, "primitives-bare", |disk| Ok(rig::with_disk(rig::bare(&bench.probe, None, rig::SEED), disk)))?;
    println!("{:<34} {:>22} {:>22}   instructions", "operation", "Haechi", "bare");
    for (name, batch, zero) in ROWS {
        println!("{name:<34} {:>22} {:>22}", cell(&over, batch, zero), cell(&bare, batch, zero));
    }
    Ok(())
}

/// Instructions of one operation in every batch.
type Batches = BTreeMap<String, Vec<f64>>;

/// On one core, and what goes between two.
fn run_both(
    bench: &Bench,
    name: &str,
    machine: impl Fn(&std::path::Path) -> Result<crate::qemu::Machine>,
) -> Result<Batches> {
    let mut batches = run(bench, name, 1, &machine)?;
    batches.extend(run(bench, name, 2, &machine)?);
    Ok(batches)
}

fn run(
    bench: &Bench,
    name: &str,
    cores: u32,
    machine: impl Fn(&std::path::Path) -> Result<crate::qemu::Machine>,
) -> Result<Batches> {
    let disk = match name.ends_with("bare") {
        true => guest::plain_disk(bench, name)?,
        false => guest::sealed_disk(bench, name, crate::sealed::DEFAULT_SUITE)?,
    };
    let mut machine = machine(&disk)?;
    machine.smp = cores;
    machine.append = "probe.only=bench".into();
    let mut guest = Guest::start(bench, name, &machine)?;
    let mut batches = Batches::new();
    let mut tick_ns = 0.0;
    while let Some(line) = guest.line()? {
        // The bytes that were measured stand before the line that tells of them.
        let Some((_, words)) = line.split_once("probe: # bench ") else { continue };
        let words: Vec<&str> = words.split_whitespace().collect();
        match words.as_slice() {
            ["frequency", hertz] => tick_ns = 1e9 / hertz.parse::<f64>()?,
            [batch, repetitions, ticks @ ..] if !ticks.is_empty() => {
                let repetitions: f64 = repetitions.parse()?;
                let each = ticks.iter().map(|ticks| Ok(ticks.parse::<f64>()? * tick_ns / repetitions));
                batches.insert((*batch).to_owned(), each.collect::<Result<_>>()?);
            }
            _ => {}
        }
    }
    guest::remove(&disk)?;
    (!batches.is_empty()).then_some(batches).with_context(|| format!("the probe of {name} measured nothing"))
}

fn spread(batches: &Batches, name: &str, zero: &str) -> Option<Spread> {
    let zero = batches.get(zero).and_then(|all| Spread::of(all.iter().copied())).map_or(0.0, |all| all.median);
    batches.get(name).and_then(|all| Spread::of(all.iter().map(|one| one - zero)))
}

fn cell(batches: &Batches, name: &str, zero: &str) -> String {
    spread(batches, name, zero).map_or("-".into(), |spread| format!("{spread:.0}"))
}
