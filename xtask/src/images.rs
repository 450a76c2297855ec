//! The Linux guest's images: kernels, initrd and root filesystem, made once from Debian's packages and the recipe in
//! `guest-images/linux`.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::debian::{self, Debian};
use crate::modules::{Set, Tree as ModuleTree};
use crate::stamp::{Stamp, contents};
use crate::{files, initrd, kernel, paths, progress, rootfs};

/// Raised when the making of images changes in code, so that older ones are made anew.
const RECIPE_VERSION: u32 = 1;
/// Length of the root filesystem.
const ROOTFS_BYTES: u64 = 256 << 20;

/// The images, all under `target/haechi`.
#[derive(Debug, Clone)]
pub struct Images {
    /// Debian's kernels, plain arm64 images, in the order of the recipe: the first is the default.
    pub kernels: Vec<Kernel>,
    /// One first root for all of them.
    pub initrd: PathBuf,
    /// The plain ext4 root filesystem.
    pub rootfs: PathBuf,
}

/// One kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The series, such as `6.1`.
    pub series: String,
    /// `target/haechi/linux-SERIES`.
    pub image: PathBuf,
}

/// One line of `kernels.txt`, fetched.
struct Package {
    series: String,
    tree: PathBuf,
}

impl Images {
    fn are_there(&self) -> bool {
        let kernels = self.kernels.iter().map(|kernel| &kernel.image);
        kernels.chain([&self.initrd, &self.rootfs]).all(|path| path.is_file())
    }

    /// The kernel to boot when none is named.
    pub fn default_kernel(&self) -> &Path {
        &self.kernels[0].image
    }

    /// The kernel of a series.
    pub fn kernel(&self, series: &str) -> Option<&Path> {
        self.kernels.iter().find(|kernel| kernel.series == series).map(|kernel| kernel.image.as_path())
    }
}

/// Makes whatever is missing or older than its recipe. When all is there this takes milliseconds.
///
/// # Errors
/// When the archive cannot be reached or an image cannot be made.
pub fn ensure() -> Result<Images> {
    let recipe = paths::linux_recipe();
    let out = paths::artefacts();
    let series = kernel_patterns(&recipe)?;
    let kernels =
        series.iter().map(|(name, _)| Kernel { series: name.clone(), image: out.join(format!("linux-{name}")) });
    let images = Images { kernels: kernels.collect(), initrd: out.join("initrd.img"), rootfs: out.join("rootfs.ext4") };

    let stamp = Stamp::new(&images.rootfs, format!("{RECIPE_VERSION}\n{}", contents(&recipe)?));
    if stamp.is_fresh() && images.are_there() {
        return Ok(images);
    }
    let _lock = files::lock()?;
    if !stamp.is_fresh() || !images.are_there() {
        stamp.clear()?;
        make(&images, &recipe)?;
        stamp.set()?;
    }
    Ok(images)
}

/// U-Boot for QEMU's `virt` board, from Debian's package: a boot loader other than QEMU itself.
///
/// # Errors
/// When the archive cannot be reached or the package lacks it.
pub fn u_boot() -> Result<PathBuf> {
    const PACKAGE: &str = "u-boot-qemu";
    let tree = paths::debian_cache().join(PACKAGE);
    fetch(&tree, "Fetching Debian's U-Boot", PACKAGE, |debs| Ok(vec![Debian::open()?.download(PACKAGE, debs)?]))?;
    let image = tree.join("usr/lib/u-boot/qemu_arm64/u-boot.bin");
    ensure!(image.is_file(), "Debian's package {PACKAGE} has no {}", image.display());
    Ok(image)
}

fn make(images: &Images, recipe: &Path) -> Result<()> {
    let mut debian = Debian::open()?;
    let kernels = fetch_kernels(&mut debian, recipe)?;
    let packages = fetch_packages(&mut debian, recipe)?;
    for (kernel, package) in images.kernels.iter().zip(&kernels) {
        files::replace(&kernel.image, &kernel_image(package)?)?;
    }
    progress::step("Making initrd and root filesystem", || {
        let busybox = packages.join("bin/busybox");
        let modules = modules(&kernels, &[&recipe.join("initrd/modules.txt")])?;
        files::replace(&images.initrd, &initrd::make(&busybox, &recipe.join("initrd/init"), &modules)?)?;
        make_rootfs(&images.rootfs, recipe, &packages, &kernels)
    })
}

