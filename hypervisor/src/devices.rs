//! The virtual devices of the general domain: register file, doorbells and interrupt lines, wired to the secure domain.

use abi::{Event, hypercall};
use channel::{Device, Effect, Offer};
use el2::pages::RegisterPage;

use crate::system::Core;

/// One virtual device: its state and the page that its driver reads.
pub struct VirtualDevice {
    device: Device,
    page: RegisterPage,
}

impl VirtualDevice {
    /// Device `index`, offered by nobody yet.
    pub fn new(index: usize) -> VirtualDevice {
        let mut page = RegisterPage::of(index);
        let device = Device::new();
        device.show(&mut page);
        VirtualDevice { device, page }
    }

    /// Whether the secure domain has offered it.
    pub fn is_attached(&self) -> bool {
        self.device.is_attached()
    }

    /// The secure domain offers it.
    pub fn attach(&mut self, offer: Offer) -> Result<(), hypercall::Error> {
        self.device.attach(&mut self.page, offer).map_err(|_| hypercall::Error::InvalidParameter)
    }

    /// The secure domain sets a word of its configuration space.
    pub fn set_config(&mut self, offset: usize, value: u32) -> Result<(), hypercall::Error> {
        let known = self.device.set_config(&mut self.page, offset, value);
        if known { Ok(()) } else { Err(hypercall::Error::InvalidParameter) }
    }
}

/// What is left to do after an emulated access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Step over the instruction.
    Done,
    /// Step over it, and give the core to the secure domain: there is work for it.
    Kick,
    /// Do not step over it: the store waits for the secure domain and is replayed.
    Replay,
    /// Do not step over it: another core knows the answer, and will have told it when the guest executes it again.
    Again,
}

/// The driver of device `index` stores `size` bytes at `offset` of its register page.
#[inline(always)]
pub fn store(core: &mut Core, index: usize, offset: usize, size: usize, value: u64) -> Store {
    let system = core.system;
    let mut guard = system.devices[index].lock();
    let VirtualDevice { device, page } = &mut *guard;
    let view = &system.shared.devices[index];
    match device.write(page, offset, size, value) {
        Effect::None => Store::Done,
        Effect::Notify { queue } => {
            channel::ring_doorbell(view, queue);
            system.shared.raise(Event::doorbell(index));
            Store::Kick
        }
        Effect::LineChanged(level) => {
            drive_line(core, index, level);
            Store::Done
        }
        Effect::StatusChanged => {
            device.publish(view);
            system.shared.raise(Event::status(index));
            drive_line(core, index, device.line());
            Store::Kick
        }
        Effect::ResetRequested => {
            device.publish(view);
            system.shared.raise(Event::status(index));
            drive_line(core, index, false);
            Store::Replay
        }
        Effect::ResetPending => Store::Replay,
    }
}

/// Every driver is gone: each device is reset as if its driver had asked for it. The secure domain confirms it where it may be at work.
#[inline(never)]
pub fn reset_all(core: &mut Core) {
    for index in 0..core.system.devices.len() {
        // The effects are the same; there is no instruction to step over or to replay.
        let _ = store(core, index, channel::offset::STATUS, 4, 0);
    }
}

/// Whether no reset waits for the secure domain.
pub fn are_reset(core: &Core) -> bool {
    core.system.devices.iter().all(|device| !device.lock().device.is_resetting())
}

/// Does `change` to device `index` for the secure domain and drives the line to the level that it returns.
pub fn signal(core: &mut Core, index: usize, change: impl FnOnce(&mut Device, &mut RegisterPage) -> bool) {
    let system = core.system;
    let mut guard = system.devices[index].lock();
    let VirtualDevice { device, page } = &mut *guard;
    let level = change(device, page);
    drive_line(core, index, level);
}

/// The secure domain has dropped every request of device `index`.
pub fn reset_done(core: &mut Core, index: usize) -> Result<(), hypercall::Error> {
    let mut guard = core.system.devices[index].lock();
    let VirtualDevice { device, page } = &mut *guard;
    if device.reset_done(page) { Ok(()) } else { Err(hypercall::Error::Denied) }
}

/// The secure domain has crashed and will be back: a reset under way completes, and later ones need nobody. All else waits.
pub fn backend_absent(core: &mut Core) {
    for index in 0..core.system.devices.len() {
        signal(core, index, |device, page| {
            device.backend_stopped(page);
            device.line()
        });
    }
}

/// The secure domain is back, and learns which drivers wait for it. Each is notified, since the last life may have died between
/// showing a used buffer and saying so. A device that is not offered any more is lost.
pub fn backend_returned(core: &mut Core) {
    let system = core.system;
    for (index, view) in system.shared.devices.iter().enumerate() {
        signal(core, index, |device, page| {
            device.publish(view);
            if device.is_backend_present() { device.raise_used(page) } else { device.needs_reset(page) }
        });
        system.shared.raise(Event::status(index));
    }
}

/// The secure domain has stopped for good: every driver is told that its device needs a reset, and resets complete at once.
pub fn backend_stopped(core: &mut Core) {
    for index in 0..core.system.devices.len() {
        signal(core, index, |device, page| {
            device.backend_stopped(page);
            if device.is_attached() { device.needs_reset(page) } else { false }
        });
    }
}

/// Sets the interrupt line of device `index`. Called with the device locked, so that levels arrive in the order they were made.
fn drive_line(core: &mut Core, index: usize, level: bool) {
    let intid = core.system.map.channel_intid(index);
    let kicks = core.system.vgic.set_level(core.index, intid, level, &mut core.interrupts);
    core.kick(kicks);
}
