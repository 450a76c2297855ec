//! The generic timer of a domain that is not running (Arm DDI 0487, D11.2.4): when it would fire, told from its saved registers.
//!
//! While another domain has the core, the timer's interrupt does not reach its owner. EL2 sets its own timer to [`deadline`] instead, and
//! switches back when it fires.

/// `CNTx_CTL_EL0.ENABLE`.
pub const ENABLE: u64 = 1 << 0;
/// `CNTx_CTL_EL0.IMASK`.
pub const IMASK: u64 = 1 << 1;
/// `CNTx_CTL_EL0.ISTATUS`, read-only.
pub const ISTATUS: u64 = 1 << 2;

/// When a timer with `CNTx_CTL_EL0 = ctl` and `CNTx_CVAL_EL0 = cval` asserts its interrupt, in ticks of its counter; `None` if it never
/// does: it is off, or masked.
pub const fn deadline(ctl: u64, cval: u64) -> Option<u64> {
    if ctl & (ENABLE | IMASK) == ENABLE { Some(cval) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_off_or_masked_never_fires() {
        for ctl in [0, IMASK, ENABLE | IMASK, ENABLE | IMASK | ISTATUS] {
            assert_eq!(deadline(ctl, 5), None);
        }
    }

    #[test]
    fn a_timer_fires_from_its_compare_value_on() {
        assert_eq!(deadline(ENABLE, 100), Some(100));
    }
}
