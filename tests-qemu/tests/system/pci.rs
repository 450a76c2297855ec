//! The virtual disks as PCI functions: found, driven by messages and by wire, beside the machine's own PCI host, over crashes of the
//! secure domain, on both interrupt controllers.
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_qemu::guest::{BOOT, COMMAND, Guest};
use tests_qemu::images::{Images, Linux};
use tests_qemu::place::{self, Place};
use tests_qemu::runner::{Group, check};
use volume::operation::Command;
use volume::{Layout, Name};
use xtask::qemu::{Gic, Machine};
use xtask::sealed::{self, Access};
use xtask::{board, files, firmware};

use crate::reset::{again, keep, load};

/// fio on an emulated machine that shares two cores.
const FIO: Duration = Duration::from_secs(240);
/// The escape key, Ctrl-].
const ESCAPE: char = '\u{1d}';
/// Crashes under fio.
const CRASHES: u64 = 10;
/// What EL2 says when the next life serves.
const AGAIN: &str = "[haechi] the secure domain serves again after ";
/// Blocks of the second volume.
const BLOCKS: u64 = 2048;

pub(crate) fn groups() -> Vec<Group> {
    let whole = vec![
        check("disks_are_modern_virtio_functions_on_a_bus_of_their_own", |_, guest| functions(guest)),
        check("both_disks_hold_what_fio_wrote", |_, guest| both_under_load(guest)),
        check("their_interrupts_are_messages", |_, guest| messages(guest)),
        check("a_physical_pci_device_works_beside_them", |_, guest| physical(guest)),
        check("after_a_reset_under_load_linux_has_the_same_functions_and_messages", |_, guest| reset(guest)),
        check("crashes_of_the_secure_domain_cost_no_request_and_no_byte", |_, guest| crashes(guest)),
        check("linux_is_told_by_a_message_that_a_disk_needs_a_reset", |_, guest| give_up(guest)),
    ];
    let v2 = vec![
        check("disks_are_modern_virtio_functions_on_a_bus_of_their_own", |_, guest| functions(guest)),
        check("the_root_holds_what_fio_wrote", |_, guest| fio(guest, "/root/fio", "4M")),
        check("their_interrupts_are_messages", |_, guest| messages(guest)),
        check("a_physical_pci_device_works_beside_them", |_, guest| physical(guest)),
        check("after_a_reset_under_load_linux_has_the_same_functions_and_messages", |_, guest| reset(guest)),
    ];
    let wired = vec![
        check("the_root_holds_what_fio_wrote", |_, guest| fio(guest, "/root/fio", "4M")),
        check("their_interrupts_are_lines", |_, guest| lines(guest)),
    ];
    vec![
        Group::shared("pci", |images, place| boot(images, place, Gic::V3, Linux::V6_1, ""), whole),
        Group::shared("pci_gicv2", |images, place| boot(images, place, Gic::V2, Linux::V6_12, ""), v2),
        Group::shared("pci_by_wire", |images, place| boot(images, place, Gic::V3, Linux::V6_12, " pci=nomsi"), wired),
    ]
}

/// The hypervisor with the virtual devices on PCI, built once.
pub(crate) fn hypervisor() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = &*made {
        return Ok(image.clone());
    }
    let directory = place::root().join("pci-hypervisor");
    files::fresh_directory(&directory)?;
    let image = directory.join("haechi.img");
    let (file, _) = board::find(None)?;
    fs::copy(firmware::build_with(&file, Some("pci"))?.hypervisor, &image)
        .context("the hypervisor cannot be copied")?;
    *made = Some(image.clone());
    Ok(image)
}

