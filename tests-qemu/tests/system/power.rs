//! Power-off ends the machine and leaves a clean disk, also in the middle of work.
use anyhow::{Result, ensure};
use tests_qemu::guest::{BOOT, Guest};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        alone("off_ends_the_machine_and_leaves_a_clean_disk", off),
        alone("off_under_load_on_4_cores_keeps_what_was_synced", off_under_load),
    ];
    vec![Group::each("power", checks)]
}

fn off(images: &Images, place: &Place) -> Result<()> {
    let mut first = images.boot(place.inside("first")?, |_| ())?;
    let sum = keep(&mut first)?;
    let disk = first.place.file("disk.img");
    first.power_off()?;
    ensure!(!first.transcript().contains("stopped:"), "the hypervisor stopped instead of ending");

    let found = xtask::sealed::check(&disk, &images.board)?;
    ensure!(found.bad == 0, "{} blocks of the disk are not what was sealed, first {:?}", found.bad, found.first_bad);
    let mut second = images.boot_disk(place.inside("second")?, &disk, |_| ())?;
    ensure!(second.run("sha256sum /root/kept")? == sum, "the file changed over power-off");
    ensure!(second.run("dmesg | grep -c 'recovery complete'; true")? == "0", "the filesystem was not clean");
    whole(&mut second)?;
    second.power_off()
}

fn off_under_load(images: &Images, place: &Place) -> Result<()> {
    let mut first = images.boot(place.inside("first")?, |machine| machine.smp = 4)?;
    let sum = keep(&mut first)?;
    load(&mut first)?;
    let disk = first.place.file("disk.img");
    first.send("poweroff -f\n")?;
    let status = first.wait(BOOT)?;
    ensure!(status.success(), "QEMU ended with {status}");

    let found = xtask::sealed::check(&disk, &images.board)?;
    ensure!(found.bad == 0, "{} blocks of the disk are not what was sealed, first {:?}", found.bad, found.first_bad);
    let mut second = images.boot_disk(place.inside("second")?, &disk, |_| ())?;
    ensure!(second.run("sha256sum /root/kept")? == sum, "the file changed over power-off");
    whole(&mut second)
}

/// Writes a file and makes it durable; gives its digest.
fn keep(guest: &mut Guest) -> Result<String> {
    guest.run("dd if=/dev/urandom of=/root/kept bs=4k count=64 2>/dev/null; sync; sha256sum /root/kept")
}

/// Writes without end, on every core.
fn load(guest: &mut Guest) -> Result<()> {
    let work = "for c in 0 1 2 3; do (while :; do dd if=/dev/zero of=/root/load$c bs=64k count=16 conv=fsync; done) >/dev/null 2>&1 & done";
    guest.run(&format!("set +m; {work}; sleep 2")).map(drop)
}

/// The filesystem has no fault: checked from its own device while nothing can write.
fn whole(guest: &mut Guest) -> Result<()> {
    guest.run("mount -o remount,ro / && e2fsck -fn /dev/vda 2>&1").map(drop)
}
