//! What the driver asks of a virtio transport.

use crate::Error;

/// One virtio block device with one queue, behind one of the transports of virtio 1.2, chapter 4. Nothing of what it says is trusted.
pub trait Transport {
    /// Refuses what is no modern virtio block device, before anything is written.
    ///
    /// # Errors
    /// What is there instead.
    fn identify(&self) -> Result<(), Error>;

    /// Features that a device on this transport must offer, besides those that every device must.
    fn needs(&self) -> u64;

    /// The device status (section 2.1).
    fn status(&self) -> u32;

    /// Writes the device status; 0 is a reset.
    fn set_status(&mut self, status: u32);

    /// Bits 0 to 31 of the features that the device offers, or (`half` = 1) bits 32 to 63.
    fn features(&mut self, half: u32) -> u32;

    /// Accepts these of them.
    fn accept(&mut self, half: u32, features: u32);

    /// Counts the changes of the configuration (section 2.5).
    fn generation(&self) -> u32;

    /// The word of the configuration at `offset` bytes, a multiple of 4 below 24.
    fn config(&self, offset: usize) -> u32;

    /// Starts queue 0 with `size` entries and these addresses of descriptor table, available ring and used ring. What the driver has written
    /// there is visible to the device by then.
    ///
    /// # Errors
    /// [`Error::Queue`] if it is absent, in use or too small; or the device does not say soundly how to notify it.
    fn start_queue(&mut self, size: u16, areas: [u64; 3]) -> Result<(), Error>;

    /// Tells the device that there is something in the available ring.
    fn notify(&mut self);

    /// Ends the device's interrupt.
    fn acknowledge(&mut self);
}
