//! The stream table of two levels (IHI 0070, sections 3.3.1, 5.1 and 5.2): who translates which stream.

use core::ops::Range;

use crate::{Error, Memory, Part, TABLES};

/// log2 of the streams of one second-level table.
pub const SPLIT: u8 = 8;
/// Streams of one second-level table.
const SPAN: u32 = 1 << SPLIT;
/// The longest stream in bits that the first level has room for; a PCI bus has 16.
pub const MAX_STREAM_BITS: u8 = 16;
/// Words of the first-level table.
pub const DIRECTORY_WORDS: usize = 1 << (MAX_STREAM_BITS - SPLIT);
/// Words of one entry of the second level.
pub const ENTRY_WORDS: usize = 8;
/// Words of a second-level table.
pub const TABLE_WORDS: usize = SPAN as usize * ENTRY_WORDS;

/// `L1STD.Span` of a whole second-level table: 2^(Span - 1) streams.
const WHOLE: u64 = SPLIT as u64 + 1;

/// The second-level table that all whole tables of the first share are.
const COMMON: usize = 0;

/// Stage 2 of the domain that has a stream: the tables that its cores walk (`stage2::vtcr`, walks that start at level 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The root of its tables.
    pub root: u64,
    /// Its VMID.
    pub vmid: u8,
    /// Bits of an intermediate address.
    pub ipa_bits: u8,
    /// `VTCR_EL2.PS`: the physical address size of its tables.
    pub ps: u8,
}

impl Translation {
    /// What `VTCR_EL2` and `VTTBR_EL2` of the domain's cores say.
    pub const fn of(vtcr_el2: u64, vttbr_el2: u64) -> Translation {
        Translation {
            root: vttbr_el2 & 0xffff_ffff_f000,
            vmid: (vttbr_el2 >> 48) as u8,
            ipa_bits: 64 - (vtcr_el2 & 0x3f) as u8,
            ps: (vtcr_el2 >> 16 & 0b111) as u8,
        }
    }
}

/// The word of an entry that has `S2TTB`.
const ROOT: usize = 3;

/// `STE.V`.
const VALID: u64 = 1;
/// `STE.Config`: no stage 1, translation by stage 2.
const STAGE_2: u64 = 0b110 << 1;
/// `STE.Config`: transfers end here, and no event tells of it.
const ABORT: u64 = 0b000 << 1;
/// `STE.SHCFG`, bits 109:108: shareability as it comes in. (`EATS` = 0: no address is translated before it gets here.)
const SHAREABILITY_INCOMING: u64 = 0b01 << 44;
/// `STE.S2SL0`, bits 167:166: walks start at level 1.
const START_LEVEL_1: u64 = 0b01 << 38;
/// `STE.S2IR0`, `S2OR0`, `S2SH0`: walks are write-back cacheable and inner shareable.
const CACHED_WALKS: u64 = 0b01 << 40 | 0b01 << 42 | 0b11 << 44;
/// The same three: walks go to memory, past every cache; outer shareable.
const UNCACHED_WALKS: u64 = 0b10 << 44;
/// `STE.S2AA64`, bit 179.
const AARCH64: u64 = 1 << 51;
/// `STE.S2AFFD`, bit 181: a clear access flag is no fault.
const NO_ACCESS_FAULT: u64 = 1 << 53;
/// `STE.S2R`, bit 186: a fault is recorded. (`S2S` = 0: and its transaction ends.)
const RECORD: u64 = 1 << 58;

/// The entry of a stream that `translation` is for; `coherent` as [`crate::Features::coherent`].
pub const fn entry(translation: Translation, coherent: bool) -> [u64; ENTRY_WORDS] {
    let Translation { root, vmid, ipa_bits, ps } = translation;
    let walks = if coherent { CACHED_WALKS } else { UNCACHED_WALKS };
    let size = (64 - ipa_bits as u64) << 32;
    let stage_2 = vmid as u64 | size | START_LEVEL_1 | walks | (ps as u64) << 48 | AARCH64 | NO_ACCESS_FAULT | RECORD;
    [VALID | STAGE_2, SHAREABILITY_INCOMING, stage_2, root, 0, 0, 0, 0]
}

/// Who has which streams.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// The streams.
    pub streams: &'a [Range<u32>],
    /// What they reach.
    pub translation: Translation,
}

impl Share<'_> {
    fn has(&self, stream: u32) -> bool {
        self.streams.iter().any(|range| range.contains(&stream))
    }
}

/// Writes the table: an entry for each stream of `shares`, of which the last one counts that has it; nothing for every other one. Tables of which
/// all streams are the first share's are one. `bits` is the length of a stream; longer ones have no entry, and are stopped. `coherent` as
/// [`crate::Features::coherent`].
///
/// # Errors
/// [`Error::TooManyTables`] if more other second-level tables are needed than there are.
#[inline(never)]
pub(crate) fn write(memory: &mut dyn Memory, bits: u8, shares: &[Share<'_>], coherent: bool) -> Result<(), Error> {
    let Some(first) = shares.first() else { return Ok(()) };
    let entries = |share: &Share<'_>| entry(share.translation, coherent);
    fill(memory, COMMON, |_| Some(entries(first)));
    let mut next = COMMON + 1;
    for index in 0..1 << bits.saturating_sub(SPLIT) {
        let share = |place: u32| shares.iter().rposition(|share| share.has(index * SPAN + place));
        let table = if (0..SPAN).all(|place| share(place).is_none()) {
            continue;
        } else if (0..SPAN).all(|place| share(place) == Some(0)) {
            COMMON
        } else if next == TABLES {
            return Err(Error::TooManyTables);
        } else {
            fill(memory, next, |place| share(place).map(|share| entries(&shares[share])));
            next += 1;
            next - 1
        };
        let descriptor = memory.address(Part::Table(table)) | WHOLE;
        memory.write(Part::Directory, index as usize, descriptor);
    }
    Ok(())
}

/// Lets the streams that are translated by the tables at `root` through, or no longer. Each entry changes by one word of 64 bits, which the SMMU
/// reads as a whole (section 3.21.3).
pub(crate) fn set_passing(memory: &mut dyn Memory, root: u64, passes: bool) {
    let first = VALID | if passes { STAGE_2 } else { ABORT };
    for table in 0..TABLES {
        for place in (0..TABLE_WORDS).step_by(ENTRY_WORDS) {
            let part = Part::Table(table);
            if memory.read(part, place) & VALID != 0 && memory.read(part, place + ROOT) == root {
                memory.write(part, place, first);
            }
        }
    }
}

fn fill(memory: &mut dyn Memory, table: usize, entry: impl Fn(u32) -> Option<[u64; ENTRY_WORDS]>) {
    for place in 0..SPAN {
        for (word, value) in entry(place).into_iter().flatten().enumerate() {
            memory.write(Part::Table(table), place as usize * ENTRY_WORDS + word, value);
        }
    }
}
