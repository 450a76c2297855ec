//! The one tool behind `./x`.
fn main() {}
