//! `./x disk`: sealed disks made and looked at on the host.
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use board_configs::Board;
use clap::Subcommand;
use crypto::Suite;
use volume::{Command, FormatOptions};

use crate::sealed::Access;
use crate::{anchor, board, sealed, size};

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
        /// The disk promises to write sectors of 512 bytes whole, and not blocks of 4 KiB
        #[arg(long)]
        torn_sectors: bool,
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
        /// The disk promises to write sectors of 512 bytes whole, and not blocks of 4 KiB
        #[arg(long)]
        torn_sectors: bool,
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
    /// Print everything that is written on a disk, and what is wrong with it: superblocks, anchor, log, tree, catalog
    Dump {
        /// The disks of a pool, in any order; the anchor lies beside the first
        #[arg(required = true)]
        disks: Vec<PathBuf>,
        /// Check no MAC: tell what is claimed, as whoever has no key would read it
        #[arg(long)]
        no_keys: bool,
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
    match &arguments.action {
        Action::Create { disk, size, suite, torn_sectors } => {
            sealed::create(disk, *size, *suite, &format(*torn_sectors), &board).map(drop)
        }
        Action::Seal { plain, disk, size, suite, torn_sectors } => {
            let done = sealed::seal(plain, disk, *size, *suite, &format(*torn_sectors), &board)?;
            println!("{}: {} blocks sealed, {} left unwritten", disk.display(), done.sealed, done.zero);
            Ok(())
        }
        Action::Unseal { disk, plain, volume } => sealed::unseal(disk, plain, volume, &board),
        Action::Info { disk } => info(disk, &board),
        Action::Check { disk } => check(disk, &board),
        Action::Dump { disks, no_keys } => dump(disks, *no_keys, &board),
        Action::Scrub { disk } => scrub(disk, &board),
    }
}

fn format(torn_sectors: bool) -> FormatOptions {
    FormatOptions { torn_sectors, ..FormatOptions::default() }
}

fn info(disk: &Path, board: &Board) -> Result<()> {
    let (pool, recovery) = sealed::mount(disk, board, Access::ReadOnly)?;
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

fn check(disk: &Path, board: &Board) -> Result<()> {
    let found = sealed::check(disk, board)?;
    println!("{}: {} blocks good, {} bad", disk.display(), found.good, found.bad);
    ensure!(found.bad == 0, "the first bad blocks are {:?}", found.first_bad);
    Ok(())
}

fn dump(disks: &[PathBuf], no_keys: bool, board: &Board) -> Result<()> {
    let root = if no_keys { None } else { Some(sealed::root_key(board)?) };
    print!("{}", sealed::dump::dump(disks, &anchor::beside(&disks[0]), root.as_ref())?);
    Ok(())
}

fn scrub(disk: &Path, board: &Board) -> Result<()> {
    let (mut pool, recovery) = sealed::mount(disk, board, Access::ReadWrite)?;
    println!("{recovery}");
    pool.command(Command::Scrub)?;
    let events = pool.events();
    events.iter().for_each(|event| println!("{event}"));
    pool.close()?;
    ensure!(events.is_empty(), "{} holds what was not sealed there", disk.display());
    println!("{}: everything is what was sealed", disk.display());
    Ok(())
}
