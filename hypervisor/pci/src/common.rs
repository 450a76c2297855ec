//! BAR page 0: the common configuration, the ISR status and the device configuration (virtio 1.2, sections 4.1.4.3 to 4.1.4.6), put
//! into the terms of the register file.
//!
//! A driver accesses a field with its own width, of 64-bit fields each half (section 4.1.3.1). Other stores mean nothing; other
//! loads get the bytes.

use abi::QUEUES;
use channel::{CONFIG_BYTES, Device, Effect, RegisterPage, offset};

use crate::bytes;
use crate::function::Behind;

/// Bytes of the common configuration: up to `queue_device`, as no feature is offered that asks for more.
pub(crate) const COMMON_BYTES: u32 = 0x38;
/// Where the ISR status is in the page.
pub(crate) const ISR: usize = 0x080;
/// Where the device configuration is in the page.
pub(crate) const DEVICE: usize = 0x100;

/// A vector field that names no vector (section 4.1.5.1.2.1).
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// Fields of the common configuration.
mod field {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub(super) const DEVICE_STATUS: usize = 0x14;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_DESC: usize = 0x20;
}

/// The halves of the queue's addresses, from `queue_desc` on, in the register file.
const ADDRESSES: [usize; 6] = [
    offset::QUEUE_DESC_LOW,
    offset::QUEUE_DESC_HIGH,
    offset::QUEUE_DRIVER_LOW,
    offset::QUEUE_DRIVER_HIGH,
    offset::QUEUE_DEVICE_LOW,
    offset::QUEUE_DEVICE_HIGH,
];

/// Which vector tells of what.
#[derive(Clone, Debug)]
pub(crate) struct Vectors {
    configuration: u16,
    queues: [u16; QUEUES],
}

impl Vectors {
    /// Nothing is told by a message.
    pub(crate) const NONE: Vectors = Vectors { configuration: NO_VECTOR, queues: [NO_VECTOR; QUEUES] };

    /// The vector of configuration changes, as a bit.
    pub(crate) fn of_configuration(&self) -> u32 {
        bit(self.configuration)
    }

    /// The vectors of all queues, a bit each.
    pub(crate) fn of_queues(&self) -> u32 {
        self.queues.iter().fold(0, |all, vector| all | bit(*vector))
    }

    /// Every vector that a field names, a bit each.
    pub(crate) fn named(&self) -> u32 {
        self.of_configuration() | self.of_queues()
    }

    /// The field of the selected queue, if it exists.
    fn selected(&mut self, device: &Device) -> Option<&mut u16> {
        let queues = device.offer().map_or(0, |offer| usize::from(offer.queues));
        self.queues.iter_mut().take(queues).nth(device.written(offset::QUEUE_SEL) as usize)
    }
}

fn bit(vector: u16) -> u32 {
    if vector == NO_VECTOR { 0 } else { 1_u32.checked_shl(vector.into()).unwrap_or(0) }
}

/// Reads `size` bytes at `at` in the page. A load of the ISR status clears it.
pub(crate) fn read<P: RegisterPage>(vectors: &mut Vectors, behind: &mut Behind<'_, P>, at: usize, size: usize) -> u64 {
    let isr = if bytes::touches(at, size, ISR, 1) { take_isr(behind) } else { 0 };
    bytes::read(at, size, |at| match at {
        0..ISR => common(vectors, behind, at),
        ISR => isr,
        DEVICE.. if at < DEVICE + CONFIG_BYTES => behind.page.get(offset::CONFIG + at - DEVICE),
        _ => 0,
    })
}

fn take_isr<P: RegisterPage>(behind: &mut Behind<'_, P>) -> u32 {
    let status = behind.page.get(offset::INTERRUPT_STATUS);
    let _ = behind.store(offset::INTERRUPT_ACK, status);
    status
}

