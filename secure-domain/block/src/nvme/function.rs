//! Where an NVMe function keeps its registers, as its configuration space says (specification, section 2.1).

use core::ops::Range;

use crate::{Registers, pci, pci::Refusal};

/// Mass storage, non-volatile memory, NVM Express.
const CLASS: u32 = 0x01_0802;

/// The registers of the NVMe function with this configuration space, of which nothing is written: from the beginning of `window` on, a range of the
/// bus' addresses in which they are to lie. How long they are is not told by configuration space, so they go as far as the window does.
///
/// # Errors
/// What is no such function, or does not have its registers there.
pub fn find(space: &impl Registers, window: &Range<u64>) -> Result<Range<usize>, Refusal> {
    let class = space.read(pci::offset::CLASS) >> 8;
    if class != CLASS {
        return Err(Refusal::Class(class));
    }
    pci::check_header(space)?;
    let start = pci::memory_base(space, 0).and_then(|base| base.checked_sub(window.start));
    let length = window.end.saturating_sub(window.start);
    let start = start.filter(|start| *start < length).ok_or(Refusal::Elsewhere)?;
    Ok(start as usize..length as usize)
}