fn make_rootfs(image: &Path, recipe: &Path, packages: &Path, kernels: &[Package]) -> Result<()> {
    let staging = image.with_extension("tree");
    let mut tree = rootfs::Tree::new(&staging)?;
    tree.add_programs(packages, &files::list(&recipe.join("rootfs/programs.txt"))?)?;
    tree.add_applets(&packages.join("bin/busybox"), &files::list(&recipe.join("rootfs/applets.txt"))?)?;
    for (version, set) in modules(kernels, &[&recipe.join("initrd/modules.txt"), &recipe.join("rootfs/modules.txt")])? {
        tree.add_modules(&version, &set)?;
    }
    tree.add_overlay(&recipe.join("rootfs/overlay"))?;
    let beside = image.with_extension("new");
    tree.into_ext4(&beside, ROOTFS_BYTES)?;
    fs::rename(&beside, image)?;
    fs::remove_dir_all(&staging).context("the staging tree cannot be removed")
}

/// Lines of `kernels.txt`: a series and a pattern of package names.
fn kernel_patterns(recipe: &Path) -> Result<Vec<(String, String)>> {
    let file = recipe.join("kernels.txt");
    let lines = files::list(&file)?.into_iter();
    let pairs =
        lines.map(|line| line.split_once(char::is_whitespace).map(|(a, b)| (a.to_owned(), b.trim().to_owned())));
    let pairs: Option<Vec<_>> = pairs.collect();
    pairs
        .filter(|pairs| !pairs.is_empty())
        .with_context(|| format!("{} wants lines `SERIES PACKAGE-PATTERN`", file.display()))
}

fn fetch_kernels(debian: &mut Debian, recipe: &Path) -> Result<Vec<Package>> {
    let package = |(series, pattern): (String, String)| {
        let tree = paths::debian_cache().join(format!("linux-{series}"));
        fetch(&tree, &format!("Fetching Debian's Linux {series}"), &pattern, |debs| {
            let name = debian.newest(&pattern)?;
            Ok(vec![debian.download(&name, debs)?])
        })?;
        Ok(Package { series, tree })
    };
    kernel_patterns(recipe)?.into_iter().map(package).collect()
}

fn fetch_packages(debian: &mut Debian, recipe: &Path) -> Result<PathBuf> {
    let tree = paths::debian_cache().join("userspace");
    let packages = files::list(&recipe.join("rootfs/packages.txt"))?;
    fetch(&tree, "Fetching Debian packages", &packages.join("\n"), |debs| debian.download_closure(&packages, debs))?;
    Ok(tree)
}

/// Downloads packages and unpacks them into `tree`, unless that was done for the same `wish`.
pub(crate) fn fetch(
    tree: &Path,
    what: &str,
    wish: &str,
    download: impl FnOnce(&Path) -> Result<Vec<PathBuf>>,
) -> Result<()> {
    let stamp = Stamp::new(tree, wish.to_owned());
    if stamp.is_fresh() && tree.is_dir() {
        return Ok(());
    }
    stamp.clear()?;
    let mut debs = tree.as_os_str().to_owned();
    debs.push(".debs");
    progress::step(what, || {
        let packages = download(Path::new(&debs))?;
        files::fresh_directory(tree)?;
        packages.iter().try_for_each(|package| debian::unpack(package, tree))
    })?;
    stamp.set()
}

fn kernel_image(package: &Package) -> Result<Vec<u8>> {
    let found = files::walk(&package.tree.join("boot"))?;
    let is_image =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    let image = found
        .iter()
        .find(is_image)
        .with_context(|| format!("the package of Linux {} has no vmlinuz", package.series))?;
    kernel::load(image)
}

fn modules(kernels: &[Package], lists: &[&Path]) -> Result<Vec<(String, Set)>> {
    let mut names = Vec::new();
    for list in lists {
        names.extend(files::list(list)?);
    }
    let of_kernel = |package: &Package| {
        let tree = ModuleTree::open(&package.tree)?;
        Ok((tree.version.clone(), tree.closure(&names)?))
    };
    kernels.iter().map(of_kernel).collect()
}
