//! The probe in Linux' place tries what is forbidden; each of its cases is a test.
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Case, Group};
use xtask::qemu::{Gic, Machine};
use xtask::{bare, boot};

/// Fewer cases than this means that the probe lost some. A GICv2 has no redistributors to try.
fn at_least(gic: Gic) -> usize {
    match gic {
        Gic::V2 => 396,
        Gic::V3 => 416,
    }
}

/// The probe's whole run.
const RUN: Duration = Duration::from_secs(300);

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::many("probe", |images, place| probe(images, place, 1, Gic::V3)),
        Group::many("probe_4_cores", |images, place| probe(images, place, 4, Gic::V3)),
        Group::many("probe_gicv2", |images, place| probe(images, place, 4, Gic::V2)),
        Group::many("probe_window", window),
        Group::many("probe_pci", |images, place| pci(images, place, Gic::V3)),
        Group::many("probe_pci_gicv2", |images, place| pci(images, place, Gic::V2)),
        Group::many("probe_flat", flat),
        Group::many("probe_bare", |images, place| conformance(images, place, Gic::V3)),
        Group::many("probe_bare_gicv2", |images, place| conformance(images, place, Gic::V2)),
    ]
}

/// The classes on the architecture without a hypervisor: what the probe expects of the virtual machine, the real one must do too.
fn conformance(images: &Images, place: &Place, gic: Gic) -> Result<Vec<Case>> {
    let mut machine = Machine::new(&images.probe());
    machine.virtualization = false;
    machine.append = "probe.only=gic,timer,pmu,debug,features,copies".into();
    machine.gic = gic;
    machine.smp = 4;
    run(&machine, place, 209)
}

fn probe(images: &Images, place: &Place, smp: u32, gic: Gic) -> Result<Vec<Case>> {
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.initrd = Some(images.probe_bundle());
    machine.append = String::new();
    machine.smp = smp;
    machine.gic = gic;
    machine.smmu = true;
    // It can address all memory, not only the first 256 MiB.
    machine.extra = ["-device", "edu,dma_mask=0xffffffffffff"].map(String::from).into();
    run(&machine, place, at_least(gic))
}

/// The classes that meet the virtual devices, where these are PCI functions.
fn pci(images: &Images, place: &Place, gic: Gic) -> Result<Vec<Case>> {
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.kernel = crate::pci::hypervisor()?;
    machine.initrd = Some(images.probe_bundle());
    machine.append = "probe.only=bus,rings,hostile probe.cases=50000".into();
    machine.gic = gic;
    run(&machine, place, 69)
}

/// The probe as a guest of eight cores that has no header: a flat binary, as `./x run --guest` takes it.
fn flat(images: &Images, place: &Place) -> Result<Vec<Case>> {
    let mut bytes = fs::read(images.probe())?;
    bytes[56..60].fill(0);
    let (binary, kernel, bundle) = (place.file("probe.bin"), place.file("guest.img"), place.file("guest.bundle"));
    fs::write(&binary, bytes)?;
    fs::write(&kernel, bare::load(&binary)?)?;
    boot::pack_to(&bundle, &images.secure_domain(), &kernel, None)?;
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.initrd = Some(bundle);
    machine.append = "probe.only=gic,timer,cores".into();
    machine.smp = 8;
    run(&machine, place, 152)
}

/// The class `rings` where the secure domain reaches only a window of the probe's memory: the good requests lie in it.
fn window(images: &Images, place: &Place) -> Result<Vec<Case>> {
    let (hypervisor, bundle) = images.window(place, &images.probe(), None)?;
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.kernel = hypervisor;
    machine.initrd = Some(bundle);
    machine.append = "probe.only=rings".into();
    run(&machine, place, 50)
}

pub(crate) fn run(machine: &Machine, place: &Place, known: usize) -> Result<Vec<Case>> {
    let mut guest = Guest::start(machine, place.inside("boot")?)?;
    let finished = guest.expect(" failed\n", RUN).context("the probe did not finish");
    let mut cases = cases(&guest.transcript());
    let seen = cases.len();
    if machine.smmu {
        cases.extend(dma(&guest.transcript()));
    }
    let crashed = guest.transcript().contains("the secure domain has crashed");
    cases.push(Case {
        name: "the_secure_domain_does_not_crash".into(),
        outcome: (!crashed).then_some(()).context("it has crashed, or was thought to hang"),
    });
    cases.push(Case {
        name: "run_finishes_and_reports_every_case".into(),
        outcome: finished.and_then(|_| complete(&mut guest, seen, known)),
    });
    Ok(cases)
}

/// Classes on the board whose disk is a PCI function: the probe has the rest of the bus.
pub(crate) fn shared_bus(images: &Images, machine: &mut Machine, place: &Place) -> Result<Vec<Case>> {
    machine.initrd = Some(images.probe_bundle());
    machine.append = "probe.only=pcie,rings probe.pci=18".into();
    machine.extra =
        ["-device", "edu,addr=1,dma_mask=0xffffffffffff", "-device", "virtio-rng-pci,addr=7"].map(String::from).into();
    let mut guest = Guest::start(machine, place.inside("boot")?)?;
    let finished = guest.expect(" failed\n", RUN).context("the probe did not finish");
    let mut cases = cases(&guest.transcript());
    let seen = cases.len();
    let told = guest.transcript().lines().any(|line| line.contains("DMA stopped: stream 0x8 reads 0x3ec00000"));
    cases.push(Case {
        name: "pcie::a_stopped_read_of_the_disks_registers_is_told".into(),
        outcome: told.then_some(()).context("EL2 does not say so"),
    });
    cases.push(Case {
        name: "run_finishes_and_reports_every_case".into(),
        outcome: finished.and_then(|_| complete(&mut guest, seen, 88)),
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

/// What EL2 says of the device that the class `dma` drives.
fn dma(transcript: &str) -> [Case; 4] {
    let lines = || transcript.lines().filter_map(|line| line.strip_prefix("[haechi] "));
    let told = |name: &str, wanted: &dyn Fn(&str) -> bool| Case {
        name: format!("dma::{name}"),
        outcome: lines().any(wanted).then_some(()).context("EL2 does not say so"),
    };
    let stopped = |line: &str, deed: &str, reason: &str| {
        line.starts_with("DMA stopped: stream 0x8 ") && line.contains(deed) && line.ends_with(reason)
    };
    let foreign = "the address is not its domain's";
    [
        told("boot_says_who_is_confined", &|line| {
            line.starts_with(
                "DMA isolation: partial (not behind the system MMU at 0x9050000..0x9070000 are 24 virtio_mmio, 1 disk(s) of the secure domain)",
            )
        }),
        told("a_stopped_read_is_told", &|line| stopped(line, " reads 0x", foreign)),
        told("a_stopped_write_is_told", &|line| stopped(line, " writes to 0x", foreign)),
        told("a_stopped_write_to_a_register_page_is_told", &|line| {
            stopped(line, " writes to 0xb000000", "its domain may not do that there")
        }),
    ]
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
