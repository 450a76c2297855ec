//! The probe in Linux' place tries what is forbidden; each of its cases is a test.
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Case, Group};
use xtask::qemu::{Gic, Machine};

/// Fewer cases than this means that the probe lost some. A GICv2 has no redistributors to try.
fn at_least(gic: Gic) -> usize {
    match gic {
        Gic::V2 => 370,
        Gic::V3 => 390,
    }
}

/// The probe's whole run.
const RUN: Duration = Duration::from_secs(300);

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::many("probe", |images, place| probe(images, place, 1, Gic::V3)),
        Group::many("probe_4_cores", |images, place| probe(images, place, 4, Gic::V3)),
        Group::many("probe_gicv2", |images, place| probe(images, place, 4, Gic::V2)),
        Group::many("probe_bare", |images, place| conformance(images, place, Gic::V3)),
        Group::many("probe_bare_gicv2", |images, place| conformance(images, place, Gic::V2)),
    ]
}

/// The classes on the architecture without a hypervisor: what the probe expects of the virtual machine, the real one must do too.
fn conformance(images: &Images, place: &Place, gic: Gic) -> Result<Vec<Case>> {
    let mut machine = Machine::new(&images.probe());
    machine.virtualization = false;
    machine.append = "probe.only=gic,timer,pmu,debug,features".into();
    machine.gic = gic;
    machine.smp = 4;
    run(&machine, place, 190)
}

fn probe(images: &Images, place: &Place, smp: u32, gic: Gic) -> Result<Vec<Case>> {
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.initrd = Some(images.probe_bundle());
    machine.append = String::new();
    machine.smp = smp;
    machine.gic = gic;
    run(&machine, place, at_least(gic))
}

fn run(machine: &Machine, place: &Place, known: usize) -> Result<Vec<Case>> {
    let mut guest = Guest::start(machine, place.inside("boot")?)?;
    let finished = guest.expect(" failed\n", RUN).context("the probe did not finish");
    let mut cases = cases(&guest.transcript());
    cases.push(Case {
        name: "run_finishes_and_reports_every_case".into(),
        outcome: finished.and_then(|_| complete(&mut guest, cases.len(), known)),
    });
    Ok(cases)
}

/// The lines `probe: CLASS NAME EXPECTED GOT PASS|FAIL`.
fn cases(transcript: &str) -> Vec<Case> {
    let lines = transcript.lines().filter_map(|line| line.strip_prefix("probe: "));
    let case = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (passed, detail) = match words[..] {
            [_, _, _, _, "PASS"] => (true, String::new()),
            [_, _, expected, got, "FAIL"] => (false, format!("expected {expected}, got {got}")),
            _ => return None,
        };
        let outcome = if passed { Ok(()) } else { Err(anyhow!("{detail}")) };
        Some(Case { name: format!("{}::{}", words[0], words[1]), outcome })
    };
    lines.filter_map(case).collect()
}

/// `probe: N passed, M failed` counts as many as were seen, and the machine goes off.
fn complete(guest: &mut Guest, seen: usize, known: usize) -> Result<()> {
    let status = guest.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "QEMU ended with {status}");
    let transcript = guest.transcript();
    let last =
        transcript.lines().rev().find_map(|line| line.strip_prefix("probe: ")).context("the probe said nothing")?;
    let numbers: Vec<usize> = last.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(
        numbers.iter().sum::<usize>() == seen && numbers.len() == 2,
        "{seen} cases were seen, the probe says: {last}"
    );
    ensure!(seen >= known, "only {seen} cases, at least {known} are known");
    Ok(())
}
