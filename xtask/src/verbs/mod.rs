//! The verbs of `./x`, one file each.
pub mod bench;
pub mod build;
pub mod cargo;
pub mod check;
pub mod disk;
pub mod fuzz;
pub mod images;
pub mod run;
pub mod sim;
pub mod sizes;
pub mod test;

/// A size on the command line, for clap.
fn parse_size(text: &str) -> Result<u64, String> {
    crate::size::parse(text).map_err(|error| error.to_string())
}
