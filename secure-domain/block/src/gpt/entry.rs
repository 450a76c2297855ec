//! One partition of a table (UEFI 2.10, section 5.3.3, table 5.6).

use core::fmt::Write as _;
use core::ops::Range;

use super::{Error, Guid, header::Fields};
use crate::BLOCK_BYTES;

/// UTF-16 units of a name.
const NAME_UNITS: usize = 36;

/// A partition's name: UTF-16 that anybody may have written. It prints without control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u16; NAME_UNITS]);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let units = self.0.into_iter().take_while(|&unit| unit != 0);
        for letter in char::decode_utf16(units) {
            let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
            f.write_char(if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })?;
        }
        Ok(())
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the table.
    pub index: usize,
    /// What it is for.
    pub kind: Guid,
    /// Its own GUID.
    pub unique: Guid,
    /// Its name.
    pub name: Name,
    /// The sectors it has, at least one.
    pub sectors: Range<u64>,
    /// The same in blocks of 4 KiB; `None` if it does not begin and end with one.
    pub blocks: Option<Range<u64>>,
}

impl Entry {
    /// Reads entry `index` of a table whose partitions use `usable` sectors; `None` if it is not used.
    pub(super) fn parse(
        bytes: &[u8],
        index: usize,
        usable: &Range<u64>,
        sector_bytes: usize,
    ) -> Result<Option<Entry>, Error> {
        let field = Fields(bytes);
        let kind = field.guid(0);
        if kind == Guid::UNUSED {
            return Ok(None);
        }
        let (first, last) = (field.u64(32), field.u64(40));
        if first > last || first < usable.start || last >= usable.end {
            return Err(Error::EntryBounds { entry: index });
        }
        let sectors = first..last + 1;
        Ok(Some(Entry {
            index,
            kind,
            unique: field.guid(16),
            name: Name(core::array::from_fn(|unit| field.u16(56 + 2 * unit))),
            blocks: blocks(&sectors, (BLOCK_BYTES / sector_bytes) as u64),
            sectors,
        }))
    }
}

fn blocks(sectors: &Range<u64>, each: u64) -> Option<Range<u64>> {
    let aligned = sectors.start.is_multiple_of(each) && sectors.end.is_multiple_of(each);
    aligned.then(|| sectors.start / each..sectors.end / each)
}
