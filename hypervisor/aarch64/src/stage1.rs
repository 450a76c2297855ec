//! Stage 1 of whoever runs this image: identity-mapped, W^X, on top of `aarch64-paging`.
//!
//! The boot assembly starts with the one or two GiB around the image and the device tree mapped read-write-execute, because it
//! knows no better; the final tables are built with that and then replace it. Old and new map the same addresses with other
//! block sizes, so a plain TTBR write could leave a TLB holding both (DDI 0487 D8.16, TLB conflict). The switch therefore
//! turns the MMU off, invalidates, and turns it on with the new root; no data is accessed in between.

use core::arch::asm;
use core::ops::Range;

pub use aarch64_paging::MapError;
use aarch64_paging::descriptor::{El1Attributes, El23Attributes};
use aarch64_paging::idmap::IdMap;
use aarch64_paging::paging::{El1And0, El2, MemoryRegion};

use crate::image::Sections;

/// `MAIR_ELx` that the boot assembly and these tables agree on: 0 = Device-nGnRE, 1 = Normal write-back, 2 = Normal
/// non-cacheable.
pub const MAIR: u64 = 0x0000_0000_0044_ff04;

/// Level of the root table: 48 address bits.
const ROOT_LEVEL: usize = 0;

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code: readable, executable.
    Text,
    /// Constants: readable.
    Rodata,
    /// Memory: readable, writable, never executable.
    Data,
    /// Device registers.
    Device,
    /// Nothing: every access faults.
    Hole,
}

/// Stage 1 at EL2.
pub struct El2Tables(IdMap<El2>);

/// Stage 1 at EL1.
pub struct El1Tables(IdMap<El1And0>);

/// `range` rounded out to whole pages.
fn region(range: &Range<usize>) -> MemoryRegion {
    MemoryRegion::new(range.start & !0xfff, (range.end + 0xfff) & !0xfff)
}

impl El2Tables {
    /// Tables that map the running image alone.
    pub fn new(image: &Sections) -> Result<El2Tables, MapError> {
        let mut tables = El2Tables(IdMap::new(ROOT_LEVEL, El2));
        tables.map(&image.text, Kind::Text)?;
        tables.map(&image.rodata, Kind::Rodata)?;
        tables.map(&image.data, Kind::Data)?;
        Ok(tables)
    }

    /// Identity-maps `range`.
    pub fn map(&mut self, range: &Range<usize>, kind: Kind) -> Result<(), MapError> {
        // Bit 6 (AP[1]) is RES1 where the regime has one privilege level.
        let common = El23Attributes::VALID | El23Attributes::ACCESSED | El23Attributes::USER_RES1;
        let normal = El23Attributes::ATTRIBUTE_INDEX_1 | El23Attributes::INNER_SHAREABLE;
        self.0.map_range(
            &region(range),
            match kind {
                Kind::Hole => El23Attributes::empty(),
                Kind::Text => common | normal | El23Attributes::READ_ONLY,
                Kind::Rodata => common | normal | El23Attributes::READ_ONLY | El23Attributes::XN,
                Kind::Data => common | normal | El23Attributes::XN,
                Kind::Device => common | El23Attributes::ATTRIBUTE_INDEX_0 | El23Attributes::XN,
            },
        )
    }

    /// Switches this core to these tables and leaks them: they stay for good. Returns the value of `TTBR0_EL2`.
    ///
    /// # Safety
    /// The tables must map everything that the program goes on to use.
    pub unsafe fn activate(&mut self) -> u64 {
        let root = self.set_aside();
        // SAFETY: passed on to the caller.
        unsafe { switch_el2(root) };
        root
    }

    /// Makes the tables ready for [`switch_el2`], without using them yet. Returns the value of `TTBR0_EL2`. They must be leaked.
    pub fn set_aside(&mut self) -> u64 {
        self.0.mark_active();
        self.0.root_address().0 as u64
    }
}

/// Switches this core to the tables with this `TTBR0_EL2`.
///
/// # Safety
/// They must come from [`El2Tables::activate`] or [`El2Tables::set_aside`], exist for good, and map everything that the program goes
/// on to use.
pub unsafe fn switch_el2(root: u64) {
    // SAFETY: the code between the two SCTLR writes is fetched from the identity mapping's addresses, which do not
    // change, and touches no data; the rest is the caller's contract.
    unsafe {
        asm!(
            "dsb ish",
            "mrs {old}, sctlr_el2",
            "bic {off}, {old}, #1",
            "msr sctlr_el2, {off}",
            "isb",
            "msr ttbr0_el2, {root}",
            "tlbi alle2",
            "dsb nsh",
            "isb",
            "orr {old}, {old}, #(1 << 19)", // WXN: what is writable is never executable
            "msr sctlr_el2, {old}",
            "isb",
            root = in(reg) root, old = out(reg) _, off = out(reg) _,
            options(nostack),
        );
    }
}

impl El1Tables {
    /// Tables that map the running image alone.
    pub fn new(image: &Sections) -> Result<El1Tables, MapError> {
        let mut tables = El1Tables(IdMap::with_asid(0, ROOT_LEVEL, El1And0));
        tables.map(&image.text, Kind::Text)?;
        tables.map(&image.rodata, Kind::Rodata)?;
        tables.map(&image.data, Kind::Data)?;
        Ok(tables)
    }

    /// Identity-maps `range`.
    pub fn map(&mut self, range: &Range<usize>, kind: Kind) -> Result<(), MapError> {
        let common = El1Attributes::VALID | El1Attributes::ACCESSED | El1Attributes::UXN;
        let normal = El1Attributes::ATTRIBUTE_INDEX_1 | El1Attributes::INNER_SHAREABLE;
        self.0.map_range(
            &region(range),
            match kind {
                Kind::Hole => El1Attributes::empty(),
                Kind::Text => common | normal | El1Attributes::READ_ONLY,
                Kind::Rodata => common | normal | El1Attributes::READ_ONLY | El1Attributes::PXN,
                Kind::Data => common | normal | El1Attributes::PXN,
                Kind::Device => common | El1Attributes::ATTRIBUTE_INDEX_0 | El1Attributes::PXN,
            },
        )
    }

    /// Switches this core to these tables and leaks them: they stay for good.
    ///
    /// # Safety
    /// The tables must map everything that the program goes on to use.
    pub unsafe fn activate(&mut self) {
        self.0.mark_active();
        // SAFETY: as in `El2Tables::activate`.
        unsafe {
            asm!(
                "dsb ish",
                "mrs {old}, sctlr_el1",
                "bic {off}, {old}, #1",
                "msr sctlr_el1, {off}",
                "isb",
                "msr ttbr0_el1, {root}",
                "tlbi vmalle1",
                "dsb nsh",
                "isb",
                "orr {old}, {old}, #(1 << 19)", // WXN: what is writable is never executable
                "msr sctlr_el1, {old}",
                "isb",
                root = in(reg) self.0.root_address().0 as u64, old = out(reg) _, off = out(reg) _,
                options(nostack),
            );
        }
    }
}
