//! QEMU's command line for a machine with or without Haechi. Facts about QEMU's `virt` board that shaped it:
//! virtio-mmio slots are 0x200 bytes apart from 0x0a000000 and QEMU fills them from the highest, so each disk is put by name into the
//! slot that the board files state: 31, 30, ...; virtio 1.x over mmio wants `force-legacy=false`.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use board_configs::{Board, StorageKind};

use crate::process;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-aarch64";
/// Most cores a machine can have.
pub const MAX_CORES: u32 = 8;

/// The interrupt controller of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// GICv2
    V2,
    /// GICv3
    V3,
}

/// The slot of the first disk; the others are below it.
const FIRST_SLOT: usize = 31;

/// A disk of the machine.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Its place among the `[[storage]]` of the board, from 0.
    pub place: usize,
    /// Raw image, written in place.
    pub file: PathBuf,
    /// What the guest reads with GET_ID, if anything (20 bytes at most).
    pub serial: Option<String>,
    /// Its device and function on PCI bus 0, such as `03.0`, if it is there.
    pub pci: Option<String>,
    /// What it is there.
    pub kind: StorageKind,
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Cores, 1 to [`MAX_CORES`].
    pub smp: u32,
    /// Memory in bytes.
    pub mem_bytes: u64,
    /// QEMU's name of the core.
    pub cpu: String,
    /// Interrupt controller.
    pub gic: Gic,
    /// Whether PCI devices stand behind a system MMU.
    pub smmu: bool,
    /// Whether the cores have EL2; `false` is the baseline without Haechi.
    pub virtualization: bool,
    /// What QEMU starts: the hypervisor, or Linux for the baseline.
    pub kernel: PathBuf,
    /// What QEMU puts in memory as initrd: the boot bundle, or Linux' initrd for the baseline.
    pub initrd: Option<PathBuf>,
    /// Kernel arguments of Linux.
    pub append: String,
    /// The physical disks.
    pub disks: Vec<Disk>,
    /// File behind the second flash bank, for the development anchor.
    pub anchor: Option<PathBuf>,
    /// Wait for a debugger on TCP port 1234 before the first instruction.
    pub gdb: bool,
    /// Further arguments, taken as they are.
    pub extra: Vec<String>,
}

impl Disk {
    /// Disks in these files, without serials, as the first, the second and so on of `board`; without one each in its slot.
    pub fn all(files: &[PathBuf], board: Option<&Board>) -> Vec<Disk> {
        let pci = |place: usize| {
            let function = board?.storage.get(place)?.pci.as_deref()?;
            function.strip_prefix("00:").map(str::to_owned)
        };
        let kind = |place: usize| Some(board?.storage.get(place)?.kind);
        let disk = |(place, file): (usize, &PathBuf)| Disk {
            place,
            file: file.clone(),
            serial: None,
            pci: pci(place),
            kind: kind(place).unwrap_or_default(),
        };
        files.iter().enumerate().map(disk).collect()
    }

    /// QEMU's device. A virtio function has no legacy interface, and its transfers go through the system MMU if there is one, as those of every
    /// other function do. An NVMe controller has to have a serial; its logical blocks are those of the pool, which power failures then leave whole.
    fn device(&self) -> String {
        let Disk { place, serial, pci, kind, .. } = self;
        let serial = match (serial, kind) {
            (Some(serial), _) => format!(",serial={serial}"),
            (None, StorageKind::Nvme) => format!(",serial=disk{place}"),
            (None, StorageKind::VirtioBlk) => String::new(),
        };
        match pci {
            Some(function) if *kind == StorageKind::Nvme => {
                format!(
                    "nvme,drive=disk{place},logical_block_size=4096,physical_block_size=4096,addr={function}{serial}"
                )
            }
            Some(function) => {
                let modern = "disable-legacy=on,iommu_platform=on";
                format!("virtio-blk-pci,drive=disk{place},addr={function},{modern}{serial}")
            }
            None => {
                let bus = FIRST_SLOT - place;
                format!("virtio-blk-device,drive=disk{place},bus=virtio-mmio-bus.{bus}{serial}")
            }
        }
    }
}

impl Machine {
    /// A machine with the defaults of `./x run`: one Cortex-A72, 1 GiB, GICv3, EL2.
    pub fn new(kernel: &Path) -> Self {
        Self {
            smp: 1,
            mem_bytes: 1 << 30,
            cpu: "cortex-a72".into(),
            gic: Gic::V3,
            smmu: false,
            virtualization: true,
            kernel: kernel.to_owned(),
            initrd: None,
            append: String::new(),
            disks: Vec::new(),
            anchor: None,
            gdb: false,
            extra: Vec::new(),
        }
    }

