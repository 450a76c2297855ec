//! The Advanced SIMD and floating-point registers. EL2 itself uses none, so a trap leaves them alone; a switch between domains
//! saves and restores them.

/// Byte offset of `q0`; `qN` is at `16 * N`.
pub const Q: usize = 0;
/// Byte offset of `FPSR`.
pub const FPSR: usize = 512;
/// Byte offset of `FPCR`.
pub const FPCR: usize = 520;
/// Bytes of the area.
pub const SIZE: usize = 528;

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct VectorState {
    /// `q0` to `q31`.
    pub q: [u128; 32],
    /// `FPSR`.
    pub fpsr: u64,
    /// `FPCR`.
    pub fpcr: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn offsets_are_those_of_the_assembly() {
        assert_eq!(offset_of!(VectorState, q), Q);
        assert_eq!(offset_of!(VectorState, fpsr), FPSR);
        assert_eq!(offset_of!(VectorState, fpcr), FPCR);
        assert_eq!(size_of::<VectorState>(), SIZE);
    }
}
