//! Fuzz targets for every parser of foreign bytes; the program of this package runs them.
pub mod targets;
