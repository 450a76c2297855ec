//! Sealing and opening of blocks: nonces, associated data, batches.
//!
//! ```text
//! nonce, 12 bytes   version u64 | volume, 24 bits | domain, 8 bits                     (all big-endian)
//! associated data   "SV1\0" | major u16 | suite u16 | volume u32 | block of the volume u64 | epoch u16 | 0 u16
//! ```
//! The associated data is 24 bytes, its integers little-endian. Versions are one counter for the whole pool, reserved in the anchor
//! before use, so no two nonces of a pool are equal, under whatever key. The associated data pins a ciphertext to the place in
//! its volume, to its format and to its epoch; to its physical place it is pinned by the tree and the log.

use crypto::{
    Error, Mode, Nonce, Sector, Suite, Tag,
    module::{AeadService, Module},
};
use keystore::DataKey;

use crate::record::superblock::VERSION;

/// The domain byte of nonces that seal data blocks.
pub const DOMAIN_DATA: u8 = 0;
/// The domain byte of nonces that wrap data keys.
pub const DOMAIN_WRAP: u8 = 2;
/// Most blocks of a batch: the lanes of the crypto engine.
pub const BATCH: usize = 16;

/// Bytes of the associated data.
pub const AAD_BYTES: usize = 24;
/// The associated data of a block.
pub type Aad = [u8; AAD_BYTES];

/// The nonce of `version` for `volume`.
pub fn nonce(version: u64, volume: u32, domain: u8) -> Nonce {
    let word = u128::from(version) << 32 | u128::from(volume) << 8 | u128::from(domain);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&word.to_be_bytes()[4..]);
    nonce
}

/// The cipher of one volume in one epoch.
#[derive(Debug)]
pub struct Sealer {
    aead: AeadService,
    volume: u32,
    epoch: u16,
    /// The associated data with block 0.
    aad: Aad,
    in_lanes: bool,
}

impl Sealer {
    /// The cipher of `epoch` of `volume`.
    ///
    /// # Errors
    /// [`Error::NotApproved`] if the module's profile does not list the suite, [`Error::State`] if it does not serve.
    pub fn new(module: &'static Module, volume: u32, epoch: u16, suite: Suite, key: &DataKey) -> Result<Sealer, Error> {
        let mut aad = [0; AAD_BYTES];
        aad[..4].copy_from_slice(b"SV1\0");
        aad[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
        aad[6..8].copy_from_slice(&suite.id().to_le_bytes());
        aad[8..12].copy_from_slice(&volume.to_le_bytes());
        aad[20..22].copy_from_slice(&epoch.to_le_bytes());
        let in_lanes = suite.mode() == Mode::Ccm;
        Ok(Sealer { aead: key.aead(module, suite)?, volume, epoch, aad, in_lanes })
    }

    /// The epoch's number.
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Whether many blocks at a time are served much faster than one by one, rather than a little.
    pub fn in_lanes(&self) -> bool {
        self.in_lanes
    }

    /// The nonce of `version`.
    pub fn nonce(&self, version: u64) -> Nonce {
        nonce(version, self.volume, DOMAIN_DATA)
    }

    /// The associated data of `block`.
    pub fn aad(&self, block: u64) -> Aad {
        let mut aad = self.aad;
        aad[12..20].copy_from_slice(&block.to_le_bytes());
        aad
    }

    /// Seals up to [`BATCH`] blocks, whose nonces must be fresh, from one buffer to another. All slices have one length.
    ///
    /// # Errors
    /// [`Error::State`] if the crypto module does not serve; nothing is written then.
    pub fn seal(
        &self,
        nonces: &[Nonce],
        aads: &[Aad],
        plain: &[Sector],
        sealed: &mut [Sector],
        tags: &mut [Tag],
    ) -> Result<(), Error> {
        self.aead.seal_batch(nonces, aads, plain, sealed, tags)
    }

    /// Opens up to [`BATCH`] blocks; `good[i]` says whether block `i` is what was sealed, else its plaintext is zeros.
    ///
    /// # Errors
    /// [`Error::State`] if the crypto module does not serve: nothing is written then, and nothing known about the blocks.
    pub fn open(
        &self,
        nonces: &[Nonce],
        aads: &[Aad],
        sealed: &[Sector],
        plain: &mut [Sector],
        tags: &[Tag],
        good: &mut [bool],
    ) -> Result<(), Error> {
        let mut results = [Ok(()); BATCH];
        let results = &mut results[..nonces.len()];
        self.aead.open_batch(nonces, aads, sealed, plain, tags, results)?;
        good.iter_mut().zip(results).for_each(|(good, result)| *good = result.is_ok());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crypto::{host, module::Profile};

    use super::*;

    #[test]
    fn a_module_in_error_seals_and_opens_no_block() {
        let module = host::fresh(Profile::Kcmvp);
        let sealer = Sealer::new(module, 1, 1, Suite::Aria256Gcm, &DataKey::new(&[7; 32])).unwrap();
        let (nonces, aads) = ([sealer.nonce(5)], [sealer.aad(9)]);
        let (mut sealed, mut tags) = ([[0; 4096]], [[0; 16]]);
        sealer.seal(&nonces, &aads, &[[3; 4096]], &mut sealed, &mut tags).unwrap();
        module.conditional_failed().unwrap();
        let (mut plain, mut good, before) = ([[1; 4096]], [false], (sealed, tags));
        assert!(sealer.open(&nonces, &aads, &sealed, &mut plain, &tags, &mut good).is_err());
        assert!(sealer.seal(&[sealer.nonce(6)], &aads, &[[3; 4096]], &mut sealed, &mut tags).is_err());
        assert_eq!((plain, good, (sealed, tags)), ([[1; 4096]], [false], before));
    }

    #[test]
    fn a_block_opens_at_its_place_volume_epoch_and_version_only() {
        for suite in Suite::ALL {
            let key = DataKey::new(&[7; 32]);
            let sealer = |volume, epoch| Sealer::new(host::module(), volume, epoch, suite, &key).unwrap();
            let (elsewhere, later) = (sealer(2, 1), sealer(1, 2));
            let sealer = sealer(1, 1);
            let (mut sealed, mut tags) = ([[0; 4096]], [[0; 16]]);
            sealer.seal(&[sealer.nonce(5)], &[sealer.aad(9)], &[[3; 4096]], &mut sealed, &mut tags).unwrap();
            let opens = |sealer: &Sealer, version, block| {
                let (mut plain, mut good) = ([[1; 4096]], [false]);
                sealer
                    .open(&[sealer.nonce(version)], &[sealer.aad(block)], &sealed, &mut plain, &tags, &mut good)
                    .unwrap();
                assert_eq!(plain[0], [if good[0] { 3 } else { 0 }; 4096]);
                good[0]
            };
            assert!(!opens(&sealer, 5, 8) && !opens(&sealer, 6, 9));
            assert!(!opens(&elsewhere, 5, 9) && !opens(&later, 5, 9));
            assert!(opens(&sealer, 5, 9));
        }
    }

    #[test]
    fn nonces_of_different_domains_and_volumes_differ() {
        assert_ne!(nonce(1, 1, DOMAIN_DATA), nonce(1, 1, DOMAIN_WRAP));
        assert_ne!(nonce(1, 1, 0), nonce(1, 2, 0));
        assert_eq!(nonce(0x0102, 0x030405, 6), [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    }
}
