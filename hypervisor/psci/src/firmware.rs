//! What firmware offers beyond PSCI, learnt once per core: mitigations (Arm DEN 0028, section 7) and random numbers (Arm DEN 0098).
//!
//! Cores of one machine may differ, so each asks for itself. Firmware is asked in the order of DEN 0028, appendix C, because one that
//! does not know the SMC Calling Convention 1.1 may do anything at an identifier that it has never heard of: `PSCI_VERSION`,
//! `PSCI_FEATURES` of `SMCCC_VERSION`, `SMCCC_VERSION`, and only then `SMCCC_ARCH_FEATURES`.
//!
//! `SMCCC_ARCH_WORKAROUND_2` is a switch of the core, and both domains run on it. EL2 turns the mitigation on for good and tells
//! the general domain that there is nothing to do: its calls succeed and change nothing.

use crate::call::{TRNG_VERSION, Workaround, id};

/// The lowest `SMCCC_VERSION` with `SMCCC_ARCH_FEATURES`.
const SMCCC_1_1: i64 = 0x1_0001;
/// The lowest `PSCI_VERSION` with `PSCI_FEATURES`.
const PSCI_1_0: i64 = 0x1_0000;
/// The lowest `TRNG_VERSION`.
const TRNG_1_0: i64 = 0x1_0000;

/// Not implemented (DEN 0028, Return codes).
const NOT_SUPPORTED: i32 = -1;
/// The call can be made on this core and its mitigation is needed.
const NEEDED: i32 = 0;
/// The call can be made on this core, which does not need it.
const NOT_NEEDED: i32 = 1;

/// What firmware does for one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Its answers for the three workarounds, as the general domain hears them.
    answers: [i32; 3],
    /// The true random number generator of DEN 0098.
    random: bool,
}

impl Firmware {
    /// Firmware that knows nothing but PSCI.
    pub const NONE: Firmware = Firmware { answers: [NOT_SUPPORTED; 3], random: false };

    /// Asks firmware, by `call` with a function identifier and its first argument, for the core that calls.
    pub fn learn(mut call: impl FnMut(u32, u64) -> i64) -> Firmware {
        // The results are 32 bits wide; some firmware leaves the upper half undefined.
        let mut call = |function: u32, argument: u32| i64::from(call(function, argument.into()) as i32);
        let knows = call(id::PSCI_VERSION, 0) >= PSCI_1_0
            && call(id::PSCI_FEATURES, id::SMCCC_VERSION) >= 0
            && call(id::SMCCC_VERSION, 0) >= SMCCC_1_1;
        if !knows {
            return Firmware::NONE;
        }
        let mut answers = [id::SMCCC_ARCH_WORKAROUND_1, id::SMCCC_ARCH_WORKAROUND_2, id::SMCCC_ARCH_WORKAROUND_3]
            .map(|function| call(id::SMCCC_ARCH_FEATURES, function) as i32);
        let bypass = &mut answers[Workaround::Two as usize];
        if *bypass == NEEDED {
            call(id::SMCCC_ARCH_WORKAROUND_2, 1);
            *bypass = NOT_NEEDED;
        }
        Firmware { answers, random: call(TRNG_VERSION, 0) >= TRNG_1_0 }
    }

    /// Firmware with these answers.
    #[cfg(test)]
    pub(crate) const fn with(answers: [i32; 3], random: bool) -> Firmware {
        Firmware { answers, random }
    }

    /// What `SMCCC_ARCH_FEATURES` answers on this core: negative if `it` is not offered.
    pub fn answer(&self, it: Workaround) -> i32 {
        self.answers[it as usize]
    }

    /// Whether the calls of DEN 0098 are relayed.
    pub fn has_random(&self) -> bool {
        self.random
    }

