//! Who gets which memory.
//!
//! The boot loader has put three things into memory: EL2 itself, the machine's tree and the bundle. The plan leaves them where
//! they are, cuts EL2 and the secure domain out of the memory in whole blocks, and gives all the rest to the general domain.
//!
//! If the general domain is to be started again without the machine, the bundle is cut out too and stays EL2's: kernel and initrd are
//! copied from it, at boot and again. If not, its place is the general domain's: its initrd is used where it lies, and once kernel and secure
//! domain have been copied out, the general domain may overwrite them.

use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayVec;

use crate::secure_tree::{DMA_BYTES, PLACE_BYTES};
use crate::{BLOCK, MAX_BANKS, MAX_TREE_BYTES, Machine, PAGE, Region, region};

/// The secure domain lies below this if it can: devices that address 32 bits only can then reach it.
const LOW: u64 = 1 << 32;
/// Each of the three cuts may split a bank.
const MAX_GENERAL: usize = MAX_BANKS + 3;

/// What the header of an arm64 `Image` says of its needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSize {
    /// Bytes from a 2 MiB aligned base to the first byte of the image.
    pub text_offset: u64,
    /// Bytes that it needs from its first byte on, zero-initialised data included.
    pub image_size: u64,
}

/// What is in memory already, and what must find a place.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// EL2: image, zero-initialised data, heap and stacks.
    pub el2: Region,
    /// The machine's tree.
    pub dtb: Region,
    /// The bundle.
    pub bundle: Region,
    /// The general domain's initrd, in the bundle.
    pub initrd: Option<Region>,
    /// The general domain's kernel.
    pub kernel: KernelSize,
    /// Memory of the secure domain in bytes.
    pub secure_bytes: u64,
    /// Bytes of the general domain's memory that the secure domain is to reach, if not all.
    pub window_bytes: Option<u64>,
    /// The secure domain's image as it lies in the bundle, in bytes.
    pub secure_image_bytes: u64,
    /// The bundle stays EL2's, for the general domain's later lives.
    pub keeps_bundle: bool,
}

/// Who gets which memory. No two of `el2`, `kept`, `pristine`, `secure` and `general` overlap; the rest lies in one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// EL2 and the rest of its blocks.
    pub el2: Region,
    /// The bundle and the rest of its blocks, if EL2 keeps it; blocks that it shares with `el2` are that one's.
    pub kept: Option<Region>,
    /// EL2's copy of the secure domain's image and behind it of its tree, from which the domain is started again: whole blocks.
    pub pristine: Region,
    /// The secure domain, in whole blocks.
    pub secure: Region,
    /// What survives a restart of the secure domain: the page below its tree.
    pub secure_kept: Region,
    /// What its disks read and write: the memory below that page.
    pub secure_dma: Region,
    /// Where the secure domain's tree goes: the end of `secure`.
    pub secure_tree: Region,
    /// The memory of the general domain, sorted.
    pub general: ArrayVec<Region, MAX_GENERAL>,
    /// The part of it that the secure domain reaches, if not all.
    pub window: Option<Region>,
    /// Where the kernel goes; its entry point is the first byte.
    pub kernel: Region,
    /// Where the general domain's tree goes: one block.
    pub general_tree: Region,
    /// The initrd: in its place in the bundle, or where it is copied to if EL2 keeps that.
    pub initrd: Option<Region>,
}

/// Why the memory cannot be shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Something that is loaded does not lie in the machine's memory.
    NotInMemory {
        /// What.
        what: &'static str,
        /// Where it is said to lie.
        region: Region,
    },
    /// Two things that are loaded lie on each other.
    Overlap {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A size that nothing can have.
    Size {
        /// Of what.
        what: &'static str,
        /// The size in bytes.
        size: u64,
    },
    /// There is no free range of memory that is large enough.
    TooLittle {
        /// What should go there.
        what: &'static str,
        /// Bytes that it needs in one piece.
        needs: u64,
        /// Bytes of the largest free piece.
        largest: u64,
        /// Bytes of all memory.
        memory: u64,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PlanError::NotInMemory { what, region } => {
                write!(f, "{what} at {region} does not lie in the machine's memory")
            }
            PlanError::Overlap { first, second } => write!(f, "{first} and {second} lie on each other in memory"),
            PlanError::Size { what, size } => write!(f, "{what} cannot have a size of {size:#x} bytes"),
            PlanError::TooLittle { what, needs, largest, memory } => {
                let (needs, largest, memory) = (needs.div_ceil(1 << 20), largest >> 20, memory >> 20);
                write!(f, "too little memory: {what} needs {needs} MiB in one piece, ")?;
                write!(f, "the largest free piece of the machine's {memory} MiB has {largest} MiB")
            }
        }
    }
}

