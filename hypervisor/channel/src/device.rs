//! The state machine of one virtual device: what a driver's write does to its registers.
//!
//! Three facts carry it. The *offer* is the backend's and never changes once made. The *driver state* (status, features,
//! queues) is the driver's and starts afresh at each reset. The *phase* says whether the backend may be at work: it may from
//! the moment `DRIVER_OK` is set until it has confirmed a reset. Everything that the driver configures is frozen during that
//! time, so that what the backend was told stays true.

use abi::QUEUES;

use crate::queue::Queue;
use crate::registers::{
    CONFIG_BYTES, CONFIG_CHANGE, LAYOUT_VERSION, MAGIC, RegisterPage, USED_BUFFER, VENDOR, features, offset, status,
};

/// Largest size of a split queue (virtio 1.2, section 2.7).
const QUEUE_SIZE_LIMIT: u32 = 32768;

/// What the backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// virtio device type (virtio 1.2, section 5); not 0.
    pub device_id: u32,
    /// Device features; with `VERSION_1`, without [`features::UNSUPPORTED`].
    pub features: u64,
    /// Number of queues, 1 to `abi::QUEUES`.
    pub queues: u8,
    /// Largest size of each queue in entries, a power of two up to 32768.
    pub queue_size_max: u16,
}

/// Why an offer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// Device type 0 means "no device".
    DeviceId,
    /// `VERSION_1` is missing, or a feature is offered that the register file does not implement.
    Features,
    /// No queue, or more than `abi::QUEUES`.
    Queues,
    /// The queue size is no power of two or above 32768.
    QueueSize,
    /// Another offer stands: a driver may have seen it.
    Differs,
}

/// What EL2 must do after a driver's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing: step over the instruction.
    None,
    /// [`crate::ring_doorbell`], raise `Event::doorbell`, step over the instruction.
    Notify {
        /// Index of the notified queue.
        queue: u8,
    },
    /// The driver is ready to work, has given up, or has reset a device whose backend is stopped: [`Device::publish`], raise
    /// `Event::status`, set the interrupt line to [`Device::line`], step over the instruction.
    StatusChanged,
    /// Set the interrupt line of the device to this level, step over the instruction.
    LineChanged(bool),
    /// A reset begins that the backend must confirm: [`Device::publish`], raise `Event::status`, lower the interrupt line. Do
    /// *not* step over the instruction: replay it later.
    ResetRequested,
    /// The reset under way is not confirmed yet. Do *not* step over the instruction: replay it later.
    ResetPending,
}

/// What the backend may be doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing: `DRIVER_OK` has not been set since the last reset.
    #[default]
    Idle,
    /// It may touch the rings.
    Live,
    /// The driver asked for a reset that the backend has not confirmed.
    Resetting,
}

/// What the driver has written since the last reset.
#[derive(Clone, Copy, Debug, Default)]
struct Driver {
    status: u32,
    features: u64,
    /// A feature bit above 63 was accepted; none is ever offered.
    features_beyond: bool,
    features_sel: u32,
    queues: [Queue; QUEUES],
}

/// One virtual device; by default one that nobody offers.
#[derive(Clone, Debug, Default)]
pub struct Device {
    offer: Option<Offer>,
    driver: Driver,
    phase: Phase,
    backend_present: bool,
    device_features_sel: u32,
    queue_sel: u32,
    interrupt_status: u32,
    config_generation: u32,
    generation: u32,
}

impl Device {
    /// Fills a zeroed page: every register is right from then on. A device that nobody offers shows DeviceID 0, which drivers
    /// skip (virtio 1.2, section 4.2.2.2).
    pub fn show(&self, page: &mut impl RegisterPage) {
        self.show_all(page);
    }

    /// The backend offers the device. The same offer again (a backend that restarted) keeps the driver's state and marks the
    /// backend as present.
    pub fn attach(&mut self, page: &mut impl RegisterPage, offer: Offer) -> Result<(), AttachError> {
        check_offer(&offer)?;
        if self.offer.is_some_and(|standing| standing != offer) {
            return Err(AttachError::Differs);
        }
        self.offer = Some(offer);
        self.backend_present = true;
        self.show_all(page);
        Ok(())
    }

