//! Where one boot's files lie: `target/tests-qemu/NAME`, removed after success, kept after a failure.
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::{files, paths, process};

/// The directory of all tests.
pub fn root() -> PathBuf {
    paths::workspace().join("target/tests-qemu")
}

/// Keeps two runs of the suite apart: one directory is for one run. Freed when dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "holds the lock by being open")] File);

/// Waits for the turn of this run; with `afresh` it starts with an empty directory.
///
/// # Errors
/// When the directory or its lock cannot be made.
pub fn turn(afresh: bool) -> Result<Turn> {
    let root = root();
    fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
    let file = File::create(root.with_extension("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("Waiting for another run of the system tests ...");
        file.lock().context("the lock file cannot be locked")?;
    }
    if afresh {
        files::fresh_directory(&root)?;
    }
    Ok(Turn(file))
}

/// The directory of one group of tests.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
}

impl Place {
    /// An empty directory for this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let directory = root().join(name);
        files::fresh_directory(&directory)?;
        Ok(Self { directory })
    }

    /// A directory inside, for one of several boots.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn inside(&self, name: &str) -> Result<Self> {
        let directory = self.directory.join(name);
        files::fresh_directory(&directory)?;
        Ok(Self { directory })
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory of this name as a person at the workspace's root would type it.
    pub fn shown_as(name: &str) -> String {
        paths::shown(&root().join(name))
    }

    /// A copy of `original` in this place that takes no room for zeros, with a copy of its anchor if it has one.
    ///
    /// # Errors
    /// When `cp` fails.
    pub fn copy(&self, original: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.file(name);
        sparse_copy(original, &copy)?;
        let anchor = xtask::anchor::beside(original);
        if anchor.is_file() {
            sparse_copy(&anchor, &xtask::anchor::beside(&copy))?;
        }
        Ok(copy)
    }

    /// Removes everything: nobody needs to look at what went well.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).with_context(|| format!("{} cannot be removed", self.directory.display()))
    }
}

/// Copies a file so that its zeros take no room.
pub(crate) fn sparse_copy(from: &Path, to: &Path) -> Result<()> {
    process::capture(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}
