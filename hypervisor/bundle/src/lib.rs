//! The boot bundle: secure-domain image, kernel, initrd in one file.
#![no_std]
#![forbid(unsafe_code)]