/// Two volumes on one disk, and a physical PCI device beside them.
fn boot(images: &Images, place: Place, gic: Gic, linux: Linux, arguments: &str) -> Result<Guest> {
    let disk = place.copy(&images.disk, "disk.img")?;
    let (mut pool, _) = sealed::mount(&disk, &images.board, Access::ReadWrite)?;
    let name = Name::new("second").context("the name is one")?;
    let suite = sealed::DEFAULT_SUITE;
    pool.command(Command::Create { name, layout: Layout::Linear, blocks: BLOCKS, suite })?;
    pool.close()?;
    let shape = |machine: &mut Machine| {
        machine.gic = gic;
        machine.smp = 2;
        machine.initrd = Some(images.bundle(linux));
        machine.append += arguments;
        machine.smmu = true;
        machine.extra = ["-device", "virtio-rng-pci"].map(String::from).into();
    };
    let kernel = hypervisor()?;
    images.boot_disk(place, &disk, |machine| {
        shape(machine);
        machine.kernel = kernel;
    })
}

fn functions(guest: &mut Guest) -> Result<()> {
    for device in 0..2 {
        let path = format!("/sys/bus/pci/devices/0001:00:0{device}.0");
        let facts = guest.run(&format!("cd {path}; cat vendor device revision class; readlink driver; cd"))?;
        let words: Vec<_> = facts.split_whitespace().collect();
        ensure!(words[..4] == ["0x1af4", "0x1042", "0x01", "0x018000"], "function {device} is {facts}");
        ensure!(facts.ends_with("/virtio-pci"), "its driver is {facts}");
    }
    for disk in ["vda", "vdb"] {
        let place = guest.run(&format!("readlink -f /sys/block/{disk}"))?;
        ensure!(place.contains("/pci0001:00/0001:00:0"), "{disk} is {place}");
    }
    let others = guest.run("ls -d /sys/bus/pci/devices/0001:*")?;
    ensure!(others.split_whitespace().count() == 2, "on the bus are {others}");
    let nodes = guest.run("ls /proc/device-tree")?;
    ensure!(nodes.contains("pcie@b100000") && !nodes.contains("virtio_mmio@b00"), "the tree has {nodes}");
    Ok(())
}

fn fio(guest: &mut Guest, file: &str, size: &str) -> Result<()> {
    let job = format!(
        "fio --name=verify --filename={file} --size={size} --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=32 \
         --fsync=64 --verify=crc32c --verify_fatal=1 --fallocate=none --randseed=7 --output-format=terse --terse-version=3"
    );
    let output = guest.run_within(&job, FIO)?;
    let terse = output.lines().find(|line| line.starts_with("3;")).context("fio printed no result")?;
    // Field 5 of the terse format, version 3, is the error (fio HOWTO, "Terse output").
    ensure!(terse.split(';').nth(4) == Some("0"), "fio reports an error: {terse}");
    Ok(())
}

fn both_under_load(guest: &mut Guest) -> Result<()> {
    fio(guest, "/root/fio", "4M")?;
    fio(guest, "/dev/vdb", "4M")?;
    guest.run("rm /root/fio").map(drop)
}

/// The lines of `/proc/interrupts` with this in their name, and how often each has come.
fn interrupts(guest: &mut Guest, name: &str) -> Result<Vec<(String, u64)>> {
    // With what the shell has itself: at the end there is no disk to load a program from.
    let lines = guest.run(&format!(
        "while read -r line; do case \"$line\" in *{name}*) echo \"$line\";; esac; done </proc/interrupts"
    ))?;
    let count = |line: &str| line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum();
    Ok(lines.lines().map(|line| (line.to_owned(), count(line))).collect())
}

fn messages(guest: &mut Guest) -> Result<()> {
    for device in 0..2 {
        let vectors = guest.run(&format!("ls /sys/bus/pci/devices/0001:00:0{device}.0/msi_irqs"))?;
        ensure!(vectors.split_whitespace().count() == 2, "function {device} has the messages {vectors}");
    }
    let found = interrupts(guest, "-req.0")?;
    let (line, count) = found.first().context("no queue has an interrupt of its own")?;
    ensure!(line.contains("Edge") && *count > 0, "the disk's messages: {line}");
    guest.send(&format!("{ESCAPE}s"))?;
    guest.expect("[haechi] PCI: 0 message(s) went nowhere", COMMAND).map(drop)
}

