//! The secure domain's disk is an NVMe controller behind the system MMU.
use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{COMMAND, Guest, STOP};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone, check};
use xtask::qemu::Machine;

use crate::pcie;

const BOARD: &str = "qemu-virt-nvme";
/// Ctrl-A c: to QEMU's monitor, and back.
const MONITOR: &str = "\u{1}c";

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("every_bus_master_is_confined", |_, guest| pcie::confined(guest)),
        check("linux_does_not_see_the_disk", |_, guest| pcie::unseen(guest)),
        check("a_flush_of_linux_is_one_of_the_disk", |_, guest| flushed(guest)),
        check("crashes_under_fio_cost_no_request_and_no_byte", |_, guest| pcie::crashes(guest)),
        check("after_a_reset_linux_finds_what_it_wrote", |_, guest| reset(guest)),
        check("no_transfer_was_stopped", |_, guest| pcie::untroubled(guest)),
    ];
    let alone = vec![
        alone("a_new_boot_finds_what_was_written_whatever_the_logical_blocks", again),
        alone("a_controller_that_cannot_be_driven_is_refused_by_name", refused),
    ];
    vec![Group::shared("nvme", boot, checks), Group::each("nvme_machines", alone)]
}

fn machine(images: &Images, place: &Place) -> Result<Machine> {
    pcie::machine_of(images, place, BOARD)
}

fn boot(images: &Images, place: Place) -> Result<Guest> {
    let machine = machine(images, &place)?;
    pcie::boot_with(machine, place)
}

/// The machine with other properties of its disk.
fn with(machine: &Machine, properties: &str) -> Machine {
    let mut machine = machine.clone();
    machine.disks.iter_mut().for_each(|disk| disk.pci = Some(format!("03.0,{properties}")));
    machine
}

/// Flushes that QEMU has been asked for on the disk.
fn flushes(guest: &mut Guest) -> Result<u64> {
    guest.send(MONITOR)?;
    guest.expect("(qemu) ", COMMAND)?;
    guest.send("info blockstats\n")?;
    guest.expect("disk0", COMMAND)?;
    guest.expect(" flush_operations=", COMMAND)?;
    let count = guest.expect(" ", COMMAND)?;
    guest.expect("(qemu) ", COMMAND)?;
    guest.send(MONITOR)?;
    count.trim().parse().context("a number of flushes")
}

fn flushed(guest: &mut Guest) -> Result<()> {
    let told = guest.transcript().lines().find(|line| line.contains("disk 0: NVMe")).map(str::to_owned);
    let told = told.context("the secure domain does not tell of its disk")?;
    ensure!(told.contains("NVMe, a volatile cache, power failures leave 4096 bytes whole"), "{told}");
    let before = flushes(guest)?;
    for number in 0..5 {
        guest.run(&format!("dd if=/dev/urandom of=/root/flushed-{number} bs=4k count=1 conv=fsync 2>/dev/null"))?;
    }
    let after = flushes(guest)?;
    ensure!(after >= before + 5, "five times fsync were {} flushes", after - before);
    println!("    five times fsync: {} flushes of the disk", after - before);
    Ok(())
}

fn reset(guest: &mut Guest) -> Result<()> {
    let sum = guest.run("cat /root/flushed-* | sha256sum")?;
    pcie::reset(guest)?;
    ensure!(guest.run("cat /root/flushed-* | sha256sum")? == sum, "a file has changed");
    Ok(())
}

/// The disk's image is the same whatever the controller's logical blocks are.
fn again(images: &Images, place: &Place) -> Result<()> {
    let machine = machine(images, place)?;
    let mut guest = Guest::start(&with(&machine, "logical_block_size=512"), place.inside("sectors")?)?;
    guest.expect("NVMe, a volatile cache, power failures leave 512 bytes whole", STOP)?;
    guest.login()?;
    guest.run("dd if=/dev/urandom of=/root/again bs=4k count=1024 conv=fsync 2>/dev/null")?;
    let sum = guest.run("sha256sum /root/again")?;
    guest.power_off()?;
    let mut guest = Guest::start(&machine, place.inside("blocks")?)?;
    guest.expect("NVMe, a volatile cache, power failures leave 4096 bytes whole", STOP)?;
    guest.login()?;
    ensure!(guest.run("sha256sum /root/again")? == sum, "the file has changed");
    guest.power_off()
}

/// What the secure domain says of other controllers, before anything is served.
fn refused(images: &Images, place: &Place) -> Result<()> {
    let machine = machine(images, place)?;
    let says = |name: &str, machine: &Machine, line: &str| -> Result<()> {
        let mut guest = Guest::start(machine, place.inside(name)?)?;
        guest.expect(line, STOP).map(drop)
    };
    says(
        "large",
        &with(&machine, "logical_block_size=8192"),
        "logical blocks are of 2^13 bytes: 512 to 4096 are driven",
    )?;
    let mut other = machine.clone();
    other.disks.iter_mut().for_each(|disk| disk.kind = Default::default());
    says("other", &other, "a PCI function of class 010000 is no NVMe controller")
}
