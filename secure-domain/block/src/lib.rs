//! Block drivers over register and DMA traits.
#![no_std]
#![forbid(unsafe_code)]
