//! The module as its operators see it: power-on, self-tests, services by profile, status, zeroisation.
//!
//! One [`Module`] stands for the module on a machine and lives as long as that runs. Services come from it and ask it before every call,
//! so that nothing leaves the module in any state but the approved one.
use core::sync::atomic::{AtomicU8, Ordering};

use crate::aead::Aead;
use crate::block::BlockCipher;
use crate::cmac;
use crate::error::Error;
use crate::hash::{self, HmacSha256};
use crate::selftest::{self, Image, Test};
use crate::state::{Event, State};
use crate::suite::{Algorithm, Suite};
use crate::{Block, kw};

mod aead;
mod mac;
mod random;
mod wrap;
mod xts;

pub use aead::{AeadService, MessageService};
pub use mac::{MIN_MAC_LEN, MacKey};
pub use random::{EntropySource, Random, SeededRandom};
pub use wrap::WrapService;
pub use xts::XtsService;

/// The module's name.
pub const NAME: &str = "Haechi Crypto Module";
/// The module's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The security strength that the Korean programme asks of keys at least, in bytes: 112 bits.
const MIN_STRENGTH: usize = 14;

/// Which services exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Only what the Korean validation programme lists: ARIA, SEED, CCM and GCM with tags of 14 bytes or more, CMAC, HMAC, SHA-2, KBKDF,
    /// PBKDF2, HMAC-DRBG. AES (announced for the list, not on it yet), key wrap and XTS are refused.
    Kcmvp,
    /// Everything here.
    Open,
}

impl Profile {
    /// Whether the profile has this block cipher.
    #[must_use]
    pub const fn lists(self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::Open, _) => true,
            (Self::Kcmvp, Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256) => false,
            (Self::Kcmvp, _) => true,
        }
    }

    /// Whether the profile has AEAD tags of `len` bytes.
    #[must_use]
    pub const fn takes_tag(self, len: usize) -> bool {
        matches!(self, Self::Open) || len == 14 || len == 16
    }

    /// Whether the profile has keys of `len` bytes for HMAC and for derivation: 112 bits at least (SP 800-131A section 8 and 10).
    #[must_use]
    pub const fn takes_mac_key(self, len: usize) -> bool {
        matches!(self, Self::Open) || len >= MIN_STRENGTH
    }

    /// The word for it in board files and device trees.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kcmvp => "kcmvp",
            Self::Open => "open",
        }
    }

    /// The profile with this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Open, Self::Kcmvp].into_iter().find(|profile| profile.name() == name)
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }
}

impl core::fmt::Display for Profile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the status service tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// [`NAME`].
    pub name: &'static str,
    /// [`VERSION`].
    pub version: &'static str,
    /// The profile chosen at power-on.
    pub profile: Profile,
    /// The present state.
    pub state: State,
}

/// The module.
#[derive(Debug)]
pub struct Module {
    profile: Profile,
    state: AtomicU8,
}

impl Module {
    /// The module as it is when power comes: nothing runs before [`Module::self_test`].
    #[must_use]
    pub const fn power_on(profile: Profile) -> Self {
        Self { profile, state: AtomicU8::new(State::PowerOn as u8) }
    }

    /// Name, version, profile and state. This service runs in every state.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { name: NAME, version: VERSION, profile: self.profile, state: self.state() }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    /// Runs all self-tests, after power-on or on demand: HMAC, the integrity of `image`, then every known answer.
    ///
    /// # Errors
    /// [`Error::State`] if the state has no such transition; [`Error::SelfTest`] if a test failed, and then the module is in the critical
    /// error state.
    pub fn self_test(&self, image: &Image<'_>) -> Result<(), Error> {
        self.self_test_falsified(image, None)
    }

