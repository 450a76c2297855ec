//! `./x bench`: first figures, from the deterministic rig.
use anyhow::Result;

use crate::bench::{self, Table};

/// What can be asked of `./x bench`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only these tables [default: all]
    #[arg(value_enum)]
    tables: Vec<Table>,
    /// Instead: compare those that have budgets in xtask/budgets.toml with them, and fail when something has regressed
    #[arg(long)]
    check: bool,
}

/// Measures and prints the tables.
///
/// # Errors
/// When something cannot be built, or a guest does not do its job.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check { bench::check(&arguments.tables) } else { bench::run(&arguments.tables) }
}
