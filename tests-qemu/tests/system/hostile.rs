//! A guest that does a million random wrong things: EL2 and the secure domain live, and a volume that nobody drives stays as it was.
//!
//! Two runs: one core, which repeats exactly for its seed, and four, of which one rewrites the rings while the device reads them. The
//! seeds are printed; `HAECHI_TEST_SEED=HEX` gives another.
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use volume::operation::Command;
use volume::{FormatOptions, Layout, Name};
use xtask::sealed::{self, Access};

/// Cases of the two runs: together a million and more.
const ALONE: u64 = 700_000;
const TOGETHER: u64 = 350_000;
/// Where nobody gives one.
const SEED: &str = "4861656368690001";
/// One run, on a machine that is busy with others.
const RUN: Duration = Duration::from_secs(600);
/// The volume that nobody drives.
const IDLE: &str = "idle";
const IDLE_BLOCKS: u64 = 256;

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        alone("a_million_wrong_things_harm_nobody", |images, place| hostile(images, place, 1, ALONE)),
        alone("nor_do_they_from_four_cores", |images, place| hostile(images, place, 4, TOGETHER)),
    ];
    vec![Group::each("hostile", checks)]
}

fn hostile(images: &Images, place: &Place, smp: u32, cases: u64) -> Result<()> {
    let disk = place.file("disk.img");
    let new = FormatOptions::default();
    sealed::seal(&images.small_plain, &disk, Some(64 << 20), sealed::DEFAULT_SUITE, &new, &images.board)?;
    plant(&disk, images)?;

    let seed = std::env::var("HAECHI_TEST_SEED").unwrap_or_else(|_| SEED.into());
    let mut machine = images.machine(&disk);
    machine.initrd = Some(images.probe_bundle());
    machine.append = format!("probe.only=hostile probe.cases={cases} probe.seed={seed}");
    machine.smp = smp;
    let mut guest = Guest::start(&machine, place.inside("boot")?)?;
    let finished = guest.expect(" failed\n", RUN).with_context(|| format!("the run with seed {seed} did not finish"));
    let text = guest.transcript();
    ensure!(text.contains("[secure] virtual disk 1: `idle`"), "the idle volume is not served");
    finished?;
    ensure!(text.contains(&format!("alive_after_{cases} PASS")), "not all cases of seed {seed} were tried");
    ensure!(text.contains("probe: 3 passed, 0 failed\n"), "the machine does not work after seed {seed}");
    ensure!(!text.contains("has crashed"), "seed {seed} crashes the secure domain");
    let status = guest.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "QEMU ended with {status}");
    untouched(&disk, place, images)
}

/// What block `index` of the idle volume holds.
fn pattern(index: u64) -> Vec<u8> {
    let line = format!("block {index:04} of the volume that nobody drives\n");
    line.bytes().cycle().take(volume::BLOCK_BYTES).collect()
}

/// Makes the idle volume.
fn plant(disk: &Path, images: &Images) -> Result<()> {
    let (mut pool, _) = sealed::mount(disk, &images.board, Access::ReadWrite)?;
    let name = Name::new(IDLE).context("the name is one")?;
    let suite = sealed::DEFAULT_SUITE;
    pool.command(Command::Create { name, layout: Layout::Linear, blocks: IDLE_BLOCKS, suite })?;
    let volume = pool.volume(IDLE)?.number;
    let fill = |first: u64, out: &mut [u8]| {
        for (index, block) in (first..).zip(out.chunks_exact_mut(volume::BLOCK_BYTES)) {
            block.copy_from_slice(&pattern(index));
        }
        Ok(true)
    };
    pool.write(volume, IDLE_BLOCKS, fill, |_| ())?;
    pool.close()
}

/// Every block of the idle volume is as it was sealed, and every block of the disk opens.
fn untouched(disk: &Path, place: &Place, images: &Images) -> Result<()> {
    let found = sealed::check(disk, &images.board)?;
    ensure!(found.bad == 0, "{} blocks are not what was sealed, first {:?}", found.bad, found.first_bad);
    let plain = place.file("idle.img");
    sealed::unseal(&[disk.to_owned()], &plain, IDLE, &images.board)?;
    let bytes = std::fs::read(&plain)?;
    for index in 0..IDLE_BLOCKS {
        let at = index as usize * volume::BLOCK_BYTES;
        ensure!(bytes[at..][..volume::BLOCK_BYTES] == pattern(index), "block {index} of the idle volume has changed");
    }
    Ok(())
}
