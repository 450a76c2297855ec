//! Event records (IHI 0070, section 7.3): what a device tried and why it was stopped.

use core::fmt;

/// Words of a record.
pub const RECORD_WORDS: usize = 4;

/// Why a transfer was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `C_BAD_STREAMID` or `C_BAD_STE`: the stream is no domain's.
    NoDomain,
    /// `F_TRANSLATION`: the address is not the domain's.
    NotMapped,
    /// `F_PERMISSION`: the address is the domain's, but not for this access.
    NotAllowed,
    /// `F_ADDR_SIZE`: the address is longer than any.
    AddressSize,
    /// `F_STE_FETCH` or `F_WALK_EABT`: the tables could not be read.
    Tables,
    /// Any other event, by its number.
    Other(u8),
}

/// A transfer that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose it was.
    pub stream: u32,
    /// Why it was stopped.
    pub cause: Cause,
    /// Where it went, if the record says so.
    pub access: Option<Access>,
}

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The device's address.
    pub address: u64,
    /// A write, or a read.
    pub write: bool,
}

impl Fault {
    /// Whether it says no more than `earlier`: the same stream is stopped for the same reason at the same page.
    pub fn repeats(&self, earlier: &Fault) -> bool {
        let page = |fault: &Fault| fault.access.map(|Access { address, write }| (address >> 12, write));
        (self.stream, self.cause, page(self)) == (earlier.stream, earlier.cause, page(earlier))
    }

    /// What `record` says. Any record says something.
    pub const fn decode(record: [u64; RECORD_WORDS]) -> Fault {
        let number = record[0] as u8;
        let access = Access { address: record[2], write: record[1] >> 35 & 1 == 0 };
        Fault {
            stream: (record[0] >> 32) as u32,
            cause: match number {
                0x02 | 0x04 => Cause::NoDomain,
                0x03 | 0x0b => Cause::Tables,
                0x10 => Cause::NotMapped,
                0x11 => Cause::AddressSize,
                0x13 => Cause::NotAllowed,
                number => Cause::Other(number),
            },
            access: match number {
                0x01 | 0x0b | 0x10..=0x13 => Some(access),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:#x}", self.stream)?;
        if let Some(Access { address, write }) = self.access {
            write!(f, " {} {address:#x}", if write { "writes to" } else { "reads" })?;
        }
        match self.cause {
            Cause::NoDomain => write!(f, ": it is no domain's"),
            Cause::NotMapped => write!(f, ": the address is not its domain's"),
            Cause::NotAllowed => write!(f, ": its domain may not do that there"),
            Cause::AddressSize => write!(f, ": no address is as long"),
            Cause::Tables => write!(f, ": its tables cannot be read"),
            Cause::Other(number) => write!(f, ": event {number:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn a_stopped_write_is_told_with_its_address() {
        let fault = Fault::decode([0x10_0000_0010, 1 << 39 | 0b10 << 40, 0x7f40_0000, 0x7f40_0000]);
        assert_eq!(fault.to_string(), "stream 0x10 writes to 0x7f400000: the address is not its domain's");
    }

    #[test]
    fn a_stopped_read_is_no_write() {
        let fault = Fault::decode([0x08_0000_0013, 1 << 35, 0x1000, 0]);
        assert_eq!(fault.to_string(), "stream 0x8 reads 0x1000: its domain may not do that there");
    }

    #[test]
    fn the_rest_of_a_page_is_no_news() {
        let fault = |address, direction: u64| Fault::decode([0x10, direction << 35, address, 0]);
        assert!(fault(0x1040, 0).repeats(&fault(0x1000, 0)));
        assert!(!fault(0x2000, 0).repeats(&fault(0x1fff, 0)));
        assert!(!fault(0x1000, 0).repeats(&fault(0x1000, 1)));
    }

    #[test]
    fn a_record_without_an_address_tells_none() {
        assert_eq!(Fault::decode([0x02, 0, 5, 5]).to_string(), "stream 0x0: it is no domain's");
        assert_eq!(Fault::decode([0xff, 0, 5, 5]).to_string(), "stream 0x0: event 0xff");
    }
}
