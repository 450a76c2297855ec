//! A board file as it is written.

use pcie::Function;
use serde::Deserialize;

/// A board.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Its name: that of the file, without `.toml`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Memory of the secure domain in bytes; a multiple of 2 MiB.
    pub secure_memory_bytes: u64,
    /// EL2's heap in bytes, used only while booting; a multiple of 4 KiB.
    pub el2_heap_bytes: u64,
    /// Longest time that the secure domain runs on a core while the general domain wants it, in microseconds.
    pub slice_us: u32,
    /// The core that the secure domain has for itself: its place among the enabled cores of the device tree, 1 to 7. Without it the domain runs where its
    /// work appears.
    pub secure_core: Option<u32>,
    /// Whether the console's escape key can crash the secure domain, to see it start again; never on a product.
    #[serde(default)]
    pub crash_drills: bool,
    /// What the general domain is like.
    #[serde(default)]
    pub general: General,
    /// A UART that can be written before the device tree has been read.
    pub early_console: Option<EarlyConsole>,
    /// The storage controllers, which belong to the secure domain: one for each disk, 1 to 4.
    pub storage: Vec<Storage>,
    /// How the pool on the disks is mounted.
    #[serde(default)]
    pub pool: Pool,
    /// The volumes that the pool shall have, 0 to 8. Others that it has are served as they are.
    #[serde(default, rename = "volume")]
    pub volumes: Vec<Volume>,
    /// The flash that stands in for a freshness anchor, which belongs to the secure domain.
    pub anchor: Option<Anchor>,
    /// Where the general domain finds the virtual devices.
    pub channel: Channel,
    /// What the secure domain reaches of the general domain's memory; without it all.
    pub window: Option<Window>,
    /// Address ranges that the general domain must not reach, besides those that the device tree names.
    #[serde(default)]
    pub denied: Vec<Denied>,
    /// A key that stands in for a fused one on boards that have none.
    pub huk: Option<Huk>,
    /// How the secure domain's crypto module is powered on.
    pub crypto: Crypto,
}

/// What the general domain is like.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct General {
    /// What its reset starts anew.
    #[serde(default)]
    pub reset: Reset,
}

/// What a reset of the general domain starts anew.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// That domain alone.
    #[default]
    Domain,
    /// The machine.
    Machine,
}

/// A UART that can be written before the device tree has been read.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EarlyConsole {
    /// Its programming model.
    pub kind: ConsoleKind,
    /// Physical address of its first register; page aligned.
    pub base: u64,
}

/// Programming model of a UART.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleKind {
    /// Arm PrimeCell UART (PL011, Arm DDI 0183).
    Pl011,
}

/// How to find a storage controller, and the pool's member on its disk: by [`Storage::compatible`] and [`Storage::base`] in the device tree, or
/// by [`Storage::pci`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// A string of its node's `compatible`.
    pub compatible: Option<String>,
    /// Physical address of its first register.
    pub base: Option<u64>,
    /// Its PCI function, such as `"00:03.0"`.
    pub pci: Option<String>,
    /// What is spoken to that function.
    #[serde(default)]
    pub kind: StorageKind,
    /// The partition that is the member; without it the whole disk is.
    pub partition: Option<Partition>,
}

impl Storage {
    /// Its PCI function, if it is one of bus 0.
    pub fn function(&self) -> Option<Function> {
        self.pci.as_deref().and_then(Function::parse)
    }
}

/// What is spoken to a storage controller that is a PCI function.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// Virtio, without its legacy interface.
    #[default]
    VirtioBlk,
    /// NVM Express.
    Nvme,
}

/// How to find a partition in the disk's GUID partition table: by one of the two, or by both.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Its type, as a GUID is written.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

impl Partition {
    /// The type as the table holds it, its first three fields little-endian (UEFI 2.10, appendix A); none if it is no GUID.
    pub fn kind_bytes(&self) -> Option<[u8; 16]> {
        const DASHES: [usize; 4] = [8, 13, 18, 23];
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        let text = self.kind.as_ref()?.as_bytes();
        let in_place = |(at, byte): (usize, &u8)| (*byte == b'-') == DASHES.contains(&at);
        if text.len() != 36 || !text.iter().enumerate().all(in_place) {
            return None;
        }
        let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
        let written: [u8; 16] = from_hex(&digits)?;
        Some(ORDER.map(|index| written[index]))
    }
}

/// How the pool is mounted.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// When the freshness anchor advances.
    pub policy: Policy,
    /// With [`Policy::Bulk`]: its window in milliseconds, 100 to 3,600,000; without it [`Pool::WINDOW_MS`].
    pub window_ms: Option<u32>,
    /// Memory for the hash tree in MiB, 4 to 1024. The heap of the secure domain takes twice that.
    pub cache_mib: u32,
    /// Whether it is mounted though a disk is missing, and goes on without one that fails.
    pub degraded: bool,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool { policy: Policy::Strict, window_ms: None, cache_mib: 16, degraded: false }
    }
}

impl Pool {
    /// The window of [`Policy::Bulk`] when none is stated, in milliseconds.
    pub const WINDOW_MS: u32 = 60_000;

