//! Board files: schema, check, and the constants a firmware build takes from them.
//!
//! A board file states what no device tree tells. It is read on the host: by `xtask`, and by the build scripts of the firmware,
//! which include what [`emit`] makes of it. `README.md` describes the fields.
#![forbid(unsafe_code)]

mod check;
mod emit;
mod error;
mod load;
mod schema;

pub use check::SUITES;
pub use emit::emit;
pub use error::Error;
pub use load::{directory, load, load_with, named, parse};
pub use schema::{
    Board, Channel, ConsoleKind, Crypto, Denied, EarlyConsole, General, Huk, Layout, Partition, Pci, Policy, Pool,
    Profile, Reset, Storage, StorageKind, Transport, Volume,
};
