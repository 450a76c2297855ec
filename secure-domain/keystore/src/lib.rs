//! Key hierarchy of the secure domain.
//!
//! The hardware unique key never encrypts anything. A root key is derived from it once; the keys of a pool are derived from the
//! root key with a label that says what they are for and the pool's number as context (KBKDF in counter mode with HMAC-SHA-256,
//! NIST SP 800-108r1). The keys that seal data are random; they lie on the disk *wrapped* under a key that is derived from the
//! root key and from an erase secret which only the freshness anchor holds: whoever drops the secret has erased the data.
//! Nothing here prints, copies or compares a key, and each is wiped when dropped.
//!
//! ```text
//! HUK ── "haechi root" ──> RootKey ─┬─ "haechi pool superblock" (pool) ──> PoolKeys::superblock
//!                                   ├─ "haechi pool tree"       (pool) ──> PoolKeys::tree
//!                                   ├─ "haechi pool log"        (pool) ──> PoolKeys::log
//!                                   ├─ "haechi pool wrap"       (pool) ──> wrap base ── "haechi kek" (erase secret) ──> Kek
//!                                   │                                                     Kek ──wraps──> DataKey (random)
//!                                   └─ "haechi anchor" ──> the key of the freshness anchor
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod wrap;

pub use wrap::{DataKey, Kek, MAX_DATA_KEY_BYTES, WrappedKey};

use crypto::hash::kbkdf;
use zeroize::Zeroizing;

/// Bytes of the hardware unique key and of every derived key.
pub const ROOT_BYTES: usize = 32;
/// Bytes of a pool's number.
pub const POOL_ID_BYTES: usize = 16;
/// Bytes of an erase secret.
pub const ERASE_SECRET_BYTES: usize = 32;

const ROOT_LABEL: &[u8] = b"haechi root";
const SUPERBLOCK_LABEL: &[u8] = b"haechi pool superblock";
const TREE_LABEL: &[u8] = b"haechi pool tree";
const LOG_LABEL: &[u8] = b"haechi pool log";
const WRAP_LABEL: &[u8] = b"haechi pool wrap";
const KEK_LABEL: &[u8] = b"haechi kek";
const ANCHOR_LABEL: &[u8] = b"haechi anchor";

/// A derived key.
type Derived = Zeroizing<[u8; ROOT_BYTES]>;

/// The root of all keys of one device.
pub struct RootKey(Derived);

/// The keys of one pool of disks.
pub struct PoolKeys {
    superblock: Derived,
    tree: Derived,
    log: Derived,
    wrap: Derived,
}

impl RootKey {
    /// Derives the root key from the hardware unique key. The caller wipes its own copy.
    pub fn from_huk(huk: &[u8; ROOT_BYTES]) -> RootKey {
        RootKey(derive(huk, ROOT_LABEL, &[]))
    }

    /// Derives the key of the freshness anchor, which authenticates and encrypts nothing else.
    pub fn anchor_key(&self) -> Zeroizing<[u8; ROOT_BYTES]> {
        derive(&*self.0, ANCHOR_LABEL, &[])
    }

    /// Derives the keys of the pool with this number.
    pub fn pool_keys(&self, pool: &[u8; POOL_ID_BYTES]) -> PoolKeys {
        PoolKeys {
            superblock: derive(&*self.0, SUPERBLOCK_LABEL, pool),
            tree: derive(&*self.0, TREE_LABEL, pool),
            log: derive(&*self.0, LOG_LABEL, pool),
            wrap: derive(&*self.0, WRAP_LABEL, pool),
        }
    }
}

impl PoolKeys {
    /// The key that authenticates superblocks.
    pub fn superblock(&self) -> &[u8] {
        &*self.superblock
    }

    /// The key that authenticates the blocks of the hash trees.
    pub fn tree(&self) -> &[u8] {
        &*self.tree
    }

    /// The key that authenticates log records.
    pub fn log(&self) -> &[u8] {
        &*self.log
    }

    /// The key that wraps data keys while `secret` lies in the anchor.
    pub fn kek(&self, secret: &[u8; ERASE_SECRET_BYTES]) -> Kek {
        Kek::new(&derive(&*self.wrap, KEK_LABEL, secret))
    }
}

impl core::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RootKey { .. }")
    }
}

impl core::fmt::Debug for PoolKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PoolKeys { .. }")
    }
}

fn derive(key: &[u8], label: &[u8], context: &[u8]) -> Derived {
    let mut out = Zeroizing::new([0; ROOT_BYTES]);
    kbkdf(key, label, context, &mut *out).expect("KBKDF refuses only empty and gigantic outputs; ours is 32 bytes");
    out
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{format, vec::Vec};

    use super::*;

    fn all(keys: &PoolKeys) -> Vec<&[u8]> {
        [keys.superblock(), keys.tree(), keys.log(), &*keys.wrap].into()
    }

    #[test]
    fn keys_do_not_appear_in_debug_output() {
        let root = RootKey::from_huk(&[0xab; ROOT_BYTES]);
        let keys = root.pool_keys(&[1; 16]);
        let text = format!("{root:?} {keys:?} {:?}", keys.kek(&[2; 32]));
        assert_eq!(text, "RootKey { .. } PoolKeys { .. } Kek { .. }");
    }

    #[test]
    fn any_change_of_pool_or_device_changes_every_key() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        let keys = root.pool_keys(&[7; 16]);
        for other in [root.pool_keys(&[8; 16]), RootKey::from_huk(&[2; ROOT_BYTES]).pool_keys(&[7; 16])] {
            for (one, two) in all(&keys).into_iter().zip(all(&other)) {
                assert_ne!(one, two);
            }
        }
    }

    #[test]
    fn the_anchor_has_a_key_of_its_own() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        assert_eq!(root.anchor_key(), root.anchor_key());
        assert_ne!(*root.anchor_key(), *root.0);
        assert_ne!(*root.anchor_key(), *RootKey::from_huk(&[2; ROOT_BYTES]).anchor_key());
        assert!(all(&root.pool_keys(&[0; 16])).iter().all(|key| *key != &root.anchor_key()[..]));
    }

    #[test]
    fn the_keys_of_a_pool_differ_from_each_other() {
        let keys = RootKey::from_huk(&[1; ROOT_BYTES]).pool_keys(&[7; 16]);
        let mut all = all(&keys);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn the_same_pool_gives_the_same_keys() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        assert_eq!(all(&root.pool_keys(&[7; 16])), all(&root.pool_keys(&[7; 16])));
    }
}
