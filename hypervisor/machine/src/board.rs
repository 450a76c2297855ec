//! What no device tree tells and the board file states; `board-configs` checks it and emits it as a constant.

use crate::Region;

/// A board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Name of the board file.
    pub name: &'static str,
    /// A UART that can be written before the device tree has been read.
    pub early_console: Option<EarlyConsole>,
    /// The storage controller, which belongs to the secure domain.
    pub storage: StorageController,
    /// The flash bank in which the secure domain keeps its development anchor.
    pub anchor: Option<AnchorFlash>,
    /// Memory of the secure domain in bytes; a multiple of 2 MiB.
    pub secure_memory_bytes: u64,
    /// EL2's heap in bytes; used only while booting.
    pub el2_heap_bytes: u64,
    /// Where the general domain finds the virtual devices.
    pub channel: ChannelWindow,
    /// Address ranges that the general domain must not reach, besides those that the device tree names.
    pub denied: &'static [Region],
    /// A hardware unique key that everybody knows, on boards that have none; never on a product.
    pub test_huk: Option<[u8; 32]>,
    /// Name of the profile in which the secure domain powers its crypto module on.
    pub crypto_profile: &'static str,
    /// Longest time that the secure domain runs on a core while the general domain wants it, in microseconds.
    pub slice_us: u32,
}

/// A UART that is known before the device tree is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyConsole {
    /// Arm PrimeCell UART (PL011, Arm DDI 0183) at this physical address.
    Pl011(u64),
}

/// How to find the storage controller in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageController {
    /// A string of its node's `compatible`.
    pub compatible: &'static str,
    /// Physical address of its first register.
    pub base: u64,
}

/// A flash bank and how to find it in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorFlash {
    /// A string of its node's `compatible`.
    pub compatible: &'static str,
    /// Its physical addresses, in whole pages.
    pub registers: Region,
}

/// The register pages of the virtual devices in the general domain's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelWindow {
    /// Address of device 0; device *n* is *n* pages behind it.
    pub base: u64,
    /// INTID of device 0; device *n* has the *n*-th behind it. All are SPIs that no device uses.
    pub first_intid: u32,
    /// Devices that the window has room for.
    pub devices: u32,
}

impl ChannelWindow {
    /// The whole window.
    pub const fn region(&self) -> Option<Region> {
        Region::new(self.base, self.devices as u64 * 4096)
    }
}
