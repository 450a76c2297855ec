//! virtio-mmio transport at EL2: register file, doorbells, interrupt status.
#![no_std]
#![forbid(unsafe_code)]
