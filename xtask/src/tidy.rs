//! What the house agreed on and no compiler checks: the direction of dependencies, where `unsafe` may be, that every
//! directory is named in the README, that every file says what it is.
use std::fs;

use anyhow::Result;

use crate::workspace::Package;
use crate::{files, paths, source};

/// Crates that touch the machine.
const MACHINE: [&str; 3] = ["aarch64", "el1", "el2"];
/// Programs: nothing depends on them.
const BINARIES: [&str; 3] = ["hypervisor", "secure-domain", "probe"];
/// Packages that run on the host only: no firmware depends on them.
const HOST: [&str; 5] = ["xtask", "fuzz", "sim", "tests-qemu", "board-configs"];
/// Where `unsafe` may be: the machine crates, the SIMD kernels with the program that tries them on bare metal, the guest
/// that misbehaves, and where the binaries begin: the loader's addresses, and the names that assembly calls.
const UNSAFE: [&str; 10] = [
    "hypervisor/aarch64/",
    "hypervisor/el2/",
    "hypervisor/src/main.rs",
    "hypervisor/src/panic.rs",
    "secure-domain/el1/",
    "secure-domain/crypto/src/simd",
    "secure-domain/crypto/examples/armv8/",
    "secure-domain/src/start.rs",
    "secure-domain/volume/tests/allocation.rs",
    "guest-images/probe/",
];

/// Everything that is not as agreed, one sentence each.
///
/// # Errors
/// When the sources cannot be read.
pub fn complaints(packages: &[Package]) -> Result<Vec<String>> {
    let mut found = arrows(packages);
    for package in packages {
        for file in package.sources(packages)? {
            found.extend(source_file(&paths::shown(&file), &fs::read_to_string(&file)?));
        }
        found.extend(purity(package));
        let manifest = paths::workspace().join(&package.directory).join("Cargo.toml");
        found.extend(back_doors(&package.name, &fs::read_to_string(manifest)?));
    }
    found.extend(unnamed_directories(packages));
    found.extend(marks()?);
    Ok(found)
}

fn is_pure(name: &str) -> bool {
    !MACHINE.contains(&name) && !BINARIES.contains(&name) && !HOST.contains(&name)
}

/// Pure crates depend on pure crates; machine crates on those and each other; nobody on a program.
fn arrows(packages: &[Package]) -> Vec<String> {
    let allowed = |from: &str, to: &str| match from {
        _ if HOST.contains(&from) => !BINARIES.contains(&to) && !MACHINE.contains(&to),
        _ if BINARIES.contains(&from) || MACHINE.contains(&from) => is_pure(to) || MACHINE.contains(&to),
        _ => is_pure(to),
    };
    let arrows = packages.iter().flat_map(|package| package.depends.iter().map(move |to| (&package.name, to)));
    let wrong = arrows.filter(|(from, to)| !allowed(from, to));
    wrong.map(|(from, to)| format!("`{from}` must not depend on `{to}`: arrows point towards purity")).collect()
}

/// What runs on a device computes through the crypto module: the features that lead past it are for tests and the host.
fn back_doors(name: &str, manifest: &str) -> Vec<String> {
    let table: toml::Table = manifest.parse().unwrap_or_default();
    let targets = table.get("target").and_then(toml::Value::as_table);
    let specific = targets.into_iter().flat_map(toml::Table::values).filter_map(|target| target.get("dependencies"));
    let opened =
        table.get("dependencies").into_iter().chain(specific).filter_map(|all| all.get("crypto")?.get("features"));
    let opened = opened.filter_map(toml::Value::as_array).flatten().filter_map(toml::Value::as_str);
    let wrong = opened.filter(|feature| !HOST.contains(&name) && ["algorithms", "host"].contains(feature));
    wrong.map(|feature| format!("`{name}` opens `{feature}` of the crypto engine, a way past its module")).collect()
}

