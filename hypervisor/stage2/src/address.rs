//! Addresses: physical and intermediate physical are different types, so that one is never taken for the other.

use core::fmt;

/// Bytes of the smallest unit that stage 2 maps with the 4 KiB granule.
pub const PAGE_SIZE: u64 = 4096;

/// A physical address, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// An intermediate physical address: what a domain takes for physical, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ipa(pub u64);

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// Whether the address is a multiple of `size_bytes`, a power of two.
            pub const fn is_aligned(self, size_bytes: u64) -> bool {
                self.0 & (size_bytes - 1) == 0
            }

            /// The address `len_bytes` further on, or `None` beyond 64 bits.
            pub const fn checked_add(self, len_bytes: u64) -> Option<$name> {
                match self.0.checked_add(len_bytes) {
                    Some(sum) => Some($name(sum)),
                    None => None,
                }
            }

            /// The start of the page that holds the address.
            pub const fn page(self) -> $name {
                $name(self.0 & !(PAGE_SIZE - 1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(PhysAddr);
address!(Ipa);
