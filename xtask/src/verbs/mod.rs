//! The verbs of `./x`, one file each.
pub mod bench;
pub mod build;
pub mod cargo;
pub mod check;
pub mod disk;
pub mod fuzz;
pub mod images;
pub mod run;
pub mod sim;
pub mod sizes;
pub mod test;
pub mod trace;

use anyhow::Result;

use crate::process;
use crate::toolchain::Toolchain;

/// A size on the command line, for clap.
fn parse_size(text: &str) -> Result<u64, String> {
    crate::size::parse(text).map_err(|error| error.to_string())
}

/// Becomes the program of a package of ours that reads its arguments itself. Comes back only when cargo cannot be started.
fn hand_over(package: &str, arguments: &[String]) -> Result<()> {
    let mut cargo = Toolchain::ensure()?.cargo();
    cargo.args(["run", "--quiet", "--profile", "host", "--package", package, "--"]).args(arguments);
    process::replace(&mut cargo)
}
