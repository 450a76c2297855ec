//! Which partition of a disk is meant, and that partition as a disk.
//!
//! A selector that fits two partitions is refused rather than guessed at: whoever can write the table could put a second one in front.

use core::ops::Range;

use super::{Entry, Error, Guid, Table, read};
use crate::{BlockDevice, Partition};

/// What is known of a partition: its type, its name, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector<'a> {
    /// Its type; `None`: any.
    pub kind: Option<Guid>,
    /// Its name; `None`: any.
    pub name: Option<&'a str>,
}

impl Selector<'_> {
    fn fits(&self, entry: &Entry) -> bool {
        let named = |name: &str| name.encode_utf16().eq(entry.name.0.into_iter().take_while(|unit| *unit != 0));
        self.kind.is_none_or(|kind| kind == entry.kind) && self.name.is_none_or(named)
    }
}

impl Table {
    /// The blocks of the one partition that `selector` fits.
    ///
    /// # Errors
    /// [`Error::NoPartition`] and [`Error::Ambiguous`]; [`Error::Unaligned`] if it does not begin and end with a block of 4 KiB.
    pub fn choose(&self, selector: &Selector<'_>) -> Result<Range<u64>, Error> {
        let mut fitting = self.entries.iter().filter(|entry| selector.fits(entry));
        let chosen = fitting.next().ok_or(Error::NoPartition)?;
        if let Some(second) = fitting.next() {
            return Err(Error::Ambiguous { entries: [chosen.index, second.index] });
        }
        chosen.blocks.clone().ok_or(Error::Unaligned { entry: chosen.index })
    }
}

/// The partition of `disk` that `selector` fits, as a disk; without a selector all of the disk, whose table is not looked at then.
///
/// # Errors
/// As [`read`] and [`Table::choose`]; [`Error::Empty`] for a disk without blocks.
pub fn open<D: BlockDevice>(
    mut disk: D,
    selector: Option<&Selector<'_>>,
    idle: impl FnMut() -> bool,
) -> Result<Partition<D>, Error> {
    let range = match selector {
        None => 0..disk.blocks(),
        Some(selector) => read(&mut disk, idle)?.choose(selector)?,
    };
    Partition::new(disk, range).map_err(|_| Error::Empty)
}
