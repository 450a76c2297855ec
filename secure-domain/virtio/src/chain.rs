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
