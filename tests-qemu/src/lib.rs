//! System tests: the whole of Haechi in QEMU. This is the harness; the tests are in `tests/system`.
//!
//! A test group is one boot (or a few) and many checks on it. [`runner`] runs groups two at a time and reports each check as a
//! test; [`guest`] is one QEMU with its console; [`images`] makes what all of them start from; [`place`] keeps what a failure
//! leaves behind; [`gpt`] puts a disk into a partition of another; [`power_cut`] makes of a boot the disks that a power cut could have left, and [`kept`] says what must be on them.
pub mod console;
pub mod gpt;
pub mod guest;
pub mod images;
pub mod kept;
pub mod pair;
pub mod place;
pub mod power_cut;
pub mod runner;
pub mod write_log;
