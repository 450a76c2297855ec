//! `./x run`: Linux or a bare-metal guest over Haechi in QEMU, or directly on QEMU for comparison.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use board_configs::Board;
use clap::ArgAction;

use crate::images::Images;
use crate::qemu::{self, Disk, Gic, Machine};
use crate::sealed::Access;
use crate::{anchor, bare, board, boot, firmware, images, kernel, paths, process, progress, sealed, size};

/// What can be asked of `./x run`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Linux to boot: an arm64 Image, plain or gzip [default: Debian's 6.1; Debian's 6.12 is target/haechi/linux-6.12]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Bare-metal guest to boot instead of Linux: an arm64 Image, or a flat binary that runs wherever it lies. It is entered at EL1 with the
    /// device tree in x0 and the MMU off; its arguments are those of --append alone, and it has no initrd but that of --initrd
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    guest: Option<PathBuf>,
    /// First root of Linux [default: ours, which mounts the disk]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// More kernel arguments, after `console=ttyAMA0 root=/dev/vda rw`
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    append: Option<String>,
    /// Physical disk, already sealed; kept between runs, with its anchor in DISK.anchor; given again for each further disk of
    /// the board [default: target/haechi/disk.img]
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    disk: Vec<PathBuf>,
    /// Make the default disk anew, with this size (such as 1G); on a board with several disks each of them
    #[arg(long, value_name = "SIZE", value_parser = super::parse_size, conflicts_with = "disk")]
    fresh_disk: Option<u64>,
    /// Cores [default: 1, or as many as the board needs for a core that is the secure domain's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(qemu::MAX_CORES)))]
    smp: Option<u32>,
    /// Memory
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = super::parse_size)]
    mem: u64,
    /// Interrupt controller
    #[arg(long, value_name = "2|3", default_value = "3", value_parser = parse_gic)]
    gic: Gic,
    /// Put PCI devices behind a system MMU (SMMUv3)
    #[arg(long)]
    smmu: bool,
    /// How Linux reaches its virtual disks: virtio-mmio or virtio-pci [default: what the board says, which is mmio]
    #[arg(long, value_name = "mmio|pci", value_parser = ["mmio", "pci"], conflicts_with = "no_hypervisor")]
    transport: Option<String>,
    /// Core model, as QEMU names it
    #[arg(long, value_name = "MODEL", default_value = "cortex-a72")]
    cpu: String,
    /// Wait for a debugger on TCP port 1234
    #[arg(long)]
    gdb: bool,
    /// One more argument for QEMU; may be given again
    #[arg(long, value_name = "ARG", action = ArgAction::Append, allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// Print the QEMU command line instead of running it
    #[arg(long)]
    dry_run: bool,
    /// The same Linux on a plain disk directly on QEMU: the baseline
    #[arg(long)]
    no_hypervisor: bool,
    /// Board: a name in board-configs/boards, or a file
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

fn parse_gic(text: &str) -> Result<Gic, String> {
    match text {
        "2" => Ok(Gic::V2),
        "3" => Ok(Gic::V3),
        _ => Err("the interrupt controller is 2 or 3".into()),
    }
}

/// Builds what is missing and becomes QEMU.
///
/// # Errors
/// One sentence about a wrong file or value, before anything long is done; later what a build step says.
pub fn run(arguments: &Arguments) -> Result<()> {
    check(arguments)?;
    let mut machine = machine(arguments)?;
    if arguments.dry_run {
        plan(arguments, &mut machine)?;
        println!("{}", process::shown(&machine.command()));
        return Ok(());
    }
    match arguments.no_hypervisor {
        true => prepare_baseline(arguments, &mut machine)?,
        false => prepare(arguments, &mut machine)?,
    }
    start(arguments, &machine)
}

