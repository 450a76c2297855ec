//! A core that the secure domain has for itself: the general domain neither sees nor reaches it, and everything works that works without.
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{Guest, STOP};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Case, Group, alone, check};
use xtask::firmware;
use xtask::qemu::{Gic, Machine};

use crate::{isolation, reset, restart};

/// The escape key, Ctrl-].
const ESCAPE: char = '\u{1d}';
/// Work of three busy cores on two real ones.
const LONG: Duration = Duration::from_secs(240);
/// Crashes under fio.
const CRASHES: u32 = 10;
/// Cases of the probe's classes.
const CASES: usize = 58;

pub(crate) fn groups() -> Vec<Group> {
    let told = alone("a_core_that_is_not_there_is_refused", refused);
    vec![
        group("exclusive_core", Gic::V3),
        group("exclusive_core_gicv2", Gic::V2),
        Group::many("probe_exclusive_core", |images, place| probe(images, place, Gic::V3)),
        Group::many("probe_exclusive_core_gicv2", |images, place| probe(images, place, Gic::V2)),
        Group::each("exclusive_core_refusals", vec![told]),
    ]
}

fn group(name: &'static str, gic: Gic) -> Group {
    let checks = vec![
        check("linux_has_the_others", |_, guest| others(guest)),
        check("fio_on_every_core_at_once_verifies", |_, guest| fio(guest)),
        check("every_core_goes_off_and_on_under_load", |_, guest| hotplug(guest)),
        check("a_debugger_is_obeyed_beside_disk_io", |_, guest| crate::cores::debugger(guest)),
        check("crashes_under_fio_cost_no_request_and_no_byte", |_, guest| restart::crashes(guest, CRASHES)),
        check("a_domain_that_hangs_is_started_again", |_, guest| restart::hang(guest)),
        check("linux_is_reset_and_has_the_same_cores", |_, guest| begin_anew(guest)),
        check("machine_goes_off_after_all_of_it", |_, guest| guest.power_off()),
    ];
    Group::shared(name, move |images, place| boot(images, place, gic), checks)
}

/// Four cores, of which the second is the secure domain's.
fn machine(images: &Images, place: &Place, gic: Gic, disk: &Path) -> Result<Machine> {
    let made = firmware::build(&board_configs::directory().join("qemu-virt-core.toml"))?;
    let hypervisor = place.file("haechi.img");
    fs::copy(&made.hypervisor, &hypervisor).context("the hypervisor cannot be copied")?;
    let disk = place.copy(disk, "disk.img")?;
    Ok(Machine { kernel: hypervisor, smp: 4, gic, mem_bytes: 512 << 20, ..images.machine(&disk) })
}

fn boot(images: &Images, place: Place, gic: Gic) -> Result<Guest> {
    let machine = machine(images, &place, gic, &images.disk)?;
    let mut guest = Guest::start(&machine, place)?;
    guest.login()?;
    Ok(guest)
}

/// That one asked for, all others against the secure domain's disk, a suspend that resumes, and no time stolen from any.
fn probe(images: &Images, place: &Place, gic: Gic) -> Result<Vec<Case>> {
    let mut machine = machine(images, place, gic, &images.small_disk)?;
    machine.initrd = Some(images.probe_bundle());
    machine.append = "probe.only=cores,siege,power,calls probe.hidden=1 probe.ram=20000000".into();
    isolation::run(&machine, place, CASES)
}

fn refused(images: &Images, place: &Place) -> Result<()> {
    let mut machine = machine(images, place, Gic::V3, &images.small_disk)?;
    machine.smp = 1;
    let mut guest = Guest::start(&machine, place.inside("boot")?)?;
    let sentence = "stopped: device tree: the board gives core 1 to the secure domain, and there are 1, counted from 0";
    guest.expect(sentence, STOP).map(drop)
}

fn others(guest: &mut Guest) -> Result<()> {
    for list in ["present", "possible", "online"] {
        let cores = guest.run(&format!("cat /sys/devices/system/cpu/{list}"))?;
        ensure!(cores == "0-2", "{list} are {cores}");
    }
    let told = guest.run("ls /proc/device-tree/cpus | grep cpu | tr '\\n' ' '")?;
    ensure!(told.trim() == "cpu@0 cpu@2 cpu@3", "Linux is told of {told}");
    let errors = guest.run("dmesg -r | grep '^<[0-3]>'; true")?;
    ensure!(errors.is_empty(), "Linux complains: {errors}");
    Ok(())
}

/// The job of `cores`, on three.
fn fio(guest: &mut Guest) -> Result<()> {
    let job = "fio --name=each --directory=/root --numjobs=3 --cpus_allowed=0-2 --cpus_allowed_policy=split --size=1M --bs=4k \
        --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 --fallocate=none";
    let output = guest.run_within(job, LONG)?;
    ensure!(output.matches("err= 0").count() == 3, "fio reports an error: {output}");
    guest.run("rm /root/each.*").map(drop)
}

fn hotplug(guest: &mut Guest) -> Result<()> {
    guest.run("set +m; for c in 0 1 2; do (while :; do dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct; done) >/dev/null 2>&1 & done")?;
    for core in [2, 0, 1] {
        let file = format!("/sys/devices/system/cpu/cpu{core}/online");
        guest.run_within(&format!("echo 0 >{file}"), LONG)?;
        ensure!(guest.run(&format!("cat {file}"))? == "0", "core {core} is not off");
        guest.run_within("dd if=/dev/vda of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null", LONG)?;
        guest.run_within(&format!("echo 1 >{file}"), LONG)?;
        ensure!(guest.run(&format!("cat {file}"))? == "1", "core {core} did not come back");
    }
    guest.run_within("kill $(jobs -p); wait 2>/dev/null; true", LONG).map(drop)
}

/// By the operator, while two cores write and the other computes.
fn begin_anew(guest: &mut Guest) -> Result<()> {
    let sum = reset::keep(guest)?;
    reset::load(guest)?;
    guest.send(&format!("{ESCAPE}r"))?;
    println!("    the reset took {} ms", reset::again(guest)?);
    ensure!(guest.run("cat /sys/devices/system/cpu/online")? == "0-2", "a core is missing");
    ensure!(guest.run("sha256sum /root/kept")? == sum, "the file changed");
    guest.run("mount -o remount,ro / && e2fsck -fn /dev/vda 2>&1").map(drop)
}
