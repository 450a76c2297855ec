//! `./x sim`: runs worlds, or all short histories, and says what was found.
#![forbid(unsafe_code)]

use std::{io::Write, process::ExitCode, thread};

use clap::Parser;
use sim::{
    campaign::{self, Campaign},
    exhaustive,
    fault::Fault,
    gate,
};

/// A seeded world of guest, disks, anchor and adversary judges the volume engine.
#[derive(Parser)]
#[command(name = "./x sim", bin_name = "./x sim", disable_version_flag = true, max_term_width = 120)]
struct Arguments {
    /// Seed of the first world; each further world has the next one
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Operations, over all worlds of 300 each
    #[arg(long, value_name = "M", default_value_t = 100_000)]
    ops: u64,
    /// Run a million operations and --exhaustive, as continuous integration does
    #[arg(long)]
    all: bool,
    /// Run all scripts of up to --length operations, cut at every moment in every way, instead
    #[arg(long)]
    exhaustive: bool,
    /// Operations of the longest script of --exhaustive
    #[arg(long, value_name = "N", default_value_t = exhaustive::LENGTH)]
    length: usize,
    /// Only these faults of the disks, separated by commas, or `none`; without it, mixed worlds and an adversary
    #[arg(long, value_name = "LIST", value_parser = parse_faults)]
    fault: Option<Faults>,
    /// With --fault: a member is lost, comes back, is replaced
    #[arg(long, requires = "fault")]
    losses: bool,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn parse_faults(list: &str) -> Result<Faults, String> {
    let named = |name: &str| {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| format!("no fault is named `{name}`; there are {}", Fault::ALL.map(Fault::name).join(", ")))
    };
    if list == "none" {
        return Ok(Faults(Vec::new()));
    }
    list.split(',').map(named).collect::<Result<_, _>>().map(Faults)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    campaign::keep_panics();
    let outcome = if arguments.all {
        gate::run(arguments.seed, threads).map(|found| found.to_string()).map_err(|failure| failure.to_string())
    } else if arguments.exhaustive {
        short_histories(&arguments, threads)
    } else {
        worlds(&arguments, threads)
    };
    match outcome {
        Ok(summary) => {
            let _ = writeln!(std::io::stdout(), "{summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("x: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn short_histories(arguments: &Arguments, threads: usize) -> Result<String, String> {
    exhaustive::run(arguments.length, threads).map(|found| found.to_string()).map_err(|failure| failure.to_string())
}

fn worlds(arguments: &Arguments, threads: usize) -> Result<String, String> {
    let faults = arguments.fault.as_ref().map(|faults| faults.0.clone());
    let campaign =
        Campaign { seed: arguments.seed, operations: arguments.ops, faults, losses: arguments.losses, threads };
    let tally = campaign::run(&campaign, &|_| {}).map_err(|failure| failure.to_string())?;
    Ok(format!("seed {}\n{tally}", arguments.seed))
}
