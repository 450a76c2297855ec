//! The machine as its device tree tells it: memory plan and each domain's own tree.
#![no_std]
#![forbid(unsafe_code)]
