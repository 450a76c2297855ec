//! What an SMMU can do: its identification registers (IHI 0070, sections 6.3.1, 6.3.2 and 6.3.6).

use crate::Registers;
use crate::driver::offset::{IDR0, IDR1, IDR5};

/// What an SMMU can do, as far as this driver asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `IDR0.S2P`: stage 2 translation.
    pub stage_2: bool,
    /// `IDR0.TTF`: tables in the format of AArch64.
    pub aarch64_tables: bool,
    /// `IDR0.COHACC`: walks and queues see the caches of the cores.
    pub coherent: bool,
    /// `IDR0.ST_LEVEL`: stream tables of two levels.
    pub two_levels: bool,
    /// `IDR0.ATS`: devices may have addresses translated beforehand.
    pub ats: bool,
    /// `IDR0.TTENDIAN`: its tables are not big-endian only.
    pub little_endian: bool,
    /// `IDR0.STALL_MODEL`: a faulting transfer can be ended.
    pub terminates: bool,
    /// `IDR0.HYP`: its TLB has entries of EL2.
    pub el2: bool,
    /// `IDR1.TABLES_PRESET` or `QUEUES_PRESET`: the places of tables or queues are not ours to choose.
    pub preset: bool,
    /// `IDR1.SIDSIZE`: bits of a stream.
    pub stream_bits: u8,
    /// `IDR1.CMDQS`: log2 of the most entries of the command queue.
    pub command_bits: u8,
    /// `IDR1.EVENTQS`: log2 of the most entries of the event queue.
    pub event_bits: u8,
    /// `IDR5.GRAN4K`: tables with the 4 KiB granule.
    pub granule_4k: bool,
    /// `IDR5.OAS`: bits of an address that leaves it, at most 48.
    pub address_bits: u8,
}

impl Features {
    /// Reads them.
    pub fn read(registers: &dyn Registers) -> Features {
        let (idr0, idr1, idr5) = (registers.read32(IDR0), registers.read32(IDR1), registers.read32(IDR5));
        Features {
            stage_2: bit(idr0, 0),
            aarch64_tables: bit(idr0, 3),
            coherent: bit(idr0, 4),
            two_levels: field(idr0, 27, 2) == 1,
            ats: bit(idr0, 10),
            little_endian: field(idr0, 21, 2) != 0b11,
            terminates: field(idr0, 24, 2) != 0b10,
            el2: bit(idr0, 9),
            preset: bit(idr1, 29) || bit(idr1, 30),
            stream_bits: field(idr1, 0, 6),
            command_bits: field(idr1, 21, 5),
            event_bits: field(idr1, 16, 5),
            granule_4k: bit(idr5, 4),
            address_bits: match field(idr5, 0, 3) {
                0 => 32,
                1 => 36,
                2 => 40,
                3 => 42,
                4 => 44,
                _ => 48,
            },
        }
    }
}

const fn bit(register: u32, at: u32) -> bool {
    register >> at & 1 != 0
}

const fn field(register: u32, at: u32, bits: u32) -> u8 {
    (register >> at & ((1 << bits) - 1)) as u8
}
