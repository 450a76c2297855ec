//! One record: when, why, and where.

use core::fmt;

/// Reasons are below this.
pub(crate) const REASONS: usize = 16;
/// Bits of a detail.
const DETAIL_BITS: u32 = 56;
const DETAIL: u64 = (1 << DETAIL_BITS) - 1;

/// Why a core came to EL2, or what EL2 did then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Nothing: a record that was not written.
    None = 0,
    /// `HVC` or `SMC` of the general domain; the function identifier.
    Call = 1,
    /// A load that was emulated; the intermediate physical address.
    Load = 2,
    /// A store that was emulated; the intermediate physical address.
    Store = 3,
    /// An access that was given back as an abort; the intermediate physical address, or the virtual one if that is not known.
    Abort = 4,
    /// A trapped system register; the syndrome's 32 bits.
    Register = 5,
    /// `WFI` or `WFE`; the address of the instruction.
    Wait = 6,
    /// Any other exception of the general domain; the syndrome's 32 bits.
    Exception = 7,
    /// A physical interrupt; its INTID.
    Interrupt = 8,
    /// The secure domain gets the core; its pending events.
    Visit = 9,
    /// `HVC` of the secure domain; the function identifier.
    SecureCall = 10,
    /// The secure domain gives the core back: 0 it waits, 1 its slice is over, 2 it crashed, 3 an interrupt, 4 it has stopped.
    Leave = 11,
}

/// Every reason with the name under which it is told.
pub(crate) const NAMES: [(Reason, &str); 12] = [
    (Reason::None, "none"),
    (Reason::Call, "call"),
    (Reason::Load, "load"),
    (Reason::Store, "store"),
    (Reason::Abort, "abort"),
    (Reason::Register, "register"),
    (Reason::Wait, "wait"),
    (Reason::Exception, "exception"),
    (Reason::Interrupt, "interrupt"),
    (Reason::Visit, "visit"),
    (Reason::SecureCall, "secure call"),
    (Reason::Leave, "leave"),
];

impl Reason {
    /// The reason with this number; [`Reason::None`] for one that is not used.
    pub fn from_number(number: u8) -> Reason {
        NAMES.get(usize::from(number)).map_or(Reason::None, |(reason, _)| *reason)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}

/// A record as it lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Ticks of the system counter.
    pub ticks: u64,
    word: u64,
}

impl Record {
    /// No record.
    pub const NONE: Record = Record { ticks: 0, word: 0 };

    /// A record; of `detail` the lower 56 bits.
    #[inline(always)]
    pub const fn new(ticks: u64, reason: Reason, detail: u64) -> Record {
        Record { ticks, word: (reason as u64) << DETAIL_BITS | detail & DETAIL }
    }

    /// From its two words, whoever wrote them.
    pub const fn from_words([ticks, word]: [u64; 2]) -> Record {
        Record { ticks, word }
    }

    /// Its two words.
    pub const fn words(self) -> [u64; 2] {
        [self.ticks, self.word]
    }

    /// Why.
    pub fn reason(self) -> Reason {
        Reason::from_number((self.word >> DETAIL_BITS) as u8)
    }

    /// Address, identifier or syndrome.
    pub const fn detail(self) -> u64 {
        self.word & DETAIL
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, detail) = (self.reason(), self.detail());
        match reason {
            Reason::None => f.write_str("none"),
            Reason::Interrupt => write!(f, "interrupt {detail}"),
            Reason::Exception => write!(f, "exception of class {:#04x}, ESR {detail:#x}", detail >> 26 & 0x3f),
            Reason::Register => {
                let [op0, op1, crn, crm, op2] = register_of(detail);
                let verb = if detail & 1 != 0 { "read" } else { "write" };
                write!(f, "{verb} of S{op0}_{op1}_C{crn}_C{crm}_{op2}")
            }
            Reason::Leave => {
                let why = ["waits", "slice over", "crashed", "interrupt", "stopped"];
                write!(f, "leave: {}", why.get(detail as usize).unwrap_or(&"?"))
            }
            _ => write!(f, "{} {detail:#x}", reason.name()),
        }
    }
}

/// `op0`, `op1`, `CRn`, `CRm`, `op2` of a trapped `MRS`, `MSR` or `SYS` (Arm DDI 0487, D19.2.37, ISS for EC 0x18).
fn register_of(esr: u64) -> [u64; 5] {
    [esr >> 20 & 0b11, esr >> 14 & 0b111, esr >> 10 & 0b1111, esr >> 1 & 0b1111, esr >> 17 & 0b111]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_detail_cannot_become_a_reason() {
        let record = Record::new(7, Reason::Wait, u64::MAX);
        assert_eq!((record.reason(), record.detail()), (Reason::Wait, DETAIL));
    }

    #[test]
    fn a_reason_that_nobody_knows_is_none() {
        assert_eq!(Record::from_words([1, u64::MAX]).reason(), Reason::None);
        assert!((0..=255).all(|number| (Reason::from_number(number) as usize) < REASONS));
    }

    #[test]
    fn names_stand_at_their_reasons() {
        for (number, (reason, _)) in NAMES.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }

    #[test]
    fn records_are_told_in_words() {
        let told = |reason, detail| Record::new(0, reason, detail).to_string();
        assert_eq!(told(Reason::Store, 0x0a00_3e50), "store 0xa003e50");
        assert_eq!(told(Reason::Interrupt, 27), "interrupt 27");
        assert_eq!(told(Reason::Leave, 3), "leave: interrupt");
        assert_eq!(told(Reason::Leave, 9), "leave: ?");
        // MSR ICC_SGI1R_EL1, x0.
        assert_eq!(told(Reason::Register, 0x623a_3016), "write of S3_0_C12_C11_5");
    }
}
