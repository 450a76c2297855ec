//! Bits of `SPSR_ELx` (Arm DDI 0487, C5.2.18), for exceptions taken from AArch64 and from AArch32.

/// Execution state and mode: 0 AArch64, 1 AArch32.
pub const NRW: u64 = 1 << 4;
/// `M[3:0]` with [`NRW`].
pub const MODE_MASK: u64 = 0b11111;
/// EL0, `SP_EL0`.
pub const EL0T: u64 = 0b00000;
/// EL1, `SP_EL0`.
pub const EL1T: u64 = 0b00100;
/// EL1, `SP_EL1`.
pub const EL1H: u64 = 0b00101;
/// AArch32 T32 instruction set state.
pub const T32: u64 = 1 << 5;
/// FIQ mask.
pub const F: u64 = 1 << 6;
/// IRQ mask.
pub const I: u64 = 1 << 7;
/// SError mask.
pub const A: u64 = 1 << 8;
/// Debug exception mask, AArch64 only.
pub const D: u64 = 1 << 9;
/// All four masks.
pub const DAIF: u64 = D | A | I | F;
/// FEAT_BTI: type of the last branch, AArch64 only.
pub const BTYPE: u64 = 0b11 << 10;
/// FEAT_SSBS, for AArch64. AArch32 has it at bit 23.
pub const SSBS: u64 = 1 << 12;
/// Illegal execution state.
pub const IL: u64 = 1 << 20;
/// Software step.
pub const SS: u64 = 1 << 21;
/// FEAT_PAN, at the same place for both.
pub const PAN: u64 = 1 << 22;
/// FEAT_UAO, AArch64 only.
pub const UAO: u64 = 1 << 23;
/// FEAT_DIT, at the same place for both in `SPSR_ELx`.
pub const DIT: u64 = 1 << 24;
/// FEAT_MTE, AArch64 only.
pub const TCO: u64 = 1 << 25;
/// Condition flags.
pub const NZCV: u64 = 0b1111 << 28;
/// `IT[7:2]` of AArch32.
pub const IT_HIGH: u64 = 0b11_1111 << 10;
/// `IT[1:0]` of AArch32.
pub const IT_LOW: u64 = 0b11 << 25;

/// PSTATE in which a domain is entered: EL1h with every exception masked (Arm64 boot protocol, PSCI `CPU_ON`).
pub const RESET: u64 = DAIF | EL1H;

/// Whether the exception came from AArch32 (EL0, since EL1 of every domain is AArch64).
pub const fn is_aarch32(spsr: u64) -> bool {
    spsr & NRW != 0
}

/// Whether it came from EL0.
pub const fn is_el0(spsr: u64) -> bool {
    is_aarch32(spsr) || spsr & MODE_MASK == EL0T
}
