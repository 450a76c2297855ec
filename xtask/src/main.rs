//! The one tool behind `./x`: reads the command line and hands over to a verb.
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use xtask::verbs;

/// Haechi: a type-1 hypervisor with a secure storage domain. `./x run` boots Linux over it in QEMU.
#[derive(Parser)]
#[command(
    name = "./x",
    bin_name = "./x",
    disable_version_flag = true,
    disable_help_subcommand = true,
    max_term_width = 120
)]
struct Door {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot Linux over Haechi in QEMU, its root on a sealed disk
    Run(verbs::run::Arguments),
    /// Run all tests: host, fuzz targets for a moment, the system in QEMU
    Test(verbs::test::Arguments),
    /// Check formatting, lints, tidiness and host tests
    Check(verbs::check::Arguments),
    /// Measure, with the deterministic rig
    Bench(verbs::bench::Arguments),
    /// Tell what brought each core to the hypervisor, out of a console log; or walk one write through its stages
    Trace(verbs::trace::Arguments),
    /// Feed a fuzz target; without a target, list them
    Fuzz(verbs::fuzz::Arguments),
    /// Judge the volume engine in simulated worlds of power cuts, faults and an adversary
    Sim(verbs::sim::Arguments),
    /// Print what the firmware takes in memory, and source lines and `unsafe` of each package
    Sizes,
    /// Make sealed disks, and look at them
    Disk(verbs::disk::Arguments),
    /// Compile the firmware into flat images (target/haechi/*.img)
    Build(verbs::build::Arguments),
    /// Make the Linux guest's kernels, initrd and root filesystem
    Images(verbs::images::Arguments),
    /// Run cargo with the project's compiler, so that bare-metal targets work
    Cargo(verbs::cargo::Arguments),
    /// Print every verb with its flags, or those of one verb
    Help {
        /// The verb
        verb: Option<String>,
    },
}

fn main() -> ExitCode {
    let door = match Door::try_parse() {
        Ok(door) => door,
        Err(error) => return refuse(&error),
    };
    match perform(&door.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Run(arguments) => verbs::run::run(arguments),
        Verb::Test(arguments) => verbs::test::run(arguments),
        Verb::Check(arguments) => verbs::check::run(arguments),
        Verb::Bench(arguments) => verbs::bench::run(arguments),
        Verb::Trace(arguments) => verbs::trace::run(arguments),
        Verb::Fuzz(arguments) => verbs::fuzz::run(arguments),
        Verb::Sim(arguments) => verbs::sim::run(arguments),
        Verb::Sizes => verbs::sizes::run(),
        Verb::Disk(arguments) => verbs::disk::run(arguments),
        Verb::Build(arguments) => verbs::build::run(arguments),
        Verb::Images(arguments) => verbs::images::run(arguments),
        Verb::Cargo(arguments) => verbs::cargo::run(arguments),
        Verb::Help { verb } => help(verb.as_deref()),
    }
}

/// A wrong command line becomes one sentence; `--help` is printed as it is.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp) {
        show(&error);
        return ExitCode::SUCCESS;
    }
    if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        eprint!("{error}");
        return ExitCode::from(2);
    }
    let text = error.to_string();
    let sentence = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    eprintln!("x: {} (./x help lists verbs and flags)", sentence.trim_start_matches("error: ").trim());
    ExitCode::from(2)
}

fn help(verb: Option<&str>) -> anyhow::Result<()> {
    let mut door = Door::command();
    door.build();
    if let Some(name) = verb {
        let Some(found) = door.find_subcommand_mut(name) else {
            anyhow::bail!("there is no verb `{name}` (./x help lists them)");
        };
        show(&found.render_long_help());
        return Ok(());
    }
    show(&door.render_long_help());
    for command in door.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        let rule = "-".repeat(72_usize.saturating_sub(name.len()));
        show(&format_args!("--- ./x {name} {rule}\n\n{}", command.render_long_help()));
    }
    Ok(())
}

/// Prints; whoever stops reading half way has seen enough.
fn show(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
