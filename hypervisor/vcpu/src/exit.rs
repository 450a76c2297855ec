//! Why the domain came to EL2: `ESR_EL2`, `FAR_EL2` and `HPFAR_EL2` decoded (Arm DDI 0487, D19.2.37 and following).
//!
//! Decoding is total: every value of the three registers has an answer, if only [`Exit::Unknown`].

use crate::sysreg::{Register, SystemAccess};
use crate::{Access, Ipa};

/// Why the domain came to EL2 by a synchronous exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `HVC #imm`; the preferred return is already behind it.
    Hvc {
        /// The immediate.
        immediate: u16,
    },
    /// `SMC #imm` (trapped by `HCR_EL2.TSC`); the preferred return is the instruction itself.
    Smc {
        /// The immediate.
        immediate: u16,
    },
    /// `WFI`, or `WFIT` with its deadline in a register.
    Wfi {
        /// The register that holds the deadline in ticks of the virtual counter, if it was `WFIT`.
        deadline: Option<u8>,
    },
    /// `WFE`, or `WFET` likewise.
    Wfe {
        /// As for [`Exit::Wfi`].
        deadline: Option<u8>,
    },
    /// A load, store or cache operation failed.
    DataAbort(Fault),
    /// An instruction fetch failed.
    InstructionAbort(Fault),
    /// `MRS`, `MSR` or `SYS` in AArch64.
    SystemRegister(SystemAccess),
    /// Anything else that `HCR_EL2`, `CPTR_EL2` or `MDCR_EL2` made trap.
    Trapped(Trap),
    /// A debug exception that was routed to EL2.
    Debug {
        /// The exception class.
        class: u8,
    },
    /// A system error.
    SError {
        /// The syndrome, 25 bits.
        syndrome: u32,
    },
    /// An exception class that nothing here enables, or that the architecture does not have.
    Unknown {
        /// The exception class, 6 bits.
        class: u8,
    },
}

/// Instructions that EL2 traps and does not emulate: the domain gets an undefined instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// Advanced SIMD or floating point (`CPTR_EL2.TFP`), or the AArch32 `VMRS` of an identification register.
    FpSimd,
    /// SVE (`CPTR_EL2.TZ`).
    Sve,
    /// SME (`CPTR_EL2.TSM`).
    Sme,
    /// A pointer-authentication instruction (`HCR_EL2.API`).
    PointerAuthentication,
    /// `LD64B`, `ST64B` and their kin.
    Ls64,
    /// A coprocessor access or `SVC` from AArch32.
    AArch32 {
        /// The exception class: 0x03 to 0x06 or 0x0C.
        class: u8,
    },
    /// `HVC` or `SMC` from AArch32, `ERET`, or transactional memory.
    Other {
        /// The exception class.
        class: u8,
    },
}

/// What failed in a data or instruction abort (`DFSC`, `IFSC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An address beyond the size of the tables' output.
    AddressSize,
    /// Nothing is mapped.
    Translation,
    /// The access flag is clear.
    AccessFlag,
    /// What is mapped does not allow it.
    Permission,
    /// The system answered with an error.
    External,
    /// The system answered with an error to the table walk.
    ExternalOnWalk,
    /// A memory error that was found by a check.
    Ecc,
    /// Not aligned.
    Alignment,
    /// Two TLB entries match.
    TlbConflict,
    /// An exclusive or atomic access to memory that cannot do it.
    UnsupportedExclusive,
    /// Any other status code.
    Other(u8),
}

