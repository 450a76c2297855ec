//! The virtual devices of the general domain: register file, doorbells and interrupt lines, wired to the secure domain.

use abi::{Event, hypercall};
use channel::{Device, Effect, Offer};
use el2::pages::RegisterPage;
use pci::Function;

use crate::system::Core;

/// One virtual device: its state, its registers as a page that its driver reads, and the PCI function that it is instead where
/// the board has a bus.
pub struct VirtualDevice {
    /// The state machine.
    pub device: Device,
    /// Its registers.
    pub page: RegisterPage,
    /// In front of both.
    pub function: Function,
}

impl VirtualDevice {
    /// Device `index`, offered by nobody yet.
    pub fn new(index: usize) -> VirtualDevice {
        let mut page = RegisterPage::of(index);
        let device = Device::default();
        device.show(&mut page);
        VirtualDevice { device, page, function: Function::new() }
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
    let VirtualDevice { device, page, .. } = &mut *guard;
    let effect = device.write(page, offset, size, value);
    if matches!(effect, Effect::LineChanged(_) | Effect::StatusChanged | Effect::ResetRequested) {
        drive_line(core, index, device.line());
    }
    carry_out(core, index, device, effect)
}

/// Does what `effect` of a driver's store on device `index` asks for, but for its line.
#[inline(always)]
pub fn carry_out(core: &Core, index: usize, device: &Device, effect: Effect) -> Store {
    let shared = core.system.shared;
    let view = &shared.devices[index];
    match effect {
        Effect::None | Effect::LineChanged(_) => Store::Done,
        Effect::Notify { queue } => {
            channel::ring_doorbell(view, queue);
            shared.raise(Event::doorbell(index));
            Store::Kick
        }
        Effect::StatusChanged | Effect::ResetRequested => {
            device.publish(view);
            shared.raise(Event::status(index));
            if effect == Effect::ResetRequested { Store::Replay } else { Store::Kick }
        }
        Effect::ResetPending => Store::Replay,
    }
}

/// Every driver is gone: each device is reset as if its driver had asked for it. The secure domain confirms it where it may be at work.
#[inline(never)]
pub fn reset_all(core: &mut Core) {
    crate::pci::reset(core);
    for index in 0..core.system.devices.len() {
        // The effects are the same; there is no instruction to step over or to replay.
        let _ = store(core, index, channel::offset::STATUS, 4, 0);
    }
}

/// Whether no reset waits for the secure domain.
pub fn are_reset(core: &Core) -> bool {
    core.system.devices.iter().all(|device| !device.lock().device.is_resetting())
}

/// What the secure domain has to tell the driver of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Buffers were used.
    Used,
    /// The configuration changed.
    ConfigChanged,
    /// The device cannot go on until it is reset.
    NeedsReset,
}

/// Tells the driver of device `index`.
pub fn notify(core: &mut Core, index: usize, notice: Notice) {
    change(core, index, |_, _| Some(notice));
}

/// Does `work` to device `index` for the secure domain, and tells its driver what comes of it: by a message or by the line.
fn change(core: &mut Core, index: usize, work: impl FnOnce(&mut Device, &mut RegisterPage) -> Option<Notice>) {
    let system = core.system;
    let mut guard = system.devices[index].lock();
    let VirtualDevice { device, page, function } = &mut *guard;
    let notice = work(device, page);
    match notice {
        Some(Notice::Used) => _ = device.raise_used(page),
        Some(Notice::ConfigChanged) => _ = device.raise_config(page),
        Some(Notice::NeedsReset) => _ = device.needs_reset(page),
        None => {}
    }
    if !crate::pci::IS_THERE {
        return drive_line(core, index, device.line());
    }
    let vectors = match notice {
        Some(Notice::Used) => function.raise_used(device),
        Some(_) => function.raise_config(device),
        None => 0,
    };
    crate::pci::send(core, function, vectors);
    drive_line(core, index, function.line(device));
}

/// The secure domain has dropped every request of device `index`.
pub fn reset_done(core: &mut Core, index: usize) -> Result<(), hypercall::Error> {
    let mut guard = core.system.devices[index].lock();
    let VirtualDevice { device, page, .. } = &mut *guard;
    if device.reset_done(page) { Ok(()) } else { Err(hypercall::Error::Denied) }
}

/// The secure domain has crashed and will be back: a reset under way completes, and later ones need nobody. All else waits.
pub fn backend_absent(core: &mut Core) {
    for index in 0..core.system.devices.len() {
        change(core, index, |device, page| {
            device.backend_stopped(page);
            None
        });
    }
}

/// The secure domain is back, and learns which drivers wait for it. Each is notified, since the last life may have died between
/// showing a used buffer and saying so. A device that is not offered any more is lost.
pub fn backend_returned(core: &mut Core) {
    let system = core.system;
    for (index, view) in system.shared.devices.iter().enumerate() {
        change(core, index, |device, _| {
            device.publish(view);
            Some(if device.is_backend_present() { Notice::Used } else { Notice::NeedsReset })
        });
        system.shared.raise(Event::status(index));
    }
}

/// The secure domain has stopped for good: every driver is told that its device needs a reset, and resets complete at once.
pub fn backend_stopped(core: &mut Core) {
    for index in 0..core.system.devices.len() {
        change(core, index, |device, page| {
            device.backend_stopped(page);
            device.is_attached().then_some(Notice::NeedsReset)
        });
    }
}

/// Sets the interrupt line of device `index`. Called with the device locked, so that levels arrive in the order they were made.
pub fn drive_line(core: &mut Core, index: usize, level: bool) {
    let intid = core.system.map.channel_intid(index);
    let kicks = core.system.vgic.set_level(core.index, intid, level, &mut core.interrupts);
    core.kick(kicks);
}
