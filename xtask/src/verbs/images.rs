//! `./x images`: the Linux guest's kernels, initrd and root filesystem.
use anyhow::Result;

use crate::{images, paths, window_kernel};

/// What can be asked of `./x images`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Also a kernel that uses a window (`[window]` of a board), built from Debian's source: target/haechi/linux-window
    #[arg(long)]
    window: bool,
}

/// Makes what is missing and prints where it is.
///
/// # Errors
/// When an image cannot be made.
pub fn run(arguments: &Arguments) -> Result<()> {
    let images = images::ensure()?;
    let window = arguments.window.then(window_kernel::ensure).transpose()?;
    let kernels = images.kernels.iter().map(|kernel| &kernel.image);
    for image in kernels.chain([&images.initrd, &images.rootfs]).chain(&window) {
        println!("{} {} bytes", paths::shown(image), std::fs::metadata(image)?.len());
    }
    Ok(())
}