/// A data or instruction abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What failed.
    pub kind: FaultKind,
    /// The level of the walk, 0 to 3, for the kinds that have one.
    pub level: u8,
    /// The virtual address; `None` if the register does not hold it (`FnV`).
    pub far: Option<u64>,
    /// The intermediate physical address of the byte, where `HPFAR_EL2` is defined. It is *not* for a permission fault
    /// outside a walk: take `FAR_EL2` through `AT S1E1R` (or `S1E0R`) and [`ipa_of_par`] then. On Cortex-A57 up to r1p2 do so for
    /// every fault outside a walk (erratum 834220). On a walk it is the page of the table.
    pub ipa: Option<Ipa>,
    /// A store, or a cache operation that needs write permission.
    pub write: bool,
    /// The exception was taken from this domain, not at EL2 itself.
    pub lower_el: bool,
    /// The fault was stage 2's, on the walk of the domain's own stage 1.
    pub on_stage1_walk: bool,
    /// A cache maintenance or address translation instruction.
    pub cache_maintenance: bool,
    /// The load or store, if the hardware describes it; `None` for pairs, writeback, SIMD, exclusives, and all fetches.
    pub access: Option<Access>,
    /// Bytes of the instruction: 4, or 2 in T32.
    pub instruction_bytes: u64,
}

impl Exit {
    /// Decodes the syndrome of a synchronous exception that was taken to EL2.
    pub fn decode(esr: u64, far: u64, hpfar: u64) -> Exit {
        let class = class_of(esr);
        match class {
            0x01 => wait(esr),
            0x16 => Exit::Hvc { immediate: esr as u16 },
            0x17 => Exit::Smc { immediate: esr as u16 },
            0x18 => Exit::SystemRegister(system_access(esr)),
            0x20 | 0x21 => Exit::InstructionAbort(instruction_abort(esr, far, hpfar)),
            0x24 | 0x25 => Exit::DataAbort(data_abort(esr, far, hpfar)),
            0x2f => Exit::SError { syndrome: (esr & ISS) as u32 },
            0x30..=0x35 | 0x38 | 0x3a | 0x3c => Exit::Debug { class },
            _ => trap(class).map_or(Exit::Unknown { class }, Exit::Trapped),
        }
    }
}

/// Exception classes that a loop may want to look at first, because they come often (`ESR_EL2.EC`).
pub mod class {
    /// `HVC` from AArch64.
    pub const HVC: u8 = 0x16;
    /// A data abort of a lower exception level.
    pub const DATA_ABORT: u8 = 0x24;
}

/// A load or store that hardware describes, of an address that stage 2 does not translate or protects: what emulated devices are made of.
/// The same facts as in [`Fault`], for the way that must be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// The intermediate physical address; none for a permission fault ([`Fault::ipa`]).
    pub ipa: Option<Ipa>,
    /// The load or store.
    pub access: Access,
    /// A store.
    pub write: bool,
}

/// The access of a data abort that may be an emulated device's; none if it can only be given back.
#[inline(always)]
pub fn device_access(esr: u64, far: u64, hpfar: u64) -> Option<DeviceAccess> {
    const ISV: u64 = 1 << 24;
    const CM: u64 = 1 << 8;
    const S1PTW: u64 = 1 << 7;
    /// `DFSC` without the level: translation and permission faults.
    const TRANSLATION: u64 = 0b00_0100;
    const PERMISSION: u64 = 0b00_1100;
    let status = esr & 0b11_1100;
    if esr & (ISV | CM | S1PTW) != ISV || (status != TRANSLATION && status != PERMISSION) {
        return None;
    }
    let ipa = (status == TRANSLATION).then(|| ipa(far, hpfar, false));
    Some(DeviceAccess { ipa, access: access(esr), write: bit(esr, 6) })
}

/// Bytes of the instruction that trapped: 4, or 2 for a 16-bit T32 one (`IL`, bit 25).
pub const fn instruction_bytes(esr: u64) -> u64 {
    if bit(esr, 25) { 4 } else { 2 }
}

/// The intermediate address of `far`, from `PAR_EL1` after `AT S1E1R, far`; `None` if the translation failed (`PAR_EL1.F`), which
/// means that the domain has changed its own tables meanwhile and may simply run again.
pub const fn ipa_of_par(par: u64, far: u64) -> Option<Ipa> {
    if par & 1 == 0 { Some(Ipa(par & 0x000f_ffff_ffff_f000 | far & 0xfff)) } else { None }
}