    /// The window of [`Policy::Bulk`] in milliseconds; none with [`Policy::Strict`].
    pub fn bulk_window_ms(&self) -> Option<u32> {
        (self.policy == Policy::Bulk).then(|| self.window_ms.unwrap_or(Pool::WINDOW_MS))
    }
}

/// When the freshness anchor advances.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// At every flush: a disk that is put back is never older than the last one.
    Strict,
    /// Within a window: faster, and a disk that is put back may be older by as much.
    Bulk,
}

/// A volume that the pool shall have.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name: 1 to 63 printable ASCII characters, unlike any other's.
    pub name: String,
    /// Its size in MiB. A smaller volume is grown, a larger one left as it is.
    pub size_mib: u64,
    /// How it lies on the disks. A volume that is there keeps its layout.
    #[serde(default)]
    pub layout: Layout,
    /// The suite that seals it, such as `aria-256-gcm`. Another one begins a resealing while the volume is served.
    pub suite: String,
    /// Generation of its key, from 1: one above that of the volume gives it a new key while it is served.
    #[serde(default = "first_generation")]
    pub key_generation: u16,
}

fn first_generation() -> u16 {
    1
}

/// How a volume lies on the disks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Wherever there is room.
    #[default]
    Linear,
    /// In rows over all disks.
    Striped,
    /// Twice, on two disks.
    Mirrored,
}

/// A flash bank of the secure domain, which keeps its development anchor there.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// A string of its node's `compatible`.
    pub compatible: String,
    /// First address; page aligned.
    pub base: u64,
    /// Length in bytes; whole pages.
    pub size: u64,
}

/// The register pages of the virtual devices in the general domain's address space.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Address of device 0; device *n* is *n* pages behind it. With [`Transport::Pci`] on a GICv2, the frame that takes messages.
    pub base: u64,
    /// INTID of device 0; device *n* has the *n*-th behind it. All are SPIs that no device uses.
    pub first_intid: u32,
    /// Devices that the window has room for, 1 to 8.
    pub devices: u32,
    /// How the general domain reaches them.
    #[serde(default)]
    pub transport: Transport,
    /// Where they are as PCI functions; with [`Transport::Pci`] it must be there.
    pub pci: Option<Pci>,
}

/// How the general domain reaches the virtual devices.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// virtio-mmio.
    #[default]
    Mmio,
    /// virtio-pci, on a PCI bus of their own.
    Pci,
}

impl Transport {
    /// The transport that board files call `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Transport> {
        match name {
            "mmio" => Some(Transport::Mmio),
            "pci" => Some(Transport::Pci),
            _ => None,
        }
    }
}

/// A PCI bus with one function for each virtual device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pci {
    /// Configuration space: 1 MiB.
    pub configuration: u64,
    /// Where the functions may have their registers: 16 KiB for each device, below 4 GiB.
    pub registers: u64,
    /// First of the INTIDs to which messages are written. All are SPIs that no device uses.
    pub first_message: u32,
    /// How many, 1 to 256.
    pub messages: u32,
}

impl Pci {
    /// Bytes of configuration space.
    pub const CONFIGURATION_BYTES: u64 = 1 << 20;

    /// Bytes for the registers of so many devices.
    #[must_use]
    pub fn register_bytes(devices: u32) -> u64 {
        u64::from(devices) << 14
    }
}

/// The part of the general domain's memory that the secure domain reaches: a restricted DMA pool (Linux,
/// bindings/reserved-memory/shared-dma-pool.yaml).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its size in MiB: even, 2 to 1024.
    pub mib: u64,
}

/// An address range that the general domain must not reach.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// First address; page aligned.
    pub base: u64,
    /// Length in bytes; whole pages.
    pub size: u64,
    /// Why, for people.
    pub why: String,
}

/// How the secure domain's crypto module is powered on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Crypto {
    /// Which services it has.
    pub profile: Profile,
}

/// Which services the crypto module has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// All of them.
    Open,
    /// Only what the Korean validation programme lists: a volume in AES is refused, here and on a disk.
    Kcmvp,
}

impl Profile {
    /// The word in the board file, and in the secure domain's device tree.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Open => "open",
            Profile::Kcmvp => "kcmvp",
        }
    }

    /// Whether the profile has the suite with this name, as [`crate::SUITES`] spells it.
    #[must_use]
    pub fn lists(self, suite: &str) -> bool {
        match self {
            Profile::Open => true,
            Profile::Kcmvp => !suite.starts_with("aes-"),
        }
    }
}

/// A key that stands in for a fused one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Huk {
    /// 32 bytes in hexadecimal.
    pub hex: String,
    /// Must be `true`: whoever writes a key into a file has to say that it protects nothing.
    pub is_test_value: bool,
}

impl Huk {
    /// The key; none if `hex` is not 64 hexadecimal digits.
    pub fn bytes(&self) -> Option<[u8; 32]> {
        from_hex(self.hex.as_bytes())
    }
}

/// The bytes that so many hexadecimal digits are.
fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
