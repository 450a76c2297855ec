//! Saved state, exit decoding, system-register traps, exception injection.
#![no_std]
#![forbid(unsafe_code)]
