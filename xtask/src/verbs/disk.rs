//! `./x disk`: sealed disks made and looked at on the host.
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;
use crypto::Suite;

use crate::{board, sealed, size};

/// What can be asked of `./x disk`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Board whose key is used: a name in board-configs/boards, or a file
    #[arg(long, value_name = "NAME|FILE", global = true)]
    board: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Seal a plain image into a new disk
    Seal {
        /// Any image, such as a filesystem
        plain: PathBuf,
        /// The disk to make
        sealed: PathBuf,
        /// Length of the disk [default: what the image needs]
        #[arg(long, value_name = "SIZE", value_parser = super::parse_size)]
        size: Option<u64>,
        /// Cipher, key length and mode
        #[arg(long, value_name = "NAME", default_value = "aria-256-gcm", value_parser = parse_suite)]
        suite: Suite,
    },
    /// Tell what a disk is
    Show {
        /// The disk
        disk: PathBuf,
    },
    /// Open every block of a disk and tell which are not what was sealed
    Check {
        /// The disk
        disk: PathBuf,
    },
}

fn parse_suite(name: &str) -> Result<Suite, String> {
    sealed::suite(name).map_err(|error| error.to_string())
}

/// Does it.
///
/// # Errors
/// When a file cannot be read or written; from `check` also when a block is bad.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (_, board) = board::find(arguments.board.as_deref())?;
    match &arguments.action {
        Action::Seal { plain, sealed: disk, size, suite } => {
            let summary = sealed::seal(plain, disk, *size, *suite, &board)?;
            println!("{}: {} blocks sealed, {} blocks of zeros", disk.display(), summary.sealed, summary.zero);
        }
        Action::Show { disk } => show(&sealed::superblock(disk, &board)?),
        Action::Check { disk } => {
            let found = sealed::check(disk, &board)?;
            println!(
                "{}: {} blocks sealed, {} blocks of zeros, {} bad",
                disk.display(),
                found.sealed,
                found.zero,
                found.bad
            );
            if found.bad > 0 {
                bail!("the first bad blocks of the volume are {:?}", found.first_bad);
            }
        }
    }
    Ok(())
}

fn show(superblock: &volume::Superblock) {
    let geometry = superblock.geometry;
    println!("volume {} sealed with {}", superblock.volume, sealed::suite_name(superblock.suite));
    println!("{} in {} blocks of 4 KiB", size::shown(geometry.data_blocks * 4096), geometry.data_blocks);
    println!("entry table from block {}, {} blocks", geometry.table_start, geometry.table_blocks);
    println!("data from block {}", geometry.data_start);
    println!("superblock sequence {}, versions reserved below {}", superblock.sequence, superblock.version_limit);
}
