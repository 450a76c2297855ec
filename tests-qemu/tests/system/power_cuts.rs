//! Power cuts under load: whatever the disk makes of its unflushed writes, the volume mounts, the filesystem is whole, and every file
//! that was durable is what it was.
//!
//! One boot for each kind of disk works under a log of writes ([`tests_qemu::power_cut`] says why its cuts are real and why disk and
//! anchor are cut at one moment); then the cuts are made on the host, mounted by the engine that the secure domain runs, and the
//! filesystem inside is checked by its own tools.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sim::rng::Rng;
use tests_qemu::guest::Guest;
use tests_qemu::images::Images;
use tests_qemu::kept::{Digests, Kept};
use tests_qemu::place::Place;
use tests_qemu::power_cut::{Cuts, Rig};
use tests_qemu::runner::{Case, Group};
use volume::FormatOptions;
use xtask::sealed::{self, Access};
use xtask::{files, process};

/// What the guest runs, and where it finds it.
const WORK: &str = include_str!("power_cuts/work.sh");
const WORK_FILE: &str = "/root/work.sh";
const ROUNDS: u32 = 6;
/// One step of it on an emulated machine that shares two cores.
const STEP: Duration = Duration::from_secs(120);

/// Cuts in the middle of the work; before it, while the pool is mounted and Linux starts; and at promises, when nothing of what is still
/// open is there. In the first two rounds of the work, of six promises each, a promise is the last thing that happened.
const CUTS: usize = 10;
const EARLY_CUTS: usize = 2;
const PROMISE_CUTS: [usize; 2] = [5, 3];
const QUIET_PROMISES: usize = 12;

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::many("power_cuts_on_blocks", |images, place| cut(images, place, false, 4096, 0x5eed)),
        Group::many("power_cuts_on_sectors", |images, place| cut(images, place, true, 512, 0xfeed)),
    ]
}

/// A boot on a disk that writes units of `unit_bytes` whole, and its cuts.
fn cut(images: &Images, place: &Place, torn_sectors: bool, unit_bytes: u64, seed: u64) -> Result<Vec<Case>> {
    let disk = prepared(images, place, torn_sectors)?;
    let rig = Rig::new(place, &disk, unit_bytes)?;
    let (kept, began) = work(images, place, &rig)?;
    let cuts = rig.cuts()?;
    let chosen = choose(&cuts, &kept, began, seed);
    println!("cuts with seed {seed:#x} in a log of {} entries: {chosen:?}", cuts.entries().len());
    let judge = Judge { images, place, cuts, kept };
    let case = |(number, cut): (usize, &Cut)| Case { name: format!("cut_{number}"), outcome: judge.survives(*cut) };
    Ok(chosen.iter().enumerate().map(case).collect())
}

/// A cut after so many entries of the log, and the seed that says what of the open writes made it; none did without one.
type Cut = (usize, Option<u64>);

/// A sealed disk of the root filesystem with the work's script in it.
fn prepared(images: &Images, place: &Place, torn_sectors: bool) -> Result<PathBuf> {
    let plain = place.copy(&images.plain, "plain.ext4")?;
    let script = place.file("work.sh");
    fs::write(&script, WORK)?;
    let request = format!("write {} {WORK_FILE}", script.display());
    process::capture(process::command("debugfs").args(["-w", "-R", &request]).arg(&plain))?;
    let disk = place.file("disk.img");
    let format = FormatOptions { torn_sectors, ..FormatOptions::default() };
    sealed::seal(&plain, &disk, None, sealed::DEFAULT_SUITE, &format, &images.board)?;
    fs::remove_file(plain)?;
    Ok(disk)
}

/// Boots and works. Gives what became durable when, and the length of the log when the work began.
fn work(images: &Images, place: &Place, rig: &Rig) -> Result<(Kept, usize)> {
    let mut machine = images.machine(&place.file("disk.img"));
    rig.plug(&mut machine)?;
    let mut guest = Guest::start(&machine, place.inside("boot")?)?;
    guest.login()?;
    let began = rig.written()?;
    guest.send(&format!("sh {WORK_FILE} {ROUNDS}\n"))?;
    let mut kept = Kept::default();
    // The echo of the command is before the first step.
    loop {
        let said = guest.expect("@\n", STEP)?;
        ensure!(!said.contains(" failed\n"), "a step of the guest's work failed: {said}");
        if said.ends_with("@end@\n") {
            break;
        }
        kept.note(&said, rig.written()?);
        guest.send("\n")?;
    }
    ensure!(kept.times().len() >= ROUNDS as usize * 6, "only at {:?} something was said", kept.times());
    Ok((kept, began))
}