/// Looks at every file and value that was given.
fn check(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.kernel {
        kernel::load(file)?;
    }
    if let Some(file) = &arguments.guest {
        bare::load(file)?;
    }
    let disks = arguments.disk.iter().map(|file| ("disk", file));
    for (what, file) in arguments.initrd.iter().map(|file| ("initrd", file)).chain(disks) {
        let meta = fs::metadata(file).with_context(|| format!("the {what} {} cannot be read", file.display()))?;
        if !meta.is_file() || meta.len() == 0 {
            bail!("the {what} {} is not a file with something in it", file.display());
        }
    }
    if arguments.cpu != DEFAULT_CPU {
        qemu::check_cpu(&arguments.cpu)?;
    }
    if arguments.no_hypervisor {
        return Ok(());
    }
    let (file, board) = board::find(arguments.board.as_deref())?;
    board_configs::load_with(&file, arguments.transport.as_deref())?;
    if arguments.disk.is_empty() {
        return Ok(());
    }
    sealed::mount_all(&arguments.disk, &board, Access::ReadOnly).map(drop)
}

const DEFAULT_CPU: &str = "cortex-a72";

fn machine(arguments: &Arguments) -> Result<Machine> {
    Ok(Machine {
        smp: arguments.smp.map_or_else(|| cores(arguments), Ok)?,
        mem_bytes: arguments.mem,
        cpu: arguments.cpu.clone(),
        gic: arguments.gic,
        smmu: arguments.smmu,
        virtualization: !arguments.no_hypervisor,
        append: match arguments.guest {
            Some(_) => arguments.append.clone().unwrap_or_default(),
            None => boot::arguments(arguments.append.as_deref()),
        },
        gdb: arguments.gdb,
        extra: arguments.qemu_arg.clone(),
        ..Machine::new(Path::new(""))
    })
}

/// The least that the board works with.
fn cores(arguments: &Arguments) -> Result<u32> {
    if arguments.no_hypervisor {
        return Ok(1);
    }
    let (_, board) = board::find(arguments.board.as_deref())?;
    Ok(least_cores(&board))
}

fn least_cores(board: &Board) -> u32 {
    board.secure_core.map_or(1, |place| place + 1)
}

/// Names the files a run would use, without making them.
fn plan(arguments: &Arguments, machine: &mut Machine) -> Result<()> {
    let out = paths::artefacts();
    let (kernel, initrd, disks, board) = match arguments.no_hypervisor {
        true => {
            let given = arguments.guest.as_ref().or(arguments.kernel.as_ref());
            (given.cloned().unwrap_or(out.join("linux-6.1")), "initrd.img", vec![out.join("plain.img")], None)
        }
        false => {
            let (file, board) = board::find(arguments.board.as_deref())?;
            let directory = firmware::hypervisor_directory(&file, arguments.transport.as_deref());
            let disks = disk_files(&file, &board);
            (directory.join("haechi.img"), "boot.bundle", disks, Some(board))
        }
    };
    let given = arguments.initrd.clone().filter(|_| arguments.no_hypervisor);
    machine.kernel = kernel;
    let needless = arguments.no_hypervisor && arguments.guest.is_some();
    machine.initrd = given.or((!needless).then(|| out.join(initrd)));
    let disks = if arguments.disk.is_empty() { disks } else { arguments.disk.clone() };
    machine.anchor = (!arguments.no_hypervisor).then(|| anchor::beside(&disks[0]));
    machine.disks = Disk::all(&disks, board.as_ref());
    Ok(())
}

/// The default disks of a board: `disk.img`, or `disk0.img` and so on in the board's own directory.
fn disk_files(board_file: &Path, board: &Board) -> Vec<PathBuf> {
    let directory = firmware::image_directory(board_file);
    match board.storage.len() {
        1 => vec![paths::artefacts().join("disk.img")],
        count => (0..count).map(|disk| directory.join(format!("disk{disk}.img"))).collect(),
    }
}

