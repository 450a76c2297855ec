//! The crypto engine: SEED, ARIA, AES and their modes, constant time.
//!
//! No function here branches on or indexes memory by key, plaintext or any value made from them. Nothing allocates.
//! Storage code uses [`Aead`]; the parts below it are public for key management and for tests. On a device all of it stands behind a
//! [`module::Module`], which tests itself before it serves.
#![no_std]
#![deny(unsafe_code)]

pub mod aead;
mod aria;
mod block;
pub mod ccm;
pub mod cmac;
pub mod ctr;
pub mod drbg;
mod error;
mod features;
pub mod gcm;
mod ghash;
pub mod hash;
pub mod kw;
pub mod module;
#[cfg(test)]
mod reference;
mod sbox;
mod seed;
pub mod selftest;
mod simd;
pub mod state;
mod suite;
pub mod xts;

pub use aead::{Aead, NONCE_LEN, TAG_LEN};
pub use block::BlockCipher;
pub use error::Error;
pub use features::CpuFeatures;
pub use suite::{Algorithm, Mode, Suite};

/// One block of any of the ciphers: 16 bytes.
pub type Block = [u8; 16];

/// The sum of two blocks in GF(2)^128.
pub(crate) fn xor_block(a: &Block, b: &Block) -> Block {
    (u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b)).to_ne_bytes()
}
