//! A virtual core as EL2 sees it: saved state, decoding of exits, trapped registers, exceptions that EL2 gives back.
//!
//! Nothing in here touches the machine. The way of one exit: the vectors of `el2` save a [`Frame`]; [`Exit::decode`] says what
//! happened; the loop in `run` acts, with [`sysreg`] for trapped registers, [`Access`] for emulated devices, and [`inject`] for what
//! the domain must take itself; [`Frame::advance`] steps over an instruction that EL2 has done in the domain's stead.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod access;
pub mod allowance;
pub mod control;
pub mod el1;
pub mod exit;
pub mod frame;
pub mod id_registers;
pub mod inject;
pub mod pstate;
pub mod stolen;
pub mod sysreg;
pub mod timer;
pub mod vector;
pub mod watchdog;

pub use access::Access;
pub use allowance::Allowance;
pub use control::{Config, Control};
pub use el1::El1State;
pub use exit::{Exit, Fault, FaultKind, Trap};
pub use frame::Frame;
pub use id_registers::IdRegisters;
pub use inject::{Entry, Exception, Features};
pub use stage2::Ipa;
pub use stolen::StolenTime;
pub use sysreg::{Action, Register, SystemAccess};
pub use vector::VectorState;
pub use watchdog::Watchdog;
