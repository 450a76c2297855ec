//! The board with a window, under a Linux that knows restricted DMA pools: its disk works although the secure domain reaches a bounce buffer and
//! nothing else of its memory. That it reaches nothing else is shown by the probe (`isolation.rs`, `probe_window`). And the stock kernel, which
//! knows no such pools, is refused.
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{BOOT, Guest, PROMPT};
use tests_qemu::images::{Images, Linux};
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone, check};
use xtask::paths;
use xtask::qemu::Machine;

/// The escape key, Ctrl-], and then a crash of the secure domain.
const CRASH: &str = "\x1dc";
/// fio on an emulated machine.
const LONG: Duration = Duration::from_secs(300);
/// Long enough to come to a prompt, if the disk answered.
const REFUSED_FOR: Duration = Duration::from_secs(30);

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("the_kernel_knows_restricted_pools", |_, guest| kernel_knows(guest)),
        check("the_pool_is_what_el2_shares", |_, guest| pool_is_the_window(guest)),
        check("fio_verifies_the_sealed_disk", |_, guest| fio(guest)),
        check("the_secure_domain_comes_back_after_a_crash", |_, guest| crash(guest)),
    ];
    vec![
        Group::shared("window", boot, checks),
        Group::each("window_stock_kernel", vec![alone("is_refused_and_reads_nothing", stock_kernel)]),
    ]
}

fn machine(images: &Images, place: &Place, kernel: &Path) -> Result<Machine> {
    let disk = place.copy(&images.disk, "disk.img")?;
    let (hypervisor, bundle) = images.window(place, kernel, Some(&images.initrd))?;
    Ok(Machine { kernel: hypervisor, initrd: Some(bundle), smp: 2, ..images.machine(&disk) })
}

fn boot(images: &Images, place: Place) -> Result<Guest> {
    let machine = machine(images, &place, &paths::artefacts().join("linux-window"))?;
    let mut guest = Guest::start(&machine, place)?;
    guest.login()?;
    Ok(guest)
}

fn kernel_knows(guest: &mut Guest) -> Result<()> {
    let option = guest.run("gunzip -c /proc/config.gz | grep RESTRICTED_POOL")?;
    ensure!(option == "CONFIG_DMA_RESTRICTED_POOL=y", "its configuration says {option}");
    Ok(())
}

/// Linux made a bounce buffer of just the memory that EL2 says it shares, and gave it to the virtual disk.
fn pool_is_the_window(guest: &mut Guest) -> Result<()> {
    let console = guest.transcript();
    let shared = console
        .lines()
        .find_map(|line| line.split_once("the secure domain reaches "))
        .context("EL2 names no window")?
        .1;
    let base = shared.split(['.', '-', ' ']).next().unwrap_or_default().trim_start_matches("0x");
    let made = guest.run("dmesg | grep 'created restricted DMA pool'")?;
    ensure!(!base.is_empty() && made.contains(base), "EL2 shares `{shared}`, and Linux says `{made}`");
    let given = guest.run("dmesg | grep -c 'assigned reserved memory node restricted-dma-pool'")?;
    ensure!(given.parse::<u32>().is_ok_and(|count| count > 0), "no device has the pool");
    let root = guest.run("grep ' / ' /proc/mounts")?;
    ensure!(root.contains("/dev/vda / ext4 rw"), "the root is {root}");
    Ok(())
}

fn fio(guest: &mut Guest) -> Result<()> {
    let said = guest.run_within(
        "fio --name=w --filename=/root/window --size=16m --rw=randrw --bs=4k-64k --ioengine=libaio --direct=1 --iodepth=16 --verify=crc32c --minimal >/dev/null; echo $?",
        LONG,
    )?;
    ensure!(said == "0", "fio ended with {said}");
    Ok(())
}

fn crash(guest: &mut Guest) -> Result<()> {
    guest.send(CRASH)?;
    guest.expect("[haechi] the secure domain serves again", BOOT)?;
    let sum = guest.run("echo 3 >/proc/sys/vm/drop_caches; cat /root/window | wc -c")?;
    ensure!(sum == (16 << 20).to_string(), "the file has {sum} bytes");
    Ok(())
}

/// Its rings and buffers lie where the secure domain reaches nothing: the first request already is refused, and the reason told.
fn stock_kernel(images: &Images, place: &Place) -> Result<()> {
    let machine = machine(images, place, &images.kernel(Linux::V6_12))?;
    let mut guest = Guest::start(&machine, place.inside("boot")?)?;
    guest.expect("[secure] virtual disk 0: malformed ring: ring outside the driver's memory", BOOT)?;
    let seen = guest.expect(PROMPT, REFUSED_FOR);
    ensure!(seen.is_err(), "Linux found its root");
    Ok(())
}