    /// The command, its console on standard input and output (`Ctrl-A x` ends it, `Ctrl-A c` is QEMU's monitor).
    pub fn command(&self) -> Command {
        let mut qemu = process::command(PROGRAM);
        qemu.arg("-M").arg(self.board()).args(["-cpu", &self.cpu]).args(["-smp", &self.smp.to_string()]);
        qemu.arg("-m").arg(self.memory());
        qemu.args(["-display", "none", "-nodefaults", "-serial", "mon:stdio"]);
        qemu.args(["-global", "virtio-mmio.force-legacy=false"]);
        qemu.arg("-kernel").arg(&self.kernel);
        if let Some(initrd) = &self.initrd {
            qemu.arg("-initrd").arg(initrd);
        }
        if !self.append.is_empty() {
            qemu.arg("-append").arg(&self.append);
        }
        for disk in &self.disks {
            let (place, file) = (disk.place, option(&disk.file));
            qemu.arg("-drive").arg(format!("if=none,id=disk{place},format=raw,file={file}"));
            qemu.arg("-device").arg(disk.device());
        }
        if let Some(anchor) = &self.anchor {
            qemu.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", option(anchor)));
        }
        if self.gdb {
            qemu.args(["-s", "-S"]);
        }
        qemu.args(&self.extra);
        qemu
    }

    fn board(&self) -> String {
        let gic = match self.gic {
            Gic::V2 => 2,
            Gic::V3 => 3,
        };
        let el2 = if self.virtualization { ",virtualization=on" } else { "" };
        let smmu = if self.smmu { ",iommu=smmuv3" } else { "" };
        format!("virt,gic-version={gic}{el2}{smmu}")
    }

    /// QEMU takes sizes in MiB; the board maps whole ones only.
    fn memory(&self) -> String {
        format!("{}M", self.mem_bytes.div_ceil(1 << 20))
    }
}

/// A path inside an option list, where QEMU wants a comma doubled.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Asks QEMU whether it has a core of this name.
///
/// # Errors
/// When it has not, or QEMU is missing.
pub fn check_cpu(name: &str) -> Result<()> {
    let help = process::text(process::command(PROGRAM).args(["-M", "virt", "-cpu", "help"]))?;
    let model = name.split(',').next().unwrap_or_default();
    if !help.lines().any(|line| line.trim() == model) {
        bail!("QEMU has no core `{model}`; `{PROGRAM} -M virt -cpu help` lists those there are");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_in_a_file_name_is_no_option() {
        let mut machine = Machine::new(Path::new("k"));
        machine.disks = Disk::all(&["a,b.img".into()], None);
        assert!(process::shown(&machine.command()).contains("file=a,,b.img"));
    }

    #[test]
    fn a_pci_disk_is_modern_and_its_transfers_go_through_the_system_mmu() {
        let mut machine = Machine::new(Path::new("k"));
        let board = board_configs::named("qemu-virt-pcie").unwrap();
        machine.disks = Disk::all(&["a.img".into()], Some(&board));
        let shown = process::shown(&machine.command());
        assert!(shown.contains("virtio-blk-pci,drive=disk0,addr=03.0,disable-legacy=on,iommu_platform=on"), "{shown}");
    }

    #[test]
    fn an_nvme_disk_is_one_and_has_a_serial() {
        let mut machine = Machine::new(Path::new("k"));
        let board = board_configs::named("qemu-virt-nvme").unwrap();
        machine.disks = Disk::all(&["a.img".into()], Some(&board));
        let shown = process::shown(&machine.command());
        assert!(
            shown.contains("nvme,drive=disk0,logical_block_size=4096,physical_block_size=4096,addr=03.0,serial=disk0"),
            "{shown}"
        );
    }

    #[test]
    fn baseline_has_no_el2() {
        let board = |machine: &Machine| machine.command().get_args().nth(1).map(|word| word.to_owned()).unwrap();
        let mut machine = Machine::new(Path::new("k"));
        assert_eq!(board(&machine), "virt,gic-version=3,virtualization=on");
        machine.virtualization = false;
        machine.gic = Gic::V2;
        machine.smmu = true;
        assert_eq!(board(&machine), "virt,gic-version=2,iommu=smmuv3");
    }
}
