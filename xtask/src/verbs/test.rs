//! `./x test`: tests on the host, every fuzz target for a moment, the whole system in QEMU.
use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::gate::Gate;
use crate::toolchain::{HARD_FLOAT, Toolchain};
use crate::{board, boot, firmware, images, leaks, paths, process, window_kernel};

/// What can be asked of `./x test`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Unit and model tests of the pure crates
    Host,
    /// The crypto engine's ARMv8 kernels: on a bare machine in QEMU, and read as they were linked
    Armv8,
    /// Each fuzz target over its corpus and some thousand inputs
    Fuzz,
    /// The storage engine in a simulated world: a million operations with cuts, and every cut of short scripts
    Sim,
    /// The system in QEMU
    System,
    /// Linux that the secure domain reaches through a window only; builds a kernel for it, so it runs only when it is named
    Window,
}

/// What is run of the storage simulator.
const SIMULATOR: &str = "run --quiet --profile host --package sim -- --all --seed 1";

/// Runs the parts; the last line counts all tests.
///
/// # Errors
/// When a test failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut gate = Gate::default();
    if wanted(Part::Host) {
        host_tests(&mut gate, &toolchain, filter);
    }
    if wanted(Part::Armv8) && filter.is_empty() {
        gate.note("ARMv8 kernels", firmware::armv8_kernels(&toolchain));
        gate.note("ARMv8 kernels as linked: no secret chooses an address or a branch", kernels_leak_nothing());
    }
    if wanted(Part::Fuzz) && filter.is_empty() {
        gate.tests("Fuzz targets", &toolchain, "run --quiet --profile host --package fuzz -- all --runs 5000 --time 2");
    }
    if wanted(Part::Sim) && filter.is_empty() {
        let mut simulator = toolchain.cargo();
        simulator.args(SIMULATOR.split(' '));
        gate.note("Storage engine in simulated worlds", process::run(&mut simulator));
    }
    if wanted(Part::System) {
        gate.note("Images for the system tests", prepare());
        let tests = format!("test --profile host --package tests-qemu -- {filter}");
        gate.tests("System tests in QEMU", &toolchain, &tests);
    }
    if arguments.only == Some(Part::Window) {
        gate.note("Images for the system tests", window_kernel::ensure().and_then(|_| prepare()));
        let tests = format!("test --profile host --package tests-qemu --test system -- --window {filter}");
        gate.tests("Linux with a window in QEMU", &toolchain, &tests);
    }
    gate.end()
}

/// The tests of everything that runs on the host.
pub(super) fn host_tests(gate: &mut Gate, toolchain: &Toolchain, filter: &str) {
    gate.tests("Host tests", toolchain, &format!("test --quiet --no-fail-fast --profile host -- {filter}"));
}

/// Reads the kernels in the program that tries them and in the secure domain, and functions that have to be refused.
fn kernels_leak_nothing() -> Result<()> {
    let tried = paths::cargo_target().join(HARD_FLOAT).join("release/examples/armv8");
    leaks::check_refusals(&tried)?;
    leaks::check(&tried)?;
    firmware::build(&board::find(None)?.0)?;
    leaks::check(&firmware::elf("secure-domain").context("the secure domain has an ELF file")?)
}

/// All that the system tests start from, so that no test waits for a build.
pub(super) fn prepare() -> Result<()> {
    let (board, _) = board::find(None)?;
    let made = firmware::build(&board)?;
    firmware::build_probe(&board)?;
    let images = images::ensure()?;
    boot::pack(&made, images.default_kernel(), Some(&images.initrd)).map(drop)
}
