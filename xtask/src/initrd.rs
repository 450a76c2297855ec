//! The first root of the guest: busybox, the modules that reach the disk, and a script that hands over to the disk.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::modules::Set;

/// Makes the archive from busybox (a static program), the init script and the modules of each kernel version.
///
/// # Errors
/// When an input cannot be read.
pub fn make(busybox: &Path, init: &Path, modules: &[(String, Set)]) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "root", "bin", "sbin"] {
        archive.directory(directory);
    }
    archive.file("bin/busybox", 0o755, &read(busybox)?);
    archive.link("bin/sh", "busybox");
    archive.file("init", 0o755, &read(init)?);
    for (version, set) in modules {
        let directory = format!("lib/modules/{version}");
        for module in set.modules() {
            archive.file(&format!("{directory}/{}", module.path), 0o644, &module.bytes);
        }
        archive.file(&format!("{directory}/modules.dep"), 0o644, set.dependencies().as_bytes());
        archive.file(&format!("{directory}/modules.alias"), 0o644, set.aliases().as_bytes());
    }
    Ok(archive.finish())
}
