//! Where the instructions of a 4 KiB request go: hypervisor, secure domain, cipher.
//!
//! QEMU logs every instruction executed in the firmware's memory while the guest runs fio in a window that the host opens and
//! closes. Two windows that differ only in the number of requests are subtracted, so that what fio itself costs falls out.
use std::fs;

use anyhow::{Context, Result, bail};

use super::rig::{self, Guest};
use super::trace::{Image, Part, Profile};
use super::{Bench, guest};
use crate::{firmware, sealed};

/// A window as the guest announces it.
#[derive(Debug)]
struct Window {
    name: String,
    requests: f64,
    profile: Profile,
}

/// Runs the windows and prints the table.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let windows = measure(bench)?;
    println!(
        "{:<14} {:>8} {:>14} {:>8} {:>8}   instructions a 4 KiB request",
        "request", "EL2", "secure domain", "copies", "cipher"
    );
    let mut hottest = Vec::new();
    for pair in windows.chunks_exact(2) {
        let requests = pair[1].requests - pair[0].requests;
        let of = |part| (pair[1].profile.total(part) as f64 - pair[0].profile.total(part) as f64) / requests;
        let [el2, secure, copies, cipher] = [Part::Hypervisor, Part::Secure, Part::Copies, Part::Cipher].map(of);
        println!("{:<14} {el2:>8.0} {secure:>14.0} {copies:>8.0} {cipher:>8.0}", pair[0].name);
        hottest.push((&pair[0].name, pair[1].profile.hottest(&pair[0].profile, requests)));
    }
    if let Some(least) = windows.iter().filter_map(|window| window.profile.kick).min() {
        println!(
            "kick to the first instruction of the secure domain: {least} instructions at EL2, the shortest of all"
        );
    }
    for (name, functions) in hottest {
        println!("\n{name}: functions by instructions a request");
        for (function, each) in functions.iter().take(16) {
            println!("{each:>8.0} {function}");
        }
    }
    Ok(())
}

fn measure(bench: &Bench) -> Result<Vec<Window>> {
    let initrd = guest::initrd(bench)?;
    let disk = guest::sealed_disk(bench, "requests", sealed::DEFAULT_SUITE)?;
    let mut machine = rig::haechi(bench, "requests", bench.images.default_kernel(), Some(&initrd), rig::SEED)?;
    machine.append = guest::arguments("requests");
    let ranges = filter(bench, &machine)?;
    machine.extra.extend(["-dfilter".into(), ranges.filter.clone()]);
    let mut guest = Guest::start(bench, "requests", &rig::with_disk(machine, &disk))?;
    let mut windows = Vec::new();
    loop {
        let word = guest.word()?;
        if word == "end" {
            break;
        }
        let Some(window) = word.strip_prefix("open ") else { continue };
        // A file for each window: QEMU would go on writing where it stopped in one that was emptied.
        let log = bench.directory.join(format!("requests-{}.log", windows.len()));
        guest.monitor(&["one-insn-per-tb on", &format!("logfile {}", log.display()), "log exec,nochain"])?;
        guest.nod()?;
        let closed = guest.word()?;
        guest.monitor(&["log none", "one-insn-per-tb off"])?;
        if closed != format!("close {window}") {
            bail!("the guest closed another window than `{window}`: `{closed}`");
        }
        let words: Vec<&str> = window.split_whitespace().collect();
        let [direction, depth, size] = words[..] else { bail!("`{window}` is no window") };
        let profile = Profile::read(&log, &ranges.images)?;
        fs::remove_file(&log)?;
        let requests = crate::size::parse(size)? as f64 / 4096.0;
        windows.push(Window { name: format!("{direction}, QD{depth}"), requests, profile });
        guest.nod()?;
    }
    guest::remove(&disk)?;
    Ok(windows)
}

/// The firmware's places in memory.
pub(super) struct Ranges {
    /// As QEMU's `-dfilter` takes them.
    pub(super) filter: String,
    pub(super) images: Vec<Image>,
}

/// Boots once as far as the hypervisor's line about memory.
pub(super) fn filter(bench: &Bench, machine: &crate::qemu::Machine) -> Result<Ranges> {
    let disk = guest::sealed_disk(bench, "requests-first", sealed::DEFAULT_SUITE)?;
    let mut guest = Guest::start(bench, "requests-first", &rig::with_disk(machine.clone(), &disk))?;
    let line = loop {
        let line = guest.line()?.context("the hypervisor tells where it lies")?;
        if line.contains("memory: hypervisor ") {
            break line;
        }
    };
    drop(guest);
    guest::remove(&disk)?;
    let range = |name: &str| {
        let text = line.split(name).nth(1)?.trim_start().split([',', ' ']).next()?;
        let (begin, end) = text.split_once("..")?;
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        Some((number(begin)?, number(end)?))
    };
    let mut images = Vec::new();
    for (name, package) in [("hypervisor ", "hypervisor"), ("secure domain ", "secure-domain")] {
        let (begin, end) = range(name).with_context(|| format!("`{line}` does not tell where the {name}lies"))?;
        let elf = firmware::elf(package).context("a firmware package has an ELF file")?;
        images.push(Image::read(&elf, begin, end, package == "hypervisor")?);
    }
    let filter = images.iter().map(|image| format!("{:#x}..{:#x}", image.begin, image.end - 1)).collect::<Vec<_>>();
    Ok(Ranges { filter: filter.join(","), images })
}
