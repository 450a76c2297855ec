//! First figures, from a rig in which one instruction takes one nanosecond: see `docs/performance.md`.
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::firmware::Firmware;
use crate::images::Images;
use crate::toolchain::Toolchain;
use crate::{board, files, firmware, images, paths, process, progress};

mod boot;
mod budget;
mod crypto;
mod disk;
mod figures;
mod guest;
mod loads;
mod primitives;
mod programs;
mod requests;
mod restart;
mod rig;
mod trace;
mod volume;
mod walk;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Instructions of single operations, by a bare-metal guest
    Primitives,
    /// Linux that computes, switches processes and faults pages, beside the same without Haechi
    Loads,
    /// Guest time to the first process of Linux
    Boot,
    /// fio in a guest: over the sealed disk, a plain disk, and dm-crypt without and with dm-integrity
    Disk,
    /// Where the instructions of a 4 KiB request go
    Requests,
    /// Guest time in which the secure domain comes back after a crash
    Restart,
    /// Memory of the firmware, source lines, `unsafe`
    Sizes,
    /// The volume engine on a disk in this machine's memory, beside sealing alone
    Volume,
    /// Ciphers and modes: beside OpenSSL on this machine; instructions and modelled cycles of the ARMv8 kernels
    Crypto,
    /// Whether the ciphers' time depends on keys or texts: Welch's t on this machine
    Timing,
}

impl Table {
    /// As it is typed.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is made with guests in QEMU, for which everything has to be built.
    fn needs_guests(self) -> bool {
        !matches!(self, Self::Sizes | Self::Volume | Self::Crypto | Self::Timing)
    }
}

/// Everything that is started, built and at hand.
struct Bench {
    board: board_configs::Board,
    firmware: Firmware,
    probe: PathBuf,
    images: Images,
    /// Where disks, bundles and consoles go.
    directory: PathBuf,
}

impl Bench {
    fn prepare() -> Result<Self> {
        let (file, board) = board::find(None)?;
        let directory = paths::artefacts().join("bench");
        std::fs::create_dir_all(&directory)?;
        let firmware = firmware::build(&file)?;
        Ok(Self { board, firmware, probe: firmware::build_probe(&file)?, images: images::ensure()?, directory })
    }
}

/// Measures and prints the tables; none means all.
///
/// # Errors
/// When something cannot be built, or a guest does not do its job.
pub fn run(tables: &[Table]) -> Result<()> {
    let tables = if tables.is_empty() { Table::value_variants() } else { tables };
    let (guests, others): (Vec<Table>, Vec<Table>) = tables.iter().partition(|table| table.needs_guests());
    if !guests.is_empty() {
        let bench = Bench::prepare()?;
        let _lock = files::lock()?;
        guests.into_iter().try_for_each(|table| print_from_guests(table, &bench))?;
    }
    others.into_iter().try_for_each(print_alone)
}

/// Measures what has a budget (`xtask/budgets.toml`), of these tables or of all, and compares.
///
/// # Errors
/// What is above its budget, and a table that has none; or as for [`run`].
pub fn check(tables: &[Table]) -> Result<()> {
    let file = paths::workspace().join("xtask/budgets.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", paths::shown(&file)))?;
    let mut budgets = budget::parse(&text)?;
    if !tables.is_empty() {
        let wanted: Vec<String> = tables.iter().map(|table| table.name()).collect();
        if let Some(without) = wanted.iter().find(|name| !budgets.contains_key(*name)) {
            bail!("{} has no budgets of `{without}`", paths::shown(&file));
        }
        budgets.retain(|name, _| wanted.contains(name));
    }
    let bench = Bench::prepare()?;
    let _lock = files::lock()?;
    let mut regressed = Vec::new();
    for (table, budgets) in &budgets {
        let figures = match table.as_str() {
            "loads" => loads::figures(&bench)?,
            "primitives" => primitives::figures(&bench)?,
            "sizes" => crate::verbs::sizes::figures()?.into(),
            other => bail!("{} has budgets of `{other}`, which nobody measures", paths::shown(&file)),
        };
        println!();
        regressed.extend(budget::compare(table, budgets, &figures)?);
    }
    budget::judge(&regressed)
}

/// Prints one write through its stages (`./x trace --walk`).
///
/// # Errors
/// As for [`run`].
pub fn walk() -> Result<()> {
    let bench = Bench::prepare()?;
    let _lock = files::lock()?;
    walk::print(&bench)
}

fn print_from_guests(table: Table, bench: &Bench) -> Result<()> {
    println!();
    match table {
        Table::Primitives => primitives::print(bench),
        Table::Loads => loads::print(bench),
        Table::Boot => boot::print(bench),
        Table::Disk => disk::print(bench),
        Table::Requests => requests::print(bench),
        Table::Restart => restart::print(bench),
        Table::Sizes | Table::Volume | Table::Crypto | Table::Timing => print_alone(table),
    }
}

fn print_alone(table: Table) -> Result<()> {
    println!();
    match table {
        Table::Volume => volume::print(),
        Table::Crypto => crypto::print(),
        Table::Timing => crypto::print_timing(),
        _ => crate::verbs::sizes::run(),
    }
}

/// An example of a package, built for this machine and for speed.
fn example(toolchain: &Toolchain, package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--quiet", "--profile", "bench", "--package", package, "--example", name]);
    progress::step(&format!("Building the example {name} of {package}"), || process::run(&mut cargo))?;
    Ok(paths::cargo_target().join("release/examples").join(name))
}
