//! Key hierarchy of the secure domain.
//!
//! The hardware unique key never encrypts anything. A root key is derived from it once; the keys of a pool are derived from the
//! root key with a label that says what they are for and the pool's number as context (KBKDF in counter mode with HMAC-SHA-256,
//! NIST SP 800-108r1). The keys that seal data are random; they lie on the disk *wrapped* under a key that is derived from the
//! root key and from an erase secret which only the freshness anchor holds: whoever drops the secret has erased the data.
//! Nothing here prints, copies or compares a key, and each is wiped when dropped. All of it is computed by the crypto module that the
//! root key was made with: once that stops serving, so does every key.
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

use crypto::{
    Error,
    module::{MacKey, Module},
};
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
pub struct RootKey {
    module: &'static Module,
    key: Derived,
}

/// The keys of one pool of disks.
pub struct PoolKeys {
    module: &'static Module,
    superblock: MacKey,
    tree: MacKey,
    log: MacKey,
    wrap: Derived,
}

impl RootKey {
    /// Derives the root key from the hardware unique key. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`Error::State`] if the module does not serve.
    pub fn from_huk(module: &'static Module, huk: &[u8; ROOT_BYTES]) -> Result<RootKey, Error> {
        Ok(RootKey { module, key: derive(module, huk, ROOT_LABEL, &[])? })
    }

    /// The module that computes with this key.
    pub fn module(&self) -> &'static Module {
        self.module
    }

    /// Derives the key of the freshness anchor, which authenticates and encrypts nothing else.
    ///
    /// # Errors
    /// [`Error::State`] if the module does not serve.
    pub fn anchor_key(&self) -> Result<MacKey, Error> {
        self.module.mac_key(&*self.derive(ANCHOR_LABEL, &[])?)
    }

    /// Derives the keys of the pool with this number.
    ///
    /// # Errors
    /// [`Error::State`] if the module does not serve.
    pub fn pool_keys(&self, pool: &[u8; POOL_ID_BYTES]) -> Result<PoolKeys, Error> {
        let mac_key = |label| self.module.mac_key(&*self.derive(label, pool)?);
        Ok(PoolKeys {
            module: self.module,
            superblock: mac_key(SUPERBLOCK_LABEL)?,
            tree: mac_key(TREE_LABEL)?,
            log: mac_key(LOG_LABEL)?,
            wrap: self.derive(WRAP_LABEL, pool)?,
        })
    }

    fn derive(&self, label: &[u8], context: &[u8]) -> Result<Derived, Error> {
        derive(self.module, &*self.key, label, context)
    }
}

impl PoolKeys {
    /// The module that computes with these keys.
    pub fn module(&self) -> &'static Module {
        self.module
    }

    /// The key that authenticates superblocks.
    pub fn superblock(&self) -> &MacKey {
        &self.superblock
    }

    /// The key that authenticates the blocks of the hash trees.
    pub fn tree(&self) -> &MacKey {
        &self.tree
    }

    /// The key that authenticates log records.
    pub fn log(&self) -> &MacKey {
        &self.log
    }

    /// The key that wraps data keys while `secret` lies in the anchor.
    ///
    /// # Errors
    /// [`Error::State`] if the module does not serve.
    pub fn kek(&self, secret: &[u8; ERASE_SECRET_BYTES]) -> Result<Kek, Error> {
        Kek::new(self.module, &*derive(self.module, &*self.wrap, KEK_LABEL, secret)?)
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

fn derive(module: &Module, key: &[u8], label: &[u8], context: &[u8]) -> Result<Derived, Error> {
    let mut out = Zeroizing::new([0; ROOT_BYTES]);
    module.kbkdf(key, label, context, &mut *out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{format, vec, vec::Vec};

    use crypto::{Digest32, host, module::Profile};

    use super::*;

    fn root(huk: u8) -> RootKey {
        RootKey::from_huk(host::module(), &[huk; ROOT_BYTES]).unwrap()
    }

    fn pool(huk: u8, pool: u8) -> PoolKeys {
        root(huk).pool_keys(&[pool; 16]).unwrap()
    }

    /// What tells a key without showing it: the MAC of a message, or the key that is wrapped under it.
    fn told(key: &MacKey) -> Digest32 {
        key.mac(&[b"which key is this?"]).unwrap()
    }

    fn wrapped(keys: &PoolKeys, secret: u8) -> Digest32 {
        keys.kek(&[secret; 32]).unwrap().wrap(&[0; 12], b"", &DataKey::new(&[0; 32])).unwrap().key
    }

    fn all(keys: &PoolKeys) -> Vec<Digest32> {
        vec![told(keys.superblock()), told(keys.tree()), told(keys.log()), wrapped(keys, 1)]
    }

    #[test]
    fn a_module_in_error_gives_no_key() {
        let module = host::fresh(Profile::Kcmvp);
        let root = RootKey::from_huk(module, &[1; 32]).unwrap();
        let keys = root.pool_keys(&[7; 16]).unwrap();
        module.conditional_failed().unwrap();
        assert!(RootKey::from_huk(module, &[1; 32]).is_err());
        assert!(root.pool_keys(&[7; 16]).is_err() && root.anchor_key().is_err());
        assert!(keys.kek(&[2; 32]).is_err() && keys.log().mac(&[]).is_err());
    }

    #[test]
    fn keys_do_not_appear_in_debug_output() {
        let (root, keys) = (root(0xab), pool(0xab, 1));
        let text = format!("{root:?} {keys:?} {:?} {:?}", keys.kek(&[2; 32]).unwrap(), keys.tree());
        assert_eq!(text, "RootKey { .. } PoolKeys { .. } Kek { .. } MacKey { .. }");
    }

    #[test]
    fn any_change_of_pool_or_device_changes_every_key() {
        let keys = pool(1, 7);
        for other in [pool(1, 8), pool(2, 7)] {
            for (one, two) in all(&keys).into_iter().zip(all(&other)) {
                assert_ne!(one, two);
            }
        }
    }

    #[test]
    fn another_erase_secret_gives_another_kek() {
        let keys = pool(1, 7);
        assert_ne!(wrapped(&keys, 1), wrapped(&keys, 2));
    }

    #[test]
    fn the_anchor_has_a_key_of_its_own() {
        let anchor = |huk| told(&root(huk).anchor_key().unwrap());
        assert_eq!(anchor(1), anchor(1));
        assert_ne!(anchor(1), anchor(2));
        assert!(!all(&pool(1, 0)).contains(&anchor(1)));
    }

    #[test]
    fn the_keys_of_a_pool_differ_from_each_other() {
        let mut all = all(&pool(1, 7));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn the_same_pool_gives_the_same_keys() {
        assert_eq!(all(&pool(1, 7)), all(&pool(1, 7)));
    }
}
