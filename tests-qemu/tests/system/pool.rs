//! Two disks, two volumes: made as the board wants them, served in the approved profile under load, discarded, and whole though one disk is
//! damaged.
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
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

/// One boot of two disks, and what the host finds on them afterwards.
fn story(images: &Images, place: &Place) -> Result<()> {
    let pair = Pair::make(images)?;
    let disks = pair.copy(place)?;
    let victim = victim(images, &pair, &disks)?;

    let mut guest = pair.first.boot(images, place.inside("first")?, &disks, |_| ())?;
    approved(&guest)?;
    created(&mut guest)?;
    both_under_load(&mut guest)?;
    discarded(&mut guest)?;
    healed_in_flight(&mut guest, &disks, &victim)?;
    fill(&mut guest)?;
    guest.power_off()?;
    let found = sealed::check_all(&disks, &pair.first.board)?;
    ensure!(found.bad == 0, "{} blocks are not what was sealed, first {:?}", found.bad, found.first_bad);

    Ok(())
}

/// A block on a disk: which, and where in bytes.
type Spot = (usize, u64);

/// Where the two copies of each block of the victim lie. Linux reads the first one, while it is good.
fn victim(images: &Images, pair: &Pair, disks: &[PathBuf]) -> Result<Vec<[Spot; 2]>> {
    let (pool, _) = sealed::mount_all(disks, &pair.first.board, Access::ReadOnly)?;
    let volume = pool.volume(sealed::VOLUME)?.number;
    let spot = |block: u64, copy: usize| -> Result<Spot> {
        let (disk, block) = pool.pool().locate(volume, block, copy).context("a block of the victim lies nowhere")?;
        Ok((disk, block * BLOCK_BYTES))
    };
    let victim: Result<Vec<_>> = images.victim.iter().map(|block| Ok([spot(*block, 0)?, spot(*block, 1)?])).collect();
    let victim = victim?;
    ensure!(victim.iter().all(|[one, other]| one.0 != other.0), "both copies of a block are on one disk");
    Ok(victim)
}

/// Flips a bit of a block.
fn flip(disks: &[PathBuf], (disk, at): Spot) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(&disks[disk])?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + 99)?;
    Ok(file.write_all_at(&[byte[0] ^ 4], at + 99)?)
}

fn says(guest: &Guest, what: &str) -> Result<()> {
    let said = guest.transcript().lines().any(|line| line.starts_with("[secure] ") && line.contains(what));
    ensure!(said, "the secure domain does not say `{what}`");
    Ok(())
}

/// The board asks for the approved profile: the module's own status says so, before the disks are touched, and what is served below is
/// served in it.
fn approved(guest: &Guest) -> Result<()> {
    let console = guest.transcript();
    let module = console.find("[secure] Haechi Crypto Module").context("the module says nothing")?;
    let line = console[module..].lines().next().unwrap_or_default();
    ensure!(line.contains(": self-tests passed, state approved, profile kcmvp, "), "the module says `{line}`");
    ensure!(console.find("[secure] disk 0: ") > Some(module), "the disk came before the self-tests");
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
fn healed_in_flight(guest: &mut Guest, disks: &[PathBuf], victim: &[[Spot; 2]]) -> Result<()> {
    victim.iter().try_for_each(|copies| flip(disks, copies[0]))?;
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

fn fill(guest: &mut Guest) -> Result<()> {
    fio(guest, "/dev/vdb", "--size=32M --rw=randwrite")
}
