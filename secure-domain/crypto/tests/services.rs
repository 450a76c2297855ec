//! The services of the module under foreign input: published AEAD records in both profiles, and every wrong length, tag, key and batch. Each gets
//! the error that names its cause, and no plaintext.
mod common;

use common::{Record, algorithm, records};
use crypto::module::{EntropySource, Module, Profile};
use crypto::selftest::{Image, integrity_mac};
use crypto::{Algorithm, Error, Mode, SECTOR_LEN, Suite};

fn module(profile: Profile) -> &'static Module {
    let module = Box::leak(Box::new(Module::power_on(profile)));
    module.self_test(&Image { pieces: &[], mac: &integrity_mac(&[]) }).unwrap();
    module
}

/// The suite of a record; there is none for AES-192.
fn suite(record: &Record, mode: Mode) -> Option<Suite> {
    let algorithm = algorithm(&record.section, record.hex("key").len())?;
    Suite::ALL.into_iter().find(|suite| suite.algorithm() == algorithm && suite.mode() == mode)
}

/// What the module must say to a record.
fn verdict(record: &Record, suite: Suite, profile: Profile) -> Result<(), Error> {
    let (nonce, tag) = (record.hex("nonce").len(), record.hex("tag").len());
    let (nonces, tags) = match suite.mode() {
        Mode::Ccm => (7..=13, [4, 6, 8, 10, 12, 14, 16].contains(&tag)),
        Mode::Gcm => (1..=usize::MAX, (12..=16).contains(&tag)),
    };
    let listed = !suite.name().starts_with("AES") && (tag == 14 || tag == 16);
    if profile == Profile::Kcmvp && !listed {
        Err(Error::NotApproved)
    } else if !nonces.contains(&nonce) {
        Err(Error::NonceLength)
    } else if !tags {
        Err(Error::TagLength)
    } else if !record.is_valid() {
        Err(Error::TagMismatch)
    } else {
        Ok(())
    }
}

/// Opens a record, and seals it again when that went well.
fn serve(module: &'static Module, suite: Suite, record: &Record) -> Result<(), Error> {
    let (nonce, aad, tag) = (record.hex("nonce"), record.hex("aad"), record.hex("tag"));
    let service = module.messages(suite, &record.hex("key"), nonce.len(), tag.len())?;
    let mut data = record.hex("ct");
    let opened = service.open(&nonce, &aad, &mut data, &tag);
    if opened.is_err() {
        assert!(data.iter().all(|byte| *byte == 0), "{record:?}");
        return opened;
    }
    assert_eq!(data, record.hex("pt"), "{record:?}");
    let mut new_tag = vec![0; tag.len()];
    service.seal(&nonce, &aad, &mut data, &mut new_tag)?;
    assert_eq!((data, new_tag), (record.hex("ct"), tag), "{record:?}");
    Ok(())
}

#[test]
fn published_records_get_the_verdict_of_the_profile() {
    for (profile, counts) in [(Profile::Open, (1264, 468)), (Profile::Kcmvp, (679, 1053))] {
        let module = module(profile);
        let (mut served, mut refused) = (0, 0);
        for family in ["aria", "seed", "aes"] {
            for (mode, name) in [(Mode::Gcm, "gcm"), (Mode::Ccm, "ccm")] {
                for record in records(&format!("{family}-{name}-wycheproof.txt")) {
                    let Some(suite) = suite(&record, mode) else { continue };
                    let verdict = verdict(&record, suite, profile);
                    assert_eq!(serve(module, suite, &record), verdict, "{record:?} {profile}");
                    if verdict.is_ok() { served += 1 } else { refused += 1 }
                }
            }
        }
        assert_eq!((served, refused), counts, "{profile}");
    }
}

#[test]
fn a_key_of_another_length_is_refused_by_every_service() {
    let module = module(Profile::Open);
    let (key, refused) = ([7; 65], Error::KeyLength);
    for suite in Suite::ALL {
        for len in (0..=33).filter(|len| *len != suite.key_len()) {
            assert_eq!(module.aead(suite, &key[..len]).unwrap_err(), refused);
            assert_eq!(module.messages(suite, &key[..len], 12, 16).unwrap_err(), refused);
        }
    }
    for algorithm in Algorithm::ALL {
        for len in (0..=33).filter(|len| *len != algorithm.key_len()) {
            let mut out = [9; 24];
            assert_eq!(module.cmac(algorithm, &key[..len], b""), Err(refused));
            assert_eq!(module.verify_cmac(algorithm, &key[..len], b"", &[0; 16]), Err(refused));
            assert_eq!(module.wrap(algorithm, &key[..len], &[1; 16], &mut out), Err(refused));
            assert_eq!(module.unwrap(algorithm, &key[..len], &[1; 24], &mut out[..16]), Err(refused));
            assert_eq!(out, [9; 24]);
        }
        for len in (0..=65).filter(|len| *len != 2 * algorithm.key_len()) {
            assert_eq!(module.xts(algorithm, &key[..len]).unwrap_err(), refused);
        }
        assert_eq!(module.xts(algorithm, &key[..2 * algorithm.key_len()]).unwrap_err(), Error::EqualKeys);
    }
    for len in (0..=65).filter(|len| *len != 32) {
        assert_eq!(module.wrapping_key(&key[..len]).unwrap_err(), refused);
    }
}

