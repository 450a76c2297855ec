//! Guest time in which the secure domain comes back after a crash, while fio writes.
use anyhow::{Context, Result};

use super::figures::Spread;
use super::rig::{self, Guest};
use super::{Bench, guest};
use crate::sealed;

/// The escape key and the drill behind it.
const CRASH: &str = "\u{1d}c";
/// What EL2 says when the domain serves again, before the microseconds.
const AGAIN: &str = "the secure domain serves again after ";

/// Crashes the domain as often as the guest asks for it, and prints the times.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let initrd = guest::initrd(bench)?;
    let disk = guest::sealed_disk(bench, "restart", sealed::DEFAULT_SUITE)?;
    let mut machine = rig::haechi(bench, "restart", bench.images.default_kernel(), Some(&initrd), rig::SEED)?;
    machine.append = guest::arguments("restart");
    let mut linux = Guest::start(bench, "restart", &rig::with_disk(machine, &disk))?;
    let mut times = Vec::new();
    loop {
        match linux.word()?.as_str() {
            "end" => break,
            "crash" => {}
            _ => continue,
        }
        linux.press(CRASH)?;
        times.push(back(&mut linux)? as f64 / 1e3);
        linux.nod()?;
    }
    guest::remove(&disk)?;
    let count = times.len();
    let spread = Spread::of(times).context("the guest asked for no crash")?;
    println!("the secure domain serves again after {spread:.1} ms, {count} crashes under fio");
    Ok(())
}

/// Waits until the domain is back: microseconds.
fn back(guest: &mut Guest) -> Result<u64> {
    loop {
        let line = guest.line()?.context("the guest ended too soon")?;
        let Some((_, rest)) = line.split_once(AGAIN) else { continue };
        let number = rest.split(' ').next().and_then(|word| word.parse().ok());
        return number.with_context(|| format!("`{line}` names no time"));
    }
}
