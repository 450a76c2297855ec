//! Stamps: a made file is fresh as long as the text of what it was made from is the same.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What something was made from, kept beside it in `NAME.stamp`.
pub struct Stamp {
    file: PathBuf,
    inputs: String,
}

impl Stamp {
    /// A stamp for `made`, which was or will be made from `inputs`.
    pub fn new(made: &Path, inputs: String) -> Self {
        let mut name = made.as_os_str().to_owned();
        name.push(".stamp");
        Self { file: PathBuf::from(name), inputs }
    }

    /// Whether it was already made from the same inputs.
    pub fn is_fresh(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|stamped| stamped == self.inputs)
    }

    /// Forgets an older making, so that a failure half way is not taken for success.
    ///
    /// # Errors
    /// When the stamp cannot be removed.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Records that it is made.
    ///
    /// # Errors
    /// When the stamp cannot be written.
    pub fn set(&self) -> Result<()> {
        fs::write(&self.file, &self.inputs).with_context(|| format!("{} cannot be written", self.file.display()))
    }
}

/// Describes a file by name, length and time of change: cheap, and different whenever the file was rewritten.
///
/// # Errors
/// When the file is not there.
pub fn describe(path: &Path) -> Result<String> {
    let meta = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let changed = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {} {}\n", path.display(), meta.len(), changed.as_nanos()))
}

/// The contents of every file below a directory, with their names, in order of name; Markdown is for people only.
///
/// # Errors
/// When a file cannot be read.
pub fn contents(directory: &Path) -> Result<String> {
    let mut text = String::new();
    for path in crate::files::walk(directory)?.iter().filter(|path| path.extension().is_none_or(|kind| kind != "md")) {
        let contents = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        text += &format!("== {}\n{contents}", path.strip_prefix(directory)?.display());
    }
    Ok(text)
}
