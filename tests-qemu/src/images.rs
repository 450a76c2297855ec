//! What the tests start from, made once for each run of the suite: firmware, bundles, sealed disks.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use board_configs::{Board, StorageKind};
use volume::FormatOptions;
use xtask::qemu::{Disk, Machine};
use xtask::{anchor, board, boot, files, firmware, images, process, sealed};

use crate::guest::Guest;
use crate::place::{self, Place};

/// Bytes of a block, of the filesystem and of the sealed volume alike.
pub const BLOCK_BYTES: u64 = volume::BLOCK_BYTES as u64;
/// The file that the root filesystem has for tests of single blocks; its block `i` is filled with [`victim_block`]`(i)`.
pub const VICTIM: &str = "/root/victim";
/// Its length in blocks.
pub const VICTIM_BLOCKS: u64 = 16;
/// The program that the root filesystem has for tests of debugging (`guest-images/probe/examples/debugger.rs`).
pub const DEBUGGER: &str = "/root/debugger";
/// What the disk says for GET_ID.
pub const SERIAL: &str = "haechi-test-disk";

/// A kernel of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linux {
    /// Debian's 6.1.
    V6_1,
    /// Debian's 6.12.
    V6_12,
}

impl Linux {
    /// Its series.
    pub fn series(self) -> &'static str {
        match self {
            Linux::V6_1 => "6.1",
            Linux::V6_12 => "6.12",
        }
    }
}

/// Files that no test changes.
#[derive(Debug)]
pub struct Images {
    /// What was made, so that a build that goes on beside the tests changes nothing under them.
    directory: PathBuf,
    /// The board of the tests.
    pub board: Board,
    /// The sealed disk with the root filesystem, never booted.
    pub disk: PathBuf,
    /// The plain filesystem inside [`Self::disk`].
    pub plain: PathBuf,
    /// A small sealed disk without a filesystem.
    pub small_disk: PathBuf,
    /// The plain image inside [`Self::small_disk`], an ext4 filesystem.
    pub small_plain: PathBuf,
    /// Block of the volume for each block of [`VICTIM`].
    pub victim: Vec<u64>,
    /// Linux' initrd.
    pub initrd: PathBuf,
}

