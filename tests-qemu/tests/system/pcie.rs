//! The secure domain's disk is a PCI function behind the system MMU, and the rest of the bus is the general domain's.
use std::fs;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{BOOT, Guest, STOP};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Case, Group, alone, check};
use xtask::firmware;
use xtask::qemu::Machine;

use crate::{isolation, restart};

/// Crashes under fio.
pub(crate) const CRASHES: u32 = 5;

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("every_bus_master_is_confined", |_, guest| confined(guest)),
        check("linux_does_not_see_the_disk", |_, guest| unseen(guest)),
        check("another_function_works", |_, guest| random_numbers(guest)),
        check("crashes_under_fio_cost_no_request_and_no_byte", |_, guest| restart::crashes(guest, CRASHES)),
        check("after_a_reset_linux_has_the_same_functions", |_, guest| reset(guest)),
        check("no_transfer_was_stopped", |_, guest| untroubled(guest)),
    ];
    let alone = vec![alone("a_bus_that_cannot_be_shared_out_is_refused_and_a_disk_that_is_not_confined_is_told", told)];
    vec![Group::shared("pcie", boot, checks), Group::many("probe_pcie", probe), Group::each("pcie_refusals", alone)]
}

/// The machine of the board with a virtio disk on PCIe.
fn machine(images: &Images, place: &Place) -> Result<Machine> {
    machine_of(images, place, "qemu-virt-pcie")
}

/// The machine of this board, whose disk is on PCIe, everything behind the system MMU.
pub(crate) fn machine_of(images: &Images, place: &Place, board: &str) -> Result<Machine> {
    let made = firmware::build(&board_configs::directory().join(board).with_extension("toml"))?;
    let kind = board_configs::named(board)?.storage[0].kind;
    let hypervisor = place.file("haechi.img");
    fs::copy(&made.hypervisor, &hypervisor).context("the hypervisor cannot be copied")?;
    let disk = place.copy(&images.disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    machine.kernel = hypervisor;
    machine.smmu = true;
    machine.disks.iter_mut().for_each(|disk| (disk.pci, disk.kind) = (Some("03.0".into()), kind));
    Ok(machine)
}

fn boot(images: &Images, place: Place) -> Result<Guest> {
    let machine = machine(images, &place)?;
    boot_with(machine, place)
}

/// Boots Linux on two cores, beside a function of its own.
pub(crate) fn boot_with(mut machine: Machine, place: Place) -> Result<Guest> {
    machine.smp = 2;
    machine.extra = ["-device", "virtio-rng-pci,addr=2"].map(String::from).into();
    let mut guest = Guest::start(&machine, place)?;
    guest.login()?;
    Ok(guest)
}

fn probe(images: &Images, place: &Place) -> Result<Vec<Case>> {
    let mut machine = machine(images, place)?;
    isolation::shared_bus(images, &mut machine, place)
}

/// What EL2 says of other machines, before it starts anything.
fn told(images: &Images, place: &Place) -> Result<()> {
    let machine = machine(images, place)?;
    let says = |name: &str, machine: Machine, line: &str| -> Result<()> {
        let mut guest = Guest::start(&machine, place.inside(name)?)?;
        guest.expect(line, STOP).map(drop)
    };
    let mut bridge = machine.clone();
    bridge.extra = ["-device", "pcie-root-port,addr=4"].map(String::from).into();
    says("bridge", bridge, "no storage for the secure domain: PCI function 00:04.0 is a bridge, and only")?;
    let mut elsewhere = machine.clone();
    elsewhere.disks.iter_mut().for_each(|disk| disk.pci = Some("05.0".into()));
    says("elsewhere", elsewhere, "no storage for the secure domain: there is no PCI function 00:03.0")?;
    let mut two = machine.clone();
    two.disks.iter_mut().for_each(|disk| disk.pci = Some("03.0,multifunction=on".into()));
    two.extra = ["-device", "virtio-rng-pci,addr=03.1"].map(String::from).into();
    says("two", two, "no storage for the secure domain: PCI function 00:03.0 is not the only one of its device")?;
    let partial =
        "DMA isolation: partial (no system MMU is driven: not confined are 1 pcie, 1 disk(s) of the secure domain)";
    says("bare", Machine { smmu: false, ..machine }, partial)
}

pub(crate) fn confined(guest: &mut Guest) -> Result<()> {
    let console = guest.transcript();
    let told =
        console.lines().find(|line| line.contains("DMA isolation")).context("EL2 does not say who is confined")?;
    ensure!(told.contains("DMA isolation: by the system MMU at 0x9050000..0x9070000"), "{told}");
    ensure!(console.contains("[haechi] disk 0: /pcie@10000000 function 00:03.0 at "), "EL2 does not name the disk");
    Ok(())
}

pub(crate) fn unseen(guest: &mut Guest) -> Result<()> {
    let functions = guest.run("ls /sys/bus/pci/devices | xargs echo")?;
    ensure!(functions == "0000:00:00.0 0000:00:02.0", "Linux sees {functions}");
    let mounts = guest.run("grep ' / ' /proc/mounts")?;
    ensure!(mounts.contains("/dev/vda / ext4 rw"), "the root is {mounts}");
    let windows = guest.run("grep -ci '3ec00000' /proc/iomem; true")?;
    ensure!(windows == "0", "Linux is told of the disk's window");
    Ok(())
}

/// It writes random bytes to Linux' memory, and says so by a wired interrupt.
fn random_numbers(guest: &mut Guest) -> Result<()> {
    guest.run("modprobe virtio_rng")?;
    let bytes = guest.run("dd if=/dev/hwrng bs=64 count=1 iflag=fullblock 2>/dev/null | wc -c")?;
    ensure!(bytes == "64", "it gave {bytes} bytes");
    Ok(())
}

/// The general domain begins anew, and the secure domain goes on with its disk.
pub(crate) fn reset(guest: &mut Guest) -> Result<()> {
    guest.send("reboot -f\n")?;
    guest.expect("[haechi] the general domain starts again after ", BOOT)?;
    guest.login()?;
    unseen(guest)?;
    random_numbers(guest)
}

pub(crate) fn untroubled(guest: &mut Guest) -> Result<()> {
    let stopped = guest.transcript().lines().find(|line| line.contains("DMA stopped")).map(str::to_owned);
    ensure!(stopped.is_none(), "{stopped:?}");
    Ok(())
}
