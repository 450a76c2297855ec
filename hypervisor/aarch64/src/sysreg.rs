//! System registers by their assembler names, for those that `aarch64-cpu` does not define.

/// Reads a system register: `read_sysreg!("ich_vtr_el2")` gives its 64 bits.
#[macro_export]
macro_rules! read_sysreg {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: reading a system register that exists at this exception level has no effect on memory; one that does not
        // exist traps to this level's own vectors, which stop loudly.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// PSTATE.DIT of the running code: whether the time of its instructions depends on no operand. `None` on a core without
/// FEAT_DIT (ID_AA64PFR0_EL1.DIT).
pub fn data_independent_timing() -> Option<bool> {
    let has_dit = read_sysreg!("id_aa64pfr0_el1") >> 48 & 0xf != 0;
    // DIT by its encoding; bit 24 (Arm ARM, C5.2.4).
    has_dit.then(|| read_sysreg!("s3_3_c4_c2_5") >> 24 & 1 != 0)
}

/// Writes a system register: `write_sysreg!("ich_hcr_el2", value)`. A context synchronisation event is the caller's to add.
///
/// # Safety
/// The new value must keep this exception level's own execution sound: what it maps, where its vectors are, what traps.
#[macro_export]
macro_rules! write_sysreg {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack))
    }};
}
