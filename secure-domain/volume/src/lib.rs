//! The sealed volume: on-disk format and engine.
#![no_std]
#![forbid(unsafe_code)]
