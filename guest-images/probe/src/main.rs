//! The probe: a bare-metal guest that tries what is forbidden and tells what happened.
//!
//! It boots where Linux would, with the general domain's device tree, and speaks one line per case on the console:
//!
//! ```text
//! probe: CLASS NAME EXPECTED GOT PASS|FAIL
//! probe: N passed, M failed
//! ```
//!
//! Then it turns the machine off. Words never hold spaces. Words on its command line: `probe.only=CLASS,CLASS` runs these classes only,
//! `probe.skip=CLASS` leaves one out, `probe.seed=HEX` seeds the random cases, `probe.ram=HEX` is the machine's memory in bytes
//! (default 1 GiB), `probe.intid=DECIMAL` the physical interrupt of the storage controller (default 79). `probe.pci=HEX` is the place on the bus of a PCI disk of the secure domain's, `probe.cases=DECIMAL` the length of class `hostile`,
//! `probe.hidden=HEX` the affinity of a core that is the secure domain's alone. `probe.only=bench` measures instead.
//!
//! It runs with the MMU off: every address is physical as far as this guest can tell, so that every address can be tried.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code)] // A bare-metal program whose purpose is to misbehave.

#[cfg(not(target_os = "none"))]
fn main() {
    println!("The probe is a bare-metal guest: `./x build` makes its image.");
}

#[cfg(target_os = "none")]
mod access;
#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod bus;
#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod conformance;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod controller;
#[cfg(target_os = "none")]
mod copies;
#[cfg(target_os = "none")]
mod cores;
#[cfg(target_os = "none")]
mod debug;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod dma;
#[cfg(target_os = "none")]
mod exception;
#[cfg(target_os = "none")]
mod excursion;
#[cfg(target_os = "none")]
mod features;
#[cfg(target_os = "none")]
mod frames;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod hostile;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod pcie;
#[cfg(target_os = "none")]
mod pmu;
#[cfg(target_os = "none")]
mod power;
#[cfg(target_os = "none")]
mod probe;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod siege;
#[cfg(target_os = "none")]
mod stage1;
#[cfg(target_os = "none")]
mod sysregs;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod tree;
#[cfg(target_os = "none")]
mod vectors;
