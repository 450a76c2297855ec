//! The vector backends, and the only `unsafe` code of this crate.
//!
//! The algorithms ([`aria`], [`seed`], [`ghash`]) are safe code over the traits in [`vector`]; a machine file (`aarch64.rs`, `x86_64.rs`)
//! gives the traits their instructions and the entry points their `#[target_feature]`. One claim carries all of it: an entry point runs
//! only where its instructions exist, because it takes a proof, and a proof comes only from a [`CpuFeatures`] whose bit [`detect`] set.
//! Addresses come from references to whole arrays.
#![allow(unsafe_code)]

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

pub(crate) use machine::{aria_crypt, aria_ctr, detect, ghash_powers, ghash_update, seed_crypt, seed_ctr};

use crate::features::CpuFeatures;

/// Evidence that this processor has the AES instructions.
#[derive(Clone, Copy)]
pub(crate) struct AesProof(());

impl AesProof {
    /// The evidence, if the features hold it.
    pub(crate) fn new(features: CpuFeatures) -> Option<Self> {
        features.aes.then_some(Self(()))
    }
}

/// Evidence that this processor has carry-less multiplication.
#[derive(Clone, Copy)]
pub(crate) struct ClmulProof(());

impl ClmulProof {
    /// The evidence, if the features hold it.
    pub(crate) fn new(features: CpuFeatures) -> Option<Self> {
        features.clmul.then_some(Self(()))
    }
}
