//! Mounting.
use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;
use keystore::RootKey;

use super::{FormatOptions, Options, Pool, Random, Recovery};
use crate::Error;

/// Mounts the pool on `members`, in any order. While a disk or the anchor works, `idle` is called: it sleeps until the disk's
/// interrupt (or returns at once) and says whether to go on waiting, so the caller sets the deadline.
///
/// # Errors
/// The exact reason why not; see [`Error`].
pub fn mount<D: BlockDevice, A: MonotonicStore>(
    members: Vec<D>,
    anchor: A,
    root: &RootKey,
    random: Random,
    options: &Options,
    idle: impl FnMut() -> bool,
) -> Result<(Pool<D, A>, Recovery), Error> {
    let _ = (members, anchor, root, random, options, idle);
    todo!()
}

/// Makes a new, empty pool of `members`, whatever they held, binds `anchor` to it (whatever it held), and mounts it.
///
/// # Errors
/// As [`mount`], for what can be wrong with members and anchor.
pub fn format<D: BlockDevice, A: MonotonicStore>(
    members: Vec<D>,
    anchor: A,
    root: &RootKey,
    random: Random,
    new: &FormatOptions,
    options: &Options,
    idle: impl FnMut() -> bool,
) -> Result<Pool<D, A>, Error> {
    let _ = (members, anchor, root, random, new, options, idle);
    todo!()
}
