//! GICv3 and GICv2 as a guest sees them.
#![no_std]
#![forbid(unsafe_code)]

mod list_register;
mod physical;

pub use list_register::{
    HCR_EN, HCR_EOICOUNT_SHIFT, HCR_LRENPIE, HCR_NPIE, HCR_TDIR, ListRegister, ListRegisters, MAX_LIST_REGISTERS,
};
pub use physical::{Change, Physical};

/// Most vCPUs of the guest.
pub const MAX_CPUS: usize = 8;

/// Which GIC the guest sees. It is the one that the board has: the guest's CPU interface is the hardware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: distributor here, CPU interface `GICV` mapped by stage 2.
    V2,
    /// GICv3: distributor and redistributors here, CPU interface by system registers.
    V3,
}

/// What the guest's GIC looks like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Architecture version.
    pub version: Version,
    /// vCPUs, 1 to [`MAX_CPUS`]; vCPU *n* runs on the core that calls with `cpu == n`.
    pub cpus: usize,
    /// Affinity of each vCPU in the layout of `MPIDR_EL1` and `GICD_IROUTER`: Aff3 39:32, Aff2 23:16, Aff1 15:8, Aff0 7:0.
    pub affinities: [u64; MAX_CPUS],
    /// SPIs, 0 to 988: INTIDs 32 to 31 + `spis` exist. Rounded up to a multiple of 32, as `GICD_TYPER` counts.
    pub spis: usize,
}

/// Where an interrupt of the guest comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is not the guest's: its registers are RAZ/WI.
    None,
    /// The physical interrupt of the same INTID.
    Hardware,
    /// EL2 software.
    Virtual,
}

/// A trapped register frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `GICD`, offsets below 64 KiB (GICv2: below 4 KiB).
    Distributor,
    /// `GICR` of the vCPU with this index: `RD_base` then `SGI_base`, offsets below 128 KiB.
    Redistributor(usize),
}

/// vCPUs whose cores must call [`Vgic::sync`] soon: bit *n* is vCPU *n*. The caller sends an IPI to each.
#[must_use = "a core that is not kicked does not see its interrupt"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicks(pub u8);

/// The answer to a trapped read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The register's value, zero-extended.
    pub value: u64,
    /// Cores to be kicked: the state of one of their interrupts was asked for, and the next read will know it.
    pub kicks: Kicks,
}

/// The guest's GIC.
#[derive(Debug)]
pub struct Vgic {
    config: Config,
}

#[expect(unused_variables, reason = "bodies follow")]
impl Vgic {
    /// A GIC after reset, in which the guest owns only its SGIs and every vCPU is off.
    pub const fn new(config: Config) -> Vgic {
        Vgic { config }
    }

    /// Says where interrupt `intid` comes from; a PPI is assigned for every vCPU. At boot, before the guest runs.
    pub fn assign(&self, intid: u32, source: Source) {
        todo!()
    }

    /// A trapped read of `size` bytes (1, 2, 4, 8) at `offset` in `frame` by vCPU `cpu`.
    pub fn mmio_read<H: ListRegisters + Physical>(
        &self,
        cpu: usize,
        frame: Frame,
        offset: u64,
        size: usize,
        hw: &mut H,
    ) -> Read {
        todo!()
    }

    /// A trapped write.
    pub fn mmio_write<H: ListRegisters + Physical>(
        &self,
        cpu: usize,
        frame: Frame,
        offset: u64,
        size: usize,
        value: u64,
        hw: &mut H,
    ) -> Kicks {
        todo!()
    }

    /// A trapped write of `ICC_SGI1R_EL1`.
    pub fn sgi1r<H: ListRegisters + Physical>(&self, cpu: usize, value: u64, hw: &mut H) -> Kicks {
        todo!()
    }

    /// A trapped write of `ICC_SGI0R_EL1` or `ICC_ASGI1R_EL1`.
    pub fn sgi0r<H: ListRegisters + Physical>(&self, cpu: usize, value: u64, hw: &mut H) -> Kicks {
        todo!()
    }

    /// A trapped write of `ICC_DIR_EL1` (`ICH_HCR_EL2.TDIR`, set only while an active interrupt has no list register).
    pub fn dir<H: ListRegisters + Physical>(&self, cpu: usize, value: u64, hw: &mut H) -> Kicks {
        todo!()
    }

    /// EL2 on the core of `cpu` has acknowledged physical interrupt `intid` and dropped its priority, without deactivation.
    /// False: the interrupt is not the guest's, and the caller deactivates it.
    #[must_use]
    pub fn physical_interrupt<H: ListRegisters + Physical>(&self, cpu: usize, intid: u32, hw: &mut H) -> bool {
        todo!()
    }

    /// Sets the line of a virtual interrupt. `cpu` is the core that runs; a PPI is that vCPU's.
    pub fn set_level<H: ListRegisters + Physical>(&self, cpu: usize, intid: u32, level: bool, hw: &mut H) -> Kicks {
        todo!()
    }

    /// One edge of a virtual interrupt.
    pub fn raise_edge<H: ListRegisters + Physical>(&self, cpu: usize, intid: u32, hw: &mut H) -> Kicks {
        todo!()
    }

    /// The maintenance interrupt of this core.
    pub fn maintenance<H: ListRegisters + Physical>(&self, cpu: usize, hw: &mut H) -> Kicks {
        todo!()
    }

    /// After a kick, and before any entry into the guest that a kick may have preceded: cheap when there is nothing to do.
    pub fn sync<H: ListRegisters + Physical>(&self, cpu: usize, hw: &mut H) -> Kicks {
        todo!()
    }

    /// vCPU `cpu` starts, on its core; its virtual CPU interface has just been reset.
    pub fn cpu_on<H: ListRegisters + Physical>(&self, cpu: usize, hw: &mut H) -> Kicks {
        todo!()
    }

    /// vCPU `cpu` stops, on its core.
    pub fn cpu_off<H: ListRegisters + Physical>(&self, cpu: usize, hw: &mut H) -> Kicks {
        todo!()
    }

    /// Whether an interrupt waits for vCPU `cpu`, masked or not: if so, its WFI should not give the core away.
    pub fn has_pending<H: ListRegisters + Physical>(&self, cpu: usize, hw: &mut H) -> bool {
        todo!()
    }
}
