//! Fuzz targets for every parser of foreign bytes.
fn main() {}
