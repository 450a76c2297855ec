//! Where a modern virtio function keeps its registers, as its configuration space says (virtio 1.2, section 4.1.4; PCI Local Bus 3.0,
//! sections 6.1, 6.2.5 and 6.7), and what of that is the same for every function.
//!
//! The function may be hostile: every byte is read once and checked, the walk over its capabilities is bounded, and what comes out lies in
//! the window that EL2 has given to its registers and is as long and as aligned as the driver needs it.

use core::fmt;
use core::ops::Range;

use crate::Registers;

/// Vendor and device of a virtio block device without a legacy interface: 0x1040 and its virtio number.
const BLOCK_FUNCTION: u32 = 0x1042_1af4;
/// Offsets in configuration space.
pub(crate) mod offset {
    pub(super) const ID: usize = 0x00;
    pub(super) const COMMAND: usize = 0x04;
    /// Class, subclass and programming interface, above the revision.
    pub(crate) const CLASS: usize = 0x08;
    pub(super) const HEADER: usize = 0x0c;
    pub(super) const BAR_0: usize = 0x10;
    pub(super) const CAPABILITIES: usize = 0x34;
}
/// Status bit 4, in the upper half of the word of the command register: there are capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
/// The part of configuration space that is specified as PCI's header; capabilities lie behind it, up to byte 256.
const HEADER_BYTES: usize = 0x40;
const SPACE_BYTES: usize = 0x100;
/// More capabilities than there is room for.
const MAX_CAPABILITIES: usize = (SPACE_BYTES - HEADER_BYTES) / 4;
/// A capability of the vendor's.
const VENDOR: u32 = 9;
/// Bytes of a capability that tells of a structure, and of the one for notifications.
const CAPABILITY_BYTES: u32 = 16;
const NOTIFY_CAPABILITY_BYTES: u32 = 20;
const BARS: usize = 6;

/// The structures that the driver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Common configuration.
    Common = 1,
    /// Notifications.
    Notify = 2,
    /// Interrupt status.
    Interrupt = 3,
    /// Configuration of a block device.
    Device = 4,
}

impl Structure {
    const ALL: [Structure; 4] = [Structure::Common, Structure::Notify, Structure::Interrupt, Structure::Device];

    /// Bytes that the driver needs of it, and what its place must be a multiple of.
    const fn shape(self) -> (u64, u64) {
        match self {
            Structure::Common => (0x38, 4),
            Structure::Notify => (2, 2),
            Structure::Interrupt => (1, 1),
            Structure::Device => (crate::virtio_blk::CONFIG_BYTES as u64, 4),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Structure::Common => "common configuration",
            Structure::Notify => "notification",
            Structure::Interrupt => "interrupt status",
            Structure::Device => "device configuration",
        }
    }
}

/// Why a function is not driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no modern virtio block device: its device and vendor.
    Id(u32),
    /// It is no NVMe controller: its class, subclass and programming interface.
    Class(u32),
    /// It is a bridge, or of a kind that is not known: its header's type.
    Header(u8),
    /// Its list of capabilities leaves its place, has no end, or is not there.
    Capabilities,
    /// It does not say where this structure is.
    Missing(Structure),
    /// It says that this structure is where the function has no registers, or that it is too short or not aligned.
    Misplaced(Structure),
    /// Its first base address register leads to no registers of the function's.
    Elsewhere,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Id(id) => {
                write!(f, "PCI function {:04x}:{:04x} is no modern virtio block device", id & 0xffff, id >> 16)
            }
            Refusal::Class(class) => write!(f, "a PCI function of class {class:06x} is no NVMe controller"),
            Refusal::Header(kind) => write!(f, "a PCI function with a header of type {kind} is not driven"),
            Refusal::Capabilities => write!(f, "the PCI function's list of capabilities makes no sense"),
            Refusal::Missing(it) => write!(f, "the PCI function does not say where its {} registers are", it.name()),
            Refusal::Misplaced(it) => write!(f, "the PCI function's {} registers are not where they can be", it.name()),
            Refusal::Elsewhere => write!(f, "the PCI function's registers are not where they can be"),
        }
    }
}

/// Where the structures are: bytes from the beginning of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structures {
    /// Common configuration.
    pub common: Range<usize>,
    /// Notifications.
    pub notify: Range<usize>,
    /// Bytes between the notification registers of two numbers.
    pub notify_multiplier: u32,
    /// Interrupt status.
    pub isr: Range<usize>,
    /// Configuration of the block device.
    pub device: Range<usize>,
}

