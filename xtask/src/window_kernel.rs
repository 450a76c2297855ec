//! A kernel that uses a window: Debian's source built with `guest-images/linux/window/kernel.config`, because the stock kernels lack
//! `CONFIG_DMA_RESTRICTED_POOL`. It takes some minutes, so it is made when it is asked for and not for every run of the tests.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::Debian;
use crate::stamp::Stamp;
use crate::{files, images, kernel, paths, process, progress};

/// Debian's package of the source.
const PACKAGE: &str = "linux-source-6.12";

/// `target/haechi/linux-window`, made if it is missing or older than its configuration.
///
/// # Errors
/// When the source cannot be fetched, an option is unknown to it, or the compiler refuses.
pub fn ensure() -> Result<PathBuf> {
    let config = paths::linux_recipe().join("window/kernel.config");
    let image = paths::artefacts().join("linux-window");
    let stamp = Stamp::new(&image, format!("{PACKAGE}\n{}", fs::read_to_string(&config)?));
    let _lock = files::lock()?;
    if !stamp.is_fresh() || !image.is_file() {
        stamp.clear()?;
        make(&image, &config)?;
        stamp.set()?;
    }
    Ok(image)
}

fn make(image: &Path, config: &Path) -> Result<()> {
    let package = fetch()?;
    let tree = image.with_extension("tree");
    files::fresh_directory(&tree)?;
    progress::step("Unpacking Linux' source", || unpack(&package, &tree))?;
    configure(&tree, config)?;
    progress::step("Building a Linux with restricted DMA pools (some minutes)", || {
        let jobs = std::thread::available_parallelism()?;
        process::capture(linux_make(&tree).arg(format!("-j{jobs}")).arg("Image")).map(drop)
    })?;
    files::replace(image, &kernel::load(&tree.join("build/arch/arm64/boot/Image"))?)?;
    fs::remove_dir_all(&tree).context("the kernel's build directory cannot be removed")
}

/// The package's tree.
fn fetch() -> Result<PathBuf> {
    let tree = paths::debian_cache().join(PACKAGE);
    images::fetch(&tree, "Fetching Linux' source", PACKAGE, |debs| Ok(vec![Debian::open()?.download(PACKAGE, debs)?]))?;
    Ok(tree)
}

fn unpack(package: &Path, tree: &Path) -> Result<()> {
    let archive = package.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    fs::create_dir_all(tree.join("source"))?;
    let mut tar = process::command("tar");
    tar.arg("-xf").arg(archive).args(["--strip-components=1", "-C"]).arg(tree.join("source"));
    process::capture(&mut tar).map(drop)
}

fn linux_make(tree: &Path) -> Command {
    let mut make = process::command("make");
    make.arg("-C").arg(tree.join("source")).arg(format!("O={}", tree.join("build").display()));
    make.args(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"]);
    make
}

fn configure(tree: &Path, config: &Path) -> Result<()> {
    let mut make = linux_make(tree);
    process::capture(make.arg(format!("KCONFIG_ALLCONFIG={}", config.display())).arg("allnoconfig"))?;
    let made = fs::read_to_string(tree.join("build/.config"))?;
    match missing(&fs::read_to_string(config)?, &made) {
        None => Ok(()),
        Some(line) => bail!("{} asks for `{line}`, which this source does not give", paths::shown(config)),
    }
}

/// The first line that is asked for and not there: Kconfig leaves out silently what it does not know, or what something else forbids.
fn missing<'a>(asked: &'a str, made: &str) -> Option<&'a str> {
    let options = asked.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    options.into_iter().find(|option| !made.lines().any(|line| line == *option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_was_left_out_is_named() {
        let asked = "# why\nCONFIG_A=y\n\nCONFIG_B=y\n";
        assert_eq!(missing(asked, "CONFIG_A=y\n# CONFIG_B is not set\n"), Some("CONFIG_B=y"));
        assert_eq!(missing(asked, "CONFIG_A=y\nCONFIG_BB=y\n"), Some("CONFIG_B=y"));
        assert_eq!(missing(asked, "CONFIG_B=y\nCONFIG_A=y\n"), None);
    }
}
