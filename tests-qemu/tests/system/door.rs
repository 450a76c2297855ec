//! `./x run` refuses what it cannot boot: one clear sentence, a code other than 0, nothing started.
use std::path::PathBuf;
use std::process::Command;

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

fn run(arguments: &[&str]) -> Result<std::process::Output> {
    let mut command = Command::new(tool()?);
    command.args(["run", "--dry-run"]).args(arguments).current_dir(paths::workspace());
    command.output().context("the tool can be started")
}

fn refused(arguments: &[&str], names: &[&str]) -> Result<()> {
    let output = run(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    ensure!(!output.status.success(), "`{arguments:?}` was taken");
    ensure!(output.stdout.is_empty(), "a refusal printed a command line: {}", String::from_utf8_lossy(&output.stdout));
    ensure!(said.lines().count() == 1 && said.starts_with("x: "), "not one sentence: {said}");
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
