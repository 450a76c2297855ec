//! Machine access shared by EL2 and EL1: barriers, caches, MMIO, stage 1, the boot heap, the PL011.
//!
//! Every `unsafe` here is an instruction or an access that the compiler cannot judge; each states what makes it sound.
#![no_std]
#![allow(unsafe_code)] // This crate is one of the three that touch the machine.
#![cfg(target_arch = "aarch64")]

extern crate alloc;

pub mod cache;
pub mod copy;
pub mod heap;
pub mod image;
pub mod mmio;
pub mod pl011;
pub mod stage1;
pub mod sysreg;
pub mod time;
pub mod zero;
