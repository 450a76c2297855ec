//! A device that the hypervisor looks for by name and address, and interrupts as the GIC numbers them.

use alloc::{format, string::String};

use crate::{Error, Machine, Region, tree};

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By an edge.
    Edge,
    /// By a level, as long as the device asks for service.
    Level,
}

/// An interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number: 16 to 31 for a PPI, from 32 for an SPI.
    pub intid: u32,
    /// How it signals.
    pub trigger: Trigger,
}

/// A memory-mapped device with one interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path of its node.
    pub path: String,
    /// Its registers: the first entry of `reg`.
    pub registers: Region,
    /// Its interrupt: the first of `interrupts`.
    pub interrupt: Interrupt,
}

/// The part `wanted` of the registers of the enabled device of `dtb` whose `compatible` has the string `compatible`: one of the
/// ranges in its `reg` begins there and is no shorter.
///
/// # Errors
/// No such node.
pub(crate) fn find_registers(dtb: &[u8], compatible: &str, wanted: &Region) -> Result<Region, Error> {
    let mut found = false;
    tree::walk(tree::open(dtb)?, &mut |place| {
        if !found && place.is_enabled() && place.is_any_of(&[compatible]) {
            found = place.registers()?.iter().any(|bank| bank.base() == wanted.base() && bank.contains(wanted));
        }
        Ok(())
    })?;
    let missing = || Error::NoNode { what: format!("enabled node compatible with '{compatible}' at {wanted}") };
    found.then_some(*wanted).ok_or_else(missing)
}

impl Device {
    /// The enabled device of `dtb` whose `compatible` has the string `compatible` and whose registers begin at `base`.
    ///
    /// # Errors
    /// No such node, or one without a usable interrupt.
    #[inline(never)]
    pub fn find(dtb: &[u8], machine: &Machine, compatible: &str, base: u64) -> Result<Device, Error> {
        let mut found = None;
        tree::walk(tree::open(dtb)?, &mut |place| {
            if found.is_some() || !place.is_enabled() || !place.is_any_of(&[compatible]) {
                return Ok(());
            }
            let Some(registers) = place.registers()?.into_iter().next().filter(|first| first.base() == base) else {
                return Ok(());
            };
            let interrupts = place.interrupts(machine.gic.phandle, machine.gic.interrupt_cells)?;
            let interrupt = *interrupts.first().ok_or_else(|| place.wrong("interrupts", "is empty"))?;
            found = Some(Device { path: place.path(), registers, interrupt });
            Ok(())
        })?;
        found.ok_or_else(|| Error::NoNode { what: format!("enabled node compatible with '{compatible}' at {base:#x}") })
    }
}
