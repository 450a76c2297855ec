//! The ARMv8 backend on a bare machine: every suite against the portable backend; with the word `bench`, instructions per byte instead.
//!
//! It runs on QEMU's `virt` at EL1 and speaks through semihosting; under `-icount shift=0` the virtual counter counts instructions.
//! `./x test --only armv8` and `./x bench crypto` run it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this example is for a bare machine: build it for aarch64-unknown-none and run it in QEMU");
}

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod leaky;
#[cfg(target_os = "none")]
mod machine;
