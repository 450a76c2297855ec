//! What the virtual GIC asks of the physical one.

use crate::list_register::ListRegisters;

/// The physical distributor and redistributors, as far as interrupts that the guest owns go through them. Never called with an
/// INTID that was not assigned as [`crate::Source::Hardware`].
///
/// `cpu` names the redistributor for private interrupts (INTID < 32); for SPIs it is the vCPU on whose core the call runs.
pub trait Physical {
    /// Makes one change.
    fn apply(&mut self, cpu: usize, intid: u32, change: Change);
    /// `GICD_ISPENDR<word>` (or `GICR_ISPENDR0` of `cpu` for word 0).
    fn pending(&mut self, cpu: usize, word: usize) -> u32;
    /// `GICD_ISACTIVER<word>` (or `GICR_ISACTIVER0` of `cpu` for word 0).
    fn active(&mut self, cpu: usize, word: usize) -> u32;
}

/// All that a core has of the machine's interrupt controller. What is done at every interrupt takes it as the type it is, so that a list
/// register is one instruction away; the rest takes it as it comes, and is there once.
pub trait Gic: ListRegisters + Physical {}

impl<H: ListRegisters + Physical> Gic for H {}

/// One change of a physical interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `ISENABLER` or `ICENABLER`. A disable should be complete (`RWP` clear) on return where that is cheap; where it is not, an
    /// interrupt that slips through comes back by itself.
    Enable(bool),
    /// `ISPENDR` or `ICPENDR`.
    Pending(bool),
    /// `ISACTIVER`, or deactivation by `ICACTIVER` (of a private interrupt of this core or an SPI also by `ICC_DIR_EL1`).
    Active(bool),
    /// The guest's priority, 0 the highest. An implementation may compress it so that EL2's own interrupts stay above.
    Priority(u8),
    /// `ICFGR`: edge-triggered, or level-sensitive.
    Edge(bool),
    /// `IROUTER` or `ITARGETSR`: to the core of this vCPU.
    Route(usize),
}
