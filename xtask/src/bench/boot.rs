//! Guest time from reset to Linux' first process, and to its root filesystem on the disk.
use anyhow::{Context, Result};

use super::figures::Spread;
use super::rig::{self, Guest};
use super::{Bench, guest};
use crate::qemu::Machine;

/// Each boot is repeated with other random numbers for the guest: KASLR moves the kernel.
const SEEDS: [u32; 3] = [42, 43, 44];

/// QEMU's counter has 62.5 MHz.
pub(super) const TICK_NS: f64 = 16.0;

/// Boots every kernel both ways and prints the times.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let initrd = guest::initrd(bench)?;
    println!("{:<8} {:<22} {:>26} {:>26} {:>8}   ms", "Linux", "from reset to", "Haechi", "bare", "ratio");
    for kernel in &bench.images.kernels {
        let name = format!("boot-{}", kernel.series);
        let disk = guest::sealed_disk(bench, &name, crate::sealed::DEFAULT_SUITE)?;
        let over = times(bench, &name, |seed| {
            Ok(rig::with_disk(rig::haechi(bench, &name, &kernel.image, Some(&initrd), seed)?, &disk))
        })?;
        guest::remove(&disk)?;
        let disk = guest::plain_disk(bench, &name)?;
        let bare =
            times(bench, &name, |seed| Ok(rig::with_disk(rig::bare(&kernel.image, Some(&initrd), seed), &disk)))?;
        guest::remove(&disk)?;
        for (index, what) in ["first process", "root mounted"].into_iter().enumerate() {
            let (over, bare) = (spread(&over, index)?, spread(&bare, index)?);
            let ratio = over.median / bare.median;
            println!("{:<8} {what:<22} {over:>26.1} {bare:>26.1} {ratio:>8.3}", kernel.series);
        }
    }
    Ok(())
}

fn spread(times: &[[f64; 2]], index: usize) -> Result<Spread> {
    Spread::of(times.iter().map(|time| time[index])).context("there is a boot for every seed")
}

/// Milliseconds to both points, for each seed.
fn times(bench: &Bench, name: &str, machine: impl Fn(u32) -> Result<Machine>) -> Result<Vec<[f64; 2]>> {
    let boot = |seed: &u32| {
        let mut machine = machine(*seed)?;
        machine.append = guest::arguments("boot");
        let words = Guest::start(bench, name, &machine)?.words()?;
        Ok([point(&words, "first")?, point(&words, "mounted")?].map(|ticks| ticks as f64 * TICK_NS / 1e6))
    };
    SEEDS.iter().map(boot).collect()
}

/// When the guest reached the point `name`, in ticks.
fn point(words: &[String], name: &str) -> Result<u64> {
    let digits = words.iter().find_map(|word| word.strip_prefix(name)).map(str::trim);
    ticks(digits.with_context(|| format!("the guest told no `{name}`"))?)
}

/// A counter's value, which the guest says as eight bytes of two digits, the lowest first.
pub(super) fn ticks(digits: &str) -> Result<u64> {
    let value = u64::from_str_radix(digits, 16).with_context(|| format!("`{digits}` is no value of a counter"))?;
    Ok(value.swap_bytes())
}
