//! Two disks, two volumes: made as the board wants them, served under load, discarded, and whole though one disk is damaged; then
//! another board, which wants a larger volume and another suite, while it is used.
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::{BLOCK_BYTES, Images, VICTIM, VICTIM_BLOCKS};
use tests_qemu::pair::Pair;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use xtask::sealed::{self, Access};

/// fio or a resealing on an emulated machine that shares two cores.
const LONG: Duration = Duration::from_secs(300);

pub(crate) fn groups() -> Vec<Group> {
    vec![Group::each("pool", vec![alone("volumes_are_as_the_board_wants_them_whatever_happens_to_one_disk", story)])]
}

/// One life of two disks. It is one test, because every boot begins with what the one before left.
fn story(images: &Images, place: &Place) -> Result<()> {
    let pair = Pair::make(images)?;
    let disks = pair.copy(place)?;
    let victim = victim(images, &pair, &disks)?;

    let mut guest = pair.first.boot(images, place.inside("first")?, &disks, |_| ())?;
    created(&mut guest)?;
    both_under_load(&mut guest)?;
    discarded(&mut guest)?;
    healed_in_flight(&mut guest, &disks[0], &victim)?;
    fill(&mut guest)?;
    guest.power_off()?;
    let found = sealed::check_all(&disks, &pair.first.board)?;
    ensure!(found.bad == 0, "{} blocks are not what was sealed, first {:?}", found.bad, found.first_bad);

    victim.iter().try_for_each(|copies| flip(&disks[1], copies[1]))?;
    let mut guest = pair.changed.boot(images, place.inside("changed")?, &disks, |_| ())?;
    resealed_under_load(&mut guest)?;
    grown(&mut guest)?;
    reads_whole(&mut guest)?;
    guest.power_off()?;
    clean_for_the_host(&pair, &disks)
}

/// Where the two copies of each block of the victim lie, in bytes.
fn victim(images: &Images, pair: &Pair, disks: &[PathBuf]) -> Result<Vec<[u64; 2]>> {
    let (pool, _) = sealed::mount_all(disks, &pair.first.board, Access::ReadOnly)?;
    let volume = pool.volume(sealed::VOLUME)?.number;
    let place = |block: u64, disk: usize| -> Result<u64> {
        let mut copies = (0..2).filter_map(|copy| pool.pool().locate(volume, block, copy));
        let (_, block) = copies.find(|(given, _)| *given == disk).context("each disk has a copy")?;
        Ok(block * BLOCK_BYTES)
    };
    images.victim.iter().map(|block| Ok([place(*block, 0)?, place(*block, 1)?])).collect()
}

/// Flips a bit of the block at byte `at`.
fn flip(disk: &Path, at: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(disk)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + 99)?;
    Ok(file.write_all_at(&[byte[0] ^ 4], at + 99)?)
}

fn says(guest: &Guest, what: &str) -> Result<()> {
    let said = guest.transcript().lines().any(|line| line.starts_with("[secure] ") && line.contains(what));
    ensure!(said, "the secure domain does not say `{what}`");
    Ok(())
}

fn created(guest: &mut Guest) -> Result<()> {
    says(guest, "disk 0: ")?;
    says(guest, "disk 1: ")?;
    says(guest, "volume \"data\" is created: 64 MiB, mirrored, SEED-128-GCM")?;
    let serials = guest.run("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial")?;
    ensure!(serials == "system\ndata", "the virtual disks are {serials}");
    let size = guest.run("cat /sys/block/vdb/size")?;
    ensure!(size == (64 << 11).to_string(), "the volume has {size} sectors");
    Ok(())
}

fn job(file: &str, more: &str) -> String {
    format!(
        "fio --name=verify --filename={file} --bs=4k --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c \
         --verify_fatal=1 --fallocate=none --randseed=7 --output-format=terse --terse-version=3 {more} | grep '^3;' | cut -d ';' -f 5"
    )
}

/// Field 5 of fio's terse format, version 3, is the error (fio HOWTO, "Terse output").
fn fio(guest: &mut Guest, file: &str, more: &str) -> Result<()> {
    let error = guest.run_within(&job(file, more), LONG)?;
    ensure!(error == "0", "fio reports error {error} of {file}");
    Ok(())
}

/// ARIA on one, SEED on the other.
fn both_under_load(guest: &mut Guest) -> Result<()> {
    let (one, other) = (job("/root/fio", "--size=3M --rw=randrw"), job("/dev/vdb", "--size=3M --rw=randrw"));
    let errors = guest.run_within(&format!("({one}) >/tmp/one & {other}; wait; cat /tmp/one; rm /root/fio"), LONG)?;
    ensure!(errors == "0\n0", "fio reports errors {errors}");
    Ok(())
}

