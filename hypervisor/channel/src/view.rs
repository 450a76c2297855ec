//! What the secure domain sees of a device: fills `abi::DeviceView` and rings its doorbells.

use core::sync::atomic::Ordering;

use abi::{DeviceView, QueueView};

use crate::device::Device;
use crate::queue::Queue;

impl Device {
    /// Writes status, features and queues into `view`. EL2 calls it at [`crate::Effect::StatusChanged`] and
    /// [`crate::Effect::ResetRequested`], then raises `abi::Event::status`; also after a backend was stopped and attached again. The status goes last, with `Release`.
    /// Doorbells from before a reset are forgotten.
    pub fn publish(&self, view: &DeviceView) {
        view.driver_features.store(self.driver_features(), Ordering::Relaxed);
        for (queue, view) in self.queues().iter().zip(&view.queues) {
            publish_queue(queue, view);
        }
        if !self.is_live() {
            view.doorbells.store(0, Ordering::Relaxed);
        }
        view.generation.store(self.generation(), Ordering::Relaxed);
        view.status.store(self.backend_status(), Ordering::Release);
    }
}

fn publish_queue(queue: &Queue, view: &QueueView) {
    view.size.store(queue.size, Ordering::Relaxed);
    view.descriptor_table.store(queue.descriptor_table, Ordering::Relaxed);
    view.available_ring.store(queue.available_ring, Ordering::Relaxed);
    view.used_ring.store(queue.used_ring, Ordering::Relaxed);
    view.ready.store(u32::from(queue.ready), Ordering::Release);
}

/// Remembers that `queue` was notified, whether or not a backend is there to look. EL2 calls it at
/// [`crate::Effect::Notify`], then raises `abi::Event::doorbell`: the bit first, the event last.
pub fn ring_doorbell(view: &DeviceView, queue: u8) {
    view.doorbells.fetch_or(1 << (queue & 63), Ordering::Release);
}
