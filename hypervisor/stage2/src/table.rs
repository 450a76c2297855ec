//! The tables of one domain: map, unmap, protect, translate.
//!
//! Every change is check-then-commit: the whole range is walked first, and what could refuse (overlap, hole, no table left for
//! a split) refuses before the first entry is touched. Only `map` may run out of tables midway; it then takes back what it
//! had written, none of which a domain can have used before `map` returned.
//!
//! A block that is only partly concerned is split: a new table is filled with what the block said, then the block is *broken*
//! (written invalid, invalidated) and the table *made*. Between the two an access of another core to a neighbour faults at stage 2;
//! the fault handler finds the address mapped by [`Stage2::translate`] and lets the core try again.

use crate::descriptor::{Descriptor, ENTRIES, LAST_LEVEL, START_LEVEL, index, size_bytes};
use crate::maintenance::{Stale, publish};
use crate::vtcr::{self, MAX_IPA_BITS, MIN_IPA_BITS};
use crate::{Attributes, Ipa, Maintenance, PAGE_SIZE, PhysAddr, TableMemory};

/// Why the tables refused; each names the first address concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The intermediate address size is not 32 to 43 bits.
    IpaBits(u8),
    /// The root is not aligned to its size or lies beyond 48 bits.
    Root(PhysAddr),
    /// The length is 0 or not a multiple of 4 KiB.
    Length(u64),
    /// The intermediate address is not a multiple of 4 KiB.
    MisalignedIpa(Ipa),
    /// The physical address is not a multiple of 4 KiB.
    MisalignedPhysAddr(PhysAddr),
    /// The range ends beyond the intermediate address size.
    BeyondIpaSize(Ipa),
    /// The range ends beyond 48 bits.
    BeyondPhysicalSize(PhysAddr),
    /// Something is mapped here already.
    AlreadyMapped(Ipa),
    /// Nothing is mapped here.
    NotMapped(Ipa),
    /// No table is left for the entry of this address.
    OutOfTables(Ipa),
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address of that very byte.
    pub pa: PhysAddr,
    /// What is allowed.
    pub attributes: Attributes,
    /// Bytes of the block or page that maps it: 4 KiB, 2 MiB or 1 GiB.
    pub size_bytes: u64,
}

/// One entry on the way of a walk, with its address rounded down to what it covers.
#[derive(Clone, Copy, Debug)]
struct Slot {
    table: PhysAddr,
    index: usize,
    level: u8,
    descriptor: Descriptor,
    start: Ipa,
}

impl Slot {
    fn end(&self) -> u64 {
        self.start.0 + size_bytes(self.level)
    }
}

/// The stage-2 tables of one domain.
#[derive(Debug)]
pub struct Stage2<M, T> {
    root: PhysAddr,
    ipa_bits: u8,
    vmid: u8,
    memory: M,
    machine: T,
}

impl<M: TableMemory, T: Maintenance> Stage2<M, T> {
    /// Empty tables for addresses of `ipa_bits` (32 to 43) under `vmid`.
    ///
    /// `root` is [`vtcr::root_tables`]`(ipa_bits)` contiguous zeroed pages, aligned to their total size.
    ///
    /// # Errors
    ///
    /// [`Error::IpaBits`] and [`Error::Root`].
    pub fn new(ipa_bits: u8, vmid: u8, root: PhysAddr, memory: M, machine: T) -> Result<Stage2<M, T>, Error> {
        if !(MIN_IPA_BITS..=MAX_IPA_BITS).contains(&ipa_bits) {
            return Err(Error::IpaBits(ipa_bits));
        }
        let root_bytes = vtcr::root_tables(ipa_bits) as u64 * PAGE_SIZE;
        if !root.is_aligned(root_bytes) || root.0 >> 48 != 0 {
            return Err(Error::Root(root));
        }
        Ok(Stage2 { root, ipa_bits, vmid, memory, machine })
    }

    /// `VTCR_EL2`; `pa_range` is `ID_AA64MMFR0_EL1.PARange` of the core with the smallest one.
    pub fn vtcr(&self, pa_range: u8) -> u64 {
        vtcr::vtcr(self.ipa_bits, pa_range)
    }

    /// `VTTBR_EL2`.
    pub fn vttbr(&self) -> u64 {
        vtcr::vttbr(self.root, self.vmid)
    }

    /// The virtual machine identifier.
    pub fn vmid(&self) -> u8 {
        self.vmid
    }

    /// The memory of the tables, for figures.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Maps `len_bytes` at `ipa` to `pa`, in the largest blocks that alignment allows.
    ///
    /// # Errors
    ///
    /// Any but [`Error::IpaBits`], [`Error::Root`] and [`Error::NotMapped`]; nothing is mapped then.
    pub fn map(&mut self, ipa: Ipa, pa: PhysAddr, len_bytes: u64, attributes: Attributes) -> Result<(), Error> {
        self.check_range(ipa, len_bytes)?;
        check_physical(pa, len_bytes)?;
        self.check_unmapped(ipa, len_bytes)?;
        let result = self.write_leaves(ipa, pa, len_bytes, attributes);
        publish(&mut self.machine);
        if let Err(Error::OutOfTables(reached)) = result {
            self.clear(ipa, reached.0 - ipa.0);
        }
        result
    }

