//! The firmware: compiled for the bare-metal targets and laid out as flat images.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::toolchain::{HARD_FLOAT, SOFT_FLOAT, Toolchain};
use crate::{files, flat, integrity, paths, process, progress};

/// Held by whoever builds: cargo has one place for a binary, whatever the board.
static BUILDING: Mutex<()> = Mutex::new(());

/// One firmware binary.
struct Binary {
    package: &'static str,
    target: &'static str,
    image: &'static str,
    /// Whether it checks its own integrity at the start, against a MAC that is written after linking.
    tests_itself: bool,
}

const HYPERVISOR: Binary =
    Binary { package: "hypervisor", target: SOFT_FLOAT, image: "haechi.img", tests_itself: false };
const SECURE_DOMAIN: Binary =
    Binary { package: "secure-domain", target: HARD_FLOAT, image: "secure-domain.img", tests_itself: true };
const PROBE: Binary = Binary { package: "probe", target: SOFT_FLOAT, image: "probe.img", tests_itself: false };

/// The flat images of a board's firmware.
#[derive(Debug, Clone)]
pub struct Firmware {
    /// The hypervisor, what the boot loader starts at EL2.
    pub hypervisor: PathBuf,
    /// The secure domain, a part of the boot bundle.
    pub secure_domain: PathBuf,
}

/// Builds hypervisor and secure domain for the board file.
///
/// # Errors
/// What cargo says, or a flat image that cannot be made.
pub fn build(board: &Path) -> Result<Firmware> {
    build_with(board, None)
}

/// As [`build`], with another transport of the virtual devices than the board file says, if one is named. Only the hypervisor differs.
///
/// # Errors
/// As [`build`].
pub fn build_with(board: &Path, transport: Option<&str>) -> Result<Firmware> {
    let toolchain = Toolchain::ensure()?;
    let images = image_directory(board);
    Ok(Firmware {
        hypervisor: HYPERVISOR.build(&toolchain, board, transport, &hypervisor_directory(board, transport))?,
        secure_domain: SECURE_DOMAIN.build(&toolchain, board, None, &images)?,
    })
}

/// Where the hypervisor of a board goes: with another transport than the board's into a directory of its own.
pub fn hypervisor_directory(board: &Path, transport: Option<&str>) -> PathBuf {
    transport.map_or_else(|| image_directory(board), |transport| image_directory(board).join(transport))
}

/// Builds the probe, the guest that tries what is forbidden.
///
/// # Errors
/// As [`build`].
pub fn build_probe(board: &Path) -> Result<PathBuf> {
    PROBE.build(&Toolchain::ensure()?, board, None, &image_directory(board))
}

/// Builds the crypto engine's program for a bare machine (`examples/armv8`), which checks and measures its kernels; its ELF file.
///
/// # Errors
/// What cargo says.
pub fn armv8_program(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--quiet", "--release", "--package", "crypto", "--example", "armv8", "--target", HARD_FLOAT]);
    progress::step("Building the ARMv8 kernels", || process::run(&mut cargo))?;
    Ok(paths::cargo_target().join(HARD_FLOAT).join("release/examples/armv8"))
}

/// Builds the program that debugs a child of its own in the Linux guest (`guest-images/probe/examples/debugger.rs`): a static ELF file.
///
/// # Errors
/// What cargo says.
pub fn debugger_program() -> Result<PathBuf> {
    let mut cargo = Toolchain::ensure()?.cargo();
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "probe",
        "--example",
        "debugger",
        "--target",
        SOFT_FLOAT,
    ]);
    progress::step("Building the debugger", || process::run(&mut cargo))?;
    Ok(paths::cargo_target().join(SOFT_FLOAT).join("release/examples/debugger"))
}

/// Builds the crypto engine's check of its ARMv8 kernels against the portable ones (`examples/armv8`) and runs it on a bare
/// machine in QEMU; it reports by its exit status.
///
/// # Errors
/// What cargo says, or what the check says when it fails.
pub fn armv8_kernels(toolchain: &Toolchain) -> Result<()> {
    let program = armv8_program(toolchain)?;
    let mut qemu = process::command("qemu-system-aarch64");
    qemu.args(["-M", "virt", "-cpu", "cortex-a76", "-m", "64", "-display", "none", "-nic", "none", "-semihosting"]);
    qemu.args(["-icount", "shift=0", "-kernel"]).arg(program);
    match progress::step("ARMv8 kernels in QEMU", || process::words(&mut qemu))? {
        Ok(_) => Ok(()),
        Err(words) => bail!("the ARMv8 kernels differ from the portable ones:\n{words}"),
    }
}

/// Where a board's flat images go: boards other than the default have a directory of their own.
pub fn image_directory(board: &Path) -> PathBuf {
    match board.file_stem() {
        Some(stem) if !is_default(board) => paths::artefacts().join(stem),
        _ => paths::artefacts(),
    }
}

fn is_default(board: &Path) -> bool {
    board == board_configs::directory().join(format!("{}.toml", crate::board::DEFAULT))
}

/// The ELF file cargo leaves for a firmware package; `None` for a package that is none.
pub fn elf(package: &str) -> Option<PathBuf> {
    let binary = [HYPERVISOR, SECURE_DOMAIN, PROBE].into_iter().find(|binary| binary.package == package)?;
    Some(binary.elf())
}

impl Binary {
    fn elf(&self) -> PathBuf {
        paths::cargo_target().join(self.target).join("release").join(self.package)
    }

    fn build(&self, toolchain: &Toolchain, board: &Path, transport: Option<&str>, images: &Path) -> Result<PathBuf> {
        let mut cargo = toolchain.cargo();
        cargo.args(["build", "--quiet", "--release", "--package", self.package, "--target", self.target]);
        // Unset for the default board, so that a plain `cargo build` finds everything up to date.
        match is_default(board) {
            true => cargo.env_remove("HAECHI_BOARD"),
            false => cargo.env("HAECHI_BOARD", board),
        };
        match transport {
            Some(transport) => cargo.env("HAECHI_TRANSPORT", transport),
            None => cargo.env_remove("HAECHI_TRANSPORT"),
        };
        // Another board's build must not take the file's place before it is read.
        let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        progress::step(&format!("Building {}", self.package), || process::run(&mut cargo))?;
        let elf = self.elf();
        let bytes = fs::read(&elf).with_context(|| format!("{} cannot be read", elf.display()))?;
        let mut flat =
            flat::from_elf(&bytes).with_context(|| format!("{} cannot become a flat image", elf.display()))?;
        if self.tests_itself {
            integrity::write(&bytes, &mut flat).with_context(|| format!("{} takes no MAC", elf.display()))?;
        }
        let image = images.join(self.image);
        files::replace_if_changed(&image, &flat)?;
        Ok(image)
    }
}