#[test]
fn a_nonce_or_tag_that_the_mode_has_not_gives_no_service() {
    let module = module(Profile::Open);
    let messages = |suite: Suite, nonce, tag| module.messages(suite, &[1; 32][..suite.key_len()], nonce, tag).err();
    for suite in Suite::ALL {
        for nonce in 0..=20 {
            let has = if suite.mode() == Mode::Ccm { (7..=13).contains(&nonce) } else { nonce > 0 };
            assert_eq!(messages(suite, nonce, 16), (!has).then_some(Error::NonceLength), "{suite:?} {nonce}");
        }
        for tag in 0..=20 {
            let has = if suite.mode() == Mode::Ccm { tag >= 4 && tag % 2 == 0 } else { tag >= 12 } && tag <= 16;
            assert_eq!(messages(suite, 12, tag), (!has).then_some(Error::TagLength), "{suite:?} {tag}");
        }
    }
}

#[test]
fn a_message_longer_than_the_mode_allows_is_refused_and_untouched() {
    let module = module(Profile::Kcmvp);
    // CCM's length field has 15 bytes less the nonce (SP 800-38C section A.1).
    let service = module.messages(Suite::Aria128Ccm, &[1; 16], 13, 16).unwrap();
    let mut data = vec![5; 1 << 16];
    assert_eq!(service.seal(&[0; 13], b"", &mut data, &mut [0; 16]), Err(Error::InputLength));
    assert_eq!(service.open(&[0; 13], b"", &mut data, &[0; 16]), Err(Error::InputLength));
    assert!(data.iter().all(|byte| *byte == 5));
    assert_eq!(service.seal(&[0; 13], b"", &mut data[1..], &mut [0; 16]), Ok(()));
    let service = module.aead(Suite::Seed128Ccm, &[1; 16]).unwrap();
    let mut data = vec![5; 1 << 24];
    assert_eq!(service.seal_in_place(&[0; 12], b"", &mut data), Err(Error::InputLength));
    assert_eq!(service.open_in_place(&[0; 12], b"", &mut data, &[0; 16]), Err(Error::InputLength));
    assert!(data.iter().all(|byte| *byte == 5));
}

#[test]
fn a_batch_with_any_part_missing_is_refused_and_writes_nothing() {
    let module = module(Profile::Kcmvp);
    for suite in [Suite::Aria256Gcm, Suite::Aria256Ccm] {
        let service = module.aead(suite, &[1; 32]).unwrap();
        let (nonces, aads, tags) = ([[2; 12]; 3], [[3; 24]; 3], [[4; 16]; 3]);
        let source = vec![[5; SECTOR_LEN]; 3];
        for missing in 0..6 {
            let count = |part| if part == missing { 2 } else { 3 };
            let (nonces, aads, source) = (&nonces[..count(0)], &aads[..count(1)], &source[..count(2)]);
            let mut target = vec![[9; SECTOR_LEN]; count(3)];
            let (mut new_tags, mut results) = (vec![[9; 16]; count(4)], vec![Ok(()); count(5)]);
            let opened = service.open_batch(nonces, aads, source, &mut target, &tags[..count(4)], &mut results);
            assert_eq!(opened, Err(Error::BatchShape), "{suite:?} {missing}");
            assert!(results.iter().all(Result::is_ok));
            if missing < 5 {
                let sealed = service.seal_batch(nonces, aads, source, &mut target, &mut new_tags);
                assert_eq!(sealed, Err(Error::BatchShape), "{suite:?} {missing}");
            }
            assert!(target.iter().all(|sector| *sector == [9; SECTOR_LEN]));
            assert!(new_tags.iter().all(|tag| *tag == [9; 16]));
        }
    }
}

#[test]
fn a_cmac_of_another_length_or_message_is_refused() {
    let module = module(Profile::Kcmvp);
    for algorithm in [Algorithm::Aria192, Algorithm::Seed128] {
        let key = &[1; 32][..algorithm.key_len()];
        let verify = |message: &[u8], tag: &[u8]| module.verify_cmac(algorithm, key, message, tag);
        let mac = module.cmac(algorithm, key, b"message").unwrap();
        let long = [&mac[..], &[0]].concat();
        for len in (0..8).chain([17]) {
            assert_eq!(verify(b"message", &long[..len]), Err(Error::TagLength));
        }
        for len in 8..=16 {
            assert_eq!(verify(b"massage", &mac[..len]), Err(Error::TagMismatch));
            assert_eq!(verify(b"message", &mac[..len]), Ok(()));
        }
    }
}

