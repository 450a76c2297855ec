//! The vector backends, and the only `unsafe` code of this crate.
//!
//! The algorithms ([`aria`], [`seed`], [`ghash`]) are safe code over the traits in [`vector`]; a machine file (`aarch64.rs`, `x86_64.rs`)
//! gives the traits their instructions and the entry points their `#[target_feature]`. One claim carries all of it: an entry point runs
//! only where its instructions exist, because it takes a proof, and a proof comes only from a [`CpuFeatures`] whose bit [`detect`] set.
//! Addresses come from references to whole arrays.
#![allow(unsafe_code)]
// Without vector instructions the kernels have no caller.
#![cfg_attr(
    not(any(
        all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"),
        all(target_arch = "x86_64", target_feature = "sse2")
    )),
    allow(dead_code)
)]

pub(crate) mod aes;
pub(crate) mod aria;
pub(crate) mod ghash;
pub(crate) mod seed;
mod vector;

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
#[path = "aarch64.rs"]
mod machine;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[path = "x86_64.rs"]
mod machine;
#[cfg(not(any(
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
#[path = "none.rs"]
mod machine;

use core::sync::atomic::{AtomicU8, Ordering};

pub(crate) use machine::*;
pub(crate) use vector::AlignedBlocks;

use crate::features::CpuFeatures;

/// What the processor said: 0 before it was asked, else bit 7 and a bit for each feature. Two cores that ask at once write the same.
static ANSWER: AtomicU8 = AtomicU8::new(0);
const ASKED: u8 = 0x80;
const VECTOR: u8 = 1;
const SHA256: u8 = 2;

/// Asks the processor the first time, and remembers: under a hypervisor the question may trap.
pub(crate) fn detect() -> CpuFeatures {
    let mut answer = ANSWER.load(Ordering::Relaxed);
    if answer == 0 {
        let features = machine::ask();
        answer = ASKED | if features.vector { VECTOR } else { 0 } | if features.sha256 { SHA256 } else { 0 };
        ANSWER.store(answer, Ordering::Relaxed);
    }
    CpuFeatures { vector: answer & VECTOR != 0, sha256: answer & SHA256 != 0 }
}

/// Evidence that this processor has the AES instructions and carry-less multiplication.
#[derive(Clone, Copy)]
pub(crate) struct VectorProof(());

impl VectorProof {
    /// The evidence, if the features hold it.
    pub(crate) fn new(features: CpuFeatures) -> Option<Self> {
        features.vector.then_some(Self(()))
    }
}

/// Evidence that this processor has the SHA-256 instructions.
#[derive(Clone, Copy)]
pub(crate) struct Sha256Proof(());

impl Sha256Proof {
    /// The evidence, if the features hold it.
    pub(crate) fn new(features: CpuFeatures) -> Option<Self> {
        features.sha256.then_some(Self(()))
    }
}
