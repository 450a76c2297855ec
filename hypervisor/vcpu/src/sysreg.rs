//! What a trapped `MRS`, `MSR` or `SYS` instruction does.
//!
//! Three groups trap: the identification registers (`HCR_EL2.TID3`), which answer from [`IdRegisters`]; registers that would let a domain
//! reach beyond itself, which answer as if they were not there or did nothing; and everything that [`crate::control`] closes
//! because its extension is hidden, which is undefined, as on a core without the extension.

use crate::IdRegisters;

/// A system register or `SYS` instruction by its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// `op0`, 0 to 3; 1 is a `SYS` instruction.
    pub op0: u8,
    /// `op1`.
    pub op1: u8,
    /// `CRn`.
    pub crn: u8,
    /// `CRm`.
    pub crm: u8,
    /// `op2`.
    pub op2: u8,
}

/// One access that trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// The register.
    pub register: Register,
    /// The general register, 0 to 30, or 31 for `xzr`.
    pub rt: u8,
    /// `MRS` (or `SYSL`), not `MSR` (or `SYS`).
    pub read: bool,
}

/// Which software-generated interrupt register was written (GIC IHI 0069, 12.2.21 and following).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// `ICC_SGI0R_EL1`: Group 0.
    Sgi0r,
    /// `ICC_SGI1R_EL1`: Group 1 of the current Security state.
    Sgi1r,
    /// `ICC_ASGI1R_EL1`: Group 1 of the other Security state.
    Asgi1r,
}

/// What EL2 does about it. After all but [`Action::Undefined`] and [`Action::Look`] the domain goes on behind the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// The read gives this value.
    Read(u64),
    /// The write does nothing.
    Ignore,
    /// The write generates interrupts.
    Sgi {
        /// The register.
        register: SgiRegister,
        /// The value written.
        value: u64,
    },
    /// The write deactivates the interrupt that this value of `ICC_DIR_EL1` names.
    Deactivate(u64),
    /// The domain looks at its interrupts: levels that have fallen are taken back, and the instruction is executed again.
    Look,
    /// The write closes the vCPU's OS lock, or opens it.
    LockDebug(bool),
    /// The read gives the vCPU's `OSLSR_EL1` ([`os_lock_status`]).
    ReadOsLock,
    /// The domain takes an undefined instruction exception.
    Undefined,
}

/// Decides about one access; `value` is what `Rt` holds, for a write.
pub fn decide(access: &SystemAccess, value: u64, ids: &IdRegisters) -> Action {
    let Register { op0, op1, crn, crm, op2 } = access.register;
    match (op0, op1, crn, crm, op2) {
        // HCR_EL2.TID3: ID_PFR0_EL1 to ID_AA64MMFR4_EL1, and the reserved ones among them.
        (3, 0, 0, 1..=7, _) => read_only(access, ids.read(crm, op2)),
        // HCR_EL2.TACR: ACTLR_EL1 holds controls of the core, which all domains share.
        (3, 0, 1, 0, 1) => read_zero_write_ignored(access),
        // HCR_EL2.TSW: DC ISW, CSW, CISW. A clean of one core's caches by set and way cannot be relied upon once a hypervisor may
        // move lines, and would let a domain flush others' lines at will. Operations by address do work and are not trapped.
        (1, 0, 7, 6 | 10 | 14, 2) => write_ignored(access),
        // HCR_EL2.IMO and FMO: SGIs name physical cores, so they go through the virtual GIC.
        (3, 0, 12, 11, 5) if ids.has_gic() => sgi(access, SgiRegister::Sgi1r, value),
        (3, 0, 12, 11, 6) if ids.has_gic() => sgi(access, SgiRegister::Asgi1r, value),
        (3, 0, 12, 11, 7) if ids.has_gic() => sgi(access, SgiRegister::Sgi0r, value),
        // ICH_HCR_EL2.TDIR: ICC_DIR_EL1, trapped while an active interrupt has no list register.
        (3, 0, 12, 11, 1) if ids.has_gic() && !access.read => Action::Deactivate(value),
        // ICH_HCR_EL2.TALL1: ICC_AP1R<n>_EL1, ICC_IAR1_EL1, ICC_EOIR1_EL1, ICC_HPPIR1_EL1, ICC_BPR1_EL1, ICC_IGRPEN1_EL1, trapped while the
        // virtual GIC watches for a look.
        (3, 0, 12, 9, 0..=3) | (3, 0, 12, 12, 0..=3 | 7) if ids.has_gic() => Action::Look,
        // HCR_EL2.TLOR: LORSA_EL1, LOREA_EL1, LORN_EL1, LORC_EL1; LORID_EL1 says that there are no regions.
        (3, 0, 10, 4, 0..=3) => read_zero_write_ignored(access),
        (3, 0, 10, 4, 7) => read_only(access, 0),
        // MDCR_EL2.TDRA: MDRAR_EL1, no debug ROM table.
        (2, 0, 1, 0, 0) => read_only(access, 0),
        // MDCR_EL2.TDOSA: the vCPU has an OS lock of its own, which reads as written and does nothing else. The core's stays open: under a
        // closed one MDSCR_EL1, which does not trap, writes fields of EDSCR (INTdis, TDA, HDE) that reach beyond EL1. OSDLR_EL1 and DBGPRCR_EL1
        // reach the core's power domain: no double lock (ID_AA64DFR0_EL1.DoubleLock says so), no request to keep power.
        (2, 0, 1, 0, 4) if !access.read => Action::LockDebug(value & 1 != 0),
        (2, 0, 1, 1, 4) if access.read => Action::ReadOsLock,
        (2, 0, 1, 3 | 4, 4) => read_zero_write_ignored(access),
        // HCR_EL2.TIDCP (IMPLEMENTATION DEFINED, op0 1 or 3 with CRn 11 or 15), registers of hidden extensions, and any other:
        // undefined, which is what arm64 Linux expects where an extension is not advertised.
        _ => Action::Undefined,
    }
}

