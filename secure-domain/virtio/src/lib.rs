//! virtio device side: split queue, descriptor chains, block requests.
#![no_std]
#![forbid(unsafe_code)]
