//! The targets, one file each: a function that takes bytes and must not panic.

pub mod bundle;
pub mod image_header;

/// A target: its name on the command line, and the function that reads foreign bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("bundle", bundle::run),
    ("image_header", image_header::run),
];
