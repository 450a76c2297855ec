//! The system on two disks: firmware of the board with two, and its sealed disks.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use board_configs::Board;
use xtask::qemu::{Disk, Machine};
use xtask::{anchor, boot, files, firmware, sealed};

use crate::guest::Guest;
use crate::images::{Images, Linux};
use crate::place::{self, Place};

/// The board with two disks and mirrored volumes.
const BOARD: &str = "qemu-virt-pair";
/// Firmware of a board.
#[derive(Debug)]
pub struct Firmware {
    /// The board.
    pub board: Board,
    hypervisor: PathBuf,
}

/// Files that no test changes.
#[derive(Debug)]
pub struct Pair {
    /// The board with two disks.
    pub first: Firmware,
    disks: [PathBuf; 2],
}

impl Pair {
    /// Makes them, beside those of `images`.
    ///
    /// # Errors
    /// What a build step says.
    pub fn make(images: &Images) -> Result<Self> {
        let directory = place::root().join("pair");
        files::fresh_directory(&directory)?;
        let file = board_configs::directory().join(format!("{BOARD}.toml"));
        let pair = Self {
            first: Firmware::build(&file, &directory)?,
            disks: ["disk0.img", "disk1.img"].map(|name| directory.join(name)),
        };
        sealed::seal_system(&images.plain, &pair.disks, None, &pair.first.board)?;
        Ok(pair)
    }

    /// Copies of the disks, never booted, in `place`.
    ///
    /// # Errors
    /// When `cp` fails.
    pub fn copy(&self, place: &Place) -> Result<[PathBuf; 2]> {
        Ok([place.copy(&self.disks[0], "disk0.img")?, place.copy(&self.disks[1], "disk1.img")?])
    }
}

impl Firmware {
    fn build(file: &Path, directory: &Path) -> Result<Self> {
        let board = board_configs::load(file)?;
        let hypervisor = directory.join(format!("{}.img", board.name));
        let made = firmware::build(file)?.hypervisor;
        fs::copy(&made, &hypervisor).with_context(|| format!("{} cannot be copied", made.display()))?;
        Ok(Self { board, hypervisor })
    }

    /// Boots Linux on `disks`; `change` may change the machine.
    ///
    /// # Errors
    /// When it does not come to a prompt.
    pub fn boot(
        &self,
        images: &Images,
        place: Place,
        disks: &[PathBuf],
        change: impl FnOnce(&mut Machine),
    ) -> Result<Guest> {
        let mut machine = Machine {
            anchor: Some(anchor::beside(&disks[0])),
            initrd: Some(images.bundle(Linux::V6_1)),
            append: boot::arguments(None),
            disks: Disk::all(disks),
            ..Machine::new(&self.hypervisor)
        };
        change(&mut machine);
        let mut guest = Guest::start(&machine, place)?;
        guest.login()?;
        Ok(guest)
    }
}