#[test]
fn a_wrapped_key_of_another_length_or_content_is_refused_and_leaves_no_key() {
    let module = module(Profile::Open);
    let wrap = |key: &[u8], out: &mut [u8]| module.wrap(Algorithm::Aria256, &[1; 32], key, out);
    let unwrap = |wrapped: &[u8], out: &mut [u8]| module.unwrap(Algorithm::Aria256, &[1; 32], wrapped, out);
    let mut out = [9; 48];
    for len in [0, 8, 15, 17, 23] {
        assert_eq!(wrap(&[2; 40][..len], &mut out[..len + 8]), Err(Error::InputLength));
        assert_eq!(unwrap(&[2; 40][..len + 8], &mut out[..len]), Err(Error::InputLength));
    }
    for len in [0, 16, 39, 41, 48] {
        assert_eq!(wrap(&[2; 32], &mut out[..len]), Err(Error::OutputLength));
        assert_eq!(unwrap(&[2; 48][..len], &mut out[..32]), Err(Error::OutputLength));
    }
    assert_eq!(out, [9; 48]);
    let mut wrapped = [0; 40];
    wrap(&[2; 32], &mut wrapped).unwrap();
    for byte in 0..40 {
        let (mut changed, mut key) = (wrapped, [9; 32]);
        changed[byte] ^= 1 << (byte % 8);
        assert_eq!((unwrap(&changed, &mut key), key), (Err(Error::TagMismatch), [0; 32]));
    }
    assert_eq!((unwrap(&wrapped, &mut out[..32]), &out[..32]), (Ok(()), &[2; 32][..]));
    let service = module.wrapping_key(&[1; 32]).unwrap();
    for len in [0, 15, 65] {
        let mut key = vec![9; len];
        assert_eq!(service.wrap(&[0; 12], b"", &mut key), Err(Error::InputLength));
        assert_eq!(service.unwrap(&[0; 12], b"", &mut key, &[0; 16]), Err(Error::InputLength));
        assert!(key.iter().all(|byte| *byte == 9));
    }
}

#[test]
fn an_xts_unit_that_is_too_short_or_too_long_is_refused_and_untouched() {
    let key: [u8; 32] = std::array::from_fn(|i| i as u8);
    let service = module(Profile::Open).xts(Algorithm::Seed128, &key).unwrap();
    for len in [0, 1, 15, (1 << 24) + 1] {
        let mut unit = vec![5; len];
        assert_eq!(service.encrypt([0; 16], &mut unit), Err(Error::InputLength));
        assert_eq!(service.decrypt([0; 16], &mut unit), Err(Error::InputLength));
        assert!(unit.iter().all(|byte| *byte == 5));
    }
}

#[test]
fn a_derivation_of_nothing_or_of_too_much_is_refused() {
    let module = module(Profile::Kcmvp);
    assert_eq!(module.kbkdf(&[7; 32], b"label", b"", &mut []), Err(Error::InputLength));
    // From 2^32 bits on the length no longer fits its field. The memory is never touched.
    assert_eq!(module.kbkdf(&[7; 32], b"label", b"", &mut vec![0; 1 << 29]), Err(Error::InputLength));
    assert_eq!(self::module(Profile::Open).pbkdf2(b"pin", &[0; 16], 1000, &mut []), Err(Error::InputLength));
    let mut out = [9; 32];
    assert_eq!(self::module(Profile::Open).pbkdf2(b"pin", &[0; 16], 0, &mut out), Err(Error::InputLength));
    assert_eq!(out, [9; 32]);
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

/// A source that has nothing.
struct Dry;

impl EntropySource for Dry {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::EntropySource)
    }
}

#[test]
fn a_generator_refuses_what_its_standard_does_not_allow() {
    let module = module(Profile::Kcmvp);
    for bits in [0, 9, 255] {
        assert_eq!(module.random(Counting(0), bits).unwrap_err(), Error::InputLength);
    }
    let seeded = |entropy: usize, nonce: usize, purpose: usize| {
        module.random_from_seed(&vec![1; entropy], &vec![2; nonce], &vec![3; purpose]).err()
    };
    let most = 1 << 16;
    for (entropy, nonce, purpose) in
        [(31, 16, 0), (32, 15, 0), (most + 1, 16, 0), (32, most + 1, 0), (32, 16, most + 1)]
    {
        assert_eq!(seeded(entropy, nonce, purpose), Some(Error::InputLength));
    }
    assert_eq!(seeded(most, most, most), None);
    let mut random = module.random(Counting(0), 8).unwrap();
    let mut loaded = module.random_from_seed(&[1; 32], &[2; 16], b"").unwrap();
    let mut out = vec![9; most + 1];
    assert_eq!(random.fill(&mut out), Err(Error::InputLength));
    assert!(out.iter().all(|byte| *byte == 0));
    out.fill(9);
    assert_eq!(loaded.fill(&mut out), Err(Error::InputLength));
    assert!(out.iter().all(|byte| *byte == 0));
    assert_eq!((random.fill(&mut out[1..]), loaded.fill(&mut out[1..])), (Ok(()), Ok(())));
    assert_eq!(module.random(Dry, 8).unwrap_err(), Error::EntropySource);
    assert_eq!(module.sha256(b""), Err(Error::State(module.state())));
}
