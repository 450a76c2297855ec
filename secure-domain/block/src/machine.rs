//! What a driver needs of the machine: a register block and memory that the device can reach.

/// A block of 32-bit device registers.
pub trait Registers {
    /// Reads the register `offset` bytes into the block (a multiple of 4).
    fn read(&self, offset: usize) -> u32;

    /// Writes the register `offset` bytes into the block (a multiple of 4).
    fn write(&mut self, offset: usize, value: u32);
}

/// A block of device registers that are not all 32 bits wide: each is accessed with its own width.
pub trait NarrowRegisters: Registers {
    /// Reads the 8-bit register `offset` bytes into the block.
    fn read8(&self, offset: usize) -> u8;

    /// Reads the 16-bit register `offset` bytes into the block (a multiple of 2).
    fn read16(&self, offset: usize) -> u16;

    /// Writes the 8-bit register `offset` bytes into the block.
    fn write8(&mut self, offset: usize, value: u8);

    /// Writes the 16-bit register `offset` bytes into the block (a multiple of 2).
    fn write16(&mut self, offset: usize, value: u16);
}

/// A physically contiguous, cache-coherent, page-aligned region that processor and device share.
///
/// `bytes` lends plain memory; the driver asks only for parts that the device does not own at that time (see
/// [`crate::Buffer`]). Everything else goes through the copying accessors, which are volatile.
pub trait Dma {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of the first byte as the device sees it.
    fn address(&self) -> u64;

    /// Bytes that the processor owns now. Panics if the range leaves the region.
    fn bytes(&mut self, range: core::ops::Range<usize>) -> &mut [u8];

    /// Loads the byte at `offset`.
    fn load8(&self, offset: usize) -> u8;

    /// Loads the 16-bit word at `offset`, acquire order.
    fn load16(&self, offset: usize) -> u16;

    /// Loads the 32-bit word at `offset`.
    fn load32(&self, offset: usize) -> u32;

    /// Stores the byte at `offset`.
    fn store8(&mut self, offset: usize, value: u8);

    /// Stores the 16-bit word at `offset`, release order.
    fn store16(&mut self, offset: usize, value: u16);

    /// Stores the 32-bit word at `offset`.
    fn store32(&mut self, offset: usize, value: u32);

    /// Stores the 64-bit word at `offset`.
    fn store64(&mut self, offset: usize, value: u64);

    /// A full barrier towards the device: earlier stores are visible to it before later loads and register writes (`DSB SY` on
    /// Arm).
    fn fence(&self);
}

/// Time, for a driver that waits for its device while it is brought up.
pub trait Clock {
    /// Milliseconds since some moment. It goes on, whatever else happens: waiting ends by it.
    fn now_ms(&self) -> u64;

    /// Lets a moment pass, a millisecond at most.
    fn pause(&mut self);
}
