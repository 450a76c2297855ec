//! Machine access at EL1: boot, vectors, hypercalls, DMA pool, guest-memory window.
#![no_std]
#![allow(unsafe_code)]
#![cfg(target_arch = "aarch64")]
