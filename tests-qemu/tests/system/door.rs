//! `./x run` refuses what it cannot boot, and `./x disk` what it cannot read: one clear sentence, a code other than 0, nothing started or
//! written.
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tests_qemu::images::{Images, Linux};
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use xtask::toolchain::Toolchain;
use xtask::{paths, process};

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        alone("refuses_a_missing_kernel", |_, _| refused(&["--kernel", "/no/such/kernel"], &["/no/such/kernel"])),
        alone("refuses_a_truncated_kernel", truncated_kernel),
        alone("refuses_what_is_no_kernel", no_kernel),
        alone("refuses_wrong_numbers_of_cores", |_, _| {
            ["0", "9", "-1", "many", ""].iter().try_for_each(|wrong| refused(&[&format!("--smp={wrong}")], &["--smp"]))
        }),
        alone("refuses_wrong_sizes_of_memory", |_, _| {
            ["0", "1X", "-5", ""].iter().try_for_each(|wrong| refused(&[&format!("--mem={wrong}")], &["--mem"]))
        }),
        alone("refuses_an_unknown_core", |_, _| refused(&["--cpu", "cortex-q1"], &["cortex-q1"])),
        alone("refuses_an_unknown_interrupt_controller", |_, _| refused(&["--gic", "4"], &["--gic", "2 or 3"])),
        alone("refuses_an_unknown_board", |_, _| {
            refused(&["--board", "no-such-board"], &["no-such-board", "qemu-virt"])
        }),
        alone("refuses_a_board_that_wants_aes_in_the_approved_profile", aes_in_kcmvp),
        alone("refuses_what_is_no_board", |_, place| no_board(place)),
        alone("refuses_a_missing_disk", |_, _| refused(&["--disk", "/no/such/disk"], &["/no/such/disk"])),
        alone("refuses_a_plain_disk", |images, _| {
            let plain = images.small_plain.to_string_lossy().into_owned();
            refused(&["--disk", &plain], &["small.ext4", "not a Haechi disk"])
        }),
        alone("refuses_a_missing_initrd", |_, _| refused(&["--initrd", "/no/such/initrd"], &["/no/such/initrd"])),
        alone("refuses_an_empty_initrd", empty_initrd),
        alone("refuses_a_disk_and_a_fresh_one", |_, _| {
            refused(&["--disk", "a", "--fresh-disk", "1G"], &["--disk", "--fresh-disk"])
        }),
        alone("refuses_an_unknown_flag", |_, _| refused(&["--no-such-flag"], &["--no-such-flag"])),
        alone("disk_verbs_refuse_whatever_is_no_disk_of_the_board", no_disk),
        alone("dry_run_prints_qemus_command_line", |_, _| dry_run()),
    ];
    vec![Group::each("door", checks)]
}

/// The tool itself, built once before.
fn tool() -> Result<PathBuf> {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    if let Some(tool) = BUILT.get() {
        return Ok(tool.clone());
    }
    let mut cargo = Toolchain::ensure()?.cargo();
    process::capture(cargo.args(["build", "--quiet", "--profile", "host", "--package", "xtask"]))?;
    Ok(BUILT.get_or_init(|| paths::cargo_target().join("host/xtask")).clone())
}

fn run(arguments: &[&str]) -> Result<Output> {
    call(&[&["run", "--dry-run"], arguments].concat())
}

fn call(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(tool()?);
    command.args(arguments).current_dir(paths::workspace()).output().context("the tool can be started")
}

fn refused(arguments: &[&str], names: &[&str]) -> Result<()> {
    refused_call(&[&["run", "--dry-run"], arguments].concat(), names)
}

