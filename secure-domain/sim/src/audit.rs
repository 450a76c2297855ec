//! The nonce audit: no key ever seals twice with one nonce, whatever crashed, was rolled back or re-keyed in between.
//!
//! A nonce is made of the version, the volume and a constant; a key belongs to one volume and epoch. The audit asks for more
//! than a (key, nonce) pair that is used once: a version is used once in the life of a pool, whatever the volume and epoch.
//!
//! The world can look into a future and come back (an adversary tries something on a copy). What was sealed there is undone:
//! it did not happen.

use std::collections::{HashMap, HashSet};

use keystore::WrappedKey;

/// Every seal of a pool's life.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    used: HashSet<u64>,
    /// The keys that were seen wrapped, under the versions that their nonces are made of.
    wrapped: HashMap<u64, WrappedKey>,
    /// What was used since the world began to look into a future, and into a future's future.
    tentative: Vec<Vec<u64>>,
    seals: u64,
    repeated: Option<String>,
}

impl Audit {
    /// A block of `volume` was sealed in `epoch` with `version`.
    pub fn seal(&mut self, volume: u32, epoch: u16, version: u64) {
        self.seals += 1;
        if !self.used.insert(version) {
            let what = format!("version {version} sealed twice, the second time in volume {volume}, epoch {epoch}");
            self.repeated.get_or_insert(what);
        } else if let Some(tentative) = self.tentative.last_mut() {
            tentative.push(version);
        }
    }

    /// A key was found on a disk, wrapped with `version`: the same key as ever, and no block was sealed with it.
    pub fn wrap(&mut self, version: u64, key: &WrappedKey) {
        let before = self.wrapped.get(&version);
        if before == Some(key) {
            return;
        }
        if before.is_some() || !self.used.insert(version) {
            self.repeated.get_or_insert(format!("version {version} wrapped a key and was used before"));
        } else if let Some(tentative) = self.tentative.last_mut() {
            tentative.push(version);
        }
        self.wrapped.insert(version, *key);
        self.seals += 1;
    }

    /// Seals so far.
    pub fn seals(&self) -> u64 {
        self.seals
    }

    /// The first version that was used twice.
    pub fn repeated(&self) -> Option<&str> {
        self.repeated.as_deref()
    }

    /// From here on nothing really happens.
    pub fn look_ahead(&mut self) {
        self.tentative.push(Vec::new());
    }

    /// Back to where [`look_ahead`](Self::look_ahead) was called.
    pub fn come_back(&mut self) {
        for version in self.tentative.pop().unwrap_or_default() {
            self.used.remove(&version);
            self.wrapped.remove(&version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_seals_twice_is_noticed_in_any_volume() {
        let mut audit = Audit::default();
        audit.seal(1, 1, 7);
        assert_eq!(audit.repeated(), None);
        audit.seal(2, 1, 7);
        assert!(audit.repeated().is_some());
    }

    #[test]
    fn a_version_that_wraps_two_keys_or_a_key_and_a_block_is_noticed() {
        let key = |byte| WrappedKey { key: [byte; 32], tag: [0; 16] };
        let mut audit = Audit::default();
        audit.wrap(7, &key(1));
        audit.wrap(7, &key(1));
        assert_eq!(audit.repeated(), None);
        let mut blocks = audit.clone();
        blocks.seal(1, 1, 7);
        assert!(blocks.repeated().is_some());
        audit.wrap(7, &key(2));
        assert!(audit.repeated().is_some());
    }

    #[test]
    fn what_happened_in_a_future_that_was_left_is_undone_but_not_what_it_repeated() {
        let mut audit = Audit::default();
        audit.seal(1, 1, 7);
        audit.look_ahead();
        audit.seal(1, 1, 8);
        audit.come_back();
        audit.seal(1, 1, 8);
        assert_eq!(audit.repeated(), None);
        audit.look_ahead();
        audit.seal(1, 1, 7);
        assert!(audit.repeated().is_some());
    }
}
