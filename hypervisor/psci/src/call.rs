//! SMC and HVC calls as the SMC Calling Convention (Arm DEN 0028) and PSCI 1.1 (Arm DEN 0022) number them.

/// Bit 30 of a function identifier: the SMC64 convention, arguments are 64 bits wide (DEN 0028, SMC Function Identifier).
const SMC64: u32 = 1 << 30;

/// Function identifiers in their SMC32 form.
pub(crate) mod id {
    pub(crate) const SMCCC_VERSION: u32 = 0x8000_0000;
    pub(crate) const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
    pub(crate) const SMCCC_ARCH_WORKAROUND_1: u32 = 0x8000_8000;
    pub(crate) const SMCCC_ARCH_WORKAROUND_2: u32 = 0x8000_7FFF;
    pub(crate) const SMCCC_ARCH_WORKAROUND_3: u32 = 0x8000_3FFF;
    /// Exists as SMC64 and HVC64 only (Arm DEN 0057).
    pub(crate) const PV_TIME_FEATURES: u32 = 0xC500_0020;
    /// As [`PV_TIME_FEATURES`].
    pub(crate) const PV_TIME_ST: u32 = 0xC500_0021;
    pub(crate) const PSCI_VERSION: u32 = 0x8400_0000;
    pub(crate) const CPU_SUSPEND: u32 = 0x8400_0001;
    pub(crate) const CPU_OFF: u32 = 0x8400_0002;
    pub(crate) const CPU_ON: u32 = 0x8400_0003;
    pub(crate) const AFFINITY_INFO: u32 = 0x8400_0004;
    pub(crate) const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub(crate) const SYSTEM_OFF: u32 = 0x8400_0008;
    pub(crate) const SYSTEM_RESET: u32 = 0x8400_0009;
    pub(crate) const PSCI_FEATURES: u32 = 0x8400_000A;
    pub(crate) const SYSTEM_SUSPEND: u32 = 0x8400_000E;
    pub(crate) const SYSTEM_RESET2: u32 = 0x8400_0012;
}

/// A mitigation that firmware may have to carry out (DEN 0028, Arm Architecture Calls).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Workaround {
    /// `SMCCC_ARCH_WORKAROUND_1`: CVE-2017-5715.
    One,
    /// `SMCCC_ARCH_WORKAROUND_2`: CVE-2018-3639.
    Two,
    /// `SMCCC_ARCH_WORKAROUND_3`: CVE-2017-5715 and CVE-2022-23960.
    Three,
}

impl Workaround {
    /// The function identifier.
    pub fn function(self) -> u32 {
        [id::SMCCC_ARCH_WORKAROUND_1, id::SMCCC_ARCH_WORKAROUND_2, id::SMCCC_ARCH_WORKAROUND_3][self as usize]
    }
}

/// `TRNG_VERSION`, the first of the true random number generator's functions (Arm DEN 0098, section 2).
pub(crate) const TRNG_VERSION: u32 = 0x8400_0050;
/// `TRNG_RND`, the last one and the only one with an SMC64 form.
const TRNG_RND: u32 = 0x8400_0053;

/// One call, with its arguments in the width of its convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `PSCI_VERSION`.
    PsciVersion,
    /// `CPU_SUSPEND`.
    CpuSuspend {
        /// `power_state`, in the original format.
        power_state: u32,
    },
    /// `CPU_OFF`.
    CpuOff,
    /// `CPU_ON`.
    CpuOn {
        /// `target_cpu`: the affinity fields of its `MPIDR_EL1`.
        target: u64,
        /// `entry_point_address`, intermediate physical.
        entry: u64,
        /// `context_id`, for `x0` of the target.
        context: u64,
    },
    /// `AFFINITY_INFO`.
    AffinityInfo {
        /// `target_affinity`.
        target: u64,
        /// `lowest_affinity_level`.
        level: u32,
    },
    /// `MIGRATE_INFO_TYPE`.
    MigrateInfoType,
    /// `SYSTEM_OFF`.
    SystemOff,
    /// `SYSTEM_RESET`.
    SystemReset,
    /// `SYSTEM_RESET2`.
    SystemReset2 {
        /// `reset_type`.
        kind: u32,
        /// `cookie`.
        cookie: u64,
    },
    /// `SYSTEM_SUSPEND`.
    SystemSuspend {
        /// `entry_point_address`, intermediate physical.
        entry: u64,
        /// `context_id`.
        context: u64,
    },
    /// `PSCI_FEATURES` of this function identifier.
    PsciFeatures(u32),
    /// `SMCCC_VERSION`.
    SmcccVersion,
    /// `SMCCC_ARCH_FEATURES` of this function identifier.
    SmcccArchFeatures(u32),
    /// One of `SMCCC_ARCH_WORKAROUND_1` to `_3`.
    SmcccArchWorkaround(Workaround),
    /// `PV_TIME_FEATURES` of this function identifier.
    PvTimeFeatures(u32),
    /// `PV_TIME_ST`: where the record of this core's stolen time is.
    PvTimeStolen,
    /// A call to the true random number generator of Arm DEN 0098: the identifier and its first argument.
    Random(u32, u64),
    /// Anything else.
    Unknown(u32),
}

