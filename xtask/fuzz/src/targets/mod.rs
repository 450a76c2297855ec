//! The targets, one file each: a function that takes bytes and must not panic.

pub mod bundle;
pub mod channel_registers;
pub mod exit_decode;
pub mod image_header;
pub mod machine_tree;
pub mod pl011;

/// A target: its name on the command line, and the function that reads foreign bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("bundle", bundle::run),
    ("channel_registers", channel_registers::run),
    ("exit_decode", exit_decode::run),
    ("image_header", image_header::run),
    ("machine_tree", machine_tree::run),
    ("pl011", pl011::run),
];
