//! Machine access at EL1: boot, vectors, hypercalls, the DMA pool, the window onto the general domain's memory.
//!
//! The secure domain takes no interrupts: EL2 turns everything that happens to it into event bits ([`abi::Event`]), and any
//! exception here is a defect that stops the domain.
#![no_std]
#![allow(unsafe_code)] // This crate is one of the three that touch the machine.
#![cfg(target_arch = "aarch64")]

pub mod boot;
pub mod guest_memory;
pub mod hypercall;
pub mod memory;
