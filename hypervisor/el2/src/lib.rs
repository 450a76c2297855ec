//! Machine access at EL2: boot, vectors, guest entry and exit, the GIC's hardware, TLB maintenance, firmware calls.
//!
//! Everything here does one thing to the machine and decides nothing; decisions are in the pure crates beside it.
#![no_std]
#![allow(unsafe_code)] // This crate is one of the three that touch the machine.
#![cfg(target_arch = "aarch64")]

extern crate alloc;

pub mod boot;
pub mod context;
pub mod firmware;
pub mod gic;
pub mod gic_v2;
pub mod gic_v3;
pub mod guest;
pub mod last;
pub mod memory;
pub mod pages;
pub mod smmu;
pub mod storage;
pub mod tables;
pub mod timer;
