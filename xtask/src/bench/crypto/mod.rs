//! The crypto engine: on this machine beside OpenSSL and RustCrypto, and the ARMv8 kernels in instructions and modelled cycles.
use std::path::PathBuf;

use anyhow::Result;

use crate::toolchain::Toolchain;
use crate::{paths, process, progress};

mod armv8;
mod host;
mod model;
mod trace;

/// Prints both tables.
pub(super) fn print() -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    host::print(&example(&toolchain, "bench")?)?;
    println!();
    armv8::print(&toolchain)
}

/// Prints Welch's t of every operation between classes of secrets.
pub(super) fn print_timing() -> Result<()> {
    let program = example(&Toolchain::ensure()?, "timing")?;
    println!("Welch's t between a fixed and random secrets, 20,000 timings each; beyond 4.5 is no accident");
    process::run(&mut process::command(&program.display().to_string()))
}

/// An example of the crypto engine, built for this machine and for speed.
fn example(toolchain: &Toolchain, name: &str) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--quiet", "--profile", "bench", "--package", "crypto", "--example", name]);
    progress::step(&format!("Building the example {name}"), || process::run(&mut cargo))?;
    Ok(paths::cargo_target().join("release/examples").join(name))
}
