//! Watches every nonce that is used to seal, and stops the test at the first that is used twice.

use std::{cell::RefCell, collections::BTreeSet};

std::thread_local! {
    static USED: RefCell<BTreeSet<(u32, u64)>> = const { RefCell::new(BTreeSet::new()) };
}

/// A new volume with new keys: nothing has been used yet.
pub(crate) fn clear() {
    USED.with_borrow_mut(BTreeSet::clear);
}

/// `version` of `volume` is used now.
pub(crate) fn record(volume: u32, version: u64) {
    assert!(USED.with_borrow_mut(|used| used.insert((volume, version))), "version {version} was used twice");
}

/// How many were used.
pub(crate) fn used() -> usize {
    USED.with_borrow(BTreeSet::len)
}