/// Discard and write-zeroes read back as zeros; the host tool sees later that the space is free.
fn discarded(guest: &mut Guest) -> Result<()> {
    let zeros = |guest: &mut Guest, blocks: u64| {
        guest.run(&format!("dd if=/dev/vdb bs=4k count={blocks} iflag=direct 2>/dev/null | tr -d '\\0' | wc -c"))
    };
    guest.run("/usr/sbin/blkdiscard -f --zeroout -o 0 -l 409600 /dev/vdb 2>&1")?;
    ensure!(zeros(guest, 100)? == "0", "what was zeroed is not zeros");
    ensure!(zeros(guest, 700)? != "0", "what was not zeroed is");
    guest.run("/usr/sbin/blkdiscard -f /dev/vdb 2>&1")?;
    ensure!(zeros(guest, 1024)? == "0", "what was discarded is not zeros");
    Ok(())
}

/// The file of one disk is changed under the running machine: Linux reads what it wrote, and the copy is good again.
fn healed_in_flight(guest: &mut Guest, disk: &Path, victim: &[[u64; 2]]) -> Result<()> {
    victim.iter().try_for_each(|copies| flip(disk, copies[0]))?;
    reads_whole(guest)?;
    reads_whole(guest)?;
    says(guest, "a bad copy was rewritten")
}

/// The victim, past the page cache.
fn reads_whole(guest: &mut Guest) -> Result<()> {
    for block in 0..VICTIM_BLOCKS {
        let line = guest.run(&format!("dd if={VICTIM} bs=4096 skip={block} count=1 iflag=direct 2>&1 | head -n 1"))?;
        ensure!(line == format!("block {block:02} of the victim"), "block {block} of the victim reads as {line}");
    }
    let errors = guest.run("dmesg | grep -c 'I/O error'; true")?;
    ensure!(errors == "0", "Linux saw {errors} I/O errors");
    Ok(())
}

/// What fio writes into `data`, to be verified in another boot.
const FILLING: &str = "--size=32M --rw=randwrite";

fn fill(guest: &mut Guest) -> Result<()> {
    fio(guest, "/dev/vdb", FILLING)
}

/// The change of suite goes on beneath fio, which finds what the last boot wrote before, during and after it.
fn resealed_under_load(guest: &mut Guest) -> Result<()> {
    says(guest, "volume \"data\" has a new key, epoch 2, ARIA-256-CCM: it is being resealed")?;
    ensure!(!guest.transcript().contains("its old key is destroyed"), "the resealing was over before the load began");
    fio(guest, "/dev/vdb", &format!("{FILLING} --verify_only"))?;
    fio(guest, "/dev/vdb", "--offset=40M --size=4M --rw=randrw")?;
    if !guest.transcript().contains("its old key is destroyed") {
        guest.expect("its old key is destroyed", LONG)?;
    }
    fio(guest, "/dev/vdb", &format!("{FILLING} --verify_only"))
}

fn grown(guest: &mut Guest) -> Result<()> {
    says(guest, "volume \"data\" is grown to 80 MiB")?;
    let size = guest.run("cat /sys/block/vdb/size; dmesg | grep -c 'vdb.* new size: '")?;
    ensure!(size == format!("{}\n1", 80 << 11), "Linux sees sectors and notices of a new size: {size}");
    fio(guest, "/dev/vdb", "--offset=76M --size=4M --rw=randrw")
}

/// Mounted by the host tool: nothing is bad, the volumes are as wanted, and what was discarded takes no space.
fn clean_for_the_host(pair: &Pair, disks: &[PathBuf]) -> Result<()> {
    let board = &pair.changed.board;
    let (mut pool, _) = sealed::mount_all(disks, board, Access::ReadWrite)?;
    let data = pool.volume("data")?;
    ensure!((data.epoch, data.suite.name(), data.resealing) == (2, "ARIA-256-CCM", None), "it is {data:?}");
    // 32 MiB from the beginning, 4 at 40, 4 at 76, in extents of 4 MiB, twice.
    ensure!(data.extents == 20, "the volume takes {} extents", data.extents);
    pool.command(volume::Command::Scrub)?;
    let events = pool.events();
    pool.close()?;
    ensure!(
        events.iter().all(|event| matches!(event, volume::Event::Healed { .. } | volume::Event::TagMismatch { .. })),
        "scrub says {events:?}"
    );
    let (mut pool, _) = sealed::mount_all(disks, board, Access::ReadWrite)?;
    pool.command(volume::Command::Scrub)?;
    let events = pool.events();
    ensure!(events.is_empty(), "a second scrub says {events:?}");
    pool.close()
}
