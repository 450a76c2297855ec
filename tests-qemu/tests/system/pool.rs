//! Two disks, two volumes: made as the board wants them, served in the approved profile under load, discarded, and whole though one disk is
//! damaged, or away for a while. Then another board, which wants a larger volume, another suite and another key, while they are used, and one of the disks in a
//! partition.
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::gpt;
use tests_qemu::guest::{BOOT, Guest, STOP};
use tests_qemu::images::{BLOCK_BYTES, Images, VICTIM, VICTIM_BLOCKS};
use tests_qemu::pair::Pair;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use xtask::anchor;
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

    let mut guest = pair.first.boot(images, place.inside("first")?, &disks)?;
    approved(&guest)?;
    created(&mut guest)?;
    both_under_load(&mut guest)?;
    discarded(&mut guest)?;
    healed_in_flight(&mut guest, &disks, &victim)?;
    fill(&mut guest)?;
    guest.power_off()?;
    let found = sealed::check_all(&disks, &pair.first.board)?;
    ensure!(found.bad == 0, "{} blocks are not what was sealed, first {:?}", found.bad, found.first_bad);

    without_the_second(images, &pair, place, &disks)?;
    let [first, second] = disks;
    let parted = Parted::around(&second, place)?;
    lying_table(images, &pair, place, &first, &parted)?;

    let disks = [first, parted.disk.clone()];
    let mut guest = pair.changed.boot(images, place.inside("changed")?, &disks)?;
    resealed_under_load(&mut guest)?;
    grown(&mut guest)?;
    reads_whole(&mut guest)?;
    // This board wants a reset to be the machine's.
    guest.send("reboot -f\n")?;
    guest.expect("[haechi] Haechi ", BOOT)?;
    guest.login()?;
    guest.power_off()?;
    parted.untouched_beside()?;
    victim.iter().try_for_each(|copies| flip(&disks, parted.inside(copies[1])))?;
    clean_for_the_host(&pair, &disks)
}

/// What Linux writes while the second disk is away.
const ALONE: &str = "/root/alone";

/// The machine starts without its second disk, and Linux reads and writes as if nothing were. The disk is back, catches up, and serves
/// alone then.
fn without_the_second(images: &Images, pair: &Pair, place: &Place, disks: &[PathBuf; 2]) -> Result<()> {
    let mut guest = pair.first.boot(images, place.inside("without")?, &disks[..1])?;
    says(&guest, "disk 1 failed and is not used any more")?;
    reads_whole(&mut guest)?;
    guest.run(&format!("dd if=/dev/urandom of={ALONE} bs=64k count=32 conv=fsync 2>/dev/null"))?;
    fio(&mut guest, "/dev/vdb", &format!("{FILLING} --verify_only"))?;
    let sum = guest.run(&format!("sha256sum {ALONE}"))?;
    guest.power_off()?;

    let mut guest = pair.first.boot(images, place.inside("back")?, disks)?;
    if says(&guest, CAUGHT_UP).is_err() {
        guest.expect(CAUGHT_UP, LONG)?;
    }
    ensure!(guest.run(&format!("sha256sum {ALONE}"))? == sum, "{ALONE} has changed");
    guest.power_off()?;

    let second = place.copy(&disks[1], "alone.img")?;
    fs::copy(anchor::beside(&disks[0]), anchor::beside(&second)).context("the anchor cannot be copied")?;
    let found = sealed::check_all(&[second], &pair.first.board)?;
    ensure!(found.bad == 0, "on the second disk {} blocks are bad, first {:?}", found.bad, found.first_bad);
    Ok(())
}

const CAUGHT_UP: &str = "disk 1 has caught up with its mirrors";

/// A disk with a member in one of its partitions.
struct Parted {
    disk: PathBuf,
    /// As it was at first.
    before: PathBuf,
    /// Bytes of the member.
    member: Range<u64>,
}

impl Parted {
    fn around(disk: &Path, place: &Place) -> Result<Self> {
        let parted = place.file("parted.img");
        let member = gpt::around(disk, &parted)?;
        Ok(Self { before: place.copy(&parted, "parted-before.img")?, disk: parted, member })
    }

    /// Where a block is now that lay on the second of two whole disks.
    fn inside(&self, (disk, at): Spot) -> Spot {
        (disk, if disk == 1 { self.member.start + at } else { at })
    }

    /// Table and neighbours are byte for byte what they were.
    fn untouched_beside(&self) -> Result<()> {
        let (before, now) = (File::open(&self.before)?, File::open(&self.disk)?);
        let len = before.metadata()?.len();
        ensure!(now.metadata()?.len() == len, "the disk has another length");
        for beside in [0..self.member.start, self.member.end..len] {
            let read = |file: &File| -> Result<Vec<u8>> {
                let mut bytes = vec![0; (beside.end - beside.start) as usize];
                file.read_exact_at(&mut bytes, beside.start)?;
                Ok(bytes)
            };
            ensure!(read(&before)? == read(&now)?, "bytes beside the member were written to, in {beside:?}");
        }
        Ok(())
    }
}

