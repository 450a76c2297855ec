//! A block that somebody changed on the physical disk is an I/O error for that block alone.
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::{COMMAND, Guest};
use tests_qemu::images::{BLOCK_BYTES, Images, VICTIM, VICTIM_BLOCKS};
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, check};

/// The victim's block whose ciphertext gets one bit flipped.
const FLIPPED: u64 = 5;
/// The victim's blocks that are exchanged with each other, whole.
const SWAPPED: [u64; 2] = [9, 11];

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("flipped_bit_is_an_io_error_for_that_block_alone", |_, guest| {
            reads(guest)?;
            Ok(())
        }),
        check("secure_domain_names_the_block_on_the_console", named),
        check("blocks_in_each_others_place_are_io_errors", |_, guest| swapped(guest)),
        check("neighbours_are_what_was_written", |_, guest| neighbours(guest)),
        check("block_heals_when_it_is_written_anew", |_, guest| heals(guest)),
        check("system_lives_on", |_, guest| lives_on(guest)),
    ];
    vec![Group::shared("integrity", boot, checks)]
}

fn boot(images: &Images, place: Place) -> Result<Guest> {
    let disk = place.copy(&images.disk, "disk.img")?;
    let at = |block: u64| place_of(images, &disk, block);
    flip(&disk, at(FLIPPED)? + 1234)?;
    swap(&disk, at(SWAPPED[0])?, at(SWAPPED[1])?)?;
    images.boot_disk(place, &disk, |_| ())
}

/// Offset on the disk of a block of the victim.
fn place_of(images: &Images, disk: &Path, block: u64) -> Result<u64> {
    let block = images.victim.get(block as usize).context("the victim has that block")?;
    Ok(xtask::sealed::locate(disk, *block, &images.board)? * BLOCK_BYTES)
}

fn flip(disk: &Path, offset: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(disk)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 0x10;
    Ok(file.write_all_at(&byte, offset)?)
}

fn swap(disk: &Path, one: u64, other: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(disk)?;
    let (mut first, mut second) = ([0; BLOCK_BYTES as usize], [0; BLOCK_BYTES as usize]);
    file.read_exact_at(&mut first, one)?;
    file.read_exact_at(&mut second, other)?;
    file.write_all_at(&second, one)?;
    Ok(file.write_all_at(&first, other)?)
}

/// Reads one block of the victim past the page cache.
fn read(guest: &mut Guest, block: u64) -> Result<(String, i32)> {
    guest.status_of(
        &format!(
            "dd if={VICTIM} bs=4096 skip={block} count=1 iflag=direct 2>&1 | head -c 200; \
         dd if={VICTIM} bs=4096 skip={block} count=1 iflag=direct >/dev/null 2>&1"
        ),
        COMMAND,
    )
}

fn reads(guest: &mut Guest) -> Result<()> {
    let (output, status) = read(guest, FLIPPED)?;
    ensure!(status != 0, "the changed block was read: {output}");
    ensure!(output.contains("Input/output error") || output.contains("I/O error"), "not an I/O error: {output}");
    ensure!(!output.contains("of the victim"), "bytes of a changed block reached the guest: {output}");
    Ok(())
}

fn named(images: &Images, guest: &mut Guest) -> Result<()> {
    reads(guest)?;
    let block = images.victim[FLIPPED as usize];
    let expected = format!("block {block}: wrong tag");
    let transcript = guest.transcript();
    let named = transcript.lines().any(|line| line.starts_with("[secure] ") && line.contains(&expected));
    ensure!(named, "no `[secure]` line with `{expected}`");
    Ok(())
}

fn swapped(guest: &mut Guest) -> Result<()> {
    for block in SWAPPED {
        let (output, status) = read(guest, block)?;
        ensure!(status != 0, "a block in another's place was read: {output}");
    }
    Ok(())
}

fn neighbours(guest: &mut Guest) -> Result<()> {
    for block in (0..VICTIM_BLOCKS).filter(|block| *block != FLIPPED && !SWAPPED.contains(block)) {
        let (output, status) = read(guest, block)?;
        ensure!(status == 0, "block {block} of the victim cannot be read: {output}");
        ensure!(output.starts_with(&format!("block {block:02} of the victim\n")), "block {block} holds {output}");
    }
    Ok(())
}

fn heals(guest: &mut Guest) -> Result<()> {
    guest.run(&format!(
        "dd if=/dev/zero of={VICTIM} bs=4096 seek={FLIPPED} count=1 conv=notrunc oflag=direct 2>/dev/null && sync"
    ))?;
    let healed = guest.run(&format!(
        "dd if={VICTIM} bs=4096 skip={FLIPPED} count=1 iflag=direct 2>/dev/null | cmp -n 4096 - /dev/zero && echo zeros"
    ))?;
    ensure!(healed == "zeros", "the block that was written anew reads as {healed}");
    Ok(())
}

fn lives_on(guest: &mut Guest) -> Result<()> {
    guest.run("echo alive >/root/alive && sync && echo 3 >/proc/sys/vm/drop_caches")?;
    let said = guest.run("cat /root/alive; grep -c ' / ext4 rw' /proc/mounts")?;
    ensure!(said == "alive\n1", "the root filesystem is not as before: {said}");
    Ok(())
}
