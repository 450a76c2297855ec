//! The virtual disk as Linux uses it: data comes back as written, also over a reboot; what is offered works.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{BOOT, Guest, PROMPT};
use tests_qemu::images::{BLOCK_BYTES, Images, SERIAL, VICTIM};
use tests_qemu::runner::{Group, check};

use crate::reset::AGAIN;

/// fio on an emulated machine that shares two cores.
const FIO: Duration = Duration::from_secs(240);

/// Blocks of the victim that are zeroed and discarded.
const ZEROED: u64 = 3;
const DISCARDED: u64 = 7;

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("disk_is_writable_and_has_blocks_of_4096_bytes", |_, guest| blocks(guest)),
        check("disk_tells_its_serial", |_, guest| serial(guest)),
        check("fio_random_writes_at_depth_32_verify", |_, guest| fio(guest, 1)),
        check("fio_random_reads_and_writes_through_the_page_cache_verify", |_, guest| fio(guest, 0)),
        check("fstrim_works_where_discard_is_offered", |_, guest| fstrim(guest)),
        check("write_zeroes_reads_back_as_zeros_for_that_block_alone", write_zeroes),
        check("discard_touches_that_block_alone", discard_block),
        check("disk_makes_interrupts_and_no_core_counts_errors", |_, guest| interrupts(guest)),
        check("reboot_brings_linux_back_with_its_data", |_, guest| reboot(guest)),
    ];
    vec![Group::shared("disk", |images, place| images.boot(place, |_| ()), checks)]
}

fn blocks(guest: &mut Guest) -> Result<()> {
    let facts = guest.run("cd /sys/block/vda; cat queue/logical_block_size ro queue/write_cache; cd")?;
    ensure!(facts == "4096\n0\nwrite back", "block size, read-only, cache: {facts}");
    Ok(())
}

fn serial(guest: &mut Guest) -> Result<()> {
    let serial = guest.run("cat /sys/block/vda/serial")?;
    ensure!(!serial.is_empty() && serial.len() <= 20, "the serial is `{serial}`");
    ensure!(serial != SERIAL, "the general domain sees the physical disk's serial");
    Ok(())
}

fn fio(guest: &mut Guest, direct: u32) -> Result<()> {
    let rw = if direct == 1 { "randwrite" } else { "randrw" };
    let job = format!(
        "fio --name=verify --filename=/root/fio --size=4M --bs=4k --rw={rw} --direct={direct} --ioengine=libaio --iodepth=32 \
         --verify=crc32c --verify_fatal=1 --fallocate=none --randseed=7 --output-format=terse --terse-version=3"
    );
    let output = guest.run_within(&job, FIO)?;
    let terse = output.lines().find(|line| line.starts_with("3;")).context("fio printed no result")?;
    // Field 5 of the terse format, version 3, is the error (fio HOWTO, "Terse output").
    ensure!(terse.split(';').nth(4) == Some("0"), "fio reports an error: {terse}");
    guest.run("rm /root/fio").map(drop)
}

fn fstrim(guest: &mut Guest) -> Result<()> {
    let offered = guest.run("cat /sys/block/vda/queue/discard_max_bytes")?;
    let (output, status) = guest.status_of("fstrim -v /", Duration::from_secs(120))?;
    if offered == "0" {
        ensure!(status != 0, "discard is not offered, yet fstrim says: {output}");
        return Ok(());
    }
    ensure!(status == 0, "fstrim ended with {status}: {output}");
    let sum = guest.run("sha256sum /bin/busybox; echo 3 >/proc/sys/vm/drop_caches; sha256sum /bin/busybox")?;
    let mut lines = sum.lines();
    ensure!(lines.next() == lines.next(), "a file changed through fstrim: {sum}");
    Ok(())
}

/// On one block of a file whose place on the disk is known, past the filesystem.
fn write_zeroes(images: &Images, guest: &mut Guest) -> Result<()> {
    let offered = guest.run("cat /sys/block/vda/queue/write_zeroes_max_bytes")?;
    ensure!(offered != "0", "WRITE ZEROES is not offered");
    punch(images, guest, "--zeroout", ZEROED)?;
    let zeros = guest.run(&format!(
        "dd if={VICTIM} bs=4096 skip={ZEROED} count=1 2>/dev/null | cmp -n 4096 - /dev/zero && echo zeros"
    ))?;
    ensure!(zeros == "zeros", "the block that was zeroed reads as {zeros}");
    neighbours(guest, ZEROED)
}

/// A discarded block reads as anything but an error; its neighbours keep what they hold.
fn discard_block(images: &Images, guest: &mut Guest) -> Result<()> {
    if guest.run("cat /sys/block/vda/queue/discard_max_bytes")? == "0" {
        return Ok(());
    }
    punch(images, guest, "", DISCARDED)?;
    guest.run(&format!("dd if={VICTIM} of=/dev/null bs=4096 skip={DISCARDED} count=1 2>&1"))?;
    neighbours(guest, DISCARDED)
}

fn punch(images: &Images, guest: &mut Guest, how: &str, block: u64) -> Result<()> {
    let offset = images.victim[block as usize] * BLOCK_BYTES;
    guest.run(&format!("/usr/sbin/blkdiscard -f {how} -o {offset} -l {BLOCK_BYTES} /dev/vda 2>&1"))?;
    guest.run("sync; echo 3 >/proc/sys/vm/drop_caches").map(drop)
}

fn neighbours(guest: &mut Guest, block: u64) -> Result<()> {
    for near in [block - 1, block + 1] {
        let text = guest.run(&format!("dd if={VICTIM} bs=4096 skip={near} count=1 2>/dev/null | head -n 1"))?;
        ensure!(text == format!("block {near:02} of the victim"), "block {near} beside it holds {text}");
    }
    Ok(())
}

fn interrupts(guest: &mut Guest) -> Result<()> {
    let table = guest.run("cat /proc/interrupts")?;
    let count = |line: &str| line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum::<u64>();
    let disk = table.lines().find(|line| line.contains("virtio0")).context("no line for virtio0")?;
    ensure!(count(disk) > 0, "the disk made no interrupts: {disk}");
    let errors = table.lines().find(|line| line.trim_start().starts_with("Err:")).context("no line for errors")?;
    ensure!(count(errors) == 0, "spurious or unhandled interrupts: {errors}");
    Ok(())
}

fn reboot(guest: &mut Guest) -> Result<()> {
    let sum =
        guest.run("dd if=/dev/urandom of=/root/kept bs=4k count=256 2>/dev/null && sync && sha256sum /root/kept")?;
    guest.send("reboot\n")?;
    guest.expect(AGAIN, BOOT).context("Linux is not started again")?;
    guest.expect(PROMPT, BOOT)?;
    guest.run("dmesg -n 1")?;
    let again = guest.run("sha256sum /root/kept")?;
    ensure!(sum == again, "written {sum}, read after the reboot {again}");
    let recovered = guest.run("dmesg | grep -c 'recovery complete'; true")?;
    ensure!(recovered == "0", "the filesystem was not clean after a reboot");
    Ok(())
}