    /// [`Module::self_test`] for the tester: the test named has one bit of its answer flipped, and must fail.
    ///
    /// # Errors
    /// As [`Module::self_test`].
    pub fn self_test_falsified(&self, image: &Image<'_>, falsified: Option<Test>) -> Result<(), Error> {
        self.step(Event::TestBegins)?;
        match selftest::run(image, falsified) {
            Ok(()) => self.step(Event::TestsPassed),
            Err(test) => {
                self.step(Event::TestFailed)?;
                Err(Error::SelfTest(test))
            }
        }
    }

    /// Ends all services for good. Their keys are wiped when their owners drop them, which they must now do; until then the services
    /// refuse every call.
    ///
    /// # Errors
    /// [`Error::State`] if that has happened before.
    pub fn zeroise(&self) -> Result<(), Error> {
        self.step(Event::Zeroise)
    }

    /// Reports that a conditional test failed.
    ///
    /// # Errors
    /// [`Error::State`] if the state has no such transition.
    pub fn conditional_failed(&self) -> Result<(), Error> {
        self.step(Event::ConditionalFailed)
    }

    /// An AEAD service under `key`.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] if the profile does not list the cipher, [`Error::KeyLength`].
    pub fn aead(&'static self, suite: Suite, key: &[u8]) -> Result<AeadService, Error> {
        self.permit()?;
        self.list(self.profile.lists(suite.algorithm()))?;
        Ok(AeadService::new(self, Aead::new(suite, key)?))
    }