    /// Takes `len_bytes` at `ipa` back. When it returns, no core can reach the range any more, and every write that was made
    /// through it has been observed: the pages may have another owner.
    ///
    /// # Errors
    ///
    /// As [`Stage2::map`], and [`Error::NotMapped`] if the range has a hole; nothing is unmapped then.
    pub fn unmap(&mut self, ipa: Ipa, len_bytes: u64) -> Result<(), Error> {
        self.prepare(ipa, len_bytes)?;
        self.clear(ipa, len_bytes);
        Ok(())
    }

    /// Gives `len_bytes` at `ipa` other attributes. When it returns, no core uses the old ones.
    ///
    /// # Errors
    ///
    /// As [`Stage2::unmap`].
    pub fn protect(&mut self, ipa: Ipa, len_bytes: u64, attributes: Attributes) -> Result<(), Error> {
        self.prepare(ipa, len_bytes)?;
        let end = ipa.0 + len_bytes;
        let mut stale = Stale::new();
        let mut at = ipa;
        while at.0 < end {
            let slot = self.walk(at);
            if let Descriptor::Leaf(pa, old) = slot.descriptor {
                self.replace(slot, old, Descriptor::Leaf(pa, attributes), &mut stale);
            }
            at = Ipa(slot.end());
        }
        stale.invalidate(self.vmid, &mut self.machine);
        Ok(())
    }

    /// Where `ipa` leads, as the hardware would walk.
    pub fn translate(&self, ipa: Ipa) -> Option<Translation> {
        if ipa.0 >> self.ipa_bits != 0 {
            return None;
        }
        let slot = self.walk(ipa);
        match slot.descriptor {
            Descriptor::Leaf(pa, attributes) => Some(Translation {
                pa: PhysAddr(pa.0 + (ipa.0 - slot.start.0)),
                attributes,
                size_bytes: size_bytes(slot.level),
            }),
            _ => None,
        }
    }

