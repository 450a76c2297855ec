//! Key hierarchy of the secure domain.
//!
//! The hardware unique key never encrypts anything. A root key is derived from it once; every volume key is derived from the
//! root key with a label that says what it is for and a context that says for whom (KBKDF in counter mode with HMAC-SHA-256,
//! NIST SP 800-108r1). Nothing here prints, copies or compares a key, and each is wiped when dropped.
//!
//! ```text
//! HUK ── "haechi root" ──> RootKey ─┬─ "haechi volume data" (suite, volume, salt) ──> VolumeKeys::data
//!                                   ├─ "haechi volume mac"  (suite, volume, salt) ──> VolumeKeys::mac
//!                                   └─ "haechi anchor" ──> the key of the freshness anchor
//! ```
#![no_std]
#![forbid(unsafe_code)]

use crypto::{Suite, hash::kbkdf};
use zeroize::Zeroizing;

/// Bytes of the hardware unique key and of every derived root.
pub const ROOT_BYTES: usize = 32;
/// Bytes of a volume's salt.
pub const SALT_BYTES: usize = 32;
/// Bytes of the longest data key.
const MAX_DATA_BYTES: usize = 32;
/// Bytes of a MAC key.
const MAC_BYTES: usize = 32;

const ROOT_LABEL: &[u8] = b"haechi root";
const DATA_LABEL: &[u8] = b"haechi volume data";
const MAC_LABEL: &[u8] = b"haechi volume mac";
const ANCHOR_LABEL: &[u8] = b"haechi anchor";

/// The root of all keys of one device.
pub struct RootKey(Zeroizing<[u8; ROOT_BYTES]>);

/// What distinguishes the keys of one volume from those of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeIdentity {
    /// Number of the volume.
    pub volume: u32,
    /// Suite that the data key is for.
    pub suite: Suite,
    /// Random bytes drawn when the volume was made. Versions start again at one with each making, so the keys must not
    /// repeat: a salt used twice would repeat nonces.
    pub salt: [u8; SALT_BYTES],
}

/// The keys of one volume.
pub struct VolumeKeys {
    data: Zeroizing<[u8; MAX_DATA_BYTES]>,
    data_len: usize,
    mac: Zeroizing<[u8; MAC_BYTES]>,
}

impl RootKey {
    /// Derives the root key from the hardware unique key. The caller wipes its own copy.
    pub fn from_huk(huk: &[u8; ROOT_BYTES]) -> RootKey {
        let mut root = Zeroizing::new([0; ROOT_BYTES]);
        derive(huk, ROOT_LABEL, &[], &mut *root);
        RootKey(root)
    }

    /// Derives the key of the freshness anchor, which authenticates and encrypts nothing else.
    pub fn anchor_key(&self) -> Zeroizing<[u8; ROOT_BYTES]> {
        let mut key = Zeroizing::new([0; ROOT_BYTES]);
        derive(&*self.0, ANCHOR_LABEL, &[], &mut *key);
        key
    }

    /// Derives the keys of a volume.
    pub fn volume_keys(&self, identity: &VolumeIdentity) -> VolumeKeys {
        let context = context(identity);
        let data_len = identity.suite.key_len();
        let mut keys =
            VolumeKeys { data: Zeroizing::new([0; MAX_DATA_BYTES]), data_len, mac: Zeroizing::new([0; MAC_BYTES]) };
        derive(&*self.0, DATA_LABEL, &context, &mut keys.data[..data_len]);
        derive(&*self.0, MAC_LABEL, &context, &mut *keys.mac);
        keys
    }
}

impl VolumeKeys {
    /// The key that seals blocks: [`Suite::key_len`] bytes.
    pub fn data(&self) -> &[u8] {
        &self.data[..self.data_len]
    }

    /// The key that authenticates the superblocks.
    pub fn mac(&self) -> &[u8] {
        &*self.mac
    }
}

impl core::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RootKey { .. }")
    }
}

impl core::fmt::Debug for VolumeKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("VolumeKeys { .. }")
    }
}

/// Suite (2 bytes), volume (4 bytes), salt; integers little-endian, as on disk.
fn context(identity: &VolumeIdentity) -> [u8; 6 + SALT_BYTES] {
    let mut context = [0; 6 + SALT_BYTES];
    context[..2].copy_from_slice(&identity.suite.id().to_le_bytes());
    context[2..6].copy_from_slice(&identity.volume.to_le_bytes());
    context[6..].copy_from_slice(&identity.salt);
    context
}

fn derive(key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    kbkdf(key, label, context, out).expect("KBKDF refuses only empty and gigantic outputs; ours are 16 to 32 bytes");
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    const IDENTITY: VolumeIdentity = VolumeIdentity { volume: 7, suite: Suite::Aria256Gcm, salt: [9; SALT_BYTES] };

    #[test]
    fn keys_do_not_appear_in_debug_output() {
        let root = RootKey::from_huk(&[0xab; ROOT_BYTES]);
        let text = format!("{root:?} {:?}", root.volume_keys(&IDENTITY));
        assert_eq!(text, "RootKey { .. } VolumeKeys { .. }");
    }

    #[test]
    fn any_change_of_identity_or_device_changes_both_keys() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        let keys = root.volume_keys(&IDENTITY);
        let mut salt = IDENTITY.salt;
        salt[31] ^= 1;
        let others = [
            root.volume_keys(&VolumeIdentity { volume: 8, ..IDENTITY }),
            root.volume_keys(&VolumeIdentity { suite: Suite::Aes256Gcm, ..IDENTITY }),
            root.volume_keys(&VolumeIdentity { salt, ..IDENTITY }),
            RootKey::from_huk(&[2; ROOT_BYTES]).volume_keys(&IDENTITY),
        ];
        for other in others {
            assert_ne!(keys.data(), other.data());
            assert_ne!(keys.mac(), other.mac());
        }
        assert_ne!(keys.data(), keys.mac());
    }

    #[test]
    fn the_anchor_has_a_key_of_its_own() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        assert_eq!(root.anchor_key(), root.anchor_key());
        assert_ne!(*root.anchor_key(), *root.0);
        assert_ne!(*root.anchor_key(), *RootKey::from_huk(&[2; ROOT_BYTES]).anchor_key());
        assert_ne!(root.anchor_key()[..], *root.volume_keys(&IDENTITY).mac());
    }

    #[test]
    fn the_same_identity_gives_the_same_keys_of_the_suites_length() {
        let root = RootKey::from_huk(&[1; ROOT_BYTES]);
        for suite in Suite::ALL {
            let identity = VolumeIdentity { suite, ..IDENTITY };
            let (one, two) = (root.volume_keys(&identity), root.volume_keys(&identity));
            assert_eq!((one.data(), one.mac()), (two.data(), two.mac()));
            assert_eq!(one.data().len(), suite.key_len());
        }
    }
}
