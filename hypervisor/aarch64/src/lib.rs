//! Machine access shared by EL2 and EL1: registers, barriers, caches, MMIO, stage 1.
#![no_std]
#![allow(unsafe_code)]
#![cfg(target_arch = "aarch64")]
