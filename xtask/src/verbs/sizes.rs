//! `./x sizes`: memory that the firmware takes, source lines and `unsafe` of every package.
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionKind};

use crate::source::{self, Count};
use crate::workspace::Package;
use crate::{board, firmware, workspace};

/// Builds the firmware and prints two tables.
///
/// # Errors
/// When the firmware cannot be built, or a source cannot be read.
pub fn run() -> Result<()> {
    let (board, _) = board::find(None)?;
    firmware::build(&board)?;
    println!("{:<16} {:>9} {:>9} {:>9} {:>9}   bytes", "firmware", "text", "rodata", "data", "bss");
    for name in ["hypervisor", "secure-domain"] {
        let elf = firmware::elf(name).context("a firmware package has an ELF file")?;
        let size = Size::of(&elf)?;
        println!("{name:<16} {:>9} {:>9} {:>9} {:>9}", size.text, size.rodata, size.data, size.bss);
    }
    println!("\n{:<28} {:>7} {:>7} {:>7}   lines", "package", "code", "tests", "unsafe");
    print_sources()
}

/// What of it has a budget: bytes of the hypervisor in memory, and source lines of it and its crates without tests.
pub(crate) fn figures() -> Result<[(String, f64); 2]> {
    let size = Size::of(&firmware::elf("hypervisor").context("a firmware package has an ELF file")?)?;
    let packages = workspace::packages()?;
    let mut at_el2 = Count::default();
    for package in packages.iter().filter(|package| package.directory.starts_with("hypervisor")) {
        at_el2 += of_package(package, &packages)?;
    }
    let bytes = size.text + size.rodata + size.data;
    Ok([("EL2 text, constants and data".into(), bytes as f64), ("EL2 source lines".into(), at_el2.code as f64)])
}

fn print_sources() -> Result<()> {
    let packages = workspace::packages()?;
    let (mut at_el2, mut all) = (Count::default(), Count::default());
    for package in &packages {
        let count = of_package(package, &packages)?;
        println!("{:<28} {:>7} {:>7} {:>7}", package.directory, count.code, count.tests, count.unsafes);
        if package.directory.starts_with("hypervisor") {
            at_el2 += count;
        }
        all += count;
    }
    for (name, count) in [("hypervisor and its crates", at_el2), ("all", all)] {
        println!("{name:<28} {:>7} {:>7} {:>7}", count.code, count.tests, count.unsafes);
    }
    Ok(())
}

/// All files of a package; those that hold nothing but tests count as such.
fn of_package(package: &Package, all: &[Package]) -> Result<Count> {
    let files = package.sources(all)?;
    let texts: Vec<_> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let of_tests: Vec<PathBuf> = files.iter().zip(&texts).flat_map(|(file, text)| test_files(file, text)).collect();
    let mut sum = Count::default();
    for (file, text) in files.iter().zip(&texts) {
        let count = source::count(text);
        let is_test = file.iter().any(names_tests) || of_tests.contains(file);
        sum += match is_test {
            true => Count { code: 0, tests: count.code + count.tests, unsafes: 0 },
            false => count,
        };
    }
    Ok(sum)
}

/// Directories of tests, and the models that tests and the simulator drive.
fn names_tests(name: &OsStr) -> bool {
    ["tests", "examples", "model", "model.rs"].iter().any(|known| name == *known)
}

/// The files that `file` declares for tests alone.
fn test_files(file: &Path, text: &str) -> Vec<PathBuf> {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| file.ends_with(root));
    let directory = if is_root { file.with_file_name("") } else { file.with_extension("") };
    source::test_modules(text).iter().map(|name| directory.join(format!("{name}.rs"))).collect()
}

/// Bytes of memory by kind.
#[derive(Default)]
struct Size {
    text: u64,
    rodata: u64,
    data: u64,
    bss: u64,
}

impl Size {
    fn of(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
        let file = object::File::parse(bytes.as_slice())?;
        let mut size = Self::default();
        for section in file.sections().filter(|section| section.address() != 0 || section.size() != 0) {
            let place = match section.kind() {
                SectionKind::Text => &mut size.text,
                SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => &mut size.rodata,
                SectionKind::Data => &mut size.data,
                SectionKind::UninitializedData => &mut size.bss,
                _ => continue,
            };
            *place += section.size();
        }
        Ok(size)
    }
}
