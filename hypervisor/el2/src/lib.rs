//! Machine access at EL2: boot, vectors, guest entry, GIC hardware.
#![no_std]
#![allow(unsafe_code)]
#![cfg(target_arch = "aarch64")]