impl core::error::Error for PlanError {}

impl MemoryPlan {
    /// What the secure domain reaches of the general domain's memory.
    pub fn lent(&self) -> &[Region] {
        match &self.window {
            Some(window) => core::slice::from_ref(window),
            None => &self.general,
        }
    }

    /// The general domain's memory without what of it is `reserved` and outlives the domain.
    pub fn outlived_by(&self, reserved: &[Region]) -> Vec<Region> {
        region::difference(&self.general, reserved)
    }

    /// Bytes of the general domain's memory that neither its kernel nor its initrd takes.
    pub fn room(&self) -> u64 {
        let all: u64 = self.general.iter().map(Region::size).sum();
        all.saturating_sub(self.kernel.size() + self.initrd.map_or(0, |initrd| initrd.size()))
    }

    /// Shares out the memory of `machine`.
    ///
    /// # Errors
    /// Things that lie on each other or outside memory, and too little memory.
    #[inline(never)]
    pub fn make(machine: &Machine, loaded: &Loaded) -> Result<MemoryPlan, PlanError> {
        check(machine, loaded)?;
        let el2 = loaded.el2.hull(BLOCK);
        let kept = if loaded.keeps_bundle { kept(machine, loaded, el2) } else { None };
        let (pristine, secure) = place_secure(machine, loaded, el2, kept)?;
        let cut: Vec<Region> = [el2, pristine, secure].into_iter().chain(kept).collect();
        let general = region::difference(&machine.memory, &cut);
        let mut free = Free { machine, regions: region::difference(&general, &taken(machine, loaded)) };
        let base = free.lowest("the general domain's kernel", kernel_span(loaded.kernel)?)?;
        let general_tree = free.lowest("the general domain's device tree", MAX_TREE_BYTES as u64)?;
        let initrd = match loaded.initrd {
            Some(initrd) if kept.is_some() => {
                Some(free.lowest("the general domain's initrd", initrd.hull(PAGE).size())?)
                    .map(|place| within(place, 0, initrd.size()))
            }
            initrd => initrd,
        };
        let window =
            loaded.window_bytes.map(|size| free.highest("the window of the secure domain", size)).transpose()?;
        let kernel = within(base, loaded.kernel.text_offset, loaded.kernel.image_size);
        let secure_tree = within(secure, secure.size() - PLACE_BYTES, PLACE_BYTES);
        let secure_kept = within(secure, secure.size() - PLACE_BYTES - PAGE, PAGE);
        let secure_dma = within(secure, secure.size() - PLACE_BYTES - PAGE - DMA_BYTES, DMA_BYTES);
        // A machine has at most MAX_BANKS ranges and three cuts, of which `pristine` and `secure` are one, add at most one each.
        let general = general.into_iter().take(MAX_GENERAL).collect();
        Ok(MemoryPlan {
            el2,
            kept,
            pristine,
            secure,
            secure_kept,
            secure_dma,
            secure_tree,
            general,
            window,
            kernel,
            general_tree,
            initrd,
        })
    }
}

/// `size` bytes at `offset` of `region`, which has them.
fn within(region: Region, offset: u64, size: u64) -> Region {
    Region::new(region.base() + offset, size).unwrap_or(region)
}

