//! The nonce audit: no key ever seals twice with one nonce, whatever crashed, was rolled back or re-keyed in between.
//!
//! A nonce is made of the version, the volume and a constant; a key belongs to one volume and epoch. The audit asks for more
//! than a (key, nonce) pair that is used once: a version is used once in the life of a pool, whatever the volume and epoch.
//!
//! The world can look into a future and come back (an adversary tries something on a copy). What was sealed there is undone:
//! it did not happen.

use std::collections::HashSet;

/// Every seal of a pool's life.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    used: HashSet<u64>,
    /// What was used since the world began to look into a future.
    tentative: Option<Vec<u64>>,
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
        } else if let Some(tentative) = &mut self.tentative {
            tentative.push(version);
        }
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
        self.tentative = Some(Vec::new());
    }

    /// Back to where [`look_ahead`](Self::look_ahead) was called.
    pub fn come_back(&mut self) {
        for version in self.tentative.take().unwrap_or_default() {
            self.used.remove(&version);
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