    /// Sets one word of the configuration space at byte `offset` of it. Returns false, having done nothing, if `offset` is no
    /// multiple of 4 below [`CONFIG_BYTES`].
    ///
    /// A change of several words after the driver is ready ends with [`Device::raise_config`]: the driver then reads again,
    /// so it cannot keep a mixture of old and new words.
    #[must_use]
    pub fn set_config(&mut self, page: &mut impl RegisterPage, offset: usize, value: u32) -> bool {
        if !offset.is_multiple_of(4) || offset >= CONFIG_BYTES {
            return false;
        }
        page.set(offset::CONFIG + offset, value);
        if self.offer.is_some() {
            self.config_generation = self.config_generation.wrapping_add(1);
            page.set(offset::CONFIG_GENERATION, self.config_generation);
        }
        true
    }

    /// A driver's store of `size` bytes at byte `offset` of the page. Only aligned 32-bit stores to registers mean anything
    /// (virtio 1.2, section 4.2.2.2); all others, the configuration space included, are ignored.
    pub fn write(&mut self, page: &mut impl RegisterPage, offset: usize, size: usize, value: u64) -> Effect {
        let Some(offer) = self.offer else { return Effect::None };
        if size != 4 {
            return Effect::None;
        }
        let value = value as u32;
        match offset {
            offset::QUEUE_NOTIFY => self.notify(&offer, value),
            offset::INTERRUPT_ACK => self.acknowledge(page, value),
            offset::STATUS if value == 0 => self.reset(page),
            offset::STATUS => self.add_status(page, &offer, value),
            offset::DEVICE_FEATURES_SEL => {
                self.device_features_sel = value;
                self.show_features(page);
                Effect::None
            }
            offset::QUEUE_SEL => {
                self.queue_sel = value;
                self.show_queue(page);
                Effect::None
            }
            _ => {
                self.configure(page, &offer, offset, value);
                Effect::None
            }
        }
    }

    /// A used-buffer notification from the backend. Returns the level that the interrupt line has now.
    pub fn raise_used(&mut self, page: &mut impl RegisterPage) -> bool {
        self.raise(page, USED_BUFFER)
    }

    /// A configuration-change notification from the backend. Returns the level that the interrupt line has now.
    pub fn raise_config(&mut self, page: &mut impl RegisterPage) -> bool {
        self.raise(page, CONFIG_CHANGE)
    }

    /// The backend cannot go on until the driver resets the device (virtio 1.2, section 2.1.2); notifies are ignored until
    /// then. Returns the level that the interrupt line has now.
    pub fn needs_reset(&mut self, page: &mut impl RegisterPage) -> bool {
        if self.offer.is_some() && self.phase != Phase::Resetting {
            self.driver.status |= status::DEVICE_NEEDS_RESET;
            page.set(offset::STATUS, self.driver.status);
        }
        self.raise(page, CONFIG_CHANGE)
    }

    /// The backend has dropped every request: the reset under way completes. Returns false if there was none.
    #[must_use]
    pub fn reset_done(&mut self, page: &mut impl RegisterPage) -> bool {
        if self.phase != Phase::Resetting {
            return false;
        }
        self.forget_driver(page);
        true
    }

    /// The backend has been stopped and will touch no ring until it attaches again: a reset under way completes, later ones
    /// complete at once. The device keeps answering and remembers doorbells. EL2 must call it only once the backend's cores
    /// and DMA are stopped. After it, publish the device again.
    pub fn backend_stopped(&mut self, page: &mut impl RegisterPage) {
        self.backend_present = false;
        if self.phase == Phase::Resetting {
            self.forget_driver(page);
        }
    }

    /// The level of the device's interrupt line.
    pub fn line(&self) -> bool {
        self.interrupt_status != 0
    }

    /// Whether the backend may work: the driver has set `DRIVER_OK` and no reset is under way.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether a reset waits for [`Device::reset_done`].
    pub fn is_resetting(&self) -> bool {
        self.phase == Phase::Resetting
    }

    /// Whether the backend that has offered the device is there, and has not stopped since.
    pub fn is_backend_present(&self) -> bool {
        self.backend_present
    }

    /// Whether a backend has offered the device.
    pub fn is_attached(&self) -> bool {
        self.offer.is_some()
    }