fn check(machine: &Machine, loaded: &Loaded) -> Result<(), PlanError> {
    let parts = [("the hypervisor", loaded.el2), ("the device tree", loaded.dtb), ("the bundle", loaded.bundle)];
    for (index, (what, region)) in parts.into_iter().enumerate() {
        if !machine.memory.iter().any(|bank| bank.contains(&region)) {
            return Err(PlanError::NotInMemory { what, region });
        }
        if let Some((first, _)) = parts[..index].iter().find(|(_, earlier)| earlier.overlaps(&region)) {
            return Err(PlanError::Overlap { first, second: what });
        }
    }
    match loaded.initrd {
        Some(region) if !loaded.bundle.contains(&region) => Err(PlanError::NotInMemory { what: "the initrd", region }),
        _ if loaded.secure_bytes <= DMA_BYTES || !loaded.secure_bytes.is_multiple_of(BLOCK) => {
            Err(PlanError::Size { what: "the secure domain's memory", size: loaded.secure_bytes })
        }
        _ => Ok(()),
    }
}

/// What must not be overwritten before the domains run, or ever.
fn taken(machine: &Machine, loaded: &Loaded) -> Vec<Region> {
    machine.reserved.iter().copied().chain([loaded.dtb, loaded.bundle]).collect()
}

/// The blocks of the bundle as far as they are memory and not EL2's already. The bundle lies in one bank and not on EL2, so they are one
/// range.
fn kept(machine: &Machine, loaded: &Loaded, el2: Region) -> Option<Region> {
    let bank = machine.memory.iter().find(|bank| bank.contains(&loaded.bundle))?;
    let blocks = loaded.bundle.hull(BLOCK).common(bank)?;
    region::difference(&[blocks], &[el2]).into_iter().find(|rest| rest.overlaps(&loaded.bundle))
}

/// At the top of a bank, below 4 GiB if there is room: the pristine copy, and right behind it the secure domain.
fn place_secure(
    machine: &Machine,
    loaded: &Loaded,
    el2: Region,
    kept: Option<Region>,
) -> Result<(Region, Region), PlanError> {
    let mut taken = taken(machine, loaded);
    taken.extend([el2].into_iter().chain(kept));
    let free = Free { machine, regions: region::difference(&machine.memory, &taken) };
    let copy = loaded.secure_image_bytes.checked_add(PLACE_BYTES).and_then(|size| size.checked_next_multiple_of(BLOCK));
    let both = copy.and_then(|copy| copy.checked_add(loaded.secure_bytes));
    let (Some(copy), Some(both)) = (copy, both) else {
        return Err(PlanError::Size { what: "the secure domain's image", size: loaded.secure_image_bytes });
    };
    let place = free.highest("the secure domain", both)?;
    Ok((within(place, 0, copy), within(place, copy, loaded.secure_bytes)))
}

fn kernel_span(kernel: KernelSize) -> Result<u64, PlanError> {
    let span = kernel.text_offset.checked_add(kernel.image_size);
    match span {
        Some(span) if kernel.image_size > 0 && span <= LOW => Ok(span),
        _ => Err(PlanError::Size { what: "the general domain's kernel", size: kernel.image_size }),
    }
}

/// Memory in which nothing lies yet.
struct Free<'m> {
    machine: &'m Machine,
    regions: Vec<Region>,
}

impl Free<'_> {
    /// Takes the lowest range of `size` bytes that begins at a block.
    fn lowest(&mut self, what: &'static str, size: u64) -> Result<Region, PlanError> {
        let fits = |free: &Region| {
            let place = Region::new(free.base().checked_next_multiple_of(BLOCK)?, size)?;
            free.contains(&place).then_some(place)
        };
        let place = self.regions.iter().find_map(fits).ok_or_else(|| self.too_little(what, size))?;
        self.regions = region::difference(&self.regions, &[place]);
        Ok(place)
    }

    /// The highest range of `size` bytes in whole blocks below [`LOW`], or else anywhere.
    fn highest(&self, what: &'static str, size: u64) -> Result<Region, PlanError> {
        let below = |limit: u64| {
            self.regions.iter().rev().find_map(|free| {
                let base = free.end().min(limit).checked_sub(size)? & !(BLOCK - 1);
                Region::new(base, size).filter(|place| free.contains(place))
            })
        };
        below(LOW).or_else(|| below(u64::MAX)).ok_or_else(|| self.too_little(what, size))
    }

    fn too_little(&self, what: &'static str, needs: u64) -> PlanError {
        let largest = self.regions.iter().map(Region::size).max().unwrap_or(0);
        PlanError::TooLittle { what, needs, largest, memory: self.machine.memory_bytes() }
    }
}
