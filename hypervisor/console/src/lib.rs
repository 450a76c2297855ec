//! The shared console: virtual PL011 and the multiplexer of domains' lines.
#![no_std]
#![forbid(unsafe_code)]
