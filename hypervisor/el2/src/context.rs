//! What a switch between domains exchanges: EL1 system registers, vector registers, stage 2, traps.
//!
//! The order of [`load`] is the one that cores with speculative-walk errata need (Cortex-A76 1165522, A57 and A72 1319537 and
//! 1319367, A55 1530923): while stage 2 belongs to one domain and the EL1 translation registers to the other, walks are turned
//! off through `TCR_EL1.EPD0` and `EPD1`, and `TCR_EL1` gets its value last.

use core::arch::{asm, global_asm};

use aarch64::{read_sysreg, write_sysreg};
use vcpu::{Control, El1State, VectorState};

/// Registers with one name each; `tcr_el1` is apart because of the order.
macro_rules! registers {
    ($apply:ident, $state:expr) => {
        $apply!($state, sctlr_el1, cpacr_el1, ttbr0_el1, ttbr1_el1, mair_el1, amair_el1, vbar_el1, contextidr_el1);
        $apply!($state, sp_el0, sp_el1, elr_el1, spsr_el1, esr_el1, far_el1, afsr0_el1, afsr1_el1, par_el1);
        $apply!($state, tpidr_el0, tpidrro_el0, tpidr_el1, csselr_el1, mdscr_el1, cntkctl_el1);
    };
}

macro_rules! save_each {
    ($state:expr, $($name:ident),*) => { $($state.$name = read_sysreg!(stringify!($name));)* };
}

macro_rules! load_each {
    ($state:expr, $($name:ident),*) => { $(write_sysreg!(stringify!($name), $state.$name);)* };
}

macro_rules! timers {
    ($apply:ident, $state:expr) => {
        $apply!($state, cntv_cval_el0, cntv_ctl_el0, cntp_cval_el0, cntp_ctl_el0);
    };
}

/// Stores this core's EL1 registers into `state`.
pub fn save(state: &mut El1State) {
    registers!(save_each, state);
    state.tcr_el1 = read_sysreg!("tcr_el1");
    timers!(save_each, state);
}

/// What keeps a domain in: traps, and stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Traps.
    pub control: Control,
    /// `VTCR_EL2`.
    pub vtcr_el2: u64,
    /// `VTTBR_EL2`.
    pub vttbr_el2: u64,
}

/// Makes this core's EL1 the one of `state` under `confinement`, but for the timers.
///
/// The timers are the general domain's alone and keep running while the secure domain has the core, so that their interrupts
/// arrive; [`load_timers`] puts them back after it. Returns whether a virtual SError of the outgoing domain was pending, which
/// this drops ([`pend_virtual_serror`]).
pub fn load(state: &El1State, confinement: &Confinement) -> bool {
    let serror = read_sysreg!("hcr_el2") & vcpu::control::hcr::VSE != 0;
    // SAFETY: EL2 uses none of these registers itself; what the domain can do with them is bounded by `confinement`, which is
    // in force before the domain runs.
    unsafe {
        write_sysreg!("tcr_el1", read_sysreg!("tcr_el1") | TCR_EPD);
        asm!("isb", options(nostack));
        confine(confinement);
        registers!(load_each, state);
        asm!("isb", options(nostack));
        write_sysreg!("tcr_el1", state.tcr_el1);
    }
    serror
}

/// `TCR_EL1.EPD0` and `EPD1`.
const TCR_EPD: u64 = 1 << 7 | 1 << 23;

/// Puts the timers back as they were saved.
pub fn load_timers(state: &El1State) {
    // SAFETY: the timers raise interrupts that EL2 handles.
    unsafe {
        timers!(load_each, state);
    }
}

/// Sets the traps and stage 2 of a domain.
unsafe fn confine(Confinement { control, vtcr_el2, vttbr_el2 }: &Confinement) {
    // SAFETY: the values come from the pure crate that names each bit; none changes EL2's own translation or vectors.
    unsafe {
        write_sysreg!("hcr_el2", control.hcr_el2);
        write_sysreg!("cptr_el2", control.cptr_el2);
        write_sysreg!("mdcr_el2", control.mdcr_el2);
        write_sysreg!("vtcr_el2", *vtcr_el2);
        write_sysreg!("vttbr_el2", *vttbr_el2);
        write_sysreg!("cnthctl_el2", control.cnthctl_el2);
        write_sysreg!("cntvoff_el2", 0);
        write_sysreg!("hstr_el2", 0);
    }
}

/// The intermediate physical address of a permission fault at `far`, for which `HPFAR_EL2` is undefined: the domain's own
/// stage 1 is asked, as the hardware did. `None` if the domain has changed it meanwhile.
pub fn stage1_translate(far: u64) -> Option<vcpu::Ipa> {
    let kept = read_sysreg!("par_el1");
    // SAFETY: an address translation only sets PAR_EL1, which is put back.
    let par = unsafe {
        asm!("at s1e1r, {}", "isb", in(reg) far, options(nostack));
        let par = read_sysreg!("par_el1");
        write_sysreg!("par_el1", kept);
        par
    };
    vcpu::exit::ipa_of_par(par, far)
}

/// Stops the counters that the general domain has running (`PMCNTENSET_EL0`), so that they tell nothing of what the secure
/// domain does, and returns them.
pub fn stop_counters(has_pmu: bool) -> u64 {
    if !has_pmu {
        return 0;
    }
    let running = read_sysreg!("pmcntenset_el0");
    // SAFETY: the counters are the general domain's; it does not run now.
    unsafe {
        write_sysreg!("pmcntenclr_el0", 0xffff_ffff);
        asm!("isb", options(nostack));
    }
    running
}

/// Lets the counters of [`stop_counters`] run again.
pub fn restore_counters(has_pmu: bool, running: u64) {
    if has_pmu {
        // SAFETY: as they were.
        unsafe { write_sysreg!("pmcntenset_el0", running) };
    }
}

