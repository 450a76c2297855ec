//! A board file as it is written.

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
    /// A UART that can be written before the device tree has been read.
    pub early_console: Option<EarlyConsole>,
    /// The storage controller, which belongs to the secure domain.
    pub storage: Storage,
    /// The flash that stands in for a freshness anchor, which belongs to the secure domain.
    pub anchor: Option<Anchor>,
    /// Where the general domain finds the virtual devices.
    pub channel: Channel,
    /// Address ranges that the general domain must not reach, besides those that the device tree names.
    #[serde(default)]
    pub denied: Vec<Denied>,
    /// A key that stands in for a fused one on boards that have none.
    pub huk: Option<Huk>,
    /// How the secure domain's crypto module is powered on.
    pub crypto: Crypto,
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

/// How to find the storage controller in the device tree.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// A string of its node's `compatible`.
    pub compatible: String,
    /// Physical address of its first register.
    pub base: u64,
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
    /// Address of device 0; device *n* is *n* pages behind it.
    pub base: u64,
    /// INTID of device 0; device *n* has the *n*-th behind it. All are SPIs that no device uses.
    pub first_intid: u32,
    /// Devices that the window has room for, 1 to 8.
    pub devices: u32,
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
    /// Only what the Korean validation programme lists: a pool with a volume in AES is refused.
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
        let digits = self.hex.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(self.hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }
}
