//! The secure domain's disk is an NVMe controller behind the system MMU.
use anyhow::{Result, ensure};
use tests_qemu::guest::{Guest, STOP};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::power_cut::Rig;
use tests_qemu::runner::{Group, alone, check};
use xtask::qemu::Machine;

use crate::{pcie, restart};

const BOARD: &str = "qemu-virt-nvme";
/// fsyncs of a test.
const FLUSHES: usize = 5;

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("every_bus_master_is_confined", |_, guest| pcie::confined(guest)),
        check("linux_does_not_see_the_disk", |_, guest| pcie::unseen(guest)),
        check("crashes_under_fio_cost_no_request_and_no_byte", |_, guest| restart::crashes(guest, pcie::CRASHES)),
        check("after_a_reset_linux_finds_what_it_wrote", |_, guest| reset(guest)),
        check("no_transfer_was_stopped", |_, guest| pcie::untroubled(guest)),
    ];
    let alone = vec![
        alone("a_flush_is_one_of_the_disk_and_a_new_boot_finds_what_was_written", again),
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

fn reset(guest: &mut Guest) -> Result<()> {
    guest.run("dd if=/dev/urandom of=/root/kept bs=64k count=32 conv=fsync 2>/dev/null")?;
    let sum = guest.run("sha256sum /root/kept")?;
    pcie::reset(guest)?;
    ensure!(guest.run("sha256sum /root/kept")? == sum, "the file has changed");
    Ok(())
}

/// A flush of Linux reaches what is behind the disk, and the disk's image is the same whatever the controller's logical blocks are.
fn again(images: &Images, place: &Place) -> Result<()> {
    let mut machine = machine(images, place)?;
    let rig = Rig::new(place, &machine.disks[0].file, 512)?;
    let mut sectors = machine.clone();
    rig.plug_as(&mut sectors, "nvme,addr=03.0,logical_block_size=512")?;
    let mut guest = Guest::start(&sectors, place.inside("sectors")?)?;
    guest.expect("disk 0: NVMe, a volatile cache, power failures leave 512 bytes whole", STOP)?;
    guest.login()?;
    let before = rig.flushes()?;
    for part in 0..FLUSHES {
        guest.run(&format!("dd if=/dev/urandom of=/root/again bs=1M count=1 seek={part} conv=fsync 2>/dev/null"))?;
    }
    let flushes = rig.flushes()? - before;
    ensure!(flushes >= FLUSHES, "{FLUSHES} times fsync were {flushes} flushes of the disk");
    println!("    {FLUSHES} times fsync: {flushes} flushes of the disk");
    let sum = guest.run("sha256sum /root/again")?;
    guest.power_off()?;
    rig.plug_as(&mut machine, "nvme,addr=03.0,logical_block_size=4096,physical_block_size=4096")?;
    let mut guest = Guest::start(&machine, place.inside("blocks")?)?;
    guest.expect("disk 0: NVMe, a volatile cache, power failures leave 4096 bytes whole", STOP)?;
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
        &with(&machine, "logical_block_size=8192,physical_block_size=8192"),
        "logical blocks are of 2^13 bytes: 512 to 4096 are driven",
    )?;
    let mut other = machine.clone();
    other.disks.iter_mut().for_each(|disk| disk.kind = Default::default());
    says("other", &other, "a PCI function of class 010000 is no NVMe controller")
}
