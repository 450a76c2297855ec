//! First figures, from a rig in which one instruction takes one nanosecond: see `docs/performance.md`.
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::firmware::Firmware;
use crate::images::Images;
use crate::{board, files, firmware, images, paths};

mod boot;
mod disk;
mod figures;
mod guest;
mod primitives;
mod requests;
mod rig;
mod trace;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Instructions of single operations, by a bare-metal guest
    Primitives,
    /// Guest time to the first process of Linux
    Boot,
    /// fio over the sealed disk, a plain disk, and dm-crypt on it
    Disk,
    /// Where the instructions of a 4 KiB request go
    Requests,
    /// Memory of the firmware, source lines, `unsafe`
    Sizes,
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

/// Measures and prints the tables; none means all.
///
/// # Errors
/// When something cannot be built, or a guest does not do its job.
pub fn run(tables: &[Table]) -> Result<()> {
    let tables = if tables.is_empty() { Table::value_variants() } else { tables };
    let (file, board) = board::find(None)?;
    let directory = paths::artefacts().join("bench");
    std::fs::create_dir_all(&directory)?;
    let firmware = firmware::build(&file)?;
    let bench = Bench { board, firmware, probe: firmware::build_probe(&file)?, images: images::ensure()?, directory };
    let _lock = files::lock()?;
    for table in tables {
        println!();
        match table {
            Table::Primitives => primitives::print(&bench)?,
            Table::Boot => boot::print(&bench)?,
            Table::Disk => disk::print(&bench)?,
            Table::Requests => requests::print(&bench)?,
            Table::Sizes => crate::verbs::sizes::run()?,
        }
    }
    Ok(())
}
