//! The registers: which facts a trapped access reads or changes.
//!
//! Widths: 32 bits everywhere; 16 bits also in `SETSPI_NSR` and `CLRSPI_NSR`; bytes also in `IPRIORITYR`, `ITARGETSR` and the GICv2 SGI-pending registers; 64 bits also in `IROUTER`
//! and `GICR_TYPER`. Anything else, an unaligned access and any unknown offset is RAZ/WI (GIC IHI 0069, GIC memory-mapped register access).

/// What an offset in `GICD` or in the SGI frame of `GICR` names. INTIDs and words count from the start of the register array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// `GICD_CTLR`.
    Control,
    /// `GICD_TYPER`.
    Type,
    /// `GICD_IIDR`.
    Implementer,
    /// One bit per interrupt, 32 from INTID 32 * the word.
    Bits(Bits, usize),
    /// `IPRIORITYR`, from this INTID.
    Priority(u32),
    /// `ITARGETSR`, from this INTID.
    Targets(u32),
    /// `ICFGR`, 16 interrupts from this INTID.
    Config(u32),
    /// `GICD_SETSPI_NSR` (true) or `GICD_CLRSPI_NSR`.
    Message(bool),
    /// `GICD_SGIR`.
    Sgi,
    /// `GICD_CPENDSGIR`, from this INTID.
    ClearSgiPending(u32),
    /// `GICD_SPENDSGIR`, from this INTID.
    SetSgiPending(u32),
    /// `GICD_IROUTER` of this INTID; true: its upper half.
    Router(u32, bool),
    /// An identification register, with its offset from the end of the frame's identification block.
    Identification(u64),
    /// RAZ/WI.
    Reserved,
}

/// Registers with one bit per interrupt, in the order of their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// `IGROUPR`.
    Group,
    /// `ISENABLER`.
    SetEnable,
    /// `ICENABLER`.
    ClearEnable,
    /// `ISPENDR`.
    SetPending,
    /// `ICPENDR`.
    ClearPending,
    /// `ISACTIVER`.
    SetActive,
    /// `ICACTIVER`.
    ClearActive,
}

impl Bits {
    const ALL: [Bits; 7] = [
        Bits::Group,
        Bits::SetEnable,
        Bits::ClearEnable,
        Bits::SetPending,
        Bits::ClearPending,
        Bits::SetActive,
        Bits::ClearActive,
    ];
}

impl Register {
    /// The register at `offset`; `identification` is where the frame's `PIDR4` is (GICv3 0xFFD0, GICv2 0xFD0).
    /// (GIC IHI 0069, the `GICD` and `GICR` register maps; GIC IHI 0048, the distributor register map.)
    #[inline(always)]
    pub(crate) fn decode(offset: u64, size: usize, identification: u64) -> Register {
        let fits = match size {
            4 => offset.is_multiple_of(4),
            1 => matches!(offset, 0x400..0xC00 | 0xF10..0xF30),
            8 => offset.is_multiple_of(8) && matches!(offset, 0x6100..0x8000),
            2 => matches!(offset, 0x40 | 0x48),
            _ => false,
        };
        if !fits {
            return Register::Reserved;
        }
        // What Linux reads most.
        if let Some(bits) = offset.checked_sub(0x80).filter(|bits| *bits < 0x380) {
            return Register::Bits(Bits::ALL[bits as usize / 0x80], bits as usize % 0x80 / 4);
        }
        match offset {
            0x000 => Register::Control,
            0x004 => Register::Type,
            0x008 => Register::Implementer,
            0x040 => Register::Message(true),
            0x048 => Register::Message(false),
            0x400..0x7FC => Register::Priority(offset as u32 - 0x400),
            0x800..0xBFC => Register::Targets(offset as u32 - 0x800),
            0xC00..0xD00 => Register::Config((offset as u32 - 0xC00) * 4),
            0xF00 => Register::Sgi,
            0xF10..0xF20 => Register::ClearSgiPending(offset as u32 - 0xF10),
            0xF20..0xF30 => Register::SetSgiPending(offset as u32 - 0xF20),
            0x6100..0x7FE0 => Register::Router((offset as u32 - 0x6000) / 8, !offset.is_multiple_of(8)),
            _ if (identification..identification + 0x30).contains(&offset) => {
                Register::Identification(offset - identification)
            }
            _ => Register::Reserved,
        }
    }
}

/// `PIDR4`..`PIDR7`, `PIDR0`..`PIDR3`, `CIDR0`..`CIDR3`: `PIDR2` has the architecture version in 7:4 and the JEDEC bit; the component class is that
/// of a CoreLink component (GIC IHI 0069, identification registers).
pub(crate) fn identification(offset: u64, architecture: u32) -> u32 {
    match offset {
        0x18 => architecture << 4 | 1 << 3,
        0x20 => 0x0D,
        0x24 => 0xF0,
        0x28 => 0x05,
        0x2C => 0xB1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_manual() {
        let decode = |offset, size| Register::decode(offset, size, 0xFFD0);
        assert_eq!(decode(0x104, 2), Register::Reserved);
        assert_eq!(decode(0x104, 8), Register::Reserved);
        assert_eq!(decode(0x105, 1), Register::Reserved);
        assert_eq!(decode(0x421, 1), Register::Priority(0x21));
        assert_eq!(decode(0x422, 4), Register::Reserved);
        assert_eq!(decode(0x6100, 8), Register::Router(32, false));
        assert_eq!(decode(0x6104, 8), Register::Reserved);
        assert_eq!(decode(0x610C, 4), Register::Router(33, true));
    }

    #[test]
    fn offsets_are_those_of_the_manual() {
        let decode = |offset| Register::decode(offset, 4, 0xFFD0);
        assert_eq!(decode(0x084), Register::Bits(Bits::Group, 1));
        assert_eq!(decode(0x17C), Register::Bits(Bits::SetEnable, 31));
        assert_eq!(decode(0x180), Register::Bits(Bits::ClearEnable, 0));
        assert_eq!(decode(0x204), Register::Bits(Bits::SetPending, 1));
        assert_eq!(decode(0x284), Register::Bits(Bits::ClearPending, 1));
        assert_eq!(decode(0x304), Register::Bits(Bits::SetActive, 1));
        assert_eq!(decode(0x384), Register::Bits(Bits::ClearActive, 1));
        assert_eq!(decode(0xC08), Register::Config(32));
        assert_eq!(decode(0xFFE8), Register::Identification(0x18));
        assert_eq!(decode(0x6000), Register::Reserved);
        assert_eq!(decode(0x7FD8), Register::Router(1019, false));
        assert_eq!(identification(0x18, 3), 0x38);
    }
}
