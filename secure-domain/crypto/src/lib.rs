//! The crypto engine: SEED, ARIA, AES and their modes, constant time.
#![no_std]
#![forbid(unsafe_code)]
