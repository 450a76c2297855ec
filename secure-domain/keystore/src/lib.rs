//! Key hierarchy of the secure domain.
#![no_std]
#![forbid(unsafe_code)]
