//! The virtual disk as Linux uses it: data comes back as written, also over a reboot; what is offered works.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{BOOT, Guest, PROMPT};
use tests_qemu::images::SERIAL;
use tests_qemu::runner::{Group, check};

/// fio on an emulated machine that shares two cores.
const FIO: Duration = Duration::from_secs(240);

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("disk_is_writable_and_has_blocks_of_4096_bytes", |_, guest| blocks(guest)),
        check("disk_tells_its_serial", |_, guest| serial(guest)),
        check("fio_random_writes_at_depth_32_verify", |_, guest| fio(guest, 1)),
        check("fio_random_reads_and_writes_through_the_page_cache_verify", |_, guest| fio(guest, 0)),
        check("discard_works_where_offered", |_, guest| discard(guest)),
        check("write_zeroes_reads_back_as_zeros", |_, guest| write_zeroes(guest)),
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

fn discard(guest: &mut Guest) -> Result<()> {
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

fn write_zeroes(guest: &mut Guest) -> Result<()> {
    guest.run("dd if=/dev/urandom of=/root/zeroes bs=64k count=4 2>/dev/null && sync")?;
    // fio's trim phase is not used: fallocate on a file reaches the disk through ext4 as writes or as WRITE ZEROES.
    guest.run("fallocate -l 262144 /root/zeroes && dd if=/dev/zero of=/root/zeroes bs=64k count=2 conv=notrunc 2>/dev/null && sync")?;
    guest.run("echo 3 >/proc/sys/vm/drop_caches")?;
    let first = guest.run("dd if=/root/zeroes bs=64k count=2 2>/dev/null | cmp -n 131072 - /dev/zero && echo same")?;
    ensure!(first == "same", "zeros came back as {first}");
    guest.run("rm /root/zeroes").map(drop)
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
    guest.expect("[haechi] Haechi ", BOOT).context("the hypervisor did not come again")?;
    guest.expect(PROMPT, BOOT)?;
    guest.run("dmesg -n 1")?;
    let again = guest.run("sha256sum /root/kept")?;
    ensure!(sum == again, "written {sum}, read after the reboot {again}");
    let recovered = guest.run("dmesg | grep -c 'recovery complete'; true")?;
    ensure!(recovered == "0", "the filesystem was not clean after a reboot");
    Ok(())
}
