//! GICv3 and GICv2 as a guest sees them.
#![no_std]
#![forbid(unsafe_code)]
