//! List registers: how EL2 hands virtual interrupts to the virtual CPU interface.
//!
//! One format inside this crate, that of `ICH_LR<n>_EL2` (GIC IHI 0069). A GICv2 binary converts with
//! [`ListRegister::to_gich`] and [`ListRegister::from_gich`] (GIC IHI 0048, `GICH_LR<n>`), because the two hold the same facts.

/// Most list registers that the architecture knows (`ICH_VTR_EL2.ListRegs` has 5 bits, but only 16 registers exist).
pub const MAX_LIST_REGISTERS: usize = 16;

/// `ICH_HCR_EL2.En`: the virtual CPU interface is on.
pub const HCR_EN: u32 = 1 << 0;
/// `ICH_HCR_EL2.LRENPIE`: maintenance interrupt while `EOIcount` is not zero.
pub const HCR_LRENPIE: u32 = 1 << 2;
/// `ICH_HCR_EL2.NPIE`: maintenance interrupt while no list register is in the pending state.
pub const HCR_NPIE: u32 = 1 << 3;
/// `ICH_HCR_EL2.TALL1`: an access to the Group 1 registers of the interface traps (GICv3).
pub const HCR_TALL1: u32 = 1 << 12;
/// `ICH_HCR_EL2.TDIR`: a write of `ICC_DIR_EL1` traps (GICv3, where `ICH_VTR_EL2.TDS` says so; else RES0).
pub const HCR_TDIR: u32 = 1 << 14;
/// Shift of `ICH_HCR_EL2.EOIcount`, 5 bits: deactivations that found no list register.
pub const HCR_EOICOUNT_SHIFT: u32 = 27;

/// The list registers of the core that runs. Nobody else can reach them, so every method of [`crate::Vgic`] that takes them
/// must run on the core of the vCPU it names.
pub trait ListRegisters {
    /// Implemented list registers, 1 to [`MAX_LIST_REGISTERS`] (`ICH_VTR_EL2.ListRegs` + 1, or `GICH_VTR.ListRegs` + 1).
    fn count(&self) -> usize;
    /// Reads list register `index` (< `count`).
    fn read(&self, index: usize) -> ListRegister;
    /// Writes list register `index` (< `count`).
    fn write(&mut self, index: usize, value: ListRegister);
    /// `ICH_ELRSR_EL2` or `GICH_ELRSR0`: bit *n* is set while list register *n* can be used.
    /// It may lag behind a `write` of this core; no ISB is asked for.
    fn empty(&self) -> u32;
    /// `ICH_HCR_EL2` or `GICH_HCR`.
    fn hcr(&self) -> u32;
    /// Writes `ICH_HCR_EL2` or `GICH_HCR`. Bits that this crate does not own (traps) are the implementation's to keep: it sets
    /// only `En`, `LRENPIE`, `NPIE`, `TALL1`, `TDIR` and clears `EOIcount`.
    fn set_hcr(&mut self, value: u32);
}

/// The value of one list register, in the format of `ICH_LR<n>_EL2`.
///
/// ```text
/// 63:62 State (01 pending, 10 active)   61 HW   60 Group   55:48 Priority   44:32 pINTID (HW=1)   41 EOI (HW=0)   31:0 vINTID
/// ```
/// The requesting CPU of a GICv2 SGI is in bits 12:10 of vINTID, as GICv3 has it for such guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRegister(pub u64);

impl ListRegister {
    /// No interrupt.
    pub const EMPTY: ListRegister = ListRegister(0);
    const PENDING: u64 = 1 << 62;
    const ACTIVE: u64 = 1 << 63;
    const HW: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    const EOI: u64 = 1 << 41;
    const PRIORITY_SHIFT: u32 = 48;
    const PINTID_SHIFT: u32 = 32;
    const SOURCE_SHIFT: u32 = 10;

    /// An interrupt of software, in no state yet.
    pub const fn software(intid: u32, priority: u8, group1: bool) -> ListRegister {
        let group = if group1 { Self::GROUP1 } else { 0 };
        ListRegister(intid as u64 | (priority as u64) << Self::PRIORITY_SHIFT | group)
    }

    /// An interrupt whose deactivation by the guest deactivates physical interrupt `intid`, in no state yet.
    pub const fn hardware(intid: u32, priority: u8, group1: bool) -> ListRegister {
        ListRegister(Self::software(intid, priority, group1).0 | Self::HW | (intid as u64) << Self::PINTID_SHIFT)
    }

    /// The same in the given state.
    pub const fn with_state(self, pending: bool, active: bool) -> ListRegister {
        let state = if pending { Self::PENDING } else { 0 } | if active { Self::ACTIVE } else { 0 };
        ListRegister(self.0 & !(Self::PENDING | Self::ACTIVE) | state)
    }

