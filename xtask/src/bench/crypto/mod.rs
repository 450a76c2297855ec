//! The crypto engine: on this machine beside OpenSSL and RustCrypto, and the ARMv8 kernels in instructions and modelled cycles.
use anyhow::Result;

use super::example;
use crate::process;
use crate::toolchain::Toolchain;

mod armv8;
mod host;
mod model;
mod trace;

/// Prints all tables.
pub(super) fn print() -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    host::print(&example(&toolchain, "crypto", "bench")?)?;
    println!();
    process::run(&mut process::command(&example(&toolchain, "crypto", "blocks")?.display().to_string()))?;
    println!();
    armv8::print(&toolchain)
}

/// Prints Welch's t of every operation between classes of secrets.
pub(super) fn print_timing() -> Result<()> {
    let program = example(&Toolchain::ensure()?, "crypto", "timing")?;
    println!("Welch's t between a fixed and random secrets, 20,000 timings each; beyond 4.5 is no accident");
    process::run(&mut process::command(&program.display().to_string()))
}
