//! Board files: schema, check, and the constants a firmware build takes from them.
#![no_std]
#![forbid(unsafe_code)]