    /// What a backend has offered.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// What the driver has written to the register at `offset`, of those that virtio-mmio does not let it read: the selectors, the
    /// accepted features, and size and addresses of the selected queue; 0 of a queue that does not exist, and of other registers.
    pub fn written(&self, offset: usize) -> u32 {
        match offset {
            offset::DEVICE_FEATURES_SEL => self.device_features_sel,
            offset::DRIVER_FEATURES_SEL => self.driver.features_sel,
            offset::DRIVER_FEATURES => word_of(self.driver.features, self.driver.features_sel),
            offset::QUEUE_SEL => self.queue_sel,
            _ => self.selected().map_or(0, |queue| queue.written(offset)),
        }
    }

    /// The status as the backend shall see it: 0 unless it may work.
    pub(crate) fn backend_status(&self) -> u32 {
        if self.is_live() { self.driver.status } else { 0 }
    }

    /// Counts the resets that a backend had to confirm.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn driver_features(&self) -> u64 {
        self.driver.features
    }

    pub(crate) fn queues(&self) -> &[Queue; QUEUES] {
        &self.driver.queues
    }

    fn notify(&self, offer: &Offer, value: u32) -> Effect {
        let working = self.is_live() && self.driver.status & status::DEVICE_NEEDS_RESET == 0;
        match self.driver.queues.get(value as usize) {
            Some(queue) if working && queue.ready && value < u32::from(offer.queues) => {
                Effect::Notify { queue: value as u8 }
            }
            _ => Effect::None,
        }
    }

    fn acknowledge(&mut self, page: &mut impl RegisterPage, value: u32) -> Effect {
        let before = self.line();
        self.interrupt_status &= !value;
        page.set(offset::INTERRUPT_STATUS, self.interrupt_status);
        if before && !self.line() { Effect::LineChanged(false) } else { Effect::None }
    }

    /// The driver wrote 0 to `Status`.
    fn reset(&mut self, page: &mut impl RegisterPage) -> Effect {
        match self.phase {
            Phase::Resetting => Effect::ResetPending,
            Phase::Live if self.backend_present => {
                self.phase = Phase::Resetting;
                self.generation = self.generation.wrapping_add(1);
                self.interrupt_status = 0;
                page.set(offset::INTERRUPT_STATUS, 0);
                Effect::ResetRequested
            }
            Phase::Live => {
                self.generation = self.generation.wrapping_add(1);
                self.forget_driver(page);
                Effect::StatusChanged
            }
            Phase::Idle => {
                self.forget_driver(page);
                Effect::None
            }
        }
    }

    /// The driver wrote a status that is not 0: bits are added, never taken away (virtio 1.2, section 2.1.1).
    fn add_status(&mut self, page: &mut impl RegisterPage, offer: &Offer, value: u32) -> Effect {
        if self.phase == Phase::Resetting {
            return Effect::None;
        }
        let before = self.driver.status;
        let mut new = value & status::DRIVER_BITS & !before;
        if new & status::FEATURES_OK != 0 && !self.features_agree(offer) {
            new &= !status::FEATURES_OK;
        }
        if (before | new) & status::FEATURES_OK == 0 || before & status::DEVICE_NEEDS_RESET != 0 {
            new &= !status::DRIVER_OK;
        }
        self.driver.status = before | new;
        page.set(offset::STATUS, self.driver.status);
        if new & status::DRIVER_OK != 0 {
            self.phase = Phase::Live;
        }
        let tell = self.is_live() && new & (status::DRIVER_OK | status::FAILED) != 0;
        if tell { Effect::StatusChanged } else { Effect::None }
    }

    /// Whether the driver has accepted only what was offered, and `VERSION_1` among it.
    fn features_agree(&self, offer: &Offer) -> bool {
        let driver = self.driver.features;
        driver & !offer.features == 0 && driver & features::VERSION_1 != 0 && !self.driver.features_beyond
    }

    /// Registers that set the device up; frozen while the backend may work.
    fn configure(&mut self, page: &mut impl RegisterPage, offer: &Offer, offset: usize, value: u32) {
        if self.phase != Phase::Idle {
            return;
        }
        match offset {
            offset::DRIVER_FEATURES_SEL => self.driver.features_sel = value,
            offset::DRIVER_FEATURES => self.accept_features(value),
            _ => self.configure_queue(page, offer, offset, value),
        }
    }

    fn accept_features(&mut self, value: u32) {
        if self.driver.status & status::FEATURES_OK != 0 {
            return;
        }
        let (value, features) = (u64::from(value), self.driver.features);
        match self.driver.features_sel {
            0 => self.driver.features = (features & !0xffff_ffff) | value,
            1 => self.driver.features = (features & 0xffff_ffff) | (value << 32),
            _ => self.driver.features_beyond |= value != 0,
        }
    }

    fn configure_queue(&mut self, page: &mut impl RegisterPage, offer: &Offer, offset: usize, value: u32) {
        let Some(queue) = selected(&mut self.driver.queues, self.queue_sel, offer) else { return };
        match offset {
            offset::QUEUE_SIZE => queue.set_size(value, u32::from(offer.queue_size_max)),
            offset::QUEUE_READY => {
                queue.set_ready(value);
                self.show_queue(page);
            }
            _ => queue.set_address(offset, value),
        }
    }

    fn raise(&mut self, page: &mut impl RegisterPage, bit: u32) -> bool {
        if self.is_live() {
            self.interrupt_status |= bit;
            page.set(offset::INTERRUPT_STATUS, self.interrupt_status);
        }
        self.line()
    }

    /// Everything that the driver wrote is gone; the page says so.
    fn forget_driver(&mut self, page: &mut impl RegisterPage) {
        self.driver = Driver::default();
        self.phase = Phase::Idle;
        self.device_features_sel = 0;
        self.queue_sel = 0;
        self.interrupt_status = 0;
        self.show_features(page);
        self.show_queue(page);
        page.set(offset::INTERRUPT_STATUS, 0);
        page.set(offset::STATUS, 0);
    }

    fn show_all(&self, page: &mut impl RegisterPage) {
        page.set(offset::VERSION, LAYOUT_VERSION);
        page.set(offset::VENDOR_ID, VENDOR);
        for register in [offset::SHM_LEN_LOW, offset::SHM_LEN_HIGH, offset::SHM_BASE_LOW, offset::SHM_BASE_HIGH] {
            page.set(register, u32::MAX);
        }
        page.set(offset::CONFIG_GENERATION, self.config_generation);
        page.set(offset::INTERRUPT_STATUS, self.interrupt_status);
        page.set(offset::STATUS, self.driver.status);
        self.show_features(page);
        self.show_queue(page);
        page.set(offset::DEVICE_ID, self.offer.map_or(0, |offer| offer.device_id));
        page.set(offset::MAGIC_VALUE, MAGIC);
    }

    fn show_features(&self, page: &mut impl RegisterPage) {
        let features = self.offer.map_or(0, |offer| offer.features);
        page.set(offset::DEVICE_FEATURES, word_of(features, self.device_features_sel));
    }

    fn show_queue(&self, page: &mut impl RegisterPage) {
        let size = self.offer.map_or(0, |offer| u32::from(offer.queue_size_max));
        let queue = self.selected();
        page.set(offset::QUEUE_SIZE_MAX, queue.map_or(0, |_| size));
        page.set(offset::QUEUE_READY, queue.map_or(0, |queue| u32::from(queue.ready)));
    }

    /// The queue that `QueueSel` means, if the device has it.
    fn selected(&self) -> Option<&Queue> {
        let exists = self.offer.is_some_and(|offer| self.queue_sel < u32::from(offer.queues));
        if exists { self.driver.queues.get(self.queue_sel as usize) } else { None }
    }
}

/// The 32 bits of `features` that `selector` means.
fn word_of(features: u64, selector: u32) -> u32 {
    match selector {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// The queue that `QueueSel` means, if the device has it.
fn selected<'a>(queues: &'a mut [Queue; QUEUES], sel: u32, offer: &Offer) -> Option<&'a mut Queue> {
    if sel < u32::from(offer.queues) { queues.get_mut(sel as usize) } else { None }
}

fn check_offer(offer: &Offer) -> Result<(), AttachError> {
    let size = u32::from(offer.queue_size_max);
    if offer.device_id == 0 {
        Err(AttachError::DeviceId)
    } else if offer.features & features::VERSION_1 == 0 || offer.features & features::UNSUPPORTED != 0 {
        Err(AttachError::Features)
    } else if offer.queues == 0 || usize::from(offer.queues) > QUEUES {
        Err(AttachError::Queues)
    } else if !size.is_power_of_two() || size > QUEUE_SIZE_LIMIT {
        Err(AttachError::QueueSize)
    } else {
        Ok(())
    }
}