fn prepare(arguments: &Arguments, machine: &mut Machine) -> Result<()> {
    let (board_file, board) = board::find(arguments.board.as_deref())?;
    let made = firmware::build_with(&board_file, arguments.transport.as_deref())?;
    let images = images::ensure()?;
    let guest = arguments.guest.as_deref().map(bare::make).transpose()?;
    let kernel = guest.as_deref().or(arguments.kernel.as_deref()).unwrap_or(images.default_kernel());
    machine.initrd = Some(boot::pack(&made, kernel, initrd(arguments, &images).as_deref())?);
    machine.kernel = made.hypervisor;
    let mut disks = arguments.disk.clone();
    if disks.is_empty() {
        disks = disk_files(&board_file, &board);
        seal_disks(&disks, &images.rootfs, arguments.fresh_disk, &board)?;
    }
    machine.anchor = Some(anchor::beside(&disks[0]));
    machine.disks = Disk::all(&disks, Some(&board));
    Ok(())
}

/// Linux' initrd, or a bare-metal guest's if it is to have one.
fn initrd(arguments: &Arguments, images: &Images) -> Option<PathBuf> {
    arguments.initrd.clone().or_else(|| arguments.guest.is_none().then(|| images.initrd.clone()))
}

/// The default disks: the root filesystem, sealed once and kept between runs.
fn seal_disks(disks: &[PathBuf], rootfs: &Path, fresh_bytes: Option<u64>, board: &Board) -> Result<()> {
    if fresh_bytes.is_none() && disks[0].is_file() {
        let mounted = sealed::mount_all(disks, board, Access::ReadOnly);
        return mounted.map(drop).context("`--fresh-disk SIZE` makes a new one");
    }
    progress::note(&format!("Sealing the root filesystem into {}", paths::shown(&disks[0])));
    match disks {
        [disk] => sealed::seal_filesystem(rootfs, disk, fresh_bytes, board).map(drop),
        _ => sealed::seal_system(rootfs, disks, fresh_bytes, board).map(drop),
    }
}

fn prepare_baseline(arguments: &Arguments, machine: &mut Machine) -> Result<()> {
    let images = images::ensure()?;
    let given = arguments.guest.as_deref().or(arguments.kernel.as_deref());
    machine.kernel = given.unwrap_or(images.default_kernel()).to_owned();
    machine.initrd = initrd(arguments, &images);
    let mut disks = arguments.disk.clone();
    if disks.is_empty() {
        disks.push(plain_disk(&images.rootfs, arguments.fresh_disk)?);
    }
    machine.disks = Disk::all(&disks, None);
    Ok(())
}

/// The baseline's disk: a copy of the root filesystem, kept between runs.
fn plain_disk(rootfs: &Path, fresh_bytes: Option<u64>) -> Result<PathBuf> {
    let disk = paths::artefacts().join("plain.img");
    if fresh_bytes.is_none() && disk.is_file() {
        return Ok(disk);
    }
    let own = fs::metadata(rootfs)?.len();
    let len = fresh_bytes.unwrap_or(own);
    if len < own {
        bail!("a disk of {} is smaller than the root filesystem of {}", size::shown(len), size::shown(own));
    }
    let beside = disk.with_extension("new");
    fs::copy(rootfs, &beside).with_context(|| format!("{} cannot be written", beside.display()))?;
    sealed::grow_filesystem(&beside, len)?;
    fs::rename(&beside, &disk)?;
    Ok(disk)
}

fn start(arguments: &Arguments, machine: &Machine) -> Result<()> {
    if arguments.gdb {
        progress::note("Waiting for a debugger: gdb-multiarch -ex 'target remote :1234'");
    }
    progress::note("Starting QEMU; Ctrl-A x ends it.");
    process::replace(&mut machine.command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_starts_with_no_fewer_cores_than_it_needs() {
        for (name, cores) in [("qemu-virt", 1), ("qemu-virt-core", 2)] {
            let (_, board) = board::find(Some(name)).unwrap();
            assert_eq!(least_cores(&board), cores, "{name}");
        }
    }
}
