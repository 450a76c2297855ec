//! `./x check`: formatting, lints on host and firmware, tidiness, host tests.
use anyhow::{Result, bail};

use crate::gate::Gate;
use crate::toolchain::{HARD_FLOAT, SOFT_FLOAT, Toolchain};
use crate::{paths, tidy, workspace};

/// What can be asked of `./x check`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only tidiness: dependencies between crates, places of `unsafe`, directories in the README
    #[arg(long)]
    tidy: bool,
}

/// Runs all of them, whichever fail.
///
/// # Errors
/// When one failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut gate = Gate::default();
    gate.note("Tidiness (repeat with: ./x check --tidy)", tidiness());
    if arguments.tidy {
        return gate.end();
    }
    let toolchain = Toolchain::ensure()?;
    let mut cargo = |what: &str, arguments: &str| gate.cargo(what, &toolchain, arguments);
    cargo("Formatting", &format!("fmt --all --check -- -l {}", unseen_by_rustfmt()?));
    cargo("Lints on the host", "clippy --quiet --workspace --all-targets --profile host -- -D warnings");
    let el2 = format!(
        "clippy --quiet --package hypervisor --package el2 --package probe --target {SOFT_FLOAT} -- -D warnings"
    );
    cargo("Lints of the hypervisor and the probe", &el2);
    let el1 = format!("clippy --quiet --package secure-domain --package el1 --target {HARD_FLOAT} -- -D warnings");
    cargo("Lints of the secure domain", &el1);
    super::test::host_tests(&mut gate, &toolchain, "");
    gate.end()
}

/// Sources of the programs that run on the machine: they declare their modules in a macro, into which `rustfmt` does not look.
fn unseen_by_rustfmt() -> Result<String> {
    let packages = workspace::packages()?;
    let mut files = Vec::new();
    for package in packages.iter().filter(|package| matches!(package.name.as_str(), "hypervisor" | "secure-domain")) {
        files.extend(package.sources(&packages)?.iter().map(|file| paths::shown(file)));
    }
    Ok(files.join(" "))
}

fn tidiness() -> Result<()> {
    let complaints = tidy::complaints(&workspace::packages()?)?;
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}
