//! A virtio block driver as small as can be, which can be told to do everything wrong.
//!
//! The rings are never Rust objects: they are an area of bytes that is only touched through [`crate::access`], because the
//! device writes to it too.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::access::{load, read32, store};
use crate::bus::Function;
use crate::interrupts::{now, ticks};
use crate::tree::{Machine, Range};

/// Entries of the queue.
pub(crate) const QUEUE_SIZE: u16 = 16;
/// Bytes of a logical block.
pub(crate) const BLOCK: u32 = 4096;
/// The status byte before the device has written it.
const UNTOUCHED: u8 = 0xff;

/// "HAEC": devices whose register page EL2 keeps.
const VENDOR: u32 = u32::from_le_bytes(*b"HAEC");
const BLOCK_DEVICE: u32 = 2;
/// Accepted of what is offered: VERSION_1, ACCESS_PLATFORM, INDIRECT.
const FEATURES: u64 = 1 << 32 | 1 << 33 | 1 << 28;

/// Descriptor flags (virtio 1.2, section 2.7.5).
pub(crate) mod flag {
    /// Another descriptor follows.
    pub(crate) const NEXT: u16 = 1;
    /// The device writes the buffer.
    pub(crate) const WRITE: u16 = 2;
    /// The buffer is a table of descriptors.
    pub(crate) const INDIRECT: u16 = 4;
}

/// Register offsets (virtio 1.2, section 4.2.2).
pub(crate) mod register {
    /// Magic value.
    pub(crate) const MAGIC: usize = 0x000;
    /// Layout version.
    pub(crate) const VERSION: usize = 0x004;
    /// Device type.
    pub(crate) const DEVICE_ID: usize = 0x008;
    /// Vendor.
    pub(crate) const VENDOR_ID: usize = 0x00c;
    /// Queue notification.
    pub(crate) const QUEUE_NOTIFY: usize = 0x050;
    /// Interrupt acknowledgement.
    pub(crate) const INTERRUPT_ACK: usize = 0x064;
    /// Device status.
    pub(crate) const STATUS: usize = 0x070;
    /// Configuration space.
    pub(crate) const CONFIG: usize = 0x100;
}

/// `DEVICE_NEEDS_RESET`.
const NEEDS_RESET: u32 = 64;

/// The area: descriptors, available ring, used ring, headers, status bytes, an indirect table, data.
#[repr(C, align(4096))]
struct Area(UnsafeCell<[u8; AREA_BYTES]>);

const AREA_BYTES: usize = 0x1_0000;

// SAFETY: never touched as a Rust object, only by address through `access`.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; AREA_BYTES]));

/// Where the area lies instead, if not 0: in the memory that the device may reach.
static WINDOW: AtomicUsize = AtomicUsize::new(0);

/// From here on the area lies at the start of `window`.
pub(crate) fn move_to(window: Range) {
    assert!(window.size >= AREA_BYTES);
    WINDOW.store(window.base, Ordering::Relaxed);
}

/// The area before it was moved: memory of the probe in any case.
pub(crate) fn own_area() -> usize {
    AREA.0.get().addr()
}

/// Address of the byte at `offset` of the area.
fn area(offset: usize) -> usize {
    offset
        + match WINDOW.load(Ordering::Relaxed) {
            0 => own_area(),
            window => window,
        }
}

/// The descriptor table.
pub(crate) fn table() -> usize {
    area(0)
}

fn available() -> usize {
    area(0x1000)
}

fn used() -> usize {
    area(0x2000)
}

/// A 16-byte request header.
pub(crate) fn header() -> usize {
    area(0x3000)
}

/// The status byte.
pub(crate) fn status() -> usize {
    area(0x3800)
}

/// A table for indirect descriptors.
pub(crate) fn indirect() -> usize {
    area(0x4000)
}

/// 32 KiB of data.
pub(crate) fn data() -> usize {
    area(0x8000)
}

/// Bytes at [`data`].
pub(crate) const DATA_BYTES: u32 = 0x8000;

/// A descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    /// Address of the buffer.
    pub(crate) address: u64,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// [`flag`]s.
    pub(crate) flags: u16,
    /// The next one's index.
    pub(crate) next: u16,
}

