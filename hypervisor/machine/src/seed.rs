//! Seeds for the domains' random number generators.
//!
//! The boot loader gives one `rng-seed`. Whoever knows it knows what is derived from it, so it reaches no domain: each gets
//! SHA-256 of its own label and the seed, and the machine's own tree must be overwritten before the general domain starts.

use alloc::vec::Vec;
use core::ops::Range;

use sha2::{Digest as _, Sha256};

const GENERAL: &[u8] = b"haechi rng-seed general domain 1\0";
const LAYOUT: &[u8] = b"haechi kaslr-seed general domain 1\0";
const SECURE: &[u8] = b"haechi rng-seed secure domain 1\0";
const RESTART: &[u8] = b"haechi rng-seed restart 1\0";
const RESET: &[u8] = b"haechi rng-seed reset 1\0";
const LIFE: &[u8] = b"haechi rng-seed life 1\0";

/// A seed for each domain; knowing one does not help to know the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Seeds {
    /// For `/chosen/rng-seed` of the general domain.
    pub general: [u8; 32],
    /// For `/chosen/kaslr-seed` of the general domain.
    pub layout: [u8; 8],
    /// For the secure domain.
    pub secure: [u8; 32],
    /// For the secure domain's later lives: no domain gets it.
    pub restart: Restart,
    /// For the general domain's.
    pub reset: Restart,
}

/// Where the seeds of a domain's later lives come from. A life that crashed may be hostile: what it knew does not help
/// to know the next one's.
#[derive(Clone, PartialEq, Eq)]
pub struct Restart([u8; 32]);

impl core::fmt::Debug for Restart {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Restart(..)")
    }
}

impl Restart {
    /// The seed of the next life; each call gives another one, from which neither the earlier nor the later ones follow.
    pub fn next_seed(&mut self) -> [u8; 32] {
        let seed = Sha256::new().chain_update(LIFE).chain_update(self.0).finalize().into();
        self.0 = Sha256::new().chain_update(RESTART).chain_update(self.0).finalize().into();
        seed
    }
}

impl Seeds {
    /// Derives all from the seed of the machine.
    pub fn derive(machine: &[u8]) -> Seeds {
        let derive = |label: &[u8]| Sha256::new().chain_update(label).chain_update(machine).finalize().into();
        let (restart, reset) = (Restart(derive(RESTART)), Restart(derive(RESET)));
        let layout: [u8; 32] = derive(LAYOUT);
        let layout = *layout.first_chunk().expect("eight of 32 bytes");
        Seeds { general: derive(GENERAL), layout, secure: derive(SECURE), restart, reset }
    }

    /// Where the general domain's seeds are in its device tree `tree`.
    pub fn places_in(&self, tree: &[u8]) -> Vec<Range<usize>> {
        let place = |seed: &[u8]| {
            let start = tree.windows(seed.len()).position(|bytes| bytes == seed)?;
            Some(start..start + seed.len())
        };
        [&self.general[..], &self.layout].into_iter().filter_map(place).collect()
    }
}

impl core::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seeds { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_share_no_seed_and_neither_gets_the_machines() {
        let seeds = Seeds::derive(&[7; 32]);
        assert_ne!(seeds.general, seeds.secure);
        assert_ne!(seeds.general, [7; 32]);
        assert_ne!(seeds, Seeds::derive(&[8; 32]));
    }

    #[test]
    fn no_life_of_a_domain_gets_the_seed_of_another() {
        let mut seeds = Seeds::derive(&[7; 32]);
        let lives = [
            seeds.secure,
            seeds.restart.next_seed(),
            seeds.restart.next_seed(),
            seeds.general,
            seeds.reset.next_seed(),
            seeds.reset.next_seed(),
        ];
        for (index, seed) in lives.iter().enumerate() {
            assert!(!lives[..index].contains(seed));
        }
        assert_eq!(Seeds::derive(&[7; 32]).restart.next_seed(), lives[1], "and yet they are derived");
    }

    #[test]
    fn a_seed_is_not_printed() {
        assert_eq!(std::format!("{:?}", Seeds::derive(&[])), "Seeds { .. }");
        assert_eq!(std::format!("{:?}", Seeds::derive(&[]).restart), "Restart(..)");
    }
}
