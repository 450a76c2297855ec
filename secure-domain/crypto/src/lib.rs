//! The crypto engine: SEED, ARIA, AES and their modes, constant time.
//!
//! No function here branches on or indexes memory by key, plaintext or any value made from them. Nothing allocates.
//! The one door is a [`module::Module`], which tests itself before it serves and stops all services when it fails. The
//! algorithms behind it are private; only tests and measurements reach them, through the feature `algorithms`.
#![no_std]
#![deny(unsafe_code)]
// Without the feature `algorithms` what the tests reach is private, and some of it is there for them alone.
#![cfg_attr(not(feature = "algorithms"), allow(dead_code, unreachable_pub))]

mod aead;
#[cfg(feature = "algorithms")]
pub mod algorithms;
mod aria;
mod block;
mod ccm;
mod ccm_wrap;
mod cmac;
mod ctr;
mod drbg;
mod error;
mod features;
mod gcm;
mod ghash;
mod hash;
#[cfg(any(test, feature = "host"))]
pub mod host;
mod kw;
pub mod module;
#[cfg(test)]
mod reference;
mod sbox;
mod seed;
pub mod selftest;
mod simd;
pub mod state;
mod suite;
mod xts;

pub use aead::{NONCE_LEN, Nonce, SECTOR_LEN, Sector, TAG_LEN, Tag};
pub use error::Error;
pub use hash::{DIGEST_LEN, Digest32, Digest64};
pub use suite::{Algorithm, Mode, Suite};

/// Words behind the arguments of the vector kernels that are no secrets, in bytes from where the argument points, for the check of
/// the linked kernels.
#[doc(hidden)]
pub mod public_words {
    /// The number of rounds in ARIA's expanded key.
    pub const ARIA_ROUNDS: usize = crate::simd::aria::Keys::ROUNDS_AT;
    /// The number of rounds in AES's expanded key.
    pub const AES_ROUNDS: usize = crate::simd::aes::Keys::ROUNDS_AT;
}

/// One block of any of the ciphers: 16 bytes.
pub type Block = [u8; 16];

/// The sum of two blocks in GF(2)^128.
pub(crate) fn xor_block(a: &Block, b: &Block) -> Block {
    (u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b)).to_ne_bytes()
}