fn purity(package: &Package) -> Option<String> {
    if !is_pure(&package.name) {
        return None;
    }
    let file = format!("{}/src/lib.rs", package.directory);
    let text = fs::read_to_string(paths::workspace().join(&file)).unwrap_or_default();
    let unsafe_is_barred = text.contains("#![forbid(unsafe_code)]") || package.name == "crypto";
    let pure = text.contains("#![no_std]") && unsafe_is_barred;
    (!pure).then(|| format!("{file} lacks #![no_std] or #![forbid(unsafe_code)], which a pure crate has"))
}

fn source_file(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(format!("{file} does not begin with a `//!` line that says what it is"));
    }
    if source::count(text).unsafes > 0 && !UNSAFE.iter().any(|place| file.starts_with(place)) {
        found.push(format!("{file} has `unsafe`, which has its places (xtask/src/tidy.rs lists them)"));
    }
    found
}

fn unnamed_directories(packages: &[Package]) -> Vec<String> {
    let Ok(readme) = fs::read_to_string(paths::workspace().join("README.md")) else {
        return vec!["README.md is missing".to_owned()];
    };
    let top = ["docs", "guest-images", "xtask", ".ci", ".cargo"];
    let directories = packages.iter().map(|package| package.directory.as_str()).chain(top);
    let unnamed = directories.filter(|directory| !readme.contains(directory));
    unnamed.map(|directory| format!("README.md does not name the directory {directory}/")).collect()
}

/// Notes to oneself that were left behind, in any text below the workspace that is not made or fetched.
fn marks() -> Result<Vec<String>> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let marked = |line: &str| line.split(|c: char| !c.is_alphanumeric()).any(|word| marks.contains(&word));
    let mut found = Vec::new();
    for entry in fs::read_dir(paths::workspace())? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = ![".git", ".cache", "target"].iter().any(|other| name == *other);
        let files = match entry.file_type()?.is_dir() {
            true if ours => files::walk(&entry.path())?,
            true => Vec::new(),
            false => vec![entry.path()],
        };
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let lines = text.lines().enumerate().filter(|(_, line)| marked(line));
            let note =
                |at| format!("{}:{} has a note to oneself; do it, or open an issue", paths::shown(&file), at + 1);
            found.extend(lines.map(|(at, _)| note(at)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, depends: &[&str]) -> Package {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        Package { name: name.into(), directory: name.into(), depends }
    }

    #[test]
    fn arrow_from_purity_to_the_machine_is_refused() {
        let wrong =
            [("vgic", "aarch64"), ("stage2", "el2"), ("el1", "xtask"), ("xtask", "el2"), ("volume", "secure-domain")];
        for (from, to) in wrong {
            assert_eq!(arrows(&[package(from, &[to])]).len(), 1, "{from} -> {to}");
        }
        for (from, to) in [("vgic", "abi"), ("el2", "aarch64"), ("hypervisor", "el2"), ("xtask", "volume")] {
            assert!(arrows(&[package(from, &[to])]).is_empty(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_way_past_the_crypto_module_is_refused_on_a_device() {
        let open =
            |section: &str| format!("[{section}]\ncrypto = {{ workspace = true, features = [\"algorithms\"] }}\n");
        let on_the_device = "target.'cfg(target_os = \"none\")'.dependencies";
        assert_eq!(back_doors("volume", &open("dependencies")).len(), 1);
        assert_eq!(back_doors("secure-domain", &open(on_the_device)).len(), 1);
        assert!(back_doors("volume", &open("dev-dependencies")).is_empty());
        assert!(back_doors("fuzz", &open("dependencies")).is_empty());
        assert!(back_doors("volume", "[dependencies]\ncrypto.workspace = true\n").is_empty());
    }

    #[test]
    fn unsafe_outside_its_places_is_refused() {
        let text = "//! Doc.\nfn f() { unsafe { g() } }\n";
        assert_eq!(source_file("hypervisor/stage2/src/lib.rs", text).len(), 1);
        assert!(source_file("hypervisor/el2/src/entry.rs", text).is_empty());
        assert_eq!(source_file("hypervisor/el2/src/entry.rs", "fn f() {}\n").len(), 1);
    }
}
