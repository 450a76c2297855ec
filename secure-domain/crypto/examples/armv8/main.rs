//! The ARMv8 backend on a bare machine: every suite against the portable backend, then instructions per byte.
//!
//! It runs on QEMU's `virt` at EL1 and speaks through semihosting; under `-icount shift=0` the virtual counter counts instructions:
//!
//! ```text
//! cargo build -p crypto --release --example armv8 --target aarch64-unknown-none
//! qemu-system-aarch64 -M virt -cpu cortex-a76 -m 64 -display none -semihosting -icount shift=0 -kernel .../examples/armv8
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this example is for a bare machine: build it for aarch64-unknown-none and run it in QEMU");
}

#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod machine;