/// The workaround that an identifier names.
pub(crate) fn workaround(function: u32) -> Option<Workaround> {
    match function {
        id::SMCCC_ARCH_WORKAROUND_1 => Some(Workaround::One),
        id::SMCCC_ARCH_WORKAROUND_2 => Some(Workaround::Two),
        id::SMCCC_ARCH_WORKAROUND_3 => Some(Workaround::Three),
        _ => None,
    }
}

/// Whether the identifier is one of DEN 0098.
pub(crate) fn is_random(function: u32) -> bool {
    (TRNG_VERSION..=TRNG_RND).contains(&function) || function == TRNG_RND | SMC64
}

/// Whether PSCI has the function as SMC64 too: those that take addresses or affinities.
fn has_smc64(smc32: u32) -> bool {
    use id::*;
    matches!(smc32, CPU_SUSPEND | CPU_ON | AFFINITY_INFO | SYSTEM_SUSPEND | SYSTEM_RESET2)
}

/// `function` without its SMC64 bit if PSCI has it in that form; its arguments are then 64 bits wide.
pub(crate) fn normalise(function: u32) -> Option<(u32, bool)> {
    if function & SMC64 == 0 {
        return Some((function, false));
    }
    let smc32 = function & !SMC64;
    has_smc64(smc32).then_some((smc32, true))
}

/// Whether the identifier is a fast call of a range that has calls here: Arm architecture, standard service or standard hypervisor service
/// (DEN 0028, SMC Function Identifier and its ranges).
#[inline]
const fn has_owner(function: u32) -> bool {
    matches!(function >> 24, 0x80 | 0x84 | 0xC4 | 0xC5)
}

/// Reads a call from `w0` and `x1..x3`.
#[inline]
pub fn decode(function: u32, arguments: [u64; 3]) -> Call {
    if has_owner(function) { decode_known(function, arguments) } else { Call::Unknown(function) }
}

/// Upper halves of 32-bit arguments are ignored (DEN 0028, SMC32 and HVC32 argument passing).
#[inline(never)]
fn decode_known(function: u32, arguments: [u64; 3]) -> Call {
    if is_random(function) {
        return Call::Random(function, arguments[0]);
    }
    match function {
        id::PV_TIME_FEATURES => return Call::PvTimeFeatures(arguments[0] as u32),
        id::PV_TIME_ST => return Call::PvTimeStolen,
        _ => {}
    }
    let Some((smc32, wide)) = normalise(function) else { return Call::Unknown(function) };
    let [a, b, c] = arguments.map(|argument| if wide { argument } else { argument & 0xFFFF_FFFF });
    match smc32 {
        id::PSCI_VERSION => Call::PsciVersion,
        id::CPU_SUSPEND => Call::CpuSuspend { power_state: a as u32 },
        id::CPU_OFF => Call::CpuOff,
        id::CPU_ON => Call::CpuOn { target: a, entry: b, context: c },
        id::AFFINITY_INFO => Call::AffinityInfo { target: a, level: b as u32 },
        id::MIGRATE_INFO_TYPE => Call::MigrateInfoType,
        id::SYSTEM_OFF => Call::SystemOff,
        id::SYSTEM_RESET => Call::SystemReset,
        id::PSCI_FEATURES => Call::PsciFeatures(a as u32),
        id::SYSTEM_SUSPEND => Call::SystemSuspend { entry: a, context: b },
        id::SYSTEM_RESET2 => Call::SystemReset2 { kind: a as u32, cookie: b },
        id::SMCCC_VERSION => Call::SmcccVersion,
        id::SMCCC_ARCH_FEATURES => Call::SmcccArchFeatures(a as u32),
        other => match workaround(other) {
            Some(it) => Call::SmcccArchWorkaround(it),
            None => Call::Unknown(function),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_do_not_exist_are_unknown() {
        for function in
            [0, 0x8400_0005, 0x8400_000B, 0x8400_0013, 0xC400_0000, 0xC400_0008, 0xC000_0000, 0x0400_0000, 0xC500_0022]
        {
            assert_eq!(decode(function, [0; 3]), Call::Unknown(function));
        }
    }

    #[test]
    fn only_the_four_calls_of_the_random_generator_are_its_own() {
        for function in [0x8400_0050, 0x8400_0053, 0xC400_0053] {
            assert_eq!(decode(function, [192, 0, 0]), Call::Random(function, 192));
        }
        for function in [0x8400_004F, 0x8400_0054, 0xC400_0050, 0xC400_0052] {
            assert_eq!(decode(function, [192, 0, 0]), Call::Unknown(function));
        }
    }

    #[test]
    fn arguments_have_the_width_of_the_convention() {
        let arguments = [0x1_0000_0002, 0x5_4000_0000, 0xFFFF_FFFF_0000_0007];
        let narrow = Call::CpuOn { target: 2, entry: 0x4000_0000, context: 7 };
        assert_eq!(decode(0x8400_0003, arguments), narrow);
        let wide = Call::CpuOn { target: arguments[0], entry: arguments[1], context: arguments[2] };
        assert_eq!(decode(0xC400_0003, arguments), wide);
    }
}
