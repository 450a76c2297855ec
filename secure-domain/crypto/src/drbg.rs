//! HMAC-DRBG (SP 800-90A section 10.1.2) and the health tests on the raw entropy that feeds it (SP 800-90B section 4.4).
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use zeroize::Zeroize;

use crate::error::Error;
use crate::hash::{DIGEST_LEN, Digest32, HmacSha256};

/// The most bytes one request may ask for (SP 800-90A table 2: 2^19 bits).
pub const MAX_REQUEST: usize = 1 << 16;
/// The most requests between two reseeds (SP 800-90A table 2).
pub const RESEED_INTERVAL: u64 = 1 << 48;
/// The longest entropy input, nonce, personalization string or additional input taken here, in bytes.
pub const MAX_INPUT: usize = 1 << 16;

/// A hash function as HMAC-DRBG uses it.
pub trait HmacHash {
    /// A digest.
    type Output: AsRef<[u8]> + AsMut<[u8]> + Copy + Zeroize;
    /// A digest of this byte everywhere.
    fn filled(byte: u8) -> Self::Output;
    /// The HMAC of the concatenated `parts`.
    fn hmac(key: &[u8], parts: &[&[u8]]) -> Self::Output;
    /// The security strength in bytes: the least entropy to seed with.
    const STRENGTH: usize;
}

impl HmacHash for Sha256 {
    type Output = Digest32;
    fn filled(byte: u8) -> Self::Output {
        [byte; DIGEST_LEN]
    }
    fn hmac(key: &[u8], parts: &[&[u8]]) -> Self::Output {
        let mut hmac = HmacSha256::new(key);
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finish()
    }
    const STRENGTH: usize = 32;
}

impl HmacHash for Sha512 {
    type Output = [u8; 64];
    fn filled(byte: u8) -> Self::Output {
        [byte; 64]
    }
    fn hmac(key: &[u8], parts: &[&[u8]]) -> Self::Output {
        let mut hmac = Hmac::<Self>::new_from_slice(key).expect("HMAC takes keys of every length");
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finalize().into_bytes().into()
    }
    const STRENGTH: usize = 32;
}

/// HMAC-DRBG with SHA-256, the module's generator.
pub type HmacDrbgSha256 = HmacDrbg<Sha256>;
/// HMAC-DRBG with SHA-512.
pub type HmacDrbgSha512 = HmacDrbg<Sha512>;

/// The working state. Wiped on drop.
pub struct HmacDrbg<H: HmacHash> {
    key: H::Output,
    value: H::Output,
    requests: u64,
}

impl<H: HmacHash> HmacDrbg<H> {
    /// Seeds a generator. The entropy input must have been drawn for this alone and have passed its health tests.
    ///
    /// # Errors
    /// [`Error::InputLength`] if `entropy` is shorter than the security strength (32 bytes), `nonce` shorter than half of it, or any
    /// input longer than [`MAX_INPUT`].
    pub fn new(entropy: &[u8], nonce: &[u8], personalization: &[u8]) -> Result<Self, Error> {
        if nonce.len() < H::STRENGTH / 2 || nonce.len() > MAX_INPUT {
            return Err(Error::InputLength);
        }
        check_seed::<H>(entropy, personalization)?;
        let mut drbg = Self { key: H::filled(0), value: H::filled(1), requests: 1 };
        drbg.update(&[entropy, nonce, personalization]);
        Ok(drbg)
    }

    /// Mixes in fresh entropy.
    ///
    /// # Errors
    /// [`Error::InputLength`] as in [`HmacDrbg::new`].
    pub fn reseed(&mut self, entropy: &[u8], additional: &[u8]) -> Result<(), Error> {
        check_seed::<H>(entropy, additional)?;
        self.update(&[entropy, additional]);
        self.requests = 1;
        Ok(())
    }

    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// [`Error::InputLength`] if `out` is longer than [`MAX_REQUEST`] or `additional` than [`MAX_INPUT`];
    /// [`Error::ReseedRequired`] after [`RESEED_INTERVAL`] requests. `out` is zero then.
    pub fn generate(&mut self, additional: &[u8], out: &mut [u8]) -> Result<(), Error> {
        out.fill(0);
        if out.len() > MAX_REQUEST || additional.len() > MAX_INPUT {
            return Err(Error::InputLength);
        }
        if self.requests > RESEED_INTERVAL {
            return Err(Error::ReseedRequired);
        }
        if !additional.is_empty() {
            self.update(&[additional]);
        }
        let step = self.value.as_ref().len();
        for piece in out.chunks_mut(step) {
            self.value = H::hmac(self.key.as_ref(), &[self.value.as_ref()]);
            piece.copy_from_slice(&self.value.as_ref()[..piece.len()]);
        }
        self.update(&[additional]);
        self.requests += 1;
        Ok(())
    }

    /// HMAC_DRBG_Update (SP 800-90A section 10.1.2.2); `parts` are the provided data, of three parts at most.
    fn update(&mut self, parts: &[&[u8]]) {
        let empty = parts.iter().all(|part| part.is_empty());
        for round in if empty { 0..1u8 } else { 0..2 } {
            let mut key = {
                let mut input: [&[u8]; 5] = [self.value.as_ref(), core::slice::from_ref(&round), &[], &[], &[]];
                input[2..2 + parts.len()].copy_from_slice(parts);
                H::hmac(self.key.as_ref(), &input)
            };
            self.key = key;
            self.value = H::hmac(key.as_ref(), &[self.value.as_ref()]);
            key.zeroize();
        }
    }
}

impl<H: HmacHash> Drop for HmacDrbg<H> {
    fn drop(&mut self) {
        self.key.zeroize();
        self.value.zeroize();
    }
}

