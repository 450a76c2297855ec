//! `./x images`: the Linux guest's kernels, initrd and root filesystem.
use anyhow::Result;

use crate::{images, paths};

/// Makes what is missing and prints where it is.
///
/// # Errors
/// When an image cannot be made.
pub fn run() -> Result<()> {
    let images = images::ensure()?;
    let kernels = images.kernels.iter().map(|kernel| &kernel.image);
    for image in kernels.chain([&images.initrd, &images.rootfs]) {
        println!("{} {} bytes", paths::shown(image), std::fs::metadata(image)?.len());
    }
    Ok(())
}
