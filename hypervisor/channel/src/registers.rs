//! Names of the register page: offsets, status bits, transport features.

/// The page that the general domain reads.
///
/// The general domain maps it as Device memory and read-only; EL2 maps it uncached (Normal Non-cacheable or Device) and
/// stores single aligned words, so there is no cache to maintain and no torn value. Each `set` happens before the effect that
/// announces it: the implementer needs a `DSB` (or the exception return after it) between the stores and the injection of an
/// interrupt, and none between two `set`s.
pub trait RegisterPage {
    /// Stores `value` at byte `offset` (a multiple of 4, below 0x200).
    fn set(&mut self, offset: usize, value: u32);
    /// Loads what was stored at byte `offset` (likewise), for a transport whose driver does not read the page itself.
    fn get(&self, offset: usize) -> u32;
}

/// Bytes of configuration space that the page holds.
pub const CONFIG_BYTES: usize = 0x100;

/// Byte offsets of the registers (virtio 1.2, section 4.2.2, table 4.1).
pub mod offset {
    /// "virt", little-endian.
    pub const MAGIC_VALUE: usize = 0x000;
    /// 2.
    pub const VERSION: usize = 0x004;
    /// Device type; 0 is a placeholder that drivers skip.
    pub const DEVICE_ID: usize = 0x008;
    /// Vendor.
    pub const VENDOR_ID: usize = 0x00c;
    /// Offered features, the word that `DeviceFeaturesSel` selects.
    pub const DEVICE_FEATURES: usize = 0x010;
    /// Selects the word of `DeviceFeatures`.
    pub const DEVICE_FEATURES_SEL: usize = 0x014;
    /// Accepted features, the word that `DriverFeaturesSel` selects.
    pub const DRIVER_FEATURES: usize = 0x020;
    /// Selects the word of `DriverFeatures`.
    pub const DRIVER_FEATURES_SEL: usize = 0x024;
    /// Selects the queue that the queue registers mean.
    pub const QUEUE_SEL: usize = 0x030;
    /// Largest size of the selected queue; 0 if there is no such queue.
    pub const QUEUE_SIZE_MAX: usize = 0x034;
    /// Size that the driver uses.
    pub const QUEUE_SIZE: usize = 0x038;
    /// 1 enables the selected queue.
    pub const QUEUE_READY: usize = 0x044;
    /// The doorbell: the index of the queue with new buffers.
    pub const QUEUE_NOTIFY: usize = 0x050;
    /// Bit 0: used buffers; bit 1: configuration change.
    pub const INTERRUPT_STATUS: usize = 0x060;
    /// Clears bits of `InterruptStatus`.
    pub const INTERRUPT_ACK: usize = 0x064;
    /// Device status.
    pub const STATUS: usize = 0x070;
    /// Descriptor table, bits 31:0.
    pub const QUEUE_DESC_LOW: usize = 0x080;
    /// Descriptor table, bits 63:32.
    pub const QUEUE_DESC_HIGH: usize = 0x084;
    /// Available ring, bits 31:0.
    pub const QUEUE_DRIVER_LOW: usize = 0x090;
    /// Available ring, bits 63:32.
    pub const QUEUE_DRIVER_HIGH: usize = 0x094;
    /// Used ring, bits 31:0.
    pub const QUEUE_DEVICE_LOW: usize = 0x0a0;
    /// Used ring, bits 63:32.
    pub const QUEUE_DEVICE_HIGH: usize = 0x0a4;
    /// Shared memory region, length; all ones where there is none.
    pub const SHM_LEN_LOW: usize = 0x0b0;
    /// Shared memory region, length, bits 63:32.
    pub const SHM_LEN_HIGH: usize = 0x0b4;
    /// Shared memory region, base; all ones where there is none.
    pub const SHM_BASE_LOW: usize = 0x0b8;
    /// Shared memory region, base, bits 63:32.
    pub const SHM_BASE_HIGH: usize = 0x0bc;
    /// Changes whenever the configuration space changes.
    pub const CONFIG_GENERATION: usize = 0x0fc;
    /// First byte of the configuration space.
    pub const CONFIG: usize = 0x100;
}

/// Bits of `Status` (virtio 1.2, section 2.1).
pub mod status {
    /// The driver has found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is set up: the device may work.
    pub const DRIVER_OK: u32 = 4;
    /// The features are settled.
    pub const FEATURES_OK: u32 = 8;
    /// The device has met an error that only a reset cures.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// The driver has given up.
    pub const FAILED: u32 = 128;
    /// The bits that a driver may set.
    pub const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Feature bits that concern the transport (virtio 1.2, section 6).
pub mod features {
    /// The modern interface; a driver that declines it is refused.
    pub const VERSION_1: u64 = 1 << 32;
    /// Addresses go through the platform's DMA interface.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Packed queue layout: not kept by this transport's queue checks.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Notifications carry more than the queue's index.
    pub const NOTIFICATION_DATA: u64 = 1 << 38;
    /// Notifications carry what the device chose.
    pub const NOTIF_CONFIG_DATA: u64 = 1 << 39;
    /// A queue can be reset alone.
    pub const RING_RESET: u64 = 1 << 40;
    /// Features that this register file does not implement and so must not offer.
    pub const UNSUPPORTED: u64 = RING_PACKED | NOTIFICATION_DATA | NOTIF_CONFIG_DATA | RING_RESET;
}

/// `MagicValue`: "virt".
pub(crate) const MAGIC: u32 = 0x7472_6976;
/// `Version` of the register layout.
pub(crate) const LAYOUT_VERSION: u32 = 2;
/// `VendorID`: "HAEC", little-endian. Drivers show it and do not judge it.
pub(crate) const VENDOR: u32 = u32::from_le_bytes(*b"HAEC");

/// `InterruptStatus` bit 0: a used buffer waits.
pub(crate) const USED_BUFFER: u32 = 1;
/// `InterruptStatus` bit 1: the configuration changed.
pub(crate) const CONFIG_CHANGE: u32 = 2;