/// Monitors as a core has them that has just been turned on: nothing counts, nothing interrupts, EL0 reads nothing (DDI 0487, the
/// reset value of `PMCR_EL0.E`; what is UNKNOWN there is cleared, since it may be another life's of the domain).
pub fn reset_monitors(has_pmu: bool) {
    if has_pmu {
        // SAFETY: the general domain's monitors, which does not run now.
        unsafe {
            write_sysreg!("pmcr_el0", 0);
            write_sysreg!("pmuserenr_el0", 0);
            write_sysreg!("pmcntenclr_el0", 0xffff_ffff);
            write_sysreg!("pmintenclr_el1", 0xffff_ffff);
            write_sysreg!("pmovsclr_el0", 0xffff_ffff);
        }
    }
}

/// Whether an SError is pending for this core: one that an access made before now has caused. The barriers make an error of
/// an earlier store arrive first, as far as the architecture has a way.
pub fn serror_pending() -> bool {
    /// `ISR_EL1.A`.
    const A: u64 = 1 << 8;
    // SAFETY: barriers only wait.
    unsafe { asm!("dsb sy", "isb", options(nostack)) };
    read_sysreg!("isr_el1") & A != 0
}

/// Whether an interrupt waits for this core to take it.
pub fn interrupt_pending() -> bool {
    /// `ISR_EL1.I`.
    const I: u64 = 1 << 7;
    read_sysreg!("isr_el1") & I != 0
}

/// What a core needs once, before a domain runs on it: traps, its own identification registers for EL1, and no trap or lock of
/// a newer extension that reset or firmware may have left.
pub fn init_core(mpidr: u64, confinement: &Confinement) {
    // SAFETY: these only choose what EL1 reads and what traps; registers of an extension are touched where it exists.
    unsafe {
        confine(confinement);
        write_sysreg!("oslar_el1", 0);
        write_sysreg!("osdlr_el1", 0);
        if read_sysreg!("id_aa64mmfr1_el1") >> 40 & 0xf != 0 {
            write_sysreg!("s3_4_c1_c2_2", 0); // HCRX_EL2 (FEAT_HCX)
        }
        if read_sysreg!("id_aa64mmfr0_el1") >> 56 & 0xf != 0 {
            write_sysreg!("s3_4_c1_c1_4", 0); // HFGRTR_EL2 (FEAT_FGT)
            write_sysreg!("s3_4_c1_c1_5", 0); // HFGWTR_EL2
            write_sysreg!("s3_4_c1_c1_6", 0); // HFGITR_EL2
            write_sysreg!("s3_4_c3_c1_4", 0); // HDFGRTR_EL2
            write_sysreg!("s3_4_c3_c1_5", 0); // HDFGWTR_EL2
            if read_sysreg!("id_aa64pfr0_el1") >> 44 & 0xf != 0 {
                write_sysreg!("s3_4_c3_c1_6", 0); // HAFGRTR_EL2 (with FEAT_AMUv1)
            }
        }
        write_sysreg!("vpidr_el2", read_sysreg!("midr_el1"));
        write_sysreg!("vmpidr_el2", mpidr);
    }
}

/// Exchanges the core's vector registers: stores them in `outgoing`, loads `incoming`. Both domains use vectors on every
/// request (the secure one in its ciphers), so a lazy switch would only add a trap.
pub fn switch_vectors(outgoing: &mut VectorState, incoming: &VectorState) {
    unsafe extern "C" {
        fn el2_vector_save(state: *mut VectorState);
        fn el2_vector_load(state: *const VectorState);
    }
    // SAFETY: both pointers are to whole structures of the layout that the assembly has; EL2 holds nothing in vectors.
    unsafe {
        el2_vector_save(outgoing);
        el2_vector_load(incoming);
    }
}

global_asm!(
    ".arch_extension fp",
    ".arch_extension simd",
    ".macro vectors32 operation",
    "\\operation q0, q1, [x0, #0]",
    "\\operation q2, q3, [x0, #32]",
    "\\operation q4, q5, [x0, #64]",
    "\\operation q6, q7, [x0, #96]",
    "\\operation q8, q9, [x0, #128]",
    "\\operation q10, q11, [x0, #160]",
    "\\operation q12, q13, [x0, #192]",
    "\\operation q14, q15, [x0, #224]",
    "\\operation q16, q17, [x0, #256]",
    "\\operation q18, q19, [x0, #288]",
    "\\operation q20, q21, [x0, #320]",
    "\\operation q22, q23, [x0, #352]",
    "\\operation q24, q25, [x0, #384]",
    "\\operation q26, q27, [x0, #416]",
    "\\operation q28, q29, [x0, #448]",
    "\\operation q30, q31, [x0, #480]",
    ".endm",
    ".section .text.vectors, \"ax\"",
    ".global el2_vector_save",
    "el2_vector_save:",
    "vectors32 stp",
    "mrs x1, fpsr",
    "mrs x2, fpcr",
    "add x0, x0, #{fpsr}",
    "stp x1, x2, [x0]",
    "ret",
    ".global el2_vector_load",
    "el2_vector_load:",
    "vectors32 ldp",
    "add x0, x0, #{fpsr}",
    "ldp x1, x2, [x0]",
    "msr fpsr, x1",
    "msr fpcr, x2",
    "ret",
    fpsr = const vcpu::vector::FPSR,
);

/// Makes a virtual SError pending for the domain that is loaded (HCR_EL2.VSE); the hardware clears it when the domain takes it.
pub fn pend_virtual_serror() {
    // SAFETY: concerns the loaded domain alone.
    unsafe { write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") | vcpu::control::hcr::VSE) };
}
