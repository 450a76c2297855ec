//! A descriptor chain, copied out of the driver's memory and checked.

use arrayvec::ArrayVec;

use crate::{Error, GuestMemory, OutOfRange};

/// Segments that a chain may have: header, 126 for data, status.
pub const MAX_SEGMENTS: usize = 128;

/// One buffer of a chain, in the driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The driver's address of the first byte.
    pub address: u64,
    /// Length in bytes, not zero.
    pub len: u32,
    /// Whether the device writes it (else it reads it).
    pub writable: bool,
}

/// A chain's segments: all readable ones first, then all writable ones (virtio 1.2, section 2.7.4.2).
#[derive(Debug, Default)]
pub struct Chain {
    segments: ArrayVec<Segment, MAX_SEGMENTS>,
    bytes: u32,
}

impl Chain {
    /// An empty chain, to be filled by [`crate::Queue::pop`].
    pub const fn new() -> Chain {
        Chain { segments: ArrayVec::new_const(), bytes: 0 }
    }

    /// The segments in their order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of all segments.
    pub fn len_bytes(&self) -> u32 {
        self.bytes
    }

    /// Forgets all segments.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }

    /// Appends `segment`, or says what is wrong with it.
    pub fn push(&mut self, segment: Segment) -> Result<(), Error> {
        if segment.len == 0 {
            return Err(Error::ZeroLength);
        }
        if !segment.writable && self.segments.last().is_some_and(|last| last.writable) {
            return Err(Error::ReadableAfterWritable);
        }
        self.bytes = self.bytes.checked_add(segment.len).ok_or(Error::TooLong)?;
        self.segments.try_push(segment).map_err(|_| Error::TooLong)
    }

    /// Takes `out.len()` readable bytes off the front. `Ok(false)`: the readable part is shorter, and the chain is unchanged.
    pub fn take_front(&mut self, memory: &impl GuestMemory, out: &mut [u8]) -> Result<bool, OutOfRange> {
        if self.readable_bytes() < out.len() as u64 {
            return Ok(false);
        }
        self.gather(memory, 0, out)?;
        let mut left = out.len() as u32;
        self.bytes -= left;
        let mut whole = 0;
        for segment in &mut self.segments {
            if left < segment.len {
                segment.address += u64::from(left);
                segment.len -= left;
                break;
            }
            left -= segment.len;
            whole += 1;
        }
        self.segments.drain(..whole);
        Ok(true)
    }

    /// Takes the last byte off if it is writable, and returns its address.
    pub fn take_last_writable(&mut self) -> Option<u64> {
        let last = self.segments.last_mut().filter(|last| last.writable)?;
        last.len -= 1;
        let address = last.address.wrapping_add(u64::from(last.len));
        if last.len == 0 {
            self.segments.pop();
        }
        self.bytes -= 1;
        Some(address)
    }

    /// Bytes in readable segments.
    pub fn readable_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| !segment.writable).map(|segment| u64::from(segment.len)).sum()
    }

    /// Bytes in writable segments.
    pub fn writable_bytes(&self) -> u32 {
        self.bytes - self.readable_bytes() as u32
    }

    /// Copies `out.len()` bytes that begin `offset` bytes into the chain.
    pub fn gather(&self, memory: &impl GuestMemory, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        let mut done = 0;
        self.pieces(offset, out.len(), |address, len| {
            memory.read(address, &mut out[done..done + len])?;
            done += len;
            Ok(())
        })
    }

    /// Copies `data` to where the chain is `offset` bytes in.
    pub fn scatter(&self, memory: &impl GuestMemory, offset: u32, data: &[u8]) -> Result<(), OutOfRange> {
        let mut done = 0;
        self.pieces(offset, data.len(), |address, len| {
            memory.write(address, &data[done..done + len])?;
            done += len;
            Ok(())
        })
    }

    /// Calls `copy(address, len)` for each contiguous piece of `[offset, offset + len)`. The range must lie in the chain.
    fn pieces(
        &self,
        offset: u32,
        len: usize,
        mut copy: impl FnMut(u64, usize) -> Result<(), OutOfRange>,
    ) -> Result<(), OutOfRange> {
        let (mut skip, mut left) = (offset, len);
        for segment in &self.segments {
            if left == 0 {
                return Ok(());
            }
            if skip >= segment.len {
                skip -= segment.len;
                continue;
            }
            let piece = left.min((segment.len - skip) as usize);
            let address = segment.address.checked_add(u64::from(skip));
            copy(address.ok_or(OutOfRange { address: segment.address, len: piece })?, piece)?;
            skip = 0;
            left -= piece;
        }
        if left == 0 { Ok(()) } else { Err(OutOfRange { address: 0, len: left }) }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::model::Ram;

    proptest! {
        #[test]
        fn gather_and_scatter_agree_with_one_flat_buffer(
            lens in prop::collection::vec(1u32..50, 1..20),
            offset in 0u32..400,
            len in 0usize..400,
        ) {
            let ram = Ram::new(0x2000);
            let mut chain = Chain::new();
            // Segments lie apart in memory, in reverse order.
            let places: Vec<u64> = (0..lens.len()).map(|i| Ram::BASE + 100 * (lens.len() - i) as u64).collect();
            for (&len, &address) in lens.iter().zip(&places) {
                chain.push(Segment { address, len, writable: true }).unwrap();
            }
            let total: u32 = lens.iter().sum();
            let flat: Vec<u8> = (0..total).map(|i| i as u8).collect();
            chain.scatter(&ram, 0, &flat).unwrap();
            let mut out = vec![0; len];
            let result = chain.gather(&ram, offset, &mut out);
            if offset as usize + len <= total as usize {
                prop_assert!(result.is_ok());
                prop_assert_eq!(&out[..], &flat[offset as usize..offset as usize + len]);
            } else if len > 0 {
                prop_assert!(result.is_err());
            }
        }
    }

    #[test]
    fn an_address_that_wraps_is_out_of_range() {
        let mut chain = Chain::new();
        chain.push(Segment { address: u64::MAX - 3, len: 100, writable: true }).unwrap();
        assert!(chain.gather(&Ram::new(16), 10, &mut [0; 4]).is_err());
    }

    #[test]
    fn a_front_that_is_too_long_changes_nothing() {
        let ram = Ram::new(64);
        let mut chain = Chain::new();
        chain.push(Segment { address: Ram::BASE, len: 8, writable: false }).unwrap();
        chain.push(Segment { address: Ram::BASE + 8, len: 8, writable: true }).unwrap();
        assert_eq!(chain.take_front(&ram, &mut [0; 9]), Ok(false));
        assert_eq!(chain.len_bytes(), 16);
        assert_eq!(chain.take_front(&ram, &mut [0; 8]), Ok(true));
        assert_eq!((chain.len_bytes(), chain.segments().len()), (8, 1));
        assert_eq!(chain.take_last_writable(), Some(Ram::BASE + 15));
    }
}
