//! `./x disk`: sealed disks made and looked at on the host.
use std::path::PathBuf;
use std::slice;

use anyhow::{Result, ensure};
use board_configs::Board;
use clap::Subcommand;
use crypto::Suite;
use volume::Command;

use crate::sealed::Access;
use crate::{board, sealed, size};

/// What can be asked of `./x disk`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Board whose key is used: a name in board-configs/boards, or a file
    #[arg(long, value_name = "NAME|FILE", global = true)]
    board: Option<String>,
    /// The board's next disk, in a pool of several; may be given again
    #[arg(long, value_name = "DISK", global = true)]
    with: Vec<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a disk with an empty volume
    Create {
        /// The disk to make
        disk: PathBuf,
        /// Length of the disk
        #[arg(long, value_name = "SIZE", value_parser = super::parse_size)]
        size: u64,
        /// Cipher, key length and mode
        #[arg(long, value_name = "NAME", default_value = "aria-256-gcm", value_parser = parse_suite)]
        suite: Suite,
    },
    /// Seal a plain image into a new disk
    Seal {
        /// Any image, such as a filesystem
        plain: PathBuf,
        /// The disk to make
        disk: PathBuf,
        /// Length of the disk [default: what the image needs]
        #[arg(long, value_name = "SIZE", value_parser = super::parse_size)]
        size: Option<u64>,
        /// Cipher, key length and mode
        #[arg(long, value_name = "NAME", default_value = "aria-256-gcm", value_parser = parse_suite)]
        suite: Suite,
    },
    /// Write the plain contents of a volume into a file
    Unseal {
        /// The disk
        disk: PathBuf,
        /// The file to make
        plain: PathBuf,
        /// Name of the volume
        #[arg(long, default_value = sealed::VOLUME)]
        volume: String,
    },
    /// Tell what a disk is, and what a mount would find
    Info {
        /// The disk
        disk: PathBuf,
    },
    /// Open every block of a disk, without writing to it, and tell which are not what was sealed
    Check {
        /// The disk
        disk: PathBuf,
    },
    /// Mount a disk as the secure domain would, and verify everything that is kept on it, also what no block uses now
    Scrub {
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
    let all = |disk: &PathBuf| [slice::from_ref(disk), &arguments.with].concat();
    match &arguments.action {
        Action::Create { disk, size, suite } => sealed::create(disk, *size, *suite, &board).map(drop),
        Action::Seal { plain, disk, size, suite } => {
            let done = sealed::seal(plain, disk, *size, *suite, &board)?;
            println!("{}: {} blocks sealed, {} left unwritten", disk.display(), done.sealed, done.zero);
            Ok(())
        }
        Action::Unseal { disk, plain, volume } => sealed::unseal(&all(disk), plain, volume, &board),
        Action::Info { disk } => info(&all(disk), &board),
        Action::Check { disk } => check(&all(disk), &board),
        Action::Scrub { disk } => scrub(&all(disk), &board),
    }
}

fn info(disks: &[PathBuf], board: &Board) -> Result<()> {
    let (pool, recovery) = sealed::mount_all(disks, board, Access::ReadOnly)?;
    let superblock = pool.pool().superblock();
    println!("mounted {} times, checkpoint {}", superblock.incarnation, superblock.checkpoint);
    for volume in pool.pool().volumes() {
        println!(
            "volume {} `{}`: {} in {} blocks of 4 KiB, {}, epoch {}, {:?}, {} extents of 4 MiB taken",
            volume.number,
            volume.name,
            size::shown(volume.blocks * 4096),
            volume.blocks,
            sealed::suite_name(volume.suite),
            volume.epoch,
            volume.layout,
            volume.extents,
        );
    }
    println!("{recovery}");
    Ok(())
}

fn check(disks: &[PathBuf], board: &Board) -> Result<()> {
    let found = sealed::check_all(disks, board)?;
    println!("{}: {} blocks good, {} bad", disks[0].display(), found.good, found.bad);
    ensure!(found.bad == 0, "the first bad blocks are {:?}", found.first_bad);
    Ok(())
}

fn scrub(disks: &[PathBuf], board: &Board) -> Result<()> {
    let (mut pool, recovery) = sealed::mount_all(disks, board, Access::ReadWrite)?;
    println!("{recovery}");
    pool.command(Command::Scrub)?;
    let events = pool.events();
    events.iter().for_each(|event| println!("{event}"));
    pool.close()?;
    ensure!(events.is_empty(), "{} holds what was not sealed there", disks[0].display());
    println!("{}: everything is what was sealed", disks[0].display());
    Ok(())
}
