//! The verbs of `./x`, one file each.
pub mod build;
pub mod images;
pub mod run;