    /// The same with or without a maintenance interrupt at its deactivation. Has no meaning for hardware interrupts.
    pub const fn with_eoi(self, eoi: bool) -> ListRegister {
        ListRegister(self.0 & !Self::EOI | if eoi { Self::EOI } else { 0 })
    }

    /// The same, requested by CPU interface `cpu` (< 8; SGIs of GICv2 only).
    pub const fn with_source(self, cpu: u32) -> ListRegister {
        ListRegister(self.0 & !(7 << Self::SOURCE_SHIFT) | ((cpu & 7) as u64) << Self::SOURCE_SHIFT)
    }

    /// Pending, or active and pending.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Active, or active and pending.
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// In no state.
    pub const fn is_idle(self) -> bool {
        self.0 & (Self::PENDING | Self::ACTIVE) == 0
    }

    /// Linked to a physical interrupt.
    pub const fn is_hardware(self) -> bool {
        self.0 & Self::HW != 0
    }

    /// Whether deactivation raises a maintenance interrupt.
    pub const fn has_eoi(self) -> bool {
        !self.is_hardware() && self.0 & Self::EOI != 0
    }

    /// In Group 1.
    pub const fn is_group1(self) -> bool {
        self.0 & Self::GROUP1 != 0
    }

    /// The virtual INTID.
    pub const fn intid(self) -> u32 {
        (self.0 & 0x3FF) as u32
    }

    /// The CPU interface that requested the SGI (GICv2).
    pub const fn source(self) -> u32 {
        (self.0 >> Self::SOURCE_SHIFT) as u32 & 7
    }

    /// The priority, 0 the highest.
    pub const fn priority(self) -> u8 {
        (self.0 >> Self::PRIORITY_SHIFT) as u8
    }

    /// The value of `GICH_LR<n>` (GIC IHI 0048): HW 31, Grp1 30, State 29:28, Priority 27:23, PhysicalID 19:10
    /// or EOI 19 with CPUID 12:10, VirtualID 9:0.
    pub const fn to_gich(self) -> u32 {
        let state = (self.0 >> 62) as u32;
        let linked = if self.is_hardware() {
            1 << 31 | ((self.0 >> Self::PINTID_SHIFT) as u32 & 0x3FF) << 10
        } else {
            (self.has_eoi() as u32) << 19 | self.source() << 10
        };
        linked | (self.is_group1() as u32) << 30 | state << 28 | (self.priority() as u32 >> 3) << 23 | self.intid()
    }

    /// The inverse of [`ListRegister::to_gich`].
    pub const fn from_gich(value: u32) -> ListRegister {
        let priority = ((value >> 23 & 0x1F) << 3) as u8;
        let group1 = value >> 30 & 1 != 0;
        let register = if value >> 31 != 0 {
            let linked = Self::software(value & 0x3FF, priority, group1).0 | Self::HW;
            ListRegister(linked | (value as u64 >> 10 & 0x3FF) << Self::PINTID_SHIFT)
        } else {
            Self::software(value & 0x3FF, priority, group1).with_eoi(value >> 19 & 1 != 0).with_source(value >> 10 & 7)
        };
        register.with_state(value >> 28 & 1 != 0, value >> 29 & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let software = ListRegister::software(40, 0xA0, true).with_state(true, false).with_eoi(true);
        assert_eq!(software.0, 0x50A0_0200_0000_0028);
        let hardware = ListRegister::hardware(27, 0x80, true).with_state(false, true);
        assert_eq!(hardware.0, 0xB080_001B_0000_001B);
        assert_eq!(hardware.to_gich(), 1 << 31 | 1 << 30 | 0b10 << 28 | 0x10 << 23 | 27 << 10 | 27);
    }

    #[test]
    fn an_eoi_bit_is_not_seen_in_a_physical_intid() {
        assert!(!ListRegister::hardware(0x200, 0, true).has_eoi());
    }

    proptest! {
        #[test]
        fn gich_format_keeps_every_fact(intid in 0u32..1020, priority in 0u8..32, group1: bool, hw: bool, p: bool, a: bool, eoi: bool, source in 0u32..8) {
            let priority = priority << 3;
            let register = if hw {
                ListRegister::hardware(intid, priority, group1)
            } else {
                ListRegister::software(intid, priority, group1).with_eoi(eoi).with_source(source)
            };
            let register = register.with_state(p, a);
            prop_assert_eq!(ListRegister::from_gich(register.to_gich()), register);
        }
    }
}
