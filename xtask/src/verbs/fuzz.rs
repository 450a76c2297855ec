//! `./x fuzz`: hands over to the runner in `xtask/fuzz`, which knows the targets.
use anyhow::Result;

/// What can be asked of `./x fuzz`; the runner reads it.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// [TARGET|all] [--runs N] [--seed S] [--time SECONDS] [--first I] [--input FILE]; without any it lists the targets
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Runs the runner.
///
/// # Errors
/// When an input fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::hand_over("fuzz", &arguments.arguments)
}
