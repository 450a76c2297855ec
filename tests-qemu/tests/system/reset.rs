//! The general domain is reset while the secure domain and the machine go on: by its own wish, by its panic, by the operator.
use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{BOOT, COMMAND, Guest};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use xtask::qemu::Gic;

/// What EL2 says when the general domain's next life begins.
pub(crate) const AGAIN: &str = "[haechi] the general domain starts again after ";

/// How a reset is asked for: by core 0 in order, by core 3 at once, by a panic, and by the operator, who types the last.
const WAYS: [&str; 4] = [
    "reboot -f\n",
    "taskset 8 sh -c 'echo b >/proc/sysrq-trigger'\n",
    "echo 1 >/proc/sys/kernel/panic; taskset 4 sh -c 'echo c >/proc/sysrq-trigger'\n",
    "\u{1d}r",
];

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        alone("linux_on_4_cores_is_reset_under_load_and_the_secure_domain_goes_on", |images, place| {
            resets(images, place, Gic::V3)
        }),
        alone("the_same_on_a_gicv2", |images, place| resets(images, place, Gic::V2)),
    ];
    vec![Group::each("reset", checks)]
}

fn resets(images: &Images, place: &Place, gic: Gic) -> Result<()> {
    let shape = |machine: &mut xtask::qemu::Machine| {
        (machine.smp, machine.gic, machine.mem_bytes) = (4, gic, 512 << 20);
        (machine.smmu, machine.extra) = (true, ["-device", "virtio-rng-pci"].map(String::from).into());
    };
    let mut guest = images.boot(place.inside("boot")?, shape)?;
    let mut took = Vec::new();
    for (number, way) in WAYS.into_iter().enumerate() {
        let before = guest.run("cat /proc/sys/kernel/random/boot_id")?;
        let sum = keep(&mut guest)?;
        crate::boots::pci_device(&mut guest)?;
        load(&mut guest)?;
        guest.send(way)?;
        took.push(again(&mut guest).with_context(|| format!("reset {number}, by `{}`", way.trim()))?);
        ensure!(guest.run("cat /proc/sys/kernel/random/boot_id")? != before, "Linux did not boot anew");
        ensure!(guest.run("sha256sum /root/kept")? == sum, "the file changed over reset {number}");
        ensure!(guest.run("cat /sys/devices/system/cpu/online")? == "0-3", "a core is missing after reset {number}");
    }
    guest.send("\u{1d}s")?;
    let status = guest.expect("general domain: 4 resets", COMMAND)?;
    ensure!(status.contains("secure domain: running") && status.contains(" 0 restarts"), "{status}");
    let text = guest.transcript();
    ensure!(text.matches("[haechi] Haechi ").count() == 1, "the machine was reset");
    guest.run("mount -o remount,ro / && e2fsck -fn /dev/vda 2>&1")?;
    println!("    resets took {took:?} ms");
    guest.power_off()
}

/// Waits for Linux after a reset of its domain; the milliseconds from the wish to its first instruction.
pub(crate) fn again(guest: &mut Guest) -> Result<u64> {
    guest.expect(AGAIN, BOOT)?;
    let took = guest.expect(" us, reset ", COMMAND)?;
    guest.login()?;
    let took: u64 = took.trim_end_matches(" us, reset ").parse().context("a number of microseconds")?;
    Ok(took / 1000)
}

/// Writes a file and makes it durable; gives its digest.
pub(crate) fn keep(guest: &mut Guest) -> Result<String> {
    guest.run("dd if=/dev/urandom of=/root/kept bs=4k count=64 2>/dev/null; sync; sha256sum /root/kept")
}

/// Writes without end on two cores, and computes without end on the others.
pub(crate) fn load(guest: &mut Guest) -> Result<()> {
    let write = "for c in 0 1; do (while :; do dd if=/dev/zero of=/root/load$c bs=64k count=16 conv=fsync; done) >/dev/null 2>&1 & done";
    let compute = "for c in 2 3; do (while :; do :; done) & done";
    guest.run(&format!("set +m; {write}; {compute}; sleep 1")).map(drop)
}