impl Structures {
    /// Finds the structures of the virtio block function with this configuration space (256 bytes are read, nothing is written), whose
    /// registers are to lie in `window`, a range of the bus' addresses.
    ///
    /// # Errors
    /// What is no such function, or does not say so soundly.
    pub fn find(space: &impl Registers, window: Range<u64>) -> Result<Structures, Refusal> {
        let id = space.read(offset::ID);
        if id != BLOCK_FUNCTION {
            return Err(Refusal::Id(id));
        }
        check_header(space)?;
        let told = walk(space)?;
        let place = |structure: Structure| {
            let told = told[structure as usize].ok_or(Refusal::Missing(structure))?;
            told.place(space, &window, structure).ok_or(Refusal::Misplaced(structure))
        };
        Ok(Structures {
            common: place(Structure::Common)?,
            notify: place(Structure::Notify)?,
            notify_multiplier: told[Structure::Notify as usize].map_or(0, |told| told.multiplier),
            isr: place(Structure::Interrupt)?,
            device: place(Structure::Device)?,
        })
    }
}

/// Refuses a function whose header is not that of an ordinary one.
pub(crate) fn check_header(space: &impl Registers) -> Result<(), Refusal> {
    match (space.read(offset::HEADER) >> 16) as u8 & 0x7f {
        0 => Ok(()),
        kind => Err(Refusal::Header(kind)),
    }
}

/// What a capability tells of a structure.
#[derive(Clone, Copy, Debug)]
struct Told {
    bar: usize,
    offset: u32,
    length: u32,
    multiplier: u32,
}

/// What the list tells first of each structure (section 4.1.4: the first one counts that the driver can use), by its number.
fn walk(space: &impl Registers) -> Result<[Option<Told>; 5], Refusal> {
    if space.read(offset::COMMAND) & HAS_CAPABILITIES == 0 {
        return Err(Refusal::Capabilities);
    }
    let mut told = [None; 5];
    let mut next = pointer(space.read(offset::CAPABILITIES));
    for _ in 0..MAX_CAPABILITIES {
        if next == 0 {
            return Ok(told);
        }
        if next < HEADER_BYTES {
            return Err(Refusal::Capabilities);
        }
        let head = space.read(next);
        if let Some((structure, found)) = read(space, next, head) {
            told[structure as usize].get_or_insert(found);
        }
        next = pointer(head >> 8);
    }
    Err(Refusal::Capabilities)
}

/// A pointer into the list: its low two bits are to be ignored.
fn pointer(word: u32) -> usize {
    (word & 0xfc) as usize
}

/// The capability at `at` that begins with `head`, if it tells of a structure that the driver needs, in registers that it can use.
fn read(space: &impl Registers, at: usize, head: u32) -> Option<(Structure, Told)> {
    let (id, bytes, kind) = (head & 0xff, head >> 16 & 0xff, head >> 24);
    let structure = Structure::ALL.into_iter().find(|structure| *structure as u32 == kind)?;
    let needed = if structure == Structure::Notify { NOTIFY_CAPABILITY_BYTES } else { CAPABILITY_BYTES };
    let bar = (space_word(space, at + 4)? & 0xff) as usize;
    if id != VENDOR || bytes < needed || bar >= BARS || at + needed as usize > SPACE_BYTES {
        return None;
    }
    let multiplier = if structure == Structure::Notify { space_word(space, at + 16)? } else { 0 };
    let (offset, length) = (space_word(space, at + 8)?, space_word(space, at + 12)?);
    is_memory(space, bar).then_some((structure, Told { bar, offset, length, multiplier }))
}

fn space_word(space: &impl Registers, at: usize) -> Option<u32> {
    (at + 4 <= SPACE_BYTES).then(|| space.read(at))
}

/// Whether the base address register is of memory space; ports are not driven.
fn is_memory(space: &impl Registers, bar: usize) -> bool {
    space.read(offset::BAR_0 + 4 * bar) & 1 == 0
}

/// The address in a base address register, if it is one of memory.
pub(crate) fn memory_base(space: &impl Registers, bar: usize) -> Option<u64> {
    base(space, bar).filter(|_| is_memory(space, bar))
}

/// The address in a base address register.
fn base(space: &impl Registers, bar: usize) -> Option<u64> {
    let low = space.read(offset::BAR_0 + 4 * bar);
    let high = match low >> 1 & 0b11 {
        0b00 => 0,
        0b10 if bar + 1 < BARS => space.read(offset::BAR_0 + 4 * (bar + 1)),
        _ => return None,
    };
    Some(u64::from(low & !0xf) | u64::from(high) << 32)
}

impl Told {
    /// Where that is in the window, if it is there and will do.
    fn place(&self, space: &impl Registers, window: &Range<u64>, structure: Structure) -> Option<Range<usize>> {
        let (needed, alignment) = structure.shape();
        let start = base(space, self.bar)?.checked_add(self.offset.into())?;
        let end = start.checked_add(self.length.into())?;
        let fits = window.start <= start && end <= window.end && u64::from(self.length) >= needed;
        let (start, end) = (start.checked_sub(window.start)?, end.checked_sub(window.start)?);
        let sound = fits && start.is_multiple_of(alignment);
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?).filter(|_| sound)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Function;

