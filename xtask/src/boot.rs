//! What the boot loader is given: the bundle of secure domain, Linux and initrd, and Linux' arguments.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundle::Kind;

use crate::firmware::Firmware;
use crate::stamp::{Stamp, describe};
use crate::{files, kernel, paths};

/// Linux' arguments when nothing is added: the console of QEMU's board, the root on the one disk it sees.
pub const DEFAULT_ARGUMENTS: &str = "console=ttyAMA0 root=/dev/vda rw";

/// Linux' arguments: the default ones, and more.
pub fn arguments(more: Option<&str>) -> String {
    [Some(DEFAULT_ARGUMENTS), more].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Packs the boot bundle into `target/haechi/boot.bundle`, or leaves it when it is made of the same files already.
///
/// # Errors
/// When a part cannot be read or is no kernel.
pub fn pack(firmware: &Firmware, linux: &Path, initrd: Option<&Path>) -> Result<PathBuf> {
    pack_to(&paths::artefacts().join("boot.bundle"), &firmware.secure_domain, linux, initrd)
}

/// As [`pack`], into a file of one's own.
///
/// # Errors
/// As [`pack`].
pub fn pack_to(out: &Path, secure_domain: &Path, linux: &Path, initrd: Option<&Path>) -> Result<PathBuf> {
    let mut inputs = String::new();
    for path in [secure_domain, linux].into_iter().chain(initrd) {
        inputs += &describe(path)?;
    }
    let stamp = Stamp::new(out, inputs);
    if stamp.is_fresh() && out.is_file() {
        return Ok(out.to_owned());
    }
    stamp.clear()?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let (domain, linux) = (read(secure_domain)?, kernel::load(linux)?);
    let initrd = initrd.map(read).transpose()?;
    let mut parts = vec![(Kind::SecureDomain, domain.as_slice()), (Kind::Kernel, linux.as_slice())];
    parts.extend(initrd.as_deref().map(|bytes| (Kind::Initrd, bytes)));
    files::replace(out, &bundle::write(&parts)?)?;
    stamp.set()?;
    Ok(out.to_owned())
}
