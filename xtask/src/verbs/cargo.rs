//! `./x cargo`: cargo as the other verbs call it, for work on one package.
use anyhow::Result;

use crate::{process, toolchain::Toolchain};

/// What can be asked of `./x cargo`; cargo reads it.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What cargo is told, such as `clippy --package vgic`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Becomes cargo.
///
/// # Errors
/// When the compiler cannot be completed.
pub fn run(arguments: &Arguments) -> Result<()> {
    process::replace(Toolchain::ensure()?.cargo().args(&arguments.arguments))
}