/// Without messages each function has its line, which is level-sensitive.
fn lines(guest: &mut Guest) -> Result<()> {
    let found = interrupts(guest, "virtio")?;
    let (line, count) = found.first().context("no line for a virtio device")?;
    ensure!(line.contains("Level") && !line.contains("-req.0") && *count > 0, "its interrupt is {line}");
    let errors = interrupts(guest, "Err:")?;
    ensure!(errors.iter().all(|(_, count)| *count == 0), "spurious or unhandled interrupts: {errors:?}");
    Ok(())
}

/// It is on the machine's own host, and has its wired interrupt.
fn physical(guest: &mut Guest) -> Result<()> {
    let bytes = guest.run("modprobe virtio_rng; dd if=/dev/hwrng bs=64 count=1 iflag=fullblock 2>/dev/null | wc -c")?;
    ensure!(bytes == "64", "the random number generator gave {bytes} bytes");
    let bus = guest.run("readlink -f /sys/bus/virtio/drivers/virtio_rng/virtio*")?;
    ensure!(bus.contains("/pci0000:00/"), "it is on {bus}");
    let vectors = guest.run("ls /sys/bus/pci/devices/0000:00:01.0/msi_irqs 2>/dev/null; true")?;
    ensure!(vectors.is_empty(), "a physical device was given messages: {vectors}");
    Ok(())
}

/// The next Linux finds configuration space, messages and lines as the first one did, though this one leaves them in use.
fn reset(guest: &mut Guest) -> Result<()> {
    let sum = keep(guest)?;
    load(guest)?;
    guest.send(&format!("{ESCAPE}r"))?;
    println!("    the reset took {} ms", again(guest)?);
    functions(guest)?;
    messages(guest)?;
    physical(guest)?;
    ensure!(guest.run("sha256sum /root/kept")? == sum, "the file changed");
    Ok(())
}

fn crashes(guest: &mut Guest) -> Result<()> {
    let job = "fio --name=crash --filename=/dev/vdb --size=4M --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=32 \
        --fsync=64 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --time_based --runtime=100000";
    guest.run(&format!("{job} >/tmp/fio.out 2>&1 & echo started"))?;
    guest.run("until [ $(awk '{ print $5 }' /sys/block/vdb/stat) -gt 100 ]; do sleep 0.2; done")?;
    for crash in 0..CRASHES {
        guest.send(&format!("{ESCAPE}c"))?;
        guest.expect(AGAIN, BOOT).with_context(|| format!("crash {crash}"))?;
        // EL2 gives up a domain that answers nothing, which on a slow machine needs its time.
        guest.run("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null")?;
        std::thread::sleep(Duration::from_millis(crash * 37 % 101));
    }
    guest.run("kill $!; wait; true")?;
    let report = guest.run("cat /tmp/fio.out")?;
    ensure!(report.contains("err= 0") && !report.contains("verify:"), "fio says: {report}");
    let errors = guest.run("dmesg | grep -ci 'i/o error'; true")?;
    ensure!(errors == "0", "Linux saw {errors} I/O errors");
    Ok(())
}

/// The secure domain crashes until it is left alone: each disk asks for a reset, by its vector for configuration changes.
fn give_up(guest: &mut Guest) -> Result<()> {
    let before: u64 = interrupts(guest, "-config")?.iter().map(|(_, count)| count).sum();
    // What an answered request forgives is bounded: Linux, which does nothing, asks for little.
    for _ in 0..50 {
        guest.send(&format!("{ESCAPE}c"))?;
        guest.expect("[haechi] the secure domain has crashed", BOOT)?;
        let next = guest.expect("[haechi] the secure domain ", BOOT)? + &guest.expect("\n", COMMAND)?;
        if next.contains("is stopped for good") {
            let told: u64 = interrupts(guest, "-config")?.iter().map(|(_, count)| count).sum();
            ensure!(told == before + 2, "of the configuration {told} messages came, {before} before");
            return Ok(());
        }
    }
    bail!("it is started again and again")
}
