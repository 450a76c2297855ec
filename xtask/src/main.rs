//! The one tool behind `./x`: reads the command line and hands over to a verb.
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::verbs;

/// Haechi: a type-1 hypervisor with a secure storage domain. `./x run` boots Linux over it in QEMU.
#[derive(Parser)]
#[command(name = "./x", bin_name = "./x", disable_version_flag = true, max_term_width = 120)]
struct Door {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot Linux over Haechi in QEMU, its root on a sealed disk
    Run(verbs::run::Arguments),
    /// Compile the firmware into flat images (target/haechi/*.img)
    Build(verbs::build::Arguments),
    /// Make sealed disks, and look at them
    Disk(verbs::disk::Arguments),
    /// Make the Linux guest's kernels, initrd and root filesystem
    Images,
}

fn main() -> ExitCode {
    let door = Door::parse();
    let done = match &door.verb {
        Verb::Run(arguments) => verbs::run::run(arguments),
        Verb::Build(arguments) => verbs::build::run(arguments),
        Verb::Disk(arguments) => verbs::disk::run(arguments),
        Verb::Images => verbs::images::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}