/// The word at `at` of the common configuration.
fn common<P: RegisterPage>(vectors: &mut Vectors, behind: &Behind<'_, P>, at: usize) -> u32 {
    let (device, page) = (&*behind.device, &*behind.page);
    let halves = |low: u32, high: u32| low & 0xffff | high << 16;
    let queues = device.offer().map_or(0, |offer| u32::from(offer.queues));
    match at {
        field::DEVICE_FEATURE_SELECT => device.written(offset::DEVICE_FEATURES_SEL),
        field::DEVICE_FEATURE => page.get(offset::DEVICE_FEATURES),
        field::DRIVER_FEATURE_SELECT => device.written(offset::DRIVER_FEATURES_SEL),
        field::DRIVER_FEATURE => device.written(offset::DRIVER_FEATURES),
        field::CONFIG_MSIX_VECTOR => halves(vectors.configuration.into(), queues),
        field::DEVICE_STATUS => {
            let generation = page.get(offset::CONFIG_GENERATION) & 0xff;
            halves(page.get(offset::STATUS) & 0xff | generation << 8, device.written(offset::QUEUE_SEL))
        }
        field::QUEUE_SIZE => {
            let vector = vectors.selected(device).map_or(NO_VECTOR, |vector| *vector);
            halves(queue_size(behind), vector.into())
        }
        // The upper half is `queue_notify_off`: all queues share one doorbell.
        field::QUEUE_ENABLE => page.get(offset::QUEUE_READY),
        _ => address(at).map_or(0, |register| device.written(register)),
    }
}

/// The register of half an address of the selected queue.
fn address(at: usize) -> Option<usize> {
    ADDRESSES.get(at.checked_sub(field::QUEUE_DESC)? / 4).copied()
}

/// What the driver has chosen; until then, or if that was no size, the largest.
fn queue_size<P: RegisterPage>(behind: &Behind<'_, P>) -> u32 {
    match behind.device.written(offset::QUEUE_SIZE) {
        0 => behind.page.get(offset::QUEUE_SIZE_MAX),
        size => size,
    }
}

/// A store of `size` bytes at `at` in the page. Vectors are below `limit`.
pub(crate) fn write<P: RegisterPage>(
    vectors: &mut Vectors,
    behind: &mut Behind<'_, P>,
    (at, size): (usize, usize),
    value: u32,
    limit: usize,
) -> Effect {
    match (at, size) {
        (field::DEVICE_FEATURE_SELECT, 4) => behind.store(offset::DEVICE_FEATURES_SEL, value),
        (field::DRIVER_FEATURE_SELECT, 4) => behind.store(offset::DRIVER_FEATURES_SEL, value),
        (field::DRIVER_FEATURE, 4) => behind.store(offset::DRIVER_FEATURES, value),
        (field::CONFIG_MSIX_VECTOR, 2) => {
            vectors.configuration = vector(value, limit);
            Effect::None
        }
        (field::DEVICE_STATUS, 1) => {
            if value == 0 {
                *vectors = Vectors::NONE;
            }
            behind.store(offset::STATUS, value)
        }
        (field::QUEUE_SELECT, 2) => behind.store(offset::QUEUE_SEL, value),
        (field::QUEUE_SIZE, 2) => behind.store(offset::QUEUE_SIZE, value),
        (field::QUEUE_MSIX_VECTOR, 2) => {
            if let Some(field) = vectors.selected(behind.device) {
                *field = vector(value, limit);
            }
            Effect::None
        }
        (field::QUEUE_ENABLE, 2) if value == 1 => enable(behind),
        (field::QUEUE_DESC.., 4) if at.is_multiple_of(4) => {
            address(at).map_or(Effect::None, |register| behind.store(register, value))
        }
        _ => Effect::None,
    }
}

/// A queue whose size the driver has left alone has the largest.
fn enable<P: RegisterPage>(behind: &mut Behind<'_, P>) -> Effect {
    let size = queue_size(behind);
    let _ = behind.store(offset::QUEUE_SIZE, size);
    behind.store(offset::QUEUE_READY, 1)
}

/// A vector field: one that does not exist reads back as none, which is how a driver learns of it.
fn vector(value: u32, limit: usize) -> u16 {
    if (value as usize) < limit { value as u16 } else { NO_VECTOR }
}
