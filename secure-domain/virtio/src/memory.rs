//! The driver's memory as the device sees it: copies in and out, and the two ordered accesses that a ring needs.

/// An access outside the memory that the driver may lend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// First byte of the access (the driver's address).
    pub address: u64,
    /// Length of the access in bytes.
    pub len: usize,
}

impl core::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes at {:#x}", self.len, self.address)
    }
}

/// The driver's memory. Addresses are the driver's physical ones. The other side may write at any time, so implementations copy
/// with volatile or atomic accesses and never lend a reference.
///
/// Every method checks the whole range, including the overflow of `address + len`, before it touches a byte.
pub trait GuestMemory {
    /// Copies `out.len()` bytes at `address` into `out`.
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange>;

    /// Copies `data` to `address`.
    fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange>;

    /// Loads the little-endian 16-bit ring field at `address` (2-byte aligned) with acquire order: what the driver wrote before
    /// it stored this value is seen by later reads.
    fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange>;

    /// Stores the little-endian 16-bit ring field at `address` (2-byte aligned) with release order: earlier writes are seen by
    /// whoever sees this value.
    fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange>;

    /// A full barrier: earlier stores are visible before later loads are made (`DMB ISH` on Arm).
    fn fence(&self);
}
