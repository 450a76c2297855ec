//! The system on two disks: firmware of the board with two, and of one that wants other volumes; sealed disks for both.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use board_configs::Board;
use xtask::qemu::{Disk, Machine};
use xtask::{anchor, boot, files, firmware, sealed};

use crate::guest::Guest;
use crate::images::{Images, Linux};
use crate::place::{self, Place};

/// The board with two disks and mirrored volumes.
const BOARD: &str = "qemu-virt-pair";
/// What the changed board says instead: `system` gets another key, the volume `data` is larger and of another suite, the anchor lags by a
/// second, the second member is a partition of its disk, and a missing disk is refused.
const CHANGES: [(&str, &str); 6] = [
    ("name = \"qemu-virt-pair\"", "name = \"changed\""),
    (
        "base = 0x0a00_3c00",
        "base = 0x0a00_3c00\npartition = { type = \"fe20907b-c4a0-42e6-aa46-77976e8f4fcc\", name = \"haechi\" }",
    ),
    ("suite = \"aria-256-gcm\"", "suite = \"aria-256-gcm\"\nkey_generation = 2"),
    ("size_mib = 64", "size_mib = 80"),
    ("suite = \"seed-128-gcm\"", "suite = \"aria-256-ccm\""),
    ("degraded = true", "policy = \"bulk\"\nwindow_ms = 1000"),
];

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
    /// The same with [`CHANGES`].
    pub changed: Firmware,
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
        let mut text = fs::read_to_string(&file)?;
        for (from, to) in CHANGES {
            ensure!(text.contains(from), "{} does not say `{from}`", file.display());
            text = text.replacen(from, to, 1);
        }
        let changed = directory.join("changed.toml");
        fs::write(&changed, text)?;
        let pair = Self {
            first: Firmware::build(&file, &directory)?,
            changed: Firmware::build(&changed, &directory)?,
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

    /// The machine of `./x run` with Linux 6.1 on `disks`.
    pub fn machine(&self, images: &Images, disks: &[PathBuf]) -> Machine {
        Machine {
            anchor: Some(anchor::beside(&disks[0])),
            initrd: Some(images.bundle(Linux::V6_1)),
            append: boot::arguments(None),
            disks: Disk::all(disks, Some(&self.board)),
            ..Machine::new(&self.hypervisor)
        }
    }

    /// Boots Linux on `disks`.
    ///
    /// # Errors
    /// When it does not come to a prompt.
    pub fn boot(&self, images: &Images, place: Place, disks: &[PathBuf]) -> Result<Guest> {
        let mut guest = Guest::start(&self.machine(images, disks), place)?;
        guest.login()?;
        Ok(guest)
    }
}