/// What the device made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It came back with this status byte.
    Status(u8),
    /// It came back and its status byte is untouched.
    Returned,
    /// The device asks for a reset.
    NeedsReset,
    /// Nothing happened in time.
    Ignored,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Status(status) => write!(f, "status_{status}"),
            Answer::Returned => f.write_str("returned_empty"),
            Answer::NeedsReset => f.write_str("needs_reset"),
            Answer::Ignored => f.write_str("ignored"),
        }
    }
}

/// Where a device has its registers.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A register page.
    Page(usize),
    /// A PCI function.
    Function(Function),
}

/// The driver.
pub(crate) struct Disk {
    place: Place,
    /// Entries that were made available since the reset.
    made: u16,
}

impl Disk {
    /// The block device whose register page EL2 keeps; without Haechi any block device will do.
    pub(crate) fn find(machine: &Machine) -> Option<Disk> {
        if let Some(function) = machine.virtual_pci.as_ref().and_then(Function::find) {
            function.enable();
            return Some(Disk::on(function));
        }
        let bases = machine.transports.iter().map(|transport| transport.base);
        let is_disk =
            |base: &usize| read32(base + register::VERSION) == 2 && read32(base + register::DEVICE_ID) == BLOCK_DEVICE;
        let mut disks = bases.filter(is_disk);
        let first = disks.clone().next();
        let base = disks.find(|base| read32(base + register::VENDOR_ID) == VENDOR).or(first)?;
        Some(Disk { place: Place::Page(base), made: 0 })
    }

    /// The block device that `function` is.
    pub(crate) fn on(function: Function) -> Disk {
        Disk { place: Place::Function(function), made: 0 }
    }

    /// Whether EL2 keeps the register page; otherwise it is QEMU's own device.
    pub(crate) fn is_haechis(&self) -> bool {
        match self.place {
            Place::Page(_) => self.read(register::VENDOR_ID) == VENDOR,
            Place::Function(_) => true,
        }
    }

    /// Address of the register page, or of the function's registers.
    pub(crate) fn base(&self) -> usize {
        match self.place {
            Place::Page(base) => base,
            Place::Function(function) => function.registers,
        }
    }

    /// Address and width of what means as much as `register` of the page.
    fn field(&self, register: usize) -> (usize, usize) {
        match self.place {
            Place::Page(base) => (base + register, 4),
            Place::Function(function) => function.field(register),
        }
    }

    /// Address of the doorbell.
    pub(crate) fn doorbell(&self) -> usize {
        self.field(register::QUEUE_NOTIFY).0
    }