/// `ISS`, bits `[24:0]`.
const ISS: u64 = 0x1ff_ffff;

/// The exception class: `EC`, bits `[31:26]`.
#[inline(always)]
pub const fn class_of(esr: u64) -> u8 {
    (esr >> 26 & 0b11_1111) as u8
}

const fn bit(esr: u64, index: u32) -> bool {
    esr >> index & 1 != 0
}

/// A field of five bits at `index`.
const fn five(esr: u64, index: u32) -> u8 {
    (esr >> index & 0b1_1111) as u8
}

/// `TI[1:0]`: WFI, WFE, WFIT, WFET. `RV` says that `RN` names the deadline's register.
fn wait(esr: u64) -> Exit {
    let deadline = (bit(esr, 1) && bit(esr, 2)).then(|| five(esr, 5));
    if bit(esr, 0) { Exit::Wfe { deadline } } else { Exit::Wfi { deadline } }
}

fn system_access(esr: u64) -> SystemAccess {
    let register = Register {
        op0: (esr >> 20 & 0b11) as u8,
        op1: (esr >> 14 & 0b111) as u8,
        crn: (esr >> 10 & 0b1111) as u8,
        crm: (esr >> 1 & 0b1111) as u8,
        op2: (esr >> 17 & 0b111) as u8,
    };
    SystemAccess { register, rt: five(esr, 5), read: bit(esr, 0) }
}

fn trap(class: u8) -> Option<Trap> {
    Some(match class {
        0x03..=0x06 | 0x0c | 0x11 => Trap::AArch32 { class },
        0x07 | 0x08 => Trap::FpSimd,
        0x09 => Trap::PointerAuthentication,
        0x0a => Trap::Ls64,
        0x12 | 0x13 | 0x1a | 0x1b => Trap::Other { class },
        0x19 => Trap::Sve,
        0x1d => Trap::Sme,
        _ => return None,
    })
}

/// A data abort, for whoever has looked at the class already.
pub fn data_abort(esr: u64, far: u64, hpfar: u64) -> Fault {
    Fault {
        write: bit(esr, 6),
        cache_maintenance: bit(esr, 8),
        access: bit(esr, 24).then(|| access(esr)),
        ..instruction_abort(esr, far, hpfar)
    }
}

#[inline(always)]
fn access(esr: u64) -> Access {
    Access {
        register: five(esr, 16),
        size_bytes: 1 << (esr >> 22 & 0b11),
        sign_extend: bit(esr, 21),
        sixty_four: bit(esr, 15),
        acquire_release: bit(esr, 14),
    }
}

/// The fields that both aborts have.
fn instruction_abort(esr: u64, far: u64, hpfar: u64) -> Fault {
    let (kind, level) = status(esr);
    let on_stage1_walk = bit(esr, 7);
    let has_far = !(bit(esr, 10) && kind == FaultKind::External);
    let has_hpfar = match kind {
        FaultKind::Translation | FaultKind::AccessFlag | FaultKind::AddressSize => true,
        FaultKind::Permission => on_stage1_walk,
        _ => false,
    };
    Fault {
        kind,
        level,
        far: has_far.then_some(far),
        ipa: has_hpfar.then(|| ipa(far, hpfar, on_stage1_walk)),
        write: false,
        lower_el: class_of(esr) & 1 == 0,
        on_stage1_walk,
        cache_maintenance: false,
        access: None,
        instruction_bytes: instruction_bytes(esr),
    }
}

/// `FIPA` is bits `[51:12]` of the address; the byte within the page is the virtual address's, except on a walk, where the
/// fault is at a table whose entry is not told.
#[inline(always)]
const fn ipa(far: u64, hpfar: u64, on_stage1_walk: bool) -> Ipa {
    let page = (hpfar & 0xfff_ffff_fff0) << 8;
    Ipa(if on_stage1_walk { page } else { page | far & 0xfff })
}

