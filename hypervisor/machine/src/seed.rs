//! Seeds for the domains' random number generators.
//!
//! The boot loader gives one `rng-seed`. Whoever knows it knows what is derived from it, so it reaches no domain: each gets
//! SHA-256 of its own label and the seed, and the machine's own tree must be overwritten before the general domain starts.

use sha2::{Digest as _, Sha256};

const GENERAL: &[u8] = b"haechi rng-seed general domain 1\0";
const SECURE: &[u8] = b"haechi rng-seed secure domain 1\0";

/// A seed for each domain; knowing one does not help to know the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Seeds {
    /// For `/chosen/rng-seed` of the general domain.
    pub general: [u8; 32],
    /// For the secure domain.
    pub secure: [u8; 32],
}

impl Seeds {
    /// Derives both from the seed of the machine.
    pub fn derive(machine: &[u8]) -> Seeds {
        let derive = |label: &[u8]| Sha256::new().chain_update(label).chain_update(machine).finalize().into();
        Seeds { general: derive(GENERAL), secure: derive(SECURE) }
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
    fn a_seed_is_not_printed() {
        assert_eq!(std::format!("{:?}", Seeds::derive(&[])), "Seeds { .. }");
    }
}