    /// The device's capacity in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        u64::from(self.read(register::CONFIG)) | u64::from(self.read(register::CONFIG + 4)) << 32
    }

    /// Reads a register.
    pub(crate) fn read(&self, register: usize) -> u32 {
        let (address, size) = self.field(register);
        load(address, size).value() as u32
    }

    /// Writes a register.
    pub(crate) fn write(&self, register: usize, value: u32) {
        let (address, size) = self.field(register);
        let _ = store(address, size, value.into());
    }

    /// Resets the device and waits until it says so.
    pub(crate) fn reset(&mut self) -> bool {
        self.made = 0;
        self.write(register::STATUS, 0);
        let deadline = now() + ticks(1000);
        while self.read(register::STATUS) != 0 && now() < deadline {}
        self.read(register::STATUS) == 0
    }

    /// Resets the device and sets it up with the rings of the area.
    pub(crate) fn start(&mut self) -> bool {
        self.start_with(|| ())
    }

    /// As [`Disk::start`], with something else done before the device may work.
    pub(crate) fn start_with(&mut self, else_do: impl FnOnce()) -> bool {
        self.set_up([table() as u64, available() as u64, used() as u64], else_do)
    }

    /// As [`Disk::start`] with the rings at these addresses: descriptor table, available ring, used ring.
    pub(crate) fn start_at(&mut self, rings: [u64; 3]) -> bool {
        self.set_up(rings, || ())
    }

    fn set_up(&mut self, rings: [u64; 3], else_do: impl FnOnce()) -> bool {
        if let Place::Function(function) = self.place {
            function.enable();
        }
        if !self.reset() {
            return false;
        }
        for offset in (0..0x3000).step_by(8) {
            let _ = store(table() + offset, 8, 0);
        }
        self.write(register::STATUS, 3);
        for word in 0..2 {
            self.write(0x014, word);
            let offered = self.read(0x010);
            self.write(0x024, word);
            self.write(0x020, offered & (FEATURES >> (32 * word)) as u32);
        }
        self.write(register::STATUS, 11);
        self.write(0x030, 0);
        self.write(0x038, QUEUE_SIZE.into());
        for (index, address) in rings.into_iter().enumerate() {
            self.write(0x080 + 0x10 * index, address as u32);
            self.write(0x084 + 0x10 * index, (address >> 32) as u32);
        }
        self.write(0x044, 1);
        else_do();
        self.write(register::STATUS, 15);
        self.read(register::STATUS) & 15 == 15
    }

    /// Whether the device asks for a reset.
    pub(crate) fn needs_reset(&self) -> bool {
        self.read(register::STATUS) & NEEDS_RESET != 0
    }

    /// Writes a request header.
    pub(crate) fn set_header(&self, kind: u32, sector: u64) {
        let _ = store(header(), 4, kind.into());
        let _ = store(header() + 4, 4, 0);
        let _ = store(header() + 8, 8, sector);
        let _ = store(status(), 1, UNTOUCHED.into());
    }

    /// Makes the chain at `head` available, counts on by `step` (1 in a driver that is right) and notifies.
    pub(crate) fn submit(&mut self, head: u16, step: u16) {
        let slot = usize::from(self.made % QUEUE_SIZE);
        let _ = store(available() + 4 + 2 * slot, 2, head.into());
        self.made = self.made.wrapping_add(step);
        let _ = store(available() + 2, 2, self.made.into());
        barrier();
        self.write(register::QUEUE_NOTIFY, 0);
    }

    /// Waits until everything has come back, or `milliseconds` are over.
    pub(crate) fn wait(&self, milliseconds: u64) -> Answer {
        let deadline = now() + ticks(milliseconds);
        while now() < deadline {
            barrier();
            if self.read(register::STATUS) & NEEDS_RESET != 0 {
                return Answer::NeedsReset;
            }
            if load(used() + 2, 2).value() as u16 == self.made {
                self.write(register::INTERRUPT_ACK, 3);
                return match load(status(), 1).value() as u8 {
                    UNTOUCHED => Answer::Returned,
                    status => Answer::Status(status),
                };
            }
        }
        Answer::Ignored
    }

    /// Sends the chain that `descriptors` form, in a table of its own from index 0 on.
    pub(crate) fn send(&mut self, descriptors: &[Descriptor]) -> Answer {
        for (index, descriptor) in descriptors.iter().enumerate() {
            put(table(), index, *descriptor);
        }
        self.submit(0, 1);
        self.wait(300)
    }

    /// Reads the first block, as a driver should.
    pub(crate) fn read_well(&mut self) -> Answer {
        self.set_header(0, 0);
        self.send(&chain(data() as u64, BLOCK, flag::WRITE))
    }
}

/// Writes descriptor `index` of the table at `table`.
pub(crate) fn put(table: usize, index: usize, descriptor: Descriptor) {
    let place = table + 16 * index;
    let _ = store(place, 8, descriptor.address);
    let _ = store(place + 8, 4, descriptor.len.into());
    let _ = store(place + 12, 2, descriptor.flags.into());
    let _ = store(place + 14, 2, descriptor.next.into());
}

/// The three descriptors of a request with one buffer.
pub(crate) fn chain(address: u64, len: u32, flags: u16) -> [Descriptor; 3] {
    [
        Descriptor { address: header() as u64, len: 16, flags: flag::NEXT, next: 1 },
        Descriptor { address, len, flags: flags | flag::NEXT, next: 2 },
        Descriptor { address: status() as u64, len: 1, flags: flag::WRITE, next: 0 },
    ]
}

/// Orders ring accesses for the device.
pub(crate) fn barrier() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack)) };
}
