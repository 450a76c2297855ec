//! The list registers and traps of this core's virtual CPU interface, and the physical GIC behind the guest's interrupts.

use aarch64::{read_sysreg, write_sysreg};
use vgic::{Change, ListRegister, ListRegisters, Physical};

use crate::boot::MAX_CORES;
use crate::gic_v3::{GicV3, Redistributor};

/// `ICH_HCR_EL2`: trap the common, group 0 and group 1 registers, for a domain that has no interrupts.
const TRAP_ALL: u64 = 1 << 10 | 1 << 11 | 1 << 12;

/// Everything that the virtual GIC needs of the machine, from whichever core calls.
#[derive(Clone, Debug)]
pub struct Interrupts {
    /// The physical GIC.
    pub gic: GicV3,
    /// Each core's redistributor.
    pub redistributors: [Redistributor; MAX_CORES],
    /// Each core's affinity, as in `MPIDR_EL1`.
    pub affinities: [u64; MAX_CORES],
    /// `ICH_HCR_EL2` as the general domain has it, while this core's interface is closed.
    pub closed: Option<u32>,
}

impl Interrupts {
    /// Closes the virtual CPU interface while the secure domain, which has no interrupts, runs on this core: nothing is
    /// signalled and every access traps. The list registers keep their contents and may be changed.
    #[inline]
    pub fn close(&mut self) {
        self.closed = Some(self.hcr());
        // SAFETY: concerns the general domain's interrupts alone, which stay as they are.
        unsafe { write_sysreg!("ich_hcr_el2", TRAP_ALL) };
    }

    /// Opens the interface for the general domain again.
    #[inline]
    pub fn open(&mut self) {
        if let Some(hcr) = self.closed.take() {
            self.set_hcr(hcr);
        }
    }
}

/// `ICH_LR<n>_EL2`, whose number is part of the instruction.
macro_rules! list_register {
    ($index:expr, $access:ident $(, $value:expr)?) => {
        match $index {
            0 => $access!("ich_lr0_el2" $(, $value)?),
            1 => $access!("ich_lr1_el2" $(, $value)?),
            2 => $access!("ich_lr2_el2" $(, $value)?),
            3 => $access!("ich_lr3_el2" $(, $value)?),
            4 => $access!("ich_lr4_el2" $(, $value)?),
            5 => $access!("ich_lr5_el2" $(, $value)?),
            6 => $access!("ich_lr6_el2" $(, $value)?),
            7 => $access!("ich_lr7_el2" $(, $value)?),
            8 => $access!("ich_lr8_el2" $(, $value)?),
            9 => $access!("ich_lr9_el2" $(, $value)?),
            10 => $access!("ich_lr10_el2" $(, $value)?),
            11 => $access!("ich_lr11_el2" $(, $value)?),
            12 => $access!("ich_lr12_el2" $(, $value)?),
            13 => $access!("ich_lr13_el2" $(, $value)?),
            14 => $access!("ich_lr14_el2" $(, $value)?),
            _ => $access!("ich_lr15_el2" $(, $value)?),
        }
    };
}

impl ListRegisters for Interrupts {
    #[inline]
    fn count(&self) -> usize {
        (read_sysreg!("ich_vtr_el2") & 0x1f) as usize + 1
    }

    #[inline]
    fn read(&self, index: usize) -> ListRegister {
        ListRegister(list_register!(index, read_sysreg))
    }

    #[inline]
    fn write(&mut self, index: usize, value: ListRegister) {
        // SAFETY: a list register only decides which virtual interrupt the guest sees.
        unsafe { list_register!(index, write_sysreg, value.0) }
    }

    #[inline]
    fn empty(&self) -> u32 {
        read_sysreg!("ich_elrsr_el2") as u32
    }

    #[inline]
    fn hcr(&self) -> u32 {
        self.closed.unwrap_or_else(|| read_sysreg!("ich_hcr_el2") as u32)
    }

    #[inline]
    fn set_hcr(&mut self, value: u32) {
        match &mut self.closed {
            Some(hcr) => *hcr = value,
            // SAFETY: as in `write`.
            None => unsafe { write_sysreg!("ich_hcr_el2", value.into()) },
        }
    }
}

impl Physical for Interrupts {
    fn apply(&mut self, cpu: usize, intid: u32, change: Change) {
        let core = self.redistributors[cpu];
        match change {
            Change::Enable(on) => self.gic.set_enabled(core, intid, on),
            Change::Pending(on) => self.gic.set_pending(core, intid, on),
            Change::Active(on) => self.gic.set_active(core, intid, on),
            // EL2's own stay above: the guest's priorities fall into the lower half.
            Change::Priority(priority) => self.gic.set_priority(core, intid, 0x80 | priority >> 1),
            Change::Edge(edge) => self.gic.set_edge(core, intid, edge),
            Change::Route(cpu) => self.gic.set_target(intid, self.affinities[cpu]),
        }
    }

    fn pending(&mut self, cpu: usize, word: usize) -> u32 {
        self.gic.pending_word(self.redistributors[cpu], word)
    }

    fn active(&mut self, cpu: usize, word: usize) -> u32 {
        self.gic.active_word(self.redistributors[cpu], word)
    }
}

/// The state of the virtual CPU interface at reset: everything masked, as on a core that has just been turned on.
pub fn reset() {
    // SAFETY: concerns the guest's interrupts alone.
    unsafe {
        write_sysreg!("ich_hcr_el2", 0);
        write_sysreg!("ich_vmcr_el2", 0);
        for index in 0..(read_sysreg!("ich_vtr_el2") as usize & 0x1f) + 1 {
            list_register!(index, write_sysreg, 0);
        }
        clear_active_priorities();
        write_sysreg!("ich_hcr_el2", 1);
        core::arch::asm!("isb", options(nostack));
    }
}

/// Clears the active priorities that this core implements (`ICH_VTR_EL2.PREbits`: 5, 6 or 7 bits).
fn clear_active_priorities() {
    // SAFETY: concerns the guest's interrupts alone; registers beyond the implemented ones are not touched.
    unsafe {
        write_sysreg!("ich_ap0r0_el2", 0);
        write_sysreg!("ich_ap1r0_el2", 0);
        let bits = (read_sysreg!("ich_vtr_el2") >> 26 & 7) + 1;
        if bits >= 6 {
            write_sysreg!("ich_ap0r1_el2", 0);
            write_sysreg!("ich_ap1r1_el2", 0);
        }
        if bits >= 7 {
            write_sysreg!("ich_ap0r2_el2", 0);
            write_sysreg!("ich_ap0r3_el2", 0);
            write_sysreg!("ich_ap1r2_el2", 0);
            write_sysreg!("ich_ap1r3_el2", 0);
        }
    }
}
