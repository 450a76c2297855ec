//! Runs the fuzz targets; no special compiler is needed.
//!
//! Case number `i` of seed `s` is a pure function of the two and of the target's corpus, so a failure is repeated by
//! naming them, or by giving the saved input. Inputs worth keeping are files in `xtask/fuzz/corpus/TARGET/`: they are
//! run first every time and are what mutation starts from.
mod mutate;
mod random;
mod runner;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fuzz::targets::{ALL, Target};

use crate::runner::Plan;

/// Feeds targets with generated and mutated inputs. Without a target it lists them.
#[derive(Parser)]
#[command(bin_name = "./x fuzz", disable_version_flag = true)]
struct Arguments {
    /// The target, or `all`
    target: Option<String>,
    /// Inputs to run
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    runs: u64,
    /// Seed; the same seed gives the same inputs
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Stop after this many seconds, whatever is first
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Number of the first input
    #[arg(long, value_name = "I", default_value_t = 0)]
    first: u64,
    /// Run this one input instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "seed", "time", "first"])]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(name) = &arguments.target else {
        ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let chosen: Vec<&Target> = ALL.iter().filter(|(target, _)| name == "all" || name == target).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("x: there is no fuzz target `{name}`; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let time = arguments.time.map(Duration::from_secs);
    let plan = Plan { seed: arguments.seed, first: arguments.first, runs: arguments.runs, time };
    let run = |target: &&&Target| match &arguments.input {
        Some(file) => runner::run_file(target, file),
        None => runner::run(target, &plan),
    };
    let failed = chosen.iter().filter(|target| !run(target)).count();
    println!("fuzz: {} passed, {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