    fn check_range(&self, ipa: Ipa, len_bytes: u64) -> Result<(), Error> {
        if len_bytes == 0 || !len_bytes.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Length(len_bytes));
        }
        if !ipa.is_aligned(PAGE_SIZE) {
            return Err(Error::MisalignedIpa(ipa));
        }
        match ipa.checked_add(len_bytes) {
            Some(end) if end.0 <= 1 << self.ipa_bits => Ok(()),
            _ => Err(Error::BeyondIpaSize(ipa)),
        }
    }

    /// Bounded by the entries that the range covers.
    fn check_unmapped(&self, ipa: Ipa, len_bytes: u64) -> Result<(), Error> {
        let end = ipa.0 + len_bytes;
        let mut at = ipa;
        while at.0 < end {
            let slot = self.walk(at);
            if slot.descriptor != Descriptor::Invalid {
                return Err(Error::AlreadyMapped(at));
            }
            at = Ipa(slot.end());
        }
        Ok(())
    }

    fn check_mapped(&self, ipa: Ipa, len_bytes: u64) -> Result<(), Error> {
        let end = ipa.0 + len_bytes;
        let mut at = ipa;
        while at.0 < end {
            let slot = self.walk(at);
            if slot.descriptor == Descriptor::Invalid {
                return Err(Error::NotMapped(at));
            }
            at = Ipa(slot.end());
        }
        Ok(())
    }

    /// Checks a range that is to change, and splits the blocks that reach over its ends.
    fn prepare(&mut self, ipa: Ipa, len_bytes: u64) -> Result<(), Error> {
        self.check_range(ipa, len_bytes)?;
        self.check_mapped(ipa, len_bytes)?;
        self.split_at(ipa)?;
        self.split_at(Ipa(ipa.0 + len_bytes))
    }

    /// The last entry on the way to `ipa`: a leaf or an invalid one. At most three steps.
    fn walk(&self, ipa: Ipa) -> Slot {
        let mut table = self.root;
        let mut level = START_LEVEL;
        loop {
            let slot = self.slot(table, level, ipa);
            match slot.descriptor {
                Descriptor::Table(next) if level < LAST_LEVEL => (table, level) = (next, level + 1),
                _ => return slot,
            }
        }
    }

    fn slot(&self, table: PhysAddr, level: u8, ipa: Ipa) -> Slot {
        let index = index(ipa, level);
        let descriptor = Descriptor::decode(self.memory.read(table, index), level);
        Slot { table, index, level, descriptor, start: Ipa(ipa.0 & !(size_bytes(level) - 1)) }
    }

    fn write(&mut self, slot: Slot, descriptor: Descriptor) {
        self.memory.write(slot.table, slot.index, descriptor.encode(slot.level));
    }

    /// Writes leaves until the range is done; on [`Error::OutOfTables`] everything before that address is written.
    fn write_leaves(&mut self, ipa: Ipa, pa: PhysAddr, len_bytes: u64, attributes: Attributes) -> Result<(), Error> {
        let mut done = 0;
        while done < len_bytes {
            let (at, to) = (Ipa(ipa.0 + done), PhysAddr(pa.0 + done));
            let level = largest_level(at, to, len_bytes - done);
            let slot = self.descend(at, level)?;
            self.write(slot, Descriptor::Leaf(to, attributes));
            done += size_bytes(slot.level);
        }
        Ok(())
    }

    /// The invalid entry for `ipa` at `level`, or below where tables exist already; tables on the way are made.
    fn descend(&mut self, ipa: Ipa, level: u8) -> Result<Slot, Error> {
        let mut slot = self.walk(ipa);
        while slot.level < level {
            let table = self.memory.allocate().ok_or(Error::OutOfTables(ipa))?;
            // The zeros of the new table must be seen before the way to it.
            publish(&mut self.machine);
            self.write(slot, Descriptor::Table(table));
            slot = self.slot(table, slot.level + 1, ipa);
        }
        Ok(slot)
    }

    /// Makes `ipa` the boundary of an entry: splits the block around it, twice at most.
    fn split_at(&mut self, ipa: Ipa) -> Result<(), Error> {
        if ipa.0 >> self.ipa_bits != 0 {
            return Ok(());
        }
        for _ in START_LEVEL..LAST_LEVEL {
            let slot = self.walk(ipa);
            match slot.descriptor {
                Descriptor::Leaf(pa, attributes) if slot.start != ipa => self.split(slot, pa, attributes, ipa)?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Replaces a block by a table that says the same: break before make (Arm DDI 0487, D8.16.1).
    fn split(&mut self, slot: Slot, pa: PhysAddr, attributes: Attributes, ipa: Ipa) -> Result<(), Error> {
        let table = self.memory.allocate().ok_or(Error::OutOfTables(ipa))?;
        let (level, step) = (slot.level + 1, size_bytes(slot.level + 1));
        for index in 0..ENTRIES {
            let leaf = Descriptor::Leaf(PhysAddr(pa.0 + index as u64 * step), attributes);
            self.memory.write(table, index, leaf.encode(level));
        }
        let mut stale = Stale::new();
        self.write(slot, Descriptor::Invalid);
        stale.push(slot.start);
        stale.invalidate(self.vmid, &mut self.machine);
        self.write(slot, Descriptor::Table(table));
        publish(&mut self.machine);
        Ok(())
    }

    /// Writes every leaf of the range invalid and invalidates. The ends are boundaries of entries, or never mapped.
    fn clear(&mut self, ipa: Ipa, len_bytes: u64) {
        let end = ipa.0 + len_bytes;
        let mut stale = Stale::new();
        let mut at = ipa;
        while at.0 < end {
            let slot = self.walk(at);
            if slot.descriptor != Descriptor::Invalid {
                self.write(slot, Descriptor::Invalid);
                stale.push(slot.start);
            }
            at = Ipa(slot.end());
        }
        stale.invalidate(self.vmid, &mut self.machine);
    }

    /// Other attributes for one leaf. Permissions may change in place; another memory type or shareability needs break
    /// before make (Arm DDI 0487, D8.16.1), or two cores would see one location with two types.
    fn replace(&mut self, slot: Slot, old: Attributes, new: Descriptor, stale: &mut Stale) {
        let Descriptor::Leaf(_, attributes) = new else { return };
        if old.memory == attributes.memory && old.shareability == attributes.shareability {
            self.write(slot, new);
            stale.push(slot.start);
            return;
        }
        let mut broken = Stale::new();
        self.write(slot, Descriptor::Invalid);
        broken.push(slot.start);
        broken.invalidate(self.vmid, &mut self.machine);
        self.write(slot, new);
        publish(&mut self.machine);
    }
}

fn check_physical(pa: PhysAddr, len_bytes: u64) -> Result<(), Error> {
    if !pa.is_aligned(PAGE_SIZE) {
        return Err(Error::MisalignedPhysAddr(pa));
    }
    match pa.checked_add(len_bytes) {
        Some(end) if end.0 <= 1 << 48 => Ok(()),
        _ => Err(Error::BeyondPhysicalSize(pa)),
    }
}

/// The level of the largest entry that fits both addresses and the length.
fn largest_level(ipa: Ipa, pa: PhysAddr, len_bytes: u64) -> u8 {
    let fits = |level: &u8| {
        let size = size_bytes(*level);
        ipa.is_aligned(size) && pa.is_aligned(size) && len_bytes >= size
    };
    (START_LEVEL..LAST_LEVEL).find(fits).unwrap_or(LAST_LEVEL)
}
