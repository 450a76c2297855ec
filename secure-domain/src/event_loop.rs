//! What the domain does: sleep until something happens, then serve it.
//!
//! Everything that happens is a bit in the shared page. Order within one round: resets before work, so that nothing is done
//! for a driver that is gone; completions before new requests, so that buffers come free; the shutdown last.

use core::sync::atomic::Ordering;

use abi::{DeviceView, Event, SharedPage};
use el1::guest_memory::GuestWindow;
use el1::hypercall::{interrupt, irq_done, needs_reset, quiesced, reset_done, wait};
use virtio::QueueConfig;
use volume::{Outcome, Service};

use crate::log::log;
use crate::start::Disk;

/// The virtual disk.
const DEVICE: usize = 0;
/// The physical disk's interrupt line.
const DISK_LINE: usize = 0;
/// `DRIVER_OK` (virtio 1.2, section 2.1).
const DRIVER_OK: u32 = 1 << 2;

/// Serves for ever.
pub fn run(mut service: Service<Disk>, shared: &SharedPage, memory: &GuestWindow) -> ! {
    let view = &shared.devices[DEVICE];
    let mut again = false;
    loop {
        if !again {
            wait();
        }
        let events = shared.take();
        let mut round = Round::default();
        if events.contains(Event::status(DEVICE)) {
            round.add(status_changed(&mut service, view, memory));
        }
        if events.contains(Event::irq(DISK_LINE)) {
            round.add(service.on_disk_interrupt(memory));
            irq_done(DISK_LINE);
        }
        if events.contains(Event::doorbell(DEVICE)) {
            view.doorbells.swap(0, Ordering::Acquire);
            round.add(service.on_doorbell(memory));
        }
        if events.contains(Event::SHUTDOWN) {
            round.add(service.quiesce(memory));
        }
        if again && events.is_empty() {
            round.add(service.resume(memory));
        }
        again = round.finish(&mut service);
    }
}

/// The driver is ready, or wants its device reset.
fn status_changed(service: &mut Service<Disk>, view: &DeviceView, memory: &GuestWindow) -> Outcome {
    if view.status.load(Ordering::Acquire) & DRIVER_OK == 0 {
        service.reset();
        reset_done(DEVICE);
        return Outcome::default();
    }
    let queue = &view.queues[0];
    let config = QueueConfig {
        size: queue.size.load(Ordering::Relaxed),
        descriptor_table: queue.descriptor_table.load(Ordering::Relaxed),
        available_ring: queue.available_ring.load(Ordering::Relaxed),
        used_ring: queue.used_ring.load(Ordering::Relaxed),
    };
    service.start(memory, config, view.driver_features.load(Ordering::Relaxed))
}

/// What the parts of one round ask for together.
#[derive(Default)]
struct Round {
    interrupt: bool,
    needs_reset: bool,
    again: bool,
    quiesced: Option<bool>,
}

impl Round {
    fn add(&mut self, outcome: Outcome) {
        self.interrupt |= outcome.interrupt;
        self.needs_reset |= outcome.needs_reset;
        self.again |= outcome.again;
        self.quiesced = outcome.quiesced.or(self.quiesced);
    }

    /// Tells EL2 and the log; whether there is more to do at once.
    fn finish(self, service: &mut Service<Disk>) -> bool {
        while let Some(event) = service.next_event() {
            log!("virtual disk {DEVICE}: {event}");
        }
        if self.interrupt {
            interrupt(DEVICE);
        }
        if self.needs_reset {
            needs_reset(DEVICE);
        }
        if let Some(durable) = self.quiesced {
            if !durable {
                log!("virtual disk {DEVICE}: the disk failed to make the last writes durable");
            }
            quiesced();
        }
        self.again
    }
}