/// `DFSC` or `IFSC`, bits `[5:0]`: what failed and at which level.
const fn status(esr: u64) -> (FaultKind, u8) {
    let code = (esr & 0b11_1111) as u8;
    let kind = match code {
        0x00..=0x03 => FaultKind::AddressSize,
        0x04..=0x07 => FaultKind::Translation,
        0x08..=0x0b => FaultKind::AccessFlag,
        0x0c..=0x0f => FaultKind::Permission,
        0x10 => FaultKind::External,
        0x14..=0x17 => FaultKind::ExternalOnWalk,
        0x18 | 0x1c..=0x1f => FaultKind::Ecc,
        0x21 => FaultKind::Alignment,
        0x30 => FaultKind::TlbConflict,
        0x35 => FaultKind::UnsupportedExclusive,
        _ => FaultKind::Other(code),
    };
    (kind, code & 0b11)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(esr: u64, far: u64, hpfar: u64) -> Fault {
        match Exit::decode(esr, far, hpfar) {
            Exit::DataAbort(fault) => fault,
            other => panic!("not a data abort: {other:?}"),
        }
    }

    #[test]
    fn classes_that_nothing_enables_are_unknown() {
        for class in [0x00, 0x02, 0x0b, 0x0d, 0x0e, 0x15, 0x1c, 0x22, 0x26, 0x27, 0x28, 0x2c, 0x2d, 0x3f] {
            assert_eq!(Exit::decode(u64::from(class) << 26, 0, 0), Exit::Unknown { class });
        }
    }

    #[test]
    fn a_permission_fault_does_not_tell_the_intermediate_address() {
        // STR w1, permission fault at level 3.
        let fault = data(0x9381_004f, 0xffff_8000_1234_5678, 0x0a00_0000_u64 >> 8);
        assert_eq!((fault.kind, fault.level, fault.ipa, fault.write), (FaultKind::Permission, 3, None, true));
        assert_eq!(fault.far, Some(0xffff_8000_1234_5678));
        // The same on a walk does.
        assert_eq!(data(0x9381_00cf, 0x678, 0x4_0000).ipa, Some(Ipa(0x400_0000)));
    }

    #[test]
    fn an_external_abort_may_not_tell_the_virtual_address() {
        let fault = data(0x9200_0410, 0x1234, 0);
        assert_eq!((fault.kind, fault.far, fault.ipa), (FaultKind::External, None, None));
        assert_eq!(data(0x9200_0010, 0x1234, 0).far, Some(0x1234));
    }

    #[test]
    fn a_pair_or_a_writeback_is_not_described() {
        assert_eq!(data(0x9200_0046, 0x1000, 0).access, None);
    }

    #[test]
    fn a_load_of_a_device_register() {
        // LDR x0 from an unmapped address, translation fault at level 2.
        let fault = data(0x93c0_8006, 0xffff_8000_0801_0008, 0x80_1000 >> 4);
        let access =
            Access { register: 0, size_bytes: 8, sign_extend: false, sixty_four: true, acquire_release: false };
        assert_eq!(fault.access, Some(access));
        assert_eq!((fault.kind, fault.level), (FaultKind::Translation, 2));
        assert_eq!(fault.ipa, Some(Ipa(0x0801_0008)));
        assert!(!fault.write && fault.lower_el && !fault.on_stage1_walk);
        assert_eq!(fault.instruction_bytes, 4);
    }

    #[test]
    fn a_store_of_the_zero_register_to_a_device() {
        // STR wzr, translation fault at level 1.
        let fault = data(0x939f_0045, 0x0900_0030, 0x9_0000);
        let access =
            Access { register: 31, size_bytes: 4, sign_extend: false, sixty_four: false, acquire_release: false };
        assert_eq!((fault.access, fault.write, fault.ipa), (Some(access), true, Some(Ipa(0x0900_0030))));
    }

    #[test]
    fn calls_carry_their_immediate() {
        assert_eq!(Exit::decode(0x5a00_0000, 0, 0), Exit::Hvc { immediate: 0 });
        assert_eq!(Exit::decode(0x5e00_1234, 0, 0), Exit::Smc { immediate: 0x1234 });
    }

    #[test]
    fn waiting_is_told_apart() {
        assert_eq!(Exit::decode(0x07e0_0000, 0, 0), Exit::Wfi { deadline: None });
        assert_eq!(Exit::decode(0x07e0_0001, 0, 0), Exit::Wfe { deadline: None });
        assert_eq!(Exit::decode(0x07e0_0066, 0, 0), Exit::Wfi { deadline: Some(3) });
        assert_eq!(Exit::decode(0x07e0_0067, 0, 0), Exit::Wfe { deadline: Some(3) });
    }

    #[test]
    fn a_write_of_icc_sgi1r() {
        let register = Register { op0: 3, op1: 0, crn: 12, crm: 11, op2: 5 };
        let access = SystemAccess { register, rt: 2, read: false };
        assert_eq!(Exit::decode(0x623a_3056, 0, 0), Exit::SystemRegister(access));
    }

    #[test]
    fn extensions_that_trap_are_named() {
        let cases = [
            (0x07, Trap::FpSimd),
            (0x09, Trap::PointerAuthentication),
            (0x0a, Trap::Ls64),
            (0x19, Trap::Sve),
            (0x1d, Trap::Sme),
            (0x03, Trap::AArch32 { class: 3 }),
        ];
        assert!(cases.iter().all(|(class, trap)| Exit::decode(class << 26, 0, 0) == Exit::Trapped(*trap)));
    }

    #[test]
    fn a_failed_translation_gives_no_address() {
        assert_eq!(ipa_of_par(0x0a00_0b80 | 1, 0x30), None);
        assert_eq!(ipa_of_par(0xff00_0000_0a00_0b80, 0xffff_8000_0000_0030), Some(Ipa(0x0a00_0030)));
    }

    proptest! {
        #[test]
        fn the_short_way_says_what_the_long_one_does(iss in 0u64..1 << 25, far: u64, hpfar: u64) {
            let esr = u64::from(class::DATA_ABORT) << 26 | iss;
            let fault = data(esr, far, hpfar);
            let device = matches!(fault.kind, FaultKind::Translation | FaultKind::Permission)
                && !fault.on_stage1_walk
                && !fault.cache_maintenance;
            let long = fault.access.filter(|_| device).map(|access| DeviceAccess { ipa: fault.ipa, access, write: fault.write });
            prop_assert_eq!(device_access(esr, far, hpfar), long);
        }

        #[test]
        fn every_syndrome_has_an_answer(esr: u64, far: u64, hpfar: u64) {
            if let Exit::DataAbort(fault) | Exit::InstructionAbort(fault) = Exit::decode(esr, far, hpfar) {
                prop_assert!(fault.level <= 3 && matches!(fault.instruction_bytes, 2 | 4));
                prop_assert!(fault.ipa.is_none_or(|ipa| ipa.0 >> 52 == 0));
                if let Some(access) = fault.access {
                    prop_assert!(access.register <= 31 && matches!(access.size_bytes, 1 | 2 | 4 | 8));
                }
            }
        }

        #[test]
        fn every_field_of_an_access_comes_back(
            register in 0..32_u8, size in 0..4_u64, sign_extend: bool, sixty_four: bool, acquire_release: bool,
        ) {
            let flags = u64::from(sign_extend) << 21 | u64::from(sixty_four) << 15 | u64::from(acquire_release) << 14;
            let esr = 0x9300_0004 | size << 22 | u64::from(register) << 16 | flags;
            let access = Access { register, size_bytes: 1 << size, sign_extend, sixty_four, acquire_release };
            prop_assert_eq!(data(esr, 0, 0).access, Some(access));
        }
    }
}