    const WINDOW: Range<u64> = 0x1000_0000..0x1000_8000;

    fn find(function: &Function) -> Result<Structures, Refusal> {
        Structures::find(function, WINDOW)
    }

    /// The sound function with one word of its configuration changed.
    fn with(at: usize, word: u32) -> Function {
        let mut function = Function::new(WINDOW.start);
        function.set(at, word);
        function
    }

    fn refused(at: usize, word: u32) -> Refusal {
        find(&with(at, word)).expect_err("it is not sound")
    }

    #[test]
    fn what_is_no_modern_virtio_block_function_is_refused() {
        assert_eq!(refused(0, u32::MAX), Refusal::Id(u32::MAX));
        assert_eq!(refused(0, 0x1001_1af4), Refusal::Id(0x1001_1af4));
        assert_eq!(refused(0x0c, 1 << 16), Refusal::Header(1));
        assert_eq!(refused(4, 0), Refusal::Capabilities);
    }

    #[test]
    fn a_list_that_leaves_its_place_or_has_no_end_is_refused() {
        assert_eq!(refused(0x34, 0x3c), Refusal::Capabilities);
        let at = Function::LIST;
        assert_eq!(refused(at, 0x0110_0009 | (at as u32) << 8), Refusal::Capabilities);
        assert_eq!(refused(0x34, 0), Refusal::Missing(Structure::Common));
    }

    #[test]
    fn a_capability_that_cannot_be_read_whole_tells_nothing() {
        // The last word of the space: its other words are not there.
        let mut function = with(0x34, 0xfc);
        function.set(0xfc, 0x0110_0009);
        assert_eq!(find(&function), Err(Refusal::Missing(Structure::Common)));
        assert_eq!(refused(Function::LIST, 0x010c_0009), Refusal::Missing(Structure::Common), "too short");
        assert_eq!(refused(Function::LIST + 4, 6), Refusal::Missing(Structure::Common), "no such register");
    }

    #[test]
    fn structures_outside_the_window_are_refused() {
        let common = Refusal::Misplaced(Structure::Common);
        for offset in [0x7000, u32::MAX, 0x4000] {
            assert_eq!(refused(Function::LIST + 8, offset), common, "{offset:#x}");
        }
        for length in [0, 0x37, 0x4_0000, u32::MAX] {
            assert_eq!(refused(Function::LIST + 12, length), common, "{length:#x}");
        }
        assert_eq!(refused(Function::LIST + 8, 2), common, "not aligned");
        for bar in [0x0fff_c004, 0x2000_4004, 0x4, 0xffff_fff4] {
            assert_eq!(refused(0x20, bar), common, "{bar:#x}");
        }
        assert_eq!(refused(0x24, 1), common, "above 4 GiB");
        assert_eq!(refused(0x20, 0x1000_4002), common, "reserved type");
    }

    #[test]
    fn ports_are_not_driven() {
        assert_eq!(refused(0x20, 0x1000_4001), Refusal::Missing(Structure::Common));
    }

    #[test]
    fn a_sound_function_is_read() {
        let found = find(&Function::new(WINDOW.start)).expect("it is sound");
        assert_eq!(found.common, 0x4000..0x5000);
        assert_eq!(found.isr, 0x5000..0x6000);
        assert_eq!(found.device, 0x6000..0x7000);
        assert_eq!((found.notify, found.notify_multiplier), (0x7000..0x8000, 4));
    }

    #[test]
    fn the_first_structure_of_a_kind_counts() {
        // The capability behind the one for common configuration says that it is one too.
        let next = Function::LIST + 0x14;
        let mut function = Function::new(WINDOW.start);
        let head = function.read(next);
        function.set(next, head & 0x00ff_ffff | 1 << 24);
        assert_eq!(find(&function), Err(Refusal::Missing(Structure::Interrupt)));
    }

    proptest! {
        #[test]
        fn whatever_a_function_says_its_structures_lie_in_the_window(
            changes in prop::collection::vec((0..64usize, any::<u32>(), 0..32u32), 0..12),
        ) {
            let mut function = Function::new(WINDOW.start);
            for (word, value, keep) in changes {
                let now = function.read(4 * word);
                function.set(4 * word, now ^ value & 1 << keep);
            }
            let Ok(found) = find(&function) else { return Ok(()) };
            let length = (WINDOW.end - WINDOW.start) as usize;
            let all: Vec<_> = [&found.common, &found.notify, &found.isr, &found.device].into();
            prop_assert!(all.iter().all(|range| range.start < range.end && range.end <= length));
            prop_assert!(found.common.len() >= 0x38 && found.device.len() >= 24);
            prop_assert!(found.common.start % 4 == 0 && found.device.start % 4 == 0 && found.notify.start % 2 == 0);
        }
    }
}
