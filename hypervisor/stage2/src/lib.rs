//! VMSAv8-64 stage-2 translation tables and page ownership.
#![no_std]
#![forbid(unsafe_code)]
