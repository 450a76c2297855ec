//! `./x sim`: hands over to the simulator in `secure-domain/sim`, which judges the volume engine.
use anyhow::Result;

/// What can be asked of `./x sim`; the simulator reads it.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// [--all] [--seed N] [--ops M] [--fault LIST] [--exhaustive [--length N]] [--threads N]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Runs the simulator.
///
/// # Errors
/// When the engine did what it must not; the simulator prints the command that repeats it.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::hand_over("sim", &arguments.arguments)
}