    /// An AEAD service for messages under `key`, with nonces and tags of other lengths than storage uses: see [`MessageService`].
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::NotApproved`] if the profile does not list the cipher or tags of this length; [`Error::KeyLength`],
    /// [`Error::NonceLength`], [`Error::TagLength`].
    pub fn messages(
        &'static self,
        suite: Suite,
        key: &[u8],
        nonce_len: usize,
        tag_len: usize,
    ) -> Result<MessageService, Error> {
        self.permit()?;
        self.list(self.profile.lists(suite.algorithm()) && self.profile.takes_tag(tag_len))?;
        MessageService::new(self, suite, key, nonce_len, tag_len)
    }

    /// The CMAC of `message`.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`], [`Error::KeyLength`].
    pub fn cmac(&self, algorithm: Algorithm, key: &[u8], message: &[u8]) -> Result<Block, Error> {
        self.permit()?;
        self.list(self.profile.lists(algorithm))?;
        Ok(cmac::cmac(&BlockCipher::new(algorithm, key)?, message))
    }

    /// Compares the CMAC of `message` with `tag`, which is all of it or its first bytes, 8 at least; see [`cmac::verify`].
    ///
    /// # Errors
    /// As [`Module::cmac`]; [`Error::TagLength`], [`Error::TagMismatch`].
    pub fn verify_cmac(&self, algorithm: Algorithm, key: &[u8], message: &[u8], tag: &[u8]) -> Result<(), Error> {
        self.permit()?;
        self.list(self.profile.lists(algorithm))?;
        cmac::verify(&BlockCipher::new(algorithm, key)?, message, tag)
    }

    /// The HMAC-SHA-256 of `message`.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] for a key that is too short for the profile.
    pub fn hmac(&self, key: &[u8], message: &[u8]) -> Result<hash::Digest32, Error> {
        self.permit()?;
        self.list(self.profile.takes_mac_key(key.len()))?;
        Ok(HmacSha256::mac(key, message))
    }

    /// The HMAC-SHA-512 of `message`.
    ///
    /// # Errors
    /// As [`Module::hmac`].
    pub fn hmac_sha512(&self, key: &[u8], message: &[u8]) -> Result<hash::Digest64, Error> {
        self.permit()?;
        self.list(self.profile.takes_mac_key(key.len()))?;
        Ok(hash::hmac_sha512(key, message))
    }

    /// The SHA-256 digest of `message`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn sha256(&self, message: &[u8]) -> Result<hash::Digest32, Error> {
        self.permit()?;
        Ok(hash::sha256(message))
    }

    /// The SHA-512 digest of `message`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn sha512(&self, message: &[u8]) -> Result<hash::Digest64, Error> {
        self.permit()?;
        Ok(hash::sha512(message))
    }

    /// Derives key material; see [`hash::kbkdf`].
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] as in [`Module::hmac`], [`Error::InputLength`].
    pub fn kbkdf(&self, key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.permit()?;
        self.list(self.profile.takes_mac_key(key.len()))?;
        hash::kbkdf(key, label, context, out)
    }

    /// Derives key material from a password; see [`hash::pbkdf2`]. The profile asks for 1,000 iterations, a salt of 16 bytes and an output of
    /// 112 bits (SP 800-132 section 5).
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] for fewer, [`Error::InputLength`].
    pub fn pbkdf2(&self, password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) -> Result<(), Error> {
        self.permit()?;
        self.list(self.profile.is_open() || iterations >= 1000 && salt.len() >= 16 && out.len() >= MIN_STRENGTH)?;
        hash::pbkdf2(password, salt, iterations, out)
    }

    /// An HMAC-SHA-256 key in service, for many MACs.
    ///
    /// # Errors
    /// As [`Module::hmac`].
    pub fn mac_key(&'static self, key: &[u8]) -> Result<MacKey, Error> {
        self.permit()?;
        self.list(self.profile.takes_mac_key(key.len()))?;
        Ok(MacKey::new(self, key))
    }

    /// A key that wraps keys with ARIA-256-CCM.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::KeyLength`] unless `key` has 32 bytes.
    pub fn wrapping_key(&'static self, key: &[u8]) -> Result<WrapService, Error> {
        self.permit()?;
        WrapService::new(self, key)
    }

    /// Wraps a key; see [`kw::wrap`].
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] outside the open profile, lengths.
    pub fn wrap(&self, algorithm: Algorithm, kek: &[u8], key: &[u8], wrapped: &mut [u8]) -> Result<(), Error> {
        self.permit()?;
        self.list(self.profile.is_open())?;
        kw::wrap(&BlockCipher::new(algorithm, kek)?, key, wrapped)
    }

    /// Unwraps a key; see [`kw::unwrap`].
    ///
    /// # Errors
    /// As [`Module::wrap`], and [`Error::TagMismatch`].
    pub fn unwrap(&self, algorithm: Algorithm, kek: &[u8], wrapped: &[u8], key: &mut [u8]) -> Result<(), Error> {
        self.permit()?;
        self.list(self.profile.is_open())?;
        kw::unwrap(&BlockCipher::new(algorithm, kek)?, wrapped, key)
    }

    /// An XTS key in service. `key` is the data key followed by the tweak key.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::NotApproved`] outside the open profile; [`Error::KeyLength`]; [`Error::EqualKeys`].
    pub fn xts(&'static self, algorithm: Algorithm, key: &[u8]) -> Result<XtsService, Error> {
        self.permit()?;
        self.list(self.profile.is_open())?;
        XtsService::new(self, algorithm, key)
    }

    /// A random bit generator over `source`, which has `entropy_bits` of min-entropy in each byte.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::EntropySource`] if the source fails its start-up test, and then the module is in the simple error
    /// state.
    pub fn random<S: EntropySource>(&'static self, source: S, entropy_bits: u8) -> Result<Random<S>, Error> {
        self.permit()?;
        Random::new(self, source, entropy_bits)
    }

    /// A random bit generator over a seed that was made outside of the module and is loaded once; its entropy is the caller's claim.
    /// `purpose` tells generators with one seed apart.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::InputLength`] for fewer than 32 bytes of entropy, 16 of nonce, or more than 2^16 of either.
    pub fn random_from_seed(
        &'static self,
        entropy: &[u8],
        nonce: &[u8],
        purpose: &[u8],
    ) -> Result<SeededRandom, Error> {
        self.permit()?;
        SeededRandom::new(self, entropy, nonce, purpose)
    }

    /// Refuses unless services may run.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn permit(&self) -> Result<(), Error> {
        let state = self.state.load(Ordering::Acquire);
        if state == State::Approved as u8 { Ok(()) } else { Err(Error::State(State::from_number(state))) }
    }

    fn list(&self, listed: bool) -> Result<(), Error> {
        if listed { Ok(()) } else { Err(Error::NotApproved) }
    }

    /// Takes a transition of the model; two at once are taken one after the other.
    fn step(&self, event: Event) -> Result<(), Error> {
        let next = |number| State::from_number(number).next(event).map(|state| state as u8);
        let taken = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.map(|_| ()).map_err(|number| Error::State(State::from_number(number)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;

    use super::*;
    use crate::host;
    use crate::selftest::integrity_mac;

    /// Puts a module into every state that serves nothing.
    fn unserving() -> [(&'static Module, State); 4] {
        let untested: &Module = Box::leak(Box::new(Module::power_on(Profile::Open)));
        let failed: &Module = Box::leak(Box::new(Module::power_on(Profile::Open)));
        let falsified =
            failed.self_test_falsified(&Image { pieces: &[], mac: &integrity_mac(&[]) }, Some(Test::KeyWrap));
        assert_eq!(falsified, Err(Error::SelfTest(Test::KeyWrap)));
        let alarmed = host::fresh(Profile::Open);
        alarmed.conditional_failed().unwrap();
        let zeroised = host::fresh(Profile::Open);
        zeroised.zeroise().unwrap();
        [
            (untested, State::PowerOn),
            (failed, State::CriticalError),
            (alarmed, State::SimpleError),
            (zeroised, State::Zeroised),
        ]
    }

    #[test]
    fn no_service_runs_outside_the_approved_state() {
        for (module, state) in unserving() {
            assert_eq!(module.status().state, state);
            let refused = Error::State(state);
            let mut out = [9; 32];
            assert_eq!(module.aead(Suite::Aria256Gcm, &[0; 32]).unwrap_err(), refused);
            assert_eq!(module.cmac(Algorithm::Aria128, &[0; 16], b""), Err(refused));
            assert_eq!(module.verify_cmac(Algorithm::Aria128, &[0; 16], b"", &[0; 16]), Err(refused));
            assert_eq!(module.messages(Suite::Aria256Ccm, &[0; 32], 13, 8).unwrap_err(), refused);
            assert_eq!(module.hmac(b"", b""), Err(refused));
            assert_eq!(module.hmac_sha512(b"", b""), Err(refused));
            assert_eq!(module.sha256(b""), Err(refused));
            assert_eq!(module.sha512(b""), Err(refused));
            assert_eq!(module.kbkdf(b"", b"", b"", &mut out), Err(refused));
            assert_eq!(module.pbkdf2(b"", b"", 1, &mut out), Err(refused));
            assert_eq!(module.wrap(Algorithm::Aria128, &[0; 16], &[0; 16], &mut out[..24]), Err(refused));
            assert_eq!(module.unwrap(Algorithm::Aria128, &[0; 16], &[0; 24], &mut out[..16]), Err(refused));
            assert_eq!(module.mac_key(b"").unwrap_err(), refused);
            assert_eq!(module.wrapping_key(&[0; 32]).unwrap_err(), refused);
            assert_eq!(module.xts(Algorithm::Aria128, &[0; 32]).unwrap_err(), refused);
            assert_eq!(module.random(Counting(0), 8).unwrap_err(), refused);
            assert_eq!(module.random_from_seed(&[0; 32], &[0; 16], b"").unwrap_err(), refused);
            assert_eq!(out, [9; 32]);
        }
    }

    #[test]
    fn a_module_in_error_seals_nothing() {
        let module = host::fresh(Profile::Kcmvp);
        let service = module.aead(Suite::Aria256Gcm, &[7; 32]).unwrap();
        let mut data = [1; 16];
        let tag = service.seal_in_place(&[0; 12], b"", &mut data).unwrap();
        let mut random = module.random(Counting(0), 8).unwrap();
        let mut seeded = module.random_from_seed(&[1; 32], &[2; 16], b"tests").unwrap();
        module.conditional_failed().unwrap();
        let before = data;
        let refused = Error::State(State::SimpleError);
        assert_eq!(service.open_in_place(&[0; 12], b"", &mut data, &tag), Err(refused));
        assert_eq!(service.seal_in_place(&[1; 12], b"", &mut data), Err(refused));
        assert_eq!(data, before);
        let (mut out, mut other) = ([9; 16], [9; 16]);
        assert_eq!((random.fill(&mut out), seeded.fill(&mut other)), (Err(refused), Err(refused)));
        assert_eq!((out, other), ([0; 16], [0; 16]));
        module.self_test(&Image { pieces: &[], mac: &integrity_mac(&[]) }).unwrap();
        assert_eq!(service.open_in_place(&[0; 12], b"", &mut data, &tag), Ok(()));
        assert_eq!(data, [1; 16]);
    }

    #[test]
    fn a_seed_that_is_too_short_gives_no_generator() {
        let module = host::module();
        assert_eq!(module.random_from_seed(&[1; 31], &[2; 16], b"").unwrap_err(), Error::InputLength);
        assert_eq!(module.random_from_seed(&[1; 32], &[2; 15], b"").unwrap_err(), Error::InputLength);
        let mut out = [0; 32];
        module.random_from_seed(&[1; 32], &[2; 16], b"").unwrap().fill(&mut out).unwrap();
        assert_ne!(out, [0; 32]);
    }

    #[test]
    fn a_critical_error_is_left_only_by_zeroisation() {
        let [_, (module, _), ..] = unserving();
        let again = module.self_test(&Image { pieces: &[], mac: &integrity_mac(&[]) });
        assert_eq!(again, Err(Error::State(State::CriticalError)));
        assert_eq!(module.zeroise(), Ok(()));
        assert_eq!(module.zeroise(), Err(Error::State(State::Zeroised)));
    }

    #[test]
    fn the_profile_refuses_what_is_not_listed() {
        let module = host::fresh(Profile::Kcmvp);
        for suite in Suite::ALL {
            let aead = module.aead(suite, &[0; 32][..suite.key_len()]);
            assert_eq!(aead.err(), suite.name().starts_with("AES").then_some(Error::NotApproved));
        }
        let mut out = [0; 32];
        assert_eq!(module.cmac(Algorithm::Aes128, &[0; 16], b""), Err(Error::NotApproved));
        assert_eq!(module.verify_cmac(Algorithm::Aes128, &[0; 16], b"", &[0; 16]), Err(Error::NotApproved));
        assert_eq!(module.wrap(Algorithm::Aria128, &[0; 16], &[0; 16], &mut out[..24]), Err(Error::NotApproved));
        assert_eq!(module.unwrap(Algorithm::Aria128, &[0; 16], &[0; 24], &mut out[..16]), Err(Error::NotApproved));
        assert_eq!(module.xts(Algorithm::Aria128, &[0; 32]).unwrap_err(), Error::NotApproved);
        assert_eq!(module.pbkdf2(b"pin", &[0; 16], 999, &mut out), Err(Error::NotApproved));
        assert_eq!(module.pbkdf2(b"pin", &[0; 15], 1000, &mut out), Err(Error::NotApproved));
        assert_eq!(module.pbkdf2(b"pin", &[0; 16], 1000, &mut out), Ok(()));
    }

    #[test]
    fn the_profile_refuses_short_mac_keys_and_short_derived_ones() {
        let (module, open) = (host::fresh(Profile::Kcmvp), host::module());
        let (mut out, refused) = ([0; 32], Error::NotApproved);
        for len in 0..=20 {
            let (key, verdict) = (&[7; 20][..len], (len < 14).then_some(refused));
            assert_eq!(module.hmac(key, b"").err(), verdict);
            assert_eq!(module.hmac_sha512(key, b"").err(), verdict);
            assert_eq!(module.mac_key(key).err(), verdict);
            assert_eq!(module.kbkdf(key, b"", b"", &mut out).err(), verdict);
            assert_eq!(open.hmac(key, b"").and(open.hmac_sha512(key, b"")).err(), None);
            assert_eq!(open.mac_key(key).err(), None);
            assert_eq!(open.kbkdf(key, b"", b"", &mut out), Ok(()));
        }
        assert_eq!(module.pbkdf2(b"pin", &[0; 16], 1000, &mut out[..13]), Err(refused));
        assert_eq!(module.pbkdf2(b"pin", &[0; 16], 1000, &mut out[..14]), Ok(()));
    }

    #[test]
    fn a_profile_has_the_name_by_which_it_is_found() {
        for name in ["", "Open", "fips", "kcmvp "] {
            assert_eq!(Profile::named(name), None);
        }
        assert_eq!([Profile::named("open"), Profile::named("kcmvp")], [Some(Profile::Open), Some(Profile::Kcmvp)]);
    }

    #[test]
    fn the_profile_refuses_short_tags() {
        for suite in [Suite::Aria256Gcm, Suite::Seed128Ccm] {
            let key = &[0; 32][..suite.key_len()];
            let refused = |profile, len| host::fresh(profile).messages(suite, key, 12, len).err();
            for len in 0..=20 {
                let listed = len == 14 || len == 16;
                assert_eq!(refused(Profile::Kcmvp, len), (!listed).then_some(Error::NotApproved));
            }
            let short = if suite == Suite::Aria256Gcm { 11 } else { 3 };
            assert_eq!(refused(Profile::Open, short), Some(Error::TagLength));
            assert_eq!(refused(Profile::Open, 12), None);
        }
    }

    /// A source whose bytes never repeat closely.
    struct Counting(u32);

    impl EntropySource for Counting {
        fn fill(&mut self, raw: &mut [u8]) -> Result<(), Error> {
            for byte in raw {
                self.0 = self.0.wrapping_add(1);
                *byte = (self.0.wrapping_mul(0x9e37_79b9) >> 24) as u8;
            }
            Ok(())
        }
    }

    /// A source that sticks after a number of bytes.
    struct Sticking(u32, u32);

    impl EntropySource for Sticking {
        fn fill(&mut self, raw: &mut [u8]) -> Result<(), Error> {
            Counting(self.0).fill(raw)?;
            self.0 += raw.len() as u32;
            if self.0 > self.1 {
                raw.fill(0x55);
            }
            Ok(())
        }
    }

    #[test]
    fn a_source_that_is_stuck_at_the_start_gives_no_generator() {
        let module = host::fresh(Profile::Kcmvp);
        assert_eq!(module.random(Sticking(0, 0), 8).unwrap_err(), Error::EntropySource);
        assert_eq!(module.state(), State::SimpleError);
    }

    #[test]
    fn a_source_that_sticks_later_stops_the_generator_at_its_reseed() {
        let module = host::fresh(Profile::Kcmvp);
        let mut random = module.random(Sticking(0, random::START_UP_SAMPLES as u32 + 48), 8).unwrap();
        let mut out = [0; 16];
        for _ in 0..random::RESEED_AFTER {
            assert_eq!(random.fill(&mut out), Ok(()));
        }
        assert_eq!(random.fill(&mut out), Err(Error::EntropySource));
        assert_eq!(out, [0; 16]);
        assert_eq!(module.state(), State::SimpleError);
    }

    #[test]
    fn every_assessed_entropy_gives_a_generator() {
        for bits in 1..=8 {
            let module = host::fresh(Profile::Kcmvp);
            let mut out = [0; 64];
            module.random(Counting(0), bits).unwrap().fill(&mut out).unwrap();
            assert_ne!(out, [0; 64]);
        }
    }
}
