//! Where things are: sources from the workspace, artefacts under `target/haechi`, downloads under `.cache`.
use std::path::{Path, PathBuf};

/// The workspace's root directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one directory below the workspace")
}

/// cargo's target directory, moved by `CARGO_TARGET_DIR` as cargo itself would.
pub fn cargo_target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(moved) => workspace().join(moved),
        None => workspace().join("target"),
    }
}

/// What `./x` makes: flat firmware images, boot bundle, guest images, disks.
pub fn artefacts() -> PathBuf {
    workspace().join("target/haechi")
}

/// Recipes of the Linux guest image.
pub fn linux_recipe() -> PathBuf {
    workspace().join("guest-images/linux")
}

/// Debian packages and indexes, kept over `cargo clean`.
pub fn debian_cache() -> PathBuf {
    workspace().join(".cache/debian")
}

/// `path` as a person at the workspace's root would type it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
