//! What a controller and its namespace say of themselves (specification, section 5.15).

use super::Refusal;
use crate::{BLOCK_BYTES, Dma, MAX_REQUEST_BLOCKS};

/// Offsets in the structure of a controller (section 5.15.2.2).
mod controller {
    /// Maximum data transfer size: a power of two of smallest pages; 0 is no limit.
    pub(super) const MDTS: usize = 77;
    /// Volatile write cache, bit 0.
    pub(super) const VWC: usize = 525;
    /// Logical blocks, less one, that a power failure leaves old or new as a whole.
    pub(super) const AWUPF: usize = 528;
}

/// Offsets in the structure of a namespace (section 5.15.2.1).
mod namespace {
    /// Its size in logical blocks.
    pub(super) const NSZE: usize = 0;
    /// Features; bit 1: its own atomic sizes count, those that are not 0.
    pub(super) const NSFEAT: usize = 24;
    /// The format, bits 0 to 3: an index into `LBAF`.
    pub(super) const FLBAS: usize = 26;
    /// Protection information, bits 0 to 2: its type.
    pub(super) const DPS: usize = 29;
    /// As `AWUPF`.
    pub(super) const NAWUPF: usize = 36;
    /// The first boundary that an atomic write must not cross, and the logical blocks, less one, between those; 0: none.
    pub(super) const NABO: usize = 42;
    pub(super) const NABSPF: usize = 44;
    /// Formats, 4 bytes each: bytes of metadata (16 bits), the power of two of the block's bytes (8 bits), performance.
    pub(super) const LBAF: usize = 128;
}

/// What of a controller matters to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Controller {
    /// Most blocks of 4 KiB that one command transfers.
    pub(super) max_blocks: usize,
    /// It caches writes, which a flush makes durable.
    pub(super) has_cache: bool,
    /// Logical blocks that power failures write whole.
    atomic: u32,
}

impl Controller {
    /// Reads the structure at `at` of `dma`, each field once.
    pub(super) fn read(dma: &impl Dma, at: usize) -> Controller {
        let max_blocks = match dma.load8(at + controller::MDTS) {
            0 => MAX_REQUEST_BLOCKS,
            power => 1usize.checked_shl(power.into()).map_or(MAX_REQUEST_BLOCKS, |pages| pages.min(MAX_REQUEST_BLOCKS)),
        };
        let has_cache = dma.load8(at + controller::VWC) & 1 != 0;
        Controller { max_blocks, has_cache, atomic: u32::from(dma.load16(at + controller::AWUPF)) + 1 }
    }
}

/// What of a namespace matters to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    /// Blocks of 4 KiB.
    pub(super) blocks: u64,
    /// Logical blocks in one of 4 KiB.
    pub(super) per_block: u32,
    /// Bytes that a write changes as a whole or not at all when power fails, 4096 at most.
    pub(super) atomic_bytes: u32,
}

impl Namespace {
    /// Reads the structure at `at` of `dma`, each field once.
    pub(super) fn read(dma: &impl Dma, at: usize, controller: &Controller) -> Result<Namespace, Refusal> {
        let format = usize::from(dma.load8(at + namespace::FLBAS) & 0xf);
        let format = dma.load32(at + namespace::LBAF + 4 * format);
        if format as u16 != 0 || dma.load8(at + namespace::DPS) & 0b111 != 0 {
            return Err(Refusal::Metadata);
        }
        let power = (format >> 16) as u8;
        if !(9..=12).contains(&power) {
            return Err(Refusal::LogicalBlocks(power));
        }
        let per_block = BLOCK_BYTES as u32 >> power;
        let low = u64::from(dma.load32(at + namespace::NSZE));
        let size = low | u64::from(dma.load32(at + namespace::NSZE + 4)) << 32;
        match size / u64::from(per_block) {
            0 => Err(Refusal::NoNamespace),
            blocks => {
                let whole = atomic(dma, at, controller, per_block);
                Ok(Namespace { blocks, per_block, atomic_bytes: if whole { BLOCK_BYTES as u32 } else { 1 << power } })
            }
        }
    }
}

/// Whether a write of 4 KiB is atomic when power fails (section 6.4): as many logical blocks are, and no boundary lies in between.
fn atomic(dma: &impl Dma, at: usize, controller: &Controller, per_block: u32) -> bool {
    let field = |offset: usize| u32::from(dma.load16(at + offset));
    let own = field(namespace::NAWUPF);
    let has_own = dma.load8(at + namespace::NSFEAT) & 1 << 1 != 0 && own != 0;
    let atomic = if has_own { own + 1 } else { controller.atomic };
    let (first, every) = (field(namespace::NABO), field(namespace::NABSPF));
    let crossed = every != 0 && !((every + 1).is_multiple_of(per_block) && first.is_multiple_of(per_block));
    atomic >= per_block && !crossed
}
