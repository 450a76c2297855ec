//! What a mapping allows, and its encoding in a stage-2 leaf descriptor (Arm DDI 0487, D8.3.2 and D8.6).
//!
//! `MemAttr[3:0]` is encoded as without FEAT_S2FWB, because `HCR_EL2.FWB` stays 0 (cortex-a53 to a76 have no FWB): the
//! domain's own stage 1 may make memory *less* cacheable than stage 2 allows, never more.

/// Kind of memory behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Normal, inner and outer write-back cacheable: RAM.
    NormalWriteBack,
    /// Normal, inner and outer non-cacheable.
    NormalNonCacheable,
    /// Device-nGnRE: registers.
    DeviceNGnRE,
    /// Device-nGnRnE: registers whose writes must have arrived before they count as done.
    DeviceNGnRnE,
}

impl MemoryType {
    /// `MemAttr[3:0]`, descriptor bits `[5:2]`.
    const fn bits(self) -> u64 {
        match self {
            MemoryType::NormalWriteBack => 0b1111,
            MemoryType::NormalNonCacheable => 0b0101,
            MemoryType::DeviceNGnRE => 0b0001,
            MemoryType::DeviceNGnRnE => 0b0000,
        }
    }

    const fn from_bits(bits: u64) -> Option<MemoryType> {
        match bits & 0b1111 {
            0b1111 => Some(MemoryType::NormalWriteBack),
            0b0101 => Some(MemoryType::NormalNonCacheable),
            0b0001 => Some(MemoryType::DeviceNGnRE),
            0b0000 => Some(MemoryType::DeviceNGnRnE),
            _ => None,
        }
    }
}

/// `S2AP`, descriptor bits `[7:6]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads fault; stores pass.
    WriteOnly,
    /// Stores fault.
    ReadOnly,
    /// Both pass.
    ReadWrite,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Access::ReadOnly => 0b01,
            Access::WriteOnly => 0b10,
            Access::ReadWrite => 0b11,
        }
    }

    const fn from_bits(bits: u64) -> Option<Access> {
        match bits & 0b11 {
            0b01 => Some(Access::ReadOnly),
            0b10 => Some(Access::WriteOnly),
            0b11 => Some(Access::ReadWrite),
            _ => None,
        }
    }

    /// Whether stores pass.
    pub const fn writes(self) -> bool {
        !matches!(self, Access::ReadOnly)
    }
}

/// `SH`, descriptor bits `[9:8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shareability {
    /// One observer only.
    NonShareable,
    /// Every master, also beyond the cores.
    Outer,
    /// Every core of the inner domain: all that run a domain.
    Inner,
}

impl Shareability {
    const fn bits(self) -> u64 {
        match self {
            Shareability::NonShareable => 0b00,
            Shareability::Outer => 0b10,
            Shareability::Inner => 0b11,
        }
    }

    const fn from_bits(bits: u64) -> Option<Shareability> {
        match bits & 0b11 {
            0b00 => Some(Shareability::NonShareable),
            0b10 => Some(Shareability::Outer),
            0b11 => Some(Shareability::Inner),
            _ => None,
        }
    }
}

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Kind of memory.
    pub memory: MemoryType,
    /// Loads and stores.
    pub access: Access,
    /// Instruction fetch, at EL1 and EL0 alike. `XN[1:0]` is written as `0b00` or `0b10`, which mean the same with and
    /// without FEAT_XNX.
    pub executable: bool,
    /// Shareability; Device and Non-cacheable memory is outer shareable whatever this says.
    pub shareability: Shareability,
}

/// Access flag, bit 10: always set, since nothing here wants the fault.
const AF: u64 = 1 << 10;
/// `XN[1]`, bit 54: no execution at EL1 and EL0 while `XN[0]`, bit 53, is 0.
const XN: u64 = 0b10 << 53;
/// `XN[1:0]`.
const XN_MASK: u64 = 0b11 << 53;

impl Attributes {
    /// RAM of a domain: write-back, read, write and execute.
    pub const RAM: Attributes = Attributes {
        memory: MemoryType::NormalWriteBack,
        access: Access::ReadWrite,
        executable: true,
        shareability: Shareability::Inner,
    };

    /// RAM that holds another domain's buffers: read and write, never executed.
    pub const SHARED_RAM: Attributes = Attributes { executable: false, ..Attributes::RAM };

    /// RAM that the domain may only read: a page whose writes must trap.
    pub const READ_ONLY_RAM: Attributes = Attributes { access: Access::ReadOnly, executable: false, ..Attributes::RAM };

    /// Device registers.
    pub const DEVICE: Attributes = Attributes {
        memory: MemoryType::DeviceNGnRE,
        access: Access::ReadWrite,
        executable: false,
        shareability: Shareability::Outer,
    };

    /// The attribute bits of a leaf descriptor: bits `[54:53]` and `[10:2]`.
    pub const fn bits(self) -> u64 {
        let execute_never = if self.executable { 0 } else { XN };
        execute_never | AF | self.shareability.bits() << 8 | self.access.bits() << 6 | self.memory.bits() << 2
    }

    /// The attributes in a leaf descriptor, or `None` if [`Attributes::bits`] did not make them.
    pub const fn from_bits(descriptor: u64) -> Option<Attributes> {
        let executable = match descriptor & XN_MASK {
            0 => true,
            XN => false,
            _ => return None,
        };
        let memory = MemoryType::from_bits(descriptor >> 2);
        let access = Access::from_bits(descriptor >> 6);
        let shareability = Shareability::from_bits(descriptor >> 8);
        match (memory, access, shareability, descriptor & AF) {
            (Some(memory), Some(access), Some(shareability), AF) => {
                Some(Attributes { memory, access, executable, shareability })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_no_one_wrote_are_no_attributes() {
        assert_eq!(Attributes::from_bits(0), None);
        assert_eq!(Attributes::from_bits(Attributes::RAM.bits() & !AF), None);
        assert_eq!(Attributes::from_bits(Attributes::RAM.bits() | 0b01 << 53), None);
    }

    #[test]
    fn descriptors_are_spelt_as_the_manual_does() {
        // AF, SH=inner, S2AP=rw, MemAttr=write-back.
        assert_eq!(Attributes::RAM.bits(), 0x7fc);
        // XN, AF, SH=outer, S2AP=rw, MemAttr=Device-nGnRE.
        assert_eq!(Attributes::DEVICE.bits(), 0x40_0000_0000_06c4);
    }

    #[test]
    fn every_attribute_survives_its_encoding() {
        use Access::*;
        use MemoryType::*;
        for memory in [NormalWriteBack, NormalNonCacheable, DeviceNGnRE, DeviceNGnRnE] {
            for access in [ReadOnly, WriteOnly, ReadWrite] {
                for shareability in [Shareability::NonShareable, Shareability::Outer, Shareability::Inner] {
                    for executable in [false, true] {
                        let attributes = Attributes { memory, access, executable, shareability };
                        assert_eq!(Attributes::from_bits(attributes.bits() | 0b1), Some(attributes));
                    }
                }
            }
        }
    }
}
