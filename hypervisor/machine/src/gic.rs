//! The interrupt controller of the machine.

use arrayvec::ArrayVec;

use crate::{Error, Interrupt, Region, tree::Place};

/// Redistributor regions that are taken.
const MAX_REDISTRIBUTORS: usize = 8;

/// `compatible` strings of a GICv3.
pub(crate) const GIC_V3: [&str; 1] = ["arm,gic-v3"];
/// `compatible` strings of a GICv2 (Linux, bindings/interrupt-controller/arm,gic.yaml).
pub(crate) const GIC_V2: [&str; 3] = ["arm,cortex-a15-gic", "arm,gic-400", "arm,cortex-a7-gic"];

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// Its register frames.
    pub frames: Frames,
    /// The maintenance interrupt of the virtual CPU interface, a PPI, if the tree names one.
    pub maintenance: Option<Interrupt>,
    /// Its phandle.
    pub phandle: Option<u32>,
    /// Cells of an interrupt specifier.
    pub interrupt_cells: u32,
    /// Whether a node inside it delivers messages as interrupts (an ITS, or GICv2m frames).
    pub has_msi: bool,
}

/// Register frames of a GIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// GICv3 or later (Arm IHI 0069): system registers take the place of the CPU interface.
    V3 {
        /// `GICD_*`.
        distributor: Region,
        /// `GICR_*`, each with the frames of one or more cores.
        redistributors: ArrayVec<Region, MAX_REDISTRIBUTORS>,
        /// Bytes from one core's frames to the next one's, where the tree states it.
        stride: Option<u64>,
    },
    /// GICv2 with the virtualization extensions (Arm IHI 0048).
    V2 {
        /// `GICD_*`.
        distributor: Region,
        /// `GICC_*`.
        cpu_interface: Region,
        /// `GICH_*`.
        hypervisor_interface: Region,
        /// `GICV_*`: what a guest gets at the address of `GICC_*`.
        virtual_cpu_interface: Region,
    },
}

impl Gic {
    /// Reads the node of a GIC; none if `place` is not one.
    pub(crate) fn read(place: &Place<'_, '_>) -> Result<Option<Gic>, Error> {
        let frames = if place.is_any_of(&GIC_V3) {
            v3(place)?
        } else if place.is_any_of(&GIC_V2) {
            v2(place)?
        } else {
            return Ok(None);
        };
        let interrupt_cells = match place.number("#interrupt-cells")? {
            Some(3) => 3,
            Some(4) => 4,
            _ => return Err(place.wrong("#interrupt-cells", "is neither 3 nor 4")),
        };
        let phandle = place.number("phandle")?.and_then(|phandle| u32::try_from(phandle).ok());
        let maintenance = maintenance(place, phandle, interrupt_cells)?;
        Ok(Some(Gic { frames, maintenance, phandle, interrupt_cells, has_msi: false }))
    }

    /// How many entries of `reg` a guest may know: distributor and redistributors, or distributor and CPU interface.
    pub(crate) fn guest_frames(&self) -> usize {
        match &self.frames {
            Frames::V3 { redistributors, .. } => 1 + redistributors.len(),
            Frames::V2 { .. } => 2,
        }
    }
}

/// A GIC is its own interrupt parent, and so is whoever it inherits from: only its own `interrupts` are looked at.
fn maintenance(place: &Place<'_, '_>, phandle: Option<u32>, cells: u32) -> Result<Option<Interrupt>, Error> {
    if place.node_has("interrupts") && place.interrupt_parent() == phandle && phandle.is_some() {
        Ok(place.interrupts(phandle, cells)?.first().copied())
    } else {
        Ok(None)
    }
}

fn v3(place: &Place<'_, '_>) -> Result<Frames, Error> {
    let registers = place.registers()?;
    let count = place.number("#redistributor-regions")?.unwrap_or(1);
    if count == 0 || count > MAX_REDISTRIBUTORS as u64 {
        return Err(place.wrong("#redistributor-regions", "is no number from 1 to 8"));
    }
    let count = count as usize;
    match registers.split_first() {
        Some((distributor, rest)) if rest.len() >= count => Ok(Frames::V3 {
            distributor: *distributor,
            redistributors: rest.iter().take(count).copied().collect(),
            stride: place.number("redistributor-stride")?,
        }),
        _ => Err(place.wrong("reg", "lacks the distributor or a redistributor region")),
    }
}

fn v2(place: &Place<'_, '_>) -> Result<Frames, Error> {
    match place.registers()?.as_slice() {
        [distributor, cpu_interface, hypervisor_interface, virtual_cpu_interface, ..] => Ok(Frames::V2 {
            distributor: *distributor,
            cpu_interface: *cpu_interface,
            hypervisor_interface: *hypervisor_interface,
            virtual_cpu_interface: *virtual_cpu_interface,
        }),
        _ => Err(place.wrong("reg", "lacks one of GICD, GICC, GICH and GICV, which a hypervisor needs")),
    }
}
