//! `core` and `alloc` for the bare-metal targets.
//!
//! rustup ships them ready for every target, and then there is nothing to do. Debian ships only their sources, so they
//! are compiled once into a sysroot of the project's own, which the bare-metal builds are pointed at with `--sysroot`.
//! Host builds keep the machine's own sysroot. (The alternative, `-Zbuild-std` in each build, would cost 20 s per target
//! directory and make every plain `cargo build` differ from what a rustup user types.)
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{files, paths, process, progress};

/// EL2 and the probe guest: no FP or SIMD register is ever touched.
pub const SOFT_FLOAT: &str = "aarch64-unknown-none-softfloat";
/// The secure domain: its cipher kernels use SIMD.
pub const HARD_FLOAT: &str = "aarch64-unknown-none";

/// The crates a bare-metal build links.
const CRATES: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// A compiler that can build for both bare-metal targets.
pub struct Toolchain {
    /// Our own sysroot, where the machine's compiler lacks the targets.
    sysroot: Option<PathBuf>,
}

impl Toolchain {
    /// Finds the compiler and completes it, which takes about a minute the first time on a machine with Debian's.
    ///
    /// # Errors
    /// When there is no compiler, or it has neither the targets nor the sources to make them.
    pub fn ensure() -> Result<Self> {
        let theirs = PathBuf::from(process::text(Command::new("rustc").args(["--print", "sysroot"]))?.trim_end());
        if [SOFT_FLOAT, HARD_FLOAT].iter().all(|target| has_target(&theirs, target)) {
            return Ok(Self { sysroot: None });
        }
        if !theirs.join("lib/rustlib/src/rust/library/core").is_dir() {
            bail!("the Rust compiler in {} lacks the bare-metal targets; `./x` installs them", theirs.display());
        }
        let version = process::text(Command::new("rustc").arg("--version"))?;
        let version = version.split_whitespace().nth(1).context("`rustc --version` names no version")?;
        let ours = paths::workspace().join(format!("target/sysroot-{version}"));
        let lacking = |target: &&str| !has_target(&ours, target);
        let _lock = [SOFT_FLOAT, HARD_FLOAT].iter().any(lacking).then(files::lock).transpose()?;
        for target in [SOFT_FLOAT, HARD_FLOAT] {
            if lacking(&target) {
                progress::step(&format!("Compiling core and alloc for {target} (once)"), || make(&ours, target))?;
            }
        }
        link_linker(&theirs, &ours)?;
        Ok(Self { sysroot: Some(ours) })
    }

    /// `cargo` with an environment in which both bare-metal targets build.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(paths::workspace()).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        for (name, value) in self.environment() {
            cargo.env(name, value);
        }
        cargo
    }

    /// The variables that point bare-metal builds at our sysroot; none when the compiler has the targets.
    fn environment(&self) -> Vec<(String, String)> {
        let Some(sysroot) = &self.sysroot else { return Vec::new() };
        let name = |target: &str| format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
        let flags = format!("--sysroot={}", sysroot.display());
        [SOFT_FLOAT, HARD_FLOAT].iter().map(|target| (name(target), flags.clone())).collect()
    }
}

fn library_directory(sysroot: &Path, target: &str) -> PathBuf {
    sysroot.join("lib/rustlib").join(target).join("lib")
}

fn has_target(sysroot: &Path, target: &str) -> bool {
    CRATES.iter().all(|name| find_rlib(&library_directory(sysroot, target), name).is_some())
}

fn find_rlib(directory: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("lib{name}-");
    let mut entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    entries.find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&prefix) && file.ends_with(".rlib")
    })
}

/// Compiles the crates through an empty one that asks cargo for them, then keeps the three libraries.
fn make(sysroot: &Path, target: &str) -> Result<()> {
    let scratch = sysroot.join("build");
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "#![no_std]\n")?;
    fs::write(scratch.join("Cargo.toml"), SCRATCH_MANIFEST)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--target", target]).arg("-Zbuild-std=core,alloc,compiler_builtins");
    cargo.arg("-Zbuild-std-features=compiler-builtins-mem").current_dir(&scratch);
    // Debian's sources are those of a stable release; the switch only lets cargo compile them. Bitcode is for fat LTO.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env("CARGO_TARGET_DIR", scratch.join("target"));
    process::capture(&mut cargo)?;

    let built = scratch.join("target").join(target).join("release/deps");
    let library = library_directory(sysroot, target);
    files::fresh_directory(&library)?;
    for name in CRATES {
        let rlib = find_rlib(&built, name).with_context(|| format!("cargo made no library of `{name}`"))?;
        fs::copy(&rlib, library.join(rlib.file_name().expect("a found file has a name")))?;
    }
    fs::remove_dir_all(&scratch).context("the scratch directory of the sysroot cannot be removed")
}

const SCRATCH_MANIFEST: &str = "[package]\nname = \"sysroot\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
    [workspace]\n[profile.release]\npanic = \"abort\"\n";

/// rustc looks for its linker, `rust-lld`, in the sysroot it is given. Debian's compiler comes without one: its package
/// lld-22 has the same program under another name.
fn link_linker(theirs: &Path, ours: &Path) -> Result<()> {
    let place = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", std::env::consts::ARCH);
    let link = ours.join(&place);
    if link.exists() {
        return Ok(());
    }
    let candidates = [theirs.join(&place), PathBuf::from("/usr/bin/lld-22")];
    let Some(linker) = candidates.iter().find(|linker| linker.exists()) else {
        bail!("the linker lld-22 is not on this machine; `./x` installs it");
    };
    files::fresh_directory(link.parent().expect("the link lies in a directory"))?;
    std::os::unix::fs::symlink(linker, &link).with_context(|| format!("{} cannot be linked", link.display()))
}
