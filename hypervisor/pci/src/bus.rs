//! The bus: which function a configuration access means, and which function has registers at an address.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::function::BAR_BYTES;

/// Functions that the bus has room for, each function 0 of a device of its own.
pub const FUNCTIONS: usize = 32;
/// Bytes of the configuration space of one bus: 32 devices, 8 functions each, 4 KiB each (PCI Express Base Specification, enhanced
/// configuration access mechanism).
pub const CONFIGURATION_BYTES: u64 = 1 << 20;

/// What a configuration access means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's index, which is its device number.
    pub function: usize,
    /// Byte offset in its configuration space, below 4096.
    pub register: usize,
}

/// What `offset` in the configuration space of the bus means; nothing if it is another than function 0 of a device, or behind the end.
pub fn place(offset: u64) -> Option<Place> {
    let is_first = offset >> 12 & 7 == 0;
    (offset < CONFIGURATION_BYTES && is_first)
        .then_some(Place { function: (offset >> 15) as usize, register: (offset & 0xfff) as usize })
}

/// Where the registers of each function are. The functions themselves are behind locks; this is not, so that a doorbell is found
/// without taking those of others.
#[derive(Debug, Default)]
pub struct Bus {
    /// Base address, with bit 0 set if it is decoded.
    bars: [AtomicU32; FUNCTIONS],
}

impl Bus {
    /// From here on `function` has its registers at `base`, a multiple of [`BAR_BYTES`], or nowhere. An index that is none does nothing.
    pub fn decode(&self, function: usize, base: Option<u32>) {
        if let Some(bar) = self.bars.get(function) {
            bar.store(base.map_or(0, |base| base | 1), Ordering::Relaxed);
        }
    }

    /// The function that answers at `address`, and the offset in its registers; the first if several do.
    #[inline]
    pub fn find(&self, address: u64) -> Option<(usize, usize)> {
        let address = u32::try_from(address).ok()?;
        let base = address & !(BAR_BYTES as u32 - 1) | 1;
        let function = self.bars.iter().position(|bar| bar.load(Ordering::Relaxed) == base)?;
        Some((function, address as usize % BAR_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_function_0_of_a_device_on_the_bus_is_a_place() {
        for offset in [1 << 12, 7 << 12 | 4, CONFIGURATION_BYTES, u64::MAX] {
            assert_eq!(place(offset), None, "{offset:#x}");
        }
        assert_eq!(place(0x8_0044), Some(Place { function: 16, register: 0x44 }));
        assert_eq!(place(31 << 15 | 0xfff), Some(Place { function: 31, register: 0xfff }));
    }

    #[test]
    fn nothing_answers_where_nothing_is_decoded() {
        let bus = Bus::default();
        assert_eq!(bus.find(0), None);
        bus.decode(FUNCTIONS, Some(0x4000));
        bus.decode(3, Some(0x0b20_4000));
        for address in [0x4000, 0x0b20_3fff, 0x0b20_8000, 0x1_0b20_4000, u64::MAX] {
            assert_eq!(bus.find(address), None, "{address:#x}");
        }
        bus.decode(3, None);
        assert_eq!(bus.find(0x0b20_4000), None);
    }

    #[test]
    fn of_two_functions_at_one_address_the_first_answers() {
        let bus = Bus::default();
        bus.decode(5, Some(0));
        bus.decode(3, Some(0));
        assert_eq!(bus.find(0x3ffc), Some((3, 0x3ffc)));
    }
}
