//! The random bit generator in service, and the entropy source that feeds it.
use super::{Module, NAME};
use crate::drbg::{HealthTests, HmacDrbgSha256};
use crate::error::Error;

/// A source of raw entropy, without any conditioning.
pub trait EntropySource {
    /// Fills `raw` with fresh samples of one byte.
    ///
    /// # Errors
    /// [`Error::EntropySource`] if there are none.
    fn fill(&mut self, raw: &mut [u8]) -> Result<(), Error>;
}

/// Samples of the start-up test (SP 800-90B section 4.3: at least 1,024, not used for anything else).
pub(super) const START_UP_SAMPLES: usize = 1024;
/// The most raw bytes for one seed: 384 bits at one bit a sample.
const MAX_RAW: usize = 384;
/// Requests between two reseeds from the source, far below the limit of SP 800-90A.
pub(super) const RESEED_AFTER: u32 = 1024;

/// A random bit generator in service: HMAC-DRBG, reseeded from a source under health tests.
pub struct Random<S> {
    module: &'static Module,
    source: S,
    health: HealthTests,
    raw_len: usize,
    drbg: HmacDrbgSha256,
    requests: u32,
}

impl<S: EntropySource> Random<S> {
    pub(super) fn new(module: &'static Module, mut source: S, entropy_bits: u8) -> Result<Self, Error> {
        let mut health = HealthTests::new(entropy_bits)?;
        // 256 bits for the strength and 128 in place of a nonce.
        let raw_len = MAX_RAW.div_ceil(usize::from(entropy_bits)).max(48);
        let mut raw = [0; START_UP_SAMPLES];
        draw(module, &mut source, &mut health, &mut raw)?;
        draw(module, &mut source, &mut health, &mut raw[..raw_len])?;
        let (entropy, nonce) = raw[..raw_len].split_at(raw_len / 3 * 2);
        let drbg = HmacDrbgSha256::new(entropy, nonce, NAME.as_bytes())?;
        zeroize::Zeroize::zeroize(&mut raw);
        Ok(Self { module, source, health, raw_len, drbg, requests: 0 })
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::EntropySource`] if the source failed a health test, and then the module is in the simple error state;
    /// [`Error::InputLength`] for more than [`crate::drbg::MAX_REQUEST`] bytes. `out` is zero then.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        out.fill(0);
        self.module.permit()?;
        if self.requests >= RESEED_AFTER {
            let mut raw = [0; MAX_RAW];
            draw(self.module, &mut self.source, &mut self.health, &mut raw[..self.raw_len])?;
            self.drbg.reseed(&raw[..self.raw_len], &[])?;
            zeroize::Zeroize::zeroize(&mut raw);
            self.requests = 0;
        }
        self.requests += 1;
        self.drbg.generate(&[], out)
    }
}

impl<S> core::fmt::Debug for Random<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random { .. }")
    }
}

/// A random bit generator in service that was seeded once, from outside: HMAC-DRBG without a source of its own. How much entropy the
/// seed holds is the claim of whoever loaded it.
pub struct SeededRandom {
    module: &'static Module,
    drbg: HmacDrbgSha256,
}

impl SeededRandom {
    pub(super) fn new(module: &'static Module, entropy: &[u8], nonce: &[u8], purpose: &[u8]) -> Result<Self, Error> {
        Ok(Self { module, drbg: HmacDrbgSha256::new(entropy, nonce, purpose)? })
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::InputLength`] for more than 2^16 bytes; [`Error::ReseedRequired`] after 2^48 requests. `out` is
    /// zero then.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        out.fill(0);
        self.module.permit()?;
        self.drbg.generate(&[], out)
    }
}

impl core::fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SeededRandom { .. }")
    }
}

/// Draws raw entropy and tests it; on a failure the module goes into the simple error state.
fn draw<S: EntropySource>(
    module: &Module,
    source: &mut S,
    health: &mut HealthTests,
    raw: &mut [u8],
) -> Result<(), Error> {
    let drawn = source.fill(raw).and_then(|()| health.check(raw));
    if drawn.is_err() {
        zeroize::Zeroize::zeroize(raw);
        module.conditional_failed()?;
    }
    drawn
}
