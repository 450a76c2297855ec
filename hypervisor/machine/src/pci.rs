//! The functions behind a PCI host, as its configuration space shows them (PCI Express Base Specification 5.0, sections 7.2.2 and 7.5.1).

/// Configuration space that is memory: 4 KiB for each function, in the order of bus, device and function.
pub trait ConfigurationSpace {
    /// Reads the aligned 32 bits at `offset`.
    fn read32(&self, offset: usize) -> u32;
    /// Writes them.
    fn write32(&mut self, offset: usize, value: u32);
}

const FUNCTION_BYTES: usize = 4096;
const FUNCTIONS: usize = 8;
const DEVICES: usize = 32;
const BUSES: usize = 256;
/// Command, with Status above it, whose bits are cleared by writing 1 and by nothing else.
const COMMAND: usize = 0x04;
/// Header Type is byte 2 of this word; bit 7 says that there are more functions than the first.
const HEADER: usize = 0x0c;
const MULTI_FUNCTION: u32 = 1 << 23;
/// Vendor ID of a function that is not there.
const NO_VENDOR: u32 = 0xffff;

/// Turns every function off that the first `len_bytes` of the space show: none is a bus master afterwards, or answers anywhere but in
/// its configuration space. Returns how many there are. What a function has sent before arrives before the answer to the read
/// that follows (section 2.4.1). All buses are looked at, whatever numbers the bridges have; a function to which these lead no more, or
/// that has no vendor of its own (SR-IOV), is not seen.
pub fn stop(space: &mut impl ConfigurationSpace, len_bytes: usize) -> usize {
    let devices = (BUSES * DEVICES).min(len_bytes / (FUNCTION_BYTES * FUNCTIONS));
    (0..devices).map(|device| stop_device(space, device * FUNCTION_BYTES * FUNCTIONS)).sum()
}

fn stop_device(space: &mut impl ConfigurationSpace, base: usize) -> usize {
    if !is_there(space, base) {
        return 0;
    }
    let functions = if space.read32(base + HEADER) & MULTI_FUNCTION != 0 { FUNCTIONS } else { 1 };
    let places = (0..functions).map(|function| base + function * FUNCTION_BYTES);
    places.filter(|place| is_there(space, *place).then(|| stop_function(space, *place)).is_some()).count()
}

fn is_there(space: &impl ConfigurationSpace, place: usize) -> bool {
    space.read32(place) & NO_VENDOR != NO_VENDOR
}

fn stop_function(space: &mut impl ConfigurationSpace, place: usize) {
    space.write32(place + COMMAND, 0);
    space.read32(place + COMMAND);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Functions by their place, each with its words that are not zero.
    #[derive(Default)]
    struct Space(BTreeMap<usize, BTreeMap<usize, u32>>);

    impl ConfigurationSpace for Space {
        fn read32(&self, offset: usize) -> u32 {
            assert_eq!(offset % 4, 0);
            let function = self.0.get(&(offset / FUNCTION_BYTES));
            function.map_or(u32::MAX, |words| words.get(&(offset % FUNCTION_BYTES)).copied().unwrap_or(0))
        }

        fn write32(&mut self, offset: usize, value: u32) {
            assert_eq!(offset % FUNCTION_BYTES, COMMAND, "nothing else is written");
            let function =
                self.0.get_mut(&(offset / FUNCTION_BYTES)).expect("only a function that is there is written");
            let word = function.entry(COMMAND).or_default();
            *word = *word & 0xffff_0000 & !value | value & 0xffff;
        }
    }

    impl Space {
        fn with(functions: &[(usize, bool)]) -> Space {
            let words = |multi: bool| [(0, 0x1041_1af4), (COMMAND, 0x0010_0407), (HEADER, u32::from(multi) << 23)];
            Space(functions.iter().map(|(place, multi)| (*place, words(*multi).into())).collect())
        }
    }

    #[test]
    fn no_function_is_left_a_master_on_whatever_bus() {
        // Two functions of a device, one on another bus, and the last that there can be.
        let mut space = Space::with(&[(0, true), (5, false), (256 + 8, false), (0xfff8, false)]);
        assert_eq!(stop(&mut space, 256 << 20), 4);
        for words in space.0.values() {
            assert_eq!(words[&COMMAND], 0x0010_0000);
        }
    }

    #[test]
    fn a_space_that_is_shorter_than_a_segment_is_not_left() {
        let mut space = Space::with(&[(8, false), (256, false)]);
        assert_eq!(stop(&mut space, 1 << 20), 1);
        assert_eq!(space.0[&256][&COMMAND], 0x0010_0407);
    }

    #[test]
    fn an_empty_bus_is_left_alone() {
        assert_eq!(stop(&mut Space::default(), 256 << 20), 0);
    }
}
