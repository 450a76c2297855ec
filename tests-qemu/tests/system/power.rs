//! Power-off ends the machine and leaves a clean disk.
use anyhow::{Result, ensure};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};

pub(crate) fn groups() -> Vec<Group> {
    vec![Group::each("power", vec![alone("off_ends_the_machine_and_leaves_a_clean_disk", off)])]
}

fn off(images: &Images, place: &Place) -> Result<()> {
    let mut first = images.boot(place.inside("first")?, |_| ())?;
    let sum = first.run("dd if=/dev/urandom of=/root/kept bs=4k count=64 2>/dev/null; sha256sum /root/kept")?;
    let disk = first.place.file("disk.img");
    first.power_off()?;
    ensure!(!first.transcript().contains("stopped:"), "the hypervisor stopped instead of ending");

    let found = xtask::sealed::check(&disk, &images.board)?;
    ensure!(found.bad == 0, "{} blocks of the disk are not what was sealed, first {:?}", found.bad, found.first_bad);
    let mut second = images.boot_disk(place.inside("second")?, &disk, |_| ())?;
    ensure!(second.run("sha256sum /root/kept")? == sum, "the file changed over power-off");
    ensure!(second.run("dmesg | grep -c 'recovery complete'; true")? == "0", "the filesystem was not clean");
    // e2fsck without a change, on the filesystem that is mounted: its own state says whether it was clean before.
    let state = second.run("dmesg | grep -c 'mounting unchecked\\|warning: mounting fs with errors'; true")?;
    ensure!(state == "0", "the filesystem has errors");
    second.power_off()
}
