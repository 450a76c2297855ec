//! What the domain does: sleep until something happens, then serve it.
//!
//! Everything that happens is a bit in the shared page. Order within one round: resets before work, so that nothing is done
//! for a driver that is gone; completions and new requests together, so that one pass of the pool serves both; the shutdown last,
//! but for waking up after it.

use core::sync::atomic::Ordering;

use aarch64::time;
use abi::{DeviceView, Event, SharedPage};
use el1::guest_memory::GuestWindow;
use el1::hypercall::{interrupt, irq_done, needs_reset, quiesced, reset_done, wait};
use virtio::QueueConfig;
use volume::service::{COMPANY_US, Outcome, Setup};

use crate::disks::Lines;
use crate::log::log;
use crate::reconcile::Reconciler;
use crate::start::Served;

/// `DRIVER_OK` (virtio 1.2, section 2.1).
const DRIVER_OK: u32 = 1 << 2;
/// `DEVICE_NEEDS_RESET`.
const NEEDS_RESET: u32 = 1 << 6;

/// Serves for ever.
pub fn run(
    mut server: Served,
    lines: &Lines,
    mut reconciler: Reconciler,
    shared: &SharedPage,
    memory: &GuestWindow,
) -> ! {
    let mut again = false;
    loop {
        if !again {
            sleep(&server, &reconciler);
        }
        let events = shared.take();
        let mut round = Round::default();
        let hurry = events.contains(Event::TIME) || events.contains(Event::IDLE);
        if hurry {
            server.hurry();
        }
        let mut resume = again || hurry;
        for (device, view) in shared.devices.iter().enumerate().take(server.devices()) {
            if events.contains(Event::status(device)) {
                round.add(status_changed(&mut server, device, view, memory));
                reconciler.look_soon();
            }
            if events.contains(Event::doorbell(device)) {
                view.doorbells.swap(0, Ordering::Acquire);
                resume = true;
            }
        }
        for (disk, _) in lines.fired(events) {
            server.pool_mut().acknowledge(disk);
            resume = true;
        }
        if resume {
            round.add(server.resume(now_ms(), memory));
        }
        // Only now: until it is done a line stays quiet, so one round serves what completes meanwhile.
        lines.fired(events).for_each(|(_, line)| irq_done(line));
        if events.contains(Event::SHUTDOWN) {
            reconciler.stop();
            round.add(server.quiesce(now_ms(), memory));
        }
        if events.contains(Event::AWAKE) {
            reconciler.go_on();
            round.add(server.wake(now_ms(), memory));
        }
        again = round.finish(&mut server);
        again |= reconciler.step(&mut server);
    }
}

/// Until something happens, or the time has come that the pool, the reconciler, or a request that waits for company has named.
fn sleep(server: &Served, reconciler: &Reconciler) {
    let wake_at = [server.wake_at(), reconciler.wake_at()].into_iter().flatten().min().map(ticks);
    let put_off = server.puts_off();
    let look_at = put_off.then(|| time::counter() + time::ticks(COMPANY_US));
    wait([wake_at, look_at].into_iter().flatten().min(), put_off);
}

/// The clock of the pool.
pub fn now_ms() -> u64 {
    time::counter() / ticks_per_ms()
}

/// When the counter reaches the time `ms` of that clock.
fn ticks(ms: u64) -> u64 {
    ms.saturating_mul(ticks_per_ms())
}

fn ticks_per_ms() -> u64 {
    (time::frequency_hz() / 1000).max(1)
}

/// The driver is ready, or wants its device reset.
fn status_changed(server: &mut Served, device: usize, view: &DeviceView, memory: &GuestWindow) -> Outcome {
    let status = view.status.load(Ordering::Acquire);
    if status & DRIVER_OK == 0 {
        server.reset(device);
        reset_done(device);
        return Outcome::default();
    }
    if status & NEEDS_RESET != 0 {
        // A life of this domain before found the ring malformed.
        return Outcome::default();
    }
    let queue = &view.queues[0];
    let queue = QueueConfig {
        size: queue.size.load(Ordering::Relaxed),
        descriptor_table: queue.descriptor_table.load(Ordering::Relaxed),
        available_ring: queue.available_ring.load(Ordering::Relaxed),
        used_ring: queue.used_ring.load(Ordering::Relaxed),
    };
    let features = view.driver_features.load(Ordering::Relaxed);
    let generation = view.generation.load(Ordering::Relaxed);
    server.start(device, now_ms(), memory, &Setup { queue, features, generation })
}

/// What the parts of one round ask for together.
#[derive(Default)]
struct Round {
    interrupts: u32,
    needs_reset: u32,
    again: bool,
    quiesced: Option<bool>,
}

impl Round {
    fn add(&mut self, outcome: Outcome) {
        self.interrupts |= outcome.interrupts;
        self.needs_reset |= outcome.needs_reset;
        self.again |= outcome.again;
        self.quiesced = outcome.quiesced.or(self.quiesced);
    }

    /// Tells EL2 and the log; whether there is more to do at once.
    fn finish(self, server: &mut Served) -> bool {
        while let Some(event) = server.next_event() {
            log!("{event}");
        }
        bits(self.interrupts).for_each(interrupt);
        bits(self.needs_reset).for_each(needs_reset);
        if let Some(durable) = self.quiesced {
            if !durable {
                log!("the last writes could not be made durable");
            }
            quiesced();
        }
        self.again
    }
}

/// The numbers of the bits that are set.
pub fn bits(word: u32) -> impl Iterator<Item = usize> {
    (0..abi::DEVICES).filter(move |bit| word >> bit & 1 != 0)
}