/// `OSLSR_EL1` of an OS lock that is `closed`, or open: `OSLM = 0b10` (it exists), `OSLK`.
pub const fn os_lock_status(closed: bool) -> u64 {
    1 << 3 | (closed as u64) << 1
}

fn read_only(access: &SystemAccess, value: u64) -> Action {
    if access.read { Action::Read(value) } else { Action::Undefined }
}

fn write_ignored(access: &SystemAccess) -> Action {
    if access.read { Action::Undefined } else { Action::Ignore }
}

fn read_zero_write_ignored(access: &SystemAccess) -> Action {
    if access.read { Action::Read(0) } else { Action::Ignore }
}

fn sgi(access: &SystemAccess, register: SgiRegister, value: u64) -> Action {
    if access.read { Action::Undefined } else { Action::Sgi { register, value } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id_registers::{COUNT, Filter};
    use proptest::prelude::*;

    const GENERAL: Filter = Filter { pa_range: 5, gic: true, pointer_authentication: true, pmu: true };

    fn ids() -> IdRegisters {
        IdRegisters::new(&[0x1111_1111_1111_1111; COUNT], GENERAL)
    }

    fn access(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8, read: bool) -> SystemAccess {
        SystemAccess { register: Register { op0, op1, crn, crm, op2 }, rt: 0, read }
    }

    #[test]
    fn a_deactivation_goes_to_the_virtual_gic_and_cannot_be_read() {
        assert_eq!(decide(&access(3, 0, 12, 11, 1, false), 0x21, &ids()), Action::Deactivate(0x21));
        assert_eq!(decide(&access(3, 0, 12, 11, 1, true), 0x21, &ids()), Action::Undefined);
    }

    #[test]
    fn a_look_at_the_interface_is_one_of_a_domain_that_has_it() {
        let without = IdRegisters::new(&[0x1111_1111_1111_1111; COUNT], Filter { gic: false, ..GENERAL });
        for (crm, op2) in [(9, 0), (9, 3), (12, 0), (12, 1), (12, 2), (12, 3), (12, 7)] {
            let access = access(3, 0, 12, crm, op2, true);
            assert_eq!(decide(&access, 0, &ids()), Action::Look);
            assert_eq!(decide(&access, 0, &without), Action::Undefined);
        }
    }

    #[test]
    fn implementation_defined_registers_are_undefined() {
        for (op0, crn) in [(3, 11), (3, 15), (1, 11), (1, 15)] {
            for read in [false, true] {
                assert_eq!(decide(&access(op0, 0, crn, 2, 0, read), 0, &ids()), Action::Undefined);
            }
        }
    }

    #[test]
    fn registers_of_hidden_extensions_are_undefined() {
        // ZCR_EL1, SMCR_EL1, GCR_EL1, SCXTNUM_EL1, ERRSELR_EL1, APIAKeyLo_EL1, PMSCR_EL1, PMCR_EL0, TRFCR_EL1, GMID_EL1.
        let hidden = [
            (0, 1, 2, 0),
            (0, 1, 2, 6),
            (0, 1, 0, 6),
            (0, 13, 0, 7),
            (0, 5, 3, 1),
            (0, 2, 1, 0),
            (0, 9, 9, 0),
            (3, 9, 12, 0),
            (0, 1, 2, 1),
            (1, 0, 0, 4),
        ];
        for (op1, crn, crm, op2) in hidden {
            assert_eq!(decide(&access(3, op1, crn, crm, op2, true), 0, &ids()), Action::Undefined);
        }
    }

    #[test]
    fn an_identification_register_cannot_be_written() {
        assert_eq!(decide(&access(3, 0, 0, 4, 0, false), 5, &ids()), Action::Undefined);
    }

    #[test]
    fn a_domain_without_the_gic_sends_no_interrupt() {
        let ids = IdRegisters::new(&[0x1111_1111_1111_1111; COUNT], Filter { gic: false, ..GENERAL });
        for op2 in 5..8 {
            assert_eq!(decide(&access(3, 0, 12, 11, op2, false), 1, &ids), Action::Undefined);
        }
    }

    #[test]
    fn an_identification_register_reads_as_filtered() {
        let ids = ids();
        assert_eq!(decide(&access(3, 0, 0, 4, 1, true), 0, &ids), Action::Read(ids.read(4, 1)));
        assert_eq!(ids.read(4, 1), 0x1_0000_0011);
    }

    #[test]
    fn actlr_reads_zero_and_forgets() {
        assert_eq!(decide(&access(3, 0, 1, 0, 1, true), 0, &ids()), Action::Read(0));
        assert_eq!(decide(&access(3, 0, 1, 0, 1, false), 7, &ids()), Action::Ignore);
    }

    #[test]
    fn cache_maintenance_by_set_and_way_is_contained() {
        for crm in [6, 10, 14] {
            assert_eq!(decide(&access(1, 0, 7, crm, 2, false), 0, &ids()), Action::Ignore);
        }
    }

    #[test]
    fn software_generated_interrupts_are_handed_back() {
        let cases = [(5, SgiRegister::Sgi1r), (6, SgiRegister::Asgi1r), (7, SgiRegister::Sgi0r)];
        for (op2, register) in cases {
            let expected = Action::Sgi { register, value: 0x100_0001 };
            assert_eq!(decide(&access(3, 0, 12, 11, op2, false), 0x100_0001, &ids()), expected);
        }
    }

    #[test]
    fn the_os_lock_can_be_used_and_the_double_lock_is_not_there() {
        assert_eq!(decide(&access(2, 0, 1, 0, 4, false), 3, &ids()), Action::LockDebug(true));
        assert_eq!(decide(&access(2, 0, 1, 0, 4, false), 2, &ids()), Action::LockDebug(false));
        assert_eq!(decide(&access(2, 0, 1, 0, 4, true), 0, &ids()), Action::Undefined);
        assert_eq!(decide(&access(2, 0, 1, 1, 4, true), 0, &ids()), Action::ReadOsLock);
        assert_eq!(decide(&access(2, 0, 1, 1, 4, false), 0, &ids()), Action::Undefined);
        assert_eq!(decide(&access(2, 0, 1, 3, 4, true), 0, &ids()), Action::Read(0));
        assert_eq!(ids().read(5, 0) >> 36 & 0xf, 15);
        assert_eq!((os_lock_status(false), os_lock_status(true)), (0b1000, 0b1010));
    }

    proptest! {
        #[test]
        fn reads_never_ignore_and_writes_never_answer(
            op0 in 0..4_u8, op1 in 0..8_u8, crn in 0..16_u8, crm in 0..16_u8, op2 in 0..8_u8, value: u64,
        ) {
            let read = decide(&access(op0, op1, crn, crm, op2, true), value, &ids());
            prop_assert!(matches!(read, Action::Read(_) | Action::ReadOsLock | Action::Look | Action::Undefined));
            let write = decide(&access(op0, op1, crn, crm, op2, false), value, &ids());
            prop_assert!(!matches!(write, Action::Read(_) | Action::ReadOsLock));
        }
    }
}