/// The cuts: where writes were open, most of them from `began` on, and at promises.
fn choose(cuts: &Cuts<'_>, kept: &Kept, began: usize, seed: u64) -> Vec<Cut> {
    let mut rng = Rng::new(seed);
    let (early, open): (Vec<_>, Vec<_>) = cuts.places().into_iter().partition(|at| *at < began);
    let mut quiet: Vec<usize> = kept.times().into_iter().collect();
    let others = quiet.split_off(QUIET_PROMISES);
    let mut chosen = Vec::new();
    for (mut places, count) in [(early, EARLY_CUTS), (open, CUTS)] {
        chosen.extend(draw(&mut rng, &mut places, count).map(|at| (at, Some(seed + at as u64))));
    }
    for (mut places, count) in [quiet, others].into_iter().zip(PROMISE_CUTS) {
        chosen.extend(draw(&mut rng, &mut places, count).map(|at| (at, None)));
    }
    chosen
}

/// Takes some of the places, or all if there are no more.
fn draw(rng: &mut Rng, places: &mut Vec<usize>, count: usize) -> impl Iterator<Item = usize> {
    (0..count.min(places.len())).map(|_| places.swap_remove(rng.index(places.len())))
}

/// What a cut is judged by.
struct Judge<'a> {
    images: &'a Images,
    place: &'a Place,
    cuts: Cuts<'a>,
    kept: Kept,
}

impl Judge<'_> {
    /// The volume mounts, its filesystem is whole, and what was durable is there.
    fn survives(&self, cut: Cut) -> Result<()> {
        let (at, seed) = cut;
        let inside = self.place.inside("cut")?;
        let disk = inside.file("disk.img");
        self.cuts.make(at, seed, &disk)?;
        mounted(self.images, &disk, &inside).and_then(|found| self.kept.check(at, &found)).map(drop).or_else(|error| {
            let left = self.place.file(&format!("cut-{at}.img"));
            self.cuts.make(at, seed, &left)?;
            Err(error.context(format!("cut after entry {at}, seed {seed:?}; as it left the disk: {}", left.display())))
        })
    }
}

/// The files of the work on a disk, after everything that a start would do about a power cut.
fn mounted(images: &Images, disk: &Path, place: &Place) -> Result<Digests> {
    let (pool, recovery) = sealed::mount(disk, &images.board, Access::ReadWrite)?;
    ensure!(recovery.bad == 0, "{recovery}");
    pool.close()?;
    let plain = place.file("plain.ext4");
    sealed::unseal(&[disk.to_owned()], &plain, sealed::VOLUME, &images.board)?;
    // 1: the journal was replayed, or files removed that were open when power failed (e2fsck(8), "EXIT CODE").
    ensure!(e2fsck("-p", &plain)? <= 1, "the filesystem is not as its journal promises");
    ensure!(e2fsck("-fn", &plain)? == 0, "the filesystem has faults after its journal was replayed");
    digests(&plain, place)
}

fn e2fsck(how: &str, plain: &Path) -> Result<i32> {
    let mut command = process::command("e2fsck");
    let output = command.arg(how).arg(plain).stdin(Stdio::null()).output().context("e2fsck cannot be started")?;
    let status = output.status.code().context("e2fsck was killed")?;
    if status > 1 {
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(status)
}

/// Digests of the files under `/root/work`, by their names there.
fn digests(plain: &Path, place: &Place) -> Result<Digests> {
    let out = place.file("files");
    fs::create_dir(&out)?;
    process::capture(
        process::command("debugfs").arg("-R").arg(format!("rdump /root/work {}", out.display())).arg(plain),
    )?;
    let work = out.join("work");
    let names = if work.is_dir() { files::walk(&work)? } else { Vec::new() };
    if names.is_empty() {
        return Ok(Digests::new());
    }
    let names = names.iter().map(|name| name.strip_prefix(&work).expect("it was found there"));
    let sums = process::text(process::command("sha256sum").args(names).current_dir(&work))?;
    let pair = |line: &str| line.split_once("  ").map(|(digest, name)| (name.to_owned(), digest.to_owned()));
    sums.lines().map(|line| pair(line).context("sha256sum prints a digest and a name")).collect()
}