fn refused_call(arguments: &[&str], names: &[&str]) -> Result<()> {
    let output = call(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    ensure!(!output.status.success(), "`{arguments:?}` was taken");
    ensure!(output.stdout.is_empty(), "a refusal printed: {}", String::from_utf8_lossy(&output.stdout));
    ensure!(said.lines().count() == 1 && said.starts_with("x: "), "`{arguments:?}` is not told one sentence: {said}");
    for name in names {
        ensure!(said.contains(name), "the refusal does not name `{name}`: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

fn aes_in_kcmvp(_: &Images, place: &Place) -> Result<()> {
    let pair = std::fs::read_to_string(board_configs::directory().join("qemu-virt-pair.toml"))?;
    let file = place.file("qemu-virt-pair.toml");
    std::fs::write(&file, pair.replacen("\"seed-128-gcm\"", "\"aes-256-gcm\"", 1))?;
    let says = "volume[1].suite is \"aes-256-gcm\", which crypto.profile \"kcmvp\" does not list";
    refused(&["--board", &file.to_string_lossy()], &["qemu-virt-pair.toml", says])
}

fn truncated_kernel(images: &Images, place: &Place) -> Result<()> {
    let whole = std::fs::read(images.kernel(Linux::V6_1))?;
    let file = place.file("cut-kernel");
    for len in [whole.len() / 2, 100, 0] {
        std::fs::write(&file, &whole[..len])?;
        refused(&["--kernel", &file.to_string_lossy()], &["cut-kernel"]).with_context(|| format!("{len} bytes"))?;
    }
    Ok(())
}

fn no_kernel(images: &Images, place: &Place) -> Result<()> {
    let file = place.file("text");
    std::fs::write(&file, "not a kernel\n".repeat(1000))?;
    refused(&["--kernel", &file.to_string_lossy()], &["text", "no arm64 Image"])?;
    refused(&["--kernel", &images.initrd.to_string_lossy()], &["initrd.img"])?;
    refused(&["--kernel", "/"], &["/"])
}

/// Files that are no board, and the project's own board with one thing wrong.
fn no_board(place: &Place) -> Result<()> {
    let board = std::fs::read_to_string(board_configs::directory().join("qemu-virt.toml"))?;
    let wrong = |from: &str, to: &str| -> Result<Vec<u8>> {
        ensure!(board.contains(from), "the board does not say `{from}`");
        Ok(board.replacen(from, to, 1).into_bytes())
    };
    let cases = [
        ("empty.toml", Vec::new(), "name"),
        ("text.toml", b"not a board\n".repeat(1000), "line 1"),
        ("bytes.toml", (0..=255).cycle().take(10_000).collect(), "cannot read"),
        ("cut.toml", board.as_bytes()[..board.len() / 2].to_vec(), "missing field"),
        ("qemu-virt.toml", wrong("slice_us = 1000", "slice_us = 10")?, "slice_us"),
        ("qemu-virt.toml", wrong("slice_us", "slices_us")?, "slices_us"),
        ("qemu-virt.toml", wrong("first_intid = 224", "first_intid = 9000")?, "first_intid"),
        ("qemu-virt.toml", wrong("devices = 8", "devices = 9")?, "devices"),
        ("qemu-virt.toml", wrong("0x0b00_0000", "0x0a00_3000")?, "overlap"),
        ("qemu-virt.toml", wrong("\"open\"", "\"opened\"")?, "opened"),
        ("other-name.toml", board.clone().into_bytes(), "other-name"),
    ];
    for (name, bytes, names) in cases {
        let file = place.file(name);
        std::fs::write(&file, bytes)?;
        refused(&["--board", &file.to_string_lossy()], &[name, names])?;
    }
    refused(&["--board", &place.file("").to_string_lossy()], &["cannot read", "door"])
}

/// Every verb that reads a disk, on files that are none, on a disk with something missing, and on another device's.
fn no_disk(images: &Images, place: &Place) -> Result<()> {
    let file = |name: &str| place.file(name).to_string_lossy().into_owned();
    let sealed = std::fs::read(&images.small_disk)?;
    for (name, bytes) in [("empty.img", &[][..]), ("noise.img", &[0x5a; 1 << 20]), ("cut.img", &sealed[..1 << 20])] {
        std::fs::write(place.file(name), bytes)?;
        xtask::anchor::create(&place.file(name))?;
    }
    for name in ["alone.img", "short.img"] {
        std::fs::copy(&images.small_disk, place.file(name))?;
    }
    std::fs::write(xtask::anchor::beside(&place.file("short.img")), [0xff; 100])?;
    place.copy(&images.small_disk, "good.img")?;
    let board = std::fs::read_to_string(board_configs::directory().join("qemu-virt.toml"))?;
    std::fs::write(place.file("qemu-virt.toml"), board.replace("48616563", "58616563"))?;
    std::fs::create_dir(place.file("directory.img"))?;

    let (other_key, here, good) = (file("qemu-virt.toml"), "qemu-virt", "good.img");
    let cases = [
        (here, "missing.img", "No such file"),
        (here, "directory.img", "irectory"),
        (here, "empty.img", "not a Haechi disk"),
        (here, "noise.img", "not a Haechi disk"),
        (here, "cut.img", "too small"),
        (here, "alone.img", "alone.img.anchor is missing"),
        (here, "short.img", "too short for an anchor"),
        (other_key.as_str(), good, "another device's disk"),
    ];
    for (board, name, why) in cases {
        let (disk, before) = (file(name), std::fs::read(place.file(name)).ok());
        for verb in ["info", "check", "scrub", "unseal"] {
            let plain = file("plain.out");
            let mut arguments = vec!["disk", "--board", board, verb, &disk];
            arguments.extend((verb == "unseal").then_some(plain.as_str()));
            refused_call(&arguments, &[name, why])?;
            ensure!(!place.file("plain.out").exists(), "{name} was unsealed");
        }
        ensure!(std::fs::read(place.file(name)).ok() == before, "{name} was written to");
    }
    dumped(place)
}

/// A dump tells what is there, whatever it is, unless there is no file.
fn dumped(place: &Place) -> Result<()> {
    for name in ["missing.img", "directory.img"] {
        refused_call(&["disk", "dump", &place.file(name).to_string_lossy()], &[name])?;
    }
    for name in ["empty.img", "noise.img", "cut.img", "alone.img", "short.img", "good.img"] {
        let output = call(&["disk", "dump", &place.file(name).to_string_lossy()])?;
        ensure!(output.status.success() && output.stderr.is_empty(), "the dump of {name} says {output:?}");
    }
    Ok(())
}

fn empty_initrd(_: &Images, place: &Place) -> Result<()> {
    let file = place.file("empty");
    std::fs::write(&file, "")?;
    refused(&["--initrd", &file.to_string_lossy()], &["empty"])
}

fn dry_run() -> Result<()> {
    let output = run(&["--smp", "4", "--cpu", "cortex-a76", "--mem", "2G", "--append", "quiet"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in ["qemu-system-aarch64", "-smp 4", "cortex-a76", "2048M", "quiet", "virtualization=on", "haechi.img"] {
        ensure!(said.contains(word), "`{word}` is not in {said}");
    }
    Ok(())
}