fn check_seed<H: HmacHash>(entropy: &[u8], other: &[u8]) -> Result<(), Error> {
    if !(H::STRENGTH..=MAX_INPUT).contains(&entropy.len()) || other.len() > MAX_INPUT {
        return Err(Error::InputLength);
    }
    Ok(())
}

/// Samples in a window of the adaptive-proportion test for sources that are not binary (SP 800-90B section 4.4.2).
const WINDOW: u16 = 512;
/// Cutoffs of the adaptive-proportion test for 1 to 8 bits of entropy a sample and a false-alarm rate of 2^-20: one more
/// than the smallest count whose binomial distribution function over the window reaches 1 - 2^-20.
const PROPORTION_CUTOFF: [u16; 8] = [311, 177, 103, 62, 39, 25, 18, 13];

/// The continuous health tests over one noise source of byte samples: repetition count (SP 800-90B section 4.4.1) and adaptive
/// proportion (section 4.4.2), both with a false-alarm rate of at most 2^-20. A failure is permanent.
#[derive(Clone, Debug)]
pub struct HealthTests {
    repetition_cutoff: u32,
    proportion_cutoff: u16,
    last: Option<u8>,
    repeats: u32,
    reference: u8,
    matches: u16,
    position: u16,
    failed: bool,
}

impl HealthTests {
    /// Starts the tests for a source with `entropy_bits` of min-entropy in each sample, as assessed.
    ///
    /// # Errors
    /// [`Error::InputLength`] unless it is 1 to 8.
    pub fn new(entropy_bits: u8) -> Result<Self, Error> {
        if !(1..=8).contains(&entropy_bits) {
            return Err(Error::InputLength);
        }
        Ok(Self {
            repetition_cutoff: 1 + 20u32.div_ceil(u32::from(entropy_bits)),
            proportion_cutoff: PROPORTION_CUTOFF[usize::from(entropy_bits) - 1],
            last: None,
            repeats: 0,
            reference: 0,
            matches: 0,
            position: 0,
            failed: false,
        })
    }

    /// Takes raw samples in the order they were drawn.
    ///
    /// # Errors
    /// [`Error::EntropySource`] if they, or any before them, failed a test; none of these samples may be used then.
    pub fn check(&mut self, samples: &[u8]) -> Result<(), Error> {
        for &sample in samples {
            self.count_repetition(sample);
            self.count_proportion(sample);
        }
        if self.failed { Err(Error::EntropySource) } else { Ok(()) }
    }

    fn count_repetition(&mut self, sample: u8) {
        self.repeats = if self.last == Some(sample) { self.repeats.saturating_add(1) } else { 1 };
        self.last = Some(sample);
        self.failed |= self.repeats >= self.repetition_cutoff;
    }

    fn count_proportion(&mut self, sample: u8) {
        if self.position == 0 {
            self.reference = sample;
            self.matches = 0;
        }
        self.matches += u16::from(sample == self.reference);
        self.failed |= self.matches >= self.proportion_cutoff;
        self.position = (self.position + 1) % WINDOW;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_entropy_and_long_requests_are_refused_with_no_output() {
        assert_eq!(HmacDrbgSha256::new(&[1; 31], &[2; 16], &[]).err(), Some(Error::InputLength));
        assert_eq!(HmacDrbgSha256::new(&[1; 32], &[2; 15], &[]).err(), Some(Error::InputLength));
        let mut drbg = HmacDrbgSha256::new(&[1; 32], &[2; 16], &[]).unwrap();
        assert_eq!(drbg.reseed(&[1; 31], &[]), Err(Error::InputLength));
        let mut out = [9; MAX_REQUEST + 1];
        assert_eq!(drbg.generate(&[], &mut out), Err(Error::InputLength));
        assert!(out.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_generator_stops_when_its_requests_are_used_up() {
        let mut drbg = HmacDrbgSha256::new(&[1; 32], &[2; 16], &[]).unwrap();
        drbg.requests = RESEED_INTERVAL;
        let mut out = [9; 4];
        assert_eq!(drbg.generate(&[], &mut out), Ok(()));
        assert_eq!(drbg.generate(&[], &mut out), Err(Error::ReseedRequired));
        assert_eq!(out, [0; 4]);
        drbg.reseed(&[3; 32], &[]).unwrap();
        assert_eq!(drbg.generate(&[], &mut out), Ok(()));
    }

    #[test]
    fn a_stuck_source_fails_at_the_cutoff_and_stays_failed() {
        for bits in 1..=8u8 {
            let mut tests = HealthTests::new(bits).unwrap();
            let cutoff = 1 + 20usize.div_ceil(usize::from(bits));
            assert_eq!(tests.check(&[7; 21][..cutoff - 1]), Ok(()));
            assert_eq!(tests.check(&[7]), Err(Error::EntropySource));
            assert_eq!(tests.check(&[1, 2, 3]), Err(Error::EntropySource));
        }
    }

    #[test]
    fn a_biased_source_fails_the_proportion_test() {
        let mut tests = HealthTests::new(8).unwrap();
        // The first sample of the window comes back every third time: never twice in a row, but 13 times within 39.
        let biased: [u8; 39] = core::array::from_fn(|i| if i % 3 == 0 { 0xaa } else { i as u8 });
        assert_eq!(tests.check(&biased[..36]), Ok(()));
        assert_eq!(tests.check(&biased[36..]), Err(Error::EntropySource));
    }

    #[test]
    fn a_source_of_all_values_passes() {
        let mut tests = HealthTests::new(8).unwrap();
        for i in 0..100_000u32 {
            assert_eq!(tests.check(&[(i.wrapping_mul(0x9e37_79b9) >> 24) as u8]), Ok(()));
        }
    }
}