impl Images {
    /// Makes them.
    ///
    /// # Errors
    /// What a build step says.
    pub fn make() -> Result<Self> {
        let (board_file, board) = board::find(None)?;
        let made = firmware::build(&board_file)?;
        let probe = firmware::build_probe(&board_file)?;
        let linux = images::ensure()?;
        let directory = place::root().join("images");
        files::fresh_directory(&directory)?;
        let keep = |file: &Path, name: &str| -> Result<PathBuf> {
            let kept = directory.join(name);
            fs::copy(file, &kept).with_context(|| format!("{} cannot be copied", file.display()))?;
            Ok(kept)
        };
        keep(&made.hypervisor, "haechi.img")?;
        keep(&probe, "probe.img")?;
        let domain = keep(&made.secure_domain, "secure-domain.img")?;
        let initrd = keep(&linux.initrd, "initrd.img")?;
        for series in [Linux::V6_1, Linux::V6_12].map(Linux::series) {
            let kernel = linux.kernel(series).with_context(|| format!("there is no Linux {series}"))?;
            keep(kernel, &format!("linux-{series}"))?;
            boot::pack_to(&directory.join(format!("linux-{series}.bundle")), &domain, kernel, Some(&initrd))?;
        }
        boot::pack_to(&directory.join("probe.bundle"), &domain, &probe, None)?;

        let (disk, small_disk) = (directory.join("disk.img"), directory.join("small.img"));
        let plain = directory.join("rootfs.ext4");
        let victim = plant_victim(&linux.rootfs, &plain)?;
        plant_debugger(&plain)?;
        sealed::seal_filesystem(&plain, &disk, None, &board)?;
        let small_plain = directory.join("small.ext4");
        process::capture(process::command("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&small_plain).arg("4M"))?;
        sealed::seal(&small_plain, &small_disk, None, sealed::DEFAULT_SUITE, &FormatOptions::default(), &board)?;
        Ok(Self { directory, board, disk, plain, small_disk, small_plain, victim, initrd })
    }

    /// The hypervisor.
    pub fn hypervisor(&self) -> PathBuf {
        self.directory.join("haechi.img")
    }

    /// The secure domain.
    pub fn secure_domain(&self) -> PathBuf {
        self.directory.join("secure-domain.img")
    }

    /// A kernel.
    pub fn kernel(&self, linux: Linux) -> PathBuf {
        self.directory.join(format!("linux-{}", linux.series()))
    }

    /// The bundle with a kernel.
    pub fn bundle(&self, linux: Linux) -> PathBuf {
        self.directory.join(format!("linux-{}.bundle", linux.series()))
    }

    /// The probe, to be started without a hypervisor.
    pub fn probe(&self) -> PathBuf {
        self.directory.join("probe.img")
    }

    /// The bundle with the probe in the kernel's place.
    pub fn probe_bundle(&self) -> PathBuf {
        self.directory.join("probe.bundle")
    }

    /// Hypervisor and bundle of the board with a window, in `place`, with this kernel.
    ///
    /// # Errors
    /// What a build step says.
    pub fn window(&self, place: &Place, kernel: &Path, initrd: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
        let made = firmware::build(&board_configs::directory().join("qemu-virt-window.toml"))?;
        let (hypervisor, bundle) = (place.file("haechi.img"), place.file("window.bundle"));
        fs::copy(&made.hypervisor, &hypervisor).context("the hypervisor cannot be copied")?;
        boot::pack_to(&bundle, &made.secure_domain, kernel, initrd)?;
        Ok((hypervisor, bundle))
    }

    /// The machine of `./x run` with Linux 6.1, this disk, and its anchor if it has one.
    pub fn machine(&self, disk: &Path) -> Machine {
        let anchor = anchor::beside(disk);
        Machine {
            anchor: anchor.is_file().then_some(anchor),
            initrd: Some(self.bundle(Linux::V6_1)),
            append: boot::arguments(None),
            disks: vec![Disk {
                place: 0,
                file: disk.to_owned(),
                serial: Some(SERIAL.into()),
                pci: None,
                kind: StorageKind::default(),
            }],
            ..Machine::new(&self.hypervisor())
        }
    }

    /// Boots Linux on a fresh copy of the disk, `disk.img` in `place`; `change` may change the machine.
    ///
    /// # Errors
    /// When it does not come to a prompt.
    pub fn boot(&self, place: Place, change: impl FnOnce(&mut Machine)) -> Result<Guest> {
        let disk = place.copy(&self.disk, "disk.img")?;
        self.boot_disk(place, &disk, change)
    }

    /// As [`Self::boot`], on a disk that is there.
    ///
    /// # Errors
    /// When it does not come to a prompt.
    pub fn boot_disk(&self, place: Place, disk: &Path, change: impl FnOnce(&mut Machine)) -> Result<Guest> {
        let mut machine = self.machine(disk);
        change(&mut machine);
        let mut guest = Guest::start(&machine, place)?;
        guest.login()?;
        Ok(guest)
    }
}

/// What block `index` of [`VICTIM`] is filled with.
pub fn victim_block(index: u64) -> Vec<u8> {
    let line = format!("block {index:02} of the victim\n");
    line.bytes().cycle().take(BLOCK_BYTES as usize).collect()
}

/// A copy of the root filesystem with [`VICTIM`] in it; gives the blocks where that lies.
fn plant_victim(rootfs: &Path, copy: &Path) -> Result<Vec<u64>> {
    process::capture(process::command("cp").arg("--sparse=always").arg(rootfs).arg(copy))?;
    let content = copy.with_extension("victim");
    fs::write(&content, (0..VICTIM_BLOCKS).flat_map(victim_block).collect::<Vec<_>>())?;
    let ask = |request: &str, write: bool| -> Result<String> {
        let mut debugfs = process::command("debugfs");
        debugfs.args(write.then_some("-w")).args(["-R", request]).arg(copy).stderr(Stdio::null());
        process::text(&mut debugfs)
    };
    ask(&format!("write {} {VICTIM}", content.display()), true)?;
    let blocks = ask(&format!("blocks {VICTIM}"), false)?;
    fs::remove_file(&content)?;
    let blocks: Option<Vec<u64>> = blocks.split_whitespace().map(|word| word.parse().ok()).collect();
    let blocks = blocks.context("debugfs lists the blocks of a file as numbers")?;
    ensure!(blocks.len() as u64 == VICTIM_BLOCKS, "the victim has {} blocks: {blocks:?}", blocks.len());
    Ok(blocks)
}

/// Puts [`DEBUGGER`] into the filesystem.
fn plant_debugger(filesystem: &Path) -> Result<()> {
    let program = firmware::debugger_program()?;
    for request in
        [format!("write {} {DEBUGGER}", program.display()), format!("set_inode_field {DEBUGGER} mode 0100755")]
    {
        process::capture(process::command("debugfs").args(["-w", "-R", &request]).arg(filesystem))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victim_blocks_are_whole_and_differ() {
        assert_eq!(victim_block(3).len() as u64, BLOCK_BYTES);
        assert_ne!(victim_block(3), victim_block(4));
    }
}
