//! `./x bench`: hands over to the figures' program in `tests-qemu`, with everything built that it starts.
use anyhow::Result;

use crate::{process, toolchain::Toolchain};

/// What can be asked of `./x bench`; the program reads it.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Handed to the program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Runs the program.
///
/// # Errors
/// When it fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::test::prepare()?;
    let mut cargo = Toolchain::ensure()?.cargo();
    cargo.args(["run", "--quiet", "--profile", "host", "--package", "tests-qemu", "--bin", "bench", "--"]);
    process::replace(cargo.args(&arguments.arguments))
}
