//! VMSAv8-64 stage-2 translation tables and page ownership.
//!
//! Two things that only make sense together: [`Stage2`], the tables that the hardware walks (Arm DDI 0487, chapter D8), and
//! [`Ownership`], which says whose page each one is. [`map`] is the one door to a domain's tables: it asks the second before
//! it writes the first, so a page of EL2 or of another domain cannot enter a domain's tables except as it was shared.
//!
//! There is no memory and no machine in here: tables are reached through [`TableMemory`], TLBs through [`Maintenance`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod attributes;
pub mod descriptor;
pub mod maintenance;
pub mod ownership;
pub mod table;
pub mod vtcr;

#[cfg(test)]
mod model;

pub use address::{Ipa, PAGE_SIZE, PhysAddr};
pub use attributes::{Access, Attributes, MemoryType, Shareability};
pub use maintenance::{Maintenance, TableMemory};
pub use ownership::{Claim, Owner, Ownership, OwnershipError, State};
pub use table::{Error, Stage2, Translation};

/// Maps a range into the tables of `domain` after asking `ownership` whether it may have it with that access.
///
/// # Errors
///
/// [`MapError::Ownership`] if the range is not wholly the domain's or shared with it, or shared with less access than
/// `attributes` give; [`MapError::Tables`] as [`Stage2::map`]. Nothing is changed in the first case.
pub fn map<const N: usize>(
    ownership: &Ownership<N>,
    domain: Owner,
    tables: &mut Stage2<impl TableMemory, impl Maintenance>,
    (ipa, pa, len_bytes): (Ipa, PhysAddr, u64),
    attributes: Attributes,
) -> Result<(), MapError> {
    ownership
        .check_access(domain, pa, len_bytes, attributes.access.writes(), attributes.executable)
        .map_err(MapError::Ownership)?;
    tables.map(ipa, pa, len_bytes, attributes).map_err(MapError::Tables)
}

/// Why [`map`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The domain may not have the range.
    Ownership(OwnershipError),
    /// The tables cannot take it.
    Tables(Error),
}