/// The disk whose table contradicts itself is left out with the reason, and not written to. This board is not served without it.
fn lying_table(images: &Images, pair: &Pair, place: &Place, first: &Path, parted: &Parted) -> Result<()> {
    let lying = place.copy(&parted.disk, "lying.img")?;
    gpt::overlap(&lying)?;
    let disks = [place.copy(first, "beside-lying.img")?, lying.clone()];
    let before = fs::read(&lying)?;
    let mut guest = Guest::start(&pair.changed.machine(images, &disks), place.inside("lying")?)?;
    guest.expect("[secure] disk 1 at 0xa003c00: partition entry 2 overlaps another", STOP)?;
    guest.expect("[secure] the pool has 2 disks, and only 1 of them is here", STOP)?;
    drop(guest);
    ensure!(fs::read(&lying)? == before, "the disk with the lying table was written to");
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

/// Ways to clear a part of a disk that leave zeros; util-linux's, by their places, because the shell has smaller ones of its own.
const CLEARING: [&str; 3] =
    ["/usr/sbin/blkdiscard -f --zeroout", "/usr/bin/fallocate --punch-hole", "/usr/bin/fallocate --zero-range"];

/// Discard and write-zeroes read back as zeros; the host tool sees later that the space is free.
fn discarded(guest: &mut Guest) -> Result<()> {
    let zeros = |guest: &mut Guest, blocks: u64| {
        guest.run(&format!("dd if=/dev/vdb bs=4k count={blocks} iflag=direct 2>/dev/null | tr -d '\\0' | wc -c"))
    };
    guest.run("dd if=/dev/urandom of=/dev/vdb bs=64k count=25 oflag=direct 2>&1")?;
    for (number, way) in CLEARING.iter().enumerate() {
        let at = number * 409_600;
        ensure!(zeros(guest, 100 * number as u64 + 1)? != "0", "`{way}` is no news");
        guest.run(&format!("{way} --offset {at} --length 409600 /dev/vdb 2>&1"))?;
        ensure!(zeros(guest, 100 * number as u64 + 100)? == "0", "what `{way}` cleared is not zeros");
    }
    ensure!(zeros(guest, 301)? != "0", "what was not zeroed is");
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

/// What fio writes into `data`, to be verified in another boot.
const FILLING: &str = "--size=32M --rw=randwrite";

fn fill(guest: &mut Guest) -> Result<()> {
    fio(guest, "/dev/vdb", FILLING)
}

/// Another key for one volume and another suite for the other, beneath fio, which finds what the last boot wrote before, during and after it.
fn resealed_under_load(guest: &mut Guest) -> Result<()> {
    says(guest, "volume \"system\" has a new key, epoch 2, ARIA-256-GCM: it is being resealed")?;
    says(guest, "volume \"data\" has a new key, epoch 2, ARIA-256-CCM: it is being resealed")?;
    let resealed = |guest: &Guest| guest.transcript().matches("its old key is destroyed").count();
    ensure!(resealed(guest) == 0, "a resealing was over before the load began");
    fio(guest, "/dev/vdb", &format!("{FILLING} --verify_only"))?;
    fio(guest, "/root/fio", "--size=3M --rw=randrw")?;
    fio(guest, "/dev/vdb", "--offset=40M --size=4M --rw=randrw")?;
    while resealed(guest) < 2 {
        guest.expect("its old key is destroyed", LONG)?;
    }
    fio(guest, "/dev/vdb", &format!("{FILLING} --verify_only"))?;
    guest.run("rm /root/fio").map(drop)
}

fn grown(guest: &mut Guest) -> Result<()> {
    says(guest, "volume \"data\" is grown to 80 MiB")?;
    let size = guest.run("cat /sys/block/vdb/size; dmesg | grep -c 'vdb.* new size: '")?;
    ensure!(size == format!("{}\n1", 80 << 11), "Linux sees sectors and notices of a new size: {size}");
    fio(guest, "/dev/vdb", "--offset=76M --size=4M --rw=randrw")
}

/// Mounted by the host tool: the volumes are as wanted, what was discarded takes no space, and a scrub heals the copies that nobody
/// has read.
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
    let healed = events.iter().filter(|event| matches!(event, volume::Event::Healed { .. })).count();
    ensure!(healed as u64 == VICTIM_BLOCKS, "of the second copies of the victim a scrub healed {healed}: {events:?}");
    let (mut pool, _) = sealed::mount_all(disks, board, Access::ReadWrite)?;
    pool.command(volume::Command::Scrub)?;
    let events = pool.events();
    ensure!(events.is_empty(), "a second scrub says {events:?}");
    pool.close()
}
