//! Small helpers over files: walking, replacing, lists of words, the lock that keeps two `./x` apart.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every regular file and link below `directory`, sorted.
///
/// # Errors
/// When a directory cannot be read.
pub fn walk(directory: &Path) -> Result<Vec<PathBuf>> {
    entries(directory).map(|(files, _)| files)
}

/// Every directory below `directory`, itself included, sorted.
///
/// # Errors
/// When a directory cannot be read.
pub fn directories(directory: &Path) -> Result<Vec<PathBuf>> {
    entries(directory).map(|(_, directories)| directories)
}

fn entries(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => open.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
        directories.push(next);
    }
    files.sort();
    directories.sort();
    Ok((files, directories))
}

/// Writes a file as a whole or not at all: beside it first, then renamed over it.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().context("a file to write has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&beside, bytes).with_context(|| format!("{} cannot be written", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("{} cannot be replaced", path.display()))
}

/// Like [`replace`], but leaves the file and its time alone when it already holds these bytes. Tells whether it wrote.
///
/// # Errors
/// When it cannot be written.
pub fn replace_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    replace(path, bytes)?;
    Ok(true)
}

/// An empty directory, whatever was there before.
///
/// # Errors
/// When the old one cannot be removed or the new one made.
pub fn fresh_directory(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))
}

/// The lines of a list file without comments (`#` to the end of the line) and blank ones.
///
/// # Errors
/// When it cannot be read.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Held while images are made, so that two `./x` at once do not write the same files. Freed when dropped.
pub struct Lock(#[expect(dead_code, reason = "holds the lock by being open")] File);

/// Takes the lock of the artefacts' directory, waiting for another `./x` if there is one.
///
/// # Errors
/// When the lock file cannot be made.
pub fn lock() -> Result<Lock> {
    let directory = crate::paths::artefacts();
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let file = File::create(directory.join(".lock"))?;
    if file.try_lock().is_err() {
        crate::progress::note("Waiting for another ./x that makes images here ...");
        file.lock().context("the lock file cannot be locked")?;
    }
    Ok(Lock(file))
}