    /// The function that clears this core's branch predictors, if it needs that between domains: the third workaround covers
    /// what the first does (DEN 0028, `SMCCC_ARCH_WORKAROUND_3`).
    pub fn clear_predictors(&self) -> Option<u32> {
        [Workaround::Three, Workaround::One].into_iter().find(|it| self.answer(*it) == NEEDED).map(Workaround::function)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const FEATURES: u32 = id::SMCCC_ARCH_FEATURES;

    /// Firmware with these answers for the three workarounds; what it was asked.
    fn learn(psci: i64, smccc: i64, answers: [i64; 3], trng: i64) -> (Firmware, Vec<(u32, u64)>) {
        let mut asked = Vec::new();
        let firmware = Firmware::learn(|function, argument| {
            asked.push((function, argument));
            match (function, argument as u32) {
                (id::PSCI_VERSION, _) => psci,
                (id::PSCI_FEATURES, id::SMCCC_VERSION) => smccc.min(0),
                (id::SMCCC_VERSION, _) => smccc,
                (FEATURES, id::SMCCC_ARCH_WORKAROUND_1) => answers[0],
                (FEATURES, id::SMCCC_ARCH_WORKAROUND_2) => answers[1],
                (FEATURES, id::SMCCC_ARCH_WORKAROUND_3) => answers[2],
                (id::SMCCC_ARCH_WORKAROUND_2, _) => 0,
                (TRNG_VERSION, _) => trng,
                other => panic!("firmware was asked {other:x?}"),
            }
        });
        (firmware, asked)
    }

    #[test]
    fn firmware_without_the_calling_convention_is_asked_nothing_that_it_cannot_know() {
        for (psci, smccc, calls) in [(0x2, 0, 1), (0x1_0000, -1, 2), (0x1_0001, 0x1_0000, 3)] {
            let (firmware, asked) = learn(psci, smccc, [0; 3], 0x1_0000);
            assert_eq!((firmware, asked.len()), (Firmware::NONE, calls));
        }
    }

    #[test]
    fn not_supported_has_32_bits() {
        let (firmware, _) = learn(0x1_0001, 0x1_0002, [0xFFFF_FFFF; 3], 0xFFFF_FFFF);
        assert_eq!(firmware, Firmware::NONE);
    }

    #[test]
    fn the_general_domain_cannot_turn_the_second_workaround_off() {
        let (firmware, asked) = learn(0x1_0001, 0x1_0002, [-1, 0, -1], -1);
        assert_eq!(firmware.answer(Workaround::Two), NOT_NEEDED);
        assert!(asked.contains(&(id::SMCCC_ARCH_WORKAROUND_2, 1)));
        for answer in [-1, -2, 1] {
            let (firmware, asked) = learn(0x1_0001, 0x1_0002, [-1, answer, -1], -1);
            assert_eq!(i64::from(firmware.answer(Workaround::Two)), answer);
            assert!(!asked.iter().any(|(function, _)| *function == id::SMCCC_ARCH_WORKAROUND_2));
        }
    }

    #[test]
    fn predictors_are_cleared_where_the_core_needs_it_by_the_wider_call() {
        let cleared = |answers| learn(0x1_0001, 0x1_0002, answers, -1).0.clear_predictors();
        assert_eq!(cleared([-1, 0, -1]), None);
        assert_eq!(cleared([1, 0, 1]), None);
        assert_eq!(cleared([0, 0, -1]), Some(id::SMCCC_ARCH_WORKAROUND_1));
        assert_eq!(cleared([0, 0, 1]), Some(id::SMCCC_ARCH_WORKAROUND_1));
        assert_eq!(cleared([0, 0, 0]), Some(id::SMCCC_ARCH_WORKAROUND_3));
    }

    #[test]
    fn random_numbers_are_offered_if_firmware_has_them() {
        assert!(learn(0x1_0001, 0x1_0002, [-1; 3], 0x1_0000).0.has_random());
        assert!(!learn(0x1_0001, 0x1_0002, [-1; 3], -1).0.has_random());
    }
}
