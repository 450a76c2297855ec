//! What no device tree tells and the board file states; `board-configs` checks it and emits it as a constant.

pub use pcie::Function;

use crate::Region;

/// Disks that one board drives at most.
pub const MAX_DISKS: usize = 4;
/// Volumes that a board can want.
pub const MAX_VOLUMES: usize = 8;

/// A board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Name of the board file.
    pub name: &'static str,
    /// A UART that can be written before the device tree has been read.
    pub early_console: Option<EarlyConsole>,
    /// The storage controllers, which belong to the secure domain: one for each disk, 1 to [`MAX_DISKS`].
    pub storage: &'static [StorageController],
    /// How the pool on the disks is mounted.
    pub pool: Pool,
    /// The volumes that the pool shall have, at most [`MAX_VOLUMES`].
    pub volumes: &'static [Volume<'static>],
    /// The flash bank in which the secure domain keeps its development anchor.
    pub anchor: Option<AnchorFlash>,
    /// Memory of the secure domain in bytes; a multiple of 2 MiB.
    pub secure_memory_bytes: u64,
    /// EL2's heap in bytes; used only while booting.
    pub el2_heap_bytes: u64,
    /// Where the general domain finds the virtual devices.
    pub channel: ChannelWindow,
    /// Bytes of the general domain's memory that the secure domain reaches, whole 2 MiB; `None`: all.
    pub window_bytes: Option<u64>,
    /// Address ranges that the general domain must not reach, besides those that the device tree names.
    pub denied: &'static [Region],
    /// A hardware unique key that everybody knows, on boards that have none; never on a product.
    pub test_huk: Option<[u8; 32]>,
    /// Name of the profile in which the secure domain powers its crypto module on.
    pub crypto_profile: &'static str,
    /// Longest time that the secure domain runs on a core while the general domain wants it, in microseconds.
    pub slice_us: u32,
    /// Place among the enabled cores under `/cpus`, from 0, of the core that the secure domain has for itself; `None`: it has none, and runs where its work appears.
    pub secure_core: Option<u32>,
    /// Whether the console's escape key can crash the secure domain, to see it start again; never on a product.
    pub crash_drills: bool,
    /// What a reset of the general domain is.
    pub reset: Reset,
}

/// What starts anew when the general domain asks for a reset (`SYSTEM_RESET`, or `SYSTEM_RESET2` for a warm one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// That domain alone, if EL2 can stop all its bus masters.
    #[default]
    Domain,
    /// The machine.
    Machine,
}

/// A UART that is known before the device tree is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyConsole {
    /// Arm PrimeCell UART (PL011, Arm DDI 0183) at this physical address.
    Pl011(u64),
}

/// How to find a storage controller, and the pool's member on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageController {
    /// Where it is.
    pub at: Attachment,
    /// The partition that is the member; without it the whole disk is.
    pub partition: Option<Partition<'static>>,
}

/// What a storage controller is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The memory bus: the device tree has a node for it.
    Registers {
        /// A string of its node's `compatible`.
        compatible: &'static str,
        /// Physical address of its first register.
        base: u64,
    },
    /// PCI: this function, which is of this kind.
    Function(Function, FunctionKind),
}

/// What is spoken to a storage controller that is a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Virtio, without its legacy interface.
    VirtioBlk,
    /// NVM Express.
    Nvme,
}

impl FunctionKind {
    /// The `compatible` of its node in the secure domain's tree.
    pub const fn compatible(self) -> &'static str {
        match self {
            FunctionKind::VirtioBlk => "virtio,pci",
            FunctionKind::Nvme => "nvme,pci",
        }
    }
}

/// How to find a partition in a disk's table: by its type, its name, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition<'a> {
    /// Its type GUID as the table holds it.
    pub kind: Option<[u8; 16]>,
    /// Its name.
    pub name: Option<&'a str>,
}

/// How the pool is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The freshness anchor may lag by as many milliseconds; `None`: it advances at every flush.
    pub window_ms: Option<u32>,
    /// Memory for the hash tree in MiB.
    pub cache_mib: u32,
    /// It is mounted though a disk is missing, and goes on without one that fails, as far as nothing is lost.
    pub degraded: bool,
}

/// A volume that the pool shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its size in MiB, at least.
    pub size_mib: u64,
    /// How it lies on the disks.
    pub layout: Layout,
    /// The suite that seals it, such as `aria-256-gcm`.
    pub suite: &'a str,
    /// The generation of its key, at least.
    pub key_generation: u16,
}

/// How a volume lies on the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Wherever there is room.
    Linear,
    /// In rows over all disks.
    Striped,
    /// Twice, on two disks.
    Mirrored,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 3] = [Layout::Linear, Layout::Striped, Layout::Mirrored];

    /// Its name in board files and trees.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Linear => "linear",
            Layout::Striped => "striped",
            Layout::Mirrored => "mirrored",
        }
    }
}

impl Board {
    /// The PCI functions that are the secure domain's.
    pub fn functions(&self) -> impl Iterator<Item = Function> {
        self.storage.iter().filter_map(|controller| match controller.at {
            Attachment::Function(function, _) => Some(function),
            Attachment::Registers { .. } => None,
        })
    }
}

/// A flash bank and how to find it in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorFlash {
    /// A string of its node's `compatible`.
    pub compatible: &'static str,
    /// Its physical addresses, in whole pages.
    pub registers: Region,
}

/// The virtual devices in the general domain's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelWindow {
    /// Address of the register page of device 0; device *n* is *n* pages behind it. With `pci` on a GICv2: the frame that takes messages.
    pub base: u64,
    /// INTID of device 0; device *n* has the *n*-th behind it. All are SPIs that no device uses.
    pub first_intid: u32,
    /// Devices that the window has room for.
    pub devices: u32,
    /// The bus on which they are instead; `None`: they are reached by virtio-mmio.
    pub pci: Option<PciBus>,
}

/// A PCI bus with one function for each virtual device, in the general domain's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciBus {
    /// Its configuration space.
    pub configuration: Region,
    /// Where its functions may have their registers, at the address that they know it by.
    pub registers: Region,
    /// First INTID to which messages are written. All are SPIs that no device uses.
    pub first_message: u32,
    /// How many.
    pub messages: u32,
}

impl ChannelWindow {
    /// The whole window.
    pub const fn region(&self) -> Option<Region> {
        Region::new(self.base, self.devices as u64 * 4096)
    }
}
