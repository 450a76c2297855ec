//! PSCI state machine over cores.
#![no_std]
#![forbid(unsafe_code)]
